/* SPDX-License-Identifier: Apache-2.0 */
#include "vector.h"
#include "exp.h"

/* One query a row against keys and values that stay where they are: key j of row r stands with sample owner[r * owner_row + j * owner_key].
 * So rows that share a past share its memory, and nothing is copied where beams change places. Work-items: (heads, runs of `together` rows with
 * the same owners), which read each key once for ROWS of them. DK: size of a head. */
#define DV ((DK + XV - 1) / XV)
#define KEYS 16 /* scores of so many at a time; a multiple of XV */
/* Vectors of values whose sums are in registers at a time. */
#if ROWS > 1
#define WIDE 2
#else
#define WIDE 8
#endif

/* Weights of the next keys, in place of their scores; what came before is to be multiplied by the result. */
static inline float take_weights(float *score, float *most, float *total)
{
    float top = *most;
    floatx sum = 0.0f;
    for (int i = 0; i < KEYS; i++) top = fmax(top, score[i]);
    float shrink = exp(*most - top);
    FOR(v, KEYS / XV)
    {
        floatx weight = EXPX(LOADX(score + v * XV) - top);
        STOREX(weight, score + v * XV);
        sum += weight;
    }
    *total = *total * shrink + SUM_LANES(sum);
    *most = top;
    return shrink;
}

__kernel void attention_step(__global const float *restrict q, ulong q_at, __global const float *restrict k, ulong k_at, __global const float *restrict v,
                             ulong v_at, __global const int *restrict owner, ulong owner_at, __global const int *restrict lengths, ulong lengths_at,
                             __global const float *restrict line, ulong line_at, __global float *restrict o, ulong o_at, long q_stride, long key_stride,
                             long sample_stride, int owner_row, int owner_key, int keys, int line_stride, int has_lengths, int has_line, int together)
{
    long h = (long)get_global_id(0), heads = (long)get_global_size(0), first = (long)get_global_id(1) * together;
    owner += owner_at + first * owner_row;
    int count = has_lengths ? clamp(lengths[lengths_at + owner[0]], 1, keys) : keys;
    q += q_at + h * DK;
    k += k_at + h * DK;
    v += v_at + h * DK;
    o += o_at + h * DK;
    line += line_at + h * line_stride;
    for (long row = first; row < first + together; row += ROWS) {
        int last = (int)(first + together - 1 - row);
        floatx query[ROWS][DV], sums[ROWS][DV];
        float most[ROWS], total[ROWS];
        FOR(r, ROWS)
        {
            most[r] = -INFINITY, total[r] = 0.0f;
            FOR(d, DV) query[r][d] = load_within(q + (row + min(r, last)) * q_stride, d * XV, DK), sums[r][d] = 0.0f;
        }
        for (int begin = 0; begin < count; begin += KEYS) {
            int n = min(KEYS, count - begin);
            long at[KEYS];
            float score[ROWS][KEYS], shrink[ROWS];
            for (int i = 0; i < n; i++) {
                floatx products[ROWS];
                float bias = has_line ? line[begin + i] : 0.0f;
                at[i] = owner[(begin + i) * owner_key] * sample_stride + (begin + i) * key_stride;
                int next = min(begin + KEYS + i, count - 1);
                long next_at = owner[next * owner_key] * sample_stride + next * key_stride;
                for (int d = 0; d < DK; d += LINE) {
                    ASK_FOR(v + at[i] + d); /* read once the weights are known */
                    ASK_FOR(k + next_at + d);
                }
                FOR(r, ROWS) products[r] = 0.0f;
                FOR(d, DV)
                {
                    floatx key = load_within(k + at[i], d * XV, DK);
                    FOR(r, ROWS) products[r] = MAD(query[r][d], key, products[r]);
                }
                FOR(r, ROWS) score[r][i] = SUM_LANES(products[r]) + bias;
            }
            for (int i = n; i < KEYS; i++) FOR(r, ROWS) score[r][i] = -INFINITY;
            FOR(r, ROWS) shrink[r] = take_weights(score[r], &most[r], &total[r]);
            for (int d = 0; d < DV; d += WIDE) {
                floatx sum[ROWS][WIDE];
                FOR(r, ROWS) FOR(e, WIDE) sum[r][e] = sums[r][min(d + e, DV - 1)] * shrink[r];
                for (int i = 0; i < n; i++) {
                    FOR(e, WIDE)
                    {
                        floatx value = load_within(v + at[i], (d + e) * XV, DK);
                        FOR(r, ROWS) sum[r][e] = MAD(score[r][i], value, sum[r][e]);
                    }
                }
                FOR(r, ROWS) FOR(e, WIDE) if (d + e < DV) sums[r][d + e] = sum[r][e];
            }
        }
        for (int r = 0; r < min(ROWS, last + 1); r++)
            for (int d = 0; d < DV; d++) store_within(sums[r][d] * (1.0f / total[r]), o + (row + r) * heads * DK, d * XV, DK);
    }
}
