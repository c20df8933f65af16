/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "vector.h"

/* C[m, n] (+)= alpha * A B + alpha2 * (A2 * gate) B2, then columns * scale, + bias, ReLU. Everything row-major; A's element (i, k) stands at
 * i * a_row + k * a_column. One tile of C a work-item, kept in registers; both pairs of operands ride on the same sums. */

inline float finish(float v, int column, __global const float *scale, ulong scale_at, __global const float *bias, ulong bias_at, int has_scale, int has_bias,
                    int relu)
{
    if (has_scale) v *= scale[scale_at + column];
    if (has_bias) v += bias[bias_at + column];
    return relu && v < 0.0f ? 0.0f : v;
}

#define EPILOGUE_PARAMETERS                                                                                                      \
    __global const float *scale, ulong scale_at, __global const float *bias, ulong bias_at, int has_scale, int has_bias, int relu, int accumulate
#define FINISH(v, column) finish(v, column, scale, scale_at, bias, bias_at, has_scale, has_bias, relu)

#ifdef SORA_CPU

/* B is stored [n, k] and A [m, k]: inner products of rows, XV terms at a time. Work-items: (groups of tiles along n, tiles along m). */
#define DM 4
#define DN 4

inline void dot_rows(__global const float *a, long a_row, __global const float *b, long b_row, int rows, int columns, int k, float alpha,
                     __global const float *gate, int has_gate, float sum[DM][DN])
{
    floatx lanes[DM][DN];
    for (int i = 0; i < DM; i++)
        for (int j = 0; j < DN; j++) lanes[i][j] = (floatx)0.0f;
    for (int at = 0; at < k; at += XV) {
        floatx left[DM], g = (floatx)1.0f;
        if (has_gate) g = load_within(gate, at, k);
        for (int i = 0; i < DM; i++) {
            left[i] = load_within(a + min(i, rows - 1) * a_row, at, k);
            if (has_gate) left[i] *= g;
        }
        for (int j = 0; j < DN; j++) {
            floatx right = load_within(b + min(j, columns - 1) * b_row, at, k);
            for (int i = 0; i < DM; i++) lanes[i][j] = mad(left[i], right, lanes[i][j]);
        }
    }
    for (int i = 0; i < DM; i++)
        for (int j = 0; j < DN; j++) sum[i][j] += alpha * SUM_LANES(lanes[i][j]);
}

__kernel void gemm_dot(__global const float *restrict a, ulong a_at, __global const float *restrict b, ulong b_at, __global const float *restrict a2, ulong a2_at,
                       __global const float *restrict b2, ulong b2_at, __global const float *restrict gate, ulong gate_at, __global float *restrict c, ulong c_at,
                       long a_row, long a_column, long b_row, long a2_row, long a2_column, long b2_row, long c_row, int m, int n, int k, int k2, float alpha,
                       float alpha2, int has_gate, int tiles, EPILOGUE_PARAMETERS)
{
    int row = (int)get_global_id(1) * DM, rows = min(DM, m - row);
    for (int tile = 0; tile < tiles; tile++) {
        int column = ((int)get_global_id(0) * tiles + tile) * DN, columns = min(DN, n - column);
        if (columns <= 0) return;
        float sum[DM][DN] = { { 0 } };
        dot_rows(a + a_at + row * a_row, a_row, b + b_at + column * b_row, b_row, rows, columns, k, alpha, a, 0, sum);
        if (k2) dot_rows(a2 + a2_at + row * a2_row, a2_row, b2 + b2_at + column * b2_row, b2_row, rows, columns, k2, alpha2, gate + gate_at, has_gate, sum);
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < columns; j++) {
                __global float *out = c + c_at + (row + i) * c_row + column + j;
                float v = FINISH(sum[i][j], column + j);
                *out = accumulate ? *out + v : v;
            }
        }
    }
}

/* B is stored [k, n]: outer products, XV columns of B at a time. */
#define OM 8

inline void outer_products(__global const float *a, long a_row, long a_column, __global const float *b, long b_row, int rows, int column, int n, int k,
                           float alpha, __global const float *gate, int has_gate, floatx sum[OM][2])
{
    for (int p = 0; p < k; p++) {
        floatx right[2] = { load_within(b + p * b_row, column, n), load_within(b + p * b_row, column + XV, n) };
        float factor = has_gate ? alpha * gate[p] : alpha;
        for (int i = 0; i < OM; i++) {
            floatx left = (floatx)(factor * a[min(i, rows - 1) * a_row + p * a_column]);
            sum[i][0] = mad(left, right[0], sum[i][0]);
            sum[i][1] = mad(left, right[1], sum[i][1]);
        }
    }
}

__kernel void gemm_outer(__global const float *restrict a, ulong a_at, __global const float *restrict b, ulong b_at, __global const float *restrict a2,
                         ulong a2_at, __global const float *restrict b2, ulong b2_at, __global const float *restrict gate, ulong gate_at, __global float *restrict c,
                         ulong c_at, long a_row, long a_column, long b_row, long a2_row, long a2_column, long b2_row, long c_row, int m, int n, int k, int k2,
                         float alpha, float alpha2, int has_gate, int tiles, EPILOGUE_PARAMETERS)
{
    int row = (int)get_global_id(1) * OM, rows = min(OM, m - row);
    for (int tile = 0; tile < tiles; tile++) {
        int column = ((int)get_global_id(0) * tiles + tile) * 2 * XV;
        if (column >= n) return;
        floatx sum[OM][2];
        for (int i = 0; i < OM; i++) sum[i][0] = sum[i][1] = (floatx)0.0f;
        outer_products(a + a_at + row * a_row, a_row, a_column, b + b_at, b_row, rows, column, n, k, alpha, a, 0, sum);
        if (k2) outer_products(a2 + a2_at + row * a2_row, a2_row, a2_column, b2 + b2_at, b2_row, rows, column, n, k2, alpha2, gate + gate_at, has_gate, sum);
        for (int i = 0; i < rows; i++) {
            __global float *out = c + c_at + (row + i) * c_row;
            for (int h = 0; h < 2; h++) {
                int at = column + h * XV;
                floatx v = sum[i][h];
                if (at >= n) continue;
                if (has_scale) v *= load_within(scale + scale_at, at, n);
                if (has_bias) v += load_within(bias + bias_at, at, n);
                if (relu) v = select(v, (floatx)0.0f, v < (floatx)0.0f);
                if (accumulate) v += load_within(out, at, n);
                store_within(v, out, at, n);
            }
        }
    }
}

#else

/* A square of C by a work-group of TS x TS, operands through local memory. B's element (k, j) stands at k * b_row + j * b_column. */
#define TS 16

inline float tile_product(__global const float *a, long a_row, long a_column, __global const float *b, long b_row, long b_column, int row, int column, int m,
                          int n, int k, __global const float *gate, int has_gate, __local float *left, __local float *right)
{
    int x = (int)get_local_id(0), y = (int)get_local_id(1);
    float sum = 0.0f;
    for (int at = 0; at < k; at += TS) {
        int ka = at + x, kb = at + y;
        float v = row < m && ka < k ? a[row * a_row + ka * a_column] : 0.0f;
        left[y * TS + x] = has_gate && ka < k ? v * gate[ka] : v;
        right[y * TS + x] = column < n && kb < k ? b[kb * b_row + column * b_column] : 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int p = 0; p < TS; p++) sum = mad(left[y * TS + p], right[p * TS + x], sum);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return sum;
}

__kernel __attribute__((reqd_work_group_size(TS, TS, 1))) void
gemm_local(__global const float *restrict a, ulong a_at, __global const float *restrict b, ulong b_at, __global const float *restrict a2, ulong a2_at,
           __global const float *restrict b2, ulong b2_at, __global const float *restrict gate, ulong gate_at, __global float *restrict c, ulong c_at, long a_row,
           long a_column, long b_row, long b_column, long a2_row, long a2_column, long b2_row, long b2_column, long c_row, int m, int n, int k, int k2, float alpha,
           float alpha2, int has_gate, EPILOGUE_PARAMETERS)
{
    __local float left[TS * TS], right[TS * TS];
    int column = (int)get_global_id(0), row = (int)get_global_id(1);
    float sum = alpha * tile_product(a + a_at, a_row, a_column, b + b_at, b_row, b_column, row, column, m, n, k, a, 0, left, right);
    if (k2)
        sum += alpha2 *
               tile_product(a2 + a2_at, a2_row, a2_column, b2 + b2_at, b2_row, b2_column, row, column, m, n, k2, gate + gate_at, has_gate, left, right);
    if (row < m && column < n) {
        __global float *out = c + c_at + row * c_row + column;
        float v = FINISH(sum, column);
        *out = accumulate ? *out + v : v;
    }
}

#endif

/* What a library's product leaves to do: gated columns of A2 before, the epilogue after. */
__kernel void gemm_gate_columns(__global const float *restrict a, ulong a_at, __global const float *restrict gate, ulong gate_at, __global float *restrict out,
                                ulong out_at, long a_row, long a_column, int m, int k, int has_gate)
{
    long n = (long)m * k;
    EACH(i, n)
    {
        long row = i / k, column = i - row * k;
        out[out_at + i] = a[a_at + row * a_row + column * a_column] * (has_gate ? gate[gate_at + column] : 1.0f);
    }
}

__kernel void gemm_epilogue(__global const float *restrict product, ulong product_at, __global float *restrict c, ulong c_at, long c_row, int m, int n,
                            EPILOGUE_PARAMETERS)
{
    long all = (long)m * n;
    EACH(i, all)
    {
        long row = i / n, column = i - row * n;
        __global float *out = c + c_at + row * c_row + column;
        float v = FINISH(product[product_at + i], (int)column);
        *out = accumulate ? *out + v : v;
    }
}
