/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"
#include "cl/context.h"
#include "graph/tune.h"
#include "op/update.h"
#include "op/winograd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECKED 24 /* each sums all pixels of all images */

enum { X, DY, GRADIENT, SCRATCH, OPERANDS };

typedef struct gradient {
    sora_context *context;
    sora_conv_gradient_desc desc;
    bool winograd; /* the last launch */
    sora_tune_operand operands[OPERANDS];
} gradient;

/* As the key in op/conv2d.c has it, which begins as that of a convolution. */
enum { KERNEL, IMAGES, INPUTS, OUTPUTS, HEIGHT, WIDTH };

static void describe(const int64_t *s, char text[96])
{
    sora_tunable_conv.describe(s, text);
    size_t length = strlen(text);
    snprintf(text + length, 96 - length, ", weights");
}

static int variants(const sora_device_limits *limits, const int64_t *s, sora_tuning_variant out[SORA_TUNE_VARIANTS])
{
    sora_conv_variant list[SORA_CONV_VARIANTS];
    sora_shape x = SORA_SHAPE(s[IMAGES], s[INPUTS], s[HEIGHT], s[WIDTH]);
    int count = sora_conv_gradient_variants(limits, (int)s[KERNEL], &x, s[OUTPUTS], list);
    for (int i = 0; i < count; i++) out[i] = sora_conv_tuning_variant(&list[i]);
    return count;
}

static void name(const sora_tuning_variant *variant, char text[48])
{
    if (variant->number[2] == SORA_CONV_WINOGRAD)
        snprintf(text, 48, "winograd 4 x 4");
    else
        snprintf(text, 48, "%d channels by %s", variant->number[0], variant->number[2] == SORA_CONV_ROWS ? "rows" : "planes");
}

static double flops(const int64_t *s)
{
    return sora_tunable_conv.flops(s);
}

static void release(void *self)
{
    gradient *g = self;
    if (!g) return;
    sora_tune_release(g->operands, OPERANDS);
    free(g);
}

static sora_status prepare(sora_context *context, const int64_t *s, void **self, sora_error *error)
{
    sora_status status = SORA_OK;
    gradient *g = NULL;
    SORA_TRY(sora_allocate(1, sizeof *g, "tuning", &g, error));
    *self = g;
    g->context = context;
    sora_tune_operand *o = g->operands;
    const sora_shape shapes[] = { SORA_SHAPE(s[IMAGES], s[INPUTS], s[HEIGHT], s[WIDTH]),
                                  SORA_SHAPE(s[IMAGES], s[OUTPUTS], s[HEIGHT], s[WIDTH]),
                                  SORA_SHAPE(s[OUTPUTS], s[INPUTS], s[KERNEL], s[KERNEL]) };
    for (int i = X; i <= GRADIENT; i++) SORA_TRY(sora_tune_draw(context, i, shapes[i], &o[i], error));
    uint64_t room = sora_conv_gradient_workspace(&sora_context_device(context)->limits, (int)s[KERNEL], &shapes[X], &shapes[DY]);
    SORA_TRY(sora_tune_scratch(context, room, &o[SCRATCH], error));
    g->desc = (sora_conv_gradient_desc) { .kernel = (int)s[KERNEL],
                                          .x = &o[X].view,
                                          .dy = &o[DY].view,
                                          .gradient = &o[GRADIENT].view,
                                          .scale = 1.0f,
                                          .workspace = o[SCRATCH].view,
                                          .label = "tune" };
cleanup:
    return status;
}

static sora_status launch(void *self, const sora_tuning_variant *variant, sora_error *error)
{
    gradient *g = self;
    sora_conv_variant v = { variant->number[0], variant->number[1], (sora_conv_method)variant->number[2] };
    sora_conv_gradient_desc desc = g->desc;
    desc.variant = &v;
    g->winograd = v.method == SORA_CONV_WINOGRAD;
    sora_status status = sora_fill(g->context, g->desc.gradient, 0.0f, error);
    return status == SORA_OK ? sora_conv_gradient(g->context, &desc, error) : status;
}

static double value_of(const gradient *g, int64_t o, int64_t c, int64_t tap)
{
    const sora_shape *x = &g->desc.x->shape;
    int64_t kernel = g->desc.kernel, down = tap / kernel - kernel / 2, along = tap % kernel - kernel / 2;
    int64_t height = x->dim[2], width = x->dim[3];
    double sum = 0.0;
    for (int64_t image = 0; image < x->dim[0]; image++) {
        const float *in = g->operands[X].host + (image * x->dim[1] + c) * height * width;
        const float *out = g->operands[DY].host + (image * g->desc.dy->shape.dim[1] + o) * height * width;
        for (int64_t row = SORA_MAX(0, -down); row < SORA_MIN(height, height - down); row++)
            for (int64_t column = SORA_MAX(0, -along); column < SORA_MIN(width, width - along); column++)
                sum += (double)out[row * width + column] * (double)in[(row + down) * width + column + along];
    }
    return sum;
}

static sora_status check(void *self, bool *right, sora_error *error)
{
    gradient *g = self;
    const sora_shape *x = &g->desc.x->shape, *w = &g->desc.gradient->shape;
    sora_random_stream random = { .seed = 2, .purpose = SORA_PURPOSE_TEST };
    sora_status status = sora_view_read(g->context, g->desc.gradient, g->operands[GRADIENT].host, error);
    int64_t taps = w->dim[2] * w->dim[3], elements = sora_shape_elements(w);
    double pixels = (double)(x->dim[0] * x->dim[2] * x->dim[3]), bound = (pixels + 8) * ldexp(1.0, -23);
    double tiles = (double)(x->dim[0] * ((x->dim[2] + 3) / 4) * ((x->dim[3] + 3) / 4));
    if (g->winograd) bound = sora_winograd_error(tiles);
    *right = true;
    for (int e = 0; status == SORA_OK && e < CHECKED; e++) {
        /* The last one first, which is where blocks end. */
        int64_t at = e ? (int64_t)(sora_random_uniform(&random) * (double)elements) : elements - 1;
        double expected = value_of(g, at / taps / w->dim[1], at / taps % w->dim[1], at % taps);
        *right &= fabs((double)g->operands[GRADIENT].host[at] - expected) <= bound;
    }
    return status;
}

const sora_tunable sora_tunable_conv_gradient = { "conv_gradient", describe, variants, name,    flops,
                                                  prepare,         launch,   check,    release, false };
