/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "vector.h"

/* Convolutions of K x K, stride 1, zero padding K / 2. A plane's pixels are taken as one row of h * w, XV at a time: the neighbour of tap
 * (ky, kx) is then a load at a fixed distance, and only the lanes that wrapped around an edge column are cleared. PADDED planes have
 * `margin` zeros on either side, so that every load is inside; others take care in their first and last rows. */

#define load_inside(plane, at, n) LOADX((plane) + (at))
#ifdef PADDED
#define IS_INSIDE(from, to, n) true
#else
#define IS_INSIDE(from, to, n) ((from) >= 0 && (to) <= (n))
#endif

__kernel void conv_pad(__global const float *restrict x, ulong x_at, __global float *restrict padded, ulong padded_at, long x_stride, int channels, int n,
                       int margin)
{
    long row = (long)get_global_id(1), item = row / channels, channel = row % channels;
    long room = n + 2 * margin;
    x += x_at + item * x_stride + channel * n;
    padded += padded_at + row * room;
    EACH(i, room) padded[i] = i < margin || i >= margin + n ? 0.0f : x[i - margin];
}

/* Masks of the lanes whose left and right neighbours are in the same row. */
inline void edge_masks(int at, int width, intx *left, intx *right)
{
    /* Dividing vectors is slow: one scalar remainder does where at most one edge lies within the lanes, or rows are powers of 2. */
    intx column = (intx)(at % width) + LANE_NUMBERS;
    if (width >= XV)
        column -= select((intx)0, (intx)width, column >= width);
    else if (width == 1 || width == 2 || width == 4 || width == 8)
        column &= width - 1;
    else
        column -= column / width * width;
    *left = column > 0;
    *right = column < width - 1;
}

/* Taps in the order of the weights, or in reverse: the way back. */
#ifdef FLIP
#define TAP(ky, kx) (8 - 3 * (ky) - (kx))
#else
#define TAP(ky, kx) (3 * (ky) + (kx))
#endif

/* One input channel onto OB outputs of PB tiles, read by LOAD. */
#if K == 1
#define CHANNEL(LOAD)                                                                          \
    FOR(p, PB) {                                                             \
        floatx v = LOAD(plane, at + p * XV, n);                                                \
        FOR(k, OB) sum[k][p] = MAD((floatx)(taps[k][0]), v, sum[k][p]);      \
    }
#else
#define CHANNEL(LOAD)                                                                          \
    FOR(ky, 3) {                                                           \
        floatx before[PB], here[PB], after[PB];                                                \
        FOR(p, PB) {                                                         \
            int row = at + p * XV + (ky - 1) * width;                                          \
            before[p] = select((floatx)0.0f, LOAD(plane, row - 1, n), left[p]);                \
            here[p] = LOAD(plane, row, n);                                                     \
            after[p] = select((floatx)0.0f, LOAD(plane, row + 1, n), right[p]);                \
        }                                                                                      \
        FOR(k, OB) {                                                         \
            float a = taps[k][TAP(ky, 0)], b = taps[k][TAP(ky, 1)], c = taps[k][TAP(ky, 2)];   \
            FOR(p, PB) {                                                     \
                sum[k][p] = MAD((floatx)(a), before[p], sum[k][p]);                            \
                sum[k][p] = MAD((floatx)(b), here[p], sum[k][p]);                              \
                sum[k][p] = MAD((floatx)(c), after[p], sum[k][p]);                             \
            }                                                                                  \
        }                                                                                      \
    }
#endif

/* y[o] (+)= sum over c and taps of w(o, c, tap) x[c] (+ b[o]), OB outputs of PB tiles at a time. w(o, c, tap) stands at o * out_stride +
 * c * in_stride + tap. Work-items: (runs of tiles, blocks of outputs, images). */
__kernel void conv(__global const float *restrict x, ulong x_at, __global const float *restrict w, ulong w_at, __global const float *restrict b, ulong b_at,
                   __global float *restrict y, ulong y_at, long x_stride, int x_plane, int margin, long y_stride, int inputs, int outputs, int height,
                   int width, long out_stride, long in_stride, int has_bias, int accumulate, int run)
{
    int n = height * width, o = (int)get_global_id(1) * OB;
    x += x_at + (long)get_global_id(2) * x_stride + margin;
    y += y_at + (long)get_global_id(2) * y_stride;
    w += w_at;
    int first = (int)get_global_id(0) * run * PB * XV, last = min(n, first + run * PB * XV);
    for (int at = first; at < last; at += PB * XV) {
        intx left[PB], right[PB];
        floatx sum[OB][PB];
        FOR(p, PB) edge_masks(at + p * XV, width, &left[p], &right[p]);
        FOR(k, OB)
            FOR(p, PB) sum[k][p] = (floatx)(has_bias ? b[b_at + min(o + k, outputs - 1)] : 0.0f);
        bool inside = IS_INSIDE(at - K / 2 * (width + 1), at + PB * XV + K / 2 * (width + 1), n);
        for (int c = 0; c < inputs; c++) {
            __global const float *plane = x + (long)c * x_plane;
            __global const float *taps[OB];
            FOR(k, OB) taps[k] = w + min(o + k, outputs - 1) * out_stride + c * in_stride;
            if (inside) {
                CHANNEL(load_inside)
            } else {
                CHANNEL(load_within)
            }
        }
        FOR(k, OB)
        {
            __global float *plane = y + (long)(o + k) * n;
            FOR(p, PB)
            {
                if (o + k >= outputs) continue;
                if (accumulate) sum[k][p] += load_within(plane, at + p * XV, n);
                store_within(sum[k][p], plane, at + p * XV, n);
            }
        }
    }
}

/* One tile's products of OB outputs' gradients and an input moved by one row of taps. */
#if K == 1
#define PRODUCTS(LOAD)                                             \
    floatx v = LOAD(plane, at, n);                                 \
    FOR(k, OB) sum[k][0] = MAD(d[k], v, sum[k][0]);
#else
#define PRODUCTS(LOAD)                                                                 \
    floatx before = select((floatx)0.0f, LOAD(plane, row - 1, n), left);               \
    FOR(k, OB) sum[k][0] = MAD(d[k], before, sum[k][0]);                               \
    floatx here = LOAD(plane, row, n);                                                 \
    FOR(k, OB) sum[k][1] = MAD(d[k], here, sum[k][1]);                                 \
    floatx after = select((floatx)0.0f, LOAD(plane, row + 1, n), right);               \
    FOR(k, OB) sum[k][2] = MAD(d[k], after, sum[k][2]);
#endif

/* Partial sums of dW[o][c][tap] = sum over pixels of dy[o] x[c] moved by tap, for one row of taps. Part p takes a run of the tiles of all
 * images. Work-items: (input channels x rows of taps, blocks of OB outputs, parts); partial [parts][outputs][inputs][K * K]. */
__kernel void conv_gradient_parts(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at,
                                  __global float *restrict partial, ulong partial_at, long x_stride, int x_plane, int margin, long dy_stride, int inputs,
                                  int outputs, int height, int width, int images, int run)
{
    int n = height * width, tiles = (n + XV - 1) / XV;
    int ky = (int)get_global_id(0) % K, c = (int)get_global_id(0) / K, o = (int)get_global_id(1) * OB, part = (int)get_global_id(2);
    int first = part * run, last = min(images * tiles, first + run);
    floatx sum[OB][K];
    FOR(k, OB) FOR(t, K) sum[k][t] = (floatx)0.0f;
    for (int tile = first; tile < last; tile++) {
        int image = tile / tiles, at = (tile - image * tiles) * XV, row = at + (ky - K / 2) * width;
        __global const float *plane = x + x_at + image * x_stride + margin + (long)c * x_plane;
        __global const float *outs = dy + dy_at + image * dy_stride;
        intx left, right;
        floatx d[OB];
        edge_masks(at, width, &left, &right);
        if (IS_INSIDE(row - K / 2, row + XV + K / 2, n) && at + XV <= n) {
            FOR(k, OB) d[k] = LOADX(outs + (long)min(o + k, outputs - 1) * n + at);
            PRODUCTS(load_inside)
        } else {
            FOR(k, OB) d[k] = load_within(outs + (long)min(o + k, outputs - 1) * n, at, n);
            PRODUCTS(load_within)
        }
    }
    partial += partial_at + (long)part * outputs * inputs * K * K;
    FOR(k, OB)
        FOR(t, K)
            if (o + k < outputs) partial[((long)(o + k) * inputs + c) * K * K + ky * K + t] = SUM_LANES(sum[k][t]);
}

/* gradient += scale * row[o] * column[c] * sum of the parts, in order. */
__kernel void conv_gradient_total(__global const float *restrict partial, ulong partial_at, __global float *restrict gradient, ulong gradient_at,
                                  __global const float *restrict row, ulong row_at, __global const float *restrict column, ulong column_at, int parts,
                                  int inputs, long n, float scale, int has_row, int has_column)
{
    partial += partial_at;
    gradient += gradient_at;
    EACH(i, n)
    {
        float sum = 0.0f, factor = scale;
        for (int p = 0; p < parts; p++) sum += partial[p * n + i];
        if (has_row) factor *= row[row_at + i / ((long)inputs * K * K)];
        if (has_column) factor *= column[column_at + i / (K * K) % inputs];
        gradient[i] += factor * sum;
    }
}

/* Sum over the pixels of one channel of one image; then over the images, into the gradient. */
__kernel void conv_bias_parts(__global const float *restrict dy, ulong dy_at, __global float *restrict partial, ulong partial_at, long dy_stride, int n)
{
    int o = (int)get_global_id(0), outputs = (int)get_global_size(0);
    long image = (long)get_global_id(1);
    __global const float *plane = dy + dy_at + image * dy_stride + (long)o * n;
    floatx sum = (floatx)0.0f;
    for (int at = 0; at < n; at += XV) sum += load_within(plane, at, n);
    partial[partial_at + image * outputs + o] = SUM_LANES(sum);
}

__kernel void conv_bias_total(__global const float *restrict partial, ulong partial_at, __global float *restrict gradient, ulong gradient_at, int images)
{
    int o = (int)get_global_id(0), outputs = (int)get_global_size(0);
    float sum = 0.0f;
    for (int i = 0; i < images; i++) sum += partial[partial_at + (long)i * outputs + o];
    gradient[gradient_at + o] += sum;
}
