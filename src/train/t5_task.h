/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_T5_TASK_H
#define SORA_TRAIN_T5_TASK_H

#include "train/t5_measure.h"
#include "train/trainer.h"

/* T5 and its texts as the trainer's task. Model, texts and tokenizer stay the caller's; eval_pairs may be NULL. */
typedef struct sora_t5_task {
    sora_t5 *t5;
    const sora_tokenizer *tokenizer;
    const sora_text_pairs *pairs, *eval_pairs;
    sora_run_options options;
    sora_t5_generation generation;
    sora_t5_batches *batches, *eval_batches;
    sora_t5_graphs train, eval;
    sora_t5_staging *staging, eval_staging; /* as many as batches can be under way */
    int staging_count, staging_next;
    uint64_t data_hash;
    sora_quality quality; /* of the last evaluation */
} sora_t5_task;

sora_status sora_t5_task_create(sora_t5 *t5, const sora_tokenizer *tokenizer, const sora_text_pairs *pairs,
                                const sora_text_pairs *eval_pairs, const sora_run_options *options, sora_t5_task **out,
                                sora_error *error);
void sora_t5_task_destroy(sora_t5_task **task);
sora_task sora_t5_task_of(sora_t5_task *task);

/* How a run reads its texts. */
sora_text_options sora_t5_text_options(const sora_run_options *options);
/* What it trains on and, disjoint from it, evaluates on: NULL where no --dev is named. */
sora_status sora_t5_open_data(const sora_run_options *options, sora_text_pairs **pairs, sora_text_pairs **eval_pairs,
                              sora_error *error);
/* Of both: a run goes on with the same alone. */
uint64_t sora_t5_data_hash(const sora_text_pairs *pairs, const sora_text_pairs *eval_pairs);

/* Refuses a target that means the head or the embedding. */
sora_status sora_t5_check_target(const sora_t5 *t5, const char *target, sora_error *error);

#endif
