/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_T5_GRAPHS_H
#define SORA_TRAIN_T5_GRAPHS_H

#include "base/memory.h"
#include "soracl/t5.h"
#include "train/t5_batches.h"

#define SORA_T5_SOURCE_BUCKETS 8
#define SORA_T5_TARGET_BUCKETS 4

/* The model as graphs for sequences of several lengths. All stand in the memory of the longest, which is planned first; the
 * others are planned when a batch first needs them. */
typedef struct sora_t5_graphs {
    sora_t5 *t5;
    sora_graph_options options; /* of the longest; the others share its memory */
    int source, target;         /* longest */
    float smoothing;
    sora_t5_graph items[SORA_T5_SOURCE_BUCKETS][SORA_T5_TARGET_BUCKETS];
} sora_t5_graphs;

/* Plans the longest. */
sora_status sora_t5_graphs_open(sora_t5_graphs *graphs, sora_error *error);
void sora_t5_graphs_close(sora_t5_graphs *graphs); /* accepts zeroed ones */
sora_t5_graph *sora_t5_graphs_longest(sora_t5_graphs *graphs);

/* Host memory of one batch; it must stay as long as sora_graph_write says. */
typedef struct sora_t5_staging {
    int32_t *source, *decoder, *labels;
    int *lengths;
} sora_t5_staging;
sora_status sora_t5_staging_create(int batch, int source, int target, sora_t5_staging *out, sora_error *error);
void sora_t5_staging_free(sora_t5_staging *staging);

/* Writes a batch to the graph of its lengths, padded, and runs it forward. *tokens (may be NULL): labels that count. */
sora_status sora_t5_graphs_run(sora_t5_graphs *graphs, const sora_t5_batch *batch, sora_t5_staging *staging, uint32_t step,
                               uint32_t first_sample, sora_t5_graph **out, uint64_t *tokens, sora_error *error);

#endif
