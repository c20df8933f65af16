/* SPDX-License-Identifier: Apache-2.0 */
#include "vector.h"
#include "philox.h"

/* Keep or drop, 16 bits a decision: element e of sample s looks at half-word e % 8 of the block (step, stream, s, e / 8) and is dropped
 * where that is below `threshold` = round(p * 65536). `factor` = 65536 / (65536 - threshold) where kept, 0 where dropped. */
static inline float8 factors_of(uint4 words, uint threshold, float factor)
{
    return select((float8)(factor), (float8)(0.0f), convert_uint8(as_ushort8(words)) < (uint8)(threshold));
}

static inline float8 dropped(float8 x, float8 keep)
{
    return select(x * keep, (float8)(0.0f), keep == 0.0f);
}

#define AHEAD 1024 /* what is asked for meanwhile, as numbers take long to draw */

/* y = (base +) x * keep * factor; y may stand in x's or base's memory. Row r is sample first_sample + r. A work-item goes through runs of XV blocks. */
__kernel void dropout_apply(__global const float *x, ulong x_at, __global const float *base, ulong base_at, __global float *y, ulong y_at, long x_stride,
                            long base_stride, long y_stride, long n, uint key_low, uint key_high, uint step, uint stream, uint first_sample, uint threshold,
                            float factor, int has_base)
{
    long row = (long)get_global_id(1), blocks = (n + 7) / 8;
    uint2 key = (uint2)(key_low, key_high);
    uint words[4 * XV];
    x += x_at + row * x_stride;
    base += base_at + row * base_stride;
    y += y_at + row * y_stride;
    for (long first = (long)get_global_id(0) * XV; first < blocks; first += (long)get_global_size(0) * XV) {
        for (int i = 0; i < 8 * XV; i += LINE) {
            long line = 8 * first + AHEAD + i;
            ASK_FOR(x + line);
            ASK_FOR(y + line);
            if (has_base) ASK_FOR(base + line);
        }
        philox_lanes(step, stream, first_sample + (uint)row, (uint)first, key, words);
        for (int l = 0; l < XV && first + l < blocks; l++) {
            float8 keep = factors_of(vload4(l, words), threshold, factor);
            long at = 8 * (first + l);
            if (at + 8 <= n) {
                float8 v = dropped(vload8(0, x + at), keep);
                vstore8(has_base ? v + vload8(0, base + at) : v, 0, y + at);
                continue;
            }
            float rest[8] = { 0 };
            for (int e = 0; at + e < n; e++) rest[e] = x[at + e];
            vstore8(dropped(vload8(0, rest), keep), 0, rest);
            for (int e = 0; at + e < n; e++) y[at + e] = has_base ? base[at + e] + rest[e] : rest[e];
        }
    }
}
