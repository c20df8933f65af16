/* SPDX-License-Identifier: Apache-2.0 */
#include "op/ops.h"
#include "op/range.h"

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_relative_bias_attributes *a = rule->attributes;
    const sora_shape *table = &rule->inputs[0];
    char text[80];
    int least = a->bidirectional ? 4 : 2;
    if (table->rank != 2 || table->dim[0] < least || table->dim[0] % least != 0 || a->farthest <= table->dim[0] / least)
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "table %s, farthest distance %d; expected [buckets, heads], buckets a multiple of %d",
                         sora_shape_text(table, text), a->farthest, least);
    if (a->queries < 1 || a->keys < 1)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%d queries and %d keys; expected at least 1", a->queries, a->keys);
    rule->output_count = 1;
    rule->outputs[0] = SORA_SHAPE(table->dim[1], a->queries + a->keys - 1);
    return SORA_OK;
}

static sora_status launch(const sora_op_run *run, const char *kernel, const sora_view *from, const sora_view *to, int64_t across,
                          sora_error *error)
{
    const sora_relative_bias_attributes *a = run->attributes;
    const sora_shape *table = &run->inputs[0].shape;
    return sora_launch(run->context,
                       &(sora_launch_desc) { .file = "range",
                                             .kernel = kernel,
                                             .options = sora_range_options(run->context),
                                             .global = { (size_t)across, (size_t)table->dim[1] },
                                             .label = run->name,
                                             .arguments = SORA_ARGUMENTS(SORA_VIEW(from), SORA_VIEW(to), SORA_INT(table->dim[1]),
                                                                         SORA_INT(a->queries), SORA_INT(a->queries + a->keys - 1),
                                                                         SORA_INT(table->dim[0]), SORA_INT(a->farthest),
                                                                         SORA_INT(a->bidirectional)) },
                       error);
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    return launch(run, "relative_bias_forward", &run->inputs[0], &run->outputs[0], run->outputs[0].shape.dim[1], error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    return launch(run, "relative_bias_backward", &run->output_gradients[0], &run->input_gradients[0], run->inputs[0].shape.dim[0],
                  error);
}

const sora_op sora_op_relative_bias = { .name = "relative_bias",
                                        .parameters = 1,
                                        .differentiable = 1,
                                        .dense = ~0u,
                                        .infer = infer,
                                        .forward = forward,
                                        .backward = backward };
