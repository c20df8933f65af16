/* SPDX-License-Identifier: Apache-2.0 */
#define SIDE 8 /* ranks side by side: rows of an up factor have them as neighbours, and their sums don't wait for each other */

/* Gradients of `ranks` ranks, SIDE at the most, from a product s dy^T t, ungated, element o of rank j at o * step + j * apart and still to be multiplied by `scale`:
 * dW_u[o][j] += g[j] product(o, j), and, since dg[j] = sum of (s W_u^T dy)[j] t[j] is the same sum taken in another order, dg[j] += sum over o of W_u[o][j] product(o, j).
 * So the gate's gradient needs no pass over activations. Everything begins at the first of these ranks; rows of `up` and its gradient are `row` apart. NULL: g is 1, a
 * gradient not wanted. Work-items in the first dimension share the columns; the first has the sum. */
static inline void up_gradients(__global const float *product, long step, long apart, float scale, __global const float *g, __global const float *up,
                                __global float *up_gradient, __global float *gate_gradient, long columns, long row, int ranks)
{
    float sum[SIDE] = { 0.0f };
    if (up_gradient) EACH(o, columns)
        for (int j = 0; j < ranks; j++) up_gradient[o * row + j] += (g ? g[j] : 1.0f) * (scale * product[o * step + j * apart]);
    if (!gate_gradient || get_global_id(0)) return;
    for (long o = 0; o < columns; o++)
        for (int j = 0; j < ranks; j++) sum[j] += up[o * row + j] * (scale * product[o * step + j * apart]);
    for (int j = 0; j < ranks; j++) gate_gradient[j] += sum[j];
}
