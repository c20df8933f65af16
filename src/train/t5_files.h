/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_T5_FILES_H
#define SORA_TRAIN_T5_FILES_H

#include "soracl/train.h"

/* A checkpoint's folder: adapter.safetensors, or, where the weights trained, a model's folder as Transformers loads it. On host
 * or device. */
sora_status sora_t5_save_checkpoint(const sora_t5 *t5, bool adapters, const char *folder, sora_error *error);

/* What a run with adapters stands on: base.json in its folder says where the weights were and what their hash is. */
sora_status sora_t5_write_base(const sora_t5 *t5, const char *run, sora_error *error);

/* Whether any layer has an active one. */
bool sora_t5_has_adapters(const sora_t5 *t5);

/* Adapters of a run or of a PEFT folder on a model whose layers are normal; everything else is frozen. */
sora_status sora_t5_put_adapter(sora_t5 *t5, const char *adapter, sora_error *error);

#endif
