/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "vector.h"
#include "exp.h"
#include "sum.h"
#include "group.h"

/* Softmax cross-entropy over a vocabulary whose logits are there in chunks of columns only. Each row keeps its running maximum, sum of
 * exponentials, sum of logits and its label's logit: four numbers. A group has a row.
 * `early`: the chunk becomes e^(logit - largest so far) for a product with the weight, whose sum over former chunks is held to the same largest. */

__kernel void cross_entropy_chunk(__global float *restrict logits, ulong logits_at, __global float *restrict state, ulong state_at,
                                  __global const int *restrict labels, ulong labels_at, __global float *restrict product, ulong product_at, int first,
                                  int columns, int width, int early)
{
    GROUP_MEMORY;
    long row = GROUP_ID;
    int label = labels[labels_at + row] - first;
    logits += logits_at + row * columns;
    state += state_at + 4 * row;
    floatx most = -INFINITY, total = 0.0f, sum = 0.0f;
    int j = GROUP_ITEM;
    for (; j + XV <= columns; j += XV * GROUP_ITEMS) most = fmax(most, LOADX(logits + j)), total += LOADX(logits + j);
    float before = first ? state[0] : -INFINITY, top = before, lanes[XV], all = SUM_LANES(total);
    STOREX(most, lanes);
    for (int l = 0; l < XV; l++) top = fmax(top, lanes[l]);
    for (int e = j; e < columns; e++) top = fmax(top, logits[e]), all += logits[e];
    top = MAXIMUM_OF_GROUP(top);
    all = TOTAL_OF_GROUP(all);
    if (label >= 0 && label < columns) {
        /* The item's whose logit it is, which changes it. */
        if (label % GROUP_ITEMS == GROUP_ITEM) state[3] = logits[label];
    } else if (GROUP_ITEM == 0 && !first)
        state[3] = NAN;
    for (j = GROUP_ITEM; j + XV <= columns; j += XV * GROUP_ITEMS) {
        floatx e = EXPX(LOADX(logits + j) - top);
        sum += e;
        if (early) STOREX(e, logits + j);
    }
    float exponentials = SUM_LANES(sum), shrink = first ? exp(before - top) : 0.0f;
    for (; j < columns; j++) {
        float e = exp(logits[j] - top);
        exponentials += e;
        if (early) logits[j] = e;
    }
    exponentials = TOTAL_OF_GROUP(exponentials);
    if (early && first && shrink != 1.0f) IN_GROUP(i, width) product[product_at + row * width + i] *= shrink;
    if (GROUP_ITEM != 0) return;
    state[1] = (first ? state[1] * shrink : 0.0f) + exponentials;
    state[0] = top;
    state[2] = (first ? state[2] : 0.0f) + all;
}

/* Mean over the rows that count of (1 - smoothing) (log sum - label's logit) + smoothing (log sum - mean logit), in order of rows; 0 where
 * none counts. A label outside of the vocabulary makes it NaN. sums[row] and count: what backward needs. */
__kernel void cross_entropy_loss(__global const float *restrict state, ulong state_at, __global const int *restrict labels, ulong labels_at,
                                 __global float *restrict loss, ulong loss_at, __global float *restrict sums, ulong sums_at, __global float *restrict count,
                                 ulong count_at, int rows, int classes, int ignored, float smoothing, int training, int early)
{
    float sum = 0.0f, rest = 0.0f, used = 0.0f;
    state += state_at;
    for (int row = 0; row < rows; row++, state += 4) {
        float log_sum = state[0] + log(state[1]);
        if (training) sums[sums_at + row] = early ? state[1] : log_sum;
        if (labels[labels_at + row] == ignored) continue;
        /* Compensated: thousands of rows in one sum. */
        float value = log_sum - (1.0f - smoothing) * state[3] - smoothing * state[2] / (float)classes - rest, next = sum + value;
        rest = (next - sum) - value;
        sum = next;
        used += 1.0f;
    }
    loss[loss_at] = used > 0.0f ? sum / used : 0.0f;
    if (training) count[count_at] = used;
}

/* logits become their gradient, dy / count (softmax - target). */
__kernel void cross_entropy_gradient(__global float *restrict logits, ulong logits_at, __global const int *restrict labels, ulong labels_at,
                                     __global const float *restrict logs, ulong logs_at, __global const float *restrict count, ulong count_at,
                                     __global const float *restrict dy, ulong dy_at, int first, int columns, int classes, int ignored, float smoothing)
{
    long row = GROUP_ID;
    int label = labels[labels_at + row], j = GROUP_ITEM;
    float factor = label == ignored ? 0.0f : dy[dy_at] / count[count_at], flat = smoothing / (float)classes, log_sum = logs[logs_at + row];
    logits += logits_at + row * columns;
    for (; j + XV <= columns; j += XV * GROUP_ITEMS) STOREX(factor * (EXPX(LOADX(logits + j) - log_sum) - flat), logits + j);
    for (; j < columns; j++) logits[j] = factor * (exp(logits[j] - log_sum) - flat);
    if (label != ignored && label >= first && label < first + columns && (label - first) % GROUP_ITEMS == GROUP_ITEM) logits[label - first] -= factor * (1.0f - smoothing);
}

/* dx = dy / count * scale * (product / sum - the label's row of the weight), of a row that counts. */
__kernel void cross_entropy_input_gradient(__global const float *restrict product, ulong product_at, __global const float *restrict w, ulong w_at,
                                           __global const int *restrict labels, ulong labels_at, __global const float *restrict sums, ulong sums_at,
                                           __global const float *restrict count, ulong count_at, __global const float *restrict dy, ulong dy_at,
                                           __global float *restrict dx, ulong dx_at, int classes, int width, int ignored, float scale, int halves)
{
    long row = GROUP_ID;
    int label = labels[labels_at + row], known = label >= 0 && label < classes;
    float factor = label == ignored ? 0.0f : scale * dy[dy_at] / count[count_at], share = factor / sums[sums_at + row];
    product += product_at + row * width;
    dx += dx_at + row * width;
    w_at += known ? (ulong)label * width : 0;
    IN_GROUP(i, width) dx[i] = label == ignored ? 0.0f : share * product[i] - (known ? factor * element_of(w, w_at + i, halves) : 0.0f);
}
