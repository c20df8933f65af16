/* SPDX-License-Identifier: Apache-2.0 */
/* Philox 4x32-10 (Salmon et al., SC'11); the same numbers as src/base/random.c. key = (seed low, seed high ^ purpose * 0x9e3779b9). */
static inline uint4 philox(uint4 counter, uint2 key)
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
static inline void philox_lanes(uint x, uint y, uint z, uint w, uint2 key, uint *out)
{
    vstore4(philox((uint4)(x, y, z, w), key), 0, out);
}
#else
typedef JOIN(uint, XV) uintx;
typedef JOIN(ulong, XV) ulongx;
/* Two counters' words at a time and no calls that convert: functions with wider vectors than the processor's are warned of. */
#define TWO_COUNTERS(v) as_uint8((ulong4)(front.v.s0, back.v.s0, front.v.s1, back.v.s1))
static inline void philox_lanes(uint x, uint y, uint z, uint w, uint2 key, uint *out)
{
    ulongx a = x, b = y, c = z, d = (ulongx)(w) + (ulongx)(LANE_LIST), low = 0xfffffffful;
    FOR(round, 10)
    {
        ulongx first = (a & low) * 0xD2511F53ul, second = (c & low) * 0xCD9E8D57ul;
        a = second >> 32 ^ b ^ (key.x + round * 0x9E3779B9u);
        b = second;
        c = first >> 32 ^ d ^ (key.y + round * 0xBB67AE85u);
        d = first;
    }
    ulongx front = (a & low) | b << 32, back = (c & low) | d << 32;
    vstore8(TWO_COUNTERS(s01), 0, out);
    vstore8(TWO_COUNTERS(s23), 1, out);
    vstore8(TWO_COUNTERS(s45), 2, out);
    vstore8(TWO_COUNTERS(s67), 3, out);
#if XV == 16
    vstore8(TWO_COUNTERS(s89), 4, out);
    vstore8(TWO_COUNTERS(sab), 5, out);
    vstore8(TWO_COUNTERS(scd), 6, out);
    vstore8(TWO_COUNTERS(sef), 7, out);
#endif
}
#endif
#endif
