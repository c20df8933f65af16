/* SPDX-License-Identifier: Apache-2.0 */
#include "philox.h"

/* Keep or drop, 16 bits a decision: element e of sample s looks at half-word e % 8 of the block (step, stream, s, e / 8) and is dropped
 * where that is below `threshold` = round(p * 65536). `factor` = 65536 / (65536 - threshold) where kept, 0 where dropped. */
inline float dropout_factor(long element, uint sample, uint2 key, uint step, uint stream, uint threshold, float factor)
{
    uint4 words = philox((uint4)(step, stream, sample, (uint)(element >> 3)), key);
    uint which = (uint)element & 7u, pair = which >> 1;
    uint word = pair == 0 ? words.x : pair == 1 ? words.y : pair == 2 ? words.z : words.w;
    uint half_word = which & 1u ? word >> 16 : word & 0xffffu;
    return half_word < threshold ? 0.0f : factor;
}
