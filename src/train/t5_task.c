/* SPDX-License-Identifier: Apache-2.0 */
#include "train/t5_task.h"

#include "graph/params.h"
#include "train/run_folder.h"
#include "train/run_weights.h"
#include "train/t5_files.h"

#include <stdlib.h>
#include <string.h>

/* Texts of the training set that stand in for an evaluation set where there is none: enough to see a loss that explodes. */
#define STAND_IN 64

static sora_t5_generator_options generator_options(sora_t5_task *task)
{
    return (sora_t5_generator_options) { .batch = task->options.batch,
                                         .source = task->eval.source,
                                         .beams = task->generation.beams,
                                         .max_length = task->generation.max_length,
                                         .share = sora_t5_graphs_longest(&task->train)->graph };
}

/* None beyond those whose loss is taken: the generator's room is for their lengths. */
static size_t generate_count(const sora_t5_task *task)
{
    const sora_run_options *o = &task->options;
    if (!task->eval_pairs || strcmp(o->objective, "spans") == 0) return 0;
    size_t count = sora_text_count(task->eval_pairs);
    if (o->eval_examples > 0) count = SORA_MIN(count, (size_t)o->eval_examples);
    return SORA_MIN(count, (size_t)o->eval_generate);
}

static sora_status build(void *self, int batch, uint64_t *arena_bytes, sora_error *error)
{
    sora_t5_task *task = self;
    sora_status status = SORA_OK;
    sora_t5_generator *generator = NULL;
    const sora_run_options *o = &task->options;
    uint64_t encoder = 0, own = 0;
    task->train.options = (sora_graph_options) { .training = true, .batch = batch, .seed = o->seed, .recompute = o->recompute };
    task->train.smoothing = (float)o->smoothing;
    SORA_TRY(sora_t5_graphs_open(&task->train, error));
    task->eval.options = (sora_graph_options) { .batch = batch, .share = sora_t5_graphs_longest(&task->train)->graph };
    SORA_TRY(sora_t5_graphs_open(&task->eval, error));
    if (generate_count(task) > 0) {
        sora_t5_generator_options options = generator_options(task);
        options.batch = batch;
        SORA_TRY(sora_t5_generator_create(task->t5, &options, &generator, error));
        sora_t5_generator_bytes(generator, &encoder, &own);
    }
    uint64_t train_bytes = sora_graph_stats(sora_t5_graphs_longest(&task->train)->graph).arena_bytes,
             eval_bytes = sora_graph_stats(sora_t5_graphs_longest(&task->eval)->graph).arena_bytes;
    *arena_bytes = SORA_MAX(SORA_MAX(train_bytes, eval_bytes), encoder) + own;
cleanup:
    sora_t5_generator_destroy(&generator);
    return status;
}

static sora_status prepare(void *self, sora_error *error)
{
    sora_t5_task *task = self;
    sora_status status = sora_graph_prepare(sora_t5_graphs_longest(&task->train)->graph, error);
    return status == SORA_OK ? sora_graph_prepare(sora_t5_graphs_longest(&task->eval)->graph, error) : status;
}

static void drop(void *self)
{
    sora_t5_task *task = self;
    sora_t5_graphs_close(&task->eval);
    sora_t5_graphs_close(&task->train);
}

static sora_status seek(void *self, uint64_t batch, sora_error *error)
{
    (void)error;
    sora_t5_batches_seek(((sora_t5_task *)self)->batches, batch);
    return SORA_OK;
}

static sora_status micro_step(void *self, uint32_t step, uint32_t first_sample, sora_micro_step *out, sora_error *error)
{
    sora_t5_task *task = self;
    sora_status status = SORA_OK;
    sora_t5_batch batch;
    sora_t5_graph *graph;
    sora_t5_staging *staging = &task->staging[task->staging_next];
    task->staging_next = (task->staging_next + 1) % task->staging_count;
    SORA_TRY(sora_t5_batches_next(task->batches, &batch, error));
    SORA_TRY(sora_t5_graphs_run(&task->train, &batch, staging, step, first_sample, &graph, NULL, error));
    SORA_TRY(sora_graph_backward(graph->graph, error));
    *out = (sora_micro_step) { graph->graph, graph->loss, batch.count, 0.0 };
cleanup:
    return status;
}

static sora_status evaluate(void *self, sora_evaluation *out, sora_error *error)
{
    sora_t5_task *task = self;
    sora_status status = SORA_OK;
    sora_t5_generator *generator = NULL;
    sora_t5_scoring scoring = { .pairs = task->eval_pairs,
                                .tokenizer = task->tokenizer,
                                .prefix = task->options.prefix,
                                .max_source = task->options.max_source,
                                .count = generate_count(task),
                                .generation = &task->generation };
    task->quality = (sora_quality) { .task = SORA_TASK_T5 };
    SORA_TRY(sora_t5_measure_loss(&task->eval, task->eval_batches, &task->eval_staging, NULL, &task->quality, error));
    if (scoring.count > 0) {
        sora_t5_generator_options options = generator_options(task);
        SORA_TRY(sora_t5_generator_create(task->t5, &options, &generator, error));
        SORA_TRY(sora_t5_measure_rouge(generator, &scoring, &task->quality, error));
    }
    out->score = -task->quality.loss;
    out->loss = task->quality.loss;
    out->quality = &task->quality;
    out->fields = sora_quality_to_json(&task->quality);
cleanup:
    sora_t5_generator_destroy(&generator);
    return status;
}

static sora_status save(void *self, const char *folder, sora_error *error)
{
    sora_t5_task *task = self;
    return sora_t5_save_checkpoint(task->t5, sora_run_has_adapters(&task->options), folder, error);
}

static sora_status load(void *self, const char *folder, sora_error *error)
{
    sora_t5_task *task = self;
    return sora_run_load_checkpoint(sora_t5_params(task->t5), sora_t5_layers(task->t5), folder, "model.safetensors", error);
}

static sora_status create_batches(sora_t5_task *task, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_run_options *o = &task->options;
    sora_t5_batches_options training = { .batch = o->batch,
                                         .prefix = o->prefix,
                                         .max_source = o->max_source,
                                         .max_target = o->max_target,
                                         .shuffle = true,
                                         .spans = strcmp(o->objective, "spans") == 0,
                                         .seed = o->seed },
                            evaluating = training;
    evaluating.shuffle = false;
    evaluating.limit = task->eval_pairs ? (size_t)o->eval_examples : STAND_IN;
    SORA_TRY(sora_t5_batches_create(task->pairs, task->tokenizer, &training, &task->batches, error));
    SORA_TRY(sora_t5_batches_create(task->eval_pairs ? task->eval_pairs : task->pairs, task->tokenizer, &evaluating,
                                    &task->eval_batches, error));
    sora_t5_batches_longest(task->batches, &task->train.source, &task->train.target);
    sora_t5_batches_longest(task->eval_batches, &task->eval.source, &task->eval.target);
    task->staging_count = 2 * o->accumulate + 2;
    SORA_TRY(sora_allocate((size_t)task->staging_count, sizeof *task->staging, "batches", &task->staging, error));
    for (int i = 0; i < task->staging_count; i++)
        SORA_TRY(sora_t5_staging_create(o->batch, task->train.source, task->train.target, &task->staging[i], error));
    SORA_TRY(sora_t5_staging_create(o->batch, task->eval.source, task->eval.target, &task->eval_staging, error));
cleanup:
    return status;
}

sora_status sora_t5_task_create(sora_t5 *t5, const sora_tokenizer *tokenizer, const sora_text_pairs *pairs,
                                const sora_text_pairs *eval_pairs, const sora_run_options *options, sora_t5_task **out,
                                sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5_task *task = NULL;
    *out = NULL;
    SORA_TRY(sora_allocate(1, sizeof *task, "task", &task, error));
    task->t5 = t5;
    task->tokenizer = tokenizer;
    task->pairs = pairs;
    task->eval_pairs = eval_pairs;
    task->data_hash = sora_t5_data_hash(pairs, eval_pairs);
    task->options = *options;
    task->train.t5 = task->eval.t5 = t5;
    sora_t5_generation_default(&task->generation);
    task->generation.max_length = options->max_target + 1;
    SORA_TRY(create_batches(task, error));
    *out = task;
    task = NULL;
cleanup:
    sora_t5_task_destroy(&task);
    return status;
}

void sora_t5_task_destroy(sora_t5_task **pointer)
{
    sora_t5_task *task = *pointer;
    if (!task) return;
    drop(task);
    for (int i = 0; task->staging && i < task->staging_count; i++) sora_t5_staging_free(&task->staging[i]);
    free(task->staging);
    sora_t5_staging_free(&task->eval_staging);
    sora_t5_batches_destroy(&task->batches);
    sora_t5_batches_destroy(&task->eval_batches);
    free(task);
    *pointer = NULL;
}

sora_task sora_t5_task_of(sora_t5_task *task)
{
    return (sora_task) { .self = task,
                         .name = "t5",
                         .context = sora_params_context(sora_t5_params(task->t5)),
                         .params = sora_t5_params(task->t5),
                         .layers = sora_t5_layers(task->t5),
                         .batches_per_epoch = sora_t5_batches_per_epoch(task->batches),
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
