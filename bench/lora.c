/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "train/bench_training.h"

static sora_status run_steps(void *self, int times, sora_error *error)
{
    return sora_bench_training_run(self, times, error);
}

/* Whole steps of our SoRA beside our LoRA's, one of each in turn: what a gate adds is less than what one process differs from the
 * next. Then SoRA once compacted to a quarter of the rank. */
sora_status bench_lora(bench_state *state, sora_error *error)
{
    static const struct {
        const char *network;
        int rank;
    } networks[] = { { "t5-small", 16 }, { "unet-fc", 40 } };
    for (size_t n = 0; n < SORA_COUNT(networks); n++) {
        sora_status status = SORA_OK;
        const char *network = networks[n].network;
        int rank = networks[n].rank;
        const sora_bench_options options[] = { { .model = network, .method = "lora", .rank = rank },
                                               { .model = network, .method = "sora", .rank = rank },
                                               { .model = network, .method = "sora", .rank = rank / 4 } };
        sora_bench_training trainings[SORA_COUNT(options)] = { 0 };
        bench_item items[SORA_COUNT(options)] = { { .name = "LoRA" },
                                                  { .name = "SoRA", .beside = "LoRA" },
                                                  { .name = "SoRA, compacted", .beside = "LoRA" } };
        for (size_t i = 0; i < SORA_COUNT(options); i++) {
            SORA_TRY(sora_bench_training_open(state->context, &options[i], NULL, &trainings[i], error));
            items[i].run = run_steps;
            items[i].self = &trainings[i];
        }
        SORA_TRY(bench_group(state, network, items, SORA_COUNT(items), error));
    cleanup:
        for (size_t i = 0; i < SORA_COUNT(options); i++) sora_bench_training_close(&trainings[i]);
        if (status != SORA_OK) return status;
    }
    return SORA_OK;
}
