/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "adapted.h"

/* out = dt * gate by column; dense [m, rank]. */
__kernel void adapted_gate_apply(__global const float *restrict dt, ulong dt_at, __global const float *restrict gate, ulong gate_at,
                                 __global float *restrict out, ulong out_at, long rank, long n, int has_gate)
{
    EACH(i, n) out[out_at + i] = dt[dt_at + i] * (has_gate ? gate[gate_at + i % rank] : 1.0f);
}
