/* SPDX-License-Identifier: Apache-2.0 */
#include "op/dropout.h"

#include "op/ops.h"
#include "op/range.h"
#include "op/update.h"

enum { X, BASE };

/* Fewer blocks of eight elements are not worth a work-item on a CPU. */
#define CPU_BLOCKS 1024

/* base->memory NULL: none. */
static sora_status apply(const sora_op_run *run, float probability, const sora_view *x, const sora_view *base, const sora_view *y,
                         sora_error *error)
{
    sora_dropout_key key = sora_dropout_key_of(run, probability);
    const sora_device_limits *limits = &sora_context_device(run->context)->limits;
    int64_t n = sora_view_inner(x), blocks = (n + 7) / 8, lanes = sora_lanes(limits);
    int64_t most = 4 * (int64_t)limits->compute_units / x->shape.dim[0] + 1, items = SORA_MIN(blocks, 1 << 16);
    sora_launch_desc desc = { .file = "range",
                              .kernel = "dropout_apply",
                              .options = sora_range_options(run->context),
                              .global = { 1, (size_t)x->shape.dim[0] },
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(
                                  SORA_VIEW(x), SORA_VIEW(base), SORA_VIEW(y), SORA_LONG(x->stride), SORA_LONG(base->stride),
                                  SORA_LONG(y->stride), SORA_LONG(n), SORA_UINT(key.low), SORA_UINT(key.high),
                                  SORA_UINT(run->step), SORA_UINT(run->stream), SORA_UINT(run->first_sample),
                                  SORA_UINT(key.threshold), SORA_FLOAT(key.factor), SORA_INT(base->memory != NULL)) };
    desc.global[0] = (size_t)(lanes > 1 ? SORA_MAX(1, SORA_MIN(most, blocks / CPU_BLOCKS)) : items);
    return sora_launch(run->context, &desc, error);
}

sora_status sora_dropout_apply(const sora_op_run *run, float probability, const sora_view *x, const sora_view *y, bool accumulate,
                               sora_error *error)
{
    static const sora_view none = { 0 };
    return apply(run, probability, x, accumulate ? y : &none, y, error);
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
    const sora_shape *x = &rule->inputs[X], *base = &rule->inputs[BASE];
    bool equal = x->rank == base->rank;
    char left[80], right[80];
    for (int i = 0; equal && i < x->rank; i++) equal = x->dim[i] == base->dim[i];
    if (rule->input_count > BASE && !equal)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "shapes %s and %s; they must be equal", sora_shape_text(x, left),
                         sora_shape_text(base, right));
    rule->output_count = 1;
    rule->outputs[0] = *x;
    return SORA_OK;
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    float p = run->training ? probability_of(run->attributes) : 0.0f;
    const sora_view *x = &run->inputs[X], *y = &run->outputs[0];
    if (run->input_count > BASE) return apply(run, p, x, &run->inputs[BASE], y, error);
    return p == 0.0f ? sora_copy(run->context, x, y, error) : sora_dropout_apply(run, p, x, y, false, error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    float p = probability_of(run->attributes);
    const sora_view *dy = &run->output_gradients[0], *dx = &run->input_gradients[X], *base = &run->input_gradients[BASE];
    if (run->input_count > BASE && base->memory) SORA_TRY(sora_copy(run->context, dy, base, error));
    if (dx->memory && p == 0.0f) SORA_TRY(sora_copy(run->context, dy, dx, error));
    if (dx->memory && p > 0.0f) SORA_TRY(sora_dropout_apply(run, p, dy, dx, false, error));
cleanup:
    return status;
}

const sora_op sora_op_dropout = { .name = "dropout",
                                  .differentiable = 1 << X | 1 << BASE,
                                  .passes = 1 << BASE,
                                  .in_place = 1 << X | 1 << BASE,
                                  .gradient_in_place = true,
                                  .random = true,
                                  .cheap = true,
                                  .infer = infer,
                                  .forward = forward,
                                  .backward = backward };
