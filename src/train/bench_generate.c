/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "base/random.h"
#include "soracl/bench.h"
#include "soracl/t5.h"
#include "soracl/train.h"
#include "train/bench_times.h"

#include <stdlib.h>
#include <string.h>

#define MOST_RUNS 1000

static sora_status fill_in(const sora_bench_generate_options *options, sora_bench_generate_options *o, sora_error *error)
{
    *o = (sora_bench_generate_options) { .model = options->model ? options->model : "",
                                         .batch = sora_bench_or(options->batch, 8),
                                         .source = sora_bench_or(options->source, 256),
                                         .new_tokens = sora_bench_or(options->new_tokens, 32),
                                         .beams = sora_bench_or(options->beams, 1),
                                         .runs = sora_bench_or(options->runs, 5) };
    if (strcmp(o->model, "t5-small") != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "model \"%s\"; expected t5-small", o->model);
    const int counts[] = { o->batch, o->source, o->new_tokens, o->beams, o->runs };
    for (size_t i = 0; i < SORA_COUNT(counts); i++)
        if (counts[i] < 1)
            return sora_fail(error, SORA_ERROR_ARGUMENT, "%d for batch, source, new tokens, beams or runs; expected at least 1",
                             counts[i]);
    if (o->runs > MOST_RUNS) return sora_fail(error, SORA_ERROR_ARGUMENT, "%d runs; expected at most %d", o->runs, MOST_RUNS);
    return SORA_OK;
}

static void free_outputs(sora_t5_output *outputs, int count)
{
    for (int i = 0; i < count; i++) {
        free(outputs[i].ids);
        outputs[i] = (sora_t5_output) { 0 };
    }
}

/* Text `i` is sources[i], `options` forces every output's length. */
static sora_status run_one(sora_t5_generator *generator, const int32_t *const *sources, const int *lengths,
                           const sora_bench_generate_options *o, sora_t5_output *outputs, double *seconds, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5_generation how;
    sora_t5_generation_default(&how);
    how.beams = o->beams;
    how.min_length = how.max_length = o->new_tokens + 1; /* the start token is counted */
    double began = sora_bench_now();
    SORA_TRY(sora_t5_generate(generator, sources, lengths, o->batch, NULL, &how, NULL, outputs, error));
    *seconds = sora_bench_now() - began;
    for (int i = 0; i < o->batch; i++)
        if (outputs[i].count != o->new_tokens)
            SORA_TRY(
                sora_fail(error, SORA_ERROR_NUMERIC, "output %d has %d tokens; expected %d", i, outputs[i].count, o->new_tokens));
cleanup:
    free_outputs(outputs, o->batch);
    return status;
}

sora_status sora_bench_run_generate(sora_context *context, const sora_bench_generate_options *options, sora_bench_generation *out,
                                    sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5 *t5 = NULL;
    sora_t5_generator *generator = NULL;
    sora_bench_generate_options o;
    sora_t5_config small;
    sora_random_stream random = { .seed = 1, .purpose = SORA_PURPOSE_TEST };
    int32_t *ids = NULL;
    const int32_t **sources = NULL;
    int *lengths = NULL;
    sora_t5_output *outputs = NULL;
    double *seconds = NULL;
    *out = (sora_bench_generation) { 0 };
    SORA_TRY(fill_in(options, &o, error));
    size_t batch = (size_t)o.batch, length = (size_t)o.source;
    SORA_TRY(sora_allocate(batch * length, sizeof *ids, "bench", &ids, error));
    SORA_TRY(sora_allocate(batch, sizeof *sources, "bench", &sources, error));
    SORA_TRY(sora_allocate(batch, sizeof *lengths, "bench", &lengths, error));
    SORA_TRY(sora_allocate(batch, sizeof *outputs, "bench", &outputs, error));
    SORA_TRY(sora_allocate((size_t)o.runs + 1, sizeof *seconds, "bench", &seconds, error));
    for (size_t i = 0; i < batch * length; i++) ids[i] = 2 + (int32_t)(sora_random_uniform(&random) * 31998);
    for (size_t i = 0; i < batch; i++) {
        sources[i] = ids + i * length;
        lengths[i] = o.source;
    }
    sora_t5_config_small(&small);
    SORA_TRY(sora_t5_create(context, &small, 1, &t5, error));
    sora_params_freeze(sora_t5_params(t5));
    SORA_TRY(sora_t5_generator_create(
        t5,
        &(sora_t5_generator_options) { .batch = o.batch, .source = o.source, .beams = o.beams, .max_length = o.new_tokens + 1 },
        &generator, error));
    SORA_TRY(sora_params_upload(sora_t5_params(t5), 0, error));
    for (int i = 0; i <= o.runs; i++) {
        sora_work_account before = sora_context_work(context);
        SORA_TRY(run_one(generator, sources, lengths, &o, outputs, &seconds[i], error));
        sora_work_account after = sora_context_work(context);
        out->flops = after.flops - before.flops;
        out->launches = after.launches - before.launches;
    }
    out->first_seconds = seconds[0];
    sora_bench_sum_up(seconds + 1, o.runs, &out->median, &out->min, &out->max);
    out->tokens_per_second = o.batch * o.new_tokens / out->median;
    out->device_bytes_peak = sora_context_memory(context).peak;
    out->process_bytes_peak = sora_process_bytes_peak();
cleanup:
    sora_t5_generator_destroy(&generator);
    sora_t5_destroy(&t5);
    free(seconds);
    free(outputs);
    free(lengths);
    free(sources);
    free(ids);
    return status;
}
