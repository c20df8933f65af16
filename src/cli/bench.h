/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_CLI_BENCH_H
#define SORACL_CLI_BENCH_H

#include "cli.h"
#include "soracl/bench.h"

/* What "bench step" and "tune" say of a step; a run has its own. */
typedef struct cli_step_words {
    const char *method, *batch, *rank, *layers, *source, *target, *size, *width, *weights, *steps;
    bool recompute;
    sora_run_options run; /* of the run whose step it is: cli_step_options reads it, and what it makes points there */
} cli_step_words;

#define CLI_STEP_OPTIONS(w)                                                                                                         \
    { "method", "Step", "NAME", "what is trained (full|lora|sora)", "sora", NULL, &(w).method },                                    \
        { "batch", "Step", "N", "images or texts in a batch", "8", NULL, &(w).batch },                                              \
        { "rank", "Step", "N", "of the adapters", "16; unet-fc: 40", NULL, &(w).rank },                                             \
        { "layers", "Step", "TEXT", "regular expression: which get adapters", "T5: all; U-Nets: bottleneck.*", NULL, &(w).layers }, \
        { "source", "Step", "N", "t5-small: tokens of a text", "256", NULL, &(w).source },                                          \
        { "target", "Step", "N", "t5-small: tokens of a summary", "32", NULL, &(w).target },                                        \
        { "weights", "Step", "TYPE", "frozen weights of linear layers and embeddings are kept as fp32|fp16", "fp32", NULL, &(w).weights }, \
        { "recompute", "Step", NULL, "make cheap activations again on the way back instead of keeping them", NULL, &(w).recompute, NULL }, \
        { "size", "Step", "N", "U-Nets: pixels of an image's side", "256; unet: 128", NULL, &(w).size },                            \
    {                                                                                                                               \
        "width", "Step", "N", "unet: channels of the first level", "64", NULL, &(w).width                                           \
    }

sora_status cli_step_options(cli_step_words *words, const char *model, sora_bench_options *options, sora_error *error);

#endif
