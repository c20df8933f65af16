/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "vector.h"

/* C[m, n] (+)= alpha * A B + alpha2 * (A2 * gate) B2, then columns * scale, + bias, ReLU. Everything row-major; A's element (i, k) stands at
 * i * a_row + k * a_column. One tile of C a work-item, kept in registers; both pairs of operands ride on the same sums. With B_HALF B is halves (B2 never is). */

#ifdef B_HALF
#define B_ELEMENT half
#define B_AT(b, i) vload_half(i, b)
#define B_VECTOR(p) HALF_VECTOR(p)
#define B_WITHIN load_halves_within
#else
#define B_ELEMENT float
#define B_AT(b, i) ((b)[i])
#define B_VECTOR(p) LOADX(p)
#define B_WITHIN load_within
#endif
#define HALF_VECTOR(p) JOIN(vload_half, XV)(0, p)

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

/* Few rows: B, stored [n, k], is read once, as it is. Inner products of rows, XV terms at a time. Work-items: (groups of tiles along n, tiles along m). */
#define DM 4
#define DN 4

__attribute__((noinline)) floatx load_half_edge(__global const half *row, int at, int n)
{
    float lanes[XV];
    EDGE_LOOP(l) lanes[l] = at + l < n ? vload_half(at + l, row) : 0.0f;
    return LOADX(lanes);
}

inline floatx load_halves_within(__global const half *row, int at, int n)
{
    return at + XV <= n ? HALF_VECTOR(row + at) : load_half_edge(row, at, n);
}

#define DOT_ROWS(name, B_TYPE, RIGHT)                                                                                                            \
    inline void name(__global const float *a, long a_row, __global const B_TYPE *b, long b_row, int rows, int columns, int k, float alpha,     \
                     __global const float *gate, int has_gate, float sum[DM][DN])                                                              \
    {                                                                                                                                          \
        floatx lanes[DM][DN];                                                                                                                  \
        FOR(i, DM) FOR(j, DN) lanes[i][j] = (floatx)0.0f;                                                                                      \
        for (int at = 0; at < k; at += XV) {                                                                                                   \
            floatx left[DM], g = (floatx)1.0f;                                                                                                 \
            if (has_gate) g = load_within(gate, at, k);                                                                                        \
            FOR(i, DM)                                                                                                                         \
            {                                                                                                                                  \
                left[i] = load_within(a + min(i, rows - 1) * a_row, at, k);                                                                    \
                if (has_gate) left[i] *= g;                                                                                                    \
            }                                                                                                                                  \
            FOR(j, DN)                                                                                                                         \
            {                                                                                                                                  \
                floatx right = RIGHT(b + min(j, columns - 1) * b_row, at, k);                                                                  \
                FOR(i, DM) lanes[i][j] = MAD(left[i], right, lanes[i][j]);                                                                     \
            }                                                                                                                                  \
        }                                                                                                                                      \
        FOR(i, DM) FOR(j, DN) sum[i][j] += alpha * SUM_LANES(lanes[i][j]);                                                                     \
    }
DOT_ROWS(dot_first, B_ELEMENT, B_WITHIN)
DOT_ROWS(dot_second, float, load_within)

__kernel void gemm_dot(__global const float *restrict a, ulong a_at, __global const B_ELEMENT *restrict b, ulong b_at, __global const float *restrict a2, ulong a2_at,
                       __global const float *restrict b2, ulong b2_at, __global const float *restrict gate, ulong gate_at, __global float *restrict c, ulong c_at,
                       long a_row, long b_row, long a2_row, long b2_row, long c_row, int m, int n, int k, int k2, float alpha, float alpha2, int has_gate,
                       int tiles, EPILOGUE_PARAMETERS)
{
    int row = (int)get_global_id(1) * DM, rows = min(DM, m - row);
    for (int tile = 0; tile < tiles; tile++) {
        int column = ((int)get_global_id(0) * tiles + tile) * DN, columns = min(DN, n - column);
        if (columns <= 0) return;
        float sum[DM][DN] = { { 0 } };
        dot_first(a + a_at + row * a_row, a_row, b + b_at + column * b_row, b_row, rows, columns, k, alpha, a, 0, sum);
        if (k2) dot_second(a2 + a2_at + row * a2_row, a2_row, b2 + b2_at + column * b2_row, b2_row, rows, columns, k2, alpha2, gate + gate_at, has_gate, sum);
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < columns; j++) {
                __global float *out = c + c_at + (row + i) * c_row + column + j;
                float v = FINISH(sum[i][j], column + j);
                *out = accumulate ? *out + v : v;
            }
        }
    }
}

/* B, or B2 with its gate, times alpha, in panels of W columns: [panels][k][W], with zeros behind the last column. Its element (p, j) stands at
 * p / group * next + p % group * b_row + j * b_column. Work-items: (runs of k, panels). */
#ifdef PACKED_HALF
#define PACKED_ELEMENT half
#define PACK(v, p) vstore_half_rte(v, 0, p)
#define PACK_VECTOR(v, p) JOIN(vstore_half, JOIN(XV, _rte))(v, 0, p)
#else
#define PACKED_ELEMENT float
#define PACK(v, p) (*(p) = (v))
#define PACK_VECTOR(v, p) STOREX(v, p)
#endif

__kernel void gemm_pack(__global const B_ELEMENT *restrict b, ulong b_at, __global const float *restrict gate, ulong gate_at, __global PACKED_ELEMENT *restrict packed,
                        ulong packed_at, long b_row, long b_column, int group, long next, int n, int k, float alpha, int has_gate)
{
    int column = (int)get_global_id(1) * W, columns = min(W, n - column);
    b += b_at + column * b_column;
    packed += packed_at + (long)column * k;
    EACH(p, k)
    {
        float factor = has_gate ? alpha * gate[gate_at + p] : alpha;
        __global const B_ELEMENT *row = b + p / group * next + p % group * b_row;
        __global PACKED_ELEMENT *out = packed + p * W;
        if (columns == W && b_column == 1)
            FOR(v, W / XV) PACK_VECTOR(factor * B_VECTOR(row + v * XV), out + v * XV);
        else
            for (int j = 0; j < W; j++) PACK(j < columns ? factor * B_AT(row, j * b_column) : 0.0f, out + j);
    }
}

/* Where row i of A's block begins, and its step from one term to the next: rows of A as it is, or as it is stored [k, m]. */
#ifdef A_BY_COLUMNS
#define A_ROW(lead) 1
#define A_TERM(lead) (lead)
#else
#define A_ROW(lead) (lead)
#define A_TERM(lead) 1
#endif
#ifdef A2_BY_COLUMNS
#define A2_ROW(lead) 1
#define A2_TERM(lead) (lead)
#else
#define A2_ROW(lead) (lead)
#define A2_TERM(lead) 1
#endif

/* MR rows by NV vectors of C += A B over k terms; the block of C stays in registers. Rows behind the last are that one again. */
#define PRODUCT(A, A_STEP, TERM_STEP, B_TYPE, VECTOR, B, B_STEP, TERMS)                   \
    do {                                                                                  \
        long offset[MR];                                                                  \
        __global const float *a = (A) + row * (A_STEP);                                   \
        __global const B_TYPE *right = (B);                                               \
        FOR(i, MR) offset[i] = min(i, rows - 1) * (A_STEP);                               \
        for (int p = 0; p < (TERMS); p++) {                                               \
            floatx v[NV];                                                                 \
            FOR(j, NV) v[j] = VECTOR(right + j * XV);                                     \
            FOR(i, MR)                                                                    \
            {                                                                             \
                floatx left = (floatx)(a[offset[i]]);                                     \
                FOR(j, NV) sum[i][j] = MAD(left, v[j], sum[i][j]);                        \
            }                                                                             \
            a += (TERM_STEP);                                                             \
            right += (B_STEP);                                                            \
        }                                                                                 \
    } while (0)

/* Work-items: (runs of row blocks, tiles of W columns). A panel of B has `split` tiles; panels lie b_panel apart, and their rows b_row. */
__kernel void gemm_tile(__global const float *restrict a_all, ulong a_at, __global const B_ELEMENT *restrict b, ulong b_at, __global const float *restrict a2_all,
                        ulong a2_at, __global const float *restrict b2, ulong b2_at, __global float *restrict c, ulong c_at, long lead, long b_panel, long b_row,
                        int split, long lead2, long b2_panel, long b2_row, long c_row, int m, int n, int k, int k2, int run, float alpha, EPILOGUE_PARAMETERS)
{
    int tile = (int)get_global_id(1), column = tile * W, first = (int)get_global_id(0) * run * MR, last = min(m, first + run * MR);
    b += b_at + tile / split * b_panel + tile % split * W;
    b2 += b2_at + tile * b2_panel;
    for (int row = first; row < last; row += MR) {
        int rows = min(MR, m - row);
        floatx sum[MR][NV];
        FOR(i, MR) FOR(j, NV) sum[i][j] = (floatx)0.0f;
        PRODUCT(a_all + a_at, A_ROW(lead), A_TERM(lead), B_ELEMENT, B_VECTOR, b, b_row, k);
        if (k2) PRODUCT(a2_all + a2_at, A2_ROW(lead2), A2_TERM(lead2), float, LOADX, b2, b2_row, k2);
        /* Through memory and a loop: unrolled over the block, the edges would be most of what there is to compile. */
        float block[MR * W];
        FOR(i, MR) FOR(j, NV) STOREX(sum[i][j], block + i * W + j * XV);
        _Pragma("nounroll") for (int j = 0; j < NV; j++)
        {
            int at = column + j * XV;
            if (at >= n) break;
            floatx factor = (floatx)alpha, base = (floatx)0.0f;
            if (has_scale) factor *= load_within(scale + scale_at, at, n);
            if (has_bias) base = load_within(bias + bias_at, at, n);
            _Pragma("nounroll") for (int i = 0; i < rows; i++)
            {
                __global float *out = c + c_at + (row + i) * c_row;
                floatx v = MAD(LOADX(block + i * W + j * XV), factor, base);
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

#define TILE_PRODUCT(name, B_TYPE, AT)                                                                                                              \
    inline float name(__global const float *a, long a_row, long a_column, __global const B_TYPE *b, long b_row, long b_column, int row, int column, \
                      int m, int n, int k, __global const float *gate, int has_gate, __local float *left, __local float *right)                    \
    {                                                                                                                                               \
        int x = (int)get_local_id(0), y = (int)get_local_id(1);                                                                                     \
        float sum = 0.0f;                                                                                                                           \
        for (int at = 0; at < k; at += TS) {                                                                                                        \
            int ka = at + x, kb = at + y;                                                                                                           \
            float v = row < m && ka < k ? a[row * a_row + ka * a_column] : 0.0f;                                                                    \
            left[y * TS + x] = has_gate && ka < k ? v * gate[ka] : v;                                                                               \
            right[y * TS + x] = column < n && kb < k ? AT(b, kb * b_row + column * b_column) : 0.0f;                                                \
            barrier(CLK_LOCAL_MEM_FENCE);                                                                                                           \
            for (int p = 0; p < TS; p++) sum = MAD(left[y * TS + p], right[p * TS + x], sum);                                                       \
            barrier(CLK_LOCAL_MEM_FENCE);                                                                                                           \
        }                                                                                                                                           \
        return sum;                                                                                                                                 \
    }
#define FLOAT_AT(b, i) ((b)[i])
TILE_PRODUCT(tile_first, B_ELEMENT, B_AT)
TILE_PRODUCT(tile_second, float, FLOAT_AT)

__kernel __attribute__((reqd_work_group_size(TS, TS, 1))) void
gemm_local(__global const float *restrict a, ulong a_at, __global const B_ELEMENT *restrict b, ulong b_at, __global const float *restrict a2, ulong a2_at,
           __global const float *restrict b2, ulong b2_at, __global const float *restrict gate, ulong gate_at, __global float *restrict c, ulong c_at, long a_row,
           long a_column, long b_row, long b_column, long a2_row, long a2_column, long b2_row, long b2_column, long c_row, int m, int n, int k, int k2, float alpha,
           float alpha2, int has_gate, EPILOGUE_PARAMETERS)
{
    __local float left[TS * TS], right[TS * TS];
    int column = (int)get_global_id(0), row = (int)get_global_id(1);
    float sum = alpha * tile_first(a + a_at, a_row, a_column, b + b_at, b_row, b_column, row, column, m, n, k, a, 0, left, right);
    if (k2)
        sum += alpha2 *
               tile_second(a2 + a2_at, a2_row, a2_column, b2 + b2_at, b2_row, b2_column, row, column, m, n, k2, gate + gate_at, has_gate, left, right);
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
