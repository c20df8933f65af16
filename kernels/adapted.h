/* SPDX-License-Identifier: Apache-2.0 */
/* From one rank's column of a product s dy^T t, ungated, its element o at o * step and still to be multiplied by `scale`: dW_u[o][j] += g[j] product(o), and, since
 * dg[j] = sum of (s W_u^T dy)[j] t[j] is the same sum taken in another order, dg[j] += sum over o of W_u[o][j] product(o). So the gate's gradient needs no pass over
 * activations. `up` and its gradient begin at the rank, `rank` apart. Work-items in the first dimension share the columns; the first has the sum. */
inline float up_gradients(__global const float *product, long step, float scale, float g, __global const float *up, __global float *up_gradient, long columns, long rank,
                          int wants_up, int wants_gate)
{
    float sum = 0.0f;
    if (wants_up) EACH(o, columns) up_gradient[o * rank] += g * (scale * product[o * step]);
    for (long o = 0; wants_gate && get_global_id(0) == 0 && o < columns; o++) sum += up[o * rank] * (scale * product[o * step]);
    return sum;
}
