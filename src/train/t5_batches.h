/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_T5_BATCHES_H
#define SORA_TRAIN_T5_BATCHES_H

#include "soracl/text.h"
#include "soracl/tokenizer.h"

#include <stdbool.h>
#include <stdint.h>

/* Pairs of texts as batches of ids of like length. Texts are made ids when their batch comes; which come together and in which
 * order depends on (seed, epoch) and the texts alone. One thread at a time. */
typedef struct sora_t5_batches sora_t5_batches;

typedef struct sora_t5_batches_options {
    int batch;
    const char *prefix;
    int max_source, max_target; /* tokens with eos */
    bool shuffle;               /* otherwise one epoch after the other by length, for evaluation */
    bool spans;                 /* span corruption of the sources instead of pairs */
    uint64_t seed;
    size_t limit; /* 0: all; else the first so many */
} sora_t5_batches_options;

/* One batch; ids stay valid until the next call. */
typedef struct sora_t5_batch {
    int count;
    int source_longest, target_longest;
    int32_t *const *sources, *const *targets; /* [count], with eos */
    const int *source_lengths, *target_lengths;
    const uint32_t *samples; /* their places among the pairs */
} sora_t5_batch;

/* Pairs and tokenizer stay the caller's and live longer. */
sora_status sora_t5_batches_create(const sora_text_pairs *pairs, const sora_tokenizer *tokenizer,
                                   const sora_t5_batches_options *options, sora_t5_batches **out, sora_error *error);
void sora_t5_batches_destroy(sora_t5_batches **batches);
uint64_t sora_t5_batches_per_epoch(const sora_t5_batches *batches);
/* Upper bounds of the lengths that can come, from the texts' bytes. */
void sora_t5_batches_longest(const sora_t5_batches *batches, int *source, int *target);
/* The next one is this, counted over epochs. */
void sora_t5_batches_seek(sora_t5_batches *batches, uint64_t batch);
sora_status sora_t5_batches_next(sora_t5_batches *batches, sora_t5_batch *out, sora_error *error);

/* Puts order[count], places among the pairs, in order of their sources' bytes, longest first; equal ones by place. */
sora_status sora_t5_longest_first(const sora_text_pairs *pairs, uint32_t *order, size_t count, sora_error *error);

#endif
