/* SPDX-License-Identifier: Apache-2.0 */
#include "vector.h"

#if XV > 1

/* Products of activations with few ranks, in one pass over each activation (op/narrow.h). Everything is row-major. A GPU takes products instead.
 *
 * A few rows of x in the nearest cache meet all ranks, RANKS at a time, a block of columns after the other. Lanes are columns, so that a rank costs what it
 * is and no vector: t's are added up at a tile's end. A work-item has some rows, and its own part of sums over rows, which it adds to as they pass. Memory brings
 * the same block of the next rows meanwhile: it is asked for as evenly as the work goes on, some rows of it with every tile. */
#define ROWS 6
#define RANKS 4
/* Rows of a tile of t, and ranks that a pass over total adds to: for 32 registers of 16 lanes, or 16 of 8. */
#if XV == 16
#define TILE_ROWS 6
#define TOGETHER 4
#else
#define TILE_ROWS 3
#define TOGETHER 2
#endif
#define COLUMNS 512

/* Rows that a tile asks for, x_row apart from `next` on: with each line of x as many lines of theirs, one after the other as they lie in memory, which brings such faster. */
#define ASKING                                         \
    int row_ends = n / LINE * LINE, to_end = row_ends; \
    long jump = x_row - row_ends
#define ASK_FOR_LINES                        \
    for (int a = 0; a < asks; a++) {         \
        ASK_FOR(next);                       \
        to_end -= LINE;                      \
        next += LINE + (to_end ? 0 : jump);  \
        to_end = to_end ? to_end : row_ends; \
    }

#define TILE_TERMS(LOAD_X, LOAD_FACTOR)                                   \
    do {                                                                  \
        floatx left[TILE_ROWS];                                           \
        FOR(i, TILE_ROWS) left[i] = LOAD_X;                               \
        FOR(j, RANKS)                                                     \
        {                                                                 \
            floatx right = LOAD_FACTOR;                                   \
            FOR(i, TILE_ROWS) sum[i][j] = MAD(left[i], right, sum[i][j]); \
        }                                                                 \
    } while (0)

/* A tile of t: rows and ranks behind the last are that one again. By itself, as what follows: within the kernel
 * its loop had too few registers. */
BY_ITSELF void tile_of_t(__global const float *x, long x_row, int rows, __global const float *factor, long factor_row, int ranks, int n,
                         __global const float *next, int asks, float4 *out)
{
    long x_offset[TILE_ROWS], factor_offset[RANKS];
    floatx sum[TILE_ROWS][RANKS];
    FOR(i, TILE_ROWS) x_offset[i] = min(i, rows - 1) * x_row;
    FOR(j, RANKS) factor_offset[j] = min(j, ranks - 1) * factor_row;
    FOR(i, TILE_ROWS) FOR(j, RANKS) sum[i][j] = (floatx)0.0f;
    int at = 0;
    ASKING;
    for (; at + LINE <= n; at += LINE) {
        ASK_FOR_LINES;
        FOR(v, LINE / XV) TILE_TERMS(LOADX(x + x_offset[i] + at + v * XV), LOADX(factor + factor_offset[j] + at + v * XV));
    }
    for (; at < n; at += XV) TILE_TERMS(load_within(x + x_offset[i], at, n), load_within(factor + factor_offset[j], at, n));
    FOR(i, TILE_ROWS) out[i] = SUMS_OF_FOUR(sum[i]);
}

static inline void put_t(const float4 *sums, __global float *t, long t_row, int rows, int ranks, int more)
{
    for (int i = 0; i < rows; i++) {
        __global float *out = t + i * t_row;
        if (ranks == RANKS) {
            vstore4(more ? vload4(0, out) + sums[i] : sums[i], 0, out);
            continue;
        }
        float v[RANKS];
        vstore4(sums[i], 0, v);
        for (int j = 0; j < ranks; j++) out[j] = more ? out[j] + v[j] : v[j];
    }
}

#define TOTAL_TERMS(START, LOAD_X, STORE)                             \
    do {                                                              \
        floatx sum[TOGETHER];                                         \
        FOR(j, TOGETHER) sum[j] = START;                              \
        FOR(i, ROWS)                                                  \
        {                                                             \
            floatx right = LOAD_X;                                    \
            FOR(j, TOGETHER) sum[j] = MAD(left[i][j], right, sum[j]); \
        }                                                             \
        FOR(j, TOGETHER) STORE;                                       \
    } while (0)

#define TAKE_ROWS                                               \
    long x_offset[ROWS], offset[TOGETHER];                      \
    floatx left[ROWS][TOGETHER];                                \
    FOR(i, ROWS) x_offset[i] = min(i, rows - 1) * x_row;        \
    FOR(j, TOGETHER) offset[j] = min(j, ranks - 1) * total_row; \
    FOR(i, ROWS) FOR(j, TOGETHER) left[i][j] = (floatx)(s[i * TOGETHER + j])

/* total, some ranks of it, += s^T x of some rows, whole lines; rows and ranks behind the last are that one again, and such rows have zeros in s. */
BY_ITSELF void add_to_total(__global const float *x, long x_row, int rows, const float *s, __global float *total, long total_row,
                            int ranks, int n, __global const float *next, int asks)
{
    TAKE_ROWS;
    ASKING;
    for (int at = 0; at < n; at += LINE) {
        ASK_FOR_LINES;
        FOR(v, LINE / XV)
        TOTAL_TERMS(LOADX(total + offset[j] + at + v * XV), LOADX(x + x_offset[i] + at + v * XV), STOREX(sum[j], total + offset[j] + at + v * XV));
    }
}

/* What is behind whole lines, and the first rows, which find nothing in total. Apart, as its calls would leave the other nothing in registers. */
BY_ITSELF void add_edge_to_total(__global const float *x, long x_row, int rows, const float *s, __global float *total, long total_row,
                                 int ranks, int n, int more)
{
    TAKE_ROWS;
    for (int at = 0; at < n; at += XV)
        TOTAL_TERMS(more ? load_within(total + offset[j], at, n) : (floatx)0.0f, load_within(x + x_offset[i], at, n), store_within(sum[j], total + offset[j], at, n));
}

/* A group of rows of x: t = x factor^T, and total (+)= s^T x; factor and total are [rank, n], rows of t and s t_row apart. */
static inline void pass_group(__global const float *x, long x_row, int rows, int n, __global const float *factor, __global float *t, __global const float *s,
                              long t_row, __global float *total, int more, int rank, int has_t, int has_s)
{
    int tiles = (rank + RANKS - 1) / RANKS * (has_t * (ROWS / TILE_ROWS) + has_s * (RANKS / TOGETHER));
    for (int column = 0; column < n; column += COLUMNS) {
        int columns = min(COLUMNS, n - column), tile = 0, asked = 0;
        __global const float *block = x + column, *next = block + ROWS * x_row;
        for (int rank_at = 0; rank_at < rank; rank_at += RANKS) {
            int ranks = min(RANKS, rank - rank_at);
            for (int i = 0; has_t && i < rows; i += TILE_ROWS) {
                float4 sums[TILE_ROWS];
                int asks = ++tile * ROWS / tiles - asked;
                tile_of_t(block + i * x_row, x_row, rows - i, factor + (long)rank_at * n + column, n, ranks, columns, next + asked * x_row, asks, sums);
                put_t(sums, t + i * t_row + rank_at, t_row, min(TILE_ROWS, rows - i), ranks, column > 0);
                asked += asks;
            }
            for (int j = 0; has_s && j < ranks; j += TOGETHER) {
                int together = min(TOGETHER, ranks - j);
                float left[ROWS * TOGETHER];
                int asks = ++tile * ROWS / tiles - asked;
                for (int i = 0; i < ROWS; i++) {
                    __global const float *from_s = s + i * t_row + rank_at;
                    for (int o = 0; o < TOGETHER; o++) left[i * TOGETHER + o] = i < rows ? from_s[j + min(o, together - 1)] : 0.0f;
                }
                __global float *to = total + (long)(rank_at + j) * n + column;
                int whole = more ? columns / LINE * LINE : 0;
                add_to_total(block, x_row, rows, left, to, n, together, whole, next + asked * x_row, asks);
                if (whole < columns) add_edge_to_total(block + whole, x_row, rows, left, to + whole, n, together, columns - whole, more);
                asked += asks;
            }
        }
    }
}

static inline long factor_elements(int4 layer_columns, int4 layer_ranks)
{
    long4 elements = convert_long4(layer_columns) * convert_long4(layer_ranks);
    return elements.s0 + elements.s1 + elements.s2 + elements.s3;
}

/* Some rows of a work-item, to whose parts others have come before (`more`), layers of x one after the other: their columns and ranks stand side by side in x, t and s,
 * their factors and parts one behind the other. */
BY_ITSELF void pass_rows(__global const float *x, long x_row, int rows, int layers, int4 layer_columns, int4 layer_ranks, __global const float *factor,
                         __global float *t, __global const float *s, __global float *parts, int more, int has_t, int has_s)
{
    int columns[4], ranks[4], rank = 0;
    vstore4(layer_columns, 0, columns);
    vstore4(layer_ranks, 0, ranks);
    for (int l = 0; l < layers; l++) rank += ranks[l];
    for (int row = 0; row < rows; row += ROWS) {
        __global const float *group = x + row * x_row, *from_s = s + (long)row * rank;
        __global float *to_t = t + (long)row * rank;
        long at = 0;
        for (int l = 0; l < layers; l++) {
            pass_group(group, x_row, min(ROWS, rows - row), columns[l], factor + at, to_t, from_s, rank, parts + at, more || row > 0, ranks[l], has_t, has_s);
            group += columns[l];
            to_t += ranks[l];
            from_s += ranks[l];
            at += (long)columns[l] * ranks[l];
        }
    }
}

#endif
