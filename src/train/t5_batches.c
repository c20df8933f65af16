/* SPDX-License-Identifier: Apache-2.0 */
#include "train/t5_batches.h"

#include "base/memory.h"
#include "base/random.h"
#include "soracl/span_corruption.h"

#include <stdlib.h>
#include <string.h>

/* So many batches are shuffled together and then put in order of length: their texts are of like length, and the order is still
 * random enough (Transformers' group_by_length has 50, too). */
#define WINDOW 50

struct sora_t5_batches {
    const sora_text_pairs *pairs;
    const sora_tokenizer *tokenizer;
    sora_t5_batches_options options;
    char *prefix;
    size_t count; /* texts of an epoch */
    uint64_t next;
    uint64_t ordered_epoch; /* whose order `order` is; UINT64_MAX: none */
    uint32_t *order, *batch_order;
    /* of the last batch */
    int32_t **sources, **targets;
    int *source_lengths, *target_lengths;
};

sora_status sora_t5_batches_create(const sora_text_pairs *pairs, const sora_tokenizer *tokenizer,
                                   const sora_t5_batches_options *options, sora_t5_batches **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5_batches *b = NULL;
    size_t batch = (size_t)options->batch;
    *out = NULL;
    SORA_TRY(sora_allocate(1, sizeof *b, "batches", &b, error));
    b->pairs = pairs;
    b->tokenizer = tokenizer;
    b->options = *options;
    b->count = sora_text_count(pairs);
    if (options->limit > 0) b->count = SORA_MIN(b->count, options->limit);
    b->ordered_epoch = UINT64_MAX;
    SORA_TRY(sora_duplicate(options->spans ? "" : options->prefix, &b->prefix, error));
    SORA_TRY(sora_allocate(b->count, sizeof *b->order, "order of texts", &b->order, error));
    SORA_TRY(sora_allocate(b->count, sizeof *b->batch_order, "order of batches", &b->batch_order, error));
    SORA_TRY(sora_allocate(batch, sizeof *b->sources, "batch", &b->sources, error));
    SORA_TRY(sora_allocate(batch, sizeof *b->targets, "batch", &b->targets, error));
    SORA_TRY(sora_allocate(batch, sizeof *b->source_lengths, "batch", &b->source_lengths, error));
    SORA_TRY(sora_allocate(batch, sizeof *b->target_lengths, "batch", &b->target_lengths, error));
    *out = b;
    b = NULL;
cleanup:
    sora_t5_batches_destroy(&b);
    return status;
}

static void forget_batch(sora_t5_batches *b)
{
    for (int i = 0; b->sources && b->targets && i < b->options.batch; i++) {
        free(b->sources[i]);
        free(b->targets[i]);
        b->sources[i] = b->targets[i] = NULL;
    }
}

void sora_t5_batches_destroy(sora_t5_batches **pointer)
{
    sora_t5_batches *b = *pointer;
    if (!b) return;
    forget_batch(b);
    free(b->prefix);
    free(b->order);
    free(b->batch_order);
    free(b->sources);
    free(b->targets);
    free(b->source_lengths);
    free(b->target_lengths);
    free(b);
    *pointer = NULL;
}

uint64_t sora_t5_batches_per_epoch(const sora_t5_batches *b)
{
    return (b->count + (size_t)b->options.batch - 1) / (size_t)b->options.batch;
}

void sora_t5_batches_longest(const sora_t5_batches *b, int *source, int *target)
{
    size_t most_source = 0, most_target = 0;
    for (size_t i = 0; i < b->count; i++) {
        sora_text_pair pair = sora_text_at(b->pairs, i);
        most_source = SORA_MAX(most_source, pair.source_bytes);
        most_target = SORA_MAX(most_target, pair.target_bytes);
    }
    /* A byte is at most one token, and normalisation can make three characters of one (ellipses, ligatures): rarely, so it is
     * capped, not trusted. */
    size_t room = strlen(b->prefix) + 8;
    *source = (int)SORA_MIN((size_t)b->options.max_source, 3 * (most_source + room));
    *target = b->options.spans ? b->options.max_target : (int)SORA_MIN((size_t)b->options.max_target, 3 * (most_target + 8));
}

void sora_t5_batches_seek(sora_t5_batches *batches, uint64_t batch)
{
    batches->next = batch;
}

/* ---- Order ------------------------------------------------------------------------------------------------------- */

typedef struct keyed {
    size_t bytes;
    uint32_t index;
} keyed;

static int longer_first(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

sora_status sora_t5_longest_first(const sora_text_pairs *pairs, uint32_t *order, size_t count, sora_error *error)
{
    keyed *keys = NULL;
    sora_status status = sora_allocate(count, sizeof *keys, "order of texts", &keys, error);
    if (status != SORA_OK) return status;
    for (size_t i = 0; i < count; i++) keys[i] = (keyed) { sora_text_at(pairs, order[i]).source_bytes, order[i] };
    qsort(keys, count, sizeof *keys, longer_first);
    for (size_t i = 0; i < count; i++) order[i] = keys[i].index;
    free(keys);
    return SORA_OK;
}

/* Texts in `order`, and in batch_order which batch of them comes when: the short last one stays last. */
static sora_status make_order(sora_t5_batches *b, uint64_t epoch, sora_error *error)
{
    sora_status status = SORA_OK;
    uint64_t whole = b->count / (size_t)b->options.batch, batches = sora_t5_batches_per_epoch(b);
    if (b->ordered_epoch == epoch) return SORA_OK;
    sora_random_stream stream = { .seed = b->options.seed, .purpose = SORA_PURPOSE_SHUFFLE, .step = (uint32_t)epoch };
    for (size_t i = 0; i < b->count; i++) b->order[i] = (uint32_t)i;
    for (size_t i = 0; i < batches; i++) b->batch_order[i] = (uint32_t)i;
    if (!b->options.shuffle) {
        SORA_TRY(sora_t5_longest_first(b->pairs, b->order, b->count, error));
    } else {
        size_t window = WINDOW * (size_t)b->options.batch;
        sora_random_permutation(&stream, b->order, (uint32_t)b->count);
        for (size_t first = 0; first < b->count; first += window)
            SORA_TRY(sora_t5_longest_first(b->pairs, b->order + first, SORA_MIN(window, b->count - first), error));
        sora_random_permutation(&stream, b->batch_order, (uint32_t)whole);
    }
    b->ordered_epoch = epoch;
cleanup:
    return status;
}

/* ---- Batches ----------------------------------------------------------------------------------------------------- */

/* A text that can't be corrupted becomes nothing but ends. */
static sora_status corrupt(sora_t5_batches *b, uint64_t epoch, uint32_t sample, const int32_t *ids, int count, int i,
                           sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_t5_batches_options *o = &b->options;
    size_t source = 0, target = 0;
    sora_span_corruption spans = { .tokenizer_size = sora_tokenizer_size(b->tokenizer),
                                   .max_source = (size_t)o->max_source,
                                   .max_target = (size_t)o->max_target,
                                   .seed = o->seed,
                                   .epoch = (uint32_t)epoch };
    SORA_TRY(sora_allocate((size_t)o->max_source, sizeof **b->sources, "batch", &b->sources[i], error));
    SORA_TRY(sora_allocate((size_t)o->max_target, sizeof **b->targets, "batch", &b->targets[i], error));
    SORA_TRY(sora_span_corrupt(&spans, sample, ids, (size_t)count, b->sources[i], &source, b->targets[i], &target, error));
    if (source == 0) {
        b->sources[i][0] = b->targets[i][0] = SORA_TOKEN_EOS;
        source = target = 1;
    }
    b->source_lengths[i] = (int)source;
    b->target_lengths[i] = (int)target;
cleanup:
    return status;
}

static sora_status make_example(sora_t5_batches *b, uint64_t epoch, uint32_t sample, int i, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_t5_batches_options *o = &b->options;
    sora_text_pair pair = sora_text_at(b->pairs, sample);
    int32_t *ids = NULL;
    int count;
    if (o->spans) {
        /* The corrupted form is shorter than the text: up to about 1.2 times as much of it fits. */
        SORA_TRY(sora_tokenizer_source(b->tokenizer, "", pair.source, pair.source_bytes, 4 * o->max_source, &ids, &count, error));
        SORA_TRY(corrupt(b, epoch, sample, ids, count - 1, i, error));
    } else {
        SORA_TRY(sora_tokenizer_source(b->tokenizer, b->prefix, pair.source, pair.source_bytes, o->max_source, &b->sources[i],
                                       &b->source_lengths[i], error));
        SORA_TRY(sora_tokenizer_source(b->tokenizer, "", pair.target, pair.target_bytes, o->max_target, &b->targets[i],
                                       &b->target_lengths[i], error));
    }
cleanup:
    free(ids);
    return status;
}

sora_status sora_t5_batches_next(sora_t5_batches *b, sora_t5_batch *out, sora_error *error)
{
    sora_status status = SORA_OK;
    uint64_t per_epoch = sora_t5_batches_per_epoch(b), epoch = b->next / per_epoch;
    SORA_TRY(make_order(b, epoch, error));
    size_t first = (size_t)b->batch_order[b->next % per_epoch] * (size_t)b->options.batch;
    forget_batch(b);
    *out = (sora_t5_batch) { .count = (int)SORA_MIN((size_t)b->options.batch, b->count - first),
                             .sources = b->sources,
                             .targets = b->targets,
                             .source_lengths = b->source_lengths,
                             .target_lengths = b->target_lengths,
                             .samples = b->order + first };
    for (int i = 0; i < out->count; i++) {
        SORA_TRY(make_example(b, epoch, b->order[first + (size_t)i], i, error));
        out->source_longest = SORA_MAX(out->source_longest, b->source_lengths[i]);
        out->target_longest = SORA_MAX(out->target_longest, b->target_lengths[i]);
    }
    b->next++;
cleanup:
    return status;
}
