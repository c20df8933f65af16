/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_UNET_MEASURE_H
#define SORA_TRAIN_UNET_MEASURE_H

#include "base/memory.h"
#include "soracl/train.h"

/* One pass of an evaluation graph over the whole set, which `loader` gives in its order from the first image. Metrics at the
 * network's size or, native, at each image's own. probability: room for a batch; counts[sora_dataset_count]. */
sora_status sora_unet_measure(const sora_unet_graph *graph, sora_loader *loader, const sora_dataset *dataset, int size,
                              bool native, float *probability, sora_mask_counts *counts, sora_quality *out, sora_error *error);

/* Stretches a map of size × size to width × height, bilinear with pixel centres at half integers. */
void sora_probability_stretch(const float *in, int size, int width, int height, float *out);

#endif
