/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "sum.h"

/* scaled[o][j] = scale * gate[j] * up[o][j]: what the up product and its way back multiply with. */
__kernel void adapted_scale_up(__global const float *restrict up, ulong up_at, __global const float *restrict gate, ulong gate_at,
                               __global float *restrict scaled, ulong scaled_at, int rank, long n, float scale, int has_gate)
{
    EACH(i, n) scaled[scaled_at + i] = up[up_at + i] * scale * (has_gate ? gate[gate_at + i % rank] : 1.0f);
}

/* scaled[j][...] = gate[j] * down[j][...] */
__kernel void adapted_scale_down(__global const float *restrict down, ulong down_at, __global const float *restrict gate, ulong gate_at,
                                 __global float *restrict scaled, ulong scaled_at, long row, long n, int has_gate)
{
    EACH(i, n) scaled[scaled_at + i] = down[down_at + i] * (has_gate ? gate[gate_at + i / row] : 1.0f);
}

/* dg[j] = sum over images and pixels of dt * t: parts by (j, image), then in order. Both dense [images, rank, n]. */
__kernel void adapted_gate_parts(__global const float *restrict dt, ulong dt_at, __global const float *restrict t, ulong t_at, __global float *restrict partial,
                                 ulong partial_at, int n)
{
    int j = (int)get_global_id(0), rank = (int)get_global_size(0);
    long image = (long)get_global_id(1), plane = (image * rank + j) * n;
    float sum;
    dt += dt_at + plane;
    t += t_at + plane;
    SUM_PART(sum, 0, n, i, dt[i] * t[i]);
    partial[partial_at + image * rank + j] = sum;
}

__kernel void adapted_gate_total(__global const float *restrict partial, ulong partial_at, __global float *restrict gradient, ulong gradient_at, int images)
{
    int j = (int)get_global_id(0), rank = (int)get_global_size(0);
    float sum = 0.0f;
    for (int i = 0; i < images; i++) sum += partial[partial_at + (long)i * rank + j];
    gradient[gradient_at + j] += sum;
}
