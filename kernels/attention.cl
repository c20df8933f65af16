/* SPDX-License-Identifier: Apache-2.0 */
#include "vector.h"
#include "exp.h"
#include "philox.h"

/* Softmax(q k^T + bias) v with nothing of the size queries x keys in memory: a work-item has MQ rows of one head of one sample and goes
 * through the other side in blocks of COLUMNS, with the running maximum and sum of each row (Milakov & Gimelshein, arXiv
 * 1805.02867; Dao et al., arXiv 2205.14135). Backward makes the probabilities again from the logarithm of each row's sum.
 *
 * DK: size of a head. Rows are DK numbers at a stride; what is multiplied from the right comes transposed, [DK][padded], padded with
 * zeros to whole blocks. The bias of head h, query i, key j is line[h][j - i + queries - 1]. */

#define DV ((DK + XV - 1) / XV)
#define COLUMNS (4 * XV)
#define PARTS ((COLUMNS + 7) / 8) /* words for a row's columns */
#define HEAD_WORDS 512   /* random words: at most 4096 queries, 8 a word */
#define LINE_WORDS 4096

__kernel void attention_transpose(__global const float *restrict x, ulong x_at, __global float *restrict out, ulong out_at, long stride, int heads, int count,
                                  int padded)
{
    int j0 = (int)get_global_id(0) * XV;
    long bh = (long)get_global_id(1), b = bh / heads, h = bh % heads;
    x += x_at + b * count * stride + h * DK;
    out += out_at + bh * DK * padded;
    for (int c = 0; c < DK; c++)
        for (int l = 0; l < XV; l++) out[c * padded + j0 + l] = j0 + l < count ? x[(long)(j0 + l) * stride + c] : 0.0f;
}

/* delta[row] = sum of do o, rows as the logarithms' [sample][head][query]. */
__kernel void attention_delta(__global const float *restrict o, ulong o_at, __global const float *restrict dy, ulong dy_at, __global float *restrict delta,
                              ulong delta_at, int heads, int queries)
{
    int i = (int)get_global_id(0);
    long bh = (long)get_global_id(1), at = ((bh / heads) * queries + i) * heads * DK + (bh % heads) * DK;
    float sum = 0.0f;
    for (int c = 0; c < DK; c++) sum += o[o_at + at + c] * dy[dy_at + at + c];
    delta[delta_at + bh * queries + i] = sum;
}

/* MQ rows from `first` into rows[MQ][DK]; rows from `count` on are zeros. */
inline void take_rows(__global const float *restrict x, long stride, int first, int count, float *rows)
{
    for (int r = 0; r < MQ; r++)
        for (int c = 0; c < DK; c++) rows[r * DK + c] = first + r < count ? x[(long)(first + r) * stride + c] : 0.0f;
}

/* out[MQ][COLUMNS] = rows . columns, from column `first` of a transposed operand. */
inline void times_columns(const float *rows, __global const float *restrict columns, int padded, int first, float *out)
{
    for (int u = 0; u < COLUMNS; u += 2 * XV) {
        floatx s[MQ][2];
        FOR(r, MQ) s[r][0] = s[r][1] = 0.0f;
        __global const float *at = columns + first + u;
        for (int c = 0; c < DK; c++, at += padded) {
            floatx a = LOADX(at), b = LOADX(at + XV);
            FOR(r, MQ)
            {
                float q = rows[r * DK + c];
                s[r][0] = fma((floatx)(q), a, s[r][0]);
                s[r][1] = fma((floatx)(q), b, s[r][1]);
            }
        }
        FOR(r, MQ)
        {
            STOREX(s[r][0], out + r * COLUMNS + u);
            STOREX(s[r][1], out + r * COLUMNS + u + XV);
        }
    }
}

/* sums[MQ][DV] += factors[MQ][count] . x, rows first .. first + count of x. RG rows' sums fit the registers at a time. */
inline void add_rows(const float *factors, __global const float *restrict x, long stride, int first, int count, floatx *sums)
{
    for (int group = 0; group < MQ; group += RG) {
        floatx s[RG][DV];
        FOR(r, RG) FOR(d, DV) s[r][d] = sums[(group + r) * DV + d];
        __global const float *at = x + (long)first * stride;
        for (int j = 0; j < count; j++, at += stride) {
            floatx v[DV];
            FOR(d, DV) v[d] = load_within(at, d * XV, DK);
            FOR(r, RG)
            {
                float f = factors[(group + r) * COLUMNS + j];
                FOR(d, DV) s[r][d] = fma((floatx)(f), v[d], s[r][d]);
            }
        }
        FOR(r, RG) FOR(d, DV) sums[(group + r) * DV + d] = s[r][d];
    }
}

inline void store_rows(const floatx *sums, __global float *restrict x, long stride, int first, int count)
{
    for (int r = 0; r < MQ && first + r < count; r++)
        for (int d = 0; d < DV; d++) store_within(sums[r * DV + d], x + (long)(first + r) * stride, d * XV, DK);
}

/* Keep or drop of query i and key j: half-word i % 8 of the words of counter (step, stream, sample, place of (head, i / 8, j)). */
inline uint place_of(int i, int j, int h)
{
    return (uint)((h * HEAD_WORDS + (i >> 3)) * LINE_WORDS + j);
}

inline float kept(uint word, int i, uint threshold, float factor)
{
    return ((i & 1) != 0 ? word >> 16 : word & 0xffffu) < threshold ? 0.0f : factor;
}

typedef struct dropout_key {
    uint2 key;
    uint step, stream, sample, threshold;
    float factor;
} dropout_key;

/* words[4][count] of `count` places, a multiple of XV. */
inline void draw(const uint *places, int count, dropout_key k, uint *words)
{
    for (int x = 0; x < count; x += XV) philox_lanes(k.step, k.stream, k.sample, places + x, k.key, words + x, count);
}

/* p[MQ][COLUMNS] times keep or drop; rows are queries from i0, a multiple of MQ, columns keys from j0. */
inline void drop_keys(float *p, int i0, int j0, int h, dropout_key k)
{
    uint places[COLUMNS], words[4 * COLUMNS];
    for (int j = 0; j < COLUMNS; j++) places[j] = place_of(i0, j0 + j, h);
    draw(places, COLUMNS, k, words);
    for (int r = 0; r < MQ; r++) {
        int i = i0 + r;
        const uint *w = words + ((i & 7) >> 1) * COLUMNS;
        for (int j = 0; j < COLUMNS; j++) p[r * COLUMNS + j] *= kept(w[j], i, k.threshold, k.factor);
    }
}

/* The same factors with keys from k0 as rows and queries from i0 as columns: keep[MQ][COLUMNS]. */
inline void drop_queries(float *keep, int i0, int k0, int h, dropout_key k)
{
    uint places[MQ * PARTS], words[4 * MQ * PARTS];
    for (int x = 0; x < MQ * PARTS; x++) places[x] = place_of(i0 + 8 * (x % PARTS), k0 + x / PARTS, h);
    draw(places, MQ * PARTS, k, words);
    for (int r = 0; r < MQ; r++)
        for (int i = 0; i < COLUMNS; i++) {
            int l = (i0 + i) & 7;
            keep[r * COLUMNS + i] = kept(words[(l >> 1) * MQ * PARTS + r * PARTS + i / 8], l, k.threshold, k.factor);
        }
}

/* Scores to masked scores with bias: what query i may not see is -INFINITY. */
inline void mask_keys(float *s, __global const float *restrict line, int i0, int j0, int queries, int keys, int limit, int causal, int has_bias)
{
    for (int r = 0; r < MQ; r++) {
        int i = min(i0 + r, queries - 1), seen = min(causal ? min(i + 1, limit) : limit, keys) - j0;
        __global const float *bias = line + (j0 - i + queries - 1);
        if (has_bias)
            for (int j = 0; j < min(COLUMNS, seen); j++) s[r * COLUMNS + j] += bias[j];
        for (int j = max(seen, 0); j < COLUMNS; j++) s[r * COLUMNS + j] = -INFINITY;
    }
}

/* Work-items: (blocks of MQ queries, samples x heads). lengths: keys that are no padding. */
__kernel void attention_forward(__global const float *restrict q, ulong q_at, __global const float *restrict kt, ulong kt_at, __global const float *restrict v,
                                ulong v_at, __global const float *restrict line, ulong line_at, __global const int *restrict lengths, ulong lengths_at,
                                __global float *restrict o, ulong o_at, __global float *restrict logs, ulong logs_at, long q_stride, long v_stride, int heads,
                                int queries, int keys, int padded, int causal, int has_bias, int has_lengths, int has_logs, uint key_low, uint key_high,
                                uint step, uint stream, uint first_sample, uint threshold, float factor)
{
    int i0 = (int)get_global_id(0) * MQ;
    long bh = (long)get_global_id(1), b = bh / heads;
    dropout_key random = { (uint2)(key_low, key_high), step, stream, first_sample + (uint)b, threshold, factor };
    int h = (int)(bh % heads), limit = has_lengths ? clamp(lengths[lengths_at + b], 1, keys) : keys;
    float rows[MQ * DK], p[MQ * COLUMNS], most[MQ], total[MQ];
    floatx sums[MQ * DV];
    take_rows(q + q_at + b * queries * q_stride + h * DK, q_stride, i0, queries, rows);
    for (int r = 0; r < MQ; r++) most[r] = -INFINITY, total[r] = 0.0f;
    for (int d = 0; d < MQ * DV; d++) sums[d] = 0.0f;
    int end = causal ? min(limit, i0 + MQ) : limit;
    for (int j0 = 0; j0 < end; j0 += COLUMNS) {
        times_columns(rows, kt + kt_at + bh * DK * padded, padded, j0, p);
        mask_keys(p, line + line_at + (long)h * (queries + keys - 1), i0, j0, queries, keys, limit, causal, has_bias);
        for (int r = 0; r < MQ; r++) {
            float top = most[r];
            for (int j = 0; j < COLUMNS; j++) top = fmax(top, p[r * COLUMNS + j]);
            float shrink = exp(most[r] - top);
            floatx sum = 0.0f;
            for (int j = 0; j < COLUMNS; j += XV) {
                floatx e = EXPX(LOADX(p + r * COLUMNS + j) - top);
                STOREX(e, p + r * COLUMNS + j);
                sum += e;
            }
            most[r] = top;
            total[r] = total[r] * shrink + SUM_LANES(sum);
            for (int d = 0; d < DV; d++) sums[r * DV + d] *= shrink;
        }
        if (threshold) drop_keys(p, i0, j0, h, random);
        add_rows(p, v + v_at + b * keys * v_stride + h * DK, v_stride, j0, min(COLUMNS, keys - j0), sums);
    }
    for (int r = 0; r < MQ; r++) {
        for (int d = 0; d < DV; d++) sums[r * DV + d] *= 1.0f / total[r];
        if (has_logs && i0 + r < queries) logs[logs_at + bh * queries + i0 + r] = most[r] + log(total[r]);
    }
    store_rows(sums, o + o_at + b * queries * (long)(heads * DK) + h * DK, heads * DK, i0, queries);
}

/* p = e^(s - log), and ds = p (dp keep - delta) into dp. Not inlined: LLVM 14 (PoCL 3.1) makes wrong code of it for MQ = XV = 1 where it is
 * merged with times_columns; without optimisation, and on other devices, both forms are right. */
__attribute__((noinline)) void scores_gradient(float *p, float *dp, const float *row_log, const float *row_delta)
{
    for (int r = 0; r < MQ; r++)
        for (int j = 0; j < COLUMNS; j += XV) {
            floatx e = EXPX(LOADX(p + r * COLUMNS + j) - row_log[r]);
            STOREX(e, p + r * COLUMNS + j);
            STOREX(e * (LOADX(dp + r * COLUMNS + j) - row_delta[r]), dp + r * COLUMNS + j);
        }
}

/* dq, and this item's share of the line's gradient. Work-items: (runs of query blocks, samples x heads). */
__kernel void attention_query_gradient(__global const float *restrict q, ulong q_at, __global const float *restrict k, ulong k_at,
                                       __global const float *restrict dy, ulong dy_at, __global const float *restrict kt, ulong kt_at,
                                       __global const float *restrict vt, ulong vt_at, __global const float *restrict line, ulong line_at,
                                       __global const int *restrict lengths, ulong lengths_at, __global const float *restrict logs, ulong logs_at,
                                       __global const float *restrict delta, ulong delta_at, __global float *restrict dq, ulong dq_at,
                                       __global float *restrict dline, ulong dline_at, long q_stride, long k_stride, int heads, int queries, int keys,
                                       int padded, int causal, int has_bias, int has_lengths, int has_dq, int has_dline, int blocks, uint key_low, uint key_high, uint step,
                                       uint stream, uint first_sample, uint threshold, float factor)
{
    long bh = (long)get_global_id(1), b = bh / heads;
    dropout_key random = { (uint2)(key_low, key_high), step, stream, first_sample + (uint)b, threshold, factor };
    int h = (int)(bh % heads), limit = has_lengths ? clamp(lengths[lengths_at + b], 1, keys) : keys, count = queries + keys - 1;
    long y_stride = heads * DK;
    float rows[MQ * DK], gradients[MQ * DK], p[MQ * COLUMNS], dp[MQ * COLUMNS], row_log[MQ], row_delta[MQ];
    floatx sums[MQ * DV];
    dline += dline_at + (bh * get_global_size(0) + get_global_id(0)) * count;
    for (int x = 0; has_dline && x < count; x++) dline[x] = 0.0f;
    int begin = (int)get_global_id(0) * blocks * MQ;
    for (int i0 = begin; i0 < min(queries, begin + blocks * MQ); i0 += MQ) {
        take_rows(q + q_at + b * queries * q_stride + h * DK, q_stride, i0, queries, rows);
        take_rows(dy + dy_at + b * queries * y_stride + h * DK, y_stride, i0, queries, gradients);
        for (int r = 0; r < MQ; r++) {
            int i = min(i0 + r, queries - 1);
            row_log[r] = logs[logs_at + bh * queries + i];
            row_delta[r] = delta[delta_at + bh * queries + i];
        }
        for (int d = 0; d < MQ * DV; d++) sums[d] = 0.0f;
        int end = causal ? min(limit, i0 + MQ) : limit;
        for (int j0 = 0; j0 < end; j0 += COLUMNS) {
            times_columns(rows, kt + kt_at + bh * DK * padded, padded, j0, p);
            times_columns(gradients, vt + vt_at + bh * DK * padded, padded, j0, dp);
            mask_keys(p, line + line_at + (long)h * count, i0, j0, queries, keys, limit, causal, has_bias);
            if (threshold) drop_keys(dp, i0, j0, h, random);
            scores_gradient(p, dp, row_log, row_delta);
            int valid = min(COLUMNS, keys - j0);
            add_rows(dp, k + k_at + b * keys * k_stride + h * DK, k_stride, j0, valid, sums);
            for (int r = 0; has_dline && r < MQ && i0 + r < queries; r++)
                for (int j = 0; j < valid; j++) dline[j0 + j - (i0 + r) + queries - 1] += dp[r * COLUMNS + j];
        }
        if (has_dq) store_rows(sums, dq + dq_at + b * queries * q_stride + h * DK, q_stride, i0, queries);
    }
}

/* dk and dv: rows are keys, columns queries. Work-items: (blocks of MQ keys, samples x heads). */
__kernel void attention_key_gradient(__global const float *restrict q, ulong q_at, __global const float *restrict k, ulong k_at,
                                     __global const float *restrict v, ulong v_at, __global const float *restrict dy, ulong dy_at,
                                     __global const float *restrict qt, ulong qt_at, __global const float *restrict dyt, ulong dyt_at,
                                     __global const float *restrict line, ulong line_at, __global const int *restrict lengths, ulong lengths_at,
                                     __global const float *restrict logs, ulong logs_at, __global const float *restrict delta, ulong delta_at,
                                     __global float *restrict dk, ulong dk_at, __global float *restrict dv, ulong dv_at, long q_stride, long k_stride, int heads,
                                     int queries, int keys, int padded, int causal, int has_bias, int has_lengths, uint key_low, uint key_high, uint step,
                                     uint stream, uint first_sample, uint threshold, float factor)
{
    int k0 = (int)get_global_id(0) * MQ;
    long bh = (long)get_global_id(1), b = bh / heads;
    dropout_key random = { (uint2)(key_low, key_high), step, stream, first_sample + (uint)b, threshold, factor };
    int h = (int)(bh % heads), limit = has_lengths ? clamp(lengths[lengths_at + b], 1, keys) : keys;
    long y_stride = heads * DK;
    float key_rows[MQ * DK], value_rows[MQ * DK], p[MQ * COLUMNS], dp[MQ * COLUMNS], keep[MQ * COLUMNS], block_delta[COLUMNS];
    floatx dk_sums[MQ * DV], dv_sums[MQ * DV];
    take_rows(k + k_at + b * keys * k_stride + h * DK, k_stride, k0, keys, key_rows);
    take_rows(v + v_at + b * keys * k_stride + h * DK, k_stride, k0, keys, value_rows);
    line += line_at + (long)h * (queries + keys - 1);
    logs += logs_at + bh * queries;
    delta += delta_at + bh * queries;
    for (int d = 0; d < MQ * DV; d++) dk_sums[d] = dv_sums[d] = 0.0f;
    for (int i0 = causal ? k0 / COLUMNS * COLUMNS : 0; k0 < limit && i0 < queries; i0 += COLUMNS) {
        int valid = min(COLUMNS, queries - i0);
        times_columns(key_rows, qt + qt_at + bh * DK * padded, padded, i0, p);
        times_columns(value_rows, dyt + dyt_at + bh * DK * padded, padded, i0, dp);
        for (int i = 0; i < COLUMNS; i++) block_delta[i] = delta[min(i0 + i, queries - 1)];
        for (int r = 0; r < MQ; r++) {
            int j = k0 + r, first = j >= limit ? COLUMNS : causal ? clamp(j - i0, 0, COLUMNS) : 0;
            for (int i = 0; i < COLUMNS; i++) {
                int query = min(i0 + i, queries - 1);
                float bias = has_bias ? line[min(j, keys - 1) - query + queries - 1] : 0.0f;
                p[r * COLUMNS + i] = i >= first && i < valid ? p[r * COLUMNS + i] + bias - logs[query] : -INFINITY;
            }
        }
        if (threshold) drop_queries(keep, i0, k0, h, random);
        for (int r = 0; r < MQ; r++)
            for (int i = 0; i < COLUMNS; i += XV) {
                floatx e = EXPX(LOADX(p + r * COLUMNS + i)), k_x = threshold ? LOADX(keep + r * COLUMNS + i) : (floatx)(1.0f);
                STOREX(e * k_x, p + r * COLUMNS + i);
                STOREX(e * (LOADX(dp + r * COLUMNS + i) * k_x - LOADX(block_delta + i)), dp + r * COLUMNS + i);
            }
        add_rows(p, dy + dy_at + b * queries * y_stride + h * DK, y_stride, i0, valid, dv_sums);
        add_rows(dp, q + q_at + b * queries * q_stride + h * DK, q_stride, i0, valid, dk_sums);
    }
    store_rows(dk_sums, dk + dk_at + b * keys * k_stride + h * DK, k_stride, k0, keys);
    store_rows(dv_sums, dv + dv_at + b * keys * k_stride + h * DK, k_stride, k0, keys);
}

/* Shares of the line's gradient, in the order of samples and runs. */
__kernel void attention_line_total(__global const float *restrict shares, ulong shares_at, __global float *restrict dline, ulong dline_at, int heads, int samples,
                                   int runs, int count)
{
    int x = (int)get_global_id(0), h = (int)get_global_id(1);
    float sum = 0.0f;
    for (int b = 0; b < samples; b++)
        for (int run = 0; run < runs; run++) sum += shares[shares_at + (((long)b * heads + h) * runs + run) * count + x];
    dline[dline_at + (long)h * count + x] = sum;
}
