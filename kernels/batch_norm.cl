/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "sum.h"

/* Statistics are sums of x - shift and its square, with the channel's first element for the shift: one pass, without the cancellation of
 * E[x^2] - E[x]^2. Parts: (channel, image, run of pixels). */
__kernel void norm_parts(__global const float *restrict x, ulong x_at, __global float *restrict partial, ulong partial_at, long stride, int n, int runs)
{
    int run = (int)get_global_id(0), c = (int)get_global_id(1), channels = (int)get_global_size(1);
    long image = (long)get_global_id(2), first = PART_FIRST(n, runs, run), last = PART_LAST(n, runs, run);
    float shift = x[x_at + (long)c * n], sum, squares;
    x += x_at + image * stride + (long)c * n;
    SUM_PAIR(sum, squares, first, last, i, v = x[i] - shift, v, v * v);
    partial += partial_at + 2 * ((image * channels + c) * runs + run);
    partial[0] = sum;
    partial[1] = squares;
}

__kernel void norm_statistics(__global const float *restrict x, ulong x_at, __global const float *restrict partial, ulong partial_at,
                              __global float *restrict mean, ulong mean_at, __global float *restrict deviation, ulong deviation_at,
                              __global float *restrict running_mean, ulong running_mean_at, __global float *restrict running_variance,
                              ulong running_variance_at, int n, int runs, int images, float momentum, float epsilon)
{
    int c = (int)get_global_id(0), channels = (int)get_global_size(0);
    float count = (float)images * (float)n, sum = 0.0f, squares = 0.0f;
    for (int image = 0; image < images; image++) {
        __global const float *part = partial + partial_at + 2L * ((long)image * channels + c) * runs;
        for (int r = 0; r < runs; r++) {
            sum += part[2 * r];
            squares += part[2 * r + 1];
        }
    }
    float offset = sum / count, m = x[x_at + (long)c * n] + offset;
    float variance = max(squares / count - offset * offset, 0.0f);
    mean[mean_at + c] = m;
    deviation[deviation_at + c] = rsqrt(variance + epsilon);
    float unbiased = count > 1.0f ? variance * (count / (count - 1.0f)) : variance;
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

/* Work-items: (runs of pixels, channels, images). */
__kernel void norm_apply(__global const float *x, ulong x_at, __global float *y, ulong y_at, __global const float *restrict mean, ulong mean_at,
                         __global const float *restrict deviation, ulong deviation_at, __global const float *restrict gamma, ulong gamma_at,
                         __global const float *restrict beta, ulong beta_at, long x_stride, long y_stride, int n, int relu)
{
    int c = (int)get_global_id(1);
    long image = (long)get_global_id(2);
    float m = mean[mean_at + c], scale = deviation[deviation_at + c] * gamma[gamma_at + c], b = beta[beta_at + c];
    x += x_at + image * x_stride + (long)c * n;
    y += y_at + image * y_stride + (long)c * n;
    EACH(i, n)
    {
        float v = (x[i] - m) * scale + b;
        y[i] = relu && v < 0.0f ? 0.0f : v;
    }
}

/* What arrives at the normalised values: dy, without what the ReLU cut. */
inline float arriving(float x, float dy, float m, float scale, float b, int relu)
{
    return relu && !((x - m) * scale + b > 0.0f) ? 0.0f : dy;
}

__kernel void norm_gradient_parts(__global const float *restrict x, ulong x_at, __global const float *restrict dy, ulong dy_at,
                                  __global const float *restrict mean, ulong mean_at, __global const float *restrict deviation, ulong deviation_at,
                                  __global const float *restrict gamma, ulong gamma_at, __global const float *restrict beta, ulong beta_at,
                                  __global float *restrict partial, ulong partial_at, long x_stride, long dy_stride, int n, int runs, int relu)
{
    int run = (int)get_global_id(0), c = (int)get_global_id(1), channels = (int)get_global_size(1);
    long image = (long)get_global_id(2), first = PART_FIRST(n, runs, run), last = PART_LAST(n, runs, run);
    float m = mean[mean_at + c], scale = deviation[deviation_at + c] * gamma[gamma_at + c], b = beta[beta_at + c], sum, product;
    x += x_at + image * x_stride + (long)c * n;
    dy += dy_at + image * dy_stride + (long)c * n;
    SUM_PAIR(sum, product, first, last, i, d = arriving(x[i], dy[i], m, scale, b, relu), d, d * (x[i] - m));
    partial += partial_at + 2 * ((image * channels + c) * runs + run);
    partial[0] = sum;
    partial[1] = product;
}

/* total[c] = (sum of dy, sum of dy * normalised x), added to the gradients of beta and gamma where those are wanted. */
__kernel void norm_gradient_total(__global const float *restrict partial, ulong partial_at, __global const float *restrict deviation, ulong deviation_at,
                                  __global float *restrict total, ulong total_at, __global float *restrict gamma, ulong gamma_at, __global float *restrict beta,
                                  ulong beta_at, int runs, int images, int has_gamma, int has_beta)
{
    int c = (int)get_global_id(0), channels = (int)get_global_size(0);
    float sum = 0.0f, product = 0.0f;
    for (int image = 0; image < images; image++) {
        __global const float *part = partial + partial_at + 2L * ((long)image * channels + c) * runs;
        for (int r = 0; r < runs; r++) {
            sum += part[2 * r];
            product += part[2 * r + 1];
        }
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
    EACH(i, n) dx[i] = scale * (arriving(x[i], dy[i], m, scale, b, relu) - mean_dy - (x[i] - m) * mean_product);
}
