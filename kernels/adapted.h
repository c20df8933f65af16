/* SPDX-License-Identifier: Apache-2.0 */
#define SIDE 8 /* ranks side by side: rows of an up factor have them as neighbours, and their sums don't wait for each other */

/* Ranks that are neighbours in memory, SIDE at the most; 0 behind them. */
static inline float8 side_of(__global const float *p, int ranks)
{
    float v[SIDE] = { 0.0f };
    if (ranks == SIDE) return vload8(0, p);
    for (int j = 0; j < ranks; j++) v[j] = p[j];
    return vload8(0, v);
}

static inline void add_to_side(float8 v, __global float *p, int ranks)
{
    float w[SIDE];
    if (ranks == SIDE) {
        vstore8(vload8(0, p) + v, 0, p);
        return;
    }
    vstore8(v, 0, w);
    for (int j = 0; j < ranks; j++) p[j] += w[j];
}

/* What one output adds to gradients of such ranks, from its product s dy^T t with each, ungated: dW_u[j] += g[j] product[j], and, since dg[j] = sum of
 * (s W_u^T dy)[j] t[j] is the same sum taken in another order, dg[j] += W_u[j] product[j]. So the gate's gradient needs no pass over activations. NULL: not wanted. */
static inline void up_gradients(float8 product, float8 g, __global const float *up, __global float *up_gradient, float8 *gate_gradient, int ranks)
{
    if (up_gradient) add_to_side(g * product, up_gradient, ranks);
    if (gate_gradient) *gate_gradient += side_of(up, ranks) * product;
}

/* A gate's gradient, of what the items of a group have, all of which come here; NULL where the group has none to add. */
#ifdef SORA_CPU
#define ADD_TO_GATE(sum, gradient, ranks) \
    if (gradient) add_to_side(sum, gradient, ranks)
#else
#define ADD_TO_GATE(sum, gradient, ranks)                                                     \
    do {                                                                                      \
        float gate_sums[SIDE];                                                                \
        vstore8(sum, 0, gate_sums);                                                           \
        FOR(j, SIDE) gate_sums[j] = TOTAL_OF_GROUP(gate_sums[j]);                             \
        if ((gradient) && GROUP_ITEM == 0) add_to_side(vload8(0, gate_sums), gradient, ranks); \
    } while (0)
#endif
