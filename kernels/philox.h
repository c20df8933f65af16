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
typedef JOIN(uint, XV) uintx;
typedef JOIN(ulong, XV) ulongx;
#define TO_UINT JOIN(convert_uint, XV)
#define TO_ULONG JOIN(convert_ulong, XV)
inline void philox_lanes(uint x, uint y, uint z, const uint *w, uint2 key, uint *out, int step)
{
    uintx a = x, b = y, c = z, d = JOIN(vload, XV)(0, w);
    for (int round = 0; round < 10; round++) {
        ulongx first = TO_ULONG(a) * 0xD2511F53ul, second = TO_ULONG(c) * 0xCD9E8D57ul;
        a = TO_UINT(second >> 32) ^ b ^ key.x;
        b = TO_UINT(second);
        c = TO_UINT(first >> 32) ^ d ^ key.y;
        d = TO_UINT(first);
        key += (uint2)(0x9E3779B9u, 0xBB67AE85u);
    }
    JOIN(vstore, XV)(a, 0, out);
    JOIN(vstore, XV)(b, 0, out + step);
    JOIN(vstore, XV)(c, 0, out + 2 * step);
    JOIN(vstore, XV)(d, 0, out + 3 * step);
}
#endif
#endif
