/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_MASK_METRICS_H
#define SORA_DATA_MASK_METRICS_H

#include "soracl/dataset.h"

/* Pixels of hand in truth or prediction; 0: the image is not scored. */
uint64_t sora_mask_hand_pixels(const sora_mask_counts *counts);
double sora_mask_iou(const sora_mask_counts *counts);

/* Mean of values[count] and its 95 % percentile interval over `resamples` bootstrap samples. */
sora_status sora_bootstrap_mean(const double *values, size_t count, int resamples, uint64_t seed, double *mean, double *low,
                                double *high, sora_error *error);

#endif
