/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter/layer.h"
#include "base/file.h"
#include "graph/params.h"
#include "model/t5.h"
#include "train/checkpoint.h"
#include "train/run_folder.h"
#include "train/run_weights.h"
#include "train/t5_files.h"
#include "train/t5_task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* ---- Texts ------------------------------------------------------------------------------------------------------- */

sora_text_options sora_t5_text_options(const sora_run_options *o)
{
    return (sora_text_options) { .source_column = o->source_column[0] ? o->source_column : NULL,
                                 .target_column = o->target_column[0] ? o->target_column : NULL,
                                 .min_source = (size_t)o->min_source_characters,
                                 .min_target = (size_t)o->min_target_characters,
                                 .target_optional = is(o->objective, "spans") };
}

sora_status sora_t5_open_data(const sora_run_options *o, sora_text_pairs **pairs, sora_text_pairs **eval_pairs, sora_error *error)
{
    sora_status status = SORA_OK;
    bool spans = is(o->objective, "spans");
    sora_text_options options = sora_t5_text_options(o);
    if (!o->data[0])
        return sora_fail(error, SORA_ERROR_ARGUMENT, "--train FILE is needed: .csv or .jsonl with texts and summaries");
    SORA_TRY(sora_text_open(o->data, &options, pairs, error));
    if (!o->eval_data[0]) goto cleanup;
    SORA_TRY(sora_text_open(o->eval_data, &options, eval_pairs, error));
    if (!spans) SORA_TRY(sora_text_check_disjoint(*pairs, *eval_pairs, error));
cleanup:
    return status;
}

static void tell_skipped(const char *path, const sora_text_pairs *pairs, const sora_watcher *watcher)
{
    char text[512];
    size_t skipped = pairs ? sora_text_skipped(pairs) : 0;
    if (skipped == 0 || !watcher || !watcher->message) return;
    snprintf(text, sizeof text, "%.300s: %zu of %zu pairs are left out, empty or shorter than asked for", path, skipped,
             skipped + sora_text_count(pairs));
    watcher->message(watcher->self, text);
}

uint64_t sora_t5_data_hash(const sora_text_pairs *pairs, const sora_text_pairs *eval_pairs)
{
    uint64_t hash = sora_text_hash(pairs, 0);
    return eval_pairs ? sora_text_hash(eval_pairs, hash) : hash;
}

/* ---- The model --------------------------------------------------------------------------------------------------- */

static sora_status has_weights(const char *folder, bool *there, sora_error *error)
{
    static const char *const names[] = { "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                         "events.jsonl" };
    *there = false;
    for (size_t i = 0; i < SORA_COUNT(names) && !*there; i++) {
        char *path = NULL;
        sora_status status = sora_format(&path, error, "%s/%s", folder, names[i]);
        if (status != SORA_OK) return status;
        *there = sora_path_exists(path);
        free(path);
    }
    return SORA_OK;
}

/* config.json and spiece.model alone: a new model. */
static sora_status new_model(sora_context *context, const sora_run_options *o, sora_t5 **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5_config config;
    json_t *json = NULL;
    SORA_TRY(sora_t5_config_read(o->from, &config, &json, error));
    SORA_TRY(sora_t5_create(context, &config, o->seed, out, error));
    (*out)->json = json; /* what it says beside the network's shape stays, as of a model with weights */
    json = NULL;
    free((*out)->folder);
    (*out)->folder = NULL;
    SORA_TRY(sora_duplicate(o->from, &(*out)->folder, error));
cleanup:
    json_decref(json);
    if (status != SORA_OK) sora_t5_destroy(out);
    return status;
}

/* A run names the folder that its adapters stand on; weights that another run's adapters were merged into are in no folder. */
static sora_status check_plain(const sora_t5 *t5, const sora_run_options *o, sora_error *error)
{
    if (!sora_t5_has_adapters(t5) || !sora_run_has_adapters(o)) return SORA_OK;
    return sora_fail(error, SORA_ERROR_ARGUMENT,
                     "--model %s: has adapters of its own; merge them into a model first (soracl adapter merge), or go on with "
                     "them (--model of their base "
                     "and --adapter)",
                     o->from);
}

static sora_status start_model(sora_context *context, const sora_run_options *o, sora_t5 **out, sora_error *error)
{
    sora_status status = SORA_OK;
    bool there, last = o->from[sora_run_name_length(o->from)] != '\0';
    if (!o->from[0])
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "--model DIR is needed: config.json, model.safetensors and spiece.model, or a run");
    SORA_TRY(has_weights(o->from, &there, error));
    bool fresh = !there && !last && is(o->objective, "spans");
    SORA_TRY(fresh ? new_model(context, o, out, error) : sora_t5_open(context, o->from, NULL, out, error));
    SORA_TRY(check_plain(*out, o, error));
    SORA_TRY(sora_run_merge(sora_t5_params(*out), sora_t5_layers(*out), error));
    if (o->network_dropout >= 0.0) (*out)->config.dropout = (float)o->network_dropout;
cleanup:
    return status;
}

/* The head's product is fused with the loss, and a tied one is the embedding, too: said before a target that means it finds
 * nothing. */
sora_status sora_t5_check_target(const sora_t5 *t5, const char *target, sora_error *error)
{
    if (!strstr(target, "lm_head") && !strstr(target, "shared")) return SORA_OK;
    return sora_fail(
        error, SORA_ERROR_ARGUMENT, "--target \"%s\": %s", target,
        sora_t5_describe(t5)->own_head
            ? "lm_head and shared take no adapter here; leave them out"
            : "the head is tied to the embedding: an adapter on one would change both and could not be merged; leave it out");
}

/* A checkpoint has adapters of its own, which sora_train loads, whatever became of --adapter. */
static sora_status has_checkpoint(const sora_run_target *target, bool *has, sora_error *error)
{
    uint32_t *steps = NULL;
    size_t count = 0;
    sora_status status = target->resume ? sora_checkpoint_list(target->folder, &steps, &count, error) : SORA_OK;
    *has = count > 0;
    free(steps);
    return status;
}

static sora_status adapt(sora_t5 *t5, const sora_run_options *o, const sora_run_target *target, const sora_watcher *watcher,
                         sora_error *error)
{
    sora_layers *layers = sora_t5_layers(t5);
    bool begun;
    sora_status status = has_checkpoint(target, &begun, error);
    if (status != SORA_OK || begun || !sora_run_has_adapters(o)) return status;
    if (!o->adapter[0]) return sora_run_activate(layers, o, watcher, error);
    status = sora_t5_put_adapter(t5, o->adapter, error);
    for (size_t i = 0; status == SORA_OK && i < layers->count; i++) {
        const sora_layer *layer = layers->items[i];
        if (layer->active && (layer->kind == SORA_ADAPTER_SORA) != is(o->method, "sora"))
            status = sora_fail(error, SORA_ERROR_ARGUMENT, "--adapter %s holds %s adapters; --method is %s", o->adapter,
                               layer->kind == SORA_ADAPTER_SORA ? "sora" : "lora", o->method);
    }
    return status;
}

/* On a resume the base must be what it was. */
static sora_status keep_base(const sora_t5 *t5, const sora_run_target *target, sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL;
    json_t *root = NULL;
    SORA_TRY(sora_format(&path, error, "%s/base.json", target->folder));
    if (!target->resume || !sora_path_exists(path)) {
        status = sora_t5_write_base(t5, target->folder, error);
        goto cleanup;
    }
    root = json_load_file(path, 0, NULL);
    const char *hash = json_string_value(json_object_get(root, "hash"));
    if (!hash || !is(hash, sora_t5_base(t5)))
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: the run began with weights of hash %s; %s has %s now", path, hash ? hash : "?",
                  sora_t5_folder(t5), sora_t5_base(t5));
cleanup:
    json_decref(root);
    free(path);
    return status;
}

sora_status sora_t5_run(sora_context *context, const sora_run_options *given, const sora_run_target *target,
                        const sora_watcher *watcher, sora_run_result *result, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_run_options options = *given;
    sora_text_pairs *pairs = NULL, *eval_pairs = NULL;
    sora_tokenizer *tokenizer = NULL;
    sora_t5 *t5 = NULL;
    sora_t5_task *t5_task = NULL;
    sora_run_folder folder = { .lock = -1 };
    *result = (sora_run_result) { .rank_max = -1, .rank_kept = -1 };
    if (target->resume) SORA_TRY(sora_run_open_folder(context, target, watcher, &options, &folder, error));
    SORA_TRY(sora_run_check_method(&options, error));
    SORA_TRY(sora_t5_open_data(&options, &pairs, &eval_pairs, error));
    tell_skipped(options.data, pairs, watcher);
    tell_skipped(options.eval_data, eval_pairs, watcher);
    SORA_TRY(sora_params_expect_upload(context, sora_run_frozen_dtype(&options), false, error));
    SORA_TRY(start_model(context, &options, &t5, error));
    SORA_TRY(sora_t5_open_tokenizer(t5, sora_t5_folder(t5), &tokenizer, error));
    if (sora_run_has_adapters(&options)) SORA_TRY(sora_t5_check_target(t5, options.target, error));
    SORA_TRY(adapt(t5, &options, target, watcher, error));
    if (!target->resume) SORA_TRY(sora_run_open_folder(context, target, watcher, &options, &folder, error));
    SORA_TRY(keep_base(t5, target, error));
    SORA_TRY(sora_run_write_config(context, &options, target->folder, error));
    SORA_TRY(sora_t5_task_create(t5, tokenizer, pairs, eval_pairs, &options, &t5_task, error));
    sora_task task = sora_t5_task_of(t5_task);
    SORA_TRY(sora_train(&task, &options, target->folder, folder.made_room, watcher, result, error));
    result->quality = t5_task->quality;
    result->quality.task = SORA_TASK_T5;
cleanup:
    sora_run_close_folder(target, &folder, status != SORA_OK);
    sora_t5_task_destroy(&t5_task);
    sora_t5_destroy(&t5);
    sora_tokenizer_destroy(&tokenizer);
    sora_text_close(&pairs);
    sora_text_close(&eval_pairs);
    return status;
}
