/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

/* One input's channels into, or out of, their place in the joined tensor; places are in elements within an item of the batch. */
__kernel void concat_copy(__global const float *restrict x, ulong x_at, __global float *restrict y, ulong y_at, long x_stride, long y_stride, long x_place,
                          long y_place, long n)
{
    long item = (long)get_global_id(1);
    x += x_at + item * x_stride + x_place;
    y += y_at + item * y_stride + y_place;
    EACH(i, n) y[i] = x[i];
}
