/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_ADAPTED_H
#define SORA_OP_ADAPTED_H

#include "op/ops.h"

/* What adapted_linear and adapted_conv2d share. */

#define SORA_ADAPTED_SIDE 8 /* ranks of which one work-item makes gradients (kernels/adapted.h) */

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

#endif
