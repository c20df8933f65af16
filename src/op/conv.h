/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_CONV_H
#define SORA_OP_CONV_H

#include "cl/tuning.h"
#include "op/op.h"

/* Convolutions as launches, for the ops that are made of them (in conv2d.c). Images [n, channels, h, w] may have a larger first
 * stride; weights are dense. Sums run in an order fixed by sizes and device. */

/* Shapes of x, weight and bias as a convolution takes them (inputs 0 to 2). */
sora_status sora_conv_check(const sora_op_shape_rule *rule, int kernel, sora_error *error);

/* How a convolution is done. Directly, a work-item keeps sums in registers: of `block` output channels by `tiles` registers of
 * pixels, which follow each other in the plane, or stand below each other in rows. */
typedef enum sora_conv_method { SORA_CONV_PLANE, SORA_CONV_WINOGRAD, SORA_CONV_ROWS } sora_conv_method;

typedef struct sora_conv_variant {
    int block, tiles; /* 0 by transformed tiles */
    sora_conv_method method;
} sora_conv_variant;
#define SORA_CONV_VARIANTS 16

typedef struct sora_conv_desc {
    int kernel; /* 1 or 3 */
    const sora_view *x;
    sora_view weight;      /* [o, c, k, k] or, of kernel 1, [o, c]; dense */
    bool back;             /* from o channels to the first of c: the weight read across, taps in reverse */
    const sora_view *bias; /* memory NULL: none */
    const sora_view *y;
    bool accumulate;             /* y += */
    const sora_view *statistics; /* NULL or memory NULL: none; where sora_conv_has_statistics */
    sora_view workspace;
    const sora_conv_variant *variant; /* NULL: the one that was measured to be best, or the default */
    const char *label;
} sora_conv_desc;

/* Elements of a weight between the channels of y, and between those of x. */
typedef struct sora_conv_strides {
    int64_t out, in;
} sora_conv_strides;

static inline sora_conv_strides sora_conv_strides_of(const sora_conv_desc *desc)
{
    int64_t taps = desc->kernel * desc->kernel, row = desc->weight.shape.dim[1] * taps;
    return desc->back ? (sora_conv_strides) { taps, row } : (sora_conv_strides) { row, taps };
}

/* The ways in which the device can do a convolution of x to that many channels, the default first; returns how many. */
int sora_conv_variants(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs,
                       sora_conv_variant out[SORA_CONV_VARIANTS]);

/* A variant as its numbers. */
sora_tuning_variant sora_conv_tuning_variant(const sora_conv_variant *variant);

/* Scratch in elements for an input of that shape and at most that many channels, in any variant. */
uint64_t sora_conv_workspace(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs);
sora_status sora_conv(sora_context *context, const sora_conv_desc *desc, sora_error *error);

/* Whether a convolution can say what a batch norm behind it needs to know of y: for each of so many parts of an image [n,
 * outputs, parts, 3]: pixels, their mean, the sum of squares of what they differ from it. */
bool sora_conv_has_statistics(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs);
int64_t sora_conv_statistics_parts(const sora_shape *x);

/* gradient [o, c, k, k] += scale · row[o] · column[c] · Σ dy[o] x[c]. */
typedef struct sora_conv_gradient_desc {
    int kernel;
    const sora_view *x, *dy, *gradient;
    float scale;
    const sora_view *row, *column; /* NULL or memory NULL: ones */
    sora_view workspace;
    const sora_conv_variant *variant; /* as a convolution's */
    const char *label;
} sora_conv_gradient_desc;

/* The ways in which the device can do that, the default first; `block` channels of dy are taken at a time, tiles is 1. */
int sora_conv_gradient_variants(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs,
                                sora_conv_variant out[SORA_CONV_VARIANTS]);

/* Scratch in elements, in any variant. */
uint64_t sora_conv_gradient_workspace(const sora_device_limits *limits, int kernel, const sora_shape *x, const sora_shape *dy);
sora_status sora_conv_gradient(sora_context *context, const sora_conv_gradient_desc *desc, sora_error *error);

/* gradient [o] += Σ dy[o]; workspace of sora_conv_bias_workspace elements. */
uint64_t sora_conv_bias_workspace(const sora_shape *dy);
sora_status sora_conv_bias_gradient(sora_context *context, const sora_view *dy, const sora_view *gradient,
                                    const sora_view *workspace, const char *label, sora_error *error);

#endif
