/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

/* Which of the four is the first maximum in row order; NaN is above everything. */
inline int first_maximum(float a, float b, float c, float d)
{
    int best = 0;
    float value = a;
    if (!isnan(value) && (b > value || isnan(b))) { best = 1; value = b; }
    if (!isnan(value) && (c > value || isnan(c))) { best = 2; value = c; }
    if (!isnan(value) && (d > value || isnan(d))) { best = 3; value = d; }
    return best;
}

/* Element i: output row i of all channels' rows; row (dimension 1): image. */
__kernel void pool_forward(__global const float *restrict x, ulong x_at, __global float *restrict y, ulong y_at, long x_stride, long y_stride, int height,
                           int width, long rows)
{
    int out_height = height / 2, out_width = width / 2;
    x += x_at + (long)get_global_id(1) * x_stride;
    y += y_at + (long)get_global_id(1) * y_stride;
    EACH(i, rows)
    {
        long channel = i / out_height, row = i - channel * out_height;
        __global const float *top = x + (channel * height + 2 * row) * width, *bottom = top + width;
        __global float *out = y + i * out_width;
        for (int j = 0; j < out_width; j++) {
            float a = top[2 * j], b = top[2 * j + 1], c = bottom[2 * j], d = bottom[2 * j + 1];
            int best = first_maximum(a, b, c, d);
            out[j] = best == 0 ? a : best == 1 ? b : best == 2 ? c : d;
        }
    }
}

__kernel void pool_backward(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at, __global float *restrict dx,
                            ulong dx_at, long x_stride, long dy_stride, long dx_stride, int height, int width, long rows)
{
    int out_height = height / 2, out_width = width / 2;
    x += x_at + (long)get_global_id(1) * x_stride;
    dy += dy_at + (long)get_global_id(1) * dy_stride;
    dx += dx_at + (long)get_global_id(1) * dx_stride;
    EACH(i, rows)
    {
        long channel = i / out_height, row = i - channel * out_height, at = (channel * height + 2 * row) * width;
        __global const float *top = x + at, *bottom = top + width;
        for (int j = 0; j < out_width; j++) {
            int best = first_maximum(top[2 * j], top[2 * j + 1], bottom[2 * j], bottom[2 * j + 1]);
            float d = dy[i * out_width + j];
            dx[at + 2 * j] = best == 0 ? d : 0.0f;
            dx[at + 2 * j + 1] = best == 1 ? d : 0.0f;
            dx[at + width + 2 * j] = best == 2 ? d : 0.0f;
            dx[at + width + 2 * j + 1] = best == 3 ? d : 0.0f;
        }
        /* What the pooling left out has no part in the result. */
        if (width & 1) dx[at + width - 1] = dx[at + 2 * width - 1] = 0.0f;
        if ((height & 1) && row == out_height - 1)
            for (int j = 0; j < width; j++) dx[at + 2 * width + j] = 0.0f;
    }
}
