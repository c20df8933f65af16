/* SPDX-License-Identifier: Apache-2.0 */
#include "op/ops.h"
#include "op/range.h"

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    (void)error;
    rule->output_count = 1;
    rule->outputs[0] = rule->inputs[0];
    return SORA_OK;
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    const sora_view *x = &run->inputs[0], *y = &run->outputs[0];
    int64_t n = sora_view_inner(x);
    sora_launch_desc desc = { .file = "relu",
                              .kernel = "relu_forward",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(y), SORA_LONG(x->stride), SORA_LONG(y->stride),
                                                          SORA_LONG(n)) };
    return sora_launch_range(run->context, desc, n, x->shape.dim[0], error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    const sora_view *y = &run->outputs[0], *dy = &run->output_gradients[0], *dx = &run->input_gradients[0];
    int64_t n = sora_view_inner(y);
    sora_launch_desc desc = { .file = "relu",
                              .kernel = "relu_backward",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(y), SORA_VIEW(dy), SORA_VIEW(dx), SORA_LONG(y->stride),
                                                          SORA_LONG(dy->stride), SORA_LONG(dx->stride), SORA_LONG(n)) };
    return sora_launch_range(run->context, desc, n, y->shape.dim[0], error);
}

const sora_op sora_op_relu = { .name = "relu",
                               .differentiable = 1,
                               .uses_outputs = 1,
                               .in_place = 1,
                               .gradient_in_place = true,
                               .infer = infer,
                               .forward = forward,
                               .backward = backward };
