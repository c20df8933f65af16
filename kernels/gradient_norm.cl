/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "sum.h"
#include "group.h"

__kernel void norm_squares(__global const float *restrict gradient, ulong gradient_at, __global float *restrict partial, ulong partial_at, long n, long parts)
{
    GROUP_MEMORY;
    long p = GROUP_ID;
    float sum;
    gradient += gradient_at;
    GROUP_SUM(sum, PART_FIRST(n, parts, p), PART_LAST(n, parts, p), i, gradient[i] * gradient[i]);
    if (GROUP_ITEM == 0) partial[partial_at + p] = sum;
}

/* control = (factor, finite so far, norm); see op/update.h. */
__kernel void norm_control(__global const float *restrict partial, ulong partial_at, __global const float *restrict loss, ulong loss_at,
                           __global float *restrict control, ulong control_at, long parts, float clip, float scale)
{
    GROUP_MEMORY;
    float sum;
    partial += partial_at;
    control += control_at;
    GROUP_SUM(sum, 0, parts, i, partial[i]);
    if (GROUP_ITEM != 0) return;
    float norm = scale * sqrt(sum);
    if (!isfinite(norm) || !isfinite(loss[loss_at])) control[1] = 0.0f;
    /* PyTorch's clip_grad_norm_: the small constant keeps the quotient below 1. */
    control[0] = scale * (clip > 0.0f ? fmin(1.0f, clip / (norm + 1e-6f)) : 1.0f);
    control[2] = norm;
}
