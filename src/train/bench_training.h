/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_BENCH_TRAINING_H
#define SORA_TRAIN_BENCH_TRAINING_H

#include "soracl/bench.h"
#include "soracl/optimizer.h"
#include "soracl/train.h"

/* A network in training on a batch that stays: what a benchmark of steps runs. */
typedef struct sora_bench_training {
    sora_context *context;
    sora_bench_options o; /* with defaults filled in */
    bool is_run;          /* o.model is the folder of one */
    sora_t5 *t5;
    sora_unet *unet;
    sora_params *params;
    sora_graph *graph;
    sora_tensor *loss;
    sora_optimizer *optimizer;
    uint32_t step;      /* the next one */
    uint64_t predicted; /* bytes of the device */
    double plan_seconds;
} sora_bench_training;

/* Ready for its first step. t5_shape: "t5-small" has this one; NULL: its own. The context must outlive it. */
sora_status sora_bench_training_open(sora_context *context, const sora_bench_options *options, const sora_t5_config *t5_shape,
                                     sora_bench_training *out, sora_error *error);
void sora_bench_training_close(sora_bench_training *training); /* accepts a zeroed one */

/* So many steps of forward, backward and update, each until the device has done it. */
sora_status sora_bench_training_run(sora_bench_training *training, int steps, sora_error *error);

#endif
