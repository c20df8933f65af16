/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_TRAINER_H
#define SORA_TRAIN_TRAINER_H

#include "base/memory.h"
#include "soracl/layer.h"
#include "soracl/train.h"

#include <jansson.h>

/* What a task hands to the trainer after an evaluation. */
typedef struct sora_evaluation {
    double score;                /* higher is better: `best` and --patience look at it */
    double loss;                 /* reduce-on-plateau looks at it */
    json_t *fields;              /* by their full names; the receiver's */
    const sora_quality *quality; /* lives with the task */
    char warning[256];           /* "": none */
} sora_evaluation;

/* One batch that was run. */
typedef struct sora_micro_step {
    sora_graph *graph; /* with its loss: a task may have several, which share memory */
    sora_tensor *loss;
    int items;
    double waited_seconds; /* for data */
} sora_micro_step;

/* A network and its data, as the trainer sees them. All calls come from one thread; `self` is given to each. Adapters are active
 * and the wanted parameters trainable before the trainer starts, or `load` makes them so. */
typedef struct sora_task {
    void *self;
    const char *name; /* "unet" */
    sora_context *context;
    sora_params *params;
    sora_layers *layers;
    uint64_t batches_per_epoch;
    uint64_t data_hash; /* of what it trains and evaluates on; a run goes on with the same alone */
    /* Builds and plans the graphs (training, and evaluation in the same memory) for a batch without allocating; the trainer drops
     * them before parameters move. *arena_bytes: device memory that all of them take together. */
    sora_status (*build)(void *self, int batch, uint64_t *arena_bytes, sora_error *error);
    /* Their kernels are made ready meanwhile (sora_graph_prepare). */
    sora_status (*prepare)(void *self, sora_error *error);
    void (*drop)(void *self);
    /* Data goes on with this batch, counted over epochs. Nothing that was enqueued reads batches any more. */
    sora_status (*seek)(void *self, uint64_t batch, sora_error *error);
    /* Forward and backward of the next batch; gradients accumulate. Enqueues only. */
    sora_status (*micro_step)(void *self, uint32_t step, uint32_t first_sample, sora_micro_step *out, sora_error *error);
    sora_status (*evaluate)(void *self, sora_evaluation *out, sora_error *error);
    /* What was trained, to and from a checkpoint's folder. save: on host or device; load: on the host, before the first build. */
    sora_status (*save)(void *self, const char *folder, sora_error *error);
    sora_status (*load)(void *self, const char *folder, sora_error *error);
} sora_task;

/* Trains the task in the folder `run`, which exists and has its config.json; goes on from the last checkpoint there is.
 * made_room: an earlier run stands aside (run_folder.h), and goes when this one has begun. result->quality is left to the caller.
 * On return the parameters are on the host and the graphs dropped. */
sora_status sora_train(const sora_task *task, const sora_run_options *options, const char *run, bool made_room,
                       const sora_watcher *watcher, sora_run_result *result, sora_error *error);

#endif
