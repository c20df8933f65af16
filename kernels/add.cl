/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

/* y may stand in a's or b's memory. */
__kernel void add_forward(__global const float *a, ulong a_at, __global const float *b, ulong b_at, __global float *y, ulong y_at, long a_stride,
                          long b_stride, long y_stride, long n)
{
    long row = (long)get_global_id(1);
    a += a_at + row * a_stride;
    b += b_at + row * b_stride;
    y += y_at + row * y_stride;
    EACH(i, n) y[i] = a[i] + b[i];
}
