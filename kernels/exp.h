/* SPDX-License-Identifier: Apache-2.0 */
/* e^x of a vector for x <= 0 (0 for -INFINITY and what underflows), after Cephes' expf: error below 2 ulp. Own, because compilers for
 * CPUs call a scalar function for each lane. Needs vector.h. */
#if XV == 1
#define EXPX(x) exp(x)
#else
static inline floatx EXPX(floatx x)
{
    /* Below -88 is 2^-127, which is the bits of 0. A number of 2^23 has its last digit in the last bit: t is x / ln 2 rounded, and above it
     * the exponent's bias. */
    floatx least = -88.0f, up = 12583039.0f, y = x < least ? least : x, t = fma(y, (floatx)(1.44269504f), up), n = t - up;
    floatx r = fma(n, (floatx)(-0.693359375f), y);
    r = fma(n, (floatx)(2.12194440e-4f), r);
    floatx p = fma(r, (floatx)(1.9875691500e-4f), (floatx)(1.3981999507e-3f));
    p = fma(p, r, (floatx)(8.3334519073e-3f));
    p = fma(p, r, (floatx)(4.1665795894e-2f));
    p = fma(p, r, (floatx)(1.6666665459e-1f));
    p = fma(p, r, (floatx)(5.0000001201e-1f));
    p = fma(p, r * r, r) + 1.0f;
    return p * JOIN(as_float, XV)(JOIN(as_int, XV)(t) << 23);
}
#endif
