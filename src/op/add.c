/* SPDX-License-Identifier: Apache-2.0 */
#include "op/ops.h"
#include "op/range.h"
#include "op/update.h"

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *a = &rule->inputs[0], *b = &rule->inputs[1];
    bool equal = a->rank == b->rank;
    char left[80], right[80];
    for (int i = 0; equal && i < a->rank; i++) equal = a->dim[i] == b->dim[i];
    if (!equal)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "shapes %s and %s; they must be equal", sora_shape_text(a, left),
                         sora_shape_text(b, right));
    rule->output_count = 1;
    rule->outputs[0] = *a;
    return SORA_OK;
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    const sora_view *a = &run->inputs[0], *b = &run->inputs[1], *y = &run->outputs[0];
    int64_t n = sora_view_inner(a);
    sora_launch_desc desc = { .file = "range",
                              .kernel = "add_forward",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(a), SORA_VIEW(b), SORA_VIEW(y), SORA_LONG(a->stride),
                                                          SORA_LONG(b->stride), SORA_LONG(y->stride), SORA_LONG(n)) };
    return sora_launch_range(run->context, desc, n, a->shape.dim[0], error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    const sora_view *dy = &run->output_gradients[0];
    for (int i = 0; i < 2; i++) {
        const sora_view *dx = &run->input_gradients[i];
        sora_status status = dx->memory ? sora_copy(run->context, dy, dx, error) : SORA_OK;
        if (status != SORA_OK) return status;
    }
    return SORA_OK;
}

const sora_op sora_op_add = { .name = "add",
                              .differentiable = 3,
                              .passes = 3,
                              .in_place = 3,
                              .cheap = true,
                              .infer = infer,
                              .forward = forward,
                              .backward = backward };
