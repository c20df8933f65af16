/* SPDX-License-Identifier: Apache-2.0 */
#include "finish.h"
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
        *out = finish(*out, (int)column, bias, bias_at, has_bias, relu);
    }
}
