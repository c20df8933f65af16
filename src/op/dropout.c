/* SPDX-License-Identifier: Apache-2.0 */
#include "op/dropout.h"

#include "op/ops.h"
#include "op/range.h"
#include "op/update.h"

sora_status sora_dropout_apply(const sora_op_run *run, float probability, const sora_view *x, const sora_view *y, bool accumulate,
                               sora_error *error)
{
    sora_dropout_key key = sora_dropout_key_of(run, probability);
    int64_t n = sora_view_inner(x);
    sora_launch_desc desc = { .file = "dropout",
                              .kernel = "dropout_apply",
                              .label = run->name,
                              .arguments =
                                  SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(y), SORA_LONG(x->stride), SORA_LONG(y->stride),
                                                 SORA_LONG(n), SORA_UINT(key.low), SORA_UINT(key.high), SORA_UINT(run->step),
                                                 SORA_UINT(run->stream), SORA_UINT(run->first_sample), SORA_UINT(key.threshold),
                                                 SORA_FLOAT(key.factor), SORA_INT(accumulate)) };
    return sora_launch_range(run->context, desc, n, x->shape.dim[0], error);
}

static float probability_of(const void *attributes)
{
    return ((const sora_dropout_attributes *)attributes)->probability;
}

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    float p = probability_of(rule->attributes);
    if (!(p >= 0.0f && p < 1.0f))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "probability %g; expected 0 to below 1", (double)p);
    rule->output_count = 1;
    rule->outputs[0] = rule->inputs[0];
    return SORA_OK;
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    float p = probability_of(run->attributes);
    if (!run->training || p == 0.0f) return sora_copy(run->context, &run->inputs[0], &run->outputs[0], error);
    return sora_dropout_apply(run, p, &run->inputs[0], &run->outputs[0], false, error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    float p = probability_of(run->attributes);
    if (p == 0.0f) return sora_copy(run->context, &run->output_gradients[0], &run->input_gradients[0], error);
    return sora_dropout_apply(run, p, &run->output_gradients[0], &run->input_gradients[0], false, error);
}

const sora_op sora_op_dropout = { .name = "dropout",
                                  .differentiable = 1,
                                  .in_place = 1,
                                  .gradient_in_place = true,
                                  .random = true,
                                  .infer = infer,
                                  .forward = forward,
                                  .backward = backward };
