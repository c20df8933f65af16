/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_ADAPTED_H
#define SORA_OP_ADAPTED_H

#include "op/ops.h"
#include "op/range.h"

/* What adapted_linear and adapted_conv2d share. */

static inline bool sora_adapted_drops(const sora_op_run *run)
{
    return run->training && ((const sora_adapted_attributes *)run->attributes)->dropout > 0.0f;
}

/* A dense tensor from the front of a workspace, which moves on. */
static inline sora_view sora_adapted_take(sora_view *from, sora_shape shape)
{
    sora_view part = *from;
    part.shape = shape;
    part.stride = sora_view_inner(&part);
    from->offset += (uint64_t)sora_shape_elements(&shape);
    return part;
}

/* Gradients of W_u [p, r] and g from a product whose element (o, j) stands at o · row + j · column: scale · product = s · Σ_rows
 * dy tᵀ, ungated (kernels/adapted.h). */
static inline sora_status sora_adapted_up_total(const sora_op_run *run, const sora_view *product, int64_t row, int64_t column,
                                                float scale, const sora_view *up, const sora_view *gate,
                                                const sora_view *up_gradient, const sora_view *gate_gradient, sora_error *error)
{
    sora_launch_desc desc = { .file = "range",
                              .kernel = "adapted_up_total",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(
                                  SORA_VIEW(product), SORA_VIEW(up), SORA_VIEW(gate), SORA_VIEW(up_gradient),
                                  SORA_VIEW(gate_gradient), SORA_INT(up->shape.dim[0]), SORA_LONG(up->shape.dim[1]),
                                  SORA_LONG(row), SORA_LONG(column), SORA_FLOAT(scale), SORA_INT(gate->memory != NULL),
                                  SORA_INT(up_gradient->memory != NULL), SORA_INT(gate_gradient->memory != NULL)) };
    return sora_launch_range(run->context, desc, up->shape.dim[1], 1, error);
}

#endif
