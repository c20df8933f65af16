/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_ROUGE_H
#define SORACL_ROUGE_H

#include "soracl/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ROUGE (C.-Y. Lin, "ROUGE: a Package for Automatic Evaluation of Summaries", ACL workshop 2004) as the Python package
 * rouge_score counts it without stemming. All functions are pure: any number of threads may call them at once. */

/* F1 = 2PR / (P + R), 0 .. 1, where hits are counted once in both texts; P = hits of the prediction's, R of the reference's. */
typedef struct sora_rouge {
    double rouge1, rouge2; /* words, pairs of neighbouring words */
    double rougeL;         /* longest common subsequence of the whole texts; lines make no difference */
    double rougeLsum;      /* lines: words of a reference's line in its longest common subsequence with any of the prediction's */
} sora_rouge;

/* Texts are UTF-8 and end with NUL; bytes of broken UTF-8 separate words. Words are runs of a-z and 0-9 after lower-casing as
 * Python does it (KELVIN SIGN is k, I WITH DOT ABOVE is i and a separator); '\n' ends a line. A text without words scores 0.
 * rouge_score users put '\n' between sentences by themselves, which only rougeLsum sees. Time grows as words × words / 64 for
 * long lines, and as lines × words for many lines; memory as words · √words / 4 bytes. SORA_ERROR_ARGUMENT where a text is NULL,
 * SORA_ERROR_MEMORY where they are too long. On failure *out is 0. */
SORA_API sora_status sora_rouge_score(const char *reference, const char *prediction, sora_rouge *out, sora_error *error);

/* `low`, `middle`, `high`: percentiles 2.5, 50 and 97.5 of the bootstrap's means, as rouge_score's BootstrapAggregator. Published
 * values are often `middle` · 100. */
typedef struct sora_rouge_interval {
    sora_rouge mean; /* over the examples */
    sora_rouge low, middle, high;
} sora_rouge_interval;

/* Of scores[count]. rouge_score takes 1000 resamples. Deterministic in `seed`; all four measures draw the same examples. count 0:
 * all are 0. SORA_ERROR_ARGUMENT where resamples < 1 or a score is NaN or infinite; on failure *out is 0. */
SORA_API sora_status sora_rouge_summary(const sora_rouge *scores, size_t count, int resamples, uint64_t seed,
                                        sora_rouge_interval *out, sora_error *error);

/* Paired bootstrap over examples: mean of a[i] − b[i], one measure of two systems on the same examples, and its 95 % percentile
 * interval, as sora_mask_bootstrap. count 0: all are 0. Errors as above; on failure the results are 0. */
SORA_API sora_status sora_rouge_bootstrap(const double *a, const double *b, size_t count, int resamples, uint64_t seed,
                                          double *difference, double *low, double *high, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
