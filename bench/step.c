/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "base/random.h"
#include "soracl/optimizer.h"
#include "soracl/train.h"

#include <stdio.h>
#include <stdlib.h>

/* One network in training. */
typedef struct training {
    sora_context *context;
    sora_unet *unet;
    sora_unet_graph graph;
    sora_optimizer *optimizer;
    uint32_t step;
} training;

static void close_training(training *t)
{
    sora_graph_destroy(&t->graph.graph);
    sora_optimizer_destroy(&t->optimizer);
    sora_unet_destroy(&t->unet);
}

/* target NULL: everything trains. */
static sora_status open_training(sora_context *context, const sora_unet_options *network, int batch, const char *target, int rank,
                                 sora_adapter_kind kind, training *t, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_optimizer_options rule = { .weight_decay = 0.01f, .clip = 1 };
    float *image = NULL;
    *t = (training) { .context = context };
    SORA_TRY(sora_unet_create(context, network, &t->unet, error));
    if (target)
        SORA_TRY(
            sora_adapt(sora_unet_layers(t->unet), target, &(sora_adapter_options) { .kind = kind, .rank = rank }, NULL, error));
    SORA_TRY(sora_params_upload(sora_unet_params(t->unet), sora_optimizer_moments(&rule), error));
    SORA_TRY(sora_optimizer_create(sora_unet_params(t->unet), &rule, &t->optimizer, error));
    SORA_TRY(
        sora_unet_build(t->unet, &(sora_unet_graph_options) { .graph = { .training = true, .batch = batch } }, &t->graph, error));
    size_t pixels = (size_t)batch * (size_t)sora_unet_config(t->unet)->size * (size_t)sora_unet_config(t->unet)->size;
    SORA_TRY(sora_allocate(3 * pixels, sizeof *image, "bench", &image, error));
    sora_random_stream random = { .seed = 1, .purpose = SORA_PURPOSE_TEST };
    for (size_t i = 0; i < 3 * pixels; i++) image[i] = (float)(2 * sora_random_uniform(&random) - 1);
    SORA_TRY(sora_graph_write(t->graph.graph, t->graph.image, image, batch, error));
    for (size_t i = 0; i < pixels; i++) image[i] = image[i] > 0.8f;
    SORA_TRY(sora_context_finish(context, error));
    SORA_TRY(sora_graph_write(t->graph.graph, t->graph.mask, image, batch, error));
    SORA_TRY(sora_context_finish(context, error));
cleanup:
    free(image);
    if (status != SORA_OK) close_training(t);
    return status;
}

static sora_status run_steps(void *self, int times, sora_error *error)
{
    training *t = self;
    sora_status status = SORA_OK;
    const sora_optimizer_rates rates = { .lr = 1e-5f, .gate_lr = 1e-5f, .xi = 1e-9f };
    int batch = (int)sora_tensor_shape(t->graph.image).dim[0];
    for (int i = 0; i < times; i++) {
        SORA_TRY(sora_graph_forward(t->graph.graph, batch, t->step++, 0, error));
        SORA_TRY(sora_params_zero_gradients(sora_unet_params(t->unet), error));
        SORA_TRY(sora_graph_backward(t->graph.graph, error));
        SORA_TRY(sora_optimizer_step(t->optimizer, t->graph.graph, t->graph.loss, &rates, 1, error));
    }
    SORA_TRY(sora_context_finish(t->context, error));
cleanup:
    return status;
}

static sora_status bench_network(bench_state *state, const char *group, const sora_unet_options *network, int batch,
                                 const char *some, int some_rank, sora_error *error)
{
    sora_status status = SORA_OK;
    const struct {
        const char *name, *target, *beside;
        int rank;
        sora_adapter_kind kind;
    } methods[] = {
        { "full", NULL, NULL, 0, SORA_ADAPTER_SORA },
        { "LoRA, bottleneck", some, "full", some_rank, SORA_ADAPTER_LORA },
        { "SoRA, bottleneck", some, "LoRA, bottleneck", some_rank, SORA_ADAPTER_SORA },
        { "LoRA, all", SORA_TARGET_ALL, "full", 8, SORA_ADAPTER_LORA },
        { "SoRA, all", SORA_TARGET_ALL, "LoRA, all", 8, SORA_ADAPTER_SORA },
    };
    training runs[SORA_COUNT(methods)] = { 0 };
    bench_item items[SORA_COUNT(methods)] = { 0 };
    for (size_t i = 0; i < SORA_COUNT(methods); i++) {
        SORA_TRY(
            open_training(state->context, network, batch, methods[i].target, methods[i].rank, methods[i].kind, &runs[i], error));
        items[i] = (bench_item) { .beside = methods[i].beside, .run = run_steps, .self = &runs[i] };
        snprintf(items[i].name, sizeof items[i].name, "%s", methods[i].name);
    }
    SORA_TRY(bench_group(state, group, items, SORA_COUNT(methods), error));
cleanup:
    for (size_t i = 0; i < SORA_COUNT(methods); i++) close_training(&runs[i]);
    return status;
}

sora_status bench_step(bench_state *state, sora_error *error)
{
    sora_status status = SORA_OK;
    SORA_TRY(
        bench_network(state, "step of unet-fc, 128, batch 8", &(sora_unet_options) { .size = 128 }, 8, "bottleneck", 40, error));
    SORA_TRY(
        bench_network(state, "step of unet-fc, 256, batch 8", &(sora_unet_options) { .size = 256 }, 8, "bottleneck", 40, error));
    SORA_TRY(bench_network(state, "step of unet, width 32, 128, batch 2",
                           &(sora_unet_options) { .model = "unet", .size = 128, .width = 32 }, 2, "bottleneck.*", 8, error));
cleanup:
    return status;
}
