/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_REPORT_H
#define SORA_TRAIN_REPORT_H

#include "soracl/status.h"
#include "train/report_chart.h"

#include <jansson.h>

#define SORA_REPORT_COLUMNS 4

/* Rows of one label, over their seeds. */
typedef struct sora_report_entry {
    const char *label, *method, *target;
    const json_t *first;
    int seeds;
    double values[SORA_REPORT_COLUMNS], spread; /* means of the task's columns; the first one's sum of squares about its mean */
    double rank, seconds, device, process, kept;
    sora_series loss, quality, eval_loss, gates, path; /* of the first seed; path: quality against kept parameters */
} sora_report_entry;

typedef struct sora_report {
    const char *folder;
    const struct sora_report_task *task;
    json_t *root;
    sora_report_entry *entries;
    size_t count;
    FILE *out;
} sora_report;

typedef struct sora_report_column {
    const char *key, *heading; /* key: in a row's quality */
    int digits;
} sora_report_column;

/* What a report says differently for a task. Texts are HTML. */
typedef struct sora_report_task {
    const char *name;
    sora_report_column columns[SORA_REPORT_COLUMNS]; /* the first is what rows are judged by */
    size_t column_count;
    int lead_digits;
    bool share;                                            /* a column with the kept parameters as a share of LoRA's */
    const char *examples;                                  /* "images": key of a difference's count, and its heading */
    const char *measure, *quality_title, *eval_loss_title; /* eval_loss_title NULL: no such chart */
    const char *table_note, *difference_note, *setting_note;
    void (*write_start)(const sora_report *report);                           /* the lead's first sentences */
    sora_status (*write_shown)(const sora_report *report, sora_error *error); /* pictures, texts */
} sora_report_task;

extern const sora_report_task sora_report_unet, sora_report_t5;

/* NaN and "" where there is none. */
double sora_report_number(const json_t *object, const char *name);
const char *sora_report_text(const json_t *object, const char *name);
/* A path that leads nowhere out of the comparison's folder. */
bool sora_report_is_inside(const char *relative);
/* The entry of a method with the largest value; NULL: it has no row. */
const sora_report_entry *sora_report_best(const sora_report *report, const char *method);

#endif
