/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "sum.h"
#include "group.h"
#include "vector.h"
#include "square.h"

/* Planes of n pixels are taken in vectors. With a pooled output beside the normalised one (2 x 2, stride 2, even sides) they are taken in squares
 * instead, so that what pooling takes, and what comes back from it, is there while the square is in registers.
 *
 * What a channel sums over its pixels is summed in parts of fixed size: work-items are (runs of a plane's vectors, on a GPU each one a work-group's, channels, groups of images),
 * where either a plane has several runs or a group several images. Part: (channel, group, run). */
#define PART_AT(group, channel, channels, run, runs) (((long)(group) * (channels) + (channel)) * (runs) + (run))

INLINE floatx normalised(floatx x, float m, float scale, float b, int relu)
{
    floatx v = MAD(x - m, (floatx)scale, (floatx)b);
    return relu ? select(v, (floatx)0.0f, isless(v, (floatx)0.0f)) : v; /* NaN stays */
}

/* Statistics of a part: pixels, their mean, the sum of squares of what they differ from it. Sums are of x - shift, with the first pixel for the
 * shift: one pass, without the cancellation of E[x^2] - E[x]^2. */
__kernel void norm_parts(__global const float *restrict x, ulong x_at, __global float *restrict partial, ulong partial_at, long stride, int channels, int n,
                         int runs, int images, int group)
{
    GROUP_MEMORY;
    int run = (int)GROUP_ID, c = (int)get_global_id(1), g = (int)get_global_id(2);
    int first = (int)PART_FIRST((n + XV - 1) / XV, runs, run) * XV, last = min(n, (int)PART_LAST((n + XV - 1) / XV, runs, run) * XV);
    int end = min(images, (g + 1) * group);
    x += x_at + (long)c * n;
    float shift = x[(long)g * group * stride + min(first, n - 1)];
    floatx sum = (floatx)0.0f, squares = (floatx)0.0f;
    for (int image = g * group; image < end; image++) {
        __global const float *plane = x + image * stride;
        int at = first + GROUP_ITEM * XV;
        for (; at + XV <= last; at += GROUP_ITEMS * XV) {
            floatx d = LOADX(plane + at) - shift;
            sum += d;
            squares = MAD(d, d, squares);
        }
        if (at < last) {
            floatx d = select((floatx)0.0f, load_within(plane, at, n) - shift, LANE_NUMBERS < n - at);
            sum += d;
            squares = MAD(d, d, squares);
        }
    }
    float count = (float)max(0, last - first) * (float)(end - g * group), total = TOTAL_OF_GROUP(SUM_LANES(sum)), offset = count > 0.0f ? total / count : 0.0f;
    float all_squares = TOTAL_OF_GROUP(SUM_LANES(squares));
    if (GROUP_ITEM != 0) return;
    partial += partial_at + 3 * PART_AT(g, c, channels, run, runs);
    partial[0] = count;
    partial[1] = shift + offset;
    partial[2] = max(all_squares - total * offset, 0.0f);
}

/* All parts of a channel, groups [groups][channels][runs] that stand `stride` apart, in order. */
#define PART_OF(g, r) (partial + (g) * stride + 3 * ((long)c * runs + (r)))

__kernel void norm_statistics(__global const float *restrict partial, ulong partial_at, __global float *restrict mean, ulong mean_at,
                              __global float *restrict deviation, ulong deviation_at, __global float *restrict running_mean, ulong running_mean_at,
                              __global float *restrict running_variance, ulong running_variance_at, long stride, int runs, int groups, float count,
                              float momentum, float epsilon)
{
    int c = (int)get_global_id(0);
    partial += partial_at;
    float shift = PART_OF(0, 0)[1], sum = 0.0f, squares = 0.0f;
    for (int g = 0; g < groups; g++)
        for (int r = 0; r < runs; r++) {
            __global const float *part = PART_OF(g, r);
            sum += part[0] * (part[1] - shift);
        }
    float m = shift + sum / count;
    for (int g = 0; g < groups; g++)
        for (int r = 0; r < runs; r++) {
            __global const float *part = PART_OF(g, r);
            squares += part[2] + part[0] * (part[1] - m) * (part[1] - m);
        }
    float variance = squares / count, unbiased = count > 1.0f ? squares / (count - 1.0f) : variance;
    mean[mean_at + c] = m;
    deviation[deviation_at + c] = rsqrt(variance + epsilon);
    running_mean[running_mean_at + c] += momentum * (m - running_mean[running_mean_at + c]);
    running_variance[running_variance_at + c] += momentum * (unbiased - running_variance[running_variance_at + c]);
}

/* The same pair from the running statistics. */
__kernel void norm_frozen(__global const float *restrict running_mean, ulong running_mean_at, __global const float *restrict running_variance,
                          ulong running_variance_at, __global float *restrict mean, ulong mean_at, __global float *restrict deviation, ulong deviation_at,
                          float epsilon)
{
    int c = (int)get_global_id(0);
    mean[mean_at + c] = running_mean[running_mean_at + c];
    deviation[deviation_at + c] = rsqrt(running_variance[running_variance_at + c] + epsilon);
}

/* y may stand in x's memory. Work-items: (runs of vectors, channels, images). */
__kernel void norm_apply(__global const float *x, ulong x_at, __global float *y, ulong y_at, __global const float *restrict mean, ulong mean_at,
                         __global const float *restrict deviation, ulong deviation_at, __global const float *restrict gamma, ulong gamma_at,
                         __global const float *restrict beta, ulong beta_at, long x_stride, long y_stride, int n, int relu)
{
    int c = (int)get_global_id(1);
    long image = (long)get_global_id(2);
    float m = mean[mean_at + c], scale = deviation[deviation_at + c] * gamma[gamma_at + c], b = beta[beta_at + c];
    x += x_at + image * x_stride + (long)c * n;
    y += y_at + image * y_stride + (long)c * n;
    EACH(tile, (n + XV - 1) / XV)
    {
        int at = (int)tile * XV;
        store_within(normalised(load_within(x, at, n), m, scale, b, relu), y, at, n);
    }
}

/* The same in squares; n pixels of the pooled plane. */
__kernel void norm_pool(__global const float *x, ulong x_at, __global float *y, ulong y_at, __global float *restrict pooled, ulong pooled_at,
                        __global const float *restrict mean, ulong mean_at, __global const float *restrict deviation, ulong deviation_at,
                        __global const float *restrict gamma, ulong gamma_at, __global const float *restrict beta, ulong beta_at, long x_stride,
                        long y_stride, long pooled_stride, int n, int width, int relu)
{
    int c = (int)get_global_id(1);
    long image = (long)get_global_id(2);
    float m = mean[mean_at + c], scale = deviation[deviation_at + c] * gamma[gamma_at + c], b = beta[beta_at + c];
    x += x_at + image * x_stride + (long)c * 4 * n;
    y += y_at + image * y_stride + (long)c * 4 * n;
    pooled += pooled_at + image * pooled_stride + (long)c * n;
    EACH(tile, (n + XV - 1) / XV)
    {
        int at = (int)tile * XV;
        floatx q[4], value;
        load_squares(x, at, n, width, 2 * width, q);
        FOR(t, 4) q[t] = normalised(q[t], m, scale, b, relu);
        first_maximum(q, &value);
        store_squares(q, y, at, n, width, 2 * width);
        store_within(value, pooled, at, n);
    }
}

/* What arrives at the normalised values: dy, without what the ReLU cut. */
INLINE floatx arriving(floatx x, floatx dy, float m, float scale, float b, int relu)
{
    return relu ? select((floatx)0.0f, dy, isgreater(MAD(x - m, (floatx)scale, (floatx)b), (floatx)0.0f)) : dy;
}

/* The same of squares, where the first maximum of each also gets what comes back from pooling. d: dy, then the result. */
INLINE void arriving_squares(const floatx *x, floatx pooled, float m, float scale, float b, int relu, floatx *d)
{
    floatx y[4], value;
    FOR(t, 4) y[t] = normalised(x[t], m, scale, b, relu);
    intx best = first_maximum(y, &value);
    FOR(t, 4) d[t] = arriving(x[t], d[t] + select((floatx)0.0f, pooled, best == t), m, scale, b, relu);
}

/* Sums of a part: what arrives, and its product with x - mean. */
__kernel void norm_gradient_parts(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at,
                                  __global const float *restrict mean, ulong mean_at, __global const float *restrict deviation, ulong deviation_at,
                                  __global const float *restrict gamma, ulong gamma_at, __global const float *restrict beta, ulong beta_at,
                                  __global float *restrict partial, ulong partial_at, long x_stride, long dy_stride, int channels, int n, int runs, int images,
                                  int group, int relu)
{
    GROUP_MEMORY;
    int run = (int)GROUP_ID, c = (int)get_global_id(1), g = (int)get_global_id(2);
    int first = (int)PART_FIRST((n + XV - 1) / XV, runs, run) * XV, last = min(n, (int)PART_LAST((n + XV - 1) / XV, runs, run) * XV);
    int end = min(images, (g + 1) * group);
    float m = mean[mean_at + c], scale = deviation[deviation_at + c] * gamma[gamma_at + c], b = beta[beta_at + c];
    x += x_at + (long)c * n;
    dy += dy_at + (long)c * n;
    floatx sum = (floatx)0.0f, product = (floatx)0.0f;
    for (int image = g * group; image < end; image++)
        for (int at = first + GROUP_ITEM * XV; at < last; at += GROUP_ITEMS * XV) {
            floatx v = load_within(x + image * x_stride, at, n), d = arriving(v, load_within(dy + image * dy_stride, at, n), m, scale, b, relu);
            sum += d;
            product = MAD(d, v - m, product);
        }
    float sums[2] = { TOTAL_OF_GROUP(SUM_LANES(sum)), TOTAL_OF_GROUP(SUM_LANES(product)) };
    if (GROUP_ITEM != 0) return;
    partial += partial_at + 2 * PART_AT(g, c, channels, run, runs);
    partial[0] = sums[0];
    partial[1] = sums[1];
}

/* dy of a square's pixels, which may be absent: then only pooling sends something. */
#define LOAD_DY(dy, at) \
    if (has_dy) load_squares(dy, at, n, width, 2 * width, d); \
    else FOR(t, 4) d[t] = (floatx)0.0f;

__kernel void norm_pool_gradient_parts(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at,
                                       __global const float *restrict pooled, ulong pooled_at, __global const float *restrict mean, ulong mean_at,
                                       __global const float *restrict deviation, ulong deviation_at, __global const float *restrict gamma, ulong gamma_at,
                                       __global const float *restrict beta, ulong beta_at, __global float *restrict partial, ulong partial_at,
                                       long x_stride, long dy_stride, long pooled_stride, int channels, int n, int width, int runs, int images, int group,
                                       int relu, int has_dy)
{
    GROUP_MEMORY;
    int run = (int)GROUP_ID, c = (int)get_global_id(1), g = (int)get_global_id(2);
    int first = (int)PART_FIRST((n + XV - 1) / XV, runs, run) * XV, last = min(n, (int)PART_LAST((n + XV - 1) / XV, runs, run) * XV);
    int end = min(images, (g + 1) * group);
    float m = mean[mean_at + c], scale = deviation[deviation_at + c] * gamma[gamma_at + c], b = beta[beta_at + c];
    x += x_at + (long)c * 4 * n;
    dy += dy_at + (long)c * 4 * n;
    pooled += pooled_at + (long)c * n;
    floatx sum = (floatx)0.0f, product = (floatx)0.0f;
    for (int image = g * group; image < end; image++)
        for (int at = first + GROUP_ITEM * XV; at < last; at += GROUP_ITEMS * XV) {
            floatx v[4], d[4];
            load_squares(x + image * x_stride, at, n, width, 2 * width, v);
            LOAD_DY(dy + image * dy_stride, at)
            arriving_squares(v, load_within(pooled + image * pooled_stride, at, n), m, scale, b, relu, d);
            FOR(t, 4)
            {
                sum += d[t];
                product = MAD(d[t], v[t] - m, product);
            }
        }
    float sums[2] = { TOTAL_OF_GROUP(SUM_LANES(sum)), TOTAL_OF_GROUP(SUM_LANES(product)) };
    if (GROUP_ITEM != 0) return;
    partial += partial_at + 2 * PART_AT(g, c, channels, run, runs);
    partial[0] = sums[0];
    partial[1] = sums[1];
}

/* total[c] = (sum of dy, sum of dy * normalised x), added to the gradients of beta and gamma where those are wanted. */
__kernel void norm_gradient_total(__global const float *restrict partial, ulong partial_at, __global const float *restrict deviation, ulong deviation_at,
                                  __global float *restrict total, ulong total_at, __global float *restrict gamma, ulong gamma_at, __global float *restrict beta,
                                  ulong beta_at, int runs, int groups, int has_gamma, int has_beta)
{
    int c = (int)get_global_id(0), channels = (int)get_global_size(0);
    float sum = 0.0f, product = 0.0f;
    for (int g = 0; g < groups; g++)
        for (int r = 0; r < runs; r++) {
            __global const float *part = partial + partial_at + 2 * PART_AT(g, c, channels, r, runs);
            sum += part[0];
            product += part[1];
        }
    product *= deviation[deviation_at + c];
    total[total_at + 2 * c] = sum;
    total[total_at + 2 * c + 1] = product;
    if (has_gamma) gamma[gamma_at + c] += product;
    if (has_beta) beta[beta_at + c] += sum;
}

/* dx may stand in dy's memory. Frozen statistics don't depend on x: only the factor is left. */
__kernel void norm_backward(__global const float *restrict x, ulong x_at, __global const float *dy, ulong dy_at, __global float *dx, ulong dx_at,
                            __global const float *restrict mean, ulong mean_at, __global const float *restrict deviation, ulong deviation_at,
                            __global const float *restrict gamma, ulong gamma_at, __global const float *restrict beta, ulong beta_at,
                            __global const float *restrict total, ulong total_at, long x_stride, long dy_stride, long dx_stride, int n, float count, int relu,
                            int frozen)
{
    int c = (int)get_global_id(1);
    long image = (long)get_global_id(2);
    float m = mean[mean_at + c], d = deviation[deviation_at + c], scale = d * gamma[gamma_at + c], b = beta[beta_at + c];
    float mean_dy = frozen ? 0.0f : total[total_at + 2 * c] / count, mean_product = frozen ? 0.0f : d * total[total_at + 2 * c + 1] / count;
    x += x_at + image * x_stride + (long)c * n;
    dy += dy_at + image * dy_stride + (long)c * n;
    dx += dx_at + image * dx_stride + (long)c * n;
    EACH(tile, (n + XV - 1) / XV)
    {
        int at = (int)tile * XV;
        floatx v = load_within(x, at, n), g = arriving(v, load_within(dy, at, n), m, scale, b, relu);
        store_within(scale * (g - mean_dy - (v - m) * mean_product), dx, at, n);
    }
}

__kernel void norm_pool_backward(__global const float *restrict x, ulong x_at, __global const float *dy, ulong dy_at, __global const float *restrict pooled,
                                 ulong pooled_at, __global float *dx, ulong dx_at, __global const float *restrict mean, ulong mean_at,
                                 __global const float *restrict deviation, ulong deviation_at, __global const float *restrict gamma, ulong gamma_at,
                                 __global const float *restrict beta, ulong beta_at, __global const float *restrict total, ulong total_at, long x_stride,
                                 long dy_stride, long pooled_stride, long dx_stride, int n, int width, float count, int relu, int frozen, int has_dy)
{
    int c = (int)get_global_id(1);
    long image = (long)get_global_id(2);
    float m = mean[mean_at + c], deviated = deviation[deviation_at + c], scale = deviated * gamma[gamma_at + c], b = beta[beta_at + c];
    float mean_dy = frozen ? 0.0f : total[total_at + 2 * c] / count, mean_product = frozen ? 0.0f : deviated * total[total_at + 2 * c + 1] / count;
    x += x_at + image * x_stride + (long)c * 4 * n;
    dy += dy_at + image * dy_stride + (long)c * 4 * n;
    pooled += pooled_at + image * pooled_stride + (long)c * n;
    dx += dx_at + image * dx_stride + (long)c * 4 * n;
    EACH(tile, (n + XV - 1) / XV)
    {
        int at = (int)tile * XV;
        floatx v[4], d[4];
        load_squares(x, at, n, width, 2 * width, v);
        LOAD_DY(dy, at)
        arriving_squares(v, load_within(pooled, at, n), m, scale, b, relu, d);
        FOR(t, 4) d[t] = scale * (d[t] - mean_dy - (v[t] - m) * mean_product);
        store_squares(d, dx, at, n, width, 2 * width);
    }
}
