/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

/* Loshchilov & Hutter, arXiv 1711.05101, algorithm 2. rate = lr / (1 - beta1^t), root = 1 / sqrt(1 - beta2^t), keep = 1 - lr * decay. */
__kernel void adamw(__global float *restrict value, ulong value_at, __global const float *restrict gradient, ulong gradient_at, __global float *restrict first,
                    ulong first_at, __global float *restrict second, ulong second_at, __global const float *restrict control, ulong control_at, float rate,
                    float root, float keep, float beta1, float beta2, float epsilon, long n)
{
    float factor = control[control_at];
    if (control[control_at + 1] == 0.0f) return;
    value += value_at;
    gradient += gradient_at;
    first += first_at;
    second += second_at;
    EACH(i, n)
    {
        float g = gradient[i] * factor;
        float m = first[i] = beta1 * first[i] + (1.0f - beta1) * g;
        float v = second[i] = beta2 * second[i] + (1.0f - beta2) * g * g;
        value[i] = value[i] * keep - rate * m / (sqrt(v) * root + epsilon);
    }
}
