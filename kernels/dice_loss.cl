/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "sum.h"

/* A = sum p t, B = sum p^2 + t^2 over the whole batch; loss = 1 - (2 A + 1) / (B + 1). */
__kernel void dice_parts(__global const float *restrict p, ulong p_at, __global const float *restrict target, ulong target_at, __global float *restrict partial,
                         ulong partial_at, long p_stride, long target_stride, long n, long parts)
{
    long part = (long)get_global_id(0), row = (long)get_global_id(1), first = PART_FIRST(n, parts, part), last = PART_LAST(n, parts, part);
    float both, squares;
    p += p_at + row * p_stride;
    target += target_at + row * target_stride;
    SUM_PAIR(both, squares, first, last, i, v = p[i], v * target[i], v * v + target[i] * target[i]);
    partial += partial_at + 2 * (row * parts + part);
    partial[0] = both;
    partial[1] = squares;
}

__kernel void dice_total(__global const float *restrict partial, ulong partial_at, __global float *restrict sums, ulong sums_at, __global float *restrict loss,
                         ulong loss_at, long parts)
{
    float both, squares;
    partial += partial_at;
    SUM_PART(both, 0, parts, i, partial[2 * i]);
    SUM_PART(squares, 0, parts, i, partial[2 * i + 1]);
    sums[sums_at] = both;
    sums[sums_at + 1] = squares;
    loss[loss_at] = 1.0f - (2.0f * both + 1.0f) / (squares + 1.0f);
}

/* dL/dp = (2 p (2 A + 1) - 2 t (B + 1)) / (B + 1)^2 */
__kernel void dice_backward(__global const float *restrict p, ulong p_at, __global const float *restrict target, ulong target_at,
                            __global const float *restrict sums, ulong sums_at, __global const float *restrict dy, ulong dy_at, __global float *restrict dx,
                            ulong dx_at, long p_stride, long target_stride, long dx_stride, long n)
{
    long row = (long)get_global_id(1);
    float below = sums[sums_at + 1] + 1.0f, of_p = dy[dy_at] * 2.0f * (2.0f * sums[sums_at] + 1.0f) / (below * below), of_t = dy[dy_at] * 2.0f / below;
    p += p_at + row * p_stride;
    target += target_at + row * target_stride;
    dx += dx_at + row * dx_stride;
    EACH(i, n) dx[i] = p[i] * of_p - target[i] * of_t;
}
