/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

/* The tanh form; its inner argument is sqrt(2 / pi) (a + 0.044715 a^3). */
#define INNER(a) (0.7978845608f * ((a) + 0.044715f * (a) * (a) * (a)))

__kernel void gated_gelu_forward(__global const float *restrict x, ulong x_at, __global float *restrict y, ulong y_at, long width)
{
    long row = (long)get_global_id(1);
    x += x_at + 2 * row * width;
    y += y_at + row * width;
    EACH(i, width)
    {
        float a = x[i];
        y[i] = 0.5f * a * (1.0f + tanh(INNER(a))) * x[width + i];
    }
}

__kernel void gated_gelu_backward(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at, __global float *restrict dx,
                                  ulong dx_at, long width)
{
    long row = (long)get_global_id(1);
    x += x_at + 2 * row * width;
    dx += dx_at + 2 * row * width;
    dy += dy_at + row * width;
    EACH(i, width)
    {
        float a = x[i], t = tanh(INNER(a)), inner = 0.7978845608f * (1.0f + 0.134145f * a * a);
        dx[i] = dy[i] * x[width + i] * (0.5f * (1.0f + t) + 0.5f * a * (1.0f - t * t) * inner);
        dx[width + i] = dy[i] * 0.5f * a * (1.0f + t);
    }
}
