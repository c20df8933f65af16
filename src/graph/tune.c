/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/tune.h"

#include "base/file.h"
#include "base/random.h"
#include "cl/context.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 5
#define LEAST_SECONDS 0.004
/* A variant must be faster by this to be kept: less is noise. */
#define CLEARLY 0.97
/* One that takes so much longer at once than the fastest needs no second look. */
#define HOPELESS 1.5

static const sora_tunable *const tunables[] = { &sora_tunable_clblast, &sora_tunable_gemm, &sora_tunable_conv,
                                                &sora_tunable_conv_gradient, &sora_tunable_attention };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const sora_tunable *tunable_of(const char *op)
{
    for (size_t i = 0; i < SORA_COUNT(tunables); i++)
        if (strcmp(tunables[i]->op, op) == 0) return tunables[i];
    return NULL;
}

sora_status sora_tune_scratch(sora_context *context, uint64_t elements, sora_tune_operand *out, sora_error *error)
{
    if (elements == 0) return SORA_OK;
    sora_status status = sora_buffer_create(context, elements * sizeof(float), "operand", &out->buffer, error);
    if (status == SORA_OK) out->view = sora_view_dense(&out->buffer, 0, SORA_SHAPE((int64_t)elements));
    return status;
}

sora_status sora_tune_draw(sora_context *context, int stream, sora_shape shape, sora_tune_operand *out, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t elements = (size_t)sora_shape_elements(&shape);
    sora_random_stream random = { .seed = 1, .purpose = SORA_PURPOSE_TEST, .stream = (uint32_t)stream };
    SORA_TRY(sora_allocate(elements, sizeof *out->host, "operand", &out->host, error));
    for (size_t i = 0; i < elements; i++) out->host[i] = (float)(2.0 * sora_random_uniform(&random) - 1.0);
    SORA_TRY(sora_tune_scratch(context, elements, out, error));
    out->view = sora_view_dense(&out->buffer, 0, shape);
    SORA_TRY(sora_view_write(context, &out->view, out->host, error));
cleanup:
    return status;
}

void sora_tune_release(sora_tune_operand *operands, int count)
{
    for (int i = 0; i < count; i++) {
        sora_buffer_destroy(&operands[i].buffer);
        free(operands[i].host);
    }
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static sora_status time_launches(sora_context *context, const sora_tunable *t, void *self, const sora_tuning_variant *variant,
                                 int times, double *seconds, sora_error *error)
{
    sora_status status = SORA_OK;
    double began = now();
    for (int i = 0; i < times; i++) SORA_TRY(t->launch(self, variant, error));
    SORA_TRY(sora_context_finish(context, error));
    *seconds = (now() - began) / times;
cleanup:
    return status;
}

/* Behind a launch that isn't counted: in a training's step an op's scratch is near, as others had it just before; among variants
 * in turn it is far, and those with much scratch looked up to twice as slow as they are. */
static sora_status time_warm(sora_context *context, const sora_tunable *t, void *self, const sora_tuning_variant *variant,
                             int times, double *seconds, sora_error *error)
{
    double first;
    sora_status status = time_launches(context, t, self, variant, 1, &first, error);
    return status == SORA_OK ? time_launches(context, t, self, variant, times, seconds, error) : status;
}

/* Medians of every right variant, in turn; of one that is far behind at once the time that it took then. Wrong ones get INFINITY. */
static sora_status measure(sora_context *context, const sora_tunable *t, void *self, const sora_tuning_variant *variants,
                           int count, double *medians, int *wrong, sora_error *error)
{
    sora_status status = SORA_OK;
    double times[SORA_TUNE_VARIANTS][ROUNDS], fastest = INFINITY;
    int repeats[SORA_TUNE_VARIANTS];
    *wrong = 0;
    for (int v = 0; v < count; v++) {
        bool right;
        medians[v] = INFINITY;
        status = t->launch(self, &variants[v], error);
        if (status == SORA_ERROR_DEVICE && v > 0) {
            status = SORA_OK; /* the device can't do it */
            continue;
        }
        SORA_TRY(status);
        SORA_TRY(t->check(self, &right, error));
        *wrong += !right;
        if (!right) continue;
        SORA_TRY(time_launches(context, t, self, &variants[v], 1, &medians[v], error));
        fastest = fmin(fastest, medians[v]);
    }
    for (int v = 0; v < count; v++) {
        bool hopeful = medians[v] < INFINITY && (v == 0 || medians[v] <= HOPELESS * fastest);
        repeats[v] = hopeful ? (int)fmin(1000.0, 1.0 + LEAST_SECONDS / fmax(medians[v], 1e-6)) : 0;
    }
    for (int i = 0; i < count * ROUNDS; i++) {
        int v = t->apart ? i / ROUNDS : i % count, round = t->apart ? i % ROUNDS : i / count;
        if (repeats[v]) SORA_TRY(time_warm(context, t, self, &variants[v], repeats[v], &times[v][round], error));
    }
    for (int v = 0; v < count; v++) {
        if (!repeats[v]) continue;
        qsort(times[v], ROUNDS, sizeof times[v][0], rising);
        medians[v] = times[v][ROUNDS / 2];
    }
cleanup:
    return status;
}

static sora_status tune_shape(sora_context *context, const sora_tunable *t, const sora_tuning_entry *asked, sora_tune_row *row,
                              sora_error *error)
{
    sora_status status = SORA_OK;
    sora_tuning_variant variants[SORA_TUNE_VARIANTS];
    double medians[SORA_TUNE_VARIANTS];
    void *self = NULL;
    int count = t->variants(&sora_context_device(context)->limits, asked->shape, variants), best = 0;
    *row = (sora_tune_row) { .tried = count };
    t->describe(asked->shape, row->shape);
    t->name(&variants[0], row->standard);
    t->name(&variants[0], row->best);
    if (count < 2) return SORA_OK;
    SORA_TRY(t->prepare(context, asked->shape, &self, error));
    SORA_TRY(measure(context, t, self, variants, count, medians, &row->wrong, error));
    for (int v = 1; v < count; v++)
        if (medians[v] < medians[best]) best = v;
    row->standard_seconds = medians[0];
    /* A wrong default is left for whatever is right. */
    if (best > 0 && medians[best] < INFINITY && !(medians[best] >= CLEARLY * medians[0])) {
        sora_tuning_entry entry = *asked;
        entry.variant = variants[best];
        entry.seconds = medians[best];
        entry.standard = medians[0] < INFINITY ? medians[0] : 0.0;
        SORA_TRY(sora_tuning_set(context, &entry, error));
        row->changed = true;
    } else {
        best = 0;
        sora_tuning_unset(context, asked);
    }
    row->seconds = medians[best];
    t->name(&variants[best], row->best);
cleanup:
    t->release(self);
    return status;
}

static int more_work_first(const void *a, const void *b)
{
    const sora_tuning_entry *x = a, *y = b;
    double one = tunable_of(x->op)->flops(x->shape), other = tunable_of(y->op)->flops(y->shape);
    return (one < other) - (one > other);
}

sora_status sora_tune_run(sora_context *context, const sora_tune_options *options, sora_tune_row **rows, size_t *count,
                          sora_error *error)
{
    sora_status status = SORA_OK;
    sora_tuning *tuning = &context->tuning;
    size_t shapes = 0;
    double began = now();
    *rows = NULL;
    *count = 0;
    if (tuning->listening) return sora_fail(error, SORA_ERROR_ARGUMENT, "shapes are still being taken down");
    for (size_t i = 0; i < tuning->asked_count; i++)
        if (tunable_of(tuning->asked[i].op)) tuning->asked[shapes++] = tuning->asked[i];
    tuning->asked_count = shapes;
    if (shapes == 0) return sora_fail(error, SORA_ERROR_ARGUMENT, "nothing ran whose variants could be measured");
    qsort(tuning->asked, shapes, sizeof *tuning->asked, more_work_first);
    SORA_TRY(sora_allocate(shapes, sizeof **rows, "tuning", rows, error));
    while (*count < shapes) {
        const sora_tuning_entry *asked = &tuning->asked[*count];
        SORA_TRY(tune_shape(context, tunable_of(asked->op), asked, &(*rows)[*count], error));
        ++*count;
        double spent = now() - began, left = spent / (double)*count * (double)(shapes - *count);
        if (options->budget > 0.0 && spent + left > options->budget) left = options->budget - spent;
        if (options->progress && !options->progress(options->self, &(*rows)[*count - 1], *count, shapes, left)) break;
        if (options->budget > 0.0 && spent > options->budget) break;
    }
    if (tuning->path) {
        SORA_TRY(sora_folder_create(context->cache, error));
        SORA_TRY(sora_tuning_save(context, tuning->asked, *count, error));
    }
cleanup:
    tuning->asked_count = 0;
    if (status != SORA_OK) {
        free(*rows);
        *rows = NULL;
        *count = 0;
    }
    return status;
}
