/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_WINOGRAD_H
#define SORA_OP_WINOGRAD_H

#include "op/conv.h"

#include <math.h>

/* Convolutions of 3 × 3 with four times fewer multiplications, F(4 × 4, 3 × 3): tiles of images and weights are transformed, the
 * products of 36 pairs of matrices are transformed back. x, y and weights as in conv.h; kernel must be 3. */

/* Whether it can be tried: there are channels enough, and pixels of an image not too many to be counted in 32 bits. */
bool sora_winograd_takes(int kernel, const sora_shape *x, int64_t outputs);

/* Whether it is the faster way, where that was measured: for y, the way back to x, and the gradient of the weights. */
bool sora_winograd_pays(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs);

/* Scratch in elements; the first for y and for the way back to x, where x and outputs are dy and x's channels,
 * or the first of them. */
uint64_t sora_winograd_workspace(const sora_device_limits *limits, const sora_shape *x, int64_t outputs);
uint64_t sora_winograd_gradient_workspace(const sora_device_limits *limits, const sora_shape *x, int64_t outputs);

/* Elements of transformed weights that may be kept while they are frozen; 0 where they would take more room than that is worth.
 * The way back has inputs and outputs the other way round. */
uint64_t sora_winograd_kept(const sora_device_limits *limits, int64_t inputs, int64_t outputs);
/* Enqueue the transform of a dense [o, c, 3, 3] to what convolutions with weight.transformed take, forward or back. */
sora_status sora_winograd_keep(sora_context *context, const sora_view *weight, bool back, const sora_view *out, const char *label,
                               sora_error *error);
/* Has the program for that built (cl/program.h). */
sora_status sora_winograd_expect(sora_context *context, sora_error *error);

sora_status sora_winograd(sora_context *context, const sora_conv_desc *desc, sora_error *error);
sora_status sora_winograd_gradient(sora_context *context, const sora_conv_gradient_desc *desc, sora_error *error);

/* What a sum over that many input channels, or, for a weight's gradient, tiles, of products of numbers in −1 .. 1 may be off by.
 * By the lengths of the rows of A', B' and G an error of one product arrives at most 94 / 3 times as large in a pixel, 97 / 3
 * times in a weight's gradient. Each of n products was rounded some 16 times on its way, their running sum as often as it grew,
 * each time by 0.58 · 2⁻²⁴ in the root mean square; eight times that is as good as never seen. */
static inline double sora_winograd_error(double n)
{
    return 8 * 0.58 * 32 * sqrt(16 * n + n * n / 6) * ldexp(1, -24);
}

#endif
