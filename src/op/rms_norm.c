/* SPDX-License-Identifier: Apache-2.0 */
#include "op/ops.h"
#include "op/range.h"

enum { X, WEIGHT };

/* Partial sums of the weight's gradient. */
#define MOST_PARTS 64

static int64_t rows_of(const sora_shape *x)
{
    return sora_shape_elements(x) / x->dim[x->rank - 1];
}

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *x = &rule->inputs[X], *w = &rule->inputs[WEIGHT];
    char one[80], other[80];
    if (x->rank < 2 || w->rank != 1 || x->dim[x->rank - 1] != w->dim[0])
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s, weight %s; expected [..., d] and [d]", sora_shape_text(x, one),
                         sora_shape_text(w, other));
    rule->output_count = 1;
    rule->outputs[0] = *x;
    if (rule->training) rule->saved[0] = SORA_SHAPE(rows_of(x));
    rule->backward_workspace = (uint64_t)(SORA_MIN(rows_of(x), MOST_PARTS) * w->dim[0]);
    return SORA_OK;
}

static sora_status launch(const sora_op_run *run, const char *kernel, int64_t across, int64_t down,
                          const sora_argument *arguments, sora_error *error)
{
    return sora_launch(run->context,
                       &(sora_launch_desc) { .file = "range",
                                             .kernel = kernel,
                                             .options = sora_range_options(run->context),
                                             .global = { (size_t)across, (size_t)down },
                                             .label = run->name,
                                             .arguments = arguments },
                       error);
}

static sora_status launch_rows(const sora_op_run *run, const char *kernel, const sora_argument *arguments, sora_error *error)
{
    const sora_launch_desc desc = { .file = "range", .kernel = kernel, .label = run->name, .arguments = arguments };
    return sora_launch_groups(run->context, desc, rows_of(&run->inputs[X].shape), error);
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    const sora_view *x = &run->inputs[X];
    float epsilon = ((const sora_rms_norm_attributes *)run->attributes)->epsilon;
    return launch_rows(run, "rms_norm_forward",
                       SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(&run->inputs[WEIGHT]), SORA_VIEW(&run->outputs[0]),
                                      SORA_VIEW(&run->saved[0]), SORA_INT(run->inputs[WEIGHT].shape.dim[0]), SORA_FLOAT(epsilon),
                                      SORA_INT(run->saved[0].memory != NULL)),
                       error);
}

static sora_status weight_gradient(const sora_op_run *run, sora_error *error)
{
    const sora_view *x = &run->inputs[X], *gradient = &run->input_gradients[WEIGHT], *partial = &run->workspace;
    int64_t width = gradient->shape.dim[0], rows = rows_of(&x->shape), parts = SORA_MIN(rows, MOST_PARTS);
    int64_t columns = sora_is_cpu(run->context) ? 64 : 1;
    sora_status status =
        launch(run, "rms_norm_parts", (width + columns - 1) / columns, parts,
               SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(&run->output_gradients[0]), SORA_VIEW(&run->saved[0]), SORA_VIEW(partial),
                              SORA_INT(width), SORA_INT(rows), SORA_INT(parts), SORA_INT(columns)),
               error);
    if (status != SORA_OK) return status;
    return launch(run, "rms_norm_total", sora_is_cpu(run->context) ? 1 : width, 1,
                  SORA_ARGUMENTS(SORA_VIEW(partial), SORA_VIEW(gradient), SORA_LONG(width), SORA_INT(parts)), error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    const sora_view *x = &run->inputs[X], *dx = &run->input_gradients[X];
    sora_status status = run->input_gradients[WEIGHT].memory ? weight_gradient(run, error) : SORA_OK;
    if (status != SORA_OK || !dx->memory) return status;
    return launch_rows(run, "rms_norm_backward",
                       SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(&run->inputs[WEIGHT]), SORA_VIEW(&run->output_gradients[0]),
                                      SORA_VIEW(&run->saved[0]), SORA_VIEW(&run->besides), SORA_VIEW(dx),
                                      SORA_INT(run->inputs[WEIGHT].shape.dim[0]), SORA_INT(run->besides.memory != NULL)),
                       error);
}

const sora_op sora_op_rms_norm = { .name = "rms_norm",
                                   .parameters = 1 << WEIGHT,
                                   .differentiable = 1 << X | 1 << WEIGHT,
                                   .uses_inputs = 1 << X | 1 << WEIGHT,
                                   .gradient_in_place = true,
                                   .gradient_adds = true,
                                   .cheap = true,
                                   .dense = ~0u,
                                   .infer = infer,
                                   .forward = forward,
                                   .backward = backward };
