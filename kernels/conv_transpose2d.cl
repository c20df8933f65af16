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

/* The output pixels of taps (ty, 0) and (ty, 1) for the input pixels at .. at + XV - 1; 0 behind the plane. They are neighbours, so where
 * a tile lies within one row they are two loads that are taken apart. */
inline void gather(__global const float *plane, int at, int n, int width, int ty, floatx *left, floatx *right)
{
#if XV == 1
    *left = at < n ? plane[place(at, width, 2 * ty)] : 0.0f;
    *right = at < n ? plane[place(at, width, 2 * ty + 1)] : 0.0f;
#else
    if (width % XV == 0) {
        plane += place(at, width, 2 * ty);
        floatx a = LOADX(plane), b = LOADX(plane + XV);
        *left = (floatx)(a.even, b.even);
        *right = (floatx)(a.odd, b.odd);
        return;
    }
    float lanes[2][XV];
    for (int l = 0; l < XV; l++)
        for (int t = 0; t < 2; t++) lanes[t][l] = at + l < n ? plane[place(at + l, width, 2 * ty + t)] : 0.0f;
    *left = JOIN(vload, XV)(0, lanes[0]);
    *right = JOIN(vload, XV)(0, lanes[1]);
#endif
}

inline void scatter(floatx left, floatx right, __global float *plane, int at, int n, int width, int ty)
{
#if XV == 1
    if (at < n) {
        plane[place(at, width, 2 * ty)] = left;
        plane[place(at, width, 2 * ty + 1)] = right;
    }
#else
    if (width % XV == 0) {
        floatx a, b;
        a.even = left.lo;
        a.odd = right.lo;
        b.even = left.hi;
        b.odd = right.hi;
        plane += place(at, width, 2 * ty);
        STOREX(a, plane);
        STOREX(b, plane + XV);
        return;
    }
    float lanes[2][XV];
    JOIN(vstore, XV)(left, 0, lanes[0]);
    JOIN(vstore, XV)(right, 0, lanes[1]);
    for (int l = 0; l < XV && at + l < n; l++)
        for (int t = 0; t < 2; t++) plane[place(at + l, width, 2 * ty + t)] = lanes[t][l];
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
    FOR(t, 4) sum[t] = (floatx)(has_bias ? b[b_at + o] : 0.0f);
    for (int c = 0; c < inputs; c++) {
        floatx v = load_within(x + (long)c * n, at, n);
        __global const float *taps = w + w_at + ((long)c * outputs + o) * 4;
        FOR(t, 4) sum[t] = MAD((floatx)(taps[t]), v, sum[t]);
    }
    scatter(sum[0], sum[1], y, at, n, width, 0);
    scatter(sum[2], sum[3], y, at, n, width, 1);
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
    FOR(k, CB) sum[k] = (floatx)0.0f;
    for (int o = 0; o < outputs; o++) {
        floatx v[4];
        gather(dy + (long)o * 4 * n, at, n, width, 0, &v[0], &v[1]);
        gather(dy + (long)o * 4 * n, at, n, width, 1, &v[2], &v[3]);
        FOR(k, CB)
        {
            __global const float *taps = w + w_at + ((long)min(c + k, inputs - 1) * outputs + o) * 4;
            FOR(t, 4) sum[k] = MAD((floatx)(taps[t]), v[t], sum[k]);
        }
    }
    FOR(k, CB) if (c + k < inputs) store_within(sum[k], dx + (long)(c + k) * n, at, n);
}

/* Partial sums of dW[c][o][tap] = sum of x[c] dy[o]; part: a run of the tiles of all images. Work-items: (outputs, blocks of CB inputs, parts). */
__kernel void transpose_gradient_parts(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at,
                                       __global float *restrict partial, ulong partial_at, long x_stride, long dy_stride, int inputs, int outputs, int height,
                                       int width, int images, int run)
{
    int n = height * width, tiles = (n + XV - 1) / XV, o = (int)get_global_id(0), c = (int)get_global_id(1) * CB, part = (int)get_global_id(2);
    floatx sum[CB][4];
    FOR(k, CB) FOR(t, 4) sum[k][t] = (floatx)0.0f;
    int last = min(images * tiles, (part + 1) * run);
    for (int tile = part * run; tile < last; tile++) {
        int image = tile / tiles, at = (tile - image * tiles) * XV;
        __global const float *ins = x + x_at + image * x_stride, *outs = dy + dy_at + image * dy_stride + (long)o * 4 * n;
        floatx d[4];
        gather(outs, at, n, width, 0, &d[0], &d[1]);
        gather(outs, at, n, width, 1, &d[2], &d[3]);
        FOR(k, CB)
        {
            floatx v = load_within(ins + (long)min(c + k, inputs - 1) * n, at, n);
            FOR(t, 4) sum[k][t] = MAD(d[t], v, sum[k][t]);
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
