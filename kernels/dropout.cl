/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "dropout.h"

/* y (+)= x * keep * factor; y may stand in x's memory. Row r is sample first_sample + r. */
__kernel void dropout_apply(__global const float *x, ulong x_at, __global float *y, ulong y_at, long x_stride, long y_stride, long n, uint key_low, uint key_high,
                            uint step, uint stream, uint first_sample, uint threshold, float factor, int accumulate)
{
    long row = (long)get_global_id(1);
    uint2 key = (uint2)(key_low, key_high);
    x += x_at + row * x_stride;
    y += y_at + row * y_stride;
    EACH(i, n)
    {
        float v = dropout_factor(i, first_sample + (uint)row, key, step, stream, threshold, factor);
        v = v == 0.0f ? 0.0f : x[i] * v;
        y[i] = accumulate ? y[i] + v : v;
    }
}
