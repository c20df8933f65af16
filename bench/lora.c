/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "train/bench_training.h"

#define ENOUGH 0.001 /* what adapters add is a tenth of a step, and what is left of it after compaction a third of that */

typedef struct lora_training {
    sora_context *context;
    sora_bench_options options;
    sora_bench_training training;
} lora_training;

static sora_status open_training(void *self, sora_error *error)
{
    lora_training *t = self;
    return sora_bench_training_open(t->context, &t->options, NULL, &t->training, error);
}

static void close_training(void *self)
{
    lora_training *t = self;
    sora_bench_training_close(&t->training);
}

static sora_status run_steps(void *self, int times, sora_error *error)
{
    lora_training *t = self;
    return sora_bench_training_run(&t->training, times, error);
}

/* Whole steps of our SoRA beside our LoRA's, one of each in turn: what a gate adds is less than what one process differs from the
 * next. Then SoRA once compacted to a quarter of the rank, and, for what adapters take of a step, T5 with the least of them: the
 * first layers that any gradient has to come back to, with rank 1. */
sora_status bench_lora(bench_state *state, sora_error *error)
{
    bench_state steps = *state;
    steps.enough = ENOUGH;
    static const struct {
        const char *network, *first;
        int rank;
    } networks[] = { { "t5-small", "(en|de)coder\\.block\\.0\\.layer\\.0\\.SelfAttention\\.q", 16 }, { "unet-fc", NULL, 40 } };
    for (size_t n = 0; n < SORA_COUNT(networks); n++) {
        const char *network = networks[n].network;
        int rank = networks[n].rank;
        const sora_bench_options options[] = { { .model = network, .method = "lora", .rank = rank },
                                               { .model = network, .method = "sora", .rank = rank },
                                               { .model = network, .method = "sora", .rank = rank / 4 },
                                               { .model = network, .method = "sora", .rank = 1, .target = networks[n].first } };
        size_t count = SORA_COUNT(options) - !networks[n].first;
        lora_training trainings[SORA_COUNT(options)] = { 0 };
        bench_item items[SORA_COUNT(options)] = { { .name = "LoRA" },
                                                  { .name = "SoRA", .beside = "LoRA" },
                                                  { .name = "SoRA, compacted", .beside = "LoRA" },
                                                  { .name = "SoRA, hardly any", .beside = "LoRA" } };
        for (size_t i = 0; i < count; i++) {
            trainings[i] = (lora_training) { .context = state->context, .options = options[i] };
            items[i].place = open_training;
            items[i].leave = close_training;
            items[i].run = run_steps;
            items[i].self = &trainings[i];
        }
        sora_status status = bench_group(&steps, network, items, count, error);
        for (size_t i = 0; i < count; i++) close_training(&trainings[i]);
        if (status != SORA_OK) return status;
    }
    return SORA_OK;
}
