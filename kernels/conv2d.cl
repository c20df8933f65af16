/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "sum.h"
#include "vector.h"

/* Convolutions of K x K, stride 1, zero padding K / 2, by planes or (conv_rows, conv_gradient_rows) by rows.
 *
 * By planes, pixels are taken as one row of h * w, XV at a time: the neighbour of tap (ky, kx) is then a load at a fixed distance, and only the
 * lanes that wrapped around an edge column are cleared. PADDED planes have `margin` zeros on either side, so that every load is inside; others
 * take care in their first and last rows. */

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
static inline void edge_masks(int at, int width, intx *left, intx *right)
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

#if K == 3 && XV > 1
/* The same on rows of at least XV pixels: OB outputs of PB rows by XV columns at a time. The last columns of an image are taken with some that were
 * there before. */

#if XV == 8
#define AFTER_ZERO(v) (float8)(0.0f, v.s0123, v.s45, v.s6)
#define BEFORE_ZERO(v) (float8)(v.s1234, v.s56, v.s7, 0.0f)
#else
#define AFTER_ZERO(v) (float16)(0.0f, v.s0123, v.s4567, v.s89ab, v.scd, v.se)
#define BEFORE_ZERO(v) (float16)(v.s1234, v.s5678, v.s9abc, v.sde, v.sf, 0.0f)
#endif

/* One input onto OB outputs. The loop over rows of taps stays one: unrolled, all rows that several of them read would be kept, and sums pushed out of
 * registers. */
#define INPUT                                                                                        \
    _Pragma("nounroll") for (int ky = 0; ky < 3; ky++)                                               \
    {                                                                                                \
        FOR(kx, 3)                                                                                   \
        {                                                                                            \
            floatx v[PB];                                                                            \
            FOR(p, PB) v[p] = LOADX(line + (p + ky) * room + kx);                                    \
            FOR(k, OB)                                                                               \
            {                                                                                        \
                floatx tap = taps[k][TAP(ky, kx)];                                                   \
                FOR(p, PB) sum[k][p] = MAD(tap, v[p], sum[k][p]);                                    \
            }                                                                                        \
        }                                                                                            \
    }

/* A part's statistics for a norm behind are those of batch_norm.cl: pixels, their mean, the sum of squares of what they differ from it. Sums are of
 * y - shift, with the first pixel for the shift. */
#define PART_ROWS 6 /* a multiple of every PB */

#define LINES (PART_ROWS + 2)

/* The rows of one part and the two beside it, of all inputs, with zeros before and behind each and where the image has none. There they stand together:
 * planes are often powers of 2 apart, so that few of their rows fit a near cache at the same time. */
static inline void copy_part(__global const float *restrict x, __local float *lines, int inputs, int height, int width, int row)
{
    for (int i = 0; i < inputs * LINES; i++) {
        int from = row - 1 + i % LINES;
        __global const float *pixels = x + ((long)(i / LINES) * height + from) * width;
        bool inside = from >= 0 && from < height;
        STOREX((floatx)0.0f, lines);
        lines += XV;
        for (int at = 0; at < width; at += XV) {
            int column = min(at, width - XV);
            STOREX(inside ? LOADX(pixels + column) : (floatx)0.0f, lines + column);
        }
        lines += width;
    }
    STOREX((floatx)0.0f, lines);
}

#define ROWS_PARAMETERS                                                                                                                                        \
    __global const float *restrict x, ulong x_at, __global const float *restrict w, ulong w_at, __global const float *restrict b, ulong b_at,                  \
    __global float *restrict y, ulong y_at, __global float *restrict statistics, ulong statistics_at, __local float *lines, long x_stride, long y_stride,      \
    long statistics_stride, int inputs, int outputs, int height, int width, long out_stride, long in_stride, int has_bias, int accumulate, int has_statistics, \
    int run
#define ROWS_ARGUMENTS                                                                                                                                       \
    x, x_at, w, w_at, b, b_at, y, y_at, statistics, statistics_at, lines, x_stride, y_stride, statistics_stride, inputs, outputs, height, width, out_stride, \
    in_stride, has_bias, accumulate, has_statistics, run

BY_ITSELF void rows_item(ROWS_PARAMETERS, int item, int image)
{
    int parts = (height + PART_ROWS - 1) / PART_ROWS, begin = item * run, room = width + XV;
    x += x_at + (long)image * x_stride;
    y += y_at + (long)image * y_stride;
    w += w_at;
    for (int part = begin; part < min(parts, begin + run); part++) {
        int top = part * PART_ROWS, end = min(height, top + PART_ROWS);
        copy_part(x, lines, inputs, height, width, top);
        for (int o = 0; o < outputs; o += OB) {
            floatx total[OB], squares[OB];
            float shift[OB];
            FOR(k, OB)
            {
                total[k] = squares[k] = (floatx)0.0f;
                shift[k] = 0.0f;
            }
            for (int row = top; row < end; row += PB)
                for (int at = 0; at < width; at += XV) {
                    int column = min(at, width - XV);
                    floatx sum[OB][PB];
                    __global const float *taps[OB];
                    __local const float *line = lines + (row - top) * room + column + XV - 1;
                    FOR(k, OB)
                    {
                        taps[k] = w + min(o + k, outputs - 1) * out_stride;
                        FOR(p, PB) sum[k][p] = (floatx)(has_bias ? b[b_at + min(o + k, outputs - 1)] : 0.0f);
                    }
                    /* The lines that this tile writes, and those of the next part at its place. */
                    FOR(k, OB) FOR(p, PB) ASK_FOR(y + ((long)(o + k) * height + row + p) * width + column);
                    for (int c = 0; c < inputs && o == 0; c++) FOR(p, PB) ASK_FOR(x + ((long)c * height + row + p + PART_ROWS + 1) * width + column);
                    for (int c = 0; c < inputs; c++) {
                        INPUT
                        line += LINES * room;
                        FOR(k, OB) taps[k] += in_stride;
                    }
                    intx fresh = column + LANE_NUMBERS >= at;
                    if (has_statistics) {
                        if (row == top && at == 0) FOR(k, OB) shift[k] = sum[k][0].s0;
                        FOR(k, OB)
                            FOR(p, PB)
                            {
                                if (row + p >= height) continue;
                                floatx d = select((floatx)0.0f, sum[k][p] - shift[k], fresh);
                                total[k] += d;
                                squares[k] = MAD(d, d, squares[k]);
                            }
                    }
                    FOR(k, OB)
                    {
                        FOR(p, PB)
                        {
                            if (o + k >= outputs || row + p >= height) continue;
                            __global float *to = y + ((long)(o + k) * height + row + p) * width + column;
                            if (accumulate) sum[k][p] = LOADX(to) + select((floatx)0.0f, sum[k][p], fresh);
                            STOREX(sum[k][p], to);
                        }
                    }
                }
            if (has_statistics)
                FOR(k, OB)
                {
                    if (o + k >= outputs) continue;
                    __global float *to = statistics + statistics_at + image * statistics_stride + ((long)(o + k) * parts + part) * 3;
                    float count = (float)((end - top) * width), sum = SUM_LANES(total[k]), offset = sum / count;
                    to[0] = count;
                    to[1] = shift[k] + offset;
                    to[2] = max(SUM_LANES(squares[k]) - sum * offset, 0.0f);
                }
        }
    }
}

/* Work-items, each a group: (runs of parts of PART_ROWS rows, images). Statistics: (image, output, part). */
__kernel void conv_rows(ROWS_PARAMETERS)
{
    rows_item(ROWS_ARGUMENTS, (int)get_global_id(0), (int)get_global_id(1));
}
#endif

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

#if K == 3 && XV > 1
/* One tile's products with the input before, at and after its pixels. */
#define TILE(before, here, after)                                  \
    {                                                              \
        floatx v[3] = { before, here, after };                     \
        FOR(k, OB)                                                 \
        {                                                          \
            floatx d = LOADX(out[k] + pixel);                      \
            FOR(t, 3) sum[k][t] = MAD(d, v[t], sum[k][t]);         \
        }                                                          \
    }
#define FRESH(v) select((floatx)0.0f, v, fresh)

/* The same of one part, a run of rows, all at once: bands of rows that stay near while every input meets every output. Sums of lanes stand in
 * `lanes`, [parts][blocks of outputs][inputs][rows of taps][OB][3], between bands. Work-items: (parts). */
__kernel void conv_gradient_rows(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at,
                                 __global float *restrict partial, ulong partial_at, __global float *restrict lanes, ulong lanes_at, long x_stride,
                                 long dy_stride, int inputs, int outputs, int height, int width, int images, int run, int band)
{
    int part = (int)get_global_id(0), begin = part * run, end = min(images * height, begin + run), n = height * width, blocks = (outputs + OB - 1) / OB;
    lanes += lanes_at + (long)part * blocks * inputs * 9 * OB * XV;
    partial += partial_at + (long)part * outputs * inputs * 9;
    for (int at = begin; at < end;) {
        int image = at / height, first = at - image * height, last = min(min(height, first + band), first + end - at);
        for (int i = 0; i < blocks * inputs * 3; i++) {
            int ky = i % 3, c = i / 3 % inputs, o = i / 3 / inputs * OB;
            __global const float *in = x + x_at + image * x_stride + (long)c * n + (ky - 1) * width;
            __global const float *out[OB];
            __global float *at_lanes = lanes + (long)i * 3 * OB * XV;
            floatx sum[OB][3];
            /* Of the next band a row is asked for with each row: of this input, then of as many of these outputs as there are inputs. */
            __global const float *next = ky == 1 && o == 0  ? in + band * width
                                         : ky == 2 && c < OB ? dy + dy_at + image * dy_stride + (long)(o + c) * n + band * width
                                                            : 0;
            FOR(k, OB)
            {
                out[k] = dy + dy_at + image * dy_stride + (long)min(o + k, outputs - 1) * n;
                FOR(t, 3) sum[k][t] = at == begin ? (floatx)0.0f : LOADX(at_lanes + (k * 3 + t) * XV);
            }
            for (int row = max(first, 1 - ky); row < min(last, height + 1 - ky); row++) {
                int at_row = row * width, at_end = at_row + width - XV, pixel = at_row;
                for (int column = 0; next && column < width; column += LINE) ASK_FOR(next + at_row + column);
                {
                    floatx here = LOADX(in + pixel);
                    TILE(AFTER_ZERO(here), here, width == XV ? BEFORE_ZERO(here) : LOADX(in + pixel + 1))
                }
                for (pixel += XV; pixel < at_end; pixel += XV) TILE(LOADX(in + pixel - 1), LOADX(in + pixel), LOADX(in + pixel + 1))
                if (width > XV) {
                    intx fresh = LANE_NUMBERS >= pixel - at_end;
                    pixel = at_end;
                    floatx here = LOADX(in + pixel);
                    TILE(FRESH(LOADX(in + pixel - 1)), FRESH(here), FRESH(BEFORE_ZERO(here)))
                }
            }
            FOR(k, OB) FOR(t, 3) STOREX(sum[k][t], at_lanes + (k * 3 + t) * XV);
        }
        at += last - first;
    }
    for (int i = 0; i < outputs * inputs * 9; i++) {
        int t = i % 3, ky = i / 3 % 3, c = i / 9 % inputs, o = i / 9 / inputs;
        __global const float *sum = lanes + ((((long)(o / OB) * inputs + c) * 3 + ky) * OB * 3 + o % OB * 3 + t) * XV;
        partial[i] = begin < end ? SUM_LANES(LOADX(sum)) : 0.0f;
    }
}
#endif

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

/* Sums of dy over parts of each plane, [outputs][images][parts]; then of each output's, into the gradient. */
__kernel void conv_bias_parts(__global const float *restrict dy, ulong dy_at, __global float *restrict partial, ulong partial_at, long dy_stride, int images,
                              int n)
{
    long part = (long)get_global_id(0), parts = (long)get_global_size(0), o = (long)get_global_id(1), image = (long)get_global_id(2);
    float sum;
    dy += dy_at + image * dy_stride + o * n;
    SUM_PART(sum, PART_FIRST(n, parts, part), PART_LAST(n, parts, part), i, dy[i]);
    partial[partial_at + (o * images + image) * parts + part] = sum;
}

__kernel void conv_bias_total(__global const float *restrict partial, ulong partial_at, __global float *restrict gradient, ulong gradient_at, long parts)
{
    long o = (long)get_global_id(0);
    float sum;
    partial += partial_at + o * parts;
    SUM_PART(sum, 0, parts, i, partial[i]);
    gradient[gradient_at + o] += sum;
}
