/* SPDX-License-Identifier: Apache-2.0 */
#include "apart.h"
#include "vector.h"
#include "exp.h"
#include "philox.h"

/* Softmax(q k^T + bias) v with nothing of the size queries x keys in memory: the other side passes in blocks, with the running maximum and
 * sum of each row (Milakov & Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135). Backward makes the probabilities again from the
 * logarithm of each row's sum.
 *
 * DK: size of a head. Rows are DK numbers at a stride. The bias of head h, query i, key j is line[h][j - i + queries - 1]. */

#define HEAD_WORDS 512 /* random words: at most 4096 queries, 8 a word */
#define LINE_WORDS 4096

typedef struct dropout_key {
    uint2 key;
    uint step, stream, sample, threshold;
    float factor;
} dropout_key;

/* What the ways forward and back take in either core. lengths: keys that are no padding. A CPU's core writes the gradients that has_* names; a GPU has a kernel for each. */
#define RANDOM_PARAMETERS uint key_low, uint key_high, uint step, uint stream, uint first_sample, uint threshold, float factor
#define FORWARD_PARAMETERS                                                                                                                              \
    __global const float *restrict q, ulong q_at, __global const float *restrict k, ulong k_at, __global const float *restrict v, ulong v_at,          \
        __global const float *restrict line, ulong line_at, __global const int *restrict lengths, ulong lengths_at, __global float *restrict o,        \
        ulong o_at, __global float *restrict logs, ulong logs_at, long q_stride, long k_stride, int heads, int queries, int keys, int causal,          \
        int has_bias, int has_lengths, int has_logs, RANDOM_PARAMETERS
#define BACKWARD_PARAMETERS                                                                                                                             \
    __global const float *restrict q, ulong q_at, __global const float *restrict k, ulong k_at, __global const float *restrict v, ulong v_at,          \
        __global const float *restrict dy, ulong dy_at, __global const float *restrict line, ulong line_at, __global const int *restrict lengths,      \
        ulong lengths_at, __global const float *restrict logs, ulong logs_at, __global const float *restrict delta, ulong delta_at,                    \
        __global float *restrict dq, ulong dq_at, __global float *restrict dk, ulong dk_at, __global float *restrict dv, ulong dv_at,                  \
        __global float *restrict shares, ulong shares_at, long q_stride, long k_stride, int heads, int queries, int keys, int causal, int has_bias,    \
        int has_lengths, int has_dq, int has_dk, int has_dline, RANDOM_PARAMETERS

/* Keep or drop of query i and key j: half-word i % 8 of the words of counter (step, stream, sample, place of (head, i / 8, j)). */
static inline uint place_of(int i, int j, int h)
{
    return (uint)((h * HEAD_WORDS + (i >> 3)) * LINE_WORDS + j);
}

/* delta[row] = sum of do o, rows as the logarithms' [sample][head][query]. */
__kernel void attention_delta(__global const float *restrict o, ulong o_at, __global const float *restrict dy, ulong dy_at, __global float *restrict delta,
                              ulong delta_at, int heads, int queries)
{
    int i = (int)get_global_id(0);
    long bh = (long)get_global_id(1), at = ((bh / heads) * queries + i) * heads * DK + (bh % heads) * DK;
    long next = at + 4 * heads * DK;
    floatx sum = 0.0f;
    for (int c = 0; c < DK; c += LINE) {
        ASK_FOR(o + o_at + next + c);
        ASK_FOR(dy + dy_at + next + c);
    }
    for (int c = 0; c < DK; c += XV) sum = fma(load_within(o + o_at + at, c, DK), load_within(dy + dy_at + at, c, DK), sum);
    delta[delta_at + bh * queries + i] = SUM_LANES(sum);
}

/* The line's gradient: shares of samples in their order. */
__kernel void attention_line_total(__global const float *restrict shares, ulong shares_at, __global float *restrict dline, ulong dline_at, int heads, int samples,
                                   int count)
{
    int x = (int)get_global_id(0), h = (int)get_global_id(1);
    float sum = 0.0f;
    for (int b = 0; b < samples; b++) sum += shares[shares_at + ((long)b * heads + h) * count + x];
    dline[dline_at + (long)h * count + x] = sum;
}

#if XV > 1

/* A CPU's core: BLOCK_QUERIES by BLOCK_KEYS at a time, a key a row, so that a register's lanes are neighbouring queries: softmax goes lane by
 * lane, and the eight half-words of a random block are eight lanes. What takes part stands in private arrays, rows of WIDTH numbers (zeros from
 * DK on), and every product is one of register tiles. Queries behind the last are zeros up to a whole tile.
 *
 * Chosen by the host: TILE; BLOCK_QUERIES, a multiple of 2 * XV and of TILE; BLOCK_KEYS, of XV and of TILE; RUN blocks of one side that stay while
 * those of the other pass. */

#define AT(p) (*(floatx *)(p)) /* where it is aligned: PoCL's vload8 comes apart where a sum follows it */
#define UP(x, by) (((x) + (by) - 1) / (by) * (by))
#define WIDTH UP(DK, 2 * XV)
#define GROUPS (BLOCK_QUERIES / 8) /* of queries that share random words */
#define DISTANCES UP(BLOCK_QUERIES + BLOCK_KEYS, XV)

/* Rows that come next: memory brings them while products are made, one with each tile. */
#define SOURCES 5
typedef struct coming {
    __global const float *row[SOURCES];
    long stride[SOURCES];
    int left[SOURCES], sources, at;
} coming;

static inline void add_coming(coming *next, __global const float *row, long stride, int count)
{
    if (count < 1) return;
    next->row[next->sources] = row;
    next->stride[next->sources] = stride;
    next->left[next->sources++] = count;
}

/* By itself, or it would be in each product. */
BY_ITSELF void ask_for_row(coming *next)
{
    int at = next->at;
    if (at == next->sources) return;
    FOR(line, (DK + 15) / 16) ASK_FOR(next->row[at] + 16 * line);
    next->row[at] += next->stride[at];
    if (--next->left[at] == 0) next->at++;
}

/* out[rows][width] = start + a . b, b [depth][width] and a(r, k) = a[r * row + k * step]; rows of b and out are `stride` apart, rows and width are
 * whole tiles. start: zero, or what is in out, times a factor of its row where there are factors. */
__attribute__((always_inline)) static inline void multiply(const float *a, int row, int step, const float *b, int rows, int depth, int width, int stride, int from_zero,
                                                    const float *factors, float *out, coming *next)
{
    for (int r0 = 0; r0 < rows; r0 += TILE)
        for (int c = 0; c < width; c += 2 * XV) {
            floatx s[TILE][2];
            ask_for_row(next);
            FOR(r, TILE)
            {
                float factor = factors ? factors[r0 + r] : 1.0f;
                s[r][0] = from_zero ? (floatx)(0.0f) : LOADX(out + (r0 + r) * stride + c) * factor;
                s[r][1] = from_zero ? (floatx)(0.0f) : LOADX(out + (r0 + r) * stride + c + XV) * factor;
            }
            for (int k = 0; k < depth; k++) {
                floatx left = LOADX(b + k * stride + c), right = LOADX(b + k * stride + c + XV);
                FOR(r, TILE)
                {
                    floatx f = a[(r0 + r) * row + k * step];
                    s[r][0] = MAD(f, left, s[r][0]);
                    s[r][1] = MAD(f, right, s[r][1]);
                }
            }
            FOR(r, TILE)
            {
                STOREX(s[r][0], out + (r0 + r) * stride + c);
                STOREX(s[r][1], out + (r0 + r) * stride + c + XV);
            }
        }
}

/* `count` rows from x on; rows from there to `rows` are zeros. */
static inline void take_rows(__global const float *restrict x, long stride, int count, int rows, float *out)
{
    for (int r = 0; r < count; r++)
        for (int c = 0; c < WIDTH; c += XV) STOREX(load_within(x + r * stride, c, DK), out + r * WIDTH + c);
    for (int e = count * WIDTH; e < rows * WIDTH; e += XV) STOREX((floatx)(0.0f), out + e);
}

static inline void put_rows(const float *rows, __global float *restrict x, long stride, int count, int accumulate)
{
    for (int r = 0; r < count; r++)
        for (int c = 0; c < DK; c += XV) {
            __global float *at = x + r * stride;
            floatx v = LOADX(rows + r * WIDTH + c);
            store_within(accumulate ? v + load_within(at, c, DK) : v, at, c, DK);
        }
}

/* columns[DK][BLOCK_QUERIES] of rows[BLOCK_QUERIES][WIDTH]. */
static inline void turn(const float *rows, float *columns)
{
    for (int r = 0; r < BLOCK_QUERIES; r += 8) {
        const float *from = rows + r * WIDTH;
        int c = 0;
        for (; c + 4 <= DK; c += 4) {
            float8 v[4];
            FOR(l, 4) v[l] = (float8)(vload4(0, from + l * WIDTH + c), vload4(0, from + (l + 4) * WIDTH + c));
            turn_4x8(v);
            FOR(i, 4) vstore8(v[i], 0, columns + (c + i) * BLOCK_QUERIES + r);
        }
        for (; c < DK; c++)
            for (int l = 0; l < 8; l++) columns[c * BLOCK_QUERIES + r + l] = from[l * WIDTH + c];
    }
}

/* What is added to the score of query i0 + i and key j0 + j, at [BLOCK_KEYS - 1 - j + i]: -INFINITY where the query may not see the key. */
static inline void take_biases(__global const float *restrict line, int i0, int j0, int queries, int keys, int causal, int has_bias, float *biases)
{
    int distance = j0 + BLOCK_KEYS - 1 - i0;
    for (int x = 0; x < BLOCK_QUERIES + BLOCK_KEYS - 1; x++, distance--)
        biases[x] = causal && distance > 0 ? -INFINITY : has_bias ? line[clamp(distance + queries - 1, 0, queries + keys - 2)] : 0.0f;
}

/* words[GROUPS][BLOCK_KEYS][4]: of `queries` queries from i0 and `keys` keys from j0. */
static inline void draw(int i0, int j0, int queries, int keys, int h, dropout_key k, uint *words)
{
    for (int g = 0; 8 * g < queries; g++)
        for (int j = 0; j < keys; j += XV) philox_lanes(k.step, k.stream, k.sample, place_of(i0 + 8 * g, j0 + j, h), k.key, words + 4 * (g * BLOCK_KEYS + j));
}

/* Factors of XV queries from c on and key j. */
static inline floatx kept(const uint *words, int c, int j, dropout_key k)
{
    const uint *at = words + 4 * (c / 8 * BLOCK_KEYS + j);
#if XV == 8
    uintx half_words = convert_uint8(as_ushort8(vload4(0, at)));
#else
    uintx half_words = convert_uint16(as_ushort16((uint8)(vload4(0, at), vload4(BLOCK_KEYS, at))));
#endif
    return select((floatx)(k.factor), (floatx)(0.0f), half_words < (uintx)(k.threshold));
}

/* Scores p[keys][BLOCK_QUERIES] with their biases to e^(score - most) times keep or drop; what came before shrinks with a new maximum. */
static inline void softmax(float *p, const float *biases, const uint *words, int queries, int keys, dropout_key k, float *most, float *total, float *shrink)
{
    for (int c = 0; c < queries; c += 2 * XV) {
        floatx top[2], sum[2] = { 0.0f, 0.0f };
        FOR(l, 2) top[l] = AT(most + c + l * XV);
        for (int j = 0; j < keys; j++)
            FOR(l, 2)
            {
                floatx *score = (floatx *)(p + j * BLOCK_QUERIES + c) + l;
                *score += LOADX(biases + BLOCK_KEYS - 1 - j + c + l * XV);
                top[l] = *score > top[l] ? *score : top[l];
            }
        for (int j = 0; j < keys; j++)
            FOR(l, 2)
            {
                floatx *score = (floatx *)(p + j * BLOCK_QUERIES + c) + l, e = EXPX(*score - top[l]);
                sum[l] += e;
                *score = k.threshold ? e * kept(words, c + l * XV, j, k) : e;
            }
        FOR(l, 2)
        {
            floatx less = EXPX(AT(most + c + l * XV) - top[l]);
            AT(most + c + l * XV) = top[l];
            AT(total + c + l * XV) = fma(AT(total + c + l * XV), less, sum[l]);
            AT(shrink + c + l * XV) = less;
        }
    }
}

/* What the kernels below hand on. */
#define RANDOM_ARGUMENTS key_low, key_high, step, stream, first_sample, threshold, factor
#define FORWARD_ARGUMENTS                                                                                                                              \
    q, q_at, k, k_at, v, v_at, line, line_at, lengths, lengths_at, o, o_at, logs, logs_at, q_stride, k_stride, heads, queries, keys, causal, has_bias, \
    has_lengths, has_logs, RANDOM_ARGUMENTS
#define BACKWARD_ARGUMENTS                                                                                                                             \
    q, q_at, k, k_at, v, v_at, dy, dy_at, line, line_at, lengths, lengths_at, logs, logs_at, delta, delta_at, dq, dq_at, dk, dk_at, dv, dv_at, shares, \
    shares_at, q_stride, k_stride, heads, queries, keys, causal, has_bias, has_lengths, has_dq, has_dk, has_dline, RANDOM_ARGUMENTS

BY_ITSELF void forward_item(FORWARD_PARAMETERS, int item, long bh)
{
    int begin = item * RUN * BLOCK_QUERIES, stop = min(queries, begin + RUN * BLOCK_QUERIES);
    long b = bh / heads;
    dropout_key random = { (uint2)(key_low, key_high), step, stream, first_sample + (uint)b, threshold, factor };
    int h = (int)(bh % heads), limit = has_lengths ? clamp(lengths[lengths_at + b], 1, keys) : keys,
        seen = causal ? min(limit, stop) : limit;
    long y_stride = (long)heads * DK;
    __global float *y = o + o_at + (b * queries + begin) * y_stride + h * DK;
    ALIGNED float columns[RUN * DK * BLOCK_QUERIES], sums[RUN * BLOCK_QUERIES * WIDTH], most[RUN * BLOCK_QUERIES], total[RUN * BLOCK_QUERIES];
    ALIGNED float rows[BLOCK_QUERIES * WIDTH], key_rows[BLOCK_KEYS * WIDTH], values[BLOCK_KEYS * WIDTH], p[BLOCK_KEYS * BLOCK_QUERIES];
    ALIGNED float biases[DISTANCES], shrink[BLOCK_QUERIES];
    ALIGNED uint words[4 * BLOCK_KEYS * GROUPS];
    line += line_at + (long)h * (queries + keys - 1);
    q += q_at + b * queries * q_stride + h * DK;
    k += k_at + b * keys * k_stride + h * DK;
    v += v_at + b * keys * k_stride + h * DK;
    for (int i0 = begin; i0 < stop; i0 += BLOCK_QUERIES) {
        take_rows(q + i0 * q_stride, q_stride, min(BLOCK_QUERIES, stop - i0), BLOCK_QUERIES, rows);
        turn(rows, columns + (i0 - begin) * DK);
    }
    for (int r = 0; r < RUN * BLOCK_QUERIES; r++) most[r] = -INFINITY, total[r] = 0.0f;
    for (int x = 0; x < UP(stop - begin, TILE) * WIDTH; x++) sums[x] = 0.0f;
    for (int j0 = 0; j0 < seen; j0 += BLOCK_KEYS) {
        int there = min(BLOCK_KEYS, limit - j0), tiled = UP(there, TILE);
        take_rows(k + j0 * k_stride, k_stride, there, tiled, key_rows);
        take_rows(v + j0 * k_stride, k_stride, there, tiled, values);
        int then = j0 + BLOCK_KEYS, more = min(BLOCK_KEYS, seen - then);
        coming next = { .sources = 0 };
        if (more > 0) {
            add_coming(&next, k + then * k_stride, k_stride, more);
            add_coming(&next, v + then * k_stride, k_stride, more);
        } else {
            add_coming(&next, y, y_stride, stop - begin);
            if (h + 1 < heads && stop == queries) {
                add_coming(&next, k + DK, k_stride, min(BLOCK_KEYS, limit));
                add_coming(&next, v + DK, k_stride, min(BLOCK_KEYS, limit));
                add_coming(&next, q + DK, q_stride, min(RUN * BLOCK_QUERIES, queries));
            } else
                add_coming(&next, q + stop * q_stride, q_stride, min(RUN * BLOCK_QUERIES, queries - stop));
        }
        for (int i0 = causal ? max(begin, j0 / BLOCK_QUERIES * BLOCK_QUERIES) : begin; i0 < stop; i0 += BLOCK_QUERIES) {
            int at = i0 - begin, width = min(BLOCK_QUERIES, UP(stop - i0, 2 * XV));
            multiply(key_rows, WIDTH, 1, columns + at * DK, tiled, DK, width, BLOCK_QUERIES, 1, 0, p, &next);
            take_biases(line, i0, j0, queries, keys, causal, has_bias, biases);
            if (threshold) draw(i0, j0, width, there, h, random, words);
            softmax(p, biases, words, width, there, random, most + at, total + at, shrink);
            multiply(p, 1, BLOCK_QUERIES, values, min(BLOCK_QUERIES, UP(stop - i0, TILE)), there, WIDTH, WIDTH, 0, shrink, sums + at * WIDTH, &next);
        }
    }
    for (int r = 0; r < stop - begin; r++) {
        for (int c = 0; c < WIDTH; c += XV) STOREX(LOADX(sums + r * WIDTH + c) * (1.0f / total[r]), sums + r * WIDTH + c);
        if (has_logs) logs[logs_at + bh * queries + begin + r] = most[r] + log(total[r]);
    }
    put_rows(sums, y, y_stride, stop - begin, 0);
}

/* Work-items, apart: (RUN blocks of queries, samples x heads). */
__kernel void attention_forward(FORWARD_PARAMETERS)
{
    int item = item_of((queries + RUN * BLOCK_QUERIES - 1) / (RUN * BLOCK_QUERIES));
    if (item >= 0) forward_item(FORWARD_ARGUMENTS, item, (long)get_global_id(1));
}

/* Scores p and gradients dp of what they weigh, [keys][BLOCK_QUERIES], to probabilities times keep or drop and gradients of scores. */
static inline void softmax_gradient(float *p, float *dp, const float *biases, const uint *words, int queries, int keys, dropout_key k, const float *logs,
                                    const float *delta)
{
    for (int j = 0; j < keys; j++, p += BLOCK_QUERIES, dp += BLOCK_QUERIES)
        for (int c = 0; c < queries; c += XV) {
            floatx e = EXPX(AT(p + c) + LOADX(biases + BLOCK_KEYS - 1 - j + c) - AT(logs + c));
            floatx keep = k.threshold ? kept(words, c, j, k) : (floatx)(1.0f);
            AT(p + c) = e * keep;
            AT(dp + c) = e * (AT(dp + c) * keep - AT(delta + c));
        }
}

/* Gradients dp[keys][BLOCK_QUERIES] of scores onto those of their distances; *shares is that of the first query and key BLOCK_KEYS - 1, and the
 * next query's lies before it. Keys that are XV apart share an array, where their distances meet lane on lane. */
static inline void add_to_line(const float *dp, int queries, int keys, __global float *restrict shares)
{
    ALIGNED float apart[XV * (XV + DISTANCES)];
    for (int e = 0; e < XV * (XV + DISTANCES); e += XV) AT(apart + e) = 0.0f;
    for (int j = 0, x = BLOCK_KEYS - 1; j < keys; j++, x--)
        for (int i = 0; i < queries; i += XV) AT(apart + x % XV * (XV + DISTANCES) + (x / XV + 1) * XV + i) += AT(dp + j * BLOCK_QUERIES + i);
    for (int x = BLOCK_KEYS - keys; x < BLOCK_KEYS - 1 + queries; x++) {
        float sum = 0.0f;
        FOR(l, XV) sum += apart[l * (XV + DISTANCES) + XV + x - l];
        shares[-x] += sum;
    }
}

/* Every gradient of one head of one sample, whose probabilities are made once: runs of blocks of keys with their sums, and for each the blocks
 * of queries, whose own sums come together in dq. */
BY_ITSELF void backward_item(BACKWARD_PARAMETERS, long bh)
{
    long b = bh / heads, y_stride = heads * DK;
    dropout_key random = { (uint2)(key_low, key_high), step, stream, first_sample + (uint)b, threshold, factor };
    int h = (int)(bh % heads), limit = has_lengths ? clamp(lengths[lengths_at + b], 1, keys) : keys, count = queries + keys - 1;
    ALIGNED float rows[BLOCK_QUERIES * WIDTH], columns[DK * BLOCK_QUERIES], gradients[BLOCK_QUERIES * WIDTH], gradient_columns[DK * BLOCK_QUERIES];
    ALIGNED float key_rows[RUN * BLOCK_KEYS * WIDTH], values[RUN * BLOCK_KEYS * WIDTH], dk_sums[RUN * BLOCK_KEYS * WIDTH], dv_sums[RUN * BLOCK_KEYS * WIDTH];
    ALIGNED float dq_sums[BLOCK_QUERIES * WIDTH], p[BLOCK_KEYS * BLOCK_QUERIES], dp[BLOCK_KEYS * BLOCK_QUERIES];
    ALIGNED float biases[DISTANCES], log_sums[BLOCK_QUERIES], deltas[BLOCK_QUERIES];
    ALIGNED uint words[4 * BLOCK_KEYS * GROUPS];
    line += line_at + (long)h * count;
    logs += logs_at + bh * queries;
    delta += delta_at + bh * queries;
    shares += shares_at + bh * count;
    q += q_at + b * queries * q_stride + h * DK;
    dq += dq_at + b * queries * q_stride + h * DK;
    k += k_at + b * keys * k_stride + h * DK;
    v += v_at + b * keys * k_stride + h * DK;
    dk += dk_at + b * keys * k_stride + h * DK;
    dv += dv_at + b * keys * k_stride + h * DK;
    dy += dy_at + b * queries * y_stride + h * DK;
    for (int x = 0; has_dline && x < count; x++) shares[x] = 0.0f;
    for (int begin = 0; begin < keys; begin += RUN * BLOCK_KEYS) {
        int stop = min(keys, begin + RUN * BLOCK_KEYS), end = clamp(limit, begin, stop);
        for (int x = 0; x < UP(stop - begin, TILE) * WIDTH; x++) dk_sums[x] = dv_sums[x] = 0.0f;
        take_rows(k + begin * k_stride, k_stride, end - begin, UP(end - begin, TILE), key_rows);
        take_rows(v + begin * k_stride, k_stride, end - begin, UP(end - begin, TILE), values);
        for (int i0 = causal ? begin / BLOCK_QUERIES * BLOCK_QUERIES : 0; begin < end && i0 < queries; i0 += BLOCK_QUERIES) {
            int here = min(BLOCK_QUERIES, queries - i0), width = UP(here, 2 * XV);
            int then = i0 + BLOCK_QUERIES, more = min(BLOCK_QUERIES, queries - then);
            coming next = { .sources = 0 };
            if (has_dq) add_coming(&next, dq + i0 * q_stride, q_stride, here);
            if (more > 0) {
                add_coming(&next, q + then * q_stride, q_stride, more);
                add_coming(&next, dy + then * y_stride, y_stride, more);
            } else {
                if (has_dk) {
                    add_coming(&next, dk + begin * k_stride, k_stride, stop - begin);
                    add_coming(&next, dv + begin * k_stride, k_stride, stop - begin);
                }
                if (h + 1 < heads && stop == keys) {
                    add_coming(&next, k + DK, k_stride, min(RUN * BLOCK_KEYS, limit));
                    add_coming(&next, v + DK, k_stride, min(RUN * BLOCK_KEYS, limit));
                }
            }
            take_rows(q + i0 * q_stride, q_stride, here, BLOCK_QUERIES, rows);
            turn(rows, columns);
            take_rows(dy + i0 * y_stride, y_stride, here, BLOCK_QUERIES, gradients);
            turn(gradients, gradient_columns);
            for (int r = 0; r < BLOCK_QUERIES; r++) {
                log_sums[r] = r < here ? logs[i0 + r] : INFINITY;
                deltas[r] = r < here ? delta[i0 + r] : 0.0f;
            }
            for (int j0 = begin; j0 < (causal ? min(end, i0 + here) : end); j0 += BLOCK_KEYS) {
                int there = min(BLOCK_KEYS, end - j0), tiled = UP(there, TILE), at = (j0 - begin) * WIDTH;
                multiply(key_rows + at, WIDTH, 1, columns, tiled, DK, width, BLOCK_QUERIES, 1, 0, p, &next);
                multiply(values + at, WIDTH, 1, gradient_columns, tiled, DK, width, BLOCK_QUERIES, 1, 0, dp, &next);
                take_biases(line, i0, j0, queries, keys, causal, has_bias, biases);
                if (threshold) draw(i0, j0, width, there, h, random, words);
                softmax_gradient(p, dp, biases, words, width, there, random, log_sums, deltas);
                if (has_dk) {
                    multiply(p, BLOCK_QUERIES, 1, gradients, tiled, here, WIDTH, WIDTH, 0, 0, dv_sums + at, &next);
                    multiply(dp, BLOCK_QUERIES, 1, rows, tiled, here, WIDTH, WIDTH, 0, 0, dk_sums + at, &next);
                }
                if (has_dq) multiply(dp, 1, BLOCK_QUERIES, key_rows + at, UP(here, TILE), there, WIDTH, WIDTH, j0 == begin, 0, dq_sums, &next);
                if (has_dline) add_to_line(dp, here, there, shares + (j0 + BLOCK_KEYS - 1 - i0 + queries - 1));
            }
            if (has_dq) put_rows(dq_sums, dq + i0 * q_stride, q_stride, here, begin > 0);
        }
        if (has_dk) {
            put_rows(dk_sums, dk + begin * k_stride, k_stride, stop - begin, 0);
            put_rows(dv_sums, dv + begin * k_stride, k_stride, stop - begin, 0);
        }
    }
}

/* Work-items, apart: (1, samples x heads). */
__kernel void attention_backward(BACKWARD_PARAMETERS)
{
    if (item_of(1) >= 0) backward_item(BACKWARD_ARGUMENTS, (long)get_global_id(1));
}

#else

/* A GPU's core: a work-item has one row, so that neighbours read the same numbers of the other side. */

/* BLOCK_KEYS, chosen by the host: keys whose scores share one change of the running maximum. */

INLINE float dot_row(const float *row, __global const float *x)
{
    float sum = 0.0f;
    FOR(c, DK) sum = MAD(row[c], x[c], sum);
    return sum;
}

INLINE void add_row(float factor, __global const float *x, float *sums)
{
    FOR(c, DK) sums[c] = MAD(factor, x[c], sums[c]);
}

INLINE void take_row(__global const float *x, float *row)
{
    FOR(c, DK) row[c] = x[c];
}

INLINE void put_row(const float *row, __global float *x)
{
    FOR(c, DK) x[c] = row[c];
}

static inline float kept(int i, int j, int h, dropout_key k)
{
    if (k.threshold == 0) return 1.0f;
    uint4 words = philox((uint4)(k.step, k.stream, k.sample, place_of(i, j, h)), k.key);
    uint word = (i & 4) != 0 ? (i & 2) != 0 ? words.w : words.z : (i & 2) != 0 ? words.y : words.x;
    return ((i & 1) != 0 ? word >> 16 : word & 0xffffu) < k.threshold ? 0.0f : k.factor;
}

/* Work-items: (queries, samples x heads). */
__kernel void attention_forward(FORWARD_PARAMETERS)
{
    int i = (int)get_global_id(0);
    long bh = (long)get_global_id(1), b = bh / heads;
    dropout_key random = { (uint2)(key_low, key_high), step, stream, first_sample + (uint)b, threshold, factor };
    int h = (int)(bh % heads), limit = has_lengths ? clamp(lengths[lengths_at + b], 1, keys) : keys, end = causal ? min(limit, i + 1) : limit;
    float row[DK], sums[DK], s[BLOCK_KEYS], most = -INFINITY, total = 0.0f;
    take_row(q + q_at + (b * queries + i) * q_stride + h * DK, row);
    line += line_at + (long)h * (queries + keys - 1) - i + queries - 1;
    k += k_at + b * keys * k_stride + h * DK;
    v += v_at + b * keys * k_stride + h * DK;
    FOR(c, DK) sums[c] = 0.0f;
    for (int j0 = 0; j0 < end; j0 += BLOCK_KEYS) {
        float top = most;
        for (int x = 0; x < BLOCK_KEYS; x++) {
            int j = j0 + x;
            s[x] = j < end ? dot_row(row, k + j * k_stride) + (has_bias ? line[j] : 0.0f) : -INFINITY;
            top = fmax(top, s[x]);
        }
        float shrink = exp(most - top);
        total *= shrink;
        FOR(c, DK) sums[c] *= shrink;
        most = top;
        for (int x = 0; x < BLOCK_KEYS && j0 + x < end; x++) {
            float e = exp(s[x] - top);
            total += e;
            add_row(e * kept(i, j0 + x, h, random), v + (j0 + x) * k_stride, sums);
        }
    }
    FOR(c, DK) sums[c] *= 1.0f / total;
    if (has_logs) logs[logs_at + bh * queries + i] = most + log(total);
    put_row(sums, o + o_at + (b * queries + i) * (long)(heads * DK) + h * DK);
}

/* The gradient of a pair's score: p (dp keep - delta). */
INLINE float score_gradient(const float *row, const float *gradient, __global const float *k, __global const float *v, float bias, float log_sum,
                                   float delta, float keep)
{
    return exp(dot_row(row, k) + bias - log_sum) * (dot_row(gradient, v) * keep - delta);
}

/* Work-items: (queries, samples x heads). */
__kernel void attention_query_gradient(BACKWARD_PARAMETERS)
{
    int i = (int)get_global_id(0);
    long bh = (long)get_global_id(1), b = bh / heads;
    dropout_key random = { (uint2)(key_low, key_high), step, stream, first_sample + (uint)b, threshold, factor };
    int h = (int)(bh % heads), limit = has_lengths ? clamp(lengths[lengths_at + b], 1, keys) : keys, end = causal ? min(limit, i + 1) : limit;
    float row[DK], gradient[DK], sums[DK], log_sum = logs[logs_at + bh * queries + i], sum = delta[delta_at + bh * queries + i];
    take_row(q + q_at + (b * queries + i) * q_stride + h * DK, row);
    take_row(dy + dy_at + (b * queries + i) * (long)(heads * DK) + h * DK, gradient);
    line += line_at + (long)h * (queries + keys - 1) - i + queries - 1;
    k += k_at + b * keys * k_stride + h * DK;
    v += v_at + b * keys * k_stride + h * DK;
    FOR(c, DK) sums[c] = 0.0f;
    for (int j = 0; j < end; j++, k += k_stride, v += k_stride)
        add_row(score_gradient(row, gradient, k, v, has_bias ? line[j] : 0.0f, log_sum, sum, kept(i, j, h, random)), k, sums);
    put_row(sums, dq + dq_at + (b * queries + i) * q_stride + h * DK);
}

/* This sample's share of the line's gradient: a work-item has the pairs of one distance. Work-items: (distances, samples x heads). */
__kernel void attention_line_share(BACKWARD_PARAMETERS)
{
    int distance = (int)get_global_id(0) - (queries - 1), count = queries + keys - 1;
    long bh = (long)get_global_id(1), b = bh / heads;
    dropout_key random = { (uint2)(key_low, key_high), step, stream, first_sample + (uint)b, threshold, factor };
    int h = (int)(bh % heads), limit = has_lengths ? clamp(lengths[lengths_at + b], 1, keys) : keys;
    float row[DK], gradient[DK], sum = 0.0f, bias = line[line_at + (long)h * count + get_global_id(0)];
    q += q_at + b * queries * q_stride + h * DK;
    dy += dy_at + b * queries * (long)(heads * DK) + h * DK;
    k += k_at + b * keys * k_stride + h * DK;
    v += v_at + b * keys * k_stride + h * DK;
    for (int i = max(0, -distance); i < queries && i + distance < limit && !(causal && distance > 0); i++) {
        take_row(q + i * q_stride, row);
        take_row(dy + i * (long)(heads * DK), gradient);
        sum += score_gradient(row, gradient, k + (i + distance) * k_stride, v + (i + distance) * k_stride, bias, logs[logs_at + bh * queries + i],
                              delta[delta_at + bh * queries + i], kept(i, i + distance, h, random));
    }
    shares[shares_at + bh * count + get_global_id(0)] = sum;
}

/* dk and dv. Work-items: (keys, samples x heads). */
__kernel void attention_key_gradient(BACKWARD_PARAMETERS)
{
    int j = (int)get_global_id(0);
    long bh = (long)get_global_id(1), b = bh / heads, y_stride = heads * DK, at = (b * keys + j) * k_stride + (bh % heads) * DK;
    dropout_key random = { (uint2)(key_low, key_high), step, stream, first_sample + (uint)b, threshold, factor };
    int h = (int)(bh % heads), limit = has_lengths ? clamp(lengths[lengths_at + b], 1, keys) : keys;
    float key_row[DK], value_row[DK], key_sums[DK], value_sums[DK];
    take_row(k + k_at + at, key_row);
    take_row(v + v_at + at, value_row);
    line += line_at + (long)h * (queries + keys - 1) + j + queries - 1;
    q += q_at + b * queries * q_stride + h * DK;
    dy += dy_at + b * queries * y_stride + h * DK;
    FOR(c, DK) key_sums[c] = value_sums[c] = 0.0f;
    for (int i = causal ? j : 0; j < limit && i < queries; i++) {
        float p = exp(dot_row(key_row, q + i * q_stride) + (has_bias ? line[-i] : 0.0f) - logs[logs_at + bh * queries + i]), keep = kept(i, j, h, random);
        float ds = p * (dot_row(value_row, dy + i * y_stride) * keep - delta[delta_at + bh * queries + i]);
        add_row(p * keep, dy + i * y_stride, value_sums);
        add_row(ds, q + i * q_stride, key_sums);
    }
    put_row(key_sums, dk + dk_at + at);
    put_row(value_sums, dv + dv_at + at);
}

#endif
