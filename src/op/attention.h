/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_ATTENTION_H
#define SORA_OP_ATTENTION_H

#include "cl/tuning.h"
#include "op/ops.h"

/* Blocks in which queries meet keys. On a CPU `tile` rows of every product stand in registers; on a GPU, whose work-item has one
 * query, only keys is not 0: those whose scores share one change of the running maximum. */
typedef struct sora_attention_variant {
    int tile, queries, keys;
} sora_attention_variant;
#define SORA_ATTENTION_VARIANTS 4

/* The ways in which the device can do it, forward or back, the default first; returns how many. */
int sora_attention_variants(const sora_device_limits *limits, bool back, sora_attention_variant out[SORA_ATTENTION_VARIANTS]);

/* A variant as its numbers. */
sora_tuning_variant sora_attention_tuning_variant(const sora_attention_variant *variant);

/* sora_op_attention's forward or backward in that variant. */
sora_status sora_attention_run(const sora_op_run *run, bool back, const sora_attention_variant *variant, sora_error *error);

#endif
