/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "adapted.h"

/* out = dt * gate by column; dense [m, rank]. */
__kernel void adapted_gate_apply(__global const float *restrict dt, ulong dt_at, __global const float *restrict gate, ulong gate_at,
                                 __global float *restrict out, ulong out_at, long rank, long n, int has_gate)
{
    EACH(i, n) out[out_at + i] = dt[dt_at + i] * (has_gate ? gate[gate_at + i % rank] : 1.0f);
}

/* Rows of one layer, from row_at, of the matrix of all layers' up factors, rank columns wide: its own columns hold scale * up, the others 0. */
__kernel void adapted_up_block(__global const float *restrict up, ulong up_at, __global float *restrict out, ulong out_at, long row_at, int rank, int first,
                               int own, float scale, long rows)
{
    EACH(row, rows)
    {
        __global float *to = out + out_at + row_at + row * rank;
        for (int j = 0; j < rank; j++) to[j] = 0.0f;
        for (int j = 0; j < own; j++) to[first + j] = scale * up[up_at + row * own + j];
    }
}
