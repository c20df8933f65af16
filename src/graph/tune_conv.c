/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"
#include "cl/context.h"
#include "graph/tune.h"
#include "op/winograd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECKED 96

enum { X, WEIGHT, Y, SCRATCH, OPERANDS };

typedef struct convolution {
    sora_context *context;
    sora_conv_desc desc;
    bool winograd; /* the last launch */
    sora_tune_operand operands[OPERANDS];
} convolution;

/* As the key in op/conv2d.c has it. */
enum { KERNEL, IMAGES, INPUTS, OUTPUTS, HEIGHT, WIDTH, BACK };

static void describe(const int64_t *s, char text[96])
{
    snprintf(text, 96, "conv %lld x %lld, %lld x %lld x %lld, %lld to %lld%s", (long long)s[KERNEL], (long long)s[KERNEL],
             (long long)s[IMAGES], (long long)s[HEIGHT], (long long)s[WIDTH], (long long)s[INPUTS], (long long)s[OUTPUTS],
             s[BACK] ? ", way back" : "");
}

static int variants(const sora_device_limits *limits, const int64_t *s, sora_tuning_variant out[SORA_TUNE_VARIANTS])
{
    sora_conv_variant list[SORA_CONV_VARIANTS];
    sora_shape x = SORA_SHAPE(s[IMAGES], s[INPUTS], s[HEIGHT], s[WIDTH]);
    int count = sora_conv_variants(limits, (int)s[KERNEL], &x, s[OUTPUTS], list);
    for (int i = 0; i < count; i++) out[i] = sora_conv_tuning_variant(&list[i]);
    return count;
}

static void name(const sora_tuning_variant *variant, char text[48])
{
    if (variant->number[2] == SORA_CONV_WINOGRAD)
        snprintf(text, 48, "winograd 4 x 4");
    else
        snprintf(text, 48, "%d channels x %d %s", variant->number[0], variant->number[1],
                 variant->number[2] == SORA_CONV_ROWS ? "rows" : "tiles");
}

static double flops(const int64_t *s)
{
    return 2.0 * (double)(s[KERNEL] * s[KERNEL] * s[IMAGES]) * (double)(s[INPUTS] * s[OUTPUTS]) * (double)(s[HEIGHT] * s[WIDTH]);
}

static void release(void *self)
{
    convolution *c = self;
    if (!c) return;
    sora_tune_release(c->operands, OPERANDS);
    free(c);
}

/* On the way back the weight [inputs, outputs] is read across, as backward reads a forward layer's. */
static sora_status prepare(sora_context *context, const int64_t *s, void **self, sora_error *error)
{
    sora_status status = SORA_OK;
    convolution *c = NULL;
    SORA_TRY(sora_allocate(1, sizeof *c, "tuning", &c, error));
    *self = c;
    c->context = context;
    sora_tune_operand *o = c->operands;
    const sora_shape shapes[] = { SORA_SHAPE(s[IMAGES], s[INPUTS], s[HEIGHT], s[WIDTH]),
                                  SORA_SHAPE(s[s[BACK] ? INPUTS : OUTPUTS], s[s[BACK] ? OUTPUTS : INPUTS], s[KERNEL], s[KERNEL]),
                                  SORA_SHAPE(s[IMAGES], s[OUTPUTS], s[HEIGHT], s[WIDTH]) };
    for (int i = X; i <= Y; i++) SORA_TRY(sora_tune_draw(context, i, shapes[i], &o[i], error));
    SORA_TRY(sora_tune_scratch(context,
                               sora_conv_workspace(&sora_context_device(context)->limits, (int)s[KERNEL], &shapes[X], s[OUTPUTS]),
                               &o[SCRATCH], error));
    c->desc = (sora_conv_desc) { .kernel = (int)s[KERNEL],
                                 .x = &o[X].view,
                                 .weight = o[WEIGHT].view,
                                 .back = s[BACK],
                                 .y = &o[Y].view,
                                 .workspace = o[SCRATCH].view,
                                 .label = "tune" };
cleanup:
    return status;
}

static sora_status launch(void *self, const sora_tuning_variant *variant, sora_error *error)
{
    convolution *c = self;
    sora_conv_variant v = { variant->number[0], variant->number[1], (sora_conv_method)variant->number[2] };
    sora_conv_desc desc = c->desc;
    desc.variant = &v;
    c->winograd = v.method == SORA_CONV_WINOGRAD;
    return sora_conv(c->context, &desc, error);
}

static double value_of(const convolution *c, int64_t image, int64_t o, int64_t row, int64_t column)
{
    const sora_shape *x = &c->operands[X].view.shape;
    int64_t taps = c->desc.kernel * c->desc.kernel, half = c->desc.kernel / 2;
    sora_conv_strides strides = sora_conv_strides_of(&c->desc);
    double sum = 0.0;
    for (int64_t i = 0; i < x->dim[1]; i++)
        for (int64_t t = 0; t < taps; t++) {
            int64_t y = row + t / c->desc.kernel - half, z = column + t % c->desc.kernel - half;
            if (y < 0 || y >= x->dim[2] || z < 0 || z >= x->dim[3]) continue;
            double w = (double)c->operands[WEIGHT].host[o * strides.out + i * strides.in + (c->desc.back ? taps - 1 - t : t)];
            sum += w * (double)c->operands[X].host[((image * x->dim[1] + i) * x->dim[2] + y) * x->dim[3] + z];
        }
    return sum;
}

static sora_status check(void *self, bool *right, sora_error *error)
{
    convolution *c = self;
    const sora_shape *y = &c->operands[Y].view.shape;
    sora_random_stream random = { .seed = 2, .purpose = SORA_PURPOSE_TEST };
    sora_status status = sora_view_read(c->context, c->desc.y, c->operands[Y].host, error);
    double inputs = (double)c->operands[X].view.shape.dim[1],
           bound = (c->desc.kernel * c->desc.kernel * inputs + 8) * ldexp(1.0, -23);
    if (c->winograd) bound = sora_winograd_error(inputs);
    *right = true;
    for (int e = 0; status == SORA_OK && e < CHECKED; e++) {
        int64_t at[4];
        /* The last pixel first, which is where tiles end. */
        for (int d = 0; d < 4; d++) at[d] = e ? (int64_t)(sora_random_uniform(&random) * (double)y->dim[d]) : y->dim[d] - 1;
        double expected = value_of(c, at[0], at[1], at[2], at[3]);
        float got = c->operands[Y].host[((at[0] * y->dim[1] + at[1]) * y->dim[2] + at[2]) * y->dim[3] + at[3]];
        *right &= fabs((double)got - expected) <= bound;
    }
    return status;
}

const sora_tunable sora_tunable_conv = { "conv", describe, variants, name, flops, prepare, launch, check, release, false };
