/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/span_corruption.h"

#include "base/memory.h"
#include "base/random.h"
#include "base/status.h"
#include "soracl/tokenizer.h"

#include <math.h>
#include <stdbool.h>

#define MAX_TEXT ((size_t)INT32_MAX) /* ids; window and segments are drawn with 32 bits */

/* How a text of n ids divides. */
typedef struct division {
    uint32_t kept, noise, spans;
} division;

static sora_status check_options(const sora_span_corruption *options, sora_error *error)
{
    if (!(options->density > 0 && options->density < 1) && options->density != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "noise density %g; expected above 0 and below 1", options->density);
    if (!(options->mean_length >= 1 && options->mean_length <= 1e6) && options->mean_length != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "mean span length %g; expected 1 to 1e6", options->mean_length);
    if (options->tokenizer_size <= SORA_TOKENIZER_SENTINELS)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "a tokenizer of %d ids has no room for pieces and %d sentinels",
                         options->tokenizer_size, SORA_TOKENIZER_SENTINELS);
    if (options->max_source < 3 || options->max_target < 3)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "at most %zu source and %zu target ids; expected 3 or more of each",
                         options->max_source, options->max_target);
    return SORA_OK;
}

/* Whether a text can be used; no sentinel, pad or eos of its own may be taken for the objective's. */
static sora_status check_text(const sora_span_corruption *options, const int32_t *ids, size_t count, bool *usable,
                              sora_error *error)
{
    int sentinels = options->tokenizer_size - SORA_TOKENIZER_SENTINELS;
    if (count > MAX_TEXT) return sora_fail(error, SORA_ERROR_ARGUMENT, "a text of %zu ids; at most %zu", count, MAX_TEXT);
    *usable = count >= 2;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= options->tokenizer_size)
            return sora_fail(error, SORA_ERROR_ARGUMENT, "id %d at %zu; expected 0 to %d", ids[i], i,
                             options->tokenizer_size - 1);
        if (ids[i] == SORA_TOKEN_PAD || ids[i] == SORA_TOKEN_EOS || ids[i] >= sentinels) *usable = false;
    }
    return SORA_OK;
}

/* random_spans_noise_mask's counts. It multiplies in single precision and rounds halves to even, which is rintf. */
static division divide(const sora_span_corruption *options, size_t n)
{
    float density = options->density == 0 ? 0.15f : (float)options->density;
    float mean = options->mean_length == 0 ? 3.0f : (float)options->mean_length;
    double noise = SORA_MIN(SORA_MAX((double)rintf((float)n * density), 1.0), (double)n - 1);
    division d = { .noise = (uint32_t)noise, .kept = (uint32_t)n - (uint32_t)noise };
    uint32_t most = SORA_MIN(SORA_MIN(d.noise, d.kept), (uint32_t)SORA_TOKENIZER_SENTINELS);
    d.spans = (uint32_t)SORA_MIN(SORA_MAX(rintf((float)noise / mean), 1.0f), (float)most);
    return d;
}

/* The longest text that fits, as random_spans_helper finds it, which looks at the source alone. 2 ids always fit. */
static size_t window(const sora_span_corruption *options, size_t count)
{
    size_t fits = 2, beyond = count + 1;
    while (beyond - fits > 1) { /* both lengths never fall as n grows */
        size_t n = fits + (beyond - fits) / 2;
        division d = divide(options, n);
        bool good = (size_t)d.kept + d.spans + 1 <= options->max_source && (size_t)d.noise + d.spans + 1 <= options->max_target;
        if (good)
            fits = n;
        else
            beyond = n;
    }
    return fits;
}

/* Divides `items` into lengths[segments] of at least 1, each division equally likely: chooses segments − 1 of the items − 1
 * places between two items (Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S). */
static void random_segmentation(sora_random_stream *random, uint32_t items, uint32_t segments, uint32_t *lengths)
{
    uint32_t found = 0, begin = 0;
    for (uint32_t place = 1; place < items && found + 1 < segments; place++) {
        if (sora_random_below(random, items - place) >= segments - 1 - found) continue;
        lengths[found++] = place - begin;
        begin = place;
    }
    lengths[found] = items - begin;
}

sora_status sora_span_corrupt(const sora_span_corruption *options, uint32_t sample, const int32_t *ids, size_t count,
                              int32_t *source, size_t *source_count, int32_t *target, size_t *target_count, sora_error *error)
{
    uint32_t kept[SORA_TOKENIZER_SENTINELS], noise[SORA_TOKENIZER_SENTINELS];
    sora_random_stream random = {
        .seed = options->seed, .purpose = SORA_PURPOSE_CORRUPT, .step = options->epoch, .sample = sample
    };
    bool usable = false;
    *source_count = *target_count = 0;
    sora_status status = check_options(options, error);
    if (status == SORA_OK) status = check_text(options, ids, count, &usable, error);
    if (status != SORA_OK || !usable) return status;
    size_t n = window(options, count), s = 0, t = 0;
    division d = divide(options, n);
    ids += sora_random_below(&random, (uint32_t)(count - n + 1));
    random_segmentation(&random, d.noise, d.spans, noise);
    random_segmentation(&random, d.kept, d.spans, kept);
    for (uint32_t span = 0; span < d.spans; span++) {
        int32_t sentinel = options->tokenizer_size - 1 - (int32_t)span;
        for (uint32_t i = 0; i < kept[span]; i++) source[s++] = *ids++;
        source[s++] = target[t++] = sentinel;
        for (uint32_t i = 0; i < noise[span]; i++) target[t++] = *ids++;
    }
    source[s++] = target[t++] = SORA_TOKEN_EOS;
    *source_count = s;
    *target_count = t;
    return SORA_OK;
}
