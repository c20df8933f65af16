/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_SCHEDULE_H
#define SORA_TRAIN_SCHEDULE_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum sora_schedule_kind {
    SORA_SCHEDULE_CONSTANT = 0,
    SORA_SCHEDULE_LINEAR,
    SORA_SCHEDULE_COSINE,
    SORA_SCHEDULE_PLATEAU
} sora_schedule_kind;

typedef struct sora_schedule {
    sora_schedule_kind kind;
    double rate;     /* the highest */
    uint32_t steps;  /* of the run */
    uint32_t warmup; /* steps of linear rise from rate / warmup; any kind */
} sora_schedule;

/* The learning rate of step 0 ≤ step < steps: after the warm-up constant, a line or a half cosine to 0 at `steps` (as
 * Transformers' get_linear_ and get_cosine_schedule_with_warmup but for the first step, which is never 0); plateau's own
 * factor comes on top. */
double sora_schedule_rate(const sora_schedule *schedule, uint32_t step);

/* Σ of the rates of all steps: what a gate can shrink is λ times this (paper and adam modes). */
double sora_schedule_sum(const sora_schedule *schedule);

/* "warmup" as given: below 1 a share of the run, otherwise steps. */
uint32_t sora_warmup_steps(double warmup, uint32_t steps);

/* Reduce on plateau, as PyTorch's ReduceLROnPlateau (mode min, relative threshold 1e-4): after more than `patience` evaluations
 * without a better loss the factor is multiplied, down to minimum / rate. */
typedef struct sora_plateau {
    double factor; /* now; starts at 1 */
    double best;
    int bad;
} sora_plateau;

#define SORA_PLATEAU_PATIENCE 5
#define SORA_PLATEAU_FACTOR 0.2
#define SORA_PLATEAU_MINIMUM 1e-6

sora_plateau sora_plateau_start(void);
/* True where the factor was just reduced. */
bool sora_plateau_update(sora_plateau *plateau, double rate, double loss);

/* The rising list of thresholds of SoRA's sparsifying schedule (arXiv 2311.11696, algorithm 1). `text` is
 * SPACING:A:B:COUNT, SPACING linear, log-linear (log of an even grid from e^a to e^b) or exp-linear (exp of an even grid
 * from ln a to ln b, a > 0). */
#define SORA_XI_MAX 64
sora_status sora_xi_list(const char *text, double out[SORA_XI_MAX], int *count, sora_error *error);

#endif
