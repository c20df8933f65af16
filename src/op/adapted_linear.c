/* SPDX-License-Identifier: Apache-2.0 */
#include "op/adapted.h"
#include "op/dropout.h"
#include "op/linear.h"
#include "op/narrow.h"
#include "op/ops.h"
#include "op/range.h"

enum { X, WEIGHT, BIAS, DOWN, UP, GATE };

static const sora_adapted_attributes *attributes_of(const void *attributes)
{
    return attributes;
}

static bool is_packed(const void *attributes)
{
    return attributes_of(attributes)->modules > 0;
}

static sora_status check_modules(const sora_op_shape_rule *rule, sora_error *error)
{
    const sora_adapted_attributes *a = attributes_of(rule->attributes);
    const sora_shape *w = &rule->inputs[WEIGHT], *down = &rule->inputs[DOWN], *up = &rule->inputs[UP],
                     *gate = &rule->inputs[GATE];
    int64_t outputs = 0, ranks = 0, factors = 0;
    for (int i = 0; i < SORA_MIN(a->modules, SORA_ADAPTED_MODULES); i++) {
        outputs += a->outputs[i];
        ranks += a->ranks[i];
        factors += (int64_t)a->outputs[i] * a->ranks[i];
    }
    if (a->modules > SORA_ADAPTED_MODULES || outputs != w->dim[0] || down->rank != 2 || ranks != down->dim[0] ||
        down->dim[1] != w->dim[1] || up->rank != 1 || factors != up->dim[0] ||
        (gate->rank && (gate->rank != 1 || gate->dim[0] != ranks)))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%d layers of %lld outputs and ranks of %lld don't fit weight and factors",
                         a->modules, (long long)outputs, (long long)ranks);
    return SORA_OK;
}

static sora_status check_factors(const sora_op_shape_rule *rule, sora_error *error)
{
    if (is_packed(rule->attributes)) return check_modules(rule, error);
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

/* Scratch in the order it is taken. Forward: blocks of the up factors (several layers), dropped x, t (evaluation). Backward: dy
 * behind the ReLU, dropped x, dt, and the product of dy and t, or gated dt. */
static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_adapted_attributes *a = attributes_of(rule->attributes);
    sora_status status = sora_linear_check(rule, error);
    if (status == SORA_OK) status = check_factors(rule, error);
    if (status != SORA_OK) return status;
    int64_t p = rule->inputs[WEIGHT].dim[0], q = rule->inputs[WEIGHT].dim[1], r = rule->inputs[DOWN].dim[0],
            m = sora_linear_rows(&rule->outputs[0], p);
    const sora_device_limits *l = rule->limits;
    uint64_t blocks = is_packed(a) ? (uint64_t)(p * r) : 0, dropped = a->dropout > 0.0f ? (uint64_t)(m * q) : 0,
             t = (uint64_t)(m * r);
    uint64_t forward = SORA_MAX(sora_gemm_workspace(l, m, p, q, r), sora_narrow_workspace(l, m, q, r));
    uint64_t factors = SORA_MAX(sora_narrow_workspace(l, m, p, r), sora_narrow_workspace(l, m, q, r));
    uint64_t data = SORA_MAX(sora_gemm_workspace(l, m, q, p, r), sora_gemm_workspace(l, m, q, r, 0));
    if (rule->training) rule->saved[0] = SORA_SHAPE(m, r);
    if (!a->relu) rule->uses_outputs = 0;
    rule->forward_workspace = blocks + dropped + t + forward;
    rule->backward_workspace = (a->relu ? (uint64_t)(m * p) : 0) + dropped + t + SORA_MAX(factors + (uint64_t)(p * r), t + data);
    return SORA_OK;
}

/* One layer of those that share x: its outputs and ranks stand behind those of the layers before. */
typedef struct layer {
    int64_t row, outputs, column, rank;
    sora_view up;
    float scale;
} layer;

/* Returns how many there are. */
static int layers_of(const sora_op_run *run, layer out[SORA_ADAPTED_MODULES])
{
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    layer m = { .outputs = run->inputs[WEIGHT].shape.dim[0],
                .rank = run->inputs[DOWN].shape.dim[0],
                .up = run->inputs[UP],
                .scale = a->scale };
    int count = 0;
    if (!is_packed(a)) out[count++] = m;
    for (int i = 0; i < a->modules; i++) {
        m.outputs = a->outputs[i];
        m.rank = a->ranks[i];
        m.scale = a->scales[i];
        m.up.shape = SORA_SHAPE(m.outputs, m.rank);
        out[count++] = m;
        m.row += m.outputs;
        m.column += m.rank;
        m.up.offset += (uint64_t)(m.outputs * m.rank);
    }
    return count;
}

/* The up factor as one matrix [p, r] with `scale` still to come: the parameter, or all layers' as blocks, taken from the
 * workspace. */
typedef struct up_matrix {
    sora_view view;
    float scale;
} up_matrix;

static sora_status take_up(const sora_op_run *run, sora_view *workspace, up_matrix *out, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    int64_t r = run->inputs[DOWN].shape.dim[0];
    layer layers[SORA_ADAPTED_MODULES];
    *out = (up_matrix) { run->inputs[UP], a->scale };
    if (!is_packed(a)) return SORA_OK;
    *out = (up_matrix) { sora_adapted_take(workspace, SORA_SHAPE(run->inputs[WEIGHT].shape.dim[0], r)), 1.0f };
    for (int i = 0, count = layers_of(run, layers); i < count; i++) {
        const layer *m = &layers[i];
        sora_launch_desc desc = { .file = "range",
                                  .kernel = "adapted_up_block",
                                  .label = run->name,
                                  .arguments = SORA_ARGUMENTS(SORA_VIEW(&m->up), SORA_VIEW(&out->view), SORA_LONG(m->row * r),
                                                              SORA_INT(r), SORA_INT(m->column), SORA_INT(m->rank),
                                                              SORA_FLOAT(m->scale), SORA_LONG(m->outputs)) };
        SORA_TRY(sora_launch_range(run->context, desc, m->outputs, 1, error));
    }
cleanup:
    return status;
}

static sora_view part_of(const sora_view *view, int64_t offset, sora_shape shape)
{
    sora_view part = *view;
    part.offset += (uint64_t)offset;
    part.shape = shape;
    return part;
}

/* One layer's columns of dt = scale · dy W_u, and the gradients of its up factor and gates, which come from tᵀ dy, [rank,
 * outputs]: one pass over dy. */
static sora_status outer_gradients(const sora_op_run *run, const layer *l, const sora_view *dy, const sora_view *dt,
                                   const sora_view *workspace, sora_error *error)
{
    sora_status status = SORA_OK;
    static const sora_view none = { 0 };
    const sora_view *t = &run->saved[0], *gate = &run->inputs[GATE], *gradients = run->input_gradients;
    int64_t p = run->inputs[WEIGHT].shape.dim[0], r = t->shape.dim[1];
    bool wanted = gradients[UP].memory || gradients[GATE].memory;
    sora_shape gates = SORA_SHAPE(l->rank);
    sora_view rest = *workspace, product = sora_adapted_take(&rest, SORA_SHAPE(l->rank, l->outputs));
    sora_view up_gradient = part_of(&gradients[UP], (int64_t)(l->up.offset - run->inputs[UP].offset), l->up.shape),
              gate_i = part_of(gate, l->column, gates), gate_gradient = part_of(&gradients[GATE], l->column, gates);
    SORA_TRY(sora_narrow(run->context,
                         &(sora_narrow_desc) { .m = t->shape.dim[0],
                                               .n = l->outputs,
                                               .rank = l->rank,
                                               .x = part_of(dy, l->row, dy->shape),
                                               .x_leading = sora_linear_leading(dy, p),
                                               .factor = l->up,
                                               .turned = true,
                                               .alpha = l->scale,
                                               .t = part_of(dt, l->column, dt->shape),
                                               .t_leading = r,
                                               .s = wanted ? part_of(t, l->column, t->shape) : none,
                                               .s_leading = r,
                                               .gradient = product,
                                               .workspace = rest,
                                               .label = run->name },
                         error));
    if (wanted)
        SORA_TRY(
            sora_adapted_up_total(run, &product, 1, l->outputs, l->scale, &l->up, &gate_i, &up_gradient, &gate_gradient, error));
cleanup:
    return status;
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *w = &run->inputs[WEIGHT], *y = &run->outputs[0];
    int64_t p = w->shape.dim[0], q = w->shape.dim[1], r = run->inputs[DOWN].shape.dim[0], m = sora_linear_rows(&x->shape, q),
            leading = sora_linear_leading(x, q);
    sora_view workspace = run->workspace, branch = *x;
    up_matrix up;
    SORA_TRY(take_up(run, &workspace, &up, error));
    if (sora_adapted_drops(run)) {
        branch = sora_adapted_take(&workspace, x->shape);
        SORA_TRY(sora_dropout_apply(run, a->dropout, x, &branch, false, error));
    }
    sora_view t = run->training ? run->saved[0] : sora_adapted_take(&workspace, SORA_SHAPE(m, r));
    SORA_TRY(sora_narrow(run->context,
                         &(sora_narrow_desc) { .m = m,
                                               .n = q,
                                               .rank = r,
                                               .x = branch,
                                               .x_leading = sora_linear_leading(&branch, q),
                                               .factor = run->inputs[DOWN],
                                               .t = t,
                                               .t_leading = r,
                                               .workspace = workspace,
                                               .label = run->name },
                         error));
    SORA_TRY(sora_gemm(run->context,
                       &(sora_gemm_desc) { .m = m,
                                           .n = p,
                                           .k = q,
                                           .a = { *x, leading, .zeros = a->zeros },
                                           .b = sora_linear_weight(w),
                                           .k2 = r,
                                           .a2 = { t, r, false },
                                           .b2 = { up.view, r, true },
                                           .alpha2 = up.scale,
                                           .gate2 = run->inputs[GATE],
                                           .bias = run->inputs[BIAS],
                                           .relu = a->relu,
                                           .c = *y,
                                           .c_leading = sora_linear_leading(y, p),
                                           .workspace = workspace,
                                           .label = run->name },
                       error));
    SORA_TRY(sora_linear_thin(run, &a->behind_relu, error));
cleanup:
    return status;
}

static sora_status apply_gate(const sora_op_run *run, const sora_view *dt, const sora_view *gated, sora_error *error)
{
    const sora_view *gate = &run->inputs[GATE];
    int64_t n = sora_view_elements(dt);
    sora_launch_desc desc = { .file = "range",
                              .kernel = "adapted_gate_apply",
                              .label = run->name,
                              .arguments =
                                  SORA_ARGUMENTS(SORA_VIEW(dt), SORA_VIEW(gate), SORA_VIEW(gated), SORA_LONG(dt->shape.dim[1]),
                                                 SORA_LONG(n), SORA_INT(gate->memory != NULL)) };
    return sora_launch_range(run->context, desc, n, 1, error);
}

/* dx = dy W0 + gated dt W_d; behind dropout the second product goes its own way through it. */
static sora_status input_gradient(const sora_op_run *run, const sora_view *dy, const sora_view *dt, const sora_view *dropped,
                                  const sora_view *workspace, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_view *w = &run->inputs[WEIGHT], *down = &run->inputs[DOWN], *dx = &run->input_gradients[X];
    int64_t p = w->shape.dim[0], q = w->shape.dim[1], r = down->shape.dim[0], m = sora_linear_rows(&dx->shape, q);
    sora_gemm_desc base = { .m = m,
                            .n = q,
                            .k = p,
                            .a = { *dy, sora_linear_leading(dy, p), .zeros = attributes_of(run->attributes)->relu },
                            .b = sora_linear_weight_back(w),
                            .c = *dx,
                            .c_leading = sora_linear_leading(dx, q),
                            .workspace = *workspace,
                            .label = run->name };
    if (!sora_adapted_drops(run)) {
        base.k2 = r;
        base.a2 = (sora_gemm_operand) { .view = *dt, .leading = r };
        base.b2 = (sora_gemm_operand) { .view = *down, .leading = q };
        base.gate2 = run->inputs[GATE];
        return sora_gemm(run->context, &base, error);
    }
    sora_view rest = *workspace, gated = sora_adapted_take(&rest, dt->shape);
    SORA_TRY(sora_gemm(run->context, &base, error));
    SORA_TRY(apply_gate(run, dt, &gated, error));
    SORA_TRY(sora_gemm(run->context,
                       &(sora_gemm_desc) { .m = m,
                                           .n = q,
                                           .k = r,
                                           .a = { gated, r, false },
                                           .b = { *down, q, false },
                                           .c = *dropped,
                                           .c_leading = q,
                                           .workspace = rest,
                                           .label = run->name },
                       error));
    SORA_TRY(sora_dropout_apply(run, attributes_of(run->attributes)->dropout, dropped, dx, true, error));
cleanup:
    return status;
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *t = &run->saved[0], *gradients = run->input_gradients;
    int64_t m = t->shape.dim[0], q = run->inputs[WEIGHT].shape.dim[1], r = t->shape.dim[1];
    sora_view workspace = run->workspace, dy, branch = *x, dropped = { 0 };
    layer layers[SORA_ADAPTED_MODULES];
    int count = layers_of(run, layers);
    SORA_TRY(sora_linear_arriving(run, a->relu, &a->behind_relu, &workspace, &dy, error));
    if (sora_adapted_drops(run)) dropped = sora_adapted_take(&workspace, x->shape);
    sora_view dt = sora_adapted_take(&workspace, SORA_SHAPE(m, r));
    for (int i = 0; i < count; i++)
        if (layers[i].rank > 0) SORA_TRY(outer_gradients(run, &layers[i], &dy, &dt, &workspace, error));
    if (gradients[DOWN].memory) {
        if (sora_adapted_drops(run)) {
            SORA_TRY(sora_dropout_apply(run, a->dropout, x, &dropped, false, error));
            branch = dropped;
        }
        SORA_TRY(sora_narrow(run->context,
                             &(sora_narrow_desc) { .m = m,
                                                   .n = q,
                                                   .rank = r,
                                                   .x = branch,
                                                   .x_leading = sora_linear_leading(&branch, q),
                                                   .s = dt,
                                                   .s_leading = r,
                                                   .row_scale = run->inputs[GATE],
                                                   .gradient = gradients[DOWN],
                                                   .accumulate = true,
                                                   .workspace = workspace,
                                                   .label = run->name },
                             error));
    }
    if (gradients[X].memory) SORA_TRY(input_gradient(run, &dy, &dt, &dropped, &workspace, error));
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
