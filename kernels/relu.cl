/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

__kernel void forward(__global const float *x, ulong x_at, __global float *y, ulong y_at, long x_stride, long y_stride, int n)
{
    long row = (long)get_global_id(2);
    x += x_at + row * x_stride;
    y += y_at + row * y_stride;
    EACH(i, n)
    {
        float v = x[i];
        y[i] = v < 0.0f ? 0.0f : v; /* NaN stays */
    }
}

__kernel void backward(__global const float *y, ulong y_at, __global const float *dy, ulong dy_at, __global float *dx, ulong dx_at, long y_stride,
                            long dy_stride, long dx_stride, int n)
{
    long row = (long)get_global_id(2);
    y += y_at + row * y_stride;
    dy += dy_at + row * dy_stride;
    dx += dx_at + row * dx_stride;
    EACH(i, n) dx[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}
