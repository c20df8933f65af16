/* SPDX-License-Identifier: Apache-2.0 */
#include "op/loss.h"
#include "op/ops.h"
#include "op/range.h"

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    sora_status status = sora_loss_check(rule, error);
    const sora_shape *x = &rule->inputs[0];
    if (status != SORA_OK) return status;
    if (rule->training) rule->saved[0] = SORA_SHAPE(2);
    rule->forward_workspace = 2 + 2 * (uint64_t)(x->dim[0] * sora_sum_parts(sora_shape_elements(x) / x->dim[0]));
    return SORA_OK;
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    const sora_view *p = &run->inputs[0], *target = &run->inputs[1], *sums = run->training ? &run->saved[0] : &run->workspace;
    int64_t n = sora_view_inner(p), rows = p->shape.dim[0], parts = sora_sum_parts(n);
    const char *options = sora_range_options(run->context);
    sora_view partial = run->workspace;
    partial.offset += 2;
    sora_status status =
        sora_launch(run->context,
                    &(sora_launch_desc) { .file = "range",
                                          .kernel = "dice_parts",
                                          .options = options,
                                          .global = { (size_t)parts, (size_t)rows },
                                          .label = run->name,
                                          .arguments = SORA_ARGUMENTS(SORA_VIEW(p), SORA_VIEW(target), SORA_VIEW(&partial),
                                                                      SORA_LONG(p->stride), SORA_LONG(target->stride),
                                                                      SORA_LONG(n), SORA_LONG(parts)) },
                    error);
    if (status != SORA_OK) return status;
    return sora_launch(run->context,
                       &(sora_launch_desc) { .file = "range",
                                             .kernel = "dice_total",
                                             .options = options,
                                             .global = { 1 },
                                             .label = run->name,
                                             .arguments = SORA_ARGUMENTS(SORA_VIEW(&partial), SORA_VIEW(sums),
                                                                         SORA_VIEW(&run->outputs[0]), SORA_LONG(rows * parts)) },
                       error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    const sora_view *p = &run->inputs[0], *target = &run->inputs[1], *dx = &run->input_gradients[0];
    int64_t n = sora_view_inner(p);
    sora_launch_desc desc = { .file = "range",
                              .kernel = "dice_backward",
                              .label = run->name,
                              .arguments =
                                  SORA_ARGUMENTS(SORA_VIEW(p), SORA_VIEW(target), SORA_VIEW(&run->saved[0]),
                                                 SORA_VIEW(&run->output_gradients[0]), SORA_VIEW(dx), SORA_LONG(p->stride),
                                                 SORA_LONG(target->stride), SORA_LONG(dx->stride), SORA_LONG(n)) };
    return sora_launch_range(run->context, desc, n, p->shape.dim[0], error);
}

const sora_op sora_op_dice_loss = {
    .name = "dice_loss", .differentiable = 1, .uses_inputs = 3, .infer = infer, .forward = forward, .backward = backward
};
