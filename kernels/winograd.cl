/* SPDX-License-Identifier: Apache-2.0 */
#include "apart.h"
#include "vector.h"

/* Convolutions of 3 x 3, stride 1, padding 1, as products of transformed tiles: F(4 x 4, 3 x 3), four times fewer multiplications.
 *   Y = A' [G g G' . B' d B] A     for a tile Y of 4 x 4 pixels, d the 6 x 6 around them
 *   dg = G' [A dY A' . B' d B] G   the way back to the weights, which is the first one's adjoint
 * with the interpolation points 0, 1, -1, 2, -2 and infinity (A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks, 2015).
 * The products in brackets are summed over channels, or over tiles: 36 matrix products, which gemm does. A transformed tensor is 36 matrices,
 * `matrix` elements apart; their element (row, channel) stands at (channel / panel * rows + row) * panel + channel % panel. Tiles are
 * counted over rows and images. A register holds XV neighbouring channels. */

#define POINTS 6
#define TILE 4
#define SIDE(border) (TILE + 2 * (border)) /* of what a transformed tile is made from: d with a border of 1, dY with none */

/* Along one line: B' d, A y, A' m, G g and G' u. */
static inline void transform_input(const floatx *d, floatx *v)
{
    floatx even = MAD((floatx)-4.0f, d[2], d[4]), odd = MAD((floatx)-4.0f, d[1], d[3]);
    floatx far = d[4] - d[2], near = 2.0f * (d[3] - d[1]);
    v[0] = MAD((floatx)4.0f, d[0], MAD((floatx)-5.0f, d[2], d[4]));
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = far + near;
    v[4] = far - near;
    v[5] = MAD((floatx)4.0f, d[1], MAD((floatx)-5.0f, d[3], d[5]));
}

static inline void transform_gradient(const floatx *y, floatx *v)
{
    floatx even = y[0] + y[2], odd = y[1] + y[3];
    floatx even2 = MAD((floatx)4.0f, y[2], y[0]), odd2 = MAD((floatx)8.0f, y[3], 2.0f * y[1]);
    v[0] = y[0];
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = even2 + odd2;
    v[4] = even2 - odd2;
    v[5] = y[3];
}

static inline void transform_result(const floatx *m, floatx *y)
{
    floatx even = m[1] + m[2], odd = m[1] - m[2], even2 = m[3] + m[4], odd2 = m[3] - m[4];
    y[0] = m[0] + even + even2;
    y[1] = MAD((floatx)2.0f, odd2, odd);
    y[2] = MAD((floatx)4.0f, even2, even);
    y[3] = MAD((floatx)8.0f, odd2, odd + m[5]);
}

static inline void transform_weight(const floatx *g, floatx *u)
{
    floatx sum = (g[0] + g[2]) * (-1.0f / 6), middle = g[1] * (1.0f / 6), sum2 = MAD((floatx)(1.0f / 6), g[2], g[0] * (1.0f / 24)),
           middle2 = g[1] * (1.0f / 12);
    u[0] = g[0] * 0.25f;
    u[1] = sum - middle;
    u[2] = sum + middle;
    u[3] = sum2 + middle2;
    u[4] = sum2 - middle2;
    u[5] = g[2];
}

static inline void transform_weight_gradient(const floatx *u, floatx *g)
{
    floatx sum = (u[1] + u[2]) * (-1.0f / 6), sum2 = u[3] + u[4];
    g[0] = MAD((floatx)0.25f, u[0], MAD((floatx)(1.0f / 24), sum2, sum));
    g[1] = MAD((floatx)(1.0f / 12), u[3] - u[4], (u[2] - u[1]) * (1.0f / 6));
    g[2] = MAD((floatx)(1.0f / 6), sum2, sum + u[5]);
}

#if XV >= 8
/* Planes are turned eight at a time: a register holds that many channels, or twice as many. */
#if XV == 8
#define JOINED(eight, l) eight[0][l]
#define EIGHT_OF(v, h) (v)
#else
#define JOINED(eight, l) (floatx)(eight[0][l], eight[1][l])
#define EIGHT_OF(v, h) ((h) ? (v).hi : (v).lo)
#endif

/* Four pixels of some channels become four pixels' channels, */
static inline void load_turned(__global const float *row, const int *plane, floatx *v)
{
    float8 eight[XV / 8][4];
    FOR(h, XV / 8)
    {
        FOR(l, 4) eight[h][l] = (float8)(vload4(0, row + plane[8 * h + l]), vload4(0, row + plane[8 * h + l + 4]));
        turn_4x8(eight[h]);
    }
    FOR(l, 4) v[l] = JOINED(eight, l);
}

/* and back. */
static inline void put_turned(const floatx *v, __global float *pixels, const int *plane, int accumulate)
{
    FOR(h, XV / 8)
    {
        float8 eight[4];
        FOR(l, 4) eight[l] = EIGHT_OF(v[l], h);
        turn_4x8(eight);
        FOR(l, 8)
        {
            float4 quad = l < 4 ? eight[l % 4].lo : eight[l % 4].hi;
            __global float *to = pixels + plane[8 * h + l];
            vstore4(accumulate ? quad + vload4(0, to) : quad, 0, to);
        }
    }
}
#endif

/* Pixels of a row from column x on, four or with a border six, of the channels whose planes stand at `plane`; 0 beyond its edges. */
#if XV >= 8
static inline bool load_inside_0(__global const float *row, const int *plane, int x, int width, floatx *d)
{
    if (x + TILE > width) return false;
    load_turned(row + x, plane, d);
    return true;
}

/* The last two come with two that are here already, so that nothing beyond an edge is read. */
static inline bool load_inside_1(__global const float *row, const int *plane, int x, int width, floatx *d)
{
    if (x + TILE + 1 > width) return false;
    floatx v[4], w[4];
    int left = x < 0, right = x + TILE + 2 > width;
    load_turned(row + x + left, plane, v);
    load_turned(row + x + 2 - right, plane, w);
    d[0] = left ? (floatx)0.0f : v[0];
    FOR(j, 3) d[j + 1] = left ? v[j] : v[j + 1];
    d[4] = right ? w[3] : w[2];
    d[5] = right ? (floatx)0.0f : w[3];
    return true;
}
#else
#define load_inside_0(row, plane, x, width, d) false
#define load_inside_1(row, plane, x, width, d) false
#endif

static inline void load_edges(__global const float *row, const int *plane, int x, int width, int side, float *lanes)
{
    _Pragma("nounroll") for (int j = 0; j < side; j++)
        EDGE_LOOP(l) lanes[j * XV + l] = x + j >= 0 && x + j < width ? row[plane[l] + x + j] : 0.0f;
}

/* A tile's image and its first pixel. */
typedef struct place {
    int image, top, column;
} place;

static inline place place_of(int tile, int height, int width)
{
    int across = (width + TILE - 1) / TILE, tiles = (height + TILE - 1) / TILE * across;
    int image = tile / tiles, inner = tile - image * tiles, down = inner / across;
    place p = { image, down * TILE, (inner - down * across) * TILE };
    return p;
}

/* Where the lanes' planes begin; lanes behind the last channel have that one's again. */
static inline void find_planes(int channel, int channels, int n, int *plane) { FOR(l, XV) plane[l] = min(channel + l, channels - 1) * n; }

#define transform_line_0 transform_gradient
#define transform_line_1 transform_input

/* A tile of an image whose first pixel, border and all, is at (y, column), transformed: B' d B with a border of 1, A d A' with none. It goes to `to` and on,
 * matrix after matrix. */
#define IMAGE_TILE(name, SPACE, border)                                                                                                                 \
    BY_ITSELF void name(__global const float *pixels, const int *plane, int y, int column, int height, int width, SPACE float *to, long matrix)            \
    {                                                                                                                                                   \
        floatx lines[SIDE(border)][POINTS];                                                                                                             \
        _Pragma("nounroll") for (int i = 0; i < SIDE(border); i++)                                                                                      \
        {                                                                                                                                               \
            floatx d[SIDE(border)];                                                                                                                     \
            __global const float *row = pixels + (y + i) * width;                                                                                       \
            FOR(j, SIDE(border)) d[j] = (floatx)0.0f;                                                                                                   \
            if (y + i >= 0 && y + i < height && !JOIN(load_inside_, border)(row, plane, column, width, d)) {                                            \
                float lanes[SIDE(border) * XV];                                                                                                         \
                load_edges(row, plane, column, width, SIDE(border), lanes);                                                                             \
                FOR(j, SIDE(border)) d[j] = LOADX(lanes + j * XV);                                                                                      \
            }                                                                                                                                           \
            JOIN(transform_line_, border)(d, lines[i]);                                                                                                 \
        }                                                                                                                                               \
        _Pragma("nounroll") for (int j = 0; j < POINTS; j++)                                                                                            \
        {                                                                                                                                               \
            floatx d[SIDE(border)], v[POINTS];                                                                                                          \
            FOR(i, SIDE(border)) d[i] = lines[i][j];                                                                                                    \
            JOIN(transform_line_, border)(d, v);                                                                                                        \
            FOR(i, POINTS) STOREX(v[i], to + (i * POINTS + j) * matrix);                                                                                \
        }                                                                                                                                               \
    }
IMAGE_TILE(image_tile, __global, BORDER)

/* Tiles first .. first + count - 1 of x, transformed: B' d B with BORDER, else A d A'. Work-items: (groups of channels, runs of tiles). */
__kernel void winograd_image(__global const float *restrict x, ulong x_at, __global float *restrict out, ulong out_at, long x_stride, int channels, int height,
                             int width, int first, int count, long matrix, int panel, int run)
{
    int channel = (int)get_global_id(0) * XV;
    int begin = (int)get_global_id(1) * run, end = min(count, begin + run);
    int plane[XV];
    find_planes(channel, channels, height * width, plane);
    out += out_at + (long)(channel / panel) * count * panel + channel % panel;
    for (int t = begin; t < end; t++) {
        place at = place_of(first + t, height, width);
        image_tile(x + x_at + at.image * x_stride, plane, at.top - BORDER, at.column - BORDER, height, width, out + (long)t * panel, matrix);
    }
}

#if XV >= 8
#define PUT_TURNED                                           \
    if (column + TILE <= width && channels == XV) {          \
        put_turned(v, pixels, plane, accumulate);            \
        continue;                                            \
    }
#else
#define PUT_TURNED
#endif

/* y (+)= A' m A + offset of a tile whose first pixel is at (top, column) of the images at y. */
#define RESULT_TILE(name, SPACE)                                                                                                                        \
    BY_ITSELF void name(SPACE const float *from, long matrix, __global float *y, const int *plane, const float *offset, int channels, int top, int column, \
                     int height, int width, int accumulate)                                                                                             \
    {                                                                                                                                                   \
        floatx lines[TILE][POINTS];                                                                                                                     \
        _Pragma("nounroll") for (int j = 0; j < POINTS; j++)                                                                                            \
        {                                                                                                                                               \
            floatx v[POINTS], out[TILE];                                                                                                                \
            FOR(i, POINTS) v[i] = LOADX(from + (i * POINTS + j) * matrix);                                                                              \
            transform_result(v, out);                                                                                                                   \
            FOR(i, TILE) lines[i][j] = out[i];                                                                                                          \
        }                                                                                                                                               \
        _Pragma("nounroll") for (int i = 0; i < TILE && top + i < height; i++)                                                                          \
        {                                                                                                                                               \
            floatx v[TILE];                                                                                                                             \
            __global float *pixels = y + (top + i) * width + column;                                                                                    \
            transform_result(lines[i], v);                                                                                                              \
            FOR(j, TILE) v[j] += LOADX(offset);                                                                                                         \
            PUT_TURNED                                                                                                                                  \
            float lanes[TILE][XV];                                                                                                                      \
            FOR(j, TILE) STOREX(v[j], lanes[j]);                                                                                                        \
            for (int l = 0; l < channels; l++)                                                                                                          \
                for (int j = 0; j < TILE && column + j < width; j++) {                                                                                  \
                    __global float *pixel = pixels + plane[l] + j;                                                                                      \
                    *pixel = accumulate ? *pixel + lanes[j][l] : lanes[j][l];                                                                           \
                }                                                                                                                                       \
        }                                                                                                                                               \
    }
RESULT_TILE(result_tile, __global)

static inline void find_offsets(__global const float *bias, int channel, int channels, int has_bias, float *offset)
{
    FOR(l, XV) offset[l] = has_bias ? bias[min(channel + l, channels - 1)] : 0.0f;
}

/* y (+)= A' m A (+ bias) of the tiles first .. first + count - 1. Work-items: (groups of channels, runs of tiles). */
__kernel void winograd_result(__global const float *restrict m, ulong m_at, __global const float *restrict bias, ulong bias_at, __global float *restrict y,
                              ulong y_at, long y_stride, int channels, int height, int width, int first, int count, long matrix, int row, int has_bias,
                              int accumulate, int run)
{
    int channel = (int)get_global_id(0) * XV;
    int begin = (int)get_global_id(1) * run, end = min(count, begin + run);
    int plane[XV];
    float offset[XV];
    find_planes(channel, channels, height * width, plane);
    find_offsets(bias + bias_at, channel, channels, has_bias, offset);
    m += m_at + channel;
    for (int t = begin; t < end; t++) {
        place at = place_of(first + t, height, width);
        result_tile(m + (long)t * row, matrix, y + y_at + at.image * y_stride, plane, offset, min(XV, channels - channel), at.top, at.column, height, width,
                    accumulate);
    }
}

#ifdef W
/* Both and the products between, of a run of tiles whose transformed numbers stay in a near cache: at most NEAR of 36 matrices, inputs or outputs. u, the
 * transformed weights, in panels of W outputs. Work-items, apart: runs of tiles. */
#define NV (W / XV)
#define MR 6
IMAGE_TILE(near_tile_0, , 0)
IMAGE_TILE(near_tile_1, , 1)
RESULT_TILE(near_result_tile, )

/* Tiles first .. first + count - 1 of all channels, whose rows are `row` channels, a multiple of XV. */
#define NEAR_TILES(name, border)                                                                                                                                \
    BY_ITSELF void name(__global const float *images, long stride, int channels, int height, int width, int first, int count, float *to, int row, long matrix)     \
    {                                                                                                                                                           \
        int plane[XV];                                                                                                                                          \
        for (int channel = 0; channel < row; channel += XV) {                                                                                                   \
            find_planes(channel, channels, height * width, plane);                                                                                              \
            for (int t = 0; t < count; t++) {                                                                                                                   \
                place at = place_of(first + t, height, width);                                                                                                  \
                JOIN(near_tile_, border)(images + at.image * stride, plane, at.top - border, at.column - border, height, width, to + t * row + channel, matrix);\
            }                                                                                                                                                   \
        }                                                                                                                                                       \
    }
NEAR_TILES(near_gradients, 0)
NEAR_TILES(near_images, 1)

/* out[count][width] = x[count][depth] u, where u is in panels. */
BY_ITSELF void multiply_near(const float *x, long x_row, __global const float *u, int count, int depth, int width, float *out)
{
    for (int column = 0; column < width; column += W)
        for (int row = 0; row < count; row += MR) {
            long offset[MR];
            floatx sum[MR][NV];
            __global const float *right = u + (long)column * depth;
            FOR(i, MR) offset[i] = min(row + i, count - 1) * x_row;
            FOR(i, MR) FOR(j, NV) sum[i][j] = (floatx)0.0f;
            _Pragma("nounroll") for (int p = 0; p < depth; p++, right += W)
            {
                floatx v[NV];
                FOR(j, NV) v[j] = LOADX(right + j * XV);
                FOR(i, MR)
                {
                    floatx l = (floatx)(x[offset[i] + p]);
                    FOR(j, NV) sum[i][j] = MAD(l, v[j], sum[i][j]);
                }
            }
            FOR(i, MR) FOR(j, NV) STOREX(sum[i][j], out + (long)min(row + i, count - 1) * width + column + j * XV);
        }
}

__kernel void winograd_near(__global const float *restrict x, ulong x_at, __global const float *restrict u, ulong u_at, __global const float *restrict bias,
                            ulong bias_at, __global float *restrict y, ulong y_at, long x_stride, long y_stride, long u_matrix, int inputs, int outputs, int height,
                            int width, int count, int run, int has_bias, int accumulate)
{
    int item = item_of((count + run - 1) / run);
    if (item < 0) return;
    int begin = item * run, end = min(count, begin + run);
    int left_row = (inputs + XV - 1) / XV * XV, right_row = (outputs + W - 1) / W * W;
    long left_matrix = run * left_row + 16, right_matrix = run * right_row + 16;
    ALIGNED float left[POINTS * POINTS * (NEAR + 16)], right[POINTS * POINTS * (NEAR + 16)];
    int plane[XV];
    float offset[XV];
    near_images(x + x_at, x_stride, inputs, height, width, begin, end - begin, left, left_row, left_matrix);
    for (int i = 0; i < POINTS * POINTS; i++)
        multiply_near(left + i * left_matrix, left_row, u + u_at + i * u_matrix, end - begin, inputs, right_row, right + i * right_matrix);
    for (int channel = 0; channel < outputs; channel += XV) {
        find_planes(channel, outputs, height * width, plane);
        find_offsets(bias + bias_at, channel, outputs, has_bias, offset);
        for (int t = begin; t < end; t++) {
            place at = place_of(t, height, width);
            near_result_tile(right + (t - begin) * right_row + channel, right_matrix, y + y_at + at.image * y_stride, plane, offset, min(XV, outputs - channel),
                             at.top, at.column, height, width, accumulate);
        }
    }
}

#define NEAR_ROWS (XV == 16 ? 8 : 4) /* divides XV */

/* out[depth][width] (+)= x' dy of `count` tiles, whose rows are `depth` and `width` channels: multiples of XV, and of W. */
BY_ITSELF void multiply_gradient(const float *x, int depth, const float *dy, int width, int count, int more, __global float *out)
{
    for (int row = 0; row < depth; row += NEAR_ROWS)
        for (int column = 0; column < width; column += W) {
            __global float *to = out + row * width + column;
            const float *left = x + row, *right = dy + column;
            floatx sum[NEAR_ROWS][NV];
            FOR(i, NEAR_ROWS) FOR(j, NV) sum[i][j] = more ? LOADX(to + i * width + j * XV) : (floatx)0.0f;
            _Pragma("nounroll") for (int t = 0; t < count; t++, left += depth, right += width)
            {
                floatx v[NV];
                FOR(j, NV) v[j] = LOADX(right + j * XV);
                FOR(i, NEAR_ROWS)
                {
                    floatx l = (floatx)(left[i]);
                    FOR(j, NV) sum[i][j] = MAD(l, v[j], sum[i][j]);
                }
            }
            FOR(i, NEAR_ROWS) FOR(j, NV) STOREX(sum[i][j], to + i * width + j * XV);
        }
}

/* The way back to the weights in the same way: of each part of the tiles, `run` at a time, the 36 sums of products. Work-items, apart:
 * parts of `part` tiles. */
__kernel void winograd_near_gradient(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at, __global float *restrict out,
                                     ulong out_at, long x_stride, long dy_stride, long matrix, int inputs, int outputs, int height, int width, int count,
                                     int part, int run)
{
    int item = item_of((count + part - 1) / part);
    if (item < 0) return;
    int end = min(count, (item + 1) * part), left_row = (inputs + XV - 1) / XV * XV, right_row = (outputs + W - 1) / W * W;
    long left_matrix = run * left_row + 16, right_matrix = run * right_row + 16;
    ALIGNED float left[POINTS * POINTS * (NEAR + 16)], right[POINTS * POINTS * (NEAR + 16)];
    out += out_at + item * POINTS * POINTS * matrix;
    for (int begin = item * part; begin < end; begin += run) {
        int tiles = min(run, end - begin);
        near_images(x + x_at, x_stride, inputs, height, width, begin, tiles, left, left_row, left_matrix);
        near_gradients(dy + dy_at, dy_stride, outputs, height, width, begin, tiles, right, right_row, right_matrix);
        for (int i = 0; i < POINTS * POINTS; i++)
            multiply_gradient(left + i * left_matrix, left_row, right + i * right_matrix, right_row, tiles, begin > item * part, out + i * matrix);
    }
}
#endif

/* G g G' of w(o, c, tap), which stands at o * out_stride + c * in_stride + tap, taps in reverse on request. Rows are input channels.
 * Work-items: (groups of outputs, inputs). */
__kernel void winograd_weights(__global const float *restrict w, ulong w_at, __global float *restrict out, ulong out_at, long out_stride, long in_stride,
                               int inputs, int outputs, int flip, long matrix, int panel)
{
    int o = (int)get_global_id(0) * XV, c = (int)get_global_id(1);
    floatx lines[3][POINTS];
    w += w_at + c * in_stride;
    out += out_at + ((long)(o / panel) * inputs + c) * panel + o % panel;
    _Pragma("nounroll") for (int i = 0; i < 3; i++)
    {
        floatx g[3];
        FOR(j, 3)
        {
            float lanes[XV];
            FOR(l, XV) lanes[l] = w[min(o + l, outputs - 1) * out_stride + (flip ? 8 - 3 * i - j : 3 * i + j)];
            g[j] = LOADX(lanes);
        }
        transform_weight(g, lines[i]);
    }
    _Pragma("nounroll") for (int j = 0; j < POINTS; j++)
    {
        floatx g[3], u[POINTS];
        FOR(i, 3) g[i] = lines[i][j];
        transform_weight(g, u);
        FOR(i, POINTS) STOREX(u[i], out + (i * POINTS + j) * matrix);
    }
}

/* gradient[o][c] += scale * row[o] * column[c] * G' u G, where rows of u are input channels and u is the sum of `parts`, in order. Work-items: (groups of outputs, inputs). */
__kernel void winograd_weights_gradient(__global const float *restrict u, ulong u_at, __global float *restrict gradient, ulong gradient_at,
                                        __global const float *restrict row, ulong row_at, __global const float *restrict column, ulong column_at, int inputs,
                                        int outputs, long matrix, int leading, int parts, float scale, int has_row, int has_column)
{
    int o = (int)get_global_id(0) * XV, c = (int)get_global_id(1);
    floatx lines[3][POINTS];
    u += u_at + (long)c * leading + o;
    _Pragma("nounroll") for (int j = 0; j < POINTS; j++)
    {
        floatx v[POINTS], g[3];
        FOR(i, POINTS) v[i] = LOADX(u + (i * POINTS + j) * matrix);
        for (int p = 1; p < parts; p++) FOR(i, POINTS) v[i] += LOADX(u + (p * POINTS * POINTS + i * POINTS + j) * matrix);
        transform_weight_gradient(v, g);
        FOR(i, 3) lines[i][j] = g[i];
    }
    if (has_column) scale *= column[column_at + c];
    _Pragma("nounroll") for (int i = 0; i < 3; i++)
    {
        floatx g[3];
        float lanes[3][XV];
        transform_weight_gradient(lines[i], g);
        FOR(j, 3) STOREX(g[j], lanes[j]);
        for (int l = 0; l < XV && o + l < outputs; l++) {
            __global float *to = gradient + gradient_at + ((long)(o + l) * inputs + c) * 9 + 3 * i;
            float factor = has_row ? scale * row[row_at + o + l] : scale;
            FOR(j, 3) to[j] = MAD(factor, lanes[j][l], to[j]);
        }
    }
}
