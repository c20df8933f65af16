/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/launch.h"
#include "op/range.h"
#include "op/update.h"
#include "soracl/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHAINS 12
#define FMA_ROUNDS 65536
#define COPIED ((int64_t)1 << 24) /* floats */
#define EMPTY 1000
#define ROUNDS 7

typedef struct measurement {
    sora_context *context;
    sora_view from, to;
    char options[128];
    size_t items; /* of the multiply-adds */
    int width;
} measurement;

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

/* Seconds of a launch in rising order, each the mean of `times`, after one that compiles. */
static sora_status time_launches(const measurement *m, const char *kernel, size_t items, const sora_argument *arguments,
                                 int times, double took[ROUNDS], sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_launch_desc desc = {
        .file = "rates", .kernel = kernel, .options = m->options, .global = { items }, .arguments = arguments
    };
    SORA_TRY(sora_launch(m->context, &desc, error));
    SORA_TRY(sora_context_finish(m->context, error));
    for (int r = 0; r < ROUNDS; r++) {
        double began = now();
        for (int i = 0; i < times; i++) SORA_TRY(sora_launch(m->context, &desc, error));
        SORA_TRY(sora_context_finish(m->context, error));
        took[r] = (now() - began) / times;
    }
    qsort(took, ROUNDS, sizeof *took, rising);
cleanup:
    return status;
}

sora_status sora_bench_rates(sora_context *context, sora_rates *out, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    sora_buffer from = { 0 }, to = { 0 };
    measurement m = { .context = context, .width = SORA_MAX(4, sora_lanes(limits)) };
    double fma[ROUNDS], copy[ROUNDS], nothing[ROUNDS];
    *out = (sora_rates) { 0 };
    m.items = (size_t)limits->compute_units * (limits->type == SORA_DEVICE_CPU ? 8 : 2048);
    snprintf(m.options, sizeof m.options, "-D CHAINS=%d -D VECTOR=float%d -D VLOAD=vload%d -D VSTORE=vstore%d", CHAINS, m.width,
             m.width, m.width);
    SORA_TRY(sora_buffer_create(context, COPIED * sizeof(float), "copied", &from, error));
    SORA_TRY(sora_buffer_create(context, COPIED * sizeof(float), "copied", &to, error));
    m.from = sora_view_dense(&from, 0, SORA_SHAPE(COPIED));
    m.to = sora_view_dense(&to, 0, SORA_SHAPE(COPIED));
    /* Pages that were never written are all the same one. */
    SORA_TRY(sora_fill(context, &m.from, 1.0f, error));
    SORA_TRY(sora_fill(context, &m.to, 1.0f, error));
    SORA_TRY(time_launches(&m, "fma_rate", m.items,
                           SORA_ARGUMENTS(SORA_VIEW(&m.to), SORA_FLOAT(0.999f), SORA_FLOAT(0.001f), SORA_INT(FMA_ROUNDS)), 10,
                           fma, error));
    SORA_TRY(time_launches(&m, "copy_rate", (size_t)(COPIED / m.width), SORA_ARGUMENTS(SORA_VIEW(&m.from), SORA_VIEW(&m.to)), 4,
                           copy, error));
    SORA_TRY(time_launches(&m, "nothing", 1, SORA_ARGUMENTS(SORA_VIEW(&m.to)), EMPTY, nothing, error));
    /* A limit is what the device reaches undisturbed: with the other core taken for a moment it would be half of it. */
    out->flops = 2.0 * CHAINS * m.width * FMA_ROUNDS * (double)m.items / fma[0];
    out->bytes = 2.0 * sizeof(float) * (double)COPIED / copy[0];
    out->launch = nothing[ROUNDS / 2];
cleanup:
    sora_buffer_destroy(&from);
    sora_buffer_destroy(&to);
    return status;
}
