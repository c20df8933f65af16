/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_T5_MEASURE_H
#define SORA_TRAIN_T5_MEASURE_H

#include "soracl/train.h"
#include "train/t5_graphs.h"

/* Mean loss over the target tokens of one epoch of `batches`, with evaluation graphs. watcher: NULL, or asked to stop. */
sora_status sora_t5_measure_loss(sora_t5_graphs *graphs, sora_t5_batches *batches, sora_t5_staging *staging,
                                 const sora_watcher *watcher, sora_quality *out, sora_error *error);

typedef struct sora_t5_scoring {
    const sora_text_pairs *pairs;
    const sora_tokenizer *tokenizer;
    const char *prefix;
    int max_source;
    size_t count; /* the first so many */
    const sora_t5_generation *generation;
    sora_rouge *scores; /* NULL, or [count] */
    char **texts;       /* NULL, or [count]; the caller's */
    const sora_watcher *watcher;
} sora_t5_scoring;

/* Generates for the first pairs and counts ROUGE against their targets. */
sora_status sora_t5_measure_rouge(sora_t5_generator *generator, const sora_t5_scoring *scoring, sora_quality *out,
                                  sora_error *error);

#endif
