/* SPDX-License-Identifier: Apache-2.0 */
/* What a device can do at most: multiply-adds from registers, bytes copied, launches of nothing. */
__kernel void fma_rate(__global float *out, ulong out_at, float a, float b, int rounds)
{
    VECTOR x[CHAINS];
    for (int i = 0; i < CHAINS; i++) x[i] = (VECTOR)(get_global_id(0) + i);
    for (int r = 0; r < rounds; r++)
#pragma unroll
        for (int i = 0; i < CHAINS; i++) x[i] = fma(x[i], (VECTOR)a, (VECTOR)b);
    VECTOR sum = x[0];
    for (int i = 1; i < CHAINS; i++) sum += x[i];
    VSTORE(sum, get_global_id(0), out + out_at);
}

__kernel void copy_rate(__global const float *restrict x, ulong x_at, __global float *restrict y, ulong y_at)
{
    VSTORE(VLOAD(get_global_id(0), x + x_at), get_global_id(0), y + y_at);
}

__kernel void nothing(__global float *out, ulong out_at)
{
    if (get_global_size(0) > 1) out[out_at] = 0;
}
