/* SPDX-License-Identifier: Apache-2.0 */
#include "apart.h"
#include "range.h"
#include "narrow.h"

/* P of a GPU's parts, in order. */
__kernel void narrow_total(__global const float *restrict parts, ulong parts_at, __global float *restrict total, ulong total_at, long n, int count)
{
    EACH(i, n)
    {
        float sum = 0.0f;
        for (int p = 0; p < count; p++) sum += parts[parts_at + p * n + i];
        total[total_at + i] = sum;
    }
}

#if XV > 1

__kernel void narrow_passes(__global const float *restrict x, ulong x_at, __global const float *restrict factor, ulong factor_at, __global float *restrict t,
                            ulong t_at, __global const float *restrict s, ulong s_at, __global float *restrict parts, ulong parts_at, long x_row,
                            int m, int run, int layers, int4 layer_columns, int4 layer_ranks, int has_t, int has_s)
{
    int item = item_of((m + run - 1) / run), begin = item * run, rank = layer_ranks.s0 + layer_ranks.s1 + layer_ranks.s2 + layer_ranks.s3;
    if (item < 0) return;
    pass_rows(x + x_at + begin * x_row, x_row, min(run, m - begin), layers, layer_columns, layer_ranks, factor + factor_at, t + t_at + (long)begin * rank,
              s + s_at + (long)begin * rank, parts + parts_at + item * factor_elements(layer_columns, layer_ranks), 0, has_t, has_s);
}

#endif
