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

/* Words of the XV counters (x, y, z, w), (x, y, z, w + 1) ..., as out[XV][4]; needs vector.h. Written in lanes, because compilers don't make
 * lanes of the form above: numbers are lower halves of 64 bits, as multiplication takes them, and what is above them counts for nothing. */
#ifdef XV
#if XV == 1
inline void philox_lanes(uint x, uint y, uint z, uint w, uint2 key, uint *out)
{
    vstore4(philox((uint4)(x, y, z, w), key), 0, out);
}
#else
typedef JOIN(uint, XV) uintx;
typedef JOIN(ulong, XV) ulongx;
#define TO_UINT JOIN(convert_uint, XV)
#define FOUR_COUNTERS(v) (ulong8)(front.v.s0, back.v.s0, front.v.s1, back.v.s1, front.v.s2, back.v.s2, front.v.s3, back.v.s3)
inline void philox_lanes(uint x, uint y, uint z, uint w, uint2 key, uint *out)
{
    ulongx a = x, b = y, c = z, d = JOIN(convert_ulong, XV)(JOIN(as_uint, XV)(LANE_NUMBERS) + w), low = 0xfffffffful;
    FOR(round, 10)
    {
        ulongx first = (a & low) * 0xD2511F53ul, second = (c & low) * 0xCD9E8D57ul;
        a = second >> 32 ^ b ^ (key.x + round * 0x9E3779B9u);
        b = second;
        c = first >> 32 ^ d ^ (key.y + round * 0xBB67AE85u);
        d = first;
    }
    ulongx front = (a & low) | b << 32, back = (c & low) | d << 32;
    vstore16(as_uint16(FOUR_COUNTERS(s0123)), 0, out);
    vstore16(as_uint16(FOUR_COUNTERS(s4567)), 1, out);
#if XV == 16
    vstore16(as_uint16(FOUR_COUNTERS(s89ab)), 2, out);
    vstore16(as_uint16(FOUR_COUNTERS(scdef)), 3, out);
#endif
}
#endif
#endif
