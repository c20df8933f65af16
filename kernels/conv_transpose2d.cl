/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "vector.h"

/* 2 x 2, stride 2: every input pixel makes a square of four output pixels of its own, so no two overlap. Pixels of a plane are taken as one
 * row, XV at a time. */

inline int place(int at, int width, int tap)
{
    int row = at / width;
    return (2 * row + tap / 2) * 2 * width + 2 * (at - row * width) + tap % 2;
}

/* The output pixels of tap for the input pixels at .. at + XV - 1; 0 behind the plane. */
inline floatx gather(__global const float *plane, int at, int n, int width, int tap)
{
#if XV == 1
    return at < n ? plane[place(at, width, tap)] : 0.0f;
#else
    float lanes[XV];
    for (int l = 0; l < XV; l++) lanes[l] = at + l < n ? plane[place(at + l, width, tap)] : 0.0f;
    return JOIN(vload, XV)(0, lanes);
#endif
}

inline void scatter(floatx v, __global float *plane, int at, int n, int width, int tap)
{
#if XV == 1
    if (at < n) plane[place(at, width, tap)] = v;
#else
    float lanes[XV];
    JOIN(vstore, XV)(v, 0, lanes);
    for (int l = 0; l < XV && at + l < n; l++) plane[place(at + l, width, tap)] = lanes[l];
#endif
}

/* y[o] = b[o] + sum over c of w[c][o][tap] x[c]. Work-items: (tiles, outputs, images). */
__kernel void transpose_forward(__global const float *restrict x, ulong x_at, __global const float *restrict w, ulong w_at, __global const float *restrict b,
                                ulong b_at, __global float *restrict y, ulong y_at, long x_stride, long y_stride, int inputs, int outputs, int height,
                                int width, int has_bias)
{
    int n = height * width, at = (int)get_global_id(0) * XV, o = (int)get_global_id(1);
    if (at >= n) return;
    x += x_at + (long)get_global_id(2) * x_stride;
    y += y_at + (long)get_global_id(2) * y_stride + (long)o * 4 * n;
    floatx sum[4];
    for (int t = 0; t < 4; t++) sum[t] = (floatx)(has_bias ? b[b_at + o] : 0.0f);
    for (int c = 0; c < inputs; c++) {
        floatx v = load_within(x + (long)c * n, at, n);
        __global const float *taps = w + w_at + ((long)c * outputs + o) * 4;
        for (int t = 0; t < 4; t++) sum[t] = mad((floatx)(taps[t]), v, sum[t]);
    }
    for (int t = 0; t < 4; t++) scatter(sum[t], y, at, n, width, t);
}

/* dx[c] = sum over o and taps of w[c][o][tap] dy[o]. Work-items: (tiles, blocks of CB inputs, images). */
#define CB 4
__kernel void transpose_backward(__global const float *restrict dy, ulong dy_at, __global const float *restrict w, ulong w_at, __global float *restrict dx,
                                 ulong dx_at, long dy_stride, long dx_stride, int inputs, int outputs, int height, int width)
{
    int n = height * width, at = (int)get_global_id(0) * XV, c = (int)get_global_id(1) * CB;
    if (at >= n) return;
    dy += dy_at + (long)get_global_id(2) * dy_stride;
    dx += dx_at + (long)get_global_id(2) * dx_stride;
    floatx sum[CB];
    for (int k = 0; k < CB; k++) sum[k] = (floatx)0.0f;
    for (int o = 0; o < outputs; o++) {
        for (int t = 0; t < 4; t++) {
            floatx v = gather(dy + (long)o * 4 * n, at, n, width, t);
            for (int k = 0; k < CB; k++) sum[k] = mad((floatx)(w[w_at + ((long)min(c + k, inputs - 1) * outputs + o) * 4 + t]), v, sum[k]);
        }
    }
    for (int k = 0; k < CB && c + k < inputs; k++) store_within(sum[k], dx + (long)(c + k) * n, at, n);
}

/* Partial sums of dW[c][o][tap] = sum of x[c] dy[o]; part: a run of the tiles of all images. Work-items: (outputs, blocks of CB inputs, parts). */
__kernel void transpose_gradient_parts(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at,
                                       __global float *restrict partial, ulong partial_at, long x_stride, long dy_stride, int inputs, int outputs, int height,
                                       int width, int images, int run)
{
    int n = height * width, tiles = (n + XV - 1) / XV, o = (int)get_global_id(0), c = (int)get_global_id(1) * CB, part = (int)get_global_id(2);
    floatx sum[CB][4];
    for (int k = 0; k < CB; k++)
        for (int t = 0; t < 4; t++) sum[k][t] = (floatx)0.0f;
    int last = min(images * tiles, (part + 1) * run);
    for (int tile = part * run; tile < last; tile++) {
        int image = tile / tiles, at = (tile - image * tiles) * XV;
        __global const float *ins = x + x_at + image * x_stride, *outs = dy + dy_at + image * dy_stride + (long)o * 4 * n;
        for (int t = 0; t < 4; t++) {
            floatx d = gather(outs, at, n, width, t);
            for (int k = 0; k < CB; k++) sum[k][t] = mad(d, load_within(ins + (long)min(c + k, inputs - 1) * n, at, n), sum[k][t]);
        }
    }
    partial += partial_at + (long)part * inputs * outputs * 4;
    for (int k = 0; k < CB && c + k < inputs; k++)
        for (int t = 0; t < 4; t++) partial[((long)(c + k) * outputs + o) * 4 + t] = SUM_LANES(sum[k][t]);
}

__kernel void transpose_gradient_total(__global const float *restrict partial, ulong partial_at, __global float *restrict gradient, ulong gradient_at,
                                       int parts, long n)
{
    EACH(i, n)
    {
        float sum = 0.0f;
        for (int p = 0; p < parts; p++) sum += partial[partial_at + p * n + i];
        gradient[gradient_at + i] += sum;
    }
}
