/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

/* factor * dy where the ReLU and its dropout let it pass; may stand in dy's memory. */
__kernel void linear_mask(__global const float *restrict y, ulong y_at, __global const float *dy, ulong dy_at, __global float *masked, ulong masked_at,
                          long y_stride, long dy_stride, long masked_stride, long p, float factor)
{
    long row = (long)get_global_id(1);
    EACH(i, p) masked[masked_at + row * masked_stride + i] = y[y_at + row * y_stride + i] > 0.0f ? factor * dy[dy_at + row * dy_stride + i] : 0.0f;
}

/* db += column sums, rows in order. */
__kernel void linear_bias(__global const float *restrict dy, ulong dy_at, __global float *restrict gradient, ulong gradient_at, long stride, int rows, long p)
{
    EACH(i, p)
    {
        float sum = 0.0f;
        for (int r = 0; r < rows; r++) sum += dy[dy_at + r * stride + i];
        gradient[gradient_at + i] += sum;
    }
}
