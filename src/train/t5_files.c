/* SPDX-License-Identifier: Apache-2.0 */
#include "train/t5_files.h"

#include "adapter/layer.h"
#include "base/file.h"
#include "soracl/peft.h"
#include "train/checkpoint.h"
#include "train/events.h"
#include "train/run_folder.h"
#include "train/run_weights.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* ---- Checkpoints ------------------------------------------------------------------------------------------------- */

sora_status sora_t5_save_checkpoint(const sora_t5 *t5, bool adapters, const char *folder, sora_error *error)
{
    char *path = NULL;
    if (!adapters) return sora_t5_save(t5, folder, SORA_FILE_F32, error);
    sora_status status = sora_format(&path, error, "%s/adapter.safetensors", folder);
    if (status == SORA_OK) status = sora_adapters_save(sora_t5_layers(t5), path, error);
    free(path);
    return status;
}

/* ---- What adapters stand on -------------------------------------------------------------------------------------- */

sora_status sora_t5_write_base(const sora_t5 *t5, const char *run, sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL, *text = NULL, *folder = realpath(sora_t5_folder(t5), NULL);
    json_t *root = json_pack("{s:s,s:s}", "folder", folder ? folder : sora_t5_folder(t5), "hash", sora_t5_base(t5));
    text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    if (!text) SORA_FAIL(error, SORA_ERROR_MEMORY, "%s: no host memory for base.json", run);
    SORA_TRY(sora_format(&path, error, "%s/base.json", run));
    SORA_TRY(sora_file_write(path, text, strlen(text), error));
cleanup:
    json_decref(root);
    free(folder);
    free(path);
    free(text);
    return status;
}

static sora_status read_base(const char *run, char **folder, char hash[17], sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL;
    json_t *root = NULL;
    json_error_t where;
    *folder = NULL;
    SORA_TRY(sora_format(&path, error, "%s/base.json", run));
    root = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    const char *place = json_string_value(json_object_get(root, "folder")),
               *sum = json_string_value(json_object_get(root, "hash"));
    if (!place || !sum || strlen(sum) != 16)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: does not say folder and hash of the model that the run's adapters stand on%s%s",
                  path, root ? "" : ": ", root ? "" : where.text);
    memcpy(hash, sum, 17);
    SORA_TRY(sora_duplicate(place, folder, error));
cleanup:
    json_decref(root);
    free(path);
    return status;
}

static sora_status check_base(const sora_t5 *t5, const char *run, const char *hash, sora_error *error)
{
    if (strcmp(hash, sora_t5_base(t5)) == 0) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INPUT, "%s: its adapters stand on weights with hash %s; %s has %s: it is another model",
                     run, hash, sora_t5_folder(t5), sora_t5_base(t5));
}

/* ---- Opening ----------------------------------------------------------------------------------------------------- */

static sora_status has_file(const char *folder, const char *name, bool *there, sora_error *error)
{
    char *path = NULL;
    sora_status status = sora_format(&path, error, "%s/%s", folder, name);
    *there = status == SORA_OK && sora_path_exists(path);
    free(path);
    return status;
}

/* The run that `from` names (without ":last"), and its checkpoint; *run NULL where it is no run. */
static sora_status find_run(const char *from, char **run, char **checkpoint, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t length = sora_run_name_length(from);
    bool last = from[length] != '\0', is_run;
    char *name = NULL;
    *run = *checkpoint = NULL;
    SORA_TRY(sora_duplicate(from, &name, error));
    name[length] = '\0';
    SORA_TRY(has_file(name, "events.jsonl", &is_run, error));
    if (!is_run) goto cleanup;
    SORA_TRY(sora_checkpoint_find(name, last, checkpoint, error));
    *run = name;
    name = NULL;
cleanup:
    free(name);
    return status;
}

/* Adapters of a run's checkpoint on a model that is already there. */
static sora_status put_run(sora_t5 *t5, const char *run, const char *checkpoint, sora_error *error)
{
    sora_status status = SORA_OK;
    char *folder = NULL, hash[17];
    bool adapters;
    SORA_TRY(has_file(checkpoint, "adapter.safetensors", &adapters, error));
    if (!adapters)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: the run trained the weights themselves; it has no adapter to put on a model",
                  run);
    SORA_TRY(read_base(run, &folder, hash, error));
    SORA_TRY(check_base(t5, run, hash, error));
    SORA_TRY(sora_run_load_checkpoint(sora_t5_params(t5), sora_t5_layers(t5), checkpoint, "model.safetensors", error));
cleanup:
    free(folder);
    return status;
}

sora_status sora_t5_put_adapter(sora_t5 *t5, const char *adapter, sora_error *error)
{
    sora_status status = SORA_OK;
    char *run = NULL, *checkpoint = NULL;
    bool peft;
    SORA_TRY(has_file(adapter, "adapter_config.json", &peft, error));
    if (peft) {
        status = sora_peft_import(sora_t5_layers(t5), adapter, error);
        goto cleanup;
    }
    SORA_TRY(find_run(adapter, &run, &checkpoint, error));
    if (!run) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: neither a run nor a PEFT folder with adapter_config.json", adapter);
    SORA_TRY(put_run(t5, run, checkpoint, error));
cleanup:
    free(run);
    free(checkpoint);
    return status;
}

/* A run's model: the checkpoint itself where the weights trained, else the base with the checkpoint's adapters. */
static sora_status open_run(sora_context *context, const char *run, const char *checkpoint, sora_t5 **out, sora_error *error)
{
    sora_status status = SORA_OK;
    char *folder = NULL, hash[17];
    bool adapters;
    SORA_TRY(has_file(checkpoint, "adapter.safetensors", &adapters, error));
    if (!adapters) {
        status = sora_t5_load(context, checkpoint, out, error);
        goto cleanup;
    }
    SORA_TRY(read_base(run, &folder, hash, error));
    SORA_TRY(sora_t5_load(context, folder, out, error));
    SORA_TRY(check_base(*out, run, hash, error));
    SORA_TRY(sora_run_load_checkpoint(sora_t5_params(*out), sora_t5_layers(*out), checkpoint, "model.safetensors", error));
cleanup:
    free(folder);
    return status;
}

bool sora_t5_has_adapters(const sora_t5 *t5)
{
    const sora_layers *layers = sora_t5_layers(t5);
    bool active = false;
    for (size_t i = 0; i < layers->count; i++) active |= layers->items[i]->active;
    return active;
}

sora_status sora_t5_open(sora_context *context, const char *from, const char *adapter, sora_t5 **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5 *t5 = NULL;
    char *run = NULL, *checkpoint = NULL;
    *out = NULL;
    SORA_TRY(find_run(from, &run, &checkpoint, error));
    SORA_TRY(run ? open_run(context, run, checkpoint, &t5, error) : sora_t5_load(context, from, &t5, error));
    if (adapter && sora_t5_has_adapters(t5))
        SORA_FAIL(error, SORA_ERROR_ARGUMENT,
                  "%s: has adapters of its own, so %s can't be put on it; merge them into a model first (soracl adapter merge)",
                  from, adapter);
    if (adapter) SORA_TRY(sora_t5_put_adapter(t5, adapter, error));
    *out = t5;
    t5 = NULL;
cleanup:
    sora_t5_destroy(&t5);
    free(run);
    free(checkpoint);
    return status;
}

/* ---- Adapters from elsewhere ------------------------------------------------------------------------------------- */

/* config.json says what the adapters are: ranks and scales are in the adapter's own file. */
static sora_status write_run(sora_context *context, const sora_t5 *t5, const char *peft, const char *run, sora_error *error)
{
    sora_status status = SORA_OK;
    char *folder = NULL, *path = NULL;
    sora_events *events = NULL;
    sora_run_options options;
    const sora_run_target target = { .folder = run };
    sora_run_folder opened = { .lock = -1 };
    sora_run_options_default(&options, SORA_TASK_T5);
    SORA_TRY(sora_run_options_set(&options, "method", "lora", error));
    SORA_TRY(sora_run_options_set(&options, "model", sora_t5_folder(t5), error));
    SORA_TRY(sora_run_options_set(&options, "adapter", peft, error));
    SORA_TRY(sora_run_open_folder(context, &target, NULL, &options, &opened, error));
    SORA_TRY(sora_t5_write_base(t5, run, error));
    SORA_TRY(sora_checkpoint_begin(run, 0, &folder, error));
    SORA_TRY(sora_t5_save_checkpoint(t5, true, folder, error));
    SORA_TRY(sora_checkpoint_commit(run, 0, error));
    SORA_TRY(sora_format(&path, error, "%s/events.jsonl", run));
    SORA_TRY(sora_events_open(path, 0, &events, error));
    SORA_TRY(sora_events_write(events, json_pack("{s:s,s:s}", "event", "import", "from", peft), error));
    SORA_TRY(sora_run_write_config(context, &options, run, error));
cleanup:
    sora_run_close_folder(&target, &opened, status != SORA_OK);
    sora_events_close(&events);
    free(folder);
    free(path);
    return status;
}

sora_status sora_t5_import(sora_context *context, const char *model, const char *peft, const char *run, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5 *t5 = NULL;
    SORA_TRY(sora_t5_open(context, model, NULL, &t5, error));
    if (sora_t5_has_adapters(t5))
        SORA_FAIL(error, SORA_ERROR_ARGUMENT,
                  "--model %s: has adapters of its own, which the new run would lose; merge them into a model first (soracl "
                  "adapter merge)",
                  model);
    SORA_TRY(sora_peft_import(sora_t5_layers(t5), peft, error));
    SORA_TRY(write_run(context, t5, peft, run, error));
cleanup:
    sora_t5_destroy(&t5);
    return status;
}
