/* SPDX-License-Identifier: Apache-2.0 */
#include "data/bootstrap.h"

#include "base/memory.h"
#include "base/random.h"

#include <stdlib.h>

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

sora_status sora_bootstrap_means(const double *values, size_t count, int resamples, uint64_t seed, double *mean, double *means,
                                 sora_error *error)
{
    *mean = 0.0;
    if (resamples < 1) return sora_fail(error, SORA_ERROR_ARGUMENT, "bootstrap: %d resamples; expected at least 1", resamples);
    if (count > UINT32_MAX) return sora_fail(error, SORA_ERROR_ARGUMENT, "bootstrap: %zu values are too many", count);
    for (size_t i = 0; i < count; i++) *mean += values[i] / (double)count;
    for (int r = 0; r < resamples; r++) {
        sora_random_stream stream = { .seed = seed, .purpose = SORA_PURPOSE_BOOTSTRAP, .sample = (uint32_t)r };
        means[r] = 0.0;
        for (size_t i = 0; i < count; i++) means[r] += values[sora_random_below(&stream, (uint32_t)count)] / (double)count;
    }
    qsort(means, (size_t)resamples, sizeof *means, rising);
    return SORA_OK;
}

sora_status sora_bootstrap_mean(const double *values, size_t count, int resamples, uint64_t seed, double *mean, double *low,
                                double *high, sora_error *error)
{
    double *means = NULL;
    *mean = *low = *high = 0.0;
    sora_status status = sora_allocate((size_t)SORA_MAX(resamples, 0), sizeof *means, "bootstrap", &means, error);
    if (status == SORA_OK) status = sora_bootstrap_means(values, count, resamples, seed, mean, means, error);
    if (status == SORA_OK) {
        *low = means[(size_t)(0.025 * (resamples - 1) + 0.5)];
        *high = means[(size_t)(0.975 * (resamples - 1) + 0.5)];
    }
    free(means);
    return status;
}
