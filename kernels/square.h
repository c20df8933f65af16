/* SPDX-License-Identifier: Apache-2.0 */
/* Squares of 2 x 2 pixels of a plane with rows of `pitch`, one for each of the pixels at .. at + XV - 1 of a plane of n that is half as high and
 * `width` wide: q[0] to q[3] are their upper left, upper right, lower left and lower right pixels; 0 behind the small plane. Needs vector.h.
 *
 * Squares are inside where halves of a register lie within a row: two loads for each row of pixels, which are taken apart. Others are rare and functions
 * of their own; a loop that keeps sums in registers must branch around both ways, because a call within would put them all into memory. */
INLINE int square_at(int at, int width, int pitch)
{
    int row = at / width;
    return 2 * (row * pitch + at - row * width);
}

#if XV == 1
#define SQUARES_INSIDE(at, n, width) ((at) < (n))

INLINE void load_squares_inside(__global const float *plane, int at, int n, int width, int pitch, floatx *q)
{
    plane += square_at(at, width, pitch);
    FOR(t, 4) q[t] = plane[t / 2 * pitch + t % 2];
}

INLINE void store_squares_inside(const floatx *q, __global float *plane, int at, int width, int pitch)
{
    plane += square_at(at, width, pitch);
    FOR(t, 4) plane[t / 2 * pitch + t % 2] = q[t];
}

INLINE void load_squares_edge(__global const float *plane, int at, int n, int width, int pitch, floatx *q) { FOR(t, 4) q[t] = 0.0f; }

INLINE void store_squares_edge(const floatx *q, __global float *plane, int at, int n, int width, int pitch) {}
#else
#define SQUARES_INSIDE(at, n, width) ((width) % (XV / 2) == 0 && (at) + XV <= (n))
#define SECOND_HALF(first) (width % XV == 0 ? (first) + XV : plane + square_at(at + XV / 2, width, pitch))

INLINE void load_squares_inside(__global const float *plane, int at, int n, int width, int pitch, floatx *q)
{
    __global const float *first = plane + square_at(at, width, pitch), *second = SECOND_HALF(first);
    FOR(row, 2)
    {
        floatx a = LOADX(first + row * pitch), b = LOADX(second + row * pitch);
        q[2 * row] = (floatx)(a.even, b.even);
        q[2 * row + 1] = (floatx)(a.odd, b.odd);
    }
}

INLINE void store_squares_inside(const floatx *q, __global float *plane, int at, int width, int pitch)
{
    __global float *first = plane + square_at(at, width, pitch), *second = SECOND_HALF(first);
    FOR(row, 2)
    {
        floatx a, b;
        a.even = q[2 * row].lo;
        a.odd = q[2 * row + 1].lo;
        b.even = q[2 * row].hi;
        b.odd = q[2 * row + 1].hi;
        STOREX(a, first + row * pitch);
        STOREX(b, second + row * pitch);
    }
}

BY_ITSELF void load_squares_edge(__global const float *plane, int at, int n, int width, int pitch, floatx *q)
{
    float lanes[4][XV];
    EDGE_LOOP(l)
    {
        __global const float *square = plane + square_at(min(at + l, n - 1), width, pitch);
        FOR(t, 4) lanes[t][l] = at + l < n ? square[t / 2 * pitch + t % 2] : 0.0f;
    }
    FOR(t, 4) q[t] = LOADX(lanes[t]);
}

BY_ITSELF void store_squares_edge(const floatx *q, __global float *plane, int at, int n, int width, int pitch)
{
    float lanes[4][XV];
    FOR(t, 4) STOREX(q[t], lanes[t]);
    for (int l = 0; l < XV && at + l < n; l++) {
        __global float *square = plane + square_at(at + l, width, pitch);
        FOR(t, 4) square[t / 2 * pitch + t % 2] = lanes[t][l];
    }
}
#endif

INLINE void load_squares(__global const float *plane, int at, int n, int width, int pitch, floatx *q)
{
    if (SQUARES_INSIDE(at, n, width)) {
        load_squares_inside(plane, at, n, width, pitch, q);
    } else {
        floatx edge[4]; /* q itself would have to be in memory on both ways */
        load_squares_edge(plane, at, n, width, pitch, edge);
        FOR(t, 4) q[t] = edge[t];
    }
}

INLINE void store_squares(const floatx *q, __global float *plane, int at, int n, int width, int pitch)
{
    if (SQUARES_INSIDE(at, n, width)) {
        store_squares_inside(q, plane, at, width, pitch);
    } else {
        floatx edge[4];
        FOR(t, 4) edge[t] = q[t];
        store_squares_edge(edge, plane, at, n, width, pitch);
    }
}

/* Which of a square is its first maximum in row order (NaN is above everything), and that one. */
INLINE intx first_maximum(const floatx *q, floatx *value)
{
    intx best = 0;
    *value = q[0];
    for (int t = 1; t < 4; t++) {
        intx stays = islessequal(q[t], *value) | isnan(*value);
        best = select((intx)t, best, stays);
        *value = select(q[t], *value, stays);
    }
    return best;
}
