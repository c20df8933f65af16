/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "vector.h"
#include "exp.h"

__kernel void forward(__global const float *x, ulong x_at, __global float *y, ulong y_at, long x_stride, long y_stride, int n)
{
    x += x_at + (long)get_global_id(2) * x_stride;
    y += y_at + (long)get_global_id(2) * y_stride;
    EACH(tile, (n + XV - 1) / XV)
    {
        /* exp of a negative number only: no overflow on either side. */
        floatx v = load_within(x, (int)tile * XV, n), e = EXPX(-fabs(v));
        floatx s = select((floatx)1.0f, e, isless(v, (floatx)0.0f)) / (1.0f + e);
        store_within(select(s, v, isnan(v)), y, (int)tile * XV, n);
    }
}

__kernel void backward(__global const float *y, ulong y_at, __global const float *dy, ulong dy_at, __global float *dx, ulong dx_at, long y_stride,
                       long dy_stride, long dx_stride, int n)
{
    y += y_at + (long)get_global_id(2) * y_stride;
    dy += dy_at + (long)get_global_id(2) * dy_stride;
    dx += dx_at + (long)get_global_id(2) * dx_stride;
    EACH(i, n) dx[i] = dy[i] * y[i] * (1.0f - y[i]);
}
