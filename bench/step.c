/* SPDX-License-Identifier: Apache-2.0 */
/* Small steps alone, with nothing measured, for callgrind to count the host's instructions of: the layers of T5-small or of
 * unet-fc, adapted, but few numbers in each. */
#include "bench.h"

#include "train/bench_training.h"

#include <stdio.h>
#include <string.h>

enum { WARM = 2 };

/* callgrind collects while it is in here, so it stays a function. */
static __attribute__((noinline)) sora_status run_counted_steps(sora_bench_training *training, int steps, sora_error *error)
{
    return sora_bench_training_run(training, steps, error);
}

sora_status bench_step(bench_state *state, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_bench_training training = { 0 };
    const sora_bench_options few = {
        .model = state->network, .batch = 1, .rank = 4, .source = 16, .target_length = 8, .size = 64
    };
    sora_t5_config narrow;
    if (strcmp(state->network, "t5-small") != 0 && strcmp(state->network, "unet-fc") != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "network \"%s\"; expected t5-small or unet-fc", state->network);
    sora_t5_config_small(&narrow);
    narrow.vocabulary = 512;
    narrow.width = narrow.inner_width = 64;
    narrow.head_size = 8;
    SORA_TRY(sora_bench_training_open(state->context, &few, &narrow, &training, error));
    SORA_TRY(sora_bench_training_run(&training, WARM, error));
    uint64_t before = sora_context_work(state->context).launches;
    SORA_TRY(run_counted_steps(&training, state->steps, error));
    uint64_t launches = (sora_context_work(state->context).launches - before) / (uint64_t)state->steps;
    printf("\n%d steps of %s: %llu launches each\n", state->steps, state->network, (unsigned long long)launches);
cleanup:
    sora_bench_training_close(&training);
    return status;
}
