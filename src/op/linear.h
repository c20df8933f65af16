/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_LINEAR_H
#define SORA_OP_LINEAR_H

#include "op/gemm.h"
#include "op/ops.h"

/* What linear and adapted_linear share (in linear.c). */

/* A tensor as a matrix of `columns` columns: its rows, and the elements between them. */
int64_t sora_linear_rows(const sora_shape *shape, int64_t columns);
int64_t sora_linear_leading(const sora_view *view, int64_t columns);

/* A weight [p, q], as it is or in panels, as B of y = x Wᵀ and of dx = dy W. */
sora_gemm_operand sora_linear_weight(const sora_view *weight);
sora_gemm_operand sora_linear_weight_back(const sora_view *weight);

/* dx = dy W as a ReLU before x has it. */
void sora_linear_before(const sora_op_run *run, const sora_relu_before *before, sora_gemm_desc *desc);

/* Shapes of x, weight and bias (inputs 0 to 2); y [m, p] or [n, t, p] into outputs[0]. */
sora_status sora_linear_check(sora_op_shape_rule *rule, sora_error *error);

/* Dropout behind the ReLU, of output 0 in its place, in training. */
sora_status sora_linear_thin(const sora_op_run *run, const sora_relu_dropout *dropout, sora_error *error);

/* out = what a ReLU with output y, and a dropout behind it, let pass of a gradient; out may be where that is. */
sora_status sora_linear_mask(const sora_op_run *run, const sora_view *y, float probability, const sora_view *gradient,
                             const sora_view *out, sora_error *error);

/* Whether dy has to be masked first, and dy as the way back takes it: then a copy at the start of `workspace`, m · p elements,
 * which moves on by as much. */
bool sora_linear_copies(bool relu, const sora_relu_dropout *dropout);
sora_status sora_linear_arriving(const sora_op_run *run, bool relu, const sora_relu_dropout *dropout, sora_view *workspace,
                                 sora_view *out, sora_error *error);

#endif
