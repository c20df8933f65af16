/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_BOOTSTRAP_H
#define SORA_DATA_BOOTSTRAP_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Mean of values[count] in *mean and, rising, the means of `resamples` samples of count values drawn with replacement in
 * means[resamples]; sample r depends on (seed, r) alone. count 0: all are 0. */
sora_status sora_bootstrap_means(const double *values, size_t count, int resamples, uint64_t seed, double *mean, double *means,
                                 sora_error *error);

/* Mean of values[count] and its 95 % percentile interval (nearest rank) over `resamples` bootstrap samples. */
sora_status sora_bootstrap_mean(const double *values, size_t count, int resamples, uint64_t seed, double *mean, double *low,
                                double *high, sora_error *error);

#endif
