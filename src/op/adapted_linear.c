/* SPDX-License-Identifier: Apache-2.0 */
#include "op/adapted.h"
#include "op/dropout.h"
#include "op/gemm.h"
#include "op/linear.h"
#include "op/ops.h"
#include "op/range.h"

enum { X, WEIGHT, BIAS, DOWN, UP, GATE };

static const sora_adapted_attributes *attributes_of(const void *attributes)
{
    return attributes;
}

static sora_status check_factors(const sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *w = &rule->inputs[WEIGHT], *down = &rule->inputs[DOWN], *up = &rule->inputs[UP],
                     *gate = &rule->inputs[GATE];
    char one[80], other[80];
    if (down->rank != 2 || up->rank != 2 || down->dim[1] != w->dim[1] || up->dim[0] != w->dim[0] || down->dim[0] != up->dim[1])
        return sora_fail(error, SORA_ERROR_ARGUMENT, "down %s and up %s don't fit the weight; expected [r, q] and [p, r]",
                         sora_shape_text(down, one), sora_shape_text(up, other));
    if (gate->rank && (gate->rank != 1 || gate->dim[0] != up->dim[1]))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "gate %s for rank %lld", sora_shape_text(gate, one), (long long)up->dim[1]);
    return SORA_OK;
}

/* Scratch in the order it is taken. Forward: dropped x, t (evaluation). Backward: dy behind the ReLU, dropped x, dt, gated dt. */
static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_adapted_attributes *a = attributes_of(rule->attributes);
    sora_status status = sora_linear_check(rule, error);
    if (status == SORA_OK) status = check_factors(rule, error);
    if (status != SORA_OK) return status;
    int64_t m = rule->outputs[0].dim[0], p = rule->outputs[0].dim[1], q = rule->inputs[WEIGHT].dim[1],
            r = rule->inputs[UP].dim[1];
    const sora_device_limits *l = rule->limits;
    uint64_t dropped = a->dropout > 0.0f ? (uint64_t)(m * q) : 0, t = (uint64_t)(m * r);
    uint64_t forward =
        SORA_MAX(sora_gemm_workspace(l, SORA_GEMM_AUTO, m, p, q, r), sora_gemm_workspace(l, SORA_GEMM_AUTO, m, r, q, 0));
    uint64_t factors =
        SORA_MAX(sora_gemm_workspace(l, SORA_GEMM_AUTO, p, r, m, 0), sora_gemm_workspace(l, SORA_GEMM_AUTO, r, q, m, 0));
    uint64_t data =
        SORA_MAX(sora_gemm_workspace(l, SORA_GEMM_AUTO, m, q, p, r), sora_gemm_workspace(l, SORA_GEMM_AUTO, m, r, p, 0));
    if (rule->training) rule->saved[0] = SORA_SHAPE(m, r);
    rule->forward_workspace = dropped + t + forward;
    rule->backward_workspace = (a->relu ? (uint64_t)(m * p) : 0) + dropped + 2 * t + SORA_MAX(factors, data);
    return SORA_OK;
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *w = &run->inputs[WEIGHT], *up = &run->inputs[UP], *y = &run->outputs[0];
    int64_t m = x->shape.dim[0], p = w->shape.dim[0], q = w->shape.dim[1], r = up->shape.dim[1];
    sora_view workspace = run->workspace, branch = *x;
    if (sora_adapted_drops(run)) {
        branch = sora_adapted_take(&workspace, x->shape);
        SORA_TRY(sora_dropout_apply(run, a->dropout, x, &branch, false, error));
    }
    sora_view t = run->training ? run->saved[0] : sora_adapted_take(&workspace, SORA_SHAPE(m, r));
    SORA_TRY(sora_gemm(run->context,
                       &(sora_gemm_desc) { .m = m,
                                           .n = r,
                                           .k = q,
                                           .a = { branch, branch.stride, false },
                                           .b = { run->inputs[DOWN], q, true },
                                           .c = t,
                                           .c_leading = r,
                                           .workspace = workspace,
                                           .label = run->name },
                       error));
    SORA_TRY(sora_gemm(run->context,
                       &(sora_gemm_desc) { .m = m,
                                           .n = p,
                                           .k = q,
                                           .a = { *x, x->stride, false },
                                           .b = { *w, q, true },
                                           .k2 = r,
                                           .a2 = { t, r, false },
                                           .b2 = { *up, r, true },
                                           .alpha2 = a->scale,
                                           .gate2 = run->inputs[GATE],
                                           .bias = run->inputs[BIAS],
                                           .relu = a->relu,
                                           .c = *y,
                                           .c_leading = y->stride,
                                           .workspace = workspace,
                                           .label = run->name },
                       error));
cleanup:
    return status;
}

/* dx = dy W0 + gated dt W_d; behind dropout the second product goes its own way through it. */
static sora_status input_gradient(const sora_op_run *run, const sora_view *dy, const sora_view *dt, const sora_view *gated,
                                  const sora_view *dropped, const sora_view *workspace, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_view *w = &run->inputs[WEIGHT], *down = &run->inputs[DOWN], *dx = &run->input_gradients[X];
    int64_t m = dx->shape.dim[0], p = w->shape.dim[0], q = w->shape.dim[1], r = down->shape.dim[0];
    sora_gemm_desc base = { .m = m,
                            .n = q,
                            .k = p,
                            .a = { *dy, dy->stride, false },
                            .b = { *w, q, false },
                            .c = *dx,
                            .c_leading = dx->stride,
                            .workspace = *workspace,
                            .label = run->name };
    if (!sora_adapted_drops(run)) {
        base.k2 = r;
        base.a2 = (sora_gemm_operand) { *dt, r, false };
        base.b2 = (sora_gemm_operand) { *down, q, false };
        base.gate2 = run->inputs[GATE];
        return sora_gemm(run->context, &base, error);
    }
    SORA_TRY(sora_gemm(run->context, &base, error));
    SORA_TRY(sora_gemm(run->context,
                       &(sora_gemm_desc) { .m = m,
                                           .n = q,
                                           .k = r,
                                           .a = { *gated, r, false },
                                           .b = { *down, q, false },
                                           .c = *dropped,
                                           .c_leading = q,
                                           .workspace = *workspace,
                                           .label = run->name },
                       error));
    SORA_TRY(sora_dropout_apply(run, attributes_of(run->attributes)->dropout, dropped, dx, true, error));
cleanup:
    return status;
}

static sora_status apply_gate(const sora_op_run *run, const sora_view *dt, const sora_view *gated, sora_error *error)
{
    const sora_view *gate = &run->inputs[GATE];
    int64_t n = sora_view_elements(dt);
    sora_launch_desc desc = { .file = "adapted_linear",
                              .kernel = "adapted_gate_apply",
                              .label = run->name,
                              .arguments =
                                  SORA_ARGUMENTS(SORA_VIEW(dt), SORA_VIEW(gate), SORA_VIEW(gated), SORA_LONG(dt->shape.dim[1]),
                                                 SORA_LONG(n), SORA_INT(gate->memory != NULL)) };
    return sora_launch_range(run->context, desc, n, 1, error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *up = &run->inputs[UP], *t = &run->saved[0], *gradients = run->input_gradients;
    int64_t m = t->shape.dim[0], p = up->shape.dim[0], q = run->inputs[WEIGHT].shape.dim[1], r = up->shape.dim[1];
    sora_view workspace = run->workspace, dy, branch = *x, dropped = { 0 };
    SORA_TRY(sora_linear_arriving(run, a->relu, &workspace, &dy, error));
    if (sora_adapted_drops(run)) dropped = sora_adapted_take(&workspace, x->shape);
    sora_view dt = sora_adapted_take(&workspace, SORA_SHAPE(m, r)), gated = sora_adapted_take(&workspace, SORA_SHAPE(m, r));
    if (gradients[UP].memory || gradients[GATE].memory) {
        sora_view rest = workspace, product = sora_adapted_take(&rest, SORA_SHAPE(p, r));
        SORA_TRY(sora_gemm(run->context,
                           &(sora_gemm_desc) { .m = p,
                                               .n = r,
                                               .k = m,
                                               .a = { dy, dy.stride, true },
                                               .b = { *t, r, false },
                                               .alpha = a->scale,
                                               .c = product,
                                               .c_leading = r,
                                               .workspace = rest,
                                               .label = run->name },
                           error));
        SORA_TRY(sora_adapted_up_total(run, "adapted_linear", &product, up, &run->inputs[GATE], &gradients[UP], &gradients[GATE],
                                       error));
    }
    SORA_TRY(sora_gemm(run->context,
                       &(sora_gemm_desc) { .m = m,
                                           .n = r,
                                           .k = p,
                                           .a = { dy, dy.stride, false },
                                           .b = { *up, r, false },
                                           .alpha = a->scale,
                                           .c = dt,
                                           .c_leading = r,
                                           .workspace = workspace,
                                           .label = run->name },
                       error));
    SORA_TRY(apply_gate(run, &dt, &gated, error));
    if (gradients[DOWN].memory) {
        if (sora_adapted_drops(run)) {
            SORA_TRY(sora_dropout_apply(run, a->dropout, x, &dropped, false, error));
            branch = dropped;
        }
        SORA_TRY(sora_gemm(run->context,
                           &(sora_gemm_desc) { .m = r,
                                               .n = q,
                                               .k = m,
                                               .a = { gated, r, true },
                                               .b = { branch, branch.stride, false },
                                               .accumulate = true,
                                               .c = gradients[DOWN],
                                               .c_leading = q,
                                               .workspace = workspace,
                                               .label = run->name },
                           error));
    }
    if (gradients[X].memory) SORA_TRY(input_gradient(run, &dy, &dt, &gated, &dropped, &workspace, error));
cleanup:
    return status;
}

const sora_op sora_op_adapted_linear = { .name = "adapted_linear",
                                         .parameters = 1 << WEIGHT | 1 << BIAS | 1 << DOWN | 1 << UP | 1 << GATE,
                                         .differentiable = 1 << X | 1 << DOWN | 1 << UP | 1 << GATE,
                                         .uses_inputs = 0x3b,
                                         .uses_outputs = 1,
                                         .random = true,
                                         .infer = infer,
                                         .forward = forward,
                                         .backward = backward };
