/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_TRAINER_STATE_H
#define SORA_TRAIN_TRAINER_STATE_H

#include "adapter/layer.h"
#include "train/schedule.h"

/* Everything of a run's progress that is not weights and moments: state.json of a checkpoint. */
typedef struct sora_trainer_state {
    uint32_t step; /* done */
    uint32_t optimizer_steps;
    uint64_t data_hash; /* of what it trained and evaluated on; older checkpoints have none, and leave it as it is */
    sora_moment_layout moments;
    bool finished;
    sora_plateau plateau;
    bool has_best;
    double best_score, best_loss; /* older checkpoints have no loss: what is as good as theirs is no better */
    uint32_t best_step;
    int bad_evaluations; /* since the best */
    double loss_sum;     /* since the last line of events.jsonl */
    uint32_t loss_count;
    uint32_t **zero_updates; /* [layer][row]: updates that a gate has been 0 for; NULL for layers without gates */
    size_t layer_count;
} sora_trainer_state;

sora_status sora_trainer_state_create(const sora_layers *layers, sora_trainer_state *out, sora_error *error);
void sora_trainer_state_free(sora_trainer_state *state);

sora_status sora_trainer_state_save(const sora_trainer_state *state, const sora_layers *layers, const char *folder,
                                    sora_error *error);
/* The layers must have the ranks they had when it was saved. */
sora_status sora_trainer_state_load(sora_trainer_state *state, const sora_layers *layers, const char *folder, sora_error *error);

#endif
