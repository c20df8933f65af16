/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "train/bench_times.h"
#include "train/bench_training.h"

#define WARM 2

sora_status sora_bench_run_step(sora_context *context, const sora_bench_options *options, sora_bench_step *out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_bench_training t = { 0 };
    double *seconds = NULL;
    *out = (sora_bench_step) { 0 };
    SORA_TRY(sora_bench_training_open(context, options, NULL, &t, error));
    int steps = WARM + t.o.steps;
    SORA_TRY(sora_allocate((size_t)steps, sizeof *seconds, "bench", &seconds, error));
    for (int i = 0; i < steps; i++) {
        sora_work_account before = sora_context_work(context);
        double began = sora_bench_now();
        SORA_TRY(sora_bench_training_run(&t, 1, error));
        seconds[i] = sora_bench_now() - began;
        sora_work_account after = sora_context_work(context);
        out->flops = after.flops - before.flops;
        out->launches = after.launches - before.launches;
    }
    SORA_TRY(sora_graph_read(t.graph, t.loss, &out->loss, error));
    sora_graph_statistics plan = sora_graph_stats(t.graph);
    out->plan_seconds = t.plan_seconds;
    out->first_seconds = seconds[0];
    sora_bench_sum_up(seconds + WARM, t.o.steps, &out->median, &out->min, &out->max);
    out->device_bytes_predicted = t.predicted;
    out->device_bytes_peak = sora_context_memory(context).peak;
    out->process_bytes_peak = sora_process_bytes_peak();
    out->arena_bytes = plan.arena_bytes;
    out->live_bytes = plan.live_bytes;
    out->moved_bytes = plan.moved_bytes;
    out->least_moved_bytes = plan.least_moved_bytes;
    out->trainable = sora_params_trainable_elements(t.params);
cleanup:
    free(seconds);
    sora_bench_training_close(&t);
    return status;
}
