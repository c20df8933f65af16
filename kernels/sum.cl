/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "sum.h"

__kernel void sum_parts(__global const float *restrict x, ulong x_at, __global float *restrict part, ulong part_at, long stride, long n, long parts)
{
    long p = (long)get_global_id(0), row = (long)get_global_id(1);
    float sum;
    x += x_at + row * stride;
    SUM_PART(sum, PART_FIRST(n, parts, p), PART_LAST(n, parts, p), i, x[i]);
    part[part_at + row * parts + p] = sum;
}

__kernel void sum_total(__global const float *restrict part, ulong part_at, __global float *restrict y, ulong y_at, long parts, float factor)
{
    float sum;
    part += part_at;
    SUM_PART(sum, 0, parts, i, part[i]);
    y[y_at] = sum * factor;
}

__kernel void sum_backward(__global const float *restrict dy, ulong dy_at, __global float *restrict dx, ulong dx_at, long stride, long n, float factor)
{
    float value = dy[dy_at] * factor;
    dx += dx_at + (long)get_global_id(1) * stride;
    EACH(i, n) dx[i] = value;
}
