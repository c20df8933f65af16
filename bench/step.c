/* SPDX-License-Identifier: Apache-2.0 */
/* Small steps alone, with nothing measured, for callgrind to count the host's instructions of: launches are as many as in large
 * ones. */
#include "bench.h"

#include "soracl/bench.h"

#include <stdio.h>

sora_status bench_step(bench_state *state, sora_error *error)
{
    const sora_bench_options options = {
        .model = state->network, .batch = 1, .source = 16, .target_length = 8, .size = 64, .width = 8, .steps = state->steps
    };
    sora_bench_step step;
    sora_status status = sora_bench_run_step(state->context, &options, &step, error);
    if (status != SORA_OK) return status;
    printf("\n%d steps of %s: %llu launches each\n", state->steps, state->network, (unsigned long long)step.launches);
    json_object_set_new(
        state->json, "step",
        json_pack("{s:s, s:i, s:I}", "network", state->network, "steps", state->steps, "launches", (json_int_t)step.launches));
    return SORA_OK;
}
