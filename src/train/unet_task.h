/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_UNET_TASK_H
#define SORA_TRAIN_UNET_TASK_H

#include "soracl/dataset.h"
#include "train/trainer.h"

/* A U-Net with training and evaluation data as the trainer's task. Network and data sets stay the caller's. */
typedef struct sora_unet_task {
    sora_unet *unet;
    const sora_dataset *data, *eval_data;
    sora_run_options options;
    sora_unet_graph train, eval;
    sora_loader *loader, *eval_loader;
    float *probability; /* of one batch */
    sora_mask_counts *counts;
    uint64_t data_hash;
    sora_quality quality; /* of the last evaluation */
} sora_unet_task;

sora_status sora_unet_task_create(sora_unet *unet, const sora_dataset *data, const sora_dataset *eval_data,
                                  const sora_run_options *options, sora_unet_task **out, sora_error *error);
void sora_unet_task_destroy(sora_unet_task **task);
sora_task sora_unet_task_of(sora_unet_task *task);

/* The training set and, disjoint from it, the evaluation set (by default the same set's test split). */
sora_status sora_unet_open_data(const sora_run_options *options, sora_dataset **data, sora_dataset **eval_data,
                                sora_error *error);
/* Of both: a run goes on with the same alone. */
sora_status sora_unet_data_hash(const sora_dataset *data, const sora_dataset *eval_data, uint64_t *out, sora_error *error);

#endif
