/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_COMPARISON_H
#define SORA_TRAIN_COMPARISON_H

#include "soracl/train.h"

#include <jansson.h>

#define SORA_COMPARISON_MEASURES 3

/* What a comparison needs to know of a task; compare.c has the rows, their folders, the statistics and compare.json. */
typedef struct sora_comparison_task {
    void *self;
    const char *name;             /* "unet" */
    const char *from_missing;     /* message where no weights to start from were named */
    const char *all, *all_name;   /* the target that stands for everything, and what a label says for it ("": nothing) */
    bool ranks_are_rows;          /* every rank of the list with every target; else one rank a target */
    bool schedule_is_row;         /* --xi-schedule makes a row of its own; else every SoRA row follows it */
    const char *baseline;         /* label of a row without a model; NULL: there is none */
    const char *examples, *shown; /* names in compare.json: of a difference's count; of what illustrate collects */
    /* Of each example: the first makes the differences and their interval, the others' means stand beside them by these names. */
    const char *measures[SORA_COMPARISON_MEASURES];
    size_t measure_count;

    /* The data, refused before anything is written, and the hash of what rows train on; how many examples a row is scored on. */
    sora_status (*open_data)(void *self, uint64_t *hash, sora_error *error);
    size_t (*count)(const void *self);
    /* What the rows have in common of the illustrations; the folder is there. */
    sora_status (*begin)(void *self, sora_error *error);
    sora_status (*run)(void *self, const sora_run_options *options, const sora_run_target *target, sora_run_result *result,
                       sora_error *error);
    /* The model that evaluate and illustrate mean, until close_model. */
    sora_status (*open_model)(void *self, const char *from, sora_error *error);
    /* NULL, or refuses a target that the open model's layers are not asked about. */
    sora_status (*check_target)(const void *self, const char *target, sora_error *error);
    sora_params *(*params)(const void *self); /* on the host from open_model to evaluate */
    sora_layers *(*layers)(const void *self);
    void (*close_model)(void *self);
    /* scores[measures][count], NaN where an example has nothing to score; without an open model the baseline's. */
    sora_status (*evaluate)(void *self, double *scores, sora_quality *out, sora_error *error);
    /* Only asked for rows of the first seed, after evaluate. `slug` is a name for files. */
    sora_status (*illustrate)(void *self, const char *label, const char *slug, sora_error *error);
    json_t *(*quality)(const sora_quality *quality);
    json_t *(*illustrations)(const void *self); /* borrowed */
} sora_comparison_task;

sora_status sora_compare(sora_context *context, const sora_run_options *options, const sora_comparison_options *asked,
                         const sora_watcher *watcher, const sora_comparison_task *task, sora_comparison_row **rows, size_t *count,
                         sora_error *error);

#endif
