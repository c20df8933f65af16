/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

/* dg[j] += sum over rows of dt * t, rows in order; both dense [m, rank]. */
__kernel void adapted_gate_gradient(__global const float *restrict dt, ulong dt_at, __global const float *restrict t, ulong t_at,
                                    __global float *restrict gradient, ulong gradient_at, int rows, long rank)
{
    dt += dt_at;
    t += t_at;
    EACH(j, rank)
    {
        float sum = 0.0f;
        for (long r = 0; r < rows; r++) sum += dt[r * rank + j] * t[r * rank + j];
        gradient[gradient_at + j] += sum;
    }
}

/* out = dt * gate by column; dense [m, rank]. */
__kernel void adapted_gate_apply(__global const float *restrict dt, ulong dt_at, __global const float *restrict gate, ulong gate_at,
                                 __global float *restrict out, ulong out_at, long rank, long n, int has_gate)
{
    EACH(i, n) out[out_at + i] = dt[dt_at + i] * (has_gate ? gate[gate_at + i % rank] : 1.0f);
}
