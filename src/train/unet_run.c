/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "graph/params.h"
#include "train/checkpoint.h"
#include "train/run_folder.h"
#include "train/run_options.h"
#include "train/run_weights.h"
#include "train/unet_task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Images that normalisation is measured on, and a hand is looked for in. */
#define STATISTICS_IMAGES 512

/* ---- Data -------------------------------------------------------------------------------------------------------- */

/* KIND:DIR of KIND:DIR[:SPLIT]. */
static void cut_split(char *spec)
{
    static const char *const splits[] = { ":train", ":test", ":all" };
    size_t length = strlen(spec);
    for (size_t i = 0; i < SORA_COUNT(splits); i++) {
        size_t part = strlen(splits[i]);
        if (length > part && strcmp(spec + length - part, splits[i]) == 0) {
            spec[length - part] = '\0';
            return;
        }
    }
}

sora_status sora_unet_open_data(const sora_run_options *options, sora_dataset **data, sora_dataset **eval_data, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_dataset_options training = { .fallback_split = "train" }, evaluating = { .fallback_split = "test" };
    char spec[sizeof options->data];
    *data = *eval_data = NULL;
    if (!options->data[0])
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "--data KIND:DIR[:SPLIT] is needed; kinds are egohands, gtea and pairs");
    SORA_TRY(sora_dataset_open(options->data, &training, data, error));
    snprintf(spec, sizeof spec, "%s", options->eval_data[0] ? options->eval_data : options->data);
    if (!options->eval_data[0]) cut_split(spec);
    SORA_TRY(sora_dataset_open(spec, &evaluating, eval_data, error));
    SORA_TRY(sora_dataset_check_disjoint(*data, *eval_data, error));
    SORA_TRY(sora_dataset_check_hands(*data, STATISTICS_IMAGES, error));
cleanup:
    if (status != SORA_OK) {
        sora_dataset_close(data);
        sora_dataset_close(eval_data);
    }
    return status;
}

sora_status sora_unet_data_hash(const sora_dataset *data, const sora_dataset *eval_data, uint64_t *out, sora_error *error)
{
    uint64_t hash;
    sora_status status = sora_dataset_hash(data, 0, &hash, error);
    return status == SORA_OK ? sora_dataset_hash(eval_data, hash, out, error) : status;
}

/* ---- The network ------------------------------------------------------------------------------------------------- */

static sora_status new_network(sora_context *context, const sora_run_options *options, const sora_dataset *data, sora_unet **out,
                               sora_error *error)
{
    sora_status status = SORA_OK;
    float mean[3], deviation[3];
    sora_unet_options config = {
        .model = options->model, .size = options->size, .width = options->width, .depth = options->depth, .seed = options->seed
    };
    SORA_TRY(sora_unet_create(context, &config, out, error));
    SORA_TRY(sora_dataset_statistics(data, options->size, STATISTICS_IMAGES, mean, deviation, error));
    sora_unet_set_normalisation(*out, mean, deviation);
cleanup:
    if (status != SORA_OK) sora_unet_destroy(out);
    return status;
}

/* What was asked for, and is not as by default, must be what the network has: it would be ignored. */
static sora_status check_network(const sora_run_options *o, const sora_unet_options *network, sora_error *error)
{
    sora_run_options plain;
    char inner[48] = "";
    sora_run_options_default(&plain, SORA_TASK_UNET);
    const char *other = strcmp(o->model, plain.model) != 0 && strcmp(o->model, network->model) != 0 ? "model"
                        : o->size != plain.size && o->size != network->size                         ? "size"
                        : o->width != plain.width && o->width != network->width                     ? "width"
                        : o->depth != plain.depth && o->depth != network->depth                     ? "depth"
                                                                                                    : NULL;
    if (!other) return SORA_OK;
    if (network->width) snprintf(inner, sizeof inner, ", width %d, depth %d", network->width, network->depth);
    return sora_fail(error, SORA_ERROR_ARGUMENT,
                     "--%s: the network of --from %s is a %s of size %d%s, which stays so; leave it out", other, o->from,
                     network->model, network->size, inner);
}

/* The network to start from, as a plain one. */
static sora_status start_network(sora_context *context, sora_run_options *options, const sora_dataset *data, const char *kept,
                                 sora_unet **out, sora_error *error)
{
    sora_status status = SORA_OK;
    if (kept) {
        SORA_TRY(sora_unet_load(context, kept, out, error));
    } else if (options->from[0]) {
        SORA_TRY(sora_unet_open(context, options->from, out, error));
        SORA_TRY(check_network(options, sora_unet_config(*out), error));
        SORA_TRY(sora_run_merge(sora_unet_params(*out), sora_unet_layers(*out), error));
    } else {
        SORA_TRY(new_network(context, options, data, out, error));
    }
    const sora_unet_options *config = sora_unet_config(*out);
    snprintf(options->model, sizeof options->model, "%s", config->model);
    options->size = config->size;
    options->width = config->width;
    options->depth = config->depth;
cleanup:
    if (status != SORA_OK) sora_unet_destroy(out);
    return status;
}

/* base.safetensors keeps the network that a run started from, so that neither a resume nor an evaluation needs what --from named. */
static sora_status open_network(sora_context *context, sora_run_options *options, const sora_run_target *target,
                                const sora_watcher *watcher, const sora_dataset *data, sora_run_folder *folder, sora_unet **out,
                                sora_error *error)
{
    sora_status status = SORA_OK;
    char *base = NULL;
    SORA_TRY(sora_format(&base, error, "%s/base.safetensors", target->folder));
    /* What a start that failed left behind is not this run's. */
    bool kept = target->resume && sora_path_exists(base);
    SORA_TRY(start_network(context, options, data, kept ? base : NULL, out, error));
    if (!target->resume) SORA_TRY(sora_run_open_folder(context, target, watcher, options, folder, error));
    if (!kept) SORA_TRY(sora_unet_save(*out, base, error));
    if (sora_run_has_adapters(options)) SORA_TRY(sora_run_activate(sora_unet_layers(*out), options, watcher, error));
cleanup:
    free(base);
    return status;
}

sora_status sora_unet_run(sora_context *context, const sora_run_options *given, const sora_run_target *target,
                          const sora_watcher *watcher, sora_run_result *result, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_run_options options = *given;
    sora_dataset *data = NULL, *eval_data = NULL;
    sora_unet *unet = NULL;
    sora_unet_task *unet_task = NULL;
    sora_run_folder folder = { .lock = -1 };
    *result = (sora_run_result) { .rank_max = -1, .rank_kept = -1 };
    if (target->resume) SORA_TRY(sora_run_open_folder(context, target, watcher, &options, &folder, error));
    SORA_TRY(sora_run_check_method(&options, error));
    SORA_TRY(sora_unet_open_data(&options, &data, &eval_data, error));
    SORA_TRY(sora_params_expect_upload(context, sora_run_frozen_dtype(&options), true, error));
    SORA_TRY(open_network(context, &options, target, watcher, data, &folder, &unet, error));
    SORA_TRY(sora_run_write_config(context, &options, target->folder, error));
    SORA_TRY(sora_unet_task_create(unet, data, eval_data, &options, &unet_task, error));
    sora_task task = sora_unet_task_of(unet_task);
    SORA_TRY(sora_train(&task, &options, target->folder, folder.made_room, watcher, result, error));
    result->quality = unet_task->quality;
cleanup:
    sora_run_close_folder(target, &folder, status != SORA_OK);
    sora_unet_task_destroy(&unet_task);
    sora_unet_destroy(&unet);
    sora_dataset_close(&data);
    sora_dataset_close(&eval_data);
    return status;
}
