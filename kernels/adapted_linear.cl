/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "adapted.h"

/* Layers of one x: their outputs and ranks stand one behind the other, and so do their up factors, [outputs, rank] each. */
#define LAYERS                                                                                                                                          \
    int layers, int outputs_0, int outputs_1, int outputs_2, int outputs_3, int rank_0, int rank_1, int rank_2, int rank_3, float scale_0, float scale_1, \
        float scale_2, float scale_3
#define LAYER_TABLES                                                       \
    const int outputs[] = { outputs_0, outputs_1, outputs_2, outputs_3 };  \
    const int ranks[] = { rank_0, rank_1, rank_2, rank_3 };                \
    const float scales[] = { scale_0, scale_1, scale_2, scale_3 }

#define RUN 16 /* columns, a cache line of neighbours: a panel holds whole runs or is the only one */

/* What the products take of the factors, so that gates and scales are in one place: U [rank, outputs] = scale * gate * up^T of each layer one behind the other
 * (`own`), the same as blocks of one matrix of all outputs, in panels of `panel` columns, and the down factor [rank, inputs] in panels of `panel_down`. */
__kernel void adapted_factors(__global const float *restrict up, ulong up_at, __global const float *restrict gate, ulong gate_at, __global const float *restrict down,
                              ulong down_at, __global float *restrict own, ulong own_at, __global float *restrict blocks, ulong blocks_at,
                              __global float *restrict panels, ulong panels_at, int p, int q, int rank, int panel, int panel_down, int has_gate, int has_own,
                              int has_panels, LAYERS)
{
    LAYER_TABLES;
    int across = (p + panel - 1) / panel * panel, wide = has_panels ? (q + panel_down - 1) / panel_down * panel_down : 0;
    long up_runs = (across + RUN - 1) / RUN, runs = up_runs + (wide + RUN - 1) / RUN;
    EACH(i, runs)
    {
        int begin = (int)(i < up_runs ? i : i - up_runs) * RUN, end = min(begin + RUN, i < up_runs ? across : wide);
        if (i >= up_runs) {
            __global float *out = panels + panels_at + (long)(begin / panel_down) * panel_down * rank + begin % panel_down;
            for (int j = 0; j < rank; j++)
                for (int o = begin; o < end; o++) out[j * panel_down + o - begin] = o < q ? down[down_at + (long)j * q + o] : 0.0f;
            continue;
        }
        __global float *out = blocks + blocks_at + (long)(begin / panel) * panel * rank + begin % panel;
        for (int j = 0; j < rank; j++)
            for (int o = begin; o < end; o++) out[(long)j * panel + o - begin] = 0.0f;
        for (int l = 0, row = 0, column = 0, at = 0; l < layers; at += outputs[l] * ranks[l], row += outputs[l], column += ranks[l], l++) {
            int first = max(begin, row), last = min(end, row + outputs[l]);
            for (int j = 0; j < ranks[l]; j++) {
                float factor = has_gate ? scales[l] * gate[gate_at + column + j] : scales[l];
                for (int o = first; o < last; o++) {
                    float v = factor * up[up_at + at + (o - row) * ranks[l] + j];
                    out[(long)(column + j) * panel + o - begin] = v;
                    if (has_own) own[own_at + at + j * outputs[l] + o - row] = v;
                }
            }
        }
    }
}

/* Gradients from sums over rows: parts of P = t^T dy [rank, outputs] of each layer, one behind the other, and of Q = dt^T x [rank, inputs]: dW_d += Q; dW_u and dg from P
 * (adapted.h). Work-items: (columns, which are one item's where there are several parts; layers' runs of SIDE ranks, each one twice: for the up and the down factors). */
__kernel void adapted_gradients(__global float *restrict up_parts, ulong up_parts_at, __global float *restrict down_parts, ulong down_parts_at,
                                __global const float *restrict up, ulong up_at, __global const float *restrict gate, ulong gate_at, __global float *restrict up_gradient,
                                ulong up_gradient_at, __global float *restrict gate_gradient, ulong gate_gradient_at, __global float *restrict down_gradient,
                                ulong down_gradient_at, int up_count, int down_count, int q, int rank, int has_gate, int wants_up, int wants_gate, int wants_down, LAYERS)
{
    LAYER_TABLES;
    int id = (int)get_global_id(1), run = id >> 1, is_down = id & 1, l = 0, column = 0;
    long factors = 0, at = 0;
    for (int i = 0; i < layers; i++) factors += (long)outputs[i] * ranks[i];
    if (is_down ? !wants_down : !(wants_up || wants_gate)) return;
    for (; run >= (ranks[l] + SIDE - 1) / SIDE; l++) {
        at += (long)outputs[l] * ranks[l];
        column += ranks[l];
        run -= (ranks[l] + SIDE - 1) / SIDE;
    }
    int j = run * SIDE, side = min(SIDE, ranks[l] - j), count = is_down ? down_count : up_count;
    column += j;
    long columns = is_down ? q : outputs[l], part = is_down ? (long)rank * q : factors;
    __global float *total = is_down ? down_parts + down_parts_at + (long)column * q : up_parts + up_parts_at + at + j * columns;
    for (int i = 0; i < side; i++)
        for (int k = 1; k < count; k++)
            for (long o = 0; o < columns; o++) total[i * columns + o] += total[k * part + i * columns + o];
    if (is_down) {
        EACH(o, side * columns) down_gradient[down_gradient_at + (long)column * q + o] += total[o];
        return;
    }
    up_gradients(total, 1, columns, scales[l], has_gate ? gate + gate_at + column : 0, up + up_at + at + j, wants_up ? up_gradient + up_gradient_at + at + j : 0,
                 wants_gate ? gate_gradient + gate_gradient_at + column : 0, columns, ranks[l], side);
}
