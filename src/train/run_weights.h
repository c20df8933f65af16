/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_RUN_WEIGHTS_H
#define SORA_TRAIN_RUN_WEIGHTS_H

#include "soracl/layer.h"

/* Into a network of the same shape, on the host: a checkpoint's adapter.safetensors, which takes the place of adapters that are
 * active, or, where it has none, its file of weights. */
sora_status sora_run_load_checkpoint(sora_params *params, sora_layers *layers, const char *folder, const char *weights,
                                     sora_error *error);

/* Merges what is active and forgets it: a plain network whose layers are all normal and trainable. */
sora_status sora_run_merge(sora_params *params, sora_layers *layers, sora_error *error);

#endif
