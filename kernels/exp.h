/* SPDX-License-Identifier: Apache-2.0 */
/* e^x of a vector for x <= 0 (0 for -INFINITY and what underflows), after Cephes' expf: error below 2 ulp. Own, because compilers for
 * CPUs call a scalar function for each lane. Needs vector.h. */
#if XV == 1
#define EXPX(x) exp(x)
#else
inline floatx EXPX(floatx x)
{
    floatx n = rint(x * 1.44269504f), r = fma(n, (floatx)(-0.693359375f), x);
    r = fma(n, (floatx)(2.12194440e-4f), r);
    floatx p = fma(r, (floatx)(1.9875691500e-4f), (floatx)(1.3981999507e-3f));
    p = fma(p, r, (floatx)(8.3334519073e-3f));
    p = fma(p, r, (floatx)(4.1665795894e-2f));
    p = fma(p, r, (floatx)(1.6666665459e-1f));
    p = fma(p, r, (floatx)(5.0000001201e-1f));
    p = fma(p, r * r, r) + 1.0f;
    intx bits = (JOIN(convert_int, XV)(max(n, (floatx)(-127.0f))) + 127) << 23;
    return select((floatx)(0.0f), p * JOIN(as_float, XV)(bits), isgreater(x, (floatx)(-87.3f)));
}
#endif
