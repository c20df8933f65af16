/* SPDX-License-Identifier: Apache-2.0 */
#include "op/ops.h"
#include "op/range.h"

enum { IDS, TABLE };

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *ids = &rule->inputs[IDS], *table = &rule->inputs[TABLE];
    char one[80], other[80];
    if (ids->rank != 2 || table->rank != 2)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "ids %s, table %s; expected [n, t] and [v, d]", sora_shape_text(ids, one),
                         sora_shape_text(table, other));
    rule->output_count = 1;
    rule->outputs[0] = SORA_SHAPE(ids->dim[0], ids->dim[1], table->dim[1]);
    return SORA_OK;
}

/* Columns of one work-item on the way back: a vector's worth where there are vectors. */
#define CPU_COLUMNS 16

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    const sora_view *ids = &run->inputs[IDS], *table = &run->inputs[TABLE];
    sora_launch_desc desc = { .file = "range",
                              .kernel = "embedding_forward",
                              .options = sora_range_options(run->context),
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(ids), SORA_VIEW(table), SORA_VIEW(&run->outputs[0]),
                                                          SORA_INT(table->shape.dim[0]), SORA_LONG(table->shape.dim[1]),
                                                          SORA_INT(table->dtype == SORA_F16)) };
    desc.global[0] = sora_is_cpu(run->context) ? 1 : (size_t)table->shape.dim[1];
    desc.global[1] = (size_t)sora_view_elements(ids);
    return sora_launch(run->context, &desc, error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    const sora_view *ids = &run->inputs[IDS], *gradient = &run->input_gradients[TABLE];
    int64_t width = gradient->shape.dim[1], columns = sora_is_cpu(run->context) ? CPU_COLUMNS : 1;
    return sora_launch(
        run->context,
        &(sora_launch_desc) { .file = "range",
                              .kernel = "embedding_backward",
                              .options = sora_range_options(run->context),
                              .global = { (size_t)((width + columns - 1) / columns) },
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(ids), SORA_VIEW(&run->output_gradients[0]),
                                                          SORA_VIEW(gradient), SORA_INT(gradient->shape.dim[0]), SORA_LONG(width),
                                                          SORA_INT(sora_view_elements(ids)), SORA_INT(columns)) },
        error);
}

const sora_op sora_op_embedding = { .name = "embedding",
                                    .parameters = 1 << TABLE,
                                    .differentiable = 1 << TABLE,
                                    .uses_inputs = 1 << IDS,
                                    .dense = ~0u,
                                    .infer = infer,
                                    .forward = forward,
                                    .backward = backward };
