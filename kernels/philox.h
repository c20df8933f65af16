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

/* The first words of XV counters (x, y, z, w[lane]) at a time, as out[4][XV]; needs vector.h. Written in lanes, because compilers don't make
 * lanes of the form above. */
#ifdef XV
#if XV == 1
inline void philox_lanes(uint x, uint y, uint z, const uint *w, uint2 key, uint *out, int step)
{
    uint4 words = philox((uint4)(x, y, z, w[0]), key);
    out[0] = words.x, out[step] = words.y, out[2 * step] = words.z, out[3 * step] = words.w;
}
#else
/* Products of even and of odd lanes in wide ones, which are as many registers: a conversion of all lanes would be two. */
#if XV == 8
typedef ulong4 wide_lanes;
#define AS_WIDE as_ulong4
#else
typedef ulong8 wide_lanes;
#define AS_WIDE as_ulong8
#endif
typedef JOIN(uint, XV) uintx;
#define AS_NARROW JOIN(as_uint, XV)
#define LOW_WORDS 0xfffffffful
#define PHILOX_PRODUCT(x, factor, high, low)                                                           \
    do {                                                                                               \
        wide_lanes even = (AS_WIDE(x) & LOW_WORDS) * (factor), odd = (AS_WIDE(x) >> 32) * (factor);    \
        high = AS_NARROW((even >> 32) | (odd & ~LOW_WORDS));                                           \
        low = AS_NARROW((even & LOW_WORDS) | (odd << 32));                                             \
    } while (0)
inline void philox_lanes(uint x, uint y, uint z, const uint *w, uint2 key, uint *out, int step)
{
    uintx a = x, b = y, c = z, d = JOIN(vload, XV)(0, w);
    for (int round = 0; round < 10; round++) {
        uintx first_high, first_low, second_high, second_low;
        PHILOX_PRODUCT(a, 0xD2511F53ul, first_high, first_low);
        PHILOX_PRODUCT(c, 0xCD9E8D57ul, second_high, second_low);
        a = second_high ^ b ^ key.x;
        b = second_low;
        c = first_high ^ d ^ key.y;
        d = first_low;
        key += (uint2)(0x9E3779B9u, 0xBB67AE85u);
    }
    JOIN(vstore, XV)(a, 0, out);
    JOIN(vstore, XV)(b, 0, out + step);
    JOIN(vstore, XV)(c, 0, out + 2 * step);
    JOIN(vstore, XV)(d, 0, out + 3 * step);
}
#endif
#endif
