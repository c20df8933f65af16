/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "sum.h"

__kernel void parts(__global const float *restrict x, ulong x_at, __global const float *restrict target, ulong target_at, __global float *restrict partial,
                        ulong partial_at, long x_stride, long target_stride, long n, long parts)
{
    long p = (long)get_global_id(0), row = (long)get_global_id(1);
    float sum;
    x += x_at + row * x_stride;
    target += target_at + row * target_stride;
    SUM_PART(sum, PART_FIRST(n, parts, p), PART_LAST(n, parts, p), i, (x[i] - target[i]) * (x[i] - target[i]));
    partial[partial_at + row * parts + p] = sum;
}

__kernel void total(__global const float *restrict partial, ulong partial_at, __global float *restrict loss, ulong loss_at, long parts, float factor)
{
    float sum;
    partial += partial_at;
    SUM_PART(sum, 0, parts, i, partial[i]);
    loss[loss_at] = sum * factor;
}

__kernel void backward(__global const float *restrict x, ulong x_at, __global const float *restrict target, ulong target_at,
                           __global const float *restrict dy, ulong dy_at, __global float *restrict dx, ulong dx_at, long x_stride, long target_stride,
                           long dx_stride, long n, float factor)
{
    long row = (long)get_global_id(1);
    float scale = 2.0f * dy[dy_at] * factor;
    x += x_at + row * x_stride;
    target += target_at + row * target_stride;
    dx += dx_at + row * dx_stride;
    EACH(i, n) dx[i] = scale * (x[i] - target[i]);
}
