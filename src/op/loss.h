/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_LOSS_H
#define SORA_OP_LOSS_H

#include "op/op.h"
#include "op/range.h"

/* The shape rule of a loss: input and target of equal shape, a scalar comes out. */
static inline sora_status sora_loss_check(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *x = &rule->inputs[0], *target = &rule->inputs[1];
    char one[80], other[80];
    bool equal = x->rank == target->rank;
    for (int i = 0; equal && i < x->rank; i++) equal = x->dim[i] == target->dim[i];
    if (!equal)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s and target %s; they must be equal", sora_shape_text(x, one),
                         sora_shape_text(target, other));
    rule->output_count = 1;
    rule->outputs[0] = SORA_SHAPE(1);
    return SORA_OK;
}

/* The mean over all elements of a term of input and target: the kernel file has parts, total and backward. */
static inline sora_status sora_mean_loss_infer(sora_op_shape_rule *rule, sora_error *error)
{
    sora_status status = sora_loss_check(rule, error);
    const sora_shape *x = &rule->inputs[0];
    if (status != SORA_OK) return status;
    rule->forward_workspace = (uint64_t)(x->dim[0] * sora_sum_parts(sora_shape_elements(x) / x->dim[0]));
    return SORA_OK;
}

static inline sora_status sora_mean_loss_forward(const sora_op_run *run, const char *file, sora_error *error)
{
    const sora_view *x = &run->inputs[0], *target = &run->inputs[1], *partial = &run->workspace;
    int64_t n = sora_view_inner(x), rows = x->shape.dim[0], parts = sora_sum_parts(n);
    const char *options = sora_range_options(run->context);
    sora_status status =
        sora_launch(run->context,
                    &(sora_launch_desc) { .file = file,
                                          .kernel = "parts",
                                          .options = options,
                                          .global = { (size_t)parts, (size_t)rows },
                                          .label = run->name,
                                          .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(target), SORA_VIEW(partial),
                                                                      SORA_LONG(x->stride), SORA_LONG(target->stride),
                                                                      SORA_LONG(n), SORA_LONG(parts)) },
                    error);
    if (status != SORA_OK) return status;
    return sora_launch(run->context,
                       &(sora_launch_desc) {
                           .file = file,
                           .kernel = "total",
                           .options = options,
                           .global = { 1 },
                           .label = run->name,
                           .arguments = SORA_ARGUMENTS(SORA_VIEW(partial), SORA_VIEW(&run->outputs[0]), SORA_LONG(rows * parts),
                                                       SORA_FLOAT((float)(1.0 / (double)sora_view_elements(x)))) },
                       error);
}

static inline sora_status sora_mean_loss_backward(const sora_op_run *run, const char *file, sora_error *error)
{
    const sora_view *x = &run->inputs[0], *target = &run->inputs[1], *dx = &run->input_gradients[0];
    int64_t n = sora_view_inner(x);
    sora_launch_desc desc = { .file = file,
                              .kernel = "backward",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(target), SORA_VIEW(&run->output_gradients[0]),
                                                          SORA_VIEW(dx), SORA_LONG(x->stride), SORA_LONG(target->stride),
                                                          SORA_LONG(dx->stride), SORA_LONG(n),
                                                          SORA_FLOAT((float)(1.0 / (double)sora_view_elements(x)))) };
    return sora_launch_range(run->context, desc, n, x->shape.dim[0], error);
}

#endif
