/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "vector.h"
#include "square.h"

/* Work-items: (runs of the n output pixels of a plane, channels, images). */
__kernel void pool_forward(__global const float *restrict x, ulong x_at, __global float *restrict y, ulong y_at, long x_stride, long y_stride, int height,
                           int width)
{
    int c = (int)get_global_id(1), out_width = width / 2, n = height / 2 * out_width;
    x += x_at + (long)get_global_id(2) * x_stride + (long)c * height * width;
    y += y_at + (long)get_global_id(2) * y_stride + (long)c * n;
    EACH(tile, (n + XV - 1) / XV)
    {
        floatx q[4], value;
        load_squares(x, (int)tile * XV, n, out_width, width, q);
        first_maximum(q, &value);
        store_within(value, y, (int)tile * XV, n);
    }
}

__kernel void pool_backward(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at, __global float *restrict dx,
                            ulong dx_at, long x_stride, long dy_stride, long dx_stride, int height, int width)
{
    int c = (int)get_global_id(1), out_width = width / 2, n = height / 2 * out_width;
    x += x_at + (long)get_global_id(2) * x_stride + (long)c * height * width;
    dy += dy_at + (long)get_global_id(2) * dy_stride + (long)c * n;
    dx += dx_at + (long)get_global_id(2) * dx_stride + (long)c * height * width;
    EACH(tile, (n + XV - 1) / XV)
    {
        floatx q[4], value, d = load_within(dy, (int)tile * XV, n);
        load_squares(x, (int)tile * XV, n, out_width, width, q);
        intx best = first_maximum(q, &value);
        FOR(t, 4) q[t] = select((floatx)0.0f, d, best == t);
        store_squares(q, dx, (int)tile * XV, n, out_width, width);
    }
    /* What the pooling left out has no part in the result. */
    if (width & 1)
        EACH(row, height / 2 * 2) dx[row * width + width - 1] = 0.0f;
    if (height & 1)
        EACH(column, width) dx[(height - 1) * width + column] = 0.0f;
}
