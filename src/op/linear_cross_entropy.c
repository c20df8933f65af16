/* SPDX-License-Identifier: Apache-2.0 */
#include "op/conv.h"
#include "op/gemm.h"
#include "op/ops.h"
#include "op/range.h"

#include <stdio.h>

enum { X, WEIGHT, LABELS };

/* Saved: of each row the logarithm of Σ e^logit, or where forward makes the gradient Σ e^(logit − largest) itself; how many rows
 * count; for that gradient Σ e^(logit − largest) W. */
enum { SUMS, COUNT, PRODUCT };

/* Columns whose logits are there at a time: enough for the product, little beside the activations. */
#define CHUNK 2048

static const sora_linear_cross_entropy_attributes *attributes_of(const void *attributes)
{
    return attributes;
}

static int64_t rows_of(const sora_shape *labels)
{
    return sora_shape_elements(labels);
}

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *x = &rule->inputs[X], *w = &rule->inputs[WEIGHT], *labels = &rule->inputs[LABELS];
    const sora_linear_cross_entropy_attributes *a = attributes_of(rule->attributes);
    char one[80], two[80], three[80];
    if (x->rank != 3 || w->rank != 2 || labels->rank != 2 || x->dim[2] != w->dim[1] || x->dim[0] != labels->dim[0] ||
        x->dim[1] != labels->dim[1])
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s, weight %s, labels %s; expected [n, t, d], [v, d] and [n, t]",
                         sora_shape_text(x, one), sora_shape_text(w, two), sora_shape_text(labels, three));
    if (!(a->smoothing >= 0.0f && a->smoothing < 1.0f))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "label smoothing %g; expected 0 to below 1", (double)a->smoothing);
    int64_t m = rows_of(labels), n = SORA_MIN(w->dim[0], CHUNK), d = w->dim[1];
    const sora_device_limits *l = rule->limits;
    rule->output_count = 1;
    rule->outputs[0] = SORA_SHAPE(1);
    if (rule->training) {
        rule->saved[SUMS] = SORA_SHAPE(m);
        rule->saved[COUNT] = SORA_SHAPE(1);
    }
    /* Where x alone wants a gradient forward makes it, from logits that are there: backward would have to make them again. */
    bool early = rule->training && rule->wanted == 1u << X && a->smoothing == 0.0f;
    if (early) rule->saved[PRODUCT] = SORA_SHAPE(m, d);
    uint64_t logits = (uint64_t)(m * n), product = sora_gemm_workspace(l, n, d);
    uint64_t input = sora_gemm_workspace(l, d, n), weight = sora_gemm_workspace(l, d, m);
    rule->forward_workspace = logits + 4 * (uint64_t)m + (early ? SORA_MAX(product, input) : product);
    rule->backward_workspace = early ? 0 : logits + SORA_MAX(product, SORA_MAX(input, weight));
    return SORA_OK;
}

static sora_status launch_rows(const sora_op_run *run, const char *kernel, const sora_argument *arguments, sora_error *error)
{
    const sora_launch_desc desc = { .file = "range", .kernel = kernel, .label = run->name, .arguments = arguments };
    return sora_launch_groups(run->context, desc, rows_of(&run->inputs[LABELS].shape), error);
}

/* The weight's rows from `first` on. */
static sora_view rows_from(const sora_view *weight, int64_t first)
{
    sora_view part = *weight;
    part.offset += (uint64_t)(first * weight->shape.dim[1]);
    return part;
}

static sora_status chunk_logits(const sora_op_run *run, int64_t first, int64_t columns, const sora_view *logits,
                                const sora_view *workspace, sora_error *error)
{
    const sora_view *x = &run->inputs[X], *w = &run->inputs[WEIGHT];
    int64_t d = w->shape.dim[1];
    return sora_gemm(run->context,
                     &(sora_gemm_desc) { .m = rows_of(&run->inputs[LABELS].shape),
                                         .n = columns,
                                         .k = d,
                                         .a = { *x, d, false },
                                         .b = { rows_from(w, first), d, true },
                                         .alpha = attributes_of(run->attributes)->scale,
                                         .c = *logits,
                                         .c_leading = columns,
                                         .workspace = *workspace,
                                         .label = run->name },
                     error);
}

/* [m, d] of `to` (+)= a chunk of [m, columns] times the weight's rows. */
static sora_status back_through(const sora_op_run *run, int64_t first, int64_t columns, const sora_view *chunk, float alpha,
                                const sora_view *to, const sora_view *workspace, sora_error *error)
{
    const sora_view *w = &run->inputs[WEIGHT];
    int64_t d = w->shape.dim[1];
    return sora_gemm(run->context,
                     &(sora_gemm_desc) { .m = rows_of(&run->inputs[LABELS].shape),
                                         .n = d,
                                         .k = columns,
                                         .a = { *chunk, columns, false },
                                         .b = { rows_from(w, first), d, false },
                                         .alpha = alpha,
                                         .accumulate = first > 0,
                                         .c = *to,
                                         .c_leading = d,
                                         .workspace = *workspace,
                                         .label = run->name },
                     error);
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    const sora_linear_cross_entropy_attributes *a = attributes_of(run->attributes);
    const sora_view *labels = &run->inputs[LABELS], *product = &run->saved[PRODUCT];
    int64_t m = rows_of(&labels->shape), classes = run->inputs[WEIGHT].shape.dim[0], n = SORA_MIN(classes, CHUNK);
    int early = product->memory != NULL;
    sora_view state = run->workspace, logits = state, workspace;
    logits.offset += (uint64_t)(4 * m);
    workspace = logits;
    workspace.offset += (uint64_t)(m * n);
    sora_status status = SORA_OK;
    for (int64_t first = 0; first < classes; first += n) {
        int64_t columns = SORA_MIN(n, classes - first);
        SORA_TRY(chunk_logits(run, first, columns, &logits, &workspace, error));
        SORA_TRY(launch_rows(run, "cross_entropy_chunk",
                             SORA_ARGUMENTS(SORA_VIEW(&logits), SORA_VIEW(&state), SORA_VIEW(labels), SORA_VIEW(product),
                                            SORA_INT(first), SORA_INT(columns), SORA_INT(run->inputs[WEIGHT].shape.dim[1]),
                                            SORA_INT(early)),
                             error));
        if (early) SORA_TRY(back_through(run, first, columns, &logits, 1.0f, product, &workspace, error));
    }
    SORA_TRY(sora_launch(
        run->context,
        &(sora_launch_desc) { .file = "range",
                              .kernel = "cross_entropy_loss",
                              .options = sora_range_options(run->context),
                              .global = { 1 },
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(&state), SORA_VIEW(labels), SORA_VIEW(&run->outputs[0]),
                                                          SORA_VIEW(&run->saved[SUMS]), SORA_VIEW(&run->saved[COUNT]),
                                                          SORA_INT(m), SORA_INT(classes), SORA_INT(a->ignored),
                                                          SORA_FLOAT(a->smoothing), SORA_INT(run->training), SORA_INT(early)) },
        error));
cleanup:
    return status;
}

static sora_status finish_early(const sora_op_run *run, sora_error *error)
{
    const sora_linear_cross_entropy_attributes *a = attributes_of(run->attributes);
    const sora_view *labels = &run->inputs[LABELS], *w = &run->inputs[WEIGHT];
    return launch_rows(run, "cross_entropy_input_gradient",
                       SORA_ARGUMENTS(SORA_VIEW(&run->saved[PRODUCT]), SORA_VIEW(w), SORA_VIEW(labels),
                                      SORA_VIEW(&run->saved[SUMS]), SORA_VIEW(&run->saved[COUNT]),
                                      SORA_VIEW(&run->output_gradients[0]), SORA_VIEW(&run->input_gradients[X]),
                                      SORA_INT(w->shape.dim[0]), SORA_INT(w->shape.dim[1]), SORA_INT(a->ignored),
                                      SORA_FLOAT(a->scale), SORA_INT(w->dtype == SORA_F16)),
                       error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    if (run->saved[PRODUCT].memory) return finish_early(run, error);
    const sora_linear_cross_entropy_attributes *a = attributes_of(run->attributes);
    const sora_view *labels = &run->inputs[LABELS], *w = &run->inputs[WEIGHT], *gradients = run->input_gradients;
    int64_t m = rows_of(&labels->shape), classes = w->shape.dim[0], n = SORA_MIN(classes, CHUNK), d = w->shape.dim[1];
    sora_view logits = run->workspace, workspace = logits;
    workspace.offset += (uint64_t)(m * n);
    sora_status status = SORA_OK;
    for (int64_t first = 0; first < classes; first += n) {
        int64_t columns = SORA_MIN(n, classes - first);
        SORA_TRY(chunk_logits(run, first, columns, &logits, &workspace, error));
        SORA_TRY(launch_rows(run, "cross_entropy_gradient",
                             SORA_ARGUMENTS(SORA_VIEW(&logits), SORA_VIEW(labels), SORA_VIEW(&run->saved[SUMS]),
                                            SORA_VIEW(&run->saved[COUNT]), SORA_VIEW(&run->output_gradients[0]), SORA_INT(first),
                                            SORA_INT(columns), SORA_INT(classes), SORA_INT(a->ignored), SORA_FLOAT(a->smoothing)),
                             error));
        if (gradients[X].memory) SORA_TRY(back_through(run, first, columns, &logits, a->scale, &gradients[X], &workspace, error));
        if (gradients[WEIGHT].memory)
            SORA_TRY(sora_gemm(run->context,
                               &(sora_gemm_desc) { .m = columns,
                                                   .n = d,
                                                   .k = m,
                                                   .a = { logits, columns, true },
                                                   .b = { run->inputs[X], d, false },
                                                   .alpha = a->scale,
                                                   .accumulate = true,
                                                   .c = rows_from(&gradients[WEIGHT], first),
                                                   .c_leading = d,
                                                   .workspace = workspace,
                                                   .label = run->name },
                               error));
    }
cleanup:
    return status;
}

const sora_op sora_op_linear_cross_entropy = { .name = "linear_cross_entropy",
                                               .parameters = 1 << WEIGHT,
                                               .differentiable = 1 << X | 1 << WEIGHT,
                                               .uses_inputs = 1 << X | 1 << WEIGHT | 1 << LABELS,
                                               .dense = ~0u,
                                               .infer = infer,
                                               .forward = forward,
                                               .backward = backward };
