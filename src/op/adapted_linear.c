/* SPDX-License-Identifier: Apache-2.0 */
#include "op/adapted.h"
#include "op/dropout.h"
#include "op/linear.h"
#include "op/narrow.h"
#include "op/ops.h"
#include "op/range.h"

#include <string.h>

enum { X, WEIGHT, BIAS, DOWN, UP, GATE };
enum { T, OWN, PANELS };

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

/* The columns of a panel of B2 with n columns; where there are no panels, all. */
static int64_t panel_of(const sora_device_limits *limits, int64_t n)
{
    int panel = sora_gemm_panel(limits, n);
    return panel ? panel : n;
}

static uint64_t panel_elements(const sora_device_limits *limits, int64_t n, int64_t r)
{
    return sora_gemm_panel_elements((int)panel_of(limits, n), n, r);
}

/* B2 as take_factors leaves it. */
static sora_gemm_operand factor_operand(const sora_device_limits *limits, const sora_view *view, int64_t n)
{
    return (sora_gemm_operand) { .view = *view, .leading = n, .panel = sora_gemm_panel(limits, n) };
}

/* The most parts that sums over rows come in. */
static int64_t most_parts(const sora_device_limits *limits, const sora_adapted_attributes *a, int64_t m)
{
    int64_t passed = SORA_MAX(sora_narrow_parts(limits, m), sora_gemm_pass_parts_most(limits, m));
    return a->before.masks ? SORA_MAX(passed, sora_gemm_sums_most(m)) : passed;
}

/* Saved: t, and of the factors what the way back takes (kernels/adapted_linear.cl): U, and the down factor's panels where there
 * are such. Scratch in the order it is taken. Forward: U as blocks, dropped x, t (evaluation). Backward: dy behind the ReLU,
 * dropped x, dt, parts of sums, then what products take. */
static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_adapted_attributes *a = attributes_of(rule->attributes);
    sora_status status = sora_linear_check(rule, error);
    if (status == SORA_OK) status = check_factors(rule, error);
    if (status != SORA_OK) return status;
    int64_t p = rule->inputs[WEIGHT].dim[0], q = rule->inputs[WEIGHT].dim[1], r = rule->inputs[DOWN].dim[0],
            m = sora_linear_rows(&rule->outputs[0], p);
    const sora_device_limits *l = rule->limits;
    uint64_t dropped = a->dropout > 0.0f ? (uint64_t)(m * q) : 0, t = (uint64_t)(m * r),
             factors = (uint64_t)sora_shape_elements(&rule->inputs[UP]);
    uint64_t forward = SORA_MAX(sora_gemm_workspace(l, p, q), sora_narrow_workspace(l, m, q, r));
    uint64_t parts = (uint64_t)most_parts(l, a, m) * (factors + (uint64_t)(r * q));
    uint64_t data = SORA_MAX(sora_gemm_workspace(l, q, p), sora_gemm_workspace(l, q, r));
    uint64_t passes = SORA_MAX(sora_narrow_workspace(l, m, q, r), sora_narrow_workspace(l, m, p, r));
    if (rule->training) {
        rule->saved[T] = SORA_SHAPE(m, r);
        rule->saved[OWN] = SORA_SHAPE((int64_t)factors);
        if (sora_gemm_panel(l, q)) rule->saved[PANELS] = SORA_SHAPE((int64_t)panel_elements(l, q, r));
    }
    bool copies = sora_linear_copies(a->relu, &a->behind_relu);
    if (!copies) rule->uses_outputs = 0;
    rule->forward_workspace = panel_elements(l, p, r) + dropped + (rule->training ? 0 : t) + forward;
    rule->backward_workspace = (copies ? (uint64_t)(m * p) : 0) + dropped + t + parts + SORA_MAX(passes, data);
    return SORA_OK;
}

typedef struct layers {
    int count;
    sora_narrow_layer of[SORA_ADAPTED_MODULES];
    float scales[SORA_ADAPTED_MODULES];
} layers;

static layers layers_of(const sora_op_run *run)
{
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    layers all = { 1, { { run->inputs[WEIGHT].shape.dim[0], run->inputs[DOWN].shape.dim[0] } }, { a->scale } };
    if (!is_packed(a)) return all;
    all.count = a->modules;
    for (int i = 0; i < a->modules; i++) {
        all.of[i] = (sora_narrow_layer) { a->outputs[i], a->ranks[i] };
        all.scales[i] = a->scales[i];
    }
    return all;
}

#define LAYER_ARGUMENTS(l) \
    SORA_NARROW_LAYERS((l).count, (l).of), SORA_FLOAT4((l).scales[0], (l).scales[1], (l).scales[2], (l).scales[3])
_Static_assert(SORA_ADAPTED_MODULES == 4 && SORA_GEMM_BLOCKS == 4, "kernels take four layers");

/* Factors as products take them, into `blocks`, of panel_elements, and in training into what is saved for the way back. */
static sora_status take_factors(const sora_op_run *run, const sora_view *blocks, sora_error *error)
{
    const sora_device_limits *limits = &sora_context_device(run->context)->limits;
    static const sora_view none = { 0 };
    const sora_view *up = &run->inputs[UP], *down = &run->inputs[DOWN], *gate = &run->inputs[GATE];
    const sora_view *own = run->training ? &run->saved[OWN] : &none, *panels = run->training ? &run->saved[PANELS] : &none;
    int64_t p = run->inputs[WEIGHT].shape.dim[0], q = down->shape.dim[1], r = down->shape.dim[0];
    layers l = layers_of(run);
    return sora_launch_range(
        run->context,
        (sora_launch_desc) {
            .file = "range",
            .kernel = "adapted_factors",
            .label = run->name,
            .arguments = SORA_ARGUMENTS(SORA_VIEW(up), SORA_VIEW(gate), SORA_VIEW(down), SORA_VIEW(own), SORA_VIEW(blocks),
                                        SORA_VIEW(panels), SORA_INT(p), SORA_INT(q), SORA_INT(r), SORA_INT(panel_of(limits, p)),
                                        SORA_INT(panel_of(limits, q)), SORA_INT(gate->memory != NULL),
                                        SORA_INT(own->memory != NULL), SORA_INT(panels->memory != NULL), LAYER_ARGUMENTS(l)) },
        (p + q) * r, 1, error);
}

/* Where U is not 0: each layer's outputs meet its own ranks. */
static sora_gemm_blocks blocks_of(const layers *l)
{
    sora_gemm_blocks blocks = { .count = l->count };
    for (int i = 0; i + 1 < l->count; i++) {
        blocks.columns[i] = l->of[i].columns + (i ? blocks.columns[i - 1] : 0);
        blocks.terms[i] = l->of[i].rank + (i ? blocks.terms[i - 1] : 0);
    }
    return blocks;
}

/* Over a matrix [m, columns] that meets all ranks. */
static sora_narrow_desc pass_over(const sora_op_run *run, const sora_view *x, int64_t columns, const sora_view *workspace)
{
    return (sora_narrow_desc) { .m = sora_linear_rows(&x->shape, columns),
                                .layer_count = 1,
                                .layers = { { columns, run->inputs[DOWN].shape.dim[0] } },
                                .x = *x,
                                .x_leading = sora_linear_leading(x, columns),
                                .workspace = *workspace,
                                .label = run->name };
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    layers l = layers_of(run);
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    const sora_device_limits *limits = &sora_context_device(run->context)->limits;
    const sora_view *x = &run->inputs[X], *w = &run->inputs[WEIGHT], *y = &run->outputs[0];
    int64_t p = w->shape.dim[0], q = w->shape.dim[1], r = run->inputs[DOWN].shape.dim[0], m = sora_linear_rows(&x->shape, q),
            leading = sora_linear_leading(x, q);
    sora_view workspace = run->workspace, branch = *x;
    sora_view blocks = sora_adapted_take(&workspace, SORA_SHAPE((int64_t)panel_elements(limits, p, r)));
    if (sora_adapted_drops(run)) {
        branch = sora_adapted_take(&workspace, x->shape);
        SORA_TRY(sora_dropout_apply(run, a->dropout, x, &branch, false, error));
    }
    sora_view t = run->training ? run->saved[T] : sora_adapted_take(&workspace, SORA_SHAPE(m, r));
    SORA_TRY(take_factors(run, &blocks, error));
    sora_narrow_desc pass = pass_over(run, &branch, q, &workspace);
    pass.factor = run->inputs[DOWN];
    pass.t = t;
    sora_gemm_desc base = { .m = m,
                            .n = p,
                            .k = q,
                            .a = { *x, leading, .zeros = a->before.zeros },
                            .b = sora_linear_weight(w),
                            .k2 = r,
                            .a2 = { t, r },
                            .b2 = factor_operand(limits, &blocks, p),
                            .blocks2 = blocks_of(&l),
                            .bias = run->inputs[BIAS],
                            .relu = a->relu,
                            .c = *y,
                            .c_leading = sora_linear_leading(y, p),
                            .workspace = workspace,
                            .label = run->name };
    sora_gemm_variant variant = sora_gemm_choose(run->context, &base);
    base.variant = &variant;
    if (!sora_adapted_drops(run) && sora_gemm_pass_parts(limits, &variant, &base))
        base.passes.before = &pass;
    else
        SORA_TRY(sora_narrow(run->context, &pass, error));
    SORA_TRY(sora_gemm(run->context, &base, error));
    SORA_TRY(sora_linear_thin(run, &a->behind_relu, error));
cleanup:
    return status;
}

/* The passes of the way back, with parts of sums over rows that make gradients: dt = dy Uᵀ and tᵀdy of each layer, and dtᵀx. */
typedef struct passes {
    sora_narrow_desc of_dy, of_x;
    int64_t dy_parts, x_parts;
    bool wants_down;
} passes;

/* dy W0, to which more may be added. */
static sora_gemm_desc product_back(const sora_op_run *run, const sora_view *dy, const sora_view *workspace)
{
    const sora_view *w = &run->inputs[WEIGHT], *dx = &run->input_gradients[X];
    int64_t p = w->shape.dim[0], q = w->shape.dim[1];
    return (sora_gemm_desc) { .m = sora_linear_rows(&dx->shape, q),
                              .n = q,
                              .k = p,
                              .a = { *dy, sora_linear_leading(dy, p), .zeros = attributes_of(run->attributes)->relu },
                              .b = sora_linear_weight_back(w),
                              .c = *dx,
                              .c_leading = sora_linear_leading(dx, q),
                              .workspace = *workspace,
                              .label = run->name };
}

/* W_d as B of dx's second product. */
static sora_gemm_operand down_operand(const sora_op_run *run)
{
    const sora_view *down = &run->inputs[DOWN];
    return factor_operand(&sora_context_device(run->context)->limits, run->saved[PANELS].memory ? &run->saved[PANELS] : down,
                          down->shape.dim[1]);
}

/* dx = dy W0 + dt W_d, and the passes, which ride on that product where they can. */
static sora_status pass_back(const sora_op_run *run, const sora_view *dy, passes *all, const sora_view *workspace,
                             sora_error *error)
{
    sora_status status = SORA_OK;
    int64_t r = run->inputs[DOWN].shape.dim[0];
    sora_gemm_desc product = product_back(run, dy, workspace);
    product.k2 = r;
    product.a2 = (sora_gemm_operand) { .view = all->of_dy.t, .leading = r };
    product.b2 = down_operand(run);
    sora_linear_before(run, &attributes_of(run->attributes)->before, &product);
    sora_gemm_variant variant = sora_gemm_choose(run->context, &product);
    product.variant = &variant;
    int64_t riding = sora_gemm_pass_parts(&sora_context_device(run->context)->limits, &variant, &product),
            sums = sora_gemm_sums_parts(&variant, product.m);
    if (riding) {
        product.passes.before = &all->of_dy;
        all->dy_parts = riding;
    } else {
        SORA_TRY(sora_narrow(run->context, &all->of_dy, error));
    }
    if (all->wants_down && riding) {
        product.passes.after = &all->of_x;
        all->x_parts = riding;
    } else if (all->wants_down && sums) {
        product.sums = (sora_gemm_sums) { .rank = r, .left = all->of_x.s, .parts = all->of_x.parts };
        all->x_parts = sums;
    }
    SORA_TRY(sora_gemm(run->context, &product, error));
    if (all->wants_down && !riding && !sums) SORA_TRY(sora_narrow(run->context, &all->of_x, error));
cleanup:
    return status;
}

/* The same with dropout, which dt W_d goes through: its own way. */
static sora_status pass_back_dropped(const sora_op_run *run, const sora_view *dy, passes *all, const sora_view *workspace,
                                     sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *dx = &run->input_gradients[X], *dropped = &all->of_x.x;
    SORA_TRY(sora_narrow(run->context, &all->of_dy, error));
    if (dx->memory) {
        sora_gemm_desc product = product_back(run, dy, workspace);
        SORA_TRY(sora_gemm(run->context, &product, error));
        product.k = all->of_x.layers[0].rank;
        product.a = (sora_gemm_operand) { .view = all->of_dy.t, .leading = product.k };
        product.b = down_operand(run);
        product.c = *dropped;
        product.c_leading = product.n;
        SORA_TRY(sora_gemm(run->context, &product, error));
        SORA_TRY(sora_dropout_apply(run, a->dropout, dropped, dx, true, error));
        if (a->before.masks) SORA_TRY(sora_linear_mask(run, x, a->before.probability, dx, dx, error));
    }
    if (all->wants_down) {
        SORA_TRY(sora_dropout_apply(run, a->dropout, x, dropped, false, error));
        SORA_TRY(sora_narrow(run->context, &all->of_x, error));
    }
cleanup:
    return status;
}

static sora_status add_gradients(const sora_op_run *run, const layers *l, const passes *all, sora_error *error)
{
    const sora_view *up = &run->inputs[UP], *gate = &run->inputs[GATE], *gradients = run->input_gradients;
    int64_t r = run->saved[T].shape.dim[1], q = run->inputs[WEIGHT].shape.dim[1], longest = q, runs = 0;
    for (int i = 0; i < l->count; i++) {
        longest = SORA_MAX(longest, l->of[i].columns);
        runs += (l->of[i].rank + SORA_ADAPTED_SIDE - 1) / SORA_ADAPTED_SIDE;
    }
    sora_launch_desc desc = { .file = "range",
                              .kernel = "adapted_gradients",
                              .options = sora_range_options(run->context),
                              .global = { 1, (size_t)(2 * runs) },
                              .label = run->name,
                              .arguments =
                                  SORA_ARGUMENTS(SORA_VIEW(&all->of_dy.parts), SORA_VIEW(&all->of_x.parts), SORA_VIEW(up),
                                                 SORA_VIEW(gate), SORA_VIEW(&gradients[UP]), SORA_VIEW(&gradients[GATE]),
                                                 SORA_VIEW(&gradients[DOWN]), SORA_INT(all->dy_parts), SORA_INT(all->x_parts),
                                                 SORA_INT(q), SORA_INT(r), SORA_INT(gate->memory != NULL),
                                                 SORA_INT(gradients[UP].memory != NULL), SORA_INT(gradients[GATE].memory != NULL),
                                                 SORA_INT(gradients[DOWN].memory != NULL), LAYER_ARGUMENTS(*l)) };
    if (!sora_is_cpu(run->context)) {
        desc.local[0] = SORA_RANGE_GPU_GROUP;
        desc.global[0] = (size_t)((longest + SORA_RANGE_GPU_GROUP - 1) / SORA_RANGE_GPU_GROUP * SORA_RANGE_GPU_GROUP);
    }
    return sora_launch(run->context, &desc, error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    static const sora_view none = { 0 };
    const sora_adapted_attributes *a = attributes_of(run->attributes);
    const sora_device_limits *limits = &sora_context_device(run->context)->limits;
    const sora_view *x = &run->inputs[X], *t = &run->saved[T], *gradients = run->input_gradients;
    int64_t m = t->shape.dim[0], p = run->inputs[WEIGHT].shape.dim[0], q = run->inputs[WEIGHT].shape.dim[1], r = t->shape.dim[1];
    sora_view workspace = run->workspace, dy, branch = *x;
    layers l = layers_of(run);
    SORA_TRY(sora_linear_arriving(run, a->relu, &a->behind_relu, &workspace, &dy, error));
    if (sora_adapted_drops(run)) branch = sora_adapted_take(&workspace, x->shape);
    sora_view dt = sora_adapted_take(&workspace, SORA_SHAPE(m, r));
    sora_view up_parts =
        sora_adapted_take(&workspace, SORA_SHAPE(most_parts(limits, a, m), sora_shape_elements(&run->inputs[UP].shape)));
    sora_view down_parts = sora_adapted_take(&workspace, SORA_SHAPE(most_parts(limits, a, m), r * q));
    passes all = { .of_dy = pass_over(run, &dy, p, &workspace),
                   .of_x = pass_over(run, &branch, q, &workspace),
                   .dy_parts = sora_narrow_parts(limits, m),
                   .x_parts = sora_narrow_parts(limits, m),
                   .wants_down = gradients[DOWN].memory };
    all.of_dy.layer_count = l.count;
    memcpy(all.of_dy.layers, l.of, sizeof l.of);
    all.of_dy.factor = run->saved[OWN];
    all.of_dy.t = dt;
    all.of_dy.s = gradients[UP].memory || gradients[GATE].memory ? *t : none;
    all.of_dy.parts = up_parts;
    all.of_x.s = dt;
    all.of_x.parts = down_parts;
    if (sora_adapted_drops(run)) {
        SORA_TRY(pass_back_dropped(run, &dy, &all, &workspace, error));
    } else if (gradients[X].memory) {
        SORA_TRY(pass_back(run, &dy, &all, &workspace, error));
    } else {
        SORA_TRY(sora_narrow(run->context, &all.of_dy, error));
        if (all.wants_down) SORA_TRY(sora_narrow(run->context, &all.of_x, error));
    }
    SORA_TRY(add_gradients(run, &l, &all, error));
cleanup:
    return status;
}

const sora_op sora_op_adapted_linear = { .name = "adapted_linear",
                                         .parameters = 1 << WEIGHT | 1 << BIAS | 1 << DOWN | 1 << UP | 1 << GATE,
                                         .differentiable = 1 << X | 1 << DOWN | 1 << UP | 1 << GATE,
                                         .uses_inputs = 0x3b,
                                         .uses_outputs = 1,
                                         .random = true,
                                         .dense = 1 << 3, /* n · t rows: one distance between all of them */
                                         .infer = infer,
                                         .forward = forward,
                                         .backward = backward };
