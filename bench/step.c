/* SPDX-License-Identifier: Apache-2.0 */
/* Small steps alone, with nothing measured, for callgrind to count the host's instructions of: the layers of T5-small or of
 * unet-fc, adapted, but few numbers in each. */
#include "bench.h"

#include "soracl/optimizer.h"
#include "soracl/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 1, SOURCE = 16, TARGET = 8, SIDE = 64, RANK = 4, WARM = 2 };

typedef struct training {
    sora_t5 *t5;
    sora_unet *unet;
    sora_params *params;
    sora_graph *graph;
    sora_tensor *loss;
    sora_optimizer *optimizer;
} training;

static const sora_optimizer_options rule = { .weight_decay = 0.01f, .clip = 1 };
static const sora_adapter_options adapter = { .rank = RANK };

static void close_training(training *t)
{
    sora_graph_destroy(&t->graph);
    sora_optimizer_destroy(&t->optimizer);
    sora_t5_destroy(&t->t5);
    sora_unet_destroy(&t->unet);
}

static sora_status upload(training *t, sora_error *error)
{
    sora_status status = sora_params_upload(t->params, sora_optimizer_moments(&rule), error);
    return status == SORA_OK ? sora_optimizer_create(t->params, &rule, &t->optimizer, error) : status;
}

static sora_status open_t5(sora_context *context, training *t, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5_graph g = { 0 };
    const sora_t5_graph_options options = { .graph = { .training = true, .batch = BATCH }, .source = SOURCE, .target = TARGET };
    const int32_t ids[BATCH * SOURCE] = { 0 }, lengths[BATCH] = { SOURCE };
    sora_t5_config narrow;
    sora_t5_config_small(&narrow);
    narrow.vocabulary = 512;
    narrow.width = narrow.inner_width = 64;
    narrow.head_size = 8;
    SORA_TRY(sora_t5_create(context, &narrow, 1, &t->t5, error));
    SORA_TRY(sora_adapt(sora_t5_layers(t->t5), SORA_TARGET_T5, &adapter, NULL, error));
    t->params = sora_t5_params(t->t5);
    SORA_TRY(sora_t5_build(t->t5, &options, &g, error));
    t->graph = g.graph;
    t->loss = g.loss;
    SORA_TRY(upload(t, error));
    SORA_TRY(sora_graph_write(g.graph, g.source, ids, BATCH, error));
    SORA_TRY(sora_graph_write(g.graph, g.lengths, lengths, BATCH, error));
    SORA_TRY(sora_graph_write(g.graph, g.decoder, ids, BATCH, error));
    SORA_TRY(sora_graph_write(g.graph, g.labels, ids, BATCH, error));
    SORA_TRY(sora_context_finish(context, error));
cleanup:
    return status;
}

static sora_status open_unet(sora_context *context, training *t, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_unet_graph g = { 0 };
    const sora_unet_graph_options options = { .graph = { .training = true, .batch = BATCH } };
    float *pixels = NULL;
    SORA_TRY(sora_unet_create(context, &(sora_unet_options) { .size = SIDE }, &t->unet, error));
    SORA_TRY(sora_adapt(sora_unet_layers(t->unet), "bottleneck", &adapter, NULL, error));
    t->params = sora_unet_params(t->unet);
    SORA_TRY(sora_unet_build(t->unet, &options, &g, error));
    t->graph = g.graph;
    t->loss = g.loss;
    SORA_TRY(upload(t, error));
    SORA_TRY(sora_allocate(3 * BATCH * SIDE * SIDE, sizeof *pixels, "bench", &pixels, error));
    SORA_TRY(sora_graph_write(g.graph, g.image, pixels, BATCH, error));
    SORA_TRY(sora_graph_write(g.graph, g.mask, pixels, BATCH, error));
    SORA_TRY(sora_context_finish(context, error));
cleanup:
    free(pixels);
    return status;
}

static sora_status run_steps(sora_context *context, training *t, int steps, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_optimizer_rates rates = { .lr = 1e-5f, .gate_lr = 1e-5f, .xi = 1e-9f };
    for (int i = 0; i < steps; i++) {
        SORA_TRY(sora_graph_forward(t->graph, BATCH, (uint32_t)i, 0, error));
        SORA_TRY(sora_params_zero_gradients(t->params, error));
        SORA_TRY(sora_graph_backward(t->graph, error));
        SORA_TRY(sora_optimizer_step(t->optimizer, t->graph, t->loss, &rates, 1, error));
        SORA_TRY(sora_context_finish(context, error));
    }
cleanup:
    return status;
}

/* callgrind collects while it is in here, so it stays a function. */
static __attribute__((noinline)) sora_status run_counted_steps(sora_context *context, training *t, int steps, sora_error *error)
{
    return run_steps(context, t, steps, error);
}

sora_status bench_step(bench_state *state, sora_error *error)
{
    sora_status status = SORA_OK;
    training t = { 0 };
    bool t5 = strcmp(state->network, "t5-small") == 0;
    if (!t5 && strcmp(state->network, "unet-fc") != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "network \"%s\"; expected t5-small or unet-fc", state->network);
    SORA_TRY(t5 ? open_t5(state->context, &t, error) : open_unet(state->context, &t, error));
    SORA_TRY(run_steps(state->context, &t, WARM, error));
    uint64_t before = sora_context_work(state->context).launches;
    SORA_TRY(run_counted_steps(state->context, &t, state->steps, error));
    uint64_t launches = (sora_context_work(state->context).launches - before) / (uint64_t)state->steps;
    printf("\n%d steps of %s: %llu launches each\n", state->steps, state->network, (unsigned long long)launches);
cleanup:
    close_training(&t);
    return status;
}
