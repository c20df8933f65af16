/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

__kernel void fill(__global float *x, ulong x_at, float value, long n)
{
    x += x_at;
    EACH(i, n) x[i] = value;
}
