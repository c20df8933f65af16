/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

__kernel void copy_rows(__global const float *restrict x, ulong x_at, __global float *restrict y, ulong y_at, long x_stride, long y_stride, long n)
{
    long row = (long)get_global_id(1);
    x += x_at + row * x_stride;
    y += y_at + row * y_stride;
    EACH(i, n) y[i] = x[i];
}
