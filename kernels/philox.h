/* SPDX-License-Identifier: Apache-2.0 */
/* Philox 4x32-10 (Salmon et al., SC'11); the same numbers as src/base/random.c. key = (seed low, seed high ^ purpose * 0x9e3779b9). */
inline uint4 philox(uint4 counter, uint2 key)
{
    for (int round = 0; round < 10; round++) {
        uint2 low = counter.xz * (uint2)(0xD2511F53u, 0xCD9E8D57u);
        uint2 high = mul_hi(counter.xz, (uint2)(0xD2511F53u, 0xCD9E8D57u));
        counter = (uint4)(high.y ^ counter.y ^ key.x, low.y, high.x ^ counter.w ^ key.y, low.x);
        key += (uint2)(0x9E3779B9u, 0xBB67AE85u);
    }
    return counter;
}
