/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_MASK_METRICS_H
#define SORA_DATA_MASK_METRICS_H

#include "soracl/dataset.h"

/* Pixels of hand in truth or prediction; 0: the image is not scored. */
uint64_t sora_mask_hand_pixels(const sora_mask_counts *counts);
double sora_mask_iou(const sora_mask_counts *counts);

#endif
