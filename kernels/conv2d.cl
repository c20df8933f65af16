/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "vector.h"

/* Convolutions of K x K, stride 1, zero padding K / 2. A plane's pixels are taken as one row of h * w, XV at a time: the neighbour of tap
 * (ky, kx) is then a load at a fixed distance, and only the lanes that wrapped around an edge column are cleared. PADDED planes have
 * `margin` zeros on either side, so that every load is inside; others check their first and last rows. */

#ifdef PADDED
#define TAKE(plane, at, n) LOADX((plane) + (at))
#else
#define TAKE(plane, at, n) load_within(plane, at, n)
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
    intx column = (intx)(at) + LANE_NUMBERS;
    column -= column / width * width;
    *left = column > 0;
    *right = column < width - 1;
}

/* y[o] (+)= sum over c and taps of w(o, c, tap) x[c] (+ b[o]), OB outputs at a time. w(o, c, tap) stands at o * out_stride + c * in_stride
 * + tap, taps in reverse where `flip`. Work-items: (tiles of pixels, blocks of outputs, images). */
__kernel void conv(__global const float *restrict x, ulong x_at, __global const float *restrict w, ulong w_at, __global const float *restrict b, ulong b_at,
                   __global float *restrict y, ulong y_at, long x_stride, int x_plane, int margin, long y_stride, int inputs, int outputs, int height,
                   int width, long out_stride, long in_stride, int flip, int has_bias, int accumulate, int tiles)
{
    int n = height * width, o = (int)get_global_id(1) * OB;
    x += x_at + (long)get_global_id(2) * x_stride + margin;
    y += y_at + (long)get_global_id(2) * y_stride;
    w += w_at;
    int first = (int)get_global_id(0) * tiles * XV, last = min(n, first + tiles * XV);
    for (int at = first; at < last; at += XV) {
        intx left, right;
        edge_masks(at, width, &left, &right);
        floatx sum[OB];
        for (int k = 0; k < OB; k++) sum[k] = (floatx)(has_bias ? b[b_at + min(o + k, outputs - 1)] : 0.0f);
        for (int c = 0; c < inputs; c++) {
            __global const float *plane = x + (long)c * x_plane;
            __global const float *taps[OB];
            for (int k = 0; k < OB; k++) taps[k] = w + min(o + k, outputs - 1) * out_stride + c * in_stride;
#if K == 1
            floatx v = TAKE(plane, at, n);
            for (int k = 0; k < OB; k++) sum[k] = mad((floatx)(taps[k][0]), v, sum[k]);
#else
            for (int ky = 0; ky < 3; ky++) {
                int row = at + (ky - 1) * width;
                floatx before = select((floatx)0.0f, TAKE(plane, row - 1, n), left);
                floatx here = TAKE(plane, row, n);
                floatx after = select((floatx)0.0f, TAKE(plane, row + 1, n), right);
                int t0 = flip ? 8 - 3 * ky : 3 * ky, step = flip ? -1 : 1;
                for (int k = 0; k < OB; k++) {
                    sum[k] = mad((floatx)(taps[k][t0]), before, sum[k]);
                    sum[k] = mad((floatx)(taps[k][t0 + step]), here, sum[k]);
                    sum[k] = mad((floatx)(taps[k][t0 + 2 * step]), after, sum[k]);
                }
            }
#endif
        }
        for (int k = 0; k < OB && o + k < outputs; k++) {
            __global float *plane = y + (long)(o + k) * n;
            if (accumulate) sum[k] += load_within(plane, at, n);
            store_within(sum[k], plane, at, n);
        }
    }
}

/* Partial sums of dW[o][c][tap] = sum over pixels of dy[o] x[c] moved by tap. Part p takes a run of the tiles of all images.
 * Work-items: (input channels, blocks of OB outputs, parts); partial [parts][outputs][inputs][K * K]. */
__kernel void conv_gradient_parts(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at,
                                  __global float *restrict partial, ulong partial_at, long x_stride, int x_plane, int margin, long dy_stride, int inputs,
                                  int outputs, int height, int width, int images, int run)
{
    int n = height * width, tiles = (n + XV - 1) / XV;
    int c = (int)get_global_id(0), o = (int)get_global_id(1) * OB, part = (int)get_global_id(2);
    int first = part * run, last = min(images * tiles, first + run);
    floatx sum[OB][K * K];
    for (int k = 0; k < OB; k++)
        for (int t = 0; t < K * K; t++) sum[k][t] = (floatx)0.0f;
    for (int tile = first; tile < last; tile++) {
        int image = tile / tiles, at = (tile - image * tiles) * XV;
        __global const float *plane = x + x_at + image * x_stride + margin + (long)c * x_plane;
        __global const float *outs = dy + dy_at + image * dy_stride;
        floatx d[OB];
        for (int k = 0; k < OB; k++) d[k] = load_within(outs + (long)min(o + k, outputs - 1) * n, at, n);
#if K == 1
        floatx v = TAKE(plane, at, n);
        for (int k = 0; k < OB; k++) sum[k][0] = mad(d[k], v, sum[k][0]);
#else
        intx left, right;
        edge_masks(at, width, &left, &right);
        for (int ky = 0; ky < 3; ky++) {
            int row = at + (ky - 1) * width;
            floatx before = select((floatx)0.0f, TAKE(plane, row - 1, n), left);
            floatx here = TAKE(plane, row, n);
            floatx after = select((floatx)0.0f, TAKE(plane, row + 1, n), right);
            for (int k = 0; k < OB; k++) {
                sum[k][3 * ky] = mad(d[k], before, sum[k][3 * ky]);
                sum[k][3 * ky + 1] = mad(d[k], here, sum[k][3 * ky + 1]);
                sum[k][3 * ky + 2] = mad(d[k], after, sum[k][3 * ky + 2]);
            }
        }
#endif
    }
    partial += partial_at + (long)part * outputs * inputs * K * K;
    for (int k = 0; k < OB && o + k < outputs; k++)
        for (int t = 0; t < K * K; t++) partial[((long)(o + k) * inputs + c) * K * K + t] = SUM_LANES(sum[k][t]);
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
