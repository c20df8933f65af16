/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_UNET_FILES_H
#define SORA_TRAIN_UNET_FILES_H

#include "soracl/train.h"

/* Into a network of the same shape, on the host: weights.safetensors of a checkpoint, or its adapter.safetensors, which takes the
 * place of adapters that are active. */
sora_status sora_unet_load_checkpoint(sora_unet *unet, const char *folder, sora_error *error);

/* Merges what is active and forgets it: a plain network whose layers are all normal. */
sora_status sora_unet_merge(sora_unet *unet, sora_error *error);

#endif
