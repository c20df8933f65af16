/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "sum.h"
#include "group.h"

/* A group has a row. */
__kernel void rms_norm_forward(__global const float *restrict x, ulong x_at, __global const float *restrict weight, ulong weight_at, __global float *restrict y,
                               ulong y_at, __global float *restrict root, ulong root_at, int width, float epsilon, int has_root)
{
    GROUP_MEMORY;
    long row = GROUP_ID;
    float squares;
    x += x_at + row * width;
    y += y_at + row * width;
    weight += weight_at;
    GROUP_SUM(squares, 0, width, i, x[i] * x[i]);
    float r = rsqrt(squares / (float)width + epsilon);
    IN_GROUP(i, width) y[i] = x[i] * r * weight[i];
    if (GROUP_ITEM == 0 && has_root) root[root_at + row] = r;
}

/* dx = r (w dy - x r^2 mean(w dy x)) + besides; dx may stand in dy's memory or in that of `besides`. */
__kernel void rms_norm_backward(__global const float *restrict x, ulong x_at, __global const float *restrict weight, ulong weight_at, __global const float *dy,
                                ulong dy_at, __global const float *restrict root, ulong root_at, __global const float *besides, ulong besides_at,
                                __global float *dx, ulong dx_at, int width, int has_besides)
{
    GROUP_MEMORY;
    long row = GROUP_ID;
    float product, r = root[root_at + row];
    x += x_at + row * width;
    dy += dy_at + row * width;
    dx += dx_at + row * width;
    weight += weight_at;
    GROUP_SUM(product, 0, width, i, weight[i] * dy[i] * x[i]);
    float mean = product * r * r / (float)width;
    besides += besides_at + row * width;
    if (has_besides)
        IN_GROUP(i, width) dx[i] = r * (weight[i] * dy[i] - x[i] * mean) + besides[i];
    else
        IN_GROUP(i, width) dx[i] = r * (weight[i] * dy[i] - x[i] * mean);
}

/* Part p of the rows of dw = sum of dy x r; some columns a work-item. */
__kernel void rms_norm_parts(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at, __global const float *restrict root,
                             ulong root_at, __global float *restrict partial, ulong partial_at, int width, int rows, int parts, int columns)
{
    int first = (int)get_global_id(0) * columns, last = min(width, first + columns), p = (int)get_global_id(1);
    partial += partial_at + (long)p * width;
    for (int i = first; i < last; i++) partial[i] = 0.0f;
    for (long row = PART_FIRST(rows, parts, p); row < PART_LAST(rows, parts, p); row++) {
        float r = root[root_at + row];
        for (int i = first; i < last; i++) partial[i] += dy[dy_at + row * width + i] * x[x_at + row * width + i] * r;
    }
}

__kernel void rms_norm_total(__global const float *restrict partial, ulong partial_at, __global float *restrict gradient, ulong gradient_at, long width, int parts)
{
    EACH(i, width)
    {
        float sum = 0.0f;
        for (int p = 0; p < parts; p++) sum += partial[partial_at + (long)p * width + i];
        gradient[gradient_at + i] += sum;
    }
}
