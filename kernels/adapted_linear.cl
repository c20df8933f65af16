/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "vector.h"
#include "sum.h"
#include "group.h"
#include "adapted.h"

/* Layers of one x: their outputs and ranks stand one behind the other, and so do their up factors, [outputs, rank] each. */
#define LAYERS int layers, int4 layer_outputs, int4 layer_ranks, float4 layer_scales
#define LAYER_TABLES                    \
    int outputs[4], ranks[4];           \
    float scales[4];                    \
    vstore4(layer_outputs, 0, outputs); \
    vstore4(layer_ranks, 0, ranks);     \
    vstore4(layer_scales, 0, scales)

/* Columns of a work-item: a cache line of neighbours, on a GPU one, beside which its neighbours have theirs. A panel holds whole runs or is the only one. */
#ifdef SORA_CPU
#define RUN 16
#else
#define RUN 1
#endif

static inline int whole_panels(int columns, int panel) { return (columns + panel - 1) / panel * panel; }
static inline int factor_runs(int columns, int panel) { return (whole_panels(columns, panel) + RUN - 1) / RUN; }

/* What the products take of the factors, so that gates and scales are in one place: U [rank, outputs] = scale * gate * up^T of each layer one behind the other
 * (`own`), the same as blocks of one matrix of all outputs, in panels of `panel` columns, and the down factor [rank, inputs] in panels of `panel_down`. */
__kernel void adapted_factors(__global const float *up, ulong up_at, __global const float *gate, ulong gate_at, __global const float *down, ulong down_at,
                              __global float *own, ulong own_at, __global float *blocks, ulong blocks_at, __global float *panels, ulong panels_at, int p, int q, int rank,
                              int panel, int panel_down, int has_gate, int has_own, int has_panels, LAYERS)
{
    LAYER_TABLES;
    int up_runs = factor_runs(p, panel), runs = up_runs + (has_panels ? factor_runs(q, panel_down) : 0);
    EACH(run, runs)
    {
        int is_down = run >= up_runs, begin = (is_down ? run - up_runs : run) * RUN, width = is_down ? panel_down : panel;
        int end = min(begin + RUN, whole_panels(is_down ? q : p, width));
        __global float *out = (is_down ? panels + panels_at : blocks + blocks_at) + (long)(begin / width) * width * rank + begin % width;
        for (int j = 0; j < rank; j++)
            for (int o = begin; o < end; o++) out[(long)j * width + o - begin] = is_down && o < q ? down[down_at + (long)j * q + o] : 0.0f;
        for (int l = 0, row = 0, column = 0, at = 0; !is_down && l < layers; at += outputs[l] * ranks[l], row += outputs[l], column += ranks[l], l++) {
            int first = max(begin, row), last = min(end, row + outputs[l]);
            for (int j = 0; j < ranks[l]; j++) {
                float factor = has_gate ? scales[l] * gate[gate_at + column + j] : scales[l];
                for (int o = first; o < last; o++) {
                    float v = factor * up[up_at + at + (o - row) * ranks[l] + j];
                    out[(long)(column + j) * width + o - begin] = v;
                    if (has_own) own[own_at + at + j * outputs[l] + o - row] = v;
                }
            }
        }
    }
}

/* Of XV outputs from `at` on, from products with some ranks, rows of all outputs. What is of the factor begins at the first of these ranks. */
static inline void up_gradients_from(int at, __global const float *products, int columns, float scale, float8 g, __global const float *up, int row,
                                     __global float *up_gradient, float8 *gate_gradient, int ranks)
{
    ALIGNED float block[SIDE * XV];
    FOR(j, SIDE) STOREX(j < ranks ? scale * load_within(products + (long)j * columns, at, columns) : (floatx)0.0f, block + j * XV);
    for (int l = 0; l < min(XV, columns - at); l++) {
        const float *v = block + l;
        float8 product = (float8)(v[0], v[XV], v[2 * XV], v[3 * XV], v[4 * XV], v[5 * XV], v[6 * XV], v[7 * XV]);
        long o = (long)(at + l) * row;
        up_gradients(product, g, up + o, up_gradient ? up_gradient + o : 0, gate_gradient, ranks);
    }
}

/* Gradients from sums over rows: parts of P = t^T dy [rank, outputs] of each layer, one behind the other, and of Q = dt^T x [rank, inputs]: dW_d += Q; dW_u and dg from P
 * (adapted.h). The gate's are sums over all columns: a GPU's first group makes them. Work-items: (columns, which are one item's where there are several parts; layers' runs of SIDE ranks, each one twice: for the up and the down factors). */
__kernel void adapted_gradients(__global float *restrict up_parts, ulong up_parts_at, __global float *restrict down_parts, ulong down_parts_at,
                                __global const float *restrict up, ulong up_at, __global const float *restrict gate, ulong gate_at, __global float *restrict up_gradient,
                                ulong up_gradient_at, __global float *restrict gate_gradient, ulong gate_gradient_at, __global float *restrict down_gradient,
                                ulong down_gradient_at, int up_count, int down_count, int q, int rank, int has_gate, int wants_up, int wants_gate, int wants_down, LAYERS)
{
    GROUP_MEMORY;
    LAYER_TABLES;
    int id = (int)get_global_id(1), run = id >> 1, is_down = id & 1, l = 0, column = 0;
    long factors = 0, at = 0;
    for (int i = 0; i < layers; i++) factors += (long)outputs[i] * ranks[i];
    for (; run >= (ranks[l] + SIDE - 1) / SIDE; l++) {
        at += (long)outputs[l] * ranks[l];
        column += ranks[l];
        run -= (ranks[l] + SIDE - 1) / SIDE;
    }
    int j = run * SIDE, side = min(SIDE, ranks[l] - j), count = is_down ? down_count : up_count;
    column += j;
    long columns = is_down ? q : outputs[l], part = is_down ? (long)rank * q : factors;
    __global float *total = is_down ? down_parts + down_parts_at + (long)column * q : up_parts + up_parts_at + at + j * columns;
    __global float *to_gate = wants_gate && !is_down && GROUP_ID == 0 ? gate_gradient + gate_gradient_at + column : 0;
    int wanted = is_down ? wants_down : wants_up || to_gate;
    for (int i = 0; wanted && i < side; i++)
        for (int k = 1; k < count; k++)
            for (long o = 0; o < columns; o++) total[i * columns + o] += total[k * part + i * columns + o];
    float8 g = has_gate ? side_of(gate + gate_at + column, side) : (float8)1.0f, sum = (float8)0.0f;
    int runs = wanted && !is_down ? (columns + XV - 1) / XV : 0;
    up += up_at + at + j;
    up_gradient = wants_up ? up_gradient + up_gradient_at + at + j : 0;
    if (wanted && is_down) EACH(o, side * columns) down_gradient[down_gradient_at + (long)column * q + o] += total[o];
#ifdef SORA_CPU
    EACH(o, runs) up_gradients_from(o * XV, total, columns, scales[l], g, up, ranks[l], up_gradient, to_gate ? &sum : 0, side);
#else
    EACH(o, runs) up_gradients_from(o, total, columns, scales[l], g, up, ranks[l], up_gradient, 0, side);
    if (to_gate) IN_GROUP(o, runs) up_gradients_from(o, total, columns, scales[l], g, up, ranks[l], 0, &sum, side);
#endif
    ADD_TO_GATE(sum, to_gate, side);
}
