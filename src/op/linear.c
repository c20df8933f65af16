/* SPDX-License-Identifier: Apache-2.0 */
#include "op/linear.h"

#include "op/dropout.h"
#include "op/ops.h"
#include "op/range.h"

enum { X, WEIGHT, BIAS };

int64_t sora_linear_rows(const sora_shape *shape, int64_t columns)
{
    return sora_shape_elements(shape) / columns;
}

int64_t sora_linear_leading(const sora_view *view, int64_t columns)
{
    return sora_view_inner(view) == columns ? view->stride : columns;
}

sora_gemm_operand sora_linear_weight(const sora_view *weight)
{
    return (sora_gemm_operand) { .view = *weight, .leading = weight->shape.dim[1], .transposed = true, .panel = weight->panel };
}

sora_gemm_operand sora_linear_weight_back(const sora_view *weight)
{
    return (sora_gemm_operand) {
        .view = *weight, .leading = weight->shape.dim[1], .panel = weight->panel, .turned = weight->panel && !weight->back
    };
}

void sora_linear_before(const sora_op_run *run, const sora_relu_before *before, sora_gemm_desc *desc)
{
    const sora_view *x = &run->inputs[X], *weight = &run->inputs[WEIGHT];
    if (!before->masks) return;
    desc->alpha = sora_dropout_key_of(run, before->probability).factor;
    desc->wanted = *x;
    desc->wanted_leading = sora_linear_leading(x, desc->n);
    desc->has_bt = weight->back;
    desc->bt = *weight;
    desc->bt.offset = weight->front;
}

sora_status sora_linear_check(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *x = &rule->inputs[X], *w = &rule->inputs[WEIGHT], *b = &rule->inputs[BIAS];
    char input[80], weight[80];
    bool sequence = x->rank == 3 && w->rank == 2 && x->dim[2] == w->dim[1];
    int64_t q = sequence ? x->dim[2] : x->rank >= 2 ? sora_shape_elements(x) / x->dim[0] : 0;
    if (w->rank != 2 || q != w->dim[1] || (b->rank && (b->rank != 1 || b->dim[0] != w->dim[0])))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s, weight %s; expected [m, q], [p, q] and a bias of p",
                         sora_shape_text(x, input), sora_shape_text(w, weight));
    rule->output_count = 1;
    rule->outputs[0] = sequence ? SORA_SHAPE(x->dim[0], x->dim[1], w->dim[0]) : SORA_SHAPE(x->dim[0], w->dim[0]);
    return SORA_OK;
}

sora_status sora_linear_thin(const sora_op_run *run, const sora_relu_dropout *dropout, sora_error *error)
{
    sora_op_run same = *run;
    same.stream = dropout->stream;
    if (!run->training || dropout->probability == 0.0f) return SORA_OK;
    return sora_dropout_apply(&same, dropout->probability, &run->outputs[0], &run->outputs[0], false, error);
}

sora_status sora_linear_mask(const sora_op_run *run, const sora_view *y, float probability, const sora_view *gradient,
                             const sora_view *out, sora_error *error)
{
    int64_t p = sora_view_inner(gradient);
    float factor = sora_dropout_key_of(run, probability).factor;
    sora_launch_desc desc = { .file = "range",
                              .kernel = "linear_mask",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(y), SORA_VIEW(gradient), SORA_VIEW(out), SORA_LONG(y->stride),
                                                          SORA_LONG(gradient->stride), SORA_LONG(out->stride), SORA_LONG(p),
                                                          SORA_FLOAT(factor)) };
    return sora_launch_range(run->context, desc, p, gradient->shape.dim[0], error);
}

bool sora_linear_copies(bool relu, const sora_relu_dropout *dropout)
{
    return relu && !dropout->masked;
}

sora_status sora_linear_arriving(const sora_op_run *run, bool relu, const sora_relu_dropout *dropout, sora_view *workspace,
                                 sora_view *out, sora_error *error)
{
    const sora_view *dy = &run->output_gradients[0];
    *out = *dy;
    if (!sora_linear_copies(relu, dropout)) return SORA_OK;
    out->memory = workspace->memory;
    out->offset = workspace->offset;
    out->stride = sora_view_inner(dy);
    workspace->offset += (uint64_t)sora_view_elements(dy);
    return sora_linear_mask(run, &run->outputs[0], dropout->probability, dy, out, error);
}

static const sora_linear_attributes *attributes_of(const void *attributes)
{
    return attributes;
}

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    sora_status status = sora_linear_check(rule, error);
    if (status != SORA_OK) return status;
    int64_t p = rule->inputs[WEIGHT].dim[0], q = rule->inputs[WEIGHT].dim[1], m = sora_linear_rows(&rule->outputs[0], p);
    const sora_linear_attributes *a = attributes_of(rule->attributes);
    bool copies = sora_linear_copies(a->relu, &a->behind_relu);
    int64_t columns = a->before.zeros ? SORA_MAX(p, q) : q;
    uint64_t largest = SORA_MAX(sora_gemm_workspace(rule->limits, columns, m), sora_gemm_workspace(rule->limits, q, p));
    rule->forward_workspace = sora_gemm_workspace(rule->limits, p, q);
    if (!copies) rule->uses_outputs = 0;
    rule->backward_workspace = largest + (copies ? (uint64_t)(m * p) : 0);
    return SORA_OK;
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_linear_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *w = &run->inputs[WEIGHT], *y = &run->outputs[0];
    int64_t p = w->shape.dim[0], q = w->shape.dim[1];
    SORA_TRY(sora_gemm(run->context,
                       &(sora_gemm_desc) { .m = sora_linear_rows(&x->shape, q),
                                           .n = p,
                                           .k = q,
                                           .a = { *x, sora_linear_leading(x, q), .zeros = a->before.zeros },
                                           .b = sora_linear_weight(w),
                                           .bias = run->input_count > BIAS ? run->inputs[BIAS] : (sora_view) { 0 },
                                           .relu = a->relu,
                                           .c = *y,
                                           .c_leading = sora_linear_leading(y, p),
                                           .workspace = run->workspace,
                                           .label = run->name },
                       error));
    SORA_TRY(sora_linear_thin(run, &a->behind_relu, error));
cleanup:
    return status;
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_linear_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *w = &run->inputs[WEIGHT], *gradients = run->input_gradients;
    sora_view workspace = run->workspace, dy;
    int64_t p = w->shape.dim[0], q = w->shape.dim[1], m = sora_linear_rows(&run->output_gradients[0].shape, p);
    SORA_TRY(sora_linear_arriving(run, a->relu, &a->behind_relu, &workspace, &dy, error));
    if (gradients[WEIGHT].memory)
        SORA_TRY(sora_gemm(run->context,
                           &(sora_gemm_desc) { .m = p,
                                               .n = q,
                                               .k = m,
                                               .a = { dy, sora_linear_leading(&dy, p), .transposed = true, .zeros = a->relu },
                                               .b = { *x, sora_linear_leading(x, q), .zeros = a->before.zeros },
                                               .accumulate = true,
                                               .c = gradients[WEIGHT],
                                               .c_leading = q,
                                               .workspace = workspace,
                                               .label = run->name },
                           error));
    if (run->input_count > BIAS && gradients[BIAS].memory) {
        sora_launch_desc desc = { .file = "range",
                                  .kernel = "linear_bias",
                                  .label = run->name,
                                  .arguments =
                                      SORA_ARGUMENTS(SORA_VIEW(&dy), SORA_VIEW(&gradients[BIAS]),
                                                     SORA_LONG(sora_linear_leading(&dy, p)), SORA_INT(m), SORA_LONG(p)) };
        SORA_TRY(sora_launch_range(run->context, desc, p, 1, error));
    }
    if (gradients[X].memory) {
        sora_gemm_desc data = { .m = m,
                                .n = q,
                                .k = p,
                                .a = { dy, sora_linear_leading(&dy, p), .zeros = a->relu },
                                .b = sora_linear_weight_back(w),
                                .c = gradients[X],
                                .c_leading = sora_linear_leading(&gradients[X], q),
                                .workspace = workspace,
                                .label = run->name };
        sora_linear_before(run, &a->before, &data);
        SORA_TRY(sora_gemm(run->context, &data, error));
    }
cleanup:
    return status;
}

const sora_op sora_op_linear = { .name = "linear",
                                 .parameters = 1 << WEIGHT | 1 << BIAS,
                                 .differentiable = 1 << X | 1 << WEIGHT | 1 << BIAS,
                                 .uses_inputs = 1 << X | 1 << WEIGHT,
                                 .uses_outputs = 1,
                                 .random = true,
                                 .dense = 1 << 3, /* n · t rows: one distance between all of them */
                                 .infer = infer,
                                 .forward = forward,
                                 .backward = backward };
