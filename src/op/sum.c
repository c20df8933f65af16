/* SPDX-License-Identifier: Apache-2.0 */
#include "op/ops.h"
#include "op/range.h"

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    (void)error;
    const sora_shape *x = &rule->inputs[0];
    rule->output_count = 1;
    rule->outputs[0] = SORA_SHAPE(1);
    rule->forward_workspace = (uint64_t)(x->dim[0] * sora_sum_parts(sora_shape_elements(x) / x->dim[0]));
    return SORA_OK;
}

static float factor_of(const sora_op_run *run, const sora_view *x)
{
    const sora_sum_attributes *attributes = run->attributes;
    return attributes->mean ? (float)(1.0 / (double)sora_view_elements(x)) : 1.0f;
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    const sora_view *x = &run->inputs[0], *part = &run->workspace;
    int64_t n = sora_view_inner(x), rows = x->shape.dim[0], parts = sora_sum_parts(n);
    sora_status status =
        sora_launch(run->context,
                    &(sora_launch_desc) { .file = "range",
                                          .kernel = "sum_parts",
                                          .options = sora_range_options(run->context),
                                          .global = { (size_t)parts, (size_t)rows },
                                          .label = run->name,
                                          .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(part), SORA_LONG(x->stride),
                                                                      SORA_LONG(n), SORA_LONG(parts)) },
                    error);
    if (status != SORA_OK) return status;
    return sora_launch(
        run->context,
        &(sora_launch_desc) { .file = "range",
                              .kernel = "sum_total",
                              .options = sora_range_options(run->context),
                              .global = { 1 },
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(part), SORA_VIEW(&run->outputs[0]), SORA_LONG(rows * parts),
                                                          SORA_FLOAT(factor_of(run, x))) },
        error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    const sora_view *dx = &run->input_gradients[0];
    sora_launch_desc desc = { .file = "range",
                              .kernel = "sum_backward",
                              .label = run->name,
                              .arguments =
                                  SORA_ARGUMENTS(SORA_VIEW(&run->output_gradients[0]), SORA_VIEW(dx), SORA_LONG(dx->stride),
                                                 SORA_LONG(sora_view_inner(dx)), SORA_FLOAT(factor_of(run, dx))) };
    return sora_launch_range(run->context, desc, sora_view_inner(dx), dx->shape.dim[0], error);
}

const sora_op sora_op_sum = { .name = "sum", .differentiable = 1, .infer = infer, .forward = forward, .backward = backward };
