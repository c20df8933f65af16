/* SPDX-License-Identifier: Apache-2.0 */
#include "op/adapted.h"
#include "op/conv.h"
#include "op/dropout.h"
#include "op/ops.h"
#include "op/range.h"
#include "op/update.h"

enum { X, WEIGHT, BIAS, DOWN, UP, GATE };

static const sora_adapted_attributes *attributes_of(const void *attributes)
{
    return attributes;
}

static uint64_t elements(const sora_shape *shape)
{
    return (uint64_t)sora_shape_elements(shape);
}

/* Scratch in the order it is taken: dropped x (only with dropout), scaled factors, t or dt, then what the convolutions need. */
static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_adapted_attributes *a = attributes_of(rule->attributes);
    sora_status status = sora_conv_check(rule, a->kernel, error);
    if (status != SORA_OK) return status;
    const sora_shape *x = &rule->inputs[X], *weight = &rule->inputs[WEIGHT], *down = &rule->inputs[DOWN], *up = &rule->inputs[UP],
                     *gate = &rule->inputs[GATE];
    char one[80], other[80];
    bool fits = down->rank == 4 && up->rank == 2 && down->dim[0] == up->dim[1] && up->dim[0] == weight->dim[0];
    for (int i = 1; fits && i < 4; i++) fits = down->dim[i] == weight->dim[i];
    if (!fits)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "down %s and up %s don't fit the weight; expected [r, c, k, k] and [o, r]",
                         sora_shape_text(down, one), sora_shape_text(up, other));
    if (gate->rank && (gate->rank != 1 || gate->dim[0] != up->dim[1]))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "gate %s for rank %lld", sora_shape_text(gate, one), (long long)up->dim[1]);
    sora_shape y = SORA_SHAPE(x->dim[0], weight->dim[0], x->dim[2], x->dim[3]),
               t = SORA_SHAPE(x->dim[0], up->dim[1], x->dim[2], x->dim[3]);
    rule->output_count = 1;
    rule->outputs[0] = y;
    if (rule->training) rule->saved[0] = t;
    uint64_t dropped = a->dropout > 0.0f ? elements(x) : 0;
    uint64_t factors = SORA_MAX(elements(up), elements(down));
    int64_t inputs = x->dim[1], outputs = y.dim[1], rank = t.dim[1];
    uint64_t forward =
        SORA_MAX(sora_conv_workspace(rule->limits, a->kernel, x, outputs), sora_conv_workspace(rule->limits, a->kernel, x, rank));
    uint64_t gradients = SORA_MAX(sora_conv_gradient_workspace(rule->limits, 1, &t, &y),
                                  sora_conv_gradient_workspace(rule->limits, a->kernel, x, &t));
    uint64_t data = SORA_MAX(sora_conv_workspace(rule->limits, a->kernel, &y, inputs),
                             sora_conv_workspace(rule->limits, a->kernel, &t, inputs));
    rule->forward_workspace = dropped + factors + elements(&t) + forward;
    rule->backward_workspace = dropped + factors + elements(&t) + SORA_MAX(gradients, data);
    return SORA_OK;
}

typedef struct scratch {
    sora_view dropped, factors, t, rest;
} scratch;

static scratch divide(const sora_op_run *run)
{
    const sora_shape *x = &run->inputs[X].shape, *up = &run->inputs[UP].shape, *down = &run->inputs[DOWN].shape;
    scratch s = { .rest = run->workspace };
    if (attributes_of(run->attributes)->dropout > 0.0f) s.dropped = sora_adapted_take(&s.rest, *x);
    s.factors = sora_adapted_take(&s.rest, SORA_SHAPE((int64_t)SORA_MAX(elements(up), elements(down))));
    s.t = sora_adapted_take(&s.rest, SORA_SHAPE(x->dim[0], up->dim[1], x->dim[2], x->dim[3]));
    return s;
}

static void take_shape(sora_view *view, const sora_view *of)
{
    view->shape = of->shape;
    view->stride = sora_view_inner(of);
}

static sora_status scale_up(const sora_op_run *run, const sora_view *gate, sora_view *out, sora_error *error)
{
    const sora_view *up = &run->inputs[UP];
    int64_t n = sora_view_elements(up);
    take_shape(out, up);
    sora_launch_desc desc = { .file = "range",
                              .kernel = "adapted_scale_up",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(
                                  SORA_VIEW(up), SORA_VIEW(gate), SORA_VIEW(out), SORA_INT(up->shape.dim[1]), SORA_LONG(n),
                                  SORA_FLOAT(attributes_of(run->attributes)->scale), SORA_INT(gate->memory != NULL)) };
    return sora_launch_range(run->context, desc, n, 1, error);
}

static sora_status scale_down(const sora_op_run *run, sora_view *out, sora_error *error)
{
    const sora_view *down = &run->inputs[DOWN], *gate = &run->inputs[GATE];
    int64_t n = sora_view_elements(down);
    take_shape(out, down);
    sora_launch_desc desc = { .file = "range",
                              .kernel = "adapted_scale_down",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(down), SORA_VIEW(gate), SORA_VIEW(out),
                                                          SORA_LONG(sora_view_inner(down)), SORA_LONG(n),
                                                          SORA_INT(gate->memory != NULL)) };
    return sora_launch_range(run->context, desc, n, 1, error);
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *branch = x, *y = &run->outputs[0];
    scratch s = divide(run);
    sora_view t = run->training ? run->saved[0] : s.t;
    if (sora_adapted_drops(run)) {
        SORA_TRY(sora_dropout_apply(run, a->dropout, x, &s.dropped, false, error));
        branch = &s.dropped;
    }
    sora_conv_desc down = {
        .kernel = a->kernel, .x = branch, .weight = run->inputs[DOWN], .y = &t, .workspace = s.rest, .label = run->name
    };
    SORA_TRY(sora_conv(run->context, &down, error));
    sora_conv_desc base = { .kernel = a->kernel,
                            .x = x,
                            .weight = run->inputs[WEIGHT],
                            .bias = &run->inputs[BIAS],
                            .y = y,
                            .workspace = s.rest,
                            .label = run->name };
    SORA_TRY(sora_conv(run->context, &base, error));
    SORA_TRY(scale_up(run, &run->inputs[GATE], &s.factors, error));
    sora_conv_desc up = {
        .kernel = 1, .x = &t, .weight = s.factors, .y = y, .accumulate = true, .workspace = s.rest, .label = run->name
    };
    SORA_TRY(sora_conv(run->context, &up, error));
cleanup:
    return status;
}

/* dx = the base's way back, plus the branch's through the gated down factor and the dropout. */
static sora_status input_gradient(const sora_op_run *run, scratch *s, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    const sora_view *dx = &run->input_gradients[X];
    bool dropped = sora_adapted_drops(run);
    take_shape(&s->dropped, dx);
    sora_conv_desc base = { .kernel = a->kernel,
                            .x = &run->output_gradients[0],
                            .weight = run->inputs[WEIGHT],
                            .back = true,
                            .y = dx,
                            .workspace = s->rest,
                            .label = run->name };
    SORA_TRY(sora_conv(run->context, &base, error));
    SORA_TRY(scale_down(run, &s->factors, error));
    sora_conv_desc branch = { .kernel = a->kernel,
                              .x = &s->t,
                              .weight = s->factors,
                              .back = true,
                              .y = dropped ? &s->dropped : dx,
                              .accumulate = !dropped,
                              .workspace = s->rest,
                              .label = run->name };
    SORA_TRY(sora_conv(run->context, &branch, error));
    if (dropped) SORA_TRY(sora_dropout_apply(run, a->dropout, &s->dropped, dx, true, error));
cleanup:
    return status;
}

static sora_status up_gradients(const sora_op_run *run, const sora_view *product, sora_error *error)
{
    const sora_view *up = &run->inputs[UP], *gate = &run->inputs[GATE], *gradients = run->input_gradients;
    sora_launch_desc desc = { .file = "range",
                              .kernel = "adapted_up_gradients",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(product), SORA_VIEW(up), SORA_VIEW(gate),
                                                          SORA_VIEW(&gradients[UP]), SORA_VIEW(&gradients[GATE]),
                                                          SORA_INT(up->shape.dim[0]), SORA_INT(up->shape.dim[1]),
                                                          SORA_INT(gate->memory != NULL), SORA_INT(gradients[UP].memory != NULL),
                                                          SORA_INT(gradients[GATE].memory != NULL)) };
    return sora_launch_range(run->context, desc, up->shape.dim[0], (up->shape.dim[1] + SORA_ADAPTED_SIDE - 1) / SORA_ADAPTED_SIDE,
                             error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    static const sora_view none = { 0 };
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    const sora_view *dy = &run->output_gradients[0], *gate = &run->inputs[GATE], *t = &run->saved[0], *branch = &run->inputs[X];
    const sora_view *gradients = run->input_gradients;
    scratch s = divide(run);
    if (gradients[UP].memory || gradients[GATE].memory) {
        sora_view product = s.factors;
        take_shape(&product, &run->inputs[UP]);
        sora_conv_gradient_desc up = {
            .kernel = 1, .x = t, .dy = dy, .gradient = &product, .scale = a->scale, .workspace = s.rest, .label = run->name
        };
        SORA_TRY(sora_fill(run->context, &product, 0.0f, error));
        SORA_TRY(sora_conv_gradient(run->context, &up, error));
        SORA_TRY(up_gradients(run, &product, error));
    }
    /* dt = s * up^T dy, without the gate */
    SORA_TRY(scale_up(run, &none, &s.factors, error));
    sora_conv_desc back = {
        .kernel = 1, .x = dy, .weight = s.factors, .back = true, .y = &s.t, .workspace = s.rest, .label = run->name
    };
    SORA_TRY(sora_conv(run->context, &back, error));
    if (gradients[DOWN].memory) {
        if (sora_adapted_drops(run)) {
            SORA_TRY(sora_dropout_apply(run, a->dropout, branch, &s.dropped, false, error));
            branch = &s.dropped;
        }
        sora_conv_gradient_desc down = { .kernel = a->kernel,
                                         .x = branch,
                                         .dy = &s.t,
                                         .gradient = &gradients[DOWN],
                                         .scale = 1.0f,
                                         .row = gate,
                                         .workspace = s.rest,
                                         .label = run->name };
        SORA_TRY(sora_conv_gradient(run->context, &down, error));
    }
    if (gradients[X].memory) SORA_TRY(input_gradient(run, &s, error));
cleanup:
    return status;
}

const sora_op sora_op_adapted_conv2d = { .name = "adapted_conv2d",
                                         .parameters = 1 << WEIGHT | 1 << BIAS | 1 << DOWN | 1 << UP | 1 << GATE,
                                         .differentiable = 1 << X | 1 << DOWN | 1 << UP | 1 << GATE,
                                         .uses_inputs = 0x3b,
                                         .gradient_leading = true,
                                         .random = true,
                                         .infer = infer,
                                         .forward = forward,
                                         .backward = backward };
