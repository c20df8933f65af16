/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_CHECKPOINT_H
#define SORA_TRAIN_CHECKPOINT_H

#include "base/memory.h"
#include "soracl/graph.h"

/* The checkpoints of a run folder. One is a folder checkpoint-N (N: steps done), written as checkpoint-N.tmp, synced, renamed: it
 * is there as a whole or not at all. `best` is a file with one line, the name of the best one. No times and no paths are in them,
 * so equal runs have equal bytes. */

/* Creates RUN/checkpoint-N.tmp; *folder is the caller's. */
sora_status sora_checkpoint_begin(const char *run, uint32_t step, char **folder, sora_error *error);
/* Syncs and renames it into place, replacing one of the same step; what was left of it on failure is removed. */
sora_status sora_checkpoint_commit(const char *run, uint32_t step, sora_error *error);
void sora_checkpoint_abandon(const char *run, uint32_t step);

/* Steps of the complete checkpoints, rising; *steps is the caller's. */
sora_status sora_checkpoint_list(const char *run, uint32_t **steps, size_t *count, sora_error *error);

/* Removes the oldest until `keep` are left, the best and those of the steps `always` not counted and never removed; and what a
 * killed run left as .tmp. */
sora_status sora_checkpoint_prune(const char *run, int keep, const uint32_t *always, size_t always_count, sora_error *error);

sora_status sora_checkpoint_set_best(const char *run, uint32_t step, sora_error *error);
/* *path of the best checkpoint (or the last, where there is no best or `last` asks for it); the caller's. SORA_ERROR_INPUT where
 * the run has none. */
sora_status sora_checkpoint_find(const char *run, bool last, char **path, sora_error *error);

/* Moments of every trainable parameter, as NAME#1 and NAME#2, in optimizer.safetensors of a folder. On the host or the device. */
sora_status sora_moments_save(const sora_params *params, sora_moment_layout moments, const char *folder, sora_error *error);
/* On the host. Missing, superfluous or misshapen tensors are refused by name. */
sora_status sora_moments_load(sora_params *params, sora_moment_layout moments, const char *folder, sora_error *error);

#endif
