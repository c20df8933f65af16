/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

#define PAPER 0
#define OFFICIAL 2

/* T_xi: arXiv 2311.11696, eq. 7. Exactly 0 inside the threshold. */
static inline float soft_threshold(float x, float xi)
{
    return x > xi ? x - xi : x < -xi ? x + xi : 0.0f;
}

/* The gradient's step and the proximal operator in one: modes as op/update.h has them. */
__kernel void gate_update(__global float *restrict value, ulong value_at, __global const float *restrict gradient, ulong gradient_at,
                          __global float *restrict first, ulong first_at, __global float *restrict second, ulong second_at, __global const float *restrict control,
                          ulong control_at, int mode, float lr, float rate, float root, float xi, float beta1, float beta2, float epsilon, float l1, long n)
{
    float factor = control[control_at];
    if (control[control_at + 1] == 0.0f) return;
    value += value_at;
    gradient += gradient_at;
    EACH(i, n)
    {
        float g = gradient[i] * factor, x = value[i];
        if (mode == PAPER) {
            value[i] = soft_threshold(x - lr * g, xi);
        } else {
            if (mode == OFFICIAL) g += x > 0.0f ? l1 : x < 0.0f ? -l1 : 0.0f;
            float m = first[first_at + i] = beta1 * first[first_at + i] + (1.0f - beta1) * g;
            float v = second[second_at + i] = beta2 * second[second_at + i] + (1.0f - beta2) * g * g;
            x = soft_threshold(x - rate * m / (sqrt(v) * root + epsilon), xi);
            value[i] = mode == OFFICIAL && fabs(x) < xi ? 0.0f : x;
        }
    }
}
