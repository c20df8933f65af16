/* SPDX-License-Identifier: Apache-2.0 */
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
inline uint place_of(int i, int j, int h)
{
    return (uint)((h * HEAD_WORDS + (i >> 3)) * LINE_WORDS + j);
}

/* delta[row] = sum of do o, rows as the logarithms' [sample][head][query]. */
__kernel void attention_delta(__global const float *restrict o, ulong o_at, __global const float *restrict dy, ulong dy_at, __global float *restrict delta,
                              ulong delta_at, int heads, int queries)
{
    int i = (int)get_global_id(0);
    long bh = (long)get_global_id(1), at = ((bh / heads) * queries + i) * heads * DK + (bh % heads) * DK;
    floatx sum = 0.0f;
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

/* A CPU's core: BLOCK queries by BLOCK keys at a time. What takes part stands in private arrays, rows of WIDTH numbers (zeros from DK
 * on), and every product is one of register tiles. */

#define BLOCK 32
#define RUN 4 /* blocks of queries that meet a block of keys before it is left */
#define WIDTH ((DK + 2 * XV - 1) / (2 * XV) * 2 * XV)

/* out[BLOCK][width] = start + a . b, b [depth][width] and a(r, k) = a[r * row + k * step]; start is zero or what is in out. */
__attribute__((always_inline)) inline void multiply(const float *a, int row, int step, const float *b, int depth, int width, int from_zero, float *out)
{
    for (int r0 = 0; r0 < BLOCK; r0 += TILE)
        for (int c = 0; c < width; c += 2 * XV) {
            floatx s[TILE][2];
            FOR(r, TILE)
            {
                s[r][0] = from_zero ? (floatx)(0.0f) : LOADX(out + (r0 + r) * width + c);
                s[r][1] = from_zero ? (floatx)(0.0f) : LOADX(out + (r0 + r) * width + c + XV);
            }
            for (int k = 0; k < depth; k++) {
                floatx left = LOADX(b + k * width + c), right = LOADX(b + k * width + c + XV);
                FOR(r, TILE)
                {
                    floatx f = a[(r0 + r) * row + k * step];
                    s[r][0] = MAD(f, left, s[r][0]);
                    s[r][1] = MAD(f, right, s[r][1]);
                }
            }
            FOR(r, TILE)
            {
                STOREX(s[r][0], out + (r0 + r) * width + c);
                STOREX(s[r][1], out + (r0 + r) * width + c + XV);
            }
        }
}

/* BLOCK rows from `first` on; rows from `count` on are zeros. */
inline void take_rows(__global const float *restrict x, long stride, int first, int count, float *rows)
{
    for (int r = 0; r < BLOCK; r++)
        for (int c = 0; c < WIDTH; c += XV) STOREX(first + r < count ? load_within(x + (long)(first + r) * stride, c, DK) : (floatx)(0.0f), rows + r * WIDTH + c);
}

inline void put_rows(const float *rows, __global float *restrict x, long stride, int first, int count, int accumulate)
{
    for (int r = 0; r < min(BLOCK, count - first); r++)
        for (int c = 0; c < DK; c += XV) {
            __global float *at = x + (long)(first + r) * stride;
            floatx v = LOADX(rows + r * WIDTH + c);
            store_within(accumulate ? v + load_within(at, c, DK) : v, at, c, DK);
        }
}

/* columns[WIDTH][BLOCK] of rows[BLOCK][WIDTH]. */
inline void turn(const float *rows, float *columns)
{
    for (int c = 0; c < WIDTH; c++)
        for (int r = 0; r < BLOCK; r++) columns[c * BLOCK + r] = rows[r * WIDTH + c];
}

/* Bias onto scores; what a query may not see is -INFINITY. */
inline void mask(float *s, __global const float *restrict line, int i0, int j0, int queries, int limit, int causal, int has_bias)
{
    for (int r = 0; r < BLOCK; r++, s += BLOCK) {
        int i = min(i0 + r, queries - 1), seen = clamp((causal ? min(i + 1, limit) : limit) - j0, 0, BLOCK);
        __global const float *bias = line + (j0 - i + queries - 1);
        if (has_bias && seen == BLOCK)
            for (int j = 0; j < BLOCK; j += XV) STOREX(LOADX(s + j) + LOADX(bias + j), s + j);
        else if (has_bias)
            for (int j = 0; j < seen; j++) s[j] += bias[j];
        for (int j = seen; j < BLOCK; j++) s[j] = -INFINITY;
    }
}

/* words[4][BLOCK]: of eight queries from i and of BLOCK keys from j. */
inline void draw(int i, int j, int h, dropout_key k, uint *words)
{
    uint places[BLOCK];
    for (int x = 0; x < BLOCK; x++) places[x] = place_of(i, j + x, h);
    for (int x = 0; x < BLOCK; x += XV) philox_lanes(k.step, k.stream, k.sample, places + x, k.key, words + x, BLOCK);
}

/* Factors of query i and XV keys. */
inline floatx kept(const uint *words, int i, dropout_key k)
{
    uintx half_words = (LOADX(words + (i & 7) / 2 * BLOCK) >> (uint)(16 * (i & 1))) & 0xffffu;
    return select((floatx)(k.factor), (floatx)(0.0f), half_words < (uintx)(k.threshold));
}

/* Scores of BLOCK queries, masked, to p = e^(score - most) times keep or drop; what came before shrinks with a new maximum. */
inline void softmax(float *p, float *most, float *total, float *sums, int i0, int j0, int h, dropout_key k)
{
    uint words[4 * BLOCK];
    for (int r = 0; r < BLOCK; r++, p += BLOCK, sums += WIDTH) {
        float lanes[XV], top = most[r];
        floatx highest = LOADX(p), sum = 0.0f;
        if (k.threshold && r % 8 == 0) draw(i0 + r, j0, h, k, words);
        for (int j = XV; j < BLOCK; j += XV) highest = fmax(highest, LOADX(p + j));
        STOREX(highest, lanes);
        for (int l = 0; l < XV; l++) top = fmax(top, lanes[l]);
        for (int j = 0; j < BLOCK; j += XV) {
            floatx e = EXPX(LOADX(p + j) - top);
            sum += e;
            STOREX(k.threshold ? e * kept(words + j, r, k) : e, p + j);
        }
        if (top > most[r]) {
            float shrink = exp(most[r] - top);
            most[r] = top;
            total[r] *= shrink;
            for (int c = 0; c < WIDTH; c += XV) STOREX(LOADX(sums + c) * shrink, sums + c);
        }
        total[r] += SUM_LANES(sum);
    }
}

/* Work-items: (RUN blocks of queries, samples x heads). */
__kernel void attention_forward(FORWARD_PARAMETERS)
{
    int begin = (int)get_global_id(0) * RUN * BLOCK, stop = min(queries, begin + RUN * BLOCK);
    long bh = (long)get_global_id(1), b = bh / heads;
    dropout_key random = { (uint2)(key_low, key_high), step, stream, first_sample + (uint)b, threshold, factor };
    int h = (int)(bh % heads), limit = has_lengths ? clamp(lengths[lengths_at + b], 1, keys) : keys;
    float rows[RUN * BLOCK * WIDTH], sums[RUN * BLOCK * WIDTH], most[RUN * BLOCK], total[RUN * BLOCK];
    float values[BLOCK * WIDTH], columns[WIDTH * BLOCK], p[BLOCK * BLOCK];
    line += line_at + (long)h * (queries + keys - 1);
    for (int i0 = begin; i0 < stop; i0 += BLOCK) take_rows(q + q_at + b * queries * q_stride + h * DK, q_stride, i0, queries, rows + (i0 - begin) * WIDTH);
    for (int r = 0; r < RUN * BLOCK; r++) most[r] = -INFINITY, total[r] = 0.0f;
    for (int x = 0; x < RUN * BLOCK * WIDTH; x++) sums[x] = 0.0f;
    for (int j0 = 0; j0 < (causal ? min(limit, stop) : limit); j0 += BLOCK) {
        take_rows(k + k_at + b * keys * k_stride + h * DK, k_stride, j0, keys, values);
        turn(values, columns);
        take_rows(v + v_at + b * keys * k_stride + h * DK, k_stride, j0, keys, values);
        for (int i0 = causal ? max(begin, j0) : begin; i0 < stop; i0 += BLOCK) {
            int at = i0 - begin;
            multiply(rows + at * WIDTH, WIDTH, 1, columns, DK, BLOCK, 1, p);
            mask(p, line, i0, j0, queries, limit, causal, has_bias);
            softmax(p, most + at, total + at, sums + at * WIDTH, i0, j0, h, random);
            multiply(p, BLOCK, 1, values, BLOCK, WIDTH, 0, sums + at * WIDTH);
        }
    }
    for (int r = 0; r < stop - begin; r++) {
        for (int c = 0; c < WIDTH; c += XV) STOREX(LOADX(sums + r * WIDTH + c) * (1.0f / total[r]), sums + r * WIDTH + c);
        if (has_logs) logs[logs_at + bh * queries + begin + r] = most[r] + log(total[r]);
    }
    for (int i0 = begin; i0 < stop; i0 += BLOCK)
        put_rows(sums + (i0 - begin) * WIDTH, o + o_at + b * queries * (long)(heads * DK) + h * DK, heads * DK, i0, queries, 0);
}

/* Every gradient of one head of one sample, whose probabilities are made once: blocks of keys with their sums, and for each the blocks of
 * queries, whose own sums are in dq. Work-items: samples x heads. */
__kernel void attention_backward(BACKWARD_PARAMETERS)
{
    long bh = (long)get_global_id(0), b = bh / heads, y_stride = heads * DK;
    dropout_key random = { (uint2)(key_low, key_high), step, stream, first_sample + (uint)b, threshold, factor };
    int h = (int)(bh % heads), limit = has_lengths ? clamp(lengths[lengths_at + b], 1, keys) : keys, count = queries + keys - 1;
    long q_first = b * queries * q_stride + h * DK, k_first = b * keys * k_stride + h * DK, y_first = b * queries * y_stride + h * DK;
    float key_rows[BLOCK * WIDTH], key_columns[WIDTH * BLOCK], value_columns[WIDTH * BLOCK], dk_sums[BLOCK * WIDTH], dv_sums[BLOCK * WIDTH];
    float rows[BLOCK * WIDTH], gradients[BLOCK * WIDTH], p[BLOCK * BLOCK], dp[BLOCK * BLOCK];
    uint words[4 * BLOCK];
    line += line_at + (long)h * count;
    logs += logs_at + bh * queries;
    delta += delta_at + bh * queries;
    shares += shares_at + bh * count;
    for (int x = 0; has_dline && x < count; x++) shares[x] = 0.0f;
    for (int j0 = 0; j0 < keys; j0 += BLOCK) {
        take_rows(v + v_at + k_first, k_stride, j0, keys, key_rows);
        turn(key_rows, value_columns);
        take_rows(k + k_at + k_first, k_stride, j0, keys, key_rows);
        turn(key_rows, key_columns);
        for (int x = 0; x < BLOCK * WIDTH; x++) dk_sums[x] = dv_sums[x] = 0.0f;
        for (int i0 = causal ? j0 : 0; j0 < limit && i0 < queries; i0 += BLOCK) {
            take_rows(q + q_at + q_first, q_stride, i0, queries, rows);
            take_rows(dy + dy_at + y_first, y_stride, i0, queries, gradients);
            multiply(rows, WIDTH, 1, key_columns, DK, BLOCK, 1, p);
            multiply(gradients, WIDTH, 1, value_columns, DK, BLOCK, 1, dp);
            mask(p, line, i0, j0, queries, limit, causal, has_bias);
            for (int r = 0; r < BLOCK; r++) {
                int i = min(i0 + r, queries - 1);
                float *row = p + r * BLOCK, *gradient = dp + r * BLOCK, log_sum = logs[i], sum = delta[i];
                if (threshold && r % 8 == 0) draw(i0 + r, j0, h, random, words);
                for (int j = 0; j < BLOCK; j += XV) {
                    floatx e = EXPX(LOADX(row + j) - log_sum), keep = threshold ? kept(words + j, r, random) : (floatx)(1.0f);
                    STOREX(e * keep, row + j);
                    STOREX(e * (LOADX(gradient + j) * keep - sum), gradient + j);
                }
            }
            if (has_dk) {
                multiply(p, 1, BLOCK, gradients, BLOCK, WIDTH, 0, dv_sums);
                multiply(dp, 1, BLOCK, rows, BLOCK, WIDTH, 0, dk_sums);
            }
            if (has_dq) {
                multiply(dp, BLOCK, 1, key_rows, BLOCK, WIDTH, 1, rows);
                put_rows(rows, dq + dq_at + q_first, q_stride, i0, queries, j0 > 0);
            }
            for (int r = 0; has_dline && r < min(BLOCK, queries - i0); r++)
                for (int j = 0; j < min(BLOCK, keys - j0); j++) shares[j0 + j - (i0 + r) + queries - 1] += dp[r * BLOCK + j];
        }
        if (has_dk) {
            put_rows(dk_sums, dk + dk_at + k_first, k_stride, j0, keys, 0);
            put_rows(dv_sums, dv + dv_at + k_first, k_stride, j0, keys, 0);
        }
    }
}

#else

/* A GPU's core: a work-item has one row, so that neighbours read the same numbers of the other side. */

/* Scores of CHUNK keys share one change of the running maximum. */
#define CHUNK 8

inline float dot_row(const float *row, __global const float *restrict x)
{
    float sum = 0.0f;
    for (int c = 0; c < DK; c++) sum = fma(row[c], x[c], sum);
    return sum;
}

inline void add_row(float factor, __global const float *restrict x, float *sums)
{
    for (int c = 0; c < DK; c++) sums[c] = fma(factor, x[c], sums[c]);
}

inline void take_row(__global const float *restrict x, float *row)
{
    for (int c = 0; c < DK; c++) row[c] = x[c];
}

inline void put_row(const float *row, __global float *restrict x)
{
    for (int c = 0; c < DK; c++) x[c] = row[c];
}

inline float kept(int i, int j, int h, dropout_key k)
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
    float row[DK], sums[DK], s[CHUNK], most = -INFINITY, total = 0.0f;
    take_row(q + q_at + (b * queries + i) * q_stride + h * DK, row);
    line += line_at + (long)h * (queries + keys - 1) - i + queries - 1;
    k += k_at + b * keys * k_stride + h * DK;
    v += v_at + b * keys * k_stride + h * DK;
    for (int c = 0; c < DK; c++) sums[c] = 0.0f;
    for (int j0 = 0; j0 < end; j0 += CHUNK) {
        float top = most;
        for (int x = 0; x < CHUNK; x++) {
            int j = j0 + x;
            s[x] = j < end ? dot_row(row, k + j * k_stride) + (has_bias ? line[j] : 0.0f) : -INFINITY;
            top = fmax(top, s[x]);
        }
        float shrink = exp(most - top);
        total *= shrink;
        for (int c = 0; c < DK; c++) sums[c] *= shrink;
        most = top;
        for (int x = 0; x < CHUNK && j0 + x < end; x++) {
            float e = exp(s[x] - top);
            total += e;
            add_row(e * kept(i, j0 + x, h, random), v + (j0 + x) * k_stride, sums);
        }
    }
    for (int c = 0; c < DK; c++) sums[c] *= 1.0f / total;
    if (has_logs) logs[logs_at + bh * queries + i] = most + log(total);
    put_row(sums, o + o_at + (b * queries + i) * (long)(heads * DK) + h * DK);
}

/* The gradient of a pair's score: p (dp keep - delta). */
inline float score_gradient(const float *row, const float *gradient, __global const float *restrict k, __global const float *restrict v, float bias, float log_sum,
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
    for (int c = 0; c < DK; c++) sums[c] = 0.0f;
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
    for (int c = 0; c < DK; c++) key_sums[c] = value_sums[c] = 0.0f;
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
