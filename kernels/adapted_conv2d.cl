/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "adapted.h"

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

/* From the product s dy^T t [outputs, rank]. Work-items: (columns, runs of SIDE ranks). */
__kernel void adapted_up_gradients(__global const float *restrict product, ulong product_at, __global const float *restrict up, ulong up_at,
                                   __global const float *restrict gate, ulong gate_at, __global float *restrict up_gradient, ulong up_gradient_at,
                                   __global float *restrict gate_gradient, ulong gate_gradient_at, int outputs, int rank, int has_gate, int wants_up, int wants_gate)
{
    int j = (int)get_global_id(1) * SIDE;
    up_gradients(product + product_at + j, rank, 1, 1.0f, has_gate ? gate + gate_at + j : 0, up + up_at + j, wants_up ? up_gradient + up_gradient_at + j : 0,
                 wants_gate ? gate_gradient + gate_gradient_at + j : 0, outputs, rank, min(SIDE, rank - j));
}
