/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_BENCH_H
#define SORACL_BENCH_H

#include "soracl/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the device can do, and what a whole training step takes of it. Times are by the host's clock, each from an idle device to
 * an idle device. One thread at a time. */

typedef struct sora_rates {
    double flops;  /* a second: fp32 multiply-adds (two each) from registers */
    double bytes;  /* a second: copied, read and written counted */
    double launch; /* seconds of an empty kernel among many */
} sora_rates;

/* Rates are the best of seven rounds, a launch's seconds the median; about half a second in all. Takes 128 MiB of the device while
 * it runs. */
SORA_API sora_status sora_bench_rates(sora_context *context, sora_rates *out, sora_error *error);

/* A step is forward, backward and update on one batch of random numbers; weights are random too, so nothing is read. Zeros are
 * the defaults. */
typedef struct sora_bench_options {
    /* "t5-small", "unet-fc", "unet", or a run's folder: its network with the adapters of its best checkpoint. Then method, target, rank,
     * size and width are its own. */
    const char *model;
    const char *method; /* "full", "lora", "sora" (NULL) */
    const char *target; /* layers that get adapters, a regular expression; NULL: all of a T5's, the bottleneck of a U-Net */
    const char *weights; /* frozen ones of linear layers and embeddings: "fp32" (NULL), "fp16" */
    bool recompute;      /* cheap activations are made again on the way back */
    int batch;          /* 8 */
    int rank;           /* 16; unet-fc: 40 */
    int source, target_length; /* t5-small: 256, 32 tokens */
    int size, width;           /* U-Nets: 256 (unet: 128); unet: channels of the first level, 64 */
    int steps;                 /* that are counted; 5. The first two, which compile and touch everything, are not */
} sora_bench_options;

typedef struct sora_bench_step {
    double median, min, max; /* seconds of a step */
    double plan_seconds;     /* of the host: graph, way back and plan */
    double first_seconds;    /* of the first step */
    double flops;            /* of one step (sora_work_account) */
    uint64_t launches;       /* of one step */
    uint64_t device_bytes_predicted, device_bytes_peak, process_bytes_peak;
    uint64_t arena_bytes, live_bytes; /* planned, and what no plan can be below */
    uint64_t moved_bytes, least_moved_bytes; /* sora_graph_statistics */
    uint64_t trainable;
    float loss; /* of the last step */
} sora_bench_step;

/* The context must be fresh: its peak of memory and its profile, where it has one, are the steps'. */
SORA_API sora_status sora_bench_run_step(sora_context *context, const sora_bench_options *options, sora_bench_step *out,
                                         sora_error *error);

/* Generation by a T5 with random weights from sources of random tokens, each full; every output has all its new tokens (no end is
 * taken before). Zeros are the defaults. */
typedef struct sora_bench_generate_options {
    const char *model; /* "t5-small" */
    int batch;         /* sources at once, 8 */
    int source;        /* tokens of each, 256 */
    int new_tokens;    /* of each output, 32 */
    int beams;         /* 1: greedy */
    int runs;          /* that are counted, 5, behind one that compiles and touches everything */
} sora_bench_generate_options;

typedef struct sora_bench_generation {
    double median, min, max;  /* seconds for all sources, encoder included */
    double first_seconds;     /* of the run that is not counted */
    double tokens_per_second; /* batch · new tokens / median */
    double flops;             /* of one run (sora_work_account) */
    uint64_t launches;        /* of one run */
    uint64_t device_bytes_peak, process_bytes_peak;
} sora_bench_generation;

/* The context must be fresh, as above. */
SORA_API sora_status sora_bench_run_generate(sora_context *context, const sora_bench_generate_options *options,
                                             sora_bench_generation *out, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
