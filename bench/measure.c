/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_ROUNDS 1001
#define LEAST_ROUNDS 5
#define LEAST_SECONDS 0.04
#define PLACE_ROUNDS 8

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *values, size_t count)
{
    qsort(values, count, sizeof *values, rising);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static const double *beside(const bench_item *items, size_t count, double (*times)[MAX_ROUNDS], const char *name)
{
    for (size_t i = 0; name && i < count; i++)
        if (strcmp(items[i].name, name) == 0) return times[i];
    return NULL;
}

/* Where a median lies by the order of values, without any guess about how they spread (Conover, Practical Nonparametric
 * Statistics, 3.2): of so many values at either end. Sorts values[count ≥ 1]. */
static void sum_up_ratio(double *values, size_t count, bench_item *item)
{
    size_t outside = (size_t)fmax(0, floor(((double)count - 1.96 * sqrt((double)count)) / 2));
    item->ratio = median_of(values, count);
    item->ratio_low = values[outside];
    item->ratio_high = values[count - 1 - outside];
}

/* Whether every ratio is known well enough; false where there is none. */
static bool sum_up_ratios(bench_item *items, size_t count, double (*times)[MAX_ROUNDS], size_t rounds, double close)
{
    bool any = false, enough = true;
    for (size_t i = 0; i < count; i++) {
        const double *other = beside(items, count, times, items[i].beside);
        double ratios[MAX_ROUNDS];
        if (!other) continue;
        for (size_t r = 0; r < rounds; r++) ratios[r] = other[r] / times[i][r];
        sum_up_ratio(ratios, rounds, &items[i]);
        any = true;
        enough &= items[i].ratio_high - items[i].ratio_low <= 2 * close * items[i].ratio;
    }
    return any && enough;
}

/* With item `first` first; they run once, which compiles and touches everything. */
static sora_status place(bench_item *items, size_t count, size_t first, sora_error *error)
{
    sora_status status = SORA_OK;
    for (size_t i = 0; i < count; i++)
        if (items[i].leave) items[i].leave(items[i].self);
    for (size_t turn = 0; turn < count; turn++) {
        bench_item *item = &items[(turn + first) % count];
        if (item->place) SORA_TRY(item->place(item->self, error));
    }
    for (size_t i = 0; i < count; i++) SORA_TRY(items[i].run(items[i].self, 1, error));
cleanup:
    return status;
}

/* Not by sleeping: a processor that slept takes a while to be as fast again. */
static sora_status settle(bench_item *item, double seconds, sora_error *error)
{
    sora_status status = SORA_OK;
    for (double start = now(); status == SORA_OK && now() - start < seconds;) status = item->run(item->self, 1, error);
    return status;
}

static sora_status measure(const bench_state *state, bench_item *items, size_t count, double (*times)[MAX_ROUNDS],
                           sora_error *error)
{
    sora_status status = SORA_OK;
    double start = 0, busy = 0;
    int *repeats = NULL;
    size_t rounds = 0;
    SORA_TRY(sora_allocate(count, sizeof *repeats, "bench", &repeats, error));
    SORA_TRY(place(items, count, 0, error));
    for (size_t i = 0; i < count; i++) {
        double took;
        for (repeats[i] = 1;; repeats[i] = (int)fmin(100000, 1 + repeats[i] * fmin(10, 1.2 * LEAST_SECONDS / took))) {
            double began = now();
            SORA_TRY(items[i].run(items[i].self, repeats[i], error));
            took = fmax(now() - began, 1e-6);
            if (took >= LEAST_SECONDS || repeats[i] >= 100000) break;
        }
    }
    bool enough = false;
    for (start = now(); rounds < LEAST_ROUNDS || (rounds < MAX_ROUNDS && !enough && now() - start < state->seconds);) {
        if (items[0].place && rounds && rounds % PLACE_ROUNDS == 0) SORA_TRY(place(items, count, rounds / PLACE_ROUNDS, error));
        for (size_t turn = 0; turn < count; turn++) {
            size_t i = (turn + rounds) % count; /* what ran before has left its own data near */
            SORA_TRY(settle(&items[i], busy, error));
            double began = now();
            SORA_TRY(items[i].run(items[i].self, repeats[i], error));
            times[i][rounds] = (now() - began) / repeats[i];
            busy = items[i].busy_after;
        }
        enough = sum_up_ratios(items, count, times, ++rounds, state->enough);
    }
    for (size_t i = 0; i < count; i++) {
        double sorted[MAX_ROUNDS];
        memcpy(sorted, times[i], rounds * sizeof *sorted);
        items[i].rounds = rounds;
        items[i].median = median_of(sorted, rounds);
        items[i].least = sorted[0];
        items[i].most = sorted[rounds - 1];
    }
cleanup:
    free(repeats);
    return status;
}

sora_status bench_group(bench_state *state, const char *group, bench_item *items, size_t count, sora_error *error)
{
    sora_status status = SORA_OK;
    double(*times)[MAX_ROUNDS] = NULL;
    SORA_TRY(sora_allocate(count, sizeof *times, "bench", &times, error));
    SORA_TRY(measure(state, items, count, times, error));
    json_t *list = json_array();
    printf("\n%-52s %11s %19s %9s %7s  %s\n", group, "median", "least .. most", "GFLOP/s", "GB/s", "");
    for (size_t i = 0; i < count; i++) {
        const bench_item *b = &items[i];
        char spread[48], rate[16] = "", traffic[16] = "", note[128] = "";
        snprintf(spread, sizeof spread, "%.3f .. %.3f", 1e3 * b->least, 1e3 * b->most);
        if (b->flops > 0) snprintf(rate, sizeof rate, "%.1f", 1e-9 * b->flops / b->median);
        if (b->bytes > 0) snprintf(traffic, sizeof traffic, "%.1f", 1e-9 * b->bytes / b->median);
        if (b->ratio > 0)
            snprintf(note, sizeof note, "%.2f x the speed of %s (%.2f to %.2f, %zu rounds)", b->ratio, b->beside, b->ratio_low,
                     b->ratio_high, b->rounds);
        else if (b->flops > 0 && state->flops > 0)
            snprintf(note, sizeof note, "%.0f %% of the device's rate", 100 * b->flops / b->median / state->flops);
        printf("%-52s %8.3f ms %19s %9s %7s  %s\n", b->name, 1e3 * b->median, spread, rate, traffic, note);
        json_t *one = json_pack("{s:s, s:f, s:f, s:f, s:f, s:f}", "name", b->name, "seconds", b->median, "min", b->least, "max",
                                b->most, "flops", b->flops, "bytes", b->bytes);
        if (b->ratio > 0) {
            json_object_set_new(one, "beside", json_string(b->beside));
            json_object_set_new(one, "speed_ratio", json_real(b->ratio));
            json_object_set_new(one, "speed_ratio_low", json_real(b->ratio_low));
            json_object_set_new(one, "speed_ratio_high", json_real(b->ratio_high));
            json_object_set_new(one, "rounds", json_integer((json_int_t)b->rounds));
        }
        json_t *each = json_array();
        for (size_t r = 0; r < b->rounds; r++) json_array_append_new(each, json_real(times[i][r]));
        json_object_set_new(one, "times", each);
        json_array_append_new(list, one);
    }
    json_object_set_new(state->json, group, list);
    fflush(stdout);
cleanup:
    free(times);
    return status;
}
