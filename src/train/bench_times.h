/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_BENCH_TIMES_H
#define SORA_TRAIN_BENCH_TIMES_H

#include <stdlib.h>
#include <time.h>

/* What bench_step and bench_generate share. */

static inline double sora_bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline int sora_bench_rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts seconds[count ≥ 1]. */
static inline void sora_bench_sum_up(double *seconds, int count, double *median, double *min, double *max)
{
    qsort(seconds, (size_t)count, sizeof *seconds, sora_bench_rising);
    *min = seconds[0];
    *max = seconds[count - 1];
    *median = (seconds[count / 2] + seconds[(count - 1) / 2]) / 2;
}

/* An option's value, or its default where it is 0. */
static inline int sora_bench_or(int value, int standard)
{
    return value ? value : standard;
}

#endif
