/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

/* What a library's product leaves to do: a bias and ReLU. */
__kernel void gemm_clblast_epilogue(__global float *restrict c, ulong c_at, long c_row, int m, int n, __global const float *restrict bias, ulong bias_at,
                                    int has_bias, int relu)
{
    long all = (long)m * n;
    EACH(i, all)
    {
        long row = i / n, column = i - row * n;
        __global float *out = c + c_at + row * c_row + column;
        float v = has_bias ? *out + bias[bias_at + column] : *out;
        *out = relu && v < 0.0f ? 0.0f : v;
    }
}
