/* SPDX-License-Identifier: Apache-2.0 */
#include "train/bench_training.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "train/bench_times.h"
#include "train/unet_task.h"

#include <stdlib.h>
#include <string.h>

#define MOST_STEPS 1000

static const sora_optimizer_options rule = { .weight_decay = 0.01f, .clip = 1.0f };

void sora_bench_training_close(sora_bench_training *t)
{
    sora_graph_destroy(&t->graph);
    sora_optimizer_destroy(&t->optimizer);
    sora_t5_destroy(&t->t5);
    sora_unet_destroy(&t->unet);
}

static sora_status fill_in(const sora_bench_options *options, sora_bench_options *o, bool *is_run, sora_error *error)
{
    static const char *const models[] = { "t5-small", "unet-fc", "unet" }, *const methods[] = { "full", "lora", "sora" };
    bool model = false, method = false;
    *o = *options;
    o->model = options->model ? options->model : "";
    o->method = options->method ? options->method : "sora";
    for (int i = 0; i < 3; i++) {
        model |= strcmp(o->model, models[i]) == 0;
        method |= strcmp(o->method, methods[i]) == 0;
    }
    *is_run = !model && sora_path_exists(o->model);
    if (!model && !*is_run)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "model \"%s\"; expected t5-small, unet-fc, unet or a run's folder",
                         o->model);
    if (!method && !*is_run)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "method \"%s\"; expected full, lora or sora", o->method);
    bool fc = strcmp(o->model, "unet-fc") == 0, t5 = strcmp(o->model, "t5-small") == 0;
    if (o->weights && strcmp(o->weights, "fp16") != 0 && strcmp(o->weights, "fp32") != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "weights \"%s\"; expected fp32 or fp16", o->weights);
    if (!o->target) o->target = t5 ? SORA_TARGET_T5 : "bottleneck.*";
    o->batch = sora_bench_or(o->batch, 8);
    o->rank = sora_bench_or(o->rank, fc ? 40 : 16);
    o->source = sora_bench_or(o->source, 256);
    o->target_length = sora_bench_or(o->target_length, 32);
    o->size = sora_bench_or(o->size, fc ? 256 : 128);
    o->steps = sora_bench_or(o->steps, 5);
    const int counts[] = { o->batch, o->rank, o->source, o->target_length, o->size, o->steps };
    for (size_t i = 0; i < SORA_COUNT(counts); i++)
        if (counts[i] < 1)
            return sora_fail(error, SORA_ERROR_ARGUMENT, "%d for batch, rank, lengths, size or steps; expected at least 1",
                             counts[i]);
    if (o->steps > MOST_STEPS || o->width < 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%d steps, width %d; expected at most %d steps", o->steps, o->width,
                         MOST_STEPS);
    return SORA_OK;
}

/* What trains: everything, or adapters. */
static sora_status adapt(const sora_bench_options *o, sora_layers *layers, sora_error *error)
{
    const sora_adapter_options adapter = { .kind = strcmp(o->method, "lora") == 0 ? SORA_ADAPTER_LORA : SORA_ADAPTER_SORA,
                                           .rank = o->rank };
    return strcmp(o->method, "full") == 0 ? SORA_OK : sora_adapt(layers, o->target, &adapter, NULL, error);
}

/* By its name with new weights and adapters, or a run's, whose options then are in *run. */
static sora_status create(sora_bench_training *t, const sora_t5_config *t5_shape, sora_run_options *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_bench_options *o = &t->o;
    char *path = NULL;
    if (t->is_run) {
        SORA_TRY(sora_format(&path, error, "%s/config.json", o->model));
        SORA_TRY(sora_run_options_read(path, run, error));
        SORA_TRY(run->task == SORA_TASK_T5 ? sora_t5_open(t->context, o->model, NULL, &t->t5, error)
                                           : sora_unet_open(t->context, o->model, &t->unet, error));
    } else if (strcmp(o->model, "t5-small") == 0) {
        sora_t5_config small;
        sora_t5_config_small(&small);
        SORA_TRY(sora_t5_create(t->context, t5_shape ? t5_shape : &small, 1, &t->t5, error));
        SORA_TRY(adapt(o, sora_t5_layers(t->t5), error));
    } else {
        const sora_unet_options network = { .model = o->model, .size = o->size, .width = o->width };
        SORA_TRY(sora_unet_create(t->context, &network, &t->unet, error));
        SORA_TRY(adapt(o, sora_unet_layers(t->unet), error));
    }
    if (t->unet) t->o.size = sora_unet_config(t->unet)->size;
cleanup:
    free(path);
    return status;
}

static sora_status build(sora_bench_training *t, const sora_t5_config *t5_shape, sora_unet_graph *image, sora_t5_graph *text,
                         sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_bench_options *o = &t->o;
    sora_run_options run = { 0 };
    const sora_graph_options graph = { .training = true, .batch = o->batch, .recompute = o->recompute };
    SORA_TRY(create(t, t5_shape, &run, error));
    double began = sora_bench_now();
    if (t->t5) {
        SORA_TRY(sora_t5_build(
            t->t5, &(sora_t5_graph_options) { .graph = graph, .source = o->source, .target = o->target_length }, text, error));
        t->params = sora_t5_params(t->t5);
        t->graph = text->graph;
        t->loss = text->loss;
    } else {
        const sora_unet_graph_options options = { .graph = graph,
                                                  .loss = sora_mask_loss_of(run.loss),
                                                  .batch_norm_frozen = strcmp(run.bn, "frozen") == 0 };
        SORA_TRY(sora_unet_build(t->unet, &options, image, error));
        t->params = sora_unet_params(t->unet);
        t->graph = image->graph;
        t->loss = image->loss;
    }
    t->plan_seconds = sora_bench_now() - began;
cleanup:
    return status;
}

static sora_status write_ids(sora_context *context, const sora_t5_graph *g, const sora_bench_options *o, int vocabulary,
                             sora_error *error)
{
    sora_status status = SORA_OK;
    sora_random_stream random = { .seed = 1, .purpose = SORA_PURPOSE_TEST };
    int32_t *ids = NULL;
    size_t batch = (size_t)o->batch, source = batch * (size_t)o->source, target = batch * (size_t)o->target_length;
    SORA_TRY(sora_allocate(source + 2 * target + batch, sizeof *ids, "bench", &ids, error));
    int32_t *labels = ids + source, *decoder = labels + target, *lengths = decoder + target;
    for (size_t i = 0; i < source + target; i++) ids[i] = 2 + (int32_t)(sora_random_uniform(&random) * (vocabulary - 2));
    for (size_t i = 0; i < target; i++) decoder[i] = i % (size_t)o->target_length ? labels[i - 1] : 0;
    for (size_t i = 0; i < batch; i++) lengths[i] = o->source;
    SORA_TRY(sora_graph_write(g->graph, g->source, ids, o->batch, error));
    SORA_TRY(sora_graph_write(g->graph, g->lengths, lengths, o->batch, error));
    SORA_TRY(sora_graph_write(g->graph, g->labels, labels, o->batch, error));
    SORA_TRY(sora_graph_write(g->graph, g->decoder, decoder, o->batch, error));
    SORA_TRY(sora_context_finish(context, error));
cleanup:
    free(ids);
    return status;
}

static sora_status write_images(sora_context *context, const sora_unet_graph *g, const sora_bench_options *o, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t pixels = (size_t)o->batch * (size_t)o->size * (size_t)o->size;
    sora_random_stream random = { .seed = 1, .purpose = SORA_PURPOSE_TEST };
    float *image = NULL;
    SORA_TRY(sora_allocate(4 * pixels, sizeof *image, "bench", &image, error));
    float *mask = image + 3 * pixels;
    for (size_t i = 0; i < 3 * pixels; i++) image[i] = (float)(2 * sora_random_uniform(&random) - 1);
    for (size_t i = 0; i < pixels; i++) mask[i] = image[i] > 0.84f; /* 8 % of the pixels */
    SORA_TRY(sora_graph_write(g->graph, g->image, image, o->batch, error));
    SORA_TRY(sora_graph_write(g->graph, g->mask, mask, o->batch, error));
    SORA_TRY(sora_context_finish(context, error));
cleanup:
    free(image);
    return status;
}

sora_status sora_bench_training_open(sora_context *context, const sora_bench_options *options, const sora_t5_config *t5_shape,
                                     sora_bench_training *t, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_unet_graph image = { 0 };
    sora_t5_graph text = { 0 };
    *t = (sora_bench_training) { .context = context };
    SORA_TRY(fill_in(options, &t->o, &t->is_run, error));
    SORA_TRY(build(t, t5_shape, &image, &text, error));
    if (t->o.weights && strcmp(t->o.weights, "fp16") == 0) SORA_TRY(sora_params_set_frozen_dtype(t->params, SORA_F16, error));
    t->predicted = sora_params_device_bytes(t->params, sora_optimizer_moments(&rule)) + sora_graph_stats(t->graph).arena_bytes +
                   sora_optimizer_device_bytes(t->params, &rule);
    SORA_TRY(sora_params_place(t->params, sora_optimizer_moments(&rule), error));
    SORA_TRY(sora_graph_prepare(t->graph, error));
    t->predicted += sora_context_memory(context).libraries;
    SORA_TRY(sora_params_upload(t->params, sora_optimizer_moments(&rule), error));
    SORA_TRY(sora_optimizer_create(t->params, &rule, &t->optimizer, error));
    SORA_TRY(t->t5 ? write_ids(context, &text, &t->o, sora_t5_describe(t->t5)->vocabulary, error)
                   : write_images(context, &image, &t->o, error));
cleanup:
    if (status != SORA_OK) sora_bench_training_close(t);
    return status;
}

sora_status sora_bench_training_run(sora_bench_training *t, int steps, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_optimizer_rates rates = { .lr = 1e-4f, .gate_lr = 1e-4f, .xi = 1e-5f };
    for (int i = 0; i < steps; i++) {
        SORA_TRY(sora_graph_forward(t->graph, t->o.batch, t->step++, 0, error));
        SORA_TRY(sora_params_zero_gradients(t->params, error));
        SORA_TRY(sora_graph_backward(t->graph, error));
        SORA_TRY(sora_optimizer_step(t->optimizer, t->graph, t->loss, &rates, 1, error));
        SORA_TRY(sora_context_finish(t->context, error));
    }
cleanup:
    return status;
}
