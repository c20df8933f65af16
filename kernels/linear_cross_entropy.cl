/* SPDX-License-Identifier: Apache-2.0 */
#include "vector.h"
#include "exp.h"

/* Softmax cross-entropy over a vocabulary whose logits are there in chunks of columns only. Each row keeps its running maximum, sum of
 * exponentials, sum of logits and its label's logit: four numbers. One work-item a row. */

__kernel void cross_entropy_chunk(__global const float *restrict logits, ulong logits_at, __global float *restrict state, ulong state_at,
                                  __global const int *restrict labels, ulong labels_at, int first, int columns)
{
    long row = (long)get_global_id(0);
    int label = labels[labels_at + row] - first;
    logits += logits_at + row * columns;
    state += state_at + 4 * row;
    floatx most = -INFINITY, total = 0.0f, sum = 0.0f;
    int j = 0;
    for (; j + XV <= columns; j += XV) most = fmax(most, LOADX(logits + j)), total += LOADX(logits + j);
    float top = first ? state[0] : -INFINITY, lanes[XV], all = SUM_LANES(total);
    STOREX(most, lanes);
    for (int l = 0; l < XV; l++) top = fmax(top, lanes[l]);
    for (int e = j; e < columns; e++) top = fmax(top, logits[e]), all += logits[e];
    for (j = 0; j + XV <= columns; j += XV) sum += EXPX(LOADX(logits + j) - top);
    float exponentials = SUM_LANES(sum);
    for (; j < columns; j++) exponentials += exp(logits[j] - top);
    state[1] = (first ? state[1] * exp(state[0] - top) : 0.0f) + exponentials;
    state[0] = top;
    state[2] = (first ? state[2] : 0.0f) + all;
    if (label >= 0 && label < columns)
        state[3] = logits[label];
    else if (!first)
        state[3] = NAN;
}

/* Mean over the rows that count of (1 - smoothing) (log sum - label's logit) + smoothing (log sum - mean logit), in order of rows; 0 where
 * none counts. A label outside of the vocabulary makes it NaN. logs[row] and count: what backward needs. */
__kernel void cross_entropy_loss(__global const float *restrict state, ulong state_at, __global const int *restrict labels, ulong labels_at,
                                 __global float *restrict loss, ulong loss_at, __global float *restrict logs, ulong logs_at, __global float *restrict count,
                                 ulong count_at, int rows, int classes, int ignored, float smoothing, int training)
{
    float sum = 0.0f, rest = 0.0f, used = 0.0f;
    state += state_at;
    for (int row = 0; row < rows; row++, state += 4) {
        float log_sum = state[0] + log(state[1]);
        if (training) logs[logs_at + row] = log_sum;
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
    long row = (long)get_global_id(0);
    int label = labels[labels_at + row], j = 0;
    float factor = label == ignored ? 0.0f : dy[dy_at] / count[count_at], flat = smoothing / (float)classes, log_sum = logs[logs_at + row];
    logits += logits_at + row * columns;
    for (; j + XV <= columns; j += XV) STOREX(factor * (EXPX(LOADX(logits + j) - log_sum) - flat), logits + j);
    for (; j < columns; j++) logits[j] = factor * (exp(logits[j] - log_sum) - flat);
    if (label != ignored && label >= first && label < first + columns) logits[label - first] -= factor * (1.0f - smoothing);
}
