/* SPDX-License-Identifier: Apache-2.0 */
/* From a product of s dy^T t, ungated, element (o, j) at o * row + j * column and still to be multiplied by `scale`:
 * dW_u[o][j] += g[j] product(o, j), and, since dg[j] = sum of (s W_u^T dy)[j] t[j] is the same sum taken in another order,
 * dg[j] += sum over o of W_u[o][j] product(o, j). So the gate's gradient needs no pass over activations. */
__kernel void adapted_up_total(__global const float *restrict product, ulong product_at, __global const float *restrict up, ulong up_at,
                               __global const float *restrict gate, ulong gate_at, __global float *restrict up_gradient, ulong up_gradient_at,
                               __global float *restrict gate_gradient, ulong gate_gradient_at, int outputs, long rank, long row, long column, float scale, int has_gate, int wants_up, int wants_gate)
{
    EACH(j, rank)
    {
        float g = has_gate ? gate[gate_at + j] : 1.0f, sum = 0.0f;
        for (long o = 0; o < outputs; o++) {
            float v = scale * product[product_at + o * row + j * column];
            if (wants_up) up_gradient[up_gradient_at + o * rank + j] += g * v;
            sum += up[up_at + o * rank + j] * v;
        }
        if (wants_gate) gate_gradient[gate_gradient_at + j] += sum;
    }
}
