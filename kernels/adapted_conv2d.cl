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
