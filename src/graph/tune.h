/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_GRAPH_TUNE_H
#define SORA_GRAPH_TUNE_H

#include "cl/buffer.h"
#include "cl/tuning.h"

#define SORA_TUNE_VARIANTS 32

/* An op whose variants can be measured, each by itself on random operands. */
typedef struct sora_tunable {
    const char *op; /* of its keys */
    void (*describe)(const int64_t *shape, char text[96]);
    /* All that the device can do, the default first; returns how many. */
    int (*variants)(const sora_device_limits *limits, const int64_t *shape, sora_tuning_variant out[SORA_TUNE_VARIANTS]);
    void (*name)(const sora_tuning_variant *variant, char text[48]);
    double (*flops)(const int64_t *shape);
    /* Operands on the device; release accepts what failed half way. */
    sora_status (*prepare)(sora_context *context, const int64_t *shape, void **self, sora_error *error);
    sora_status (*launch)(void *self, const sora_tuning_variant *variant, sora_error *error);
    /* Whether the last launch's result is right: some elements against sums in double precision. */
    sora_status (*check)(void *self, bool *right, sora_error *error);
    void (*release)(void *self);
    bool apart; /* the first launch after another variant's takes long: each variant's rounds follow each other */
} sora_tunable;

extern const sora_tunable sora_tunable_clblast, sora_tunable_gemm, sora_tunable_conv, sora_tunable_conv_gradient,
    sora_tunable_attention;

/* On the device and, for the check, on the host. */
typedef struct sora_tune_operand {
    sora_buffer buffer;
    sora_view view; /* all of it, dense */
    float *host;    /* NULL: scratch */
} sora_tune_operand;

/* Numbers in −1 .. 1; scratch of 0 elements is none. Both leave what they took to sora_tune_release, also where they fail. */
sora_status sora_tune_draw(sora_context *context, int stream, sora_shape shape, sora_tune_operand *out, sora_error *error);
sora_status sora_tune_scratch(sora_context *context, uint64_t elements, sora_tune_operand *out, sora_error *error);
void sora_tune_release(sora_tune_operand *operands, int count);

#endif
