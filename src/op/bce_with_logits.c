/* SPDX-License-Identifier: Apache-2.0 */
#include "op/loss.h"
#include "op/ops.h"
#include "op/range.h"

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    sora_status status = sora_loss_check(rule, error);
    const sora_shape *x = &rule->inputs[0];
    if (status != SORA_OK) return status;
    rule->forward_workspace = (uint64_t)(x->dim[0] * sora_sum_parts(sora_shape_elements(x) / x->dim[0]));
    return SORA_OK;
}

static float factor_of(const sora_view *x)
{
    return (float)(1.0 / (double)sora_view_elements(x));
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    const sora_view *x = &run->inputs[0], *target = &run->inputs[1], *partial = &run->workspace;
    int64_t n = sora_view_inner(x), rows = x->shape.dim[0], parts = sora_sum_parts(n);
    const char *options = sora_range_options(run->context);
    sora_status status =
        sora_launch(run->context,
                    &(sora_launch_desc) { .file = "bce_with_logits",
                                          .kernel = "bce_parts",
                                          .options = options,
                                          .global = { (size_t)parts, (size_t)rows },
                                          .label = run->name,
                                          .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(target), SORA_VIEW(partial),
                                                                      SORA_LONG(x->stride), SORA_LONG(target->stride),
                                                                      SORA_LONG(n), SORA_LONG(parts)) },
                    error);
    if (status != SORA_OK) return status;
    return sora_launch(run->context,
                       &(sora_launch_desc) { .file = "bce_with_logits",
                                             .kernel = "bce_total",
                                             .options = options,
                                             .global = { 1 },
                                             .label = run->name,
                                             .arguments = SORA_ARGUMENTS(SORA_VIEW(partial), SORA_VIEW(&run->outputs[0]),
                                                                         SORA_LONG(rows * parts), SORA_FLOAT(factor_of(x))) },
                       error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    const sora_view *x = &run->inputs[0], *target = &run->inputs[1], *dx = &run->input_gradients[0];
    int64_t n = sora_view_inner(x);
    sora_launch_desc desc = { .file = "bce_with_logits",
                              .kernel = "bce_backward",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(target), SORA_VIEW(&run->output_gradients[0]),
                                                          SORA_VIEW(dx), SORA_LONG(x->stride), SORA_LONG(target->stride),
                                                          SORA_LONG(dx->stride), SORA_LONG(n), SORA_FLOAT(factor_of(x))) };
    return sora_launch_range(run->context, desc, n, x->shape.dim[0], error);
}

const sora_op sora_op_bce_with_logits = {
    .name = "bce_with_logits", .differentiable = 1, .uses_inputs = 3, .infer = infer, .forward = forward, .backward = backward
};
