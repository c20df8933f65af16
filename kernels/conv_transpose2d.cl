/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "vector.h"
#include "square.h"

/* 2 x 2, stride 2: every input pixel makes a square of four output pixels of its own, so no two overlap. Pixels of a plane are taken as one
 * row, XV at a time. */

#define load_inside(plane, at, n) LOADX((plane) + (at))

/* y[o] = b[o] + sum over c of w[c][o][tap] x[c]: what is read of x serves OB outputs. Work-items: (runs of tiles, blocks of OB outputs, images). */
#define OB 2
#define FORWARD(LOAD)                                                                      \
    for (int c = 0; c < inputs; c++) {                                                     \
        floatx v = LOAD(x + (long)c * n, at, n);                                           \
        __global const float *taps = w + (long)c * outputs * 4;                            \
        FOR(k, OB) FOR(t, 4) sum[k][t] = MAD((floatx)(taps[offset[k] + t]), v, sum[k][t]); \
    }

__kernel void transpose_forward(__global const float *restrict x, ulong x_at, __global const float *restrict w, ulong w_at, __global const float *restrict b,
                                ulong b_at, __global float *restrict y, ulong y_at, long x_stride, long y_stride, int inputs, int outputs, int height,
                                int width, int has_bias)
{
    int n = height * width, o = (int)get_global_id(1) * OB;
    long offset[OB];
    x += x_at + (long)get_global_id(2) * x_stride;
    y += y_at + (long)get_global_id(2) * y_stride;
    w += w_at;
    FOR(k, OB) offset[k] = min(o + k, outputs - 1) * 4;
    EACH(tile, (n + XV - 1) / XV)
    {
        int at = (int)tile * XV;
        floatx sum[OB][4];
        FOR(k, OB) FOR(t, 4) sum[k][t] = (floatx)(has_bias ? b[b_at + min(o + k, outputs - 1)] : 0.0f);
        if (at + XV <= n) {
            FORWARD(load_inside)
        } else {
            FORWARD(load_within)
        }
        FOR(k, OB) if (o + k < outputs) store_squares(sum[k], y + (long)(o + k) * 4 * n, at, n, width, 2 * width);
    }
}

/* dx[c] = sum over o and taps of w[c][o][tap] dy[o]. Work-items: (runs of tiles, blocks of BB inputs, images). */
#define BB 8
#define BACKWARD(LOAD)                                                                                    \
    for (int o = 0; o < outputs; o++) {                                                                   \
        floatx v[4];                                                                                      \
        LOAD(dy + (long)o * 4 * n, at, n, width, 2 * width, v);                                           \
        FOR(k, BB)                                                                                        \
        {                                                                                                 \
            __global const float *taps = w + w_at + ((long)min(c + k, inputs - 1) * outputs + o) * 4;     \
            FOR(t, 4) sum[k] = MAD((floatx)(taps[t]), v[t], sum[k]);                                      \
        }                                                                                                 \
    }

__kernel void transpose_backward(__global const float *restrict dy, ulong dy_at, __global const float *restrict w, ulong w_at, __global float *restrict dx,
                                 ulong dx_at, long dy_stride, long dx_stride, int inputs, int outputs, int height, int width)
{
    int n = height * width, c = (int)get_global_id(1) * BB;
    dy += dy_at + (long)get_global_id(2) * dy_stride;
    dx += dx_at + (long)get_global_id(2) * dx_stride;
    EACH(tile, (n + XV - 1) / XV)
    {
        int at = (int)tile * XV;
        floatx sum[BB];
        FOR(k, BB) sum[k] = (floatx)0.0f;
        if (SQUARES_INSIDE(at, n, width)) {
            BACKWARD(load_squares_inside)
        } else {
            BACKWARD(load_squares_edge)
        }
        FOR(k, BB) if (c + k < inputs) store_within(sum[k], dx + (long)(c + k) * n, at, n);
    }
}

/* Partial sums of dW[c][o][tap] = sum of x[c] dy[o]; part: a run of the tiles of all images. Work-items: (outputs, blocks of CB inputs, parts). */
#define CB 4
#define PRODUCTS(LOAD_SQUARES, LOAD)                                         \
    floatx d[4];                                                             \
    LOAD_SQUARES(outs, at, n, width, 2 * width, d);                          \
    FOR(k, CB)                                                               \
    {                                                                        \
        floatx v = LOAD(ins + (long)min(c + k, inputs - 1) * n, at, n);      \
        FOR(t, 4) sum[k][t] = MAD(d[t], v, sum[k][t]);                       \
    }

__kernel void transpose_gradient_parts(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at,
                                       __global float *restrict partial, ulong partial_at, long x_stride, long dy_stride, int inputs, int outputs, int height,
                                       int width, int images, int run)
{
    int n = height * width, tiles = (n + XV - 1) / XV, o = (int)get_global_id(0), c = (int)get_global_id(1) * CB, part = (int)get_global_id(2);
    floatx sum[CB][4];
    FOR(k, CB) FOR(t, 4) sum[k][t] = (floatx)0.0f;
    int last = min(images * tiles, (part + 1) * run);
    for (int tile = part * run; tile < last;) {
        int image = tile / tiles, at = (tile - image * tiles) * XV;
        __global const float *ins = x + x_at + image * x_stride, *outs = dy + dy_at + image * dy_stride + (long)o * 4 * n;
        for (; at < n && tile < last; at += XV, tile++) {
            if (SQUARES_INSIDE(at, n, width)) {
                PRODUCTS(load_squares_inside, load_inside)
            } else {
                PRODUCTS(load_squares_edge, load_within)
            }
        }
    }
    partial += partial_at + (long)part * inputs * outputs * 4;
    FOR(k, CB)
        FOR(t, 4)
            if (c + k < inputs) partial[((long)(c + k) * outputs + o) * 4 + t] = SUM_LANES(sum[k][t]);
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
