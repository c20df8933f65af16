/* SPDX-License-Identifier: Apache-2.0 */
#include "apart.h"
#include "finish.h"
#include "range.h"
#include "vector.h"
#ifdef PASSES
#include "narrow.h"
#endif

/* C[m, n] (+)= alpha * (A B + A2 B2), then + bias, ReLU. Everything row-major, but B2 in panels on a CPU; A's element (i, k) stands at
 * i * a_row + k * a_column. One tile of C a work-item, kept in registers; both pairs of operands ride on the same sums. With B_HALF B is halves (B2 never is). */

#ifdef B_HALF
#define B_ELEMENT half
#define B_AT(b, i) vload_half(i, b)
#define B_VECTOR(p) HALF_VECTOR(p)
#define B_4(p) vload_half4(0, p)
#define B_WITHIN load_halves_within
#else
#define B_ELEMENT float
#define B_AT(b, i) ((b)[i])
#define B_VECTOR(p) LOADX(p)
#define B_4(p) vload4(0, p)
#define B_WITHIN load_within
#endif
#define HALF_VECTOR(p) JOIN(vload_half, XV)(0, p)

#define EPILOGUE_PARAMETERS __global const float *bias, ulong bias_at, int has_bias, int relu, int accumulate
#define EPILOGUE_ARGUMENTS bias, bias_at, has_bias, relu, accumulate
#define FINISH(v, column) finish(v, column, bias, bias_at, has_bias, relu)

/* Products of equal sizes are the third dimension of work-items; their operands lie so far apart. */
#define BATCH_PARAMETERS long a_next, long b_next, long c_next
#define BATCH_ARGUMENTS a_next, b_next, c_next
#define NEXT_PRODUCT(product, a, b, c) (a += (product) * a_next, b += (product) * b_next, c += (product) * c_next)

#ifdef SORA_CPU

#define AHEAD 8 /* rows, where they are copied */

BY_ITSELF floatx load_half_edge(__global const half *row, int at, int n)
{
    float lanes[XV];
    EDGE_LOOP(l) lanes[l] = at + l < n ? vload_half(at + l, row) : 0.0f;
    return LOADX(lanes);
}

static inline floatx load_halves_within(__global const half *row, int at, int n)
{
    return at + XV <= n ? HALF_VECTOR(row + at) : load_half_edge(row, at, n);
}

/* A program has the kernels that its options are asked for with: one for B as it stands, one that rearranges it, or only one of those for whole products. */
#if !defined BLOCK_ROWS && !defined B_TOGETHER

/* Few rows: B, stored [n, k], is read once, as it is: inner products of rows, XV terms at a time. Work-items: (runs of `tiles` tiles along n, runs of
 * `height` rows). The rows of B of a tile stay in a near cache while all rows of A of the run pass. */
#define DM (XV == 16 ? 8 : 4)
#define DN 3

#define DOT_TERMS(LEFT, RIGHT)                                         \
    do {                                                               \
        floatx right[DN];                                              \
        FOR(j, DN) right[j] = RIGHT;                                   \
        FOR(i, DM)                                                     \
        {                                                              \
            floatx left = LEFT;                                        \
            FOR(j, DN) lanes[i][j] = MAD(left, right[j], lanes[i][j]); \
        }                                                              \
    } while (0)

/* A B of a tile; rows behind the last are that one again. */
BY_ITSELF void dot_rows(__global const float *a, long a_row, __global const B_ELEMENT *b, long b_row, int rows, int columns, int k, float sum[DM][DN])
{
    long a_offset[DM], b_offset[DN];
    floatx lanes[DM][DN];
    FOR(i, DM) a_offset[i] = min(i, rows - 1) * a_row;
    FOR(j, DN) b_offset[j] = min(j, columns - 1) * b_row;
    FOR(i, DM) FOR(j, DN) lanes[i][j] = (floatx)0.0f;
    int at = 0;
    for (; at + XV <= k; at += XV) {
        if (at % LINE == 0) FOR(j, DN) ASK_FOR(b + b_offset[j] + DN * b_row + at);
        DOT_TERMS(LOADX(a + a_offset[i] + at), B_VECTOR(b + b_offset[j] + at));
    }
    if (at < k) DOT_TERMS(load_within(a + a_offset[i], at, k), B_WITHIN(b + b_offset[j], at, k));
    FOR(i, DM) FOR(j, DN) sum[i][j] = SUM_LANES(lanes[i][j]);
}

__kernel void gemm_dot(__global const float *restrict a, ulong a_at, __global const B_ELEMENT *restrict b, ulong b_at, __global const float *restrict a2, ulong a2_at,
                       __global const float *restrict b2, ulong b2_at, __global float *restrict c, ulong c_at, long a_row, long b_row, long a2_row, int panel2,
                       long c_row, int m, int n, int k, int k2, float alpha, int tiles, int height, EPILOGUE_PARAMETERS)
{
    int first = (int)get_global_id(0) * tiles * DN, last = min(n, first + tiles * DN), top = (int)get_global_id(1) * height, bottom = min(m, top + height);
    for (int column = first; column < last; column += DN) {
        int columns = min(DN, n - column);
        for (int row = top; row < bottom; row += DM) {
            int rows = min(DM, m - row);
            float sum[DM][DN];
            dot_rows(a + a_at + row * a_row, a_row, b + b_at + column * b_row, b_row, rows, columns, k, sum);
            for (int i = 0; i < rows; i++) {
                __global const float *left = a2 + a2_at + (row + i) * a2_row;
                for (int j = column; j < column + columns; j++) {
                    __global const float *right = k2 ? b2 + b2_at + (long)(j / panel2) * panel2 * k2 + j % panel2 : b2;
                    __global float *out = c + c_at + (row + i) * c_row + j;
                    float v = sum[i][j - column];
                    for (int p = 0; p < k2; p++) v += left[p] * right[p * panel2];
                    v = FINISH(alpha * v, j);
                    *out = accumulate ? *out + v : v;
                }
            }
        }
    }
}

#elif !defined BLOCK_ROWS && !defined PASSES

/* B in panels of W columns: [panels][k][W], with zeros behind the last column. Its element (p, j) stands at
 * p / group * next + p % group * b_row + j * b_column; four terms are of one group. Work-items: (runs of lines of 16 terms, panels): rows are so far
 * apart that a near cache holds no line of theirs until the next. */
#ifdef PACKED_HALF
#define PACKED_ELEMENT half
#define PACK(v, p) vstore_half_rte(v, 0, p)
#define PACK_VECTOR(v, p) JOIN(vstore_half, JOIN(XV, _rte))(v, 0, p)
#define PACK_8(v, p) vstore_half8_rte(v, 0, p)
#else
#define PACKED_ELEMENT float
#define PACK(v, p) (*(p) = (v))
#define PACK_VECTOR(v, p) STOREX(v, p)
#define PACK_8(v, p) vstore8(v, 0, p)
#endif

__kernel void gemm_pack(__global const B_ELEMENT *restrict b, ulong b_at, __global PACKED_ELEMENT *restrict packed, ulong packed_at, long b_row, long b_column,
                        int group, long next, int n, int k)
{
    int column = (int)get_global_id(1) * W, columns = min(W, n - column), lines = (k + 15) / 16;
    b += b_at + column * b_column;
    packed += packed_at + (long)column * k;
    EACH(line, lines)
    {
        int first = (int)line * 16, terms = min(16, k - first), turned = columns == W && b_row == 1 ? terms & ~3 : 0;
        long at[4];
        for (int p = 0; p < terms; p += 4) at[p / 4] = (first + p) / group * next + (first + p) % group * b_row;
        for (int x = 0; x < W && turned; x += 8) {
            FOR(l, 8) ASK_FOR(b + at[0] + LINE + (x + l) * b_column);
            for (int p = 0; p < turned; p += 4) {
                __global const B_ELEMENT *corner = b + at[p / 4] + x * b_column;
                float8 v[4];
                FOR(l, 4) v[l] = (float8)(B_4(corner + l * b_column), B_4(corner + (l + 4) * b_column));
                turn_4x8(v);
                FOR(i, 4) PACK_8(v[i], packed + (first + p + i) * W + x);
            }
        }
        for (int p = turned; p < terms; p++) {
            __global const B_ELEMENT *row = b + at[p / 4] + p % 4 * b_row;
            __global PACKED_ELEMENT *out = packed + (first + p) * W;
            if (columns == W && b_column == 1) {
                for (int x = 0; x < W; x += LINE) ASK_FOR(row + 2 * AHEAD * b_row + x);
                FOR(v, W / XV) PACK_VECTOR(B_VECTOR(row + v * XV), out + v * XV);
            } else
                for (int j = 0; j < W; j++) PACK(j < columns ? B_AT(row, j * b_column) : 0.0f, out + j);
        }
    }
}

#endif

/* A's step from one row to the next and from one term to the next: as it is, or as it is stored [k, m]. */
#ifdef A_BY_COLUMNS
#define A_ROW(lead) 1
#define A_TERM(lead) (lead)
#else
#define A_ROW(lead) (lead)
#define A_TERM(lead) 1
#endif

/* A tile's rows of B, where they lie together: then the step from one term to the next is known, and eight at a time pay; of few ranks four. */
#ifdef B_TOGETHER
#define B_TERM(row) W
#define AT_ONCE 8
#define RANKS_AT_ONCE 4
#else
#define B_TERM(row) (row)
#define AT_ONCE 1
#define RANKS_AT_ONCE 1
#endif

#define PRODUCT_TERM(TERM_STEP, VECTOR, B_STEP)                      \
    do {                                                             \
        floatx v[NV];                                                \
        FOR(j, NV) v[j] = VECTOR(right + j * XV);                    \
        FOR(i, MR)                                                   \
        {                                                            \
            floatx l = (floatx)(x[offset[i]]);                       \
            FOR(j, NV) sum[i][j] = MAD(l, v[j], sum[i][j]);          \
        }                                                            \
        x += (TERM_STEP);                                            \
        right += (B_STEP);                                           \
    } while (0)

/* sum, MR rows by NV vectors of C in registers, += A B over some terms, with something done beside every few. Rows behind the last are that one again. */
#define PRODUCT_AND(BESIDE, ONCE, A_TYPE, A, A_STEP, TERM_STEP, B_TYPE, VECTOR, B, B_STEP, TERMS)            \
    do {                                                                                                     \
        long offset[MR];                                                                                     \
        A_TYPE *x = (A);                                                                                     \
        B_TYPE *right = (B);                                                                                 \
        int p = 0;                                                                                           \
        FOR(i, MR) offset[i] = min(i, rows - 1) * (A_STEP);                                                  \
        _Pragma("nounroll") for (; p + ONCE <= (TERMS); p += ONCE)                                           \
        {                                                                                                    \
            BESIDE;                                                                                          \
            FOR(u, ONCE) PRODUCT_TERM(TERM_STEP, VECTOR, B_STEP);                                            \
        }                                                                                                    \
        _Pragma("nounroll") for (; p < (TERMS) && ONCE > 1; p++) PRODUCT_TERM(TERM_STEP, VECTOR, B_STEP);    \
    } while (0)
#define PRODUCT(...) PRODUCT_AND(, AT_ONCE, __VA_ARGS__)
#define PRODUCT2(A2, B2, TERMS) PRODUCT_AND(, RANKS_AT_ONCE, __global const float, A2, lead2, 1, __global const float, LOADX, B2, B_TERM(b2_row), TERMS)

/* NaN stays NaN. `least` is LEAST, without a branch for each vector. */
#define LEAST (floatx)(relu ? 0.0f : -INFINITY)
static inline floatx finished(floatx sum, float alpha, floatx base, floatx least)
{
    floatx v = MAD(sum, (floatx)alpha, base);
    return select(v, least, v < least);
}

/* C = epilogue of alpha * block [rows][W], at edges. Through memory and a loop: unrolled over the block, they would be most of what there is to compile. */
static inline void put_block(const float *block, __global float *restrict c, long c_row, int rows, int column, int n, float alpha, EPILOGUE_PARAMETERS)
{
    _Pragma("nounroll") for (int j = 0; j < NV; j++)
    {
        int at = column + j * XV;
        if (at >= n) break;
        floatx base = (floatx)0.0f;
        if (has_bias) base = load_within(bias + bias_at, at, n);
        _Pragma("nounroll") for (int i = 0; i < rows; i++)
        {
            __global float *out = c + i * c_row;
            floatx v = finished(LOADX(block + i * W + j * XV), alpha, base, LEAST);
            if (accumulate) v += load_within(out, at, n);
            store_within(v, out, at, n);
        }
    }
}

/* B2 is 0 but in blocks along its diagonal, which end at such columns and terms: the first and the last term that some columns meet. */
static inline int2 terms_met(int first, int last, int k2, int4 column_ends, int4 term_ends)
{
    int columns[4], terms[4];
    int2 met = (int2)(0, k2);
    vstore4(column_ends, 0, columns);
    vstore4(term_ends, 0, terms);
    FOR(i, 4)
    {
        if (columns[i] <= first) met.x = terms[i];
        if (columns[i] >= last) met.y = min(met.y, terms[i]);
    }
    return met;
}

/* A panel of B has `split` tiles of W columns; panels lie b_panel apart, and their rows b_row; B2 alike. A work-item has one block of columns of `run` blocks of MR
 * rows. Or, with an adapter's passes (op/gemm.h), all columns of some rows, a share of those that items before it leave: before the product of some of them a pass
 * over these of A makes those of A2 and adds to the item's part of S^T A; after it one over these of `later` adds to its part of A2^T later. */
#ifdef PASSES
#define A2_TYPE __global float
#define PASS_PARAMETERS                                                                                                                                       \
    , __global const float *restrict factor, ulong factor_at, __global const float *restrict s, ulong s_at, __global float *restrict parts, ulong parts_at,   \
        __global const float *restrict later, ulong later_at, __global float *restrict later_parts, ulong later_parts_at, long later_row, int later_columns,  \
        int layers, int4 layer_columns, int4 layer_ranks, int has_s, int items, int shares, int least, int most
#define PASS_ARGUMENTS                                                                                                                                         \
    , factor, factor_at, s, s_at, parts, parts_at, later, later_at, later_parts, later_parts_at, later_row, later_columns, layers, layer_columns, layer_ranks, \
    has_s, items, shares, least, most
#define ITEM(blocks) item_of(items)
#define TAKE_ROWS_AND_BLOCKS(blocks)                                                                                                                          \
    int top = 0, bottom = 0, first_block = 0, last_block = (blocks);                                                                                          \
    for (int i = 0; i <= item; i++) {                                                                                                                         \
        top = bottom;                                                                                                                                         \
        bottom = min(m, top + (clamp((m - top) / shares, least, most) + MR - 1) / MR * MR);                                                                   \
    }                                                                                                                                                         \
    a2 += a2_at;                                                                                                                                              \
    s += s_at;                                                                                                                                                \
    parts += parts_at + item * factor_elements(layer_columns, layer_ranks);                                                                                   \
    later += later_at;                                                                                                                                        \
    later_parts += later_parts_at + item * lead2 * later_columns
#define PASS_BEFORE(first, last)                                                                                                                              \
    __global const float *soon = later + first * later_row, *soon_end = soon;                                                                                 \
    pass_rows(a + a_at + first * lead, lead, last - first, layers, layer_columns, layer_ranks, factor + factor_at, a2 + first * lead2, s + first * lead2,     \
              parts, first > top, 1, has_s)
#define PASS_AFTER(first, last)                                                                                                                               \
    if (later_columns)                                                                                                                                        \
    pass_rows(later + first * later_row, later_row, last - first, 1, (int4)(later_columns, 0, 0, 0), (int4)(lead2, 0, 0, 0), later, a2, a2 + first * lead2,   \
              later_parts, first > top, 0, 1)
/* Rows of `later` are asked for as late as is in time, as asked for earlier they may be gone again: from where fewer steps come than they need. */
#define SOON_LINES 2
#define ASK_SOON_FROM(first, last, steps_after)                                                                                                               \
    if (soon == soon_end && (last - first) * later_columns > (steps_after) * SOON_LINES * LINE) soon_end += (last - first) * later_row
#define ASK_SOON                                           \
    for (int l = 0; l < SOON_LINES && soon < soon_end; l++) { \
        ASK_FOR(soon);                                     \
        soon += LINE;                                      \
    }
#else
#define A2_TYPE __global const float
#define PASS_PARAMETERS
#define PASS_ARGUMENTS
#define ITEM(blocks) item_of(blocks)
#define TAKE_ROWS_AND_BLOCKS(blocks)                                                                      \
    int top = down * run * MR, bottom = min(m, top + run * MR), first_block = item, last_block = item + 1; \
    a2 += a2_at
#define PASS_BEFORE(first, last)
#define PASS_AFTER(first, last)
#define ASK_SOON_FROM(first, last, steps_after)
#define ASK_SOON
#endif

#define PRODUCT_PARAMETERS                                                                                                                             \
    __global const float *restrict a, ulong a_at, __global const B_ELEMENT *restrict b, ulong b_at, A2_TYPE *restrict a2, ulong a2_at,                 \
        __global const float *restrict b2, ulong b2_at, __global float *restrict c, ulong c_at, long lead, long b_panel, long b_row, int split,        \
        long lead2, long b2_panel, long b2_row, int split2, long c_row, int m, int n, int k, int k2, int4 column_ends, int4 term_ends, int run,        \
        int ask_ahead, int c_turned, float alpha, EPILOGUE_PARAMETERS, BATCH_PARAMETERS PASS_PARAMETERS
#define PRODUCT_ARGUMENTS                                                                                                                                      \
    a, a_at, b, b_at, a2, a2_at, b2, b2_at, c, c_at, lead, b_panel, b_row, split, lead2, b2_panel, b2_row, split2, c_row, m, n, k, k2, column_ends, term_ends, \
    run, ask_ahead, c_turned, alpha, EPILOGUE_ARGUMENTS, BATCH_ARGUMENTS PASS_ARGUMENTS

/* With every few terms some lines of the next panel of B are asked for: all blocks of rows that pass one ask for the same share. */
#define ASK_FOR_NEXT                                                   \
    do {                                                               \
        for (long at = 0; at < share; at += LINE) ASK_FOR(next + at);  \
        next += share;                                                 \
        ASK_SOON;                                                      \
    } while (0)

#define PUT_BLOCK(block) put_block(block, c + c_at + row * c_row, c_row, rows, column, n, alpha, EPILOGUE_ARGUMENTS)

/* The same of a whole tile, straight from registers. */
#define PUT_TILE(sum)                                                                       \
    do {                                                                                    \
        __global float *out = c + c_at + row * c_row + column;                              \
        FOR(j, NV)                                                                          \
        {                                                                                   \
            floatx base = (floatx)0.0f;                                                     \
            if (has_bias) base = LOADX(bias + bias_at + column + j * XV);                   \
            FOR(i, MR) sum[i][j] = finished(sum[i][j], alpha, base, LEAST);                 \
        }                                                                                   \
        if (accumulate) FOR(i, MR) FOR(j, NV) sum[i][j] += LOADX(out + i * c_row + j * XV); \
        FOR(i, MR) FOR(j, NV) STOREX(sum[i][j], out + i * c_row + j * XV);                  \
    } while (0)

/* What a work-item of several tiles has. */
#define HEIGHT (BLOCK_ROWS + MR)
#define BLOCKS ((n + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS)
#define B2_PANEL(column) (b2 + b2_at + (column) / W / split2 * b2_panel + (column) / W % split2 * W)

#if defined SAMPLED || defined A_ZEROS
#include "zeros.h"
#endif

#ifdef SAMPLED

/* C = alpha * (A B + A2 B2) where `wanted` is not 0, elsewhere 0: inner products of a row of A, HELD vectors of it at a time in registers, with those rows of
 * B^T that are asked for, which stands in panels of PANEL columns. Rows of as many columns of C as stay in the nearest cache meet all rows of A. Work-items,
 * apart: (blocks of columns, runs of rows). */
#define HELD 8
#define PART (HELD * XV)
#define NEAR PLACES
#define NEAR_ROW (BLOCK_COLUMNS + LINE) /* rows a power of two apart would push each other out of a cache */
#define PIECES ((PART + PANEL - 1) / PANEL)
#define LISTS (BLOCK_COLUMNS / NEAR)
#define PIECE(at, column) (b + b_at + min((at) / PANEL + p, (k - 1) / PANEL) * b_panel + (long)(column) * PANEL)
#define ASKED (NEAR * PANEL / BLOCK_ROWS) /* of a piece's next terms or columns, with each row */

/* The columns of `places`, in ascending order, times PANEL; the last one again up to a multiple of four. */
static inline void list_of(ulong places, ushort *list)
{
    int count = 0;
    while (places) list[count++] = (ushort)(next_place(&places) * PANEL);
    for (; count & 3; count++) list[count] = list[count - 1];
}

/* sums[count] (+)= the products of some terms of a row of A; what is behind its last counts as 0. */
BY_ITSELF void add_sampled(__global const float *a, int terms, __global const B_ELEMENT *const *piece, const ushort *list, int count, int more, float *sums)
{
    floatx left[HELD];
    if (terms >= PART)
        FOR(v, HELD) left[v] = LOADX(a + v * XV);
    else
        FOR(v, HELD) left[v] = load_within(a, v * XV, terms);
    for (int l = 0; l < count; l += 4) {
        floatx sum[4];
        FOR(v, HELD)
        FOR(t, 4)
        {
            floatx right = B_VECTOR(piece[v * XV / PANEL] + list[l + t] + v * XV % PANEL);
            sum[t] = v ? MAD(left[v], right, sum[t]) : left[v] * right;
        }
        float4 s = SUMS_OF_FOUR(sum);
        vstore4(more ? vload4(0, sums + l) + s : s, 0, sums + l);
    }
}

/* A part of S^T wanted [rank, columns] for some rows of both, of which wanted's are NEAR_ROW apart, 0 behind the last column. Ranks behind the last are that one again. */
#define SUM_RANKS 4
#define SUM_VECTORS (XV == 16 ? 4 : 2)
BY_ITSELF void put_sums(const float *wanted, int rows, int columns, __global const float *s, int rank, __global float *part, long part_row)
{
    for (int at = 0; at < columns; at += SUM_VECTORS * XV)
        for (int j = 0; j < rank; j += SUM_RANKS) {
            int offset[SUM_RANKS];
            floatx sum[SUM_RANKS][SUM_VECTORS];
            FOR(r, SUM_RANKS) offset[r] = min(j + r, rank - 1);
            FOR(r, SUM_RANKS) FOR(v, SUM_VECTORS) sum[r][v] = (floatx)0.0f;
            for (int i = 0; i < rows; i++) {
                floatx right[SUM_VECTORS];
                FOR(v, SUM_VECTORS) right[v] = LOADX(wanted + i * NEAR_ROW + at + v * XV);
                FOR(r, SUM_RANKS) FOR(v, SUM_VECTORS) sum[r][v] = MAD((floatx)(s[(long)i * rank + offset[r]]), right[v], sum[r][v]);
            }
            FOR(r, SUM_RANKS) FOR(v, SUM_VECTORS) store_within(sum[r][v], part + offset[r] * part_row, at + v * XV, columns);
        }
}

#define SAMPLED_PARAMETERS                                                                                                                                   \
    __global const float *restrict a, ulong a_at, __global const B_ELEMENT *restrict b, ulong b_at, __global const float *restrict a2, ulong a2_at,          \
    __global const float *restrict b2, ulong b2_at, __global const float *restrict wanted, ulong wanted_at, __global const float *restrict s, ulong s_at,    \
    __global float *restrict parts, ulong parts_at, __global float *restrict c, ulong c_at, long lead, long b_panel, long lead2, long b2_panel, long b2_row, \
    int split2, long wanted_row, int rank, long c_row, int m, int n, int k, int k2, int run, float alpha
#define SAMPLED_ARGUMENTS                                                                                                                                     \
    a, a_at, b, b_at, a2, a2_at, b2, b2_at, wanted, wanted_at, s, s_at, parts, parts_at, c, c_at, lead, b_panel, lead2, b2_panel, b2_row, split2, wanted_row, \
    rank, c_row, m, n, k, k2, run, alpha

BY_ITSELF void sampled_item(SAMPLED_PARAMETERS, int item, int down)
{
    int begin = item * BLOCK_COLUMNS, end = min(n, begin + BLOCK_COLUMNS), first = down * run * MR, last = min(m, first + run * MR);
    ushort list[HEIGHT * BLOCK_COLUMNS];
    ulong places[HEIGHT * LISTS];
    ALIGNED float sums[HEIGHT * NEAR_ROW]; /* and before, what is wanted */
    wanted += wanted_at + first * wanted_row;
    c += c_at + first * c_row;
    for (int i = 0; i < last - first; i++)
        for (int l = 0; begin + l * NEAR < end; l++) {
            __global const float *from = wanted + i * wanted_row + begin + l * NEAR;
            for (int x = 0; x < NEAR; x += LINE) ASK_FOR(from + AHEAD * wanted_row + x);
            places[i * LISTS + l] = copy_row(from, min(NEAR, end - begin - l * NEAR), sums + i * NEAR_ROW + l * NEAR);
            list_of(places[i * LISTS + l], list + i * BLOCK_COLUMNS + l * NEAR);
        }
    if (rank) put_sums(sums, last - first, end - begin, s + s_at + (long)first * rank, rank, parts + parts_at + (long)down * rank * n + begin, n);
    for (int l = 0; begin + l * NEAR < end; l++)
        for (int at = 0; at < k; at += PART) {
            int then = at + PART < k ? at + PART : 0;
            __global const B_ELEMENT *piece[PIECES], *next[PIECES];
            FOR(p, PIECES)
            {
                piece[p] = PIECE(at, begin + l * NEAR);
                next[p] = PIECE(then, begin + (then ? l : l + 1) * NEAR);
            }
            for (int i = 0; i < last - first; i++) {
                FOR(p, PIECES) for (int x = 0; x < ASKED; x += LINE) ASK_FOR(next[p] + i * ASKED + x);
                add_sampled(a + a_at + (first + i) * lead + at, k - at, piece, list + i * BLOCK_COLUMNS + l * NEAR,
                            (int)popcount(places[i * LISTS + l]), at > 0, sums + i * NEAR_ROW + l * NEAR);
            }
        }
    for (int row = first; row < last; row += MR) {
        int rows = min(MR, m - row);
        ALIGNED float block[MR * BLOCK_COLUMNS];
        for (int e = 0; e < MR * BLOCK_COLUMNS; e += XV) STOREX((floatx)0.0f, block + e);
        for (int i = 0; i < rows; i++)
            for (int l = 0; begin + l * NEAR < end; l++) {
                const float *from = sums + (row - first + i) * NEAR_ROW + l * NEAR;
                const ushort *at = list + (row - first + i) * BLOCK_COLUMNS + l * NEAR;
                int count = (int)popcount(places[(row - first + i) * LISTS + l]);
                for (int x = 0; x < count; x++) block[i * BLOCK_COLUMNS + l * NEAR + at[x] / PANEL] = from[x];
            }
        for (int column = begin; column < end; column += W) {
            floatx sum[MR][NV];
            FOR(i, MR) FOR(j, NV) sum[i][j] = LOADX(block + i * BLOCK_COLUMNS + column - begin + j * XV);
            if (k2) PRODUCT2(a2 + a2_at + row * lead2, B2_PANEL(column), k2);
            FOR(i, MR) FOR(j, NV) STOREX(alpha * sum[i][j], block + i * BLOCK_COLUMNS + column - begin + j * XV);
        }
        _Pragma("nounroll") for (int i = 0; i < rows; i++)
        {
            __global float *to = c + (row - first + i) * c_row;
            for (int x = begin; x < end; x += LINE) ASK_FOR(to + MR * c_row + x);
            _Pragma("nounroll") for (int column = begin; column < end; column += XV)
            {
                int x = column - begin, lanes = (int)(places[(row - first + i) * LISTS + x / NEAR] >> x % NEAR);
                store_within(select((floatx)0.0f, LOADX(block + i * BLOCK_COLUMNS + x), ((intx)lanes & LANE_BITS) != 0), to, column, n);
            }
        }
    }
}

__kernel void gemm_sampled(SAMPLED_PARAMETERS)
{
    int item = item_of(BLOCKS);
    if (item >= 0) sampled_item(SAMPLED_ARGUMENTS, item, (int)get_global_id(1));
}

#elif defined BLOCK_ROWS

#ifdef A_ZEROS
#ifdef A_BY_COLUMNS
/* C's transpose (+)= alpha * the tiles of a block of it. */
static inline void put_turned(const float *sums, __global float *c, long c_row, int rows, int columns, float alpha, int accumulate)
{
    for (int j = 0; j < columns; j++) {
        const float *from = sums + j / W * W * HEIGHT + j % W;
        __global float *to = c + j * c_row;
        for (int i = 0; i < rows; i += LINE) ASK_FOR(to + AHEAD * c_row + i);
        for (int i = 0; i < rows; i++) to[i] = alpha * from[i * W] + (accumulate ? to[i] : 0.0f);
    }
}
#define TURN_ROWS turn_rows(a + a_at + at * lead + first, lead, last - first, terms, left)
#define PLACES_OF(i) places_of(left + (i) * PLACES)
#else
#define TURN_ROWS
#define PLACES_OF(i) copy_row(a + a_at + (first + (i)) * lead + at, terms, left + (i) * PLACES)
#endif
/* One row of ACROSS tiles of C += those terms times their rows of B, which stay in the nearest cache while all rows of A pass. BLOCK_COLUMNS are whole groups
 * of ACROSS tiles, or one group holds all of C. */
#define ACROSS (8 / NV)
#define ASKED (BLOCK_TERMS * W / BLOCK_ROWS) /* of a tile's next terms or columns, with each row */
static inline void add_nonzero(const float *left, ulong places, __global const B_ELEMENT *const *panel, long b_row, int more, float *sums, long next)
{
    floatx sum[ACROSS][NV];
    FOR(t, ACROSS) FOR(j, NV) sum[t][j] = more ? LOADX(sums + t * next + j * XV) : (floatx)0.0f;
    while (places) {
        int first = next_place(&places);
        long row = first * B_TERM(b_row);
        floatx l = (floatx)(left[first]);
        FOR(t, ACROSS) FOR(j, NV) sum[t][j] = MAD(l, B_VECTOR(panel[t] + row + j * XV), sum[t][j]);
    }
    FOR(t, ACROSS) FOR(j, NV) STOREX(sum[t][j], sums + t * next + j * XV);
}
#endif

/* Blocks of terms pass a block of C that stands in memory near by. What of them doesn't lie together is copied: A where it is stored [k, m];
 * B, a strip of tiles at a time, where it is rows and no panels (B_ROWS). Or, A_ZEROS, terms of A that are 0 are left out, a row at a time. Work-items,
 * apart: (blocks of columns, runs of rows). */
#define STRIP ((BLOCK_COLUMNS * BLOCK_TERMS < 16384 ? BLOCK_COLUMNS : 16384 / BLOCK_TERMS) / W * W)
#define BLOCK_OF(column) (sums + ((column) - begin) * HEIGHT + (row - first) * W)
#ifdef A_BY_COLUMNS
#define LEFT_VECTORS ((MR + XV - 1) / XV)
#define LEFT_BLOCK (BLOCK_TERMS * MR + XV)
#define LEFT(row) (left + ((row) - first) / MR * LEFT_BLOCK)
#define BLOCK_A const float, LEFT(row), 1, MR
#else
#define BLOCK_A __global const float, a + a_at + row * lead + at, lead, 1
#endif
#define B_PANEL(column) (b + b_at + (column) / W / split * b_panel + (column) / W % split * W + at * b_row)
#ifdef B_ROWS
#define BLOCK_B const float, LOADX, strip + (column - begin) % STRIP * BLOCK_TERMS, W
#else
#define BLOCK_B __global const B_ELEMENT, B_VECTOR, B_PANEL(column), B_TERM(b_row)
#endif

BY_ITSELF void block_item(PRODUCT_PARAMETERS, int item, int down, long product)
{
    NEXT_PRODUCT(product, a, b, c);
    TAKE_ROWS_AND_BLOCKS(BLOCKS);
    ALIGNED float sums[HEIGHT * BLOCK_COLUMNS];
    int runs = (bottom - top + run * MR - 1) / (run * MR), height = ((bottom - top + runs - 1) / runs + MR - 1) / MR * MR;
    for (int first = top; first < bottom; first += height) {
        int last = min(bottom, first + height);
        PASS_BEFORE(first, last);
        for (int block = first_block; block < last_block; block++) {
            int begin = block * BLOCK_COLUMNS, end = min(n, begin + BLOCK_COLUMNS);
            for (int at = 0; at < k; at += BLOCK_TERMS) {
                int terms = min(BLOCK_TERMS, k - at);
#if defined A_BY_COLUMNS && !defined A_ZEROS
                ALIGNED float left[HEIGHT / MR * LEFT_BLOCK];
                /* A vector may reach over the numbers of the next term, which come after it. */
                for (int p = 0; p < terms; p++) {
                    __global const float *from = a + a_at + (at + p) * lead;
                    float *to = left + p * MR;
                    int row = first;
                    for (int i = first; i < last; i += LINE) ASK_FOR(from + AHEAD * lead + i);
                    for (; row < last && row + LEFT_VECTORS * XV <= m; row += MR, to += LEFT_BLOCK)
                        FOR(v, LEFT_VECTORS) STOREX(LOADX(from + row + v * XV), to + v * XV);
                    for (; row < last; row += MR, to += LEFT_BLOCK)
                        FOR(v, LEFT_VECTORS) STOREX(load_within(from, row + v * XV, m), to + v * XV);
                }
#endif
#ifdef B_ROWS
                ALIGNED float strip[STRIP * BLOCK_TERMS];
#endif
#ifdef A_ZEROS
                ALIGNED float left[HEIGHT * PLACES];
                ulong places[HEIGHT];
                long groups = (end - begin + ACROSS * W - 1) / (ACROSS * W), blocks_after = (last_block - block - 1) * ((k + BLOCK_TERMS - 1) / BLOCK_TERMS) + (k - 1 - at) / BLOCK_TERMS;
                ASK_SOON_FROM(first, last, blocks_after * groups * (last - first));
                TURN_ROWS;
                for (int i = 0; i < last - first; i++) places[i] = PLACES_OF(i);
                for (int column = begin; column < end; column += ACROSS * W) {
                    int then = column + ACROSS * W < end ? column + ACROSS * W : begin;
                    __global const B_ELEMENT *panel[ACROSS], *next[ACROSS];
                    FOR(t, ACROSS)
                    {
                        panel[t] = B_PANEL(min(column + t * W, (n - 1) / W * W));
                        next[t] = B_PANEL(min(then + t * W, (n - 1) / W * W)) + (then == begin ? BLOCK_TERMS * b_row : 0);
                    }
                    for (int i = 0; i < last - first; i++) {
                        FOR(t, ACROSS) for (int x = 0; x < ASKED; x += LINE) ASK_FOR(next[t] + i * ASKED + x);
                        ASK_SOON;
                        add_nonzero(left + i * PLACES, places[i], panel, b_row, at > 0, sums + (column - begin) * HEIGHT + i * W, HEIGHT * W);
                    }
                }
#else
                for (int column = begin; column < end; column += W) {
#ifdef B_ROWS
                    if ((column - begin) % STRIP == 0)
                        for (int p = 0; p < terms; p++) {
                            __global const B_ELEMENT *from = b + b_at + (at + p) * b_row;
                            for (int x = 0; x < min(STRIP, end - column); x += 16) ASK_FOR(from + AHEAD * b_row + column + x);
                            for (int x = 0; x < min(STRIP, end - column); x += W) {
                                float *to = strip + x * BLOCK_TERMS + p * W;
                                if (column + x + W <= n)
                                    FOR(j, NV) STOREX(B_VECTOR(from + column + x + j * XV), to + j * XV);
                                else
                                    FOR(j, NV) STOREX(B_WITHIN(from, column + x + j * XV, n), to + j * XV);
                            }
                        }
#endif
                    for (int row = first; row < last; row += MR) {
                        int rows = min(MR, m - row);
                        floatx sum[MR][NV];
                        FOR(i, MR) FOR(j, NV) sum[i][j] = at ? LOADX(BLOCK_OF(column) + i * W + j * XV) : (floatx)0.0f;
                        PRODUCT(BLOCK_A, BLOCK_B, terms);
                        FOR(i, MR) FOR(j, NV) STOREX(sum[i][j], BLOCK_OF(column) + i * W + j * XV);
                    }
                }
#endif
            }
#if defined A_ZEROS && defined A_BY_COLUMNS
            if (c_turned) {
                put_turned(sums, c + c_at + begin * c_row + first, c_row, last - first, end - begin, alpha, accumulate);
                continue;
            }
#endif
            for (int column = begin; column < end; column += W)
                for (int row = first; row < last; row += MR) {
                    int rows = min(MR, m - row);
                    if (k2) {
                        floatx sum[MR][NV];
                        FOR(i, MR) FOR(j, NV) sum[i][j] = LOADX(BLOCK_OF(column) + i * W + j * XV);
                        PRODUCT2(a2 + row * lead2, B2_PANEL(column), k2);
                        FOR(i, MR) FOR(j, NV) STOREX(sum[i][j], BLOCK_OF(column) + i * W + j * XV);
                    }
                    PUT_BLOCK(BLOCK_OF(column));
                }
        }
        PASS_AFTER(first, last);
    }
}

__kernel void gemm_block(PRODUCT_PARAMETERS)
{
    int item = ITEM(BLOCKS);
    if (item >= 0) block_item(PRODUCT_ARGUMENTS, item, (int)get_global_id(1), (long)get_global_id(2));
}

#else

/* A tile's C stays in registers for all of k. Blocks of columns are tiles. */
BY_ITSELF void tile_item(PRODUCT_PARAMETERS, int item, int down, long product)
{
    NEXT_PRODUCT(product, a, b, c);
    TAKE_ROWS_AND_BLOCKS((n + W - 1) / W);
    long blocks = (bottom - top + MR - 1) / MR, share = ask_ahead ? AT_ONCE * b_row / blocks : 0;
    PASS_BEFORE(top, bottom);
    for (int tile = first_block; tile < last_block; tile++) {
        int column = tile * W;
        __global const B_ELEMENT *panel = b + b_at + tile / split * b_panel + tile % split * W, *next = panel + b_panel;
        int2 met = terms_met(column, min(n, column + W), k2, column_ends, term_ends);
        __global const float *panel2 = b2 + b2_at + tile / split2 * b2_panel + tile % split2 * W + met.x * B_TERM(b2_row);
        ASK_SOON_FROM(top, bottom, (last_block - tile - 1) * blocks * (k / AT_ONCE));
        for (int row = top; row < bottom; row += MR) {
            int rows = min(MR, m - row);
            floatx sum[MR][NV];
            FOR(i, MR) FOR(j, NV) sum[i][j] = (floatx)0.0f;
            FOR(i, MR) for (int x = 0; x < W; x += LINE) ASK_FOR(c + c_at + (row + i) * c_row + column + x);
            PRODUCT_AND(ASK_FOR_NEXT, AT_ONCE, __global const float, a + a_at + row * A_ROW(lead), A_ROW(lead), A_TERM(lead), __global const B_ELEMENT, B_VECTOR,
                        panel, B_TERM(b_row), k);
            if (k2) PRODUCT2(a2 + met.x + row * lead2, panel2, met.y - met.x);
            if (rows == MR && column + W <= n) {
                PUT_TILE(sum);
                continue;
            }
            float block[MR * W];
            FOR(i, MR) FOR(j, NV) STOREX(sum[i][j], block + i * W + j * XV);
            PUT_BLOCK(block);
        }
    }
    PASS_AFTER(top, bottom);
}

__kernel void gemm_tile(PRODUCT_PARAMETERS)
{
    int item = ITEM((n + W - 1) / W);
    if (item >= 0) tile_item(PRODUCT_ARGUMENTS, item, (int)get_global_id(1), (long)get_global_id(2));
}

#endif

#elif defined TM

/* TM rows by TN columns of C by a work-group, TK terms at a time through local memory. A work-item has IM by IN of them, LY and LX apart, so that
 * neighbours read and write neighbouring numbers. Element (i, k) of A stands at i * row + k * term, (k, j) of B at k * term + j * column. */
#define LX (TN / IN)
#define LY (TM / IM)

/* `count` lines of TK terms each from `first` and `at` on as out[TK][count + 1]; what lies outside is 0. */
#define STAGE(name, TYPE, AT)                                                                                                                          \
    static inline void name(__global const TYPE *restrict x, long line, long term, int first, int lines, int at, int terms, int count, __local float *out)    \
    {                                                                                                                                                  \
        for (int e = (int)(get_local_id(1) * LX + get_local_id(0)); e < count * TK; e += LX * LY) {                                                    \
            int i = term == 1 ? e / TK : e % count, p = term == 1 ? e % TK : e / count;                                                                \
            out[p * (count + 1) + i] = first + i < lines && at + p < terms ? AT(x, (first + i) * line + (at + p) * term) : 0.0f;                       \
        }                                                                                                                                              \
    }
#define FLOAT_AT(x, i) ((x)[i])
STAGE(stage, float, FLOAT_AT)
#ifdef B_HALF
STAGE(stage_halves, half, B_AT)
#define STAGE_B stage_halves
#else
#define STAGE_B stage
#endif

/* sum += A B of the item's part. */
#define ADD_PRODUCT(A, A_ROW, A_TERM, STAGE_RIGHT, B, B_TERM, B_COLUMN, TERMS)                                                                        \
    for (int at = 0; at < (TERMS); at += TK) {                                                                                                         \
        stage(A, A_ROW, A_TERM, row, m, at, TERMS, TM, left);                                                                                          \
        STAGE_RIGHT(B, B_COLUMN, B_TERM, column, n, at, TERMS, TN, right);                                                                             \
        barrier(CLK_LOCAL_MEM_FENCE);                                                                                                                  \
        for (int p = 0; p < TK; p++) {                                                                                                                 \
            float l[IM], r[IN];                                                                                                                        \
            FOR(i, IM) l[i] = left[p * (TM + 1) + y + i * LY];                                                                                         \
            FOR(j, IN) r[j] = right[p * (TN + 1) + x + j * LX];                                                                                        \
            FOR(i, IM) FOR(j, IN) sum[i][j] = MAD(l[i], r[j], sum[i][j]);                                                                              \
        }                                                                                                                                              \
        barrier(CLK_LOCAL_MEM_FENCE);                                                                                                                  \
    }

__kernel __attribute__((reqd_work_group_size(LX, LY, 1))) void
gemm_local(__global const float *restrict a, ulong a_at, __global const B_ELEMENT *restrict b, ulong b_at, __global const float *restrict a2, ulong a2_at,
           __global const float *restrict b2, ulong b2_at, __global float *restrict c, ulong c_at, long a_row, long a_term, long b_term, long b_column,
           long a2_row, long b2_row, long c_row, int m, int n, int k, int k2, float alpha, EPILOGUE_PARAMETERS, BATCH_PARAMETERS)
{
    NEXT_PRODUCT((long)get_global_id(2), a, b, c);
    __local float left[TK * (TM + 1)], right[TK * (TN + 1)];
    int row = (int)get_global_id(1) / LY * TM, column = (int)get_group_id(0) * TN, x = (int)get_local_id(0), y = (int)get_local_id(1);
    float sum[IM][IN];
    FOR(i, IM) FOR(j, IN) sum[i][j] = 0.0f;
    ADD_PRODUCT(a + a_at, a_row, a_term, STAGE_B, b + b_at, b_term, b_column, k)
    if (k2) ADD_PRODUCT(a2 + a2_at, a2_row, 1, stage, b2 + b2_at, b2_row, 1, k2)
    FOR(i, IM)
    FOR(j, IN)
    {
        int at_row = row + y + i * LY, at_column = column + x + j * LX;
        if (at_row < m && at_column < n) {
            __global float *out = c + c_at + at_row * c_row + at_column;
            float v = FINISH(alpha * sum[i][j], at_column);
            *out = accumulate ? *out + v : v;
        }
    }
}

#else

/* C, made whole, is 0 where it isn't wanted. */
__kernel void gemm_mask(__global const float *restrict wanted, ulong wanted_at, __global float *restrict c, ulong c_at, long wanted_row, long c_row, int n)
{
    long row = (long)get_global_id(1);
    wanted += wanted_at + row * wanted_row;
    c += c_at + row * c_row;
    EACH(j, n) c[j] = wanted[j] == 0.0f ? 0.0f : c[j];
}

#endif
