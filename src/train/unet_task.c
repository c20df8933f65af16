/* SPDX-License-Identifier: Apache-2.0 */
#include "train/unet_task.h"

#include "graph/params.h"
#include "train/run_folder.h"
#include "train/run_weights.h"
#include "train/unet_measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sora_status build(void *self, int batch, uint64_t *arena_bytes, sora_error *error)
{
    sora_unet_task *task = self;
    sora_status status = SORA_OK;
    const sora_run_options *o = &task->options;
    bool adapters = sora_run_has_adapters(o);
    sora_unet_graph_options options = { .graph = { .training = true, .batch = batch, .seed = o->seed, .recompute = o->recompute },
                                        .loss = sora_mask_loss_of(o->loss),
                                        .batch_norm_frozen = adapters && strcmp(o->bn, "frozen") == 0,
                                        .dropout = adapters ? 0.0f : (float)o->dropout };
    SORA_TRY(sora_unet_build(task->unet, &options, &task->train, error));
    options.graph.training = false;
    options.graph.share = task->train.graph;
    SORA_TRY(sora_unet_build(task->unet, &options, &task->eval, error));
    uint64_t train_bytes = sora_graph_stats(task->train.graph).arena_bytes,
             eval_bytes = sora_graph_stats(task->eval.graph).arena_bytes;
    *arena_bytes = SORA_MAX(train_bytes, eval_bytes);
cleanup:
    return status;
}

static sora_status prepare(void *self, sora_error *error)
{
    sora_unet_task *task = self;
    sora_status status = sora_graph_prepare(task->train.graph, error);
    return status == SORA_OK ? sora_graph_prepare(task->eval.graph, error) : status;
}

static void drop(void *self)
{
    sora_unet_task *task = self;
    sora_graph_destroy(&task->eval.graph);
    sora_graph_destroy(&task->train.graph);
}

static sora_loader_options loader_options(const sora_unet_task *task, bool training)
{
    const sora_run_options *o = &task->options;
    sora_loader_options options = { .size = sora_unet_config(task->unet)->size,
                                    .batch = o->batch,
                                    .shuffle = training,
                                    .augment = training && o->augment,
                                    .seed = o->seed,
                                    .threads = o->threads };
    sora_unet_normalisation(task->unet, options.mean, options.deviation);
    return options;
}

static sora_status seek(void *self, uint64_t batch, sora_error *error)
{
    sora_unet_task *task = self;
    sora_loader_options options = loader_options(task, true);
    options.start_batch = batch;
    sora_loader_destroy(&task->loader);
    return sora_loader_create(task->data, &options, &task->loader, error);
}

static sora_status micro_step(void *self, uint32_t step, uint32_t first_sample, sora_micro_step *out, sora_error *error)
{
    sora_unet_task *task = self;
    sora_status status = SORA_OK;
    sora_batch batch;
    SORA_TRY(sora_loader_next(task->loader, &batch, error));
    SORA_TRY(sora_graph_write(task->train.graph, task->train.image, batch.images, batch.count, error));
    SORA_TRY(sora_graph_write(task->train.graph, task->train.mask, batch.masks, batch.count, error));
    SORA_TRY(sora_graph_forward(task->train.graph, batch.count, step, first_sample, error));
    SORA_TRY(sora_graph_backward(task->train.graph, error));
    *out = (sora_micro_step) { task->train.graph, task->train.loss, batch.count, batch.waited_seconds };
cleanup:
    return status;
}

static sora_status evaluate(void *self, sora_evaluation *out, sora_error *error)
{
    sora_unet_task *task = self;
    sora_status status = SORA_OK;
    sora_loader_options options = loader_options(task, false);
    /* Kept from one evaluation to the next: the set is decoded once, and its first batches are ready. */
    if (!task->eval_loader) SORA_TRY(sora_loader_create(task->eval_data, &options, &task->eval_loader, error));
    SORA_TRY(sora_unet_measure(&task->eval, task->eval_loader, task->eval_data, options.size, false, task->probability,
                               task->counts, &task->quality, error));
    const sora_mask_metrics *m = &task->quality.mask;
    out->score = m->iou_per_image;
    out->loss = task->quality.loss;
    out->quality = &task->quality;
    out->fields = sora_quality_to_json(&task->quality);
    if (m->images_scored == 0)
        snprintf(out->warning, sizeof out->warning,
                 "no mask of the evaluation set has a hand, and the network marks none: its figures say nothing");
    else if (m->positive_share <= 0.0)
        snprintf(out->warning, sizeof out->warning,
                 "the network marks no pixel as hand in the whole evaluation: it collapsed; lower --lr or lengthen --warmup");
    if (m->positive_share >= 1.0)
        snprintf(out->warning, sizeof out->warning,
                 "the network marks every pixel as hand in the whole evaluation: it collapsed; lower --lr or lengthen --warmup");
cleanup:
    if (status != SORA_OK) {
        sora_context_finish(sora_params_context(sora_unet_params(task->unet)), NULL); /* a batch is read until then */
        sora_loader_destroy(&task->eval_loader);
    }
    return status;
}

static sora_status save(void *self, const char *folder, sora_error *error)
{
    sora_unet_task *task = self;
    bool adapters = sora_run_has_adapters(&task->options);
    char *path = NULL;
    sora_status status = sora_format(&path, error, "%s/%s.safetensors", folder, adapters ? "adapter" : "weights");
    if (status == SORA_OK)
        status =
            adapters ? sora_adapters_save(sora_unet_layers(task->unet), path, error) : sora_unet_save(task->unet, path, error);
    free(path);
    return status;
}

static sora_status load(void *self, const char *folder, sora_error *error)
{
    sora_unet_task *task = self;
    return sora_run_load_checkpoint(sora_unet_params(task->unet), sora_unet_layers(task->unet), folder, "weights.safetensors",
                                    error);
}

sora_status sora_unet_task_create(sora_unet *unet, const sora_dataset *data, const sora_dataset *eval_data,
                                  const sora_run_options *options, sora_unet_task **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_unet_task *task = NULL;
    size_t size = (size_t)sora_unet_config(unet)->size;
    *out = NULL;
    SORA_TRY(sora_allocate(1, sizeof *task, "task", &task, error));
    task->unet = unet;
    task->data = data;
    task->eval_data = eval_data;
    task->options = *options;
    SORA_TRY(
        sora_allocate(size * size * (size_t)options->batch, sizeof *task->probability, "predictions", &task->probability, error));
    SORA_TRY(sora_allocate(sora_dataset_count(eval_data), sizeof *task->counts, "metrics", &task->counts, error));
    SORA_TRY(sora_unet_data_hash(data, eval_data, &task->data_hash, error));
    *out = task;
    task = NULL;
cleanup:
    sora_unet_task_destroy(&task);
    return status;
}

void sora_unet_task_destroy(sora_unet_task **pointer)
{
    sora_unet_task *task = *pointer;
    if (!task) return;
    sora_loader_destroy(&task->loader);
    sora_loader_destroy(&task->eval_loader);
    drop(task);
    free(task->probability);
    free(task->counts);
    free(task);
    *pointer = NULL;
}

sora_task sora_unet_task_of(sora_unet_task *task)
{
    size_t images = sora_dataset_count(task->data), batch = (size_t)task->options.batch;
    return (sora_task) { .self = task,
                         .name = "unet",
                         .context = sora_params_context(sora_unet_params(task->unet)),
                         .params = sora_unet_params(task->unet),
                         .layers = sora_unet_layers(task->unet),
                         .batches_per_epoch = (images + batch - 1) / batch,
                         .data_hash = task->data_hash,
                         .build = build,
                         .prepare = prepare,
                         .drop = drop,
                         .seek = seek,
                         .micro_step = micro_step,
                         .evaluate = evaluate,
                         .save = save,
                         .load = load };
}
