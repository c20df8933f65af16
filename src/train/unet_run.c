/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "train/checkpoint.h"
#include "train/run_options.h"
#include "train/unet_files.h"
#include "train/unet_task.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Images that normalisation is measured on. */
#define STATISTICS_IMAGES 512

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool has_adapters(const sora_run_options *options)
{
    return is(options->method, "lora") || is(options->method, "sora");
}

static void tell(const sora_watcher *watcher, const char *format, ...) SORA_PRINTF(2, 3);
static void tell(const sora_watcher *watcher, const char *format, ...)
{
    char text[512];
    va_list arguments;
    if (!watcher || !watcher->message) return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    watcher->message(watcher->self, text);
}

/* ---- Data
 * ---------------------------------------------------------------------------------------------------------------------- */

/* KIND:DIR of KIND:DIR[:SPLIT]. */
static void cut_split(char *spec)
{
    static const char *const splits[] = { ":train", ":test", ":all" };
    size_t length = strlen(spec);
    for (size_t i = 0; i < SORA_COUNT(splits); i++) {
        size_t part = strlen(splits[i]);
        if (length > part && is(spec + length - part, splits[i])) {
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
cleanup:
    if (status != SORA_OK) {
        sora_dataset_close(data);
        sora_dataset_close(eval_data);
    }
    return status;
}

/* ---- The run's folder
 * ------------------------------------------------------------------------------------------------------------ */

static sora_status write_config(sora_context *context, const sora_run_options *options, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_device *device = sora_context_device(context);
    char *path = NULL, *text = NULL;
    json_t *root = json_pack("{s:s,s:s,s:s,s:{s:s,s:s,s:s,s:s},s:o}", "program", "soracl", "version", SORA_VERSION, "task",
                             "unet", "device", "name", device->name, "platform", device->platform, "driver", device->driver,
                             "type", sora_device_type_name(device->limits.type), "options", sora_run_options_to_json(options));
    text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    if (!text) SORA_FAIL(error, SORA_ERROR_MEMORY, "%s: no host memory for config.json", folder);
    SORA_TRY(sora_format(&path, error, "%s/config.json", folder));
    SORA_TRY(sora_file_write(path, text, strlen(text), error));
cleanup:
    json_decref(root);
    free(path);
    free(text);
    return status;
}

/* A resume on another device or version trains on, but not bit for bit: said, not refused. */
static void compare_config(sora_context *context, const char *path, const sora_watcher *watcher)
{
    json_t *root = json_load_file(path, 0, NULL), *device = json_object_get(root, "device");
    const sora_device *now = sora_context_device(context);
    const char *name = json_string_value(json_object_get(device, "name")),
               *driver = json_string_value(json_object_get(device, "driver"));
    const char *version = json_string_value(json_object_get(root, "version"));
    if (name && driver && (!is(name, now->name) || !is(driver, now->driver)))
        tell(watcher, "warning: the run began on %s (driver %s); it goes on, but not bit for bit as it would have there", name,
             driver);
    if (version && !is(version, SORA_VERSION))
        tell(watcher, "warning: the run began with soracl %s, this is %s; it goes on, but not bit for bit", version,
             SORA_VERSION);
    json_decref(root);
}

static bool inside(const char *path, const char *folder)
{
    char *inner = *path ? realpath(path, NULL) : NULL, *outer = realpath(folder, NULL);
    size_t length = outer ? strlen(outer) : 0;
    bool yes = inner && outer && strncmp(inner, outer, length) == 0 && (inner[length] == '/' || inner[length] == '\0');
    free(inner);
    free(outer);
    return yes;
}

static sora_status open_folder(sora_context *context, const sora_run_target *target, const sora_watcher *watcher,
                               sora_run_options *options, sora_error *error)
{
    sora_status status = SORA_OK;
    char *config = NULL;
    SORA_TRY(sora_format(&config, error, "%s/config.json", target->folder));
    bool exists = sora_path_exists(config);
    if (target->resume) {
        if (!exists) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: nothing to resume, there is no config.json in it", target->folder);
        SORA_TRY(sora_run_options_read(config, options, error));
        compare_config(context, config, watcher);
    } else {
        if (exists && !target->overwrite)
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: holds a run; --resume goes on with it, --overwrite starts anew",
                      target->folder);
        if (exists && inside(options->from, target->folder))
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: --from %s lies in the run that --overwrite would remove", target->folder,
                      options->from);
        if (exists) SORA_TRY(sora_folder_remove(target->folder, error));
        SORA_TRY(sora_folder_create(target->folder, error));
    }
cleanup:
    free(config);
    return status;
}

/* ---- The network
 * ----------------------------------------------------------------------------------------------------------------- */

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

/* The network to start from, as a plain one; base.safetensors keeps it with the run, so that neither a resume nor an evaluation
 * needs what --from named. */
static sora_status start_network(sora_context *context, sora_run_options *options, const sora_run_target *target,
                                 const sora_dataset *data, sora_unet **out, sora_error *error)
{
    sora_status status = SORA_OK;
    char *base = NULL;
    SORA_TRY(sora_format(&base, error, "%s/base.safetensors", target->folder));
    /* What a start that failed left behind is not this run's. */
    bool kept = target->resume && sora_path_exists(base);
    if (kept) {
        SORA_TRY(sora_unet_load(context, base, out, error));
    } else if (options->from[0]) {
        SORA_TRY(sora_unet_open(context, options->from, out, error));
        SORA_TRY(sora_unet_merge(*out, error));
    } else {
        SORA_TRY(new_network(context, options, data, out, error));
    }
    const sora_unet_options *config = sora_unet_config(*out);
    snprintf(options->model, sizeof options->model, "%s", config->model);
    options->size = config->size;
    options->width = config->width;
    options->depth = config->depth;
    if (!kept) SORA_TRY(sora_unet_save(*out, base, error));
cleanup:
    if (status != SORA_OK) sora_unet_destroy(out);
    free(base);
    return status;
}

static sora_status activate(sora_unet *unet, const sora_run_options *o, const sora_watcher *watcher, sora_error *error)
{
    int wasteful = 0;
    sora_adapter_options adapter = { .kind = is(o->method, "sora") ? SORA_ADAPTER_SORA : SORA_ADAPTER_LORA,
                                     .init = is(o->init, "ones")     ? SORA_INIT_ONES
                                             : is(o->init, "normal") ? SORA_INIT_NORMAL
                                                                     : SORA_INIT_PAPER,
                                     .rank = o->rank,
                                     .alpha = (float)o->alpha,
                                     .dropout = (float)o->dropout };
    sora_status status = sora_adapt(sora_unet_layers(unet), o->target, &adapter, &wasteful, error);
    if (status == SORA_OK && wasteful > 0)
        tell(watcher,
             "warning: in %d of the adapted layers the adapter is not smaller than the layer, r(p + q + 1) >= p q; a lower "
             "--rank or another --target is",
             wasteful);
    return status;
}

static sora_status check_method(const sora_run_options *options, sora_error *error)
{
    if (is(options->method, "full") || has_adapters(options)) return SORA_OK;
    return sora_fail(error, SORA_ERROR_ARGUMENT, "--method %s trains nothing: expected full, lora or sora", options->method);
}

sora_status sora_unet_run(sora_context *context, const sora_run_options *given, const sora_run_target *target,
                          const sora_watcher *watcher, sora_run_result *result, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_run_options options = *given;
    sora_dataset *data = NULL, *eval_data = NULL;
    sora_unet *unet = NULL;
    sora_unet_task *unet_task = NULL;
    char *config = NULL;
    *result = (sora_run_result) { .rank_max = -1, .rank_kept = -1 };
    if (target->resume) {
        SORA_TRY(open_folder(context, target, watcher, &options, error));
        SORA_TRY(sora_unet_open_data(&options, &data, &eval_data, error));
    } else {
        SORA_TRY(check_method(&options, error));
        SORA_TRY(sora_unet_open_data(&options, &data, &eval_data, error));
        SORA_TRY(open_folder(context, target, watcher, &options, error));
    }
    SORA_TRY(check_method(&options, error));
    SORA_TRY(start_network(context, &options, target, data, &unet, error));
    if (has_adapters(&options)) SORA_TRY(activate(unet, &options, watcher, error));
    SORA_TRY(sora_format(&config, error, "%s/config.json", target->folder));
    if (!sora_path_exists(config)) SORA_TRY(write_config(context, &options, target->folder, error));
    SORA_TRY(sora_unet_task_create(unet, data, eval_data, &options, &unet_task, error));
    sora_task task = sora_unet_task_of(unet_task);
    SORA_TRY(sora_train(&task, &options, target->folder, watcher, result, error));
    result->quality = unet_task->quality;
    if (!result->finished) {
        sora_evaluation_options evaluation = { .batch = options.batch,
                                               .loss = sora_mask_loss_of(options.loss),
                                               .threads = options.threads };
        SORA_TRY(sora_unet_evaluate(unet, eval_data, &evaluation, &result->quality, error));
    }
cleanup:
    sora_unet_task_destroy(&unet_task);
    sora_unet_destroy(&unet);
    sora_dataset_close(&data);
    sora_dataset_close(&eval_data);
    free(config);
    return status;
}
