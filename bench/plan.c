/* SPDX-License-Identifier: Apache-2.0 */
/* What planning costs on the host: a training run's graphs of T5-small's shape, one for each of eight lengths. */
#include "bench.h"

#include "model/t5.h"
#include "soracl/train.h"

enum { BUCKETS = 8, BATCH = 8, RANK = 16, SOURCE = 512, TARGET = 64 };

/* Building, autodiff and plan of all buckets; the longest owns the memory, which is never taken. */
static sora_status plan_buckets(void *self, int times, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5 *t5 = self;
    sora_t5_graph graphs[BUCKETS] = { 0 };
    for (int i = 0; i < times; i++) {
        for (int b = BUCKETS; b > 0; b--) {
            const sora_graph_options options = { .training = true, .batch = BATCH, .share = graphs[BUCKETS - 1].graph };
            SORA_TRY(sora_t5_build(
                t5, &(sora_t5_graph_options) { .graph = options, .source = SOURCE * b / BUCKETS, .target = TARGET * b / BUCKETS },
                &graphs[b - 1], error));
        }
        for (int b = 0; b < BUCKETS; b++) sora_graph_destroy(&graphs[b].graph);
    }
cleanup:
    for (int b = 0; b < BUCKETS; b++) sora_graph_destroy(&graphs[b].graph);
    return status;
}

sora_status bench_plan(bench_state *state, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5 *t5 = NULL;
    sora_t5_config small;
    bench_item item = { .name = "8 lengths of t5-small, up to 512 / 64, rank 16", .run = plan_buckets };
    sora_t5_config_small(&small);
    SORA_TRY(sora_t5_allocate(state->context, &small, &t5, error));
    SORA_TRY(
        sora_adapt(sora_t5_layers(t5), SORA_TARGET_T5, &(sora_adapter_options) { .rank = RANK, .alpha = RANK }, NULL, error));
    item.self = t5;
    SORA_TRY(bench_group(state, "graphs planned on the host", &item, 1, error));
cleanup:
    sora_t5_destroy(&t5);
    return status;
}
