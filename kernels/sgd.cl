/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

/* As PyTorch's SGD: d = g + decay * w; m = momentum * m + d, or d at the first step; w -= lr * m. Without momentum `moment` is not read. */
__kernel void sgd(__global float *restrict value, ulong value_at, __global const float *restrict gradient, ulong gradient_at, __global float *restrict moment,
                  ulong moment_at, __global const float *restrict control, ulong control_at, float lr, float momentum, float decay, int has_moment, int is_first,
                  long n)
{
    float factor = control[control_at];
    if (control[control_at + 1] == 0.0f) return;
    value += value_at;
    gradient += gradient_at;
    EACH(i, n)
    {
        float d = gradient[i] * factor + decay * value[i];
        if (has_moment) d = moment[moment_at + i] = is_first ? d : momentum * moment[moment_at + i] + d;
        value[i] -= lr * d;
    }
}
