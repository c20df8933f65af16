/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "vector.h"
#include "sum.h"
#include "group.h"
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

/* From the product s dy^T t [outputs, rank]. The gate's are sums over all outputs, which one item makes, or a GPU's first group. Work-items: (columns, runs of SIDE ranks). */
__kernel void adapted_up_gradients(__global const float *restrict product, ulong product_at, __global const float *restrict up, ulong up_at,
                                   __global const float *restrict gate, ulong gate_at, __global float *restrict up_gradient, ulong up_gradient_at,
                                   __global float *restrict gate_gradient, ulong gate_gradient_at, int outputs, int rank, int has_gate, int wants_up, int wants_gate)
{
    GROUP_MEMORY;
    int j = (int)get_global_id(1) * SIDE, side = min(SIDE, rank - j);
    float8 g = has_gate ? side_of(gate + gate_at + j, side) : (float8)1.0f, sum = (float8)0.0f;
    product += product_at + j;
    up += up_at + j;
    up_gradient += up_gradient_at + j;
    if (wants_up) EACH(o, outputs) up_gradients(side_of(product + o * rank, side), g, up + o * rank, up_gradient + o * rank, 0, side);
    __global float *to_gate = wants_gate && GROUP_ID == 0 ? gate_gradient + gate_gradient_at + j : 0;
    if (to_gate) IN_GROUP(o, outputs) up_gradients(side_of(product + (long)o * rank, side), g, up + (long)o * rank, 0, &sum, side);
    ADD_TO_GATE(sum, to_gate, side);
}
