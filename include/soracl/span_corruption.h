/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_SPAN_CORRUPTION_H
#define SORACL_SPAN_CORRUPTION_H

#include "soracl/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* T5's pre-training objective: spans of a text are replaced by sentinels, and the target says what stood there (C. Raffel et al.,
 * "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", arXiv 1910.10683, sections 3.1.4
 * and 3.3.4). Counts and spans are those of T5's code (t5/data/preprocessors.py: random_spans_noise_mask,
 * noise_span_to_unique_sentinel, nonnoise_span_to_unique_sentinel):
 *
 *   noise = round(n · density), at least 1, at most n − 1;  spans = round(noise / mean length), at least 1, at most 100, noise
 * and n − noise;  halves are rounded to even;  kept and noise spans alternate, a kept one first, so that the text ends in noise;
 *   all such divisions are equally likely.
 *
 *   text    a b c d e f g          noise: c, f g
 *   source  a b <0> d e <1> </s>   n − noise + spans + 1 ids
 *   target  <0> c <1> f g </s>     noise + spans + 1 ids; no sentinel behind the last span, unlike the paper's figure 2 */

typedef struct sora_span_corruption {
    double density;                /* share of the text that is noise, above 0 and below 1; 0: 0.15 */
    double mean_length;            /* ids of a noise span, at least 1; 0: 3 */
    int tokenizer_size;            /* sora_tokenizer_size: sentinel k is size − 1 − k */
    size_t max_source, max_target; /* ids with eos, at least 3; room of the buffers */
    uint64_t seed;
    uint32_t epoch;
} sora_span_corruption;

/* ids[count]: a text without eos. Writes source[*source_count] and target[*target_count]. A text whose corrupted form would not
 * fit is cut to the longest window that does, at a random place. The draw depends on seed, epoch and `sample` alone, never on
 * other calls, so any number of threads may corrupt at once. A text that can't be used has both counts 0: fewer than 2 ids, or
 * pad, eos or sentinels within. SORA_ERROR_ARGUMENT for options out of range, for ids that are not below tokenizer_size, and for
 * more than INT32_MAX of them. */
SORA_API sora_status sora_span_corrupt(const sora_span_corruption *options, uint32_t sample, const int32_t *ids, size_t count,
                                       int32_t *source, size_t *source_count, int32_t *target, size_t *target_count,
                                       sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
