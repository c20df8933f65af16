/* SPDX-License-Identifier: Apache-2.0 */
#include "vector.h"

/* One query a row against keys and values that stay where they are: key j of row r stands with sample owner[r * owner_row + j * owner_key].
 * So rows that share a past share its memory, and nothing is copied where beams change places. One work-item a row and head. DK: size of
 * a head. */
#define DV ((DK + XV - 1) / XV)

__kernel void attention_step(__global const float *restrict q, ulong q_at, __global const float *restrict k, ulong k_at, __global const float *restrict v,
                             ulong v_at, __global const int *restrict owner, ulong owner_at, __global const int *restrict lengths, ulong lengths_at,
                             __global const float *restrict line, ulong line_at, __global float *restrict o, ulong o_at, long q_stride, long key_stride,
                             long sample_stride, int owner_row, int owner_key, int keys, int line_stride, int has_lengths, int has_line)
{
    long row = (long)get_global_id(0), h = (long)get_global_id(1), heads = (long)get_global_size(1);
    owner += owner_at + row * owner_row;
    int count = has_lengths ? clamp(lengths[lengths_at + owner[0]], 1, keys) : keys;
    floatx query[DV], sums[DV];
    q += q_at + row * q_stride + h * DK;
    for (int d = 0; d < DV; d++) query[d] = load_within(q, d * XV, DK), sums[d] = 0.0f;
    float most = -INFINITY, total = 0.0f;
    for (int j = 0; j < count; j++) {
        long at = owner[j * owner_key] * sample_stride + j * key_stride + h * DK;
        floatx products = 0.0f;
        for (int d = 0; d < DV; d++) products += query[d] * load_within(k + k_at + at, d * XV, DK);
        float score = SUM_LANES(products) + (has_line ? line[line_at + h * line_stride + j] : 0.0f), top = fmax(most, score);
        float shrink = exp(most - top), weight = exp(score - top);
        for (int d = 0; d < DV; d++) sums[d] = sums[d] * shrink + weight * load_within(v + v_at + at, d * XV, DK);
        total = total * shrink + weight;
        most = top;
    }
    for (int d = 0; d < DV; d++) store_within(sums[d] * (1.0f / total), o + o_at + row * heads * DK + h * DK, d * XV, DK);
}
