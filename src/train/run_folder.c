/* SPDX-License-Identifier: Apache-2.0 */
#include "train/run_folder.h"

#include "soracl/tune.h"

#include "adapter/layer.h"
#include "base/file.h"
#include "base/memory.h"
#include "train/run_options.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

sora_dtype sora_run_frozen_dtype(const sora_run_options *options)
{
    return is(options->weights, "fp16") ? SORA_F16 : SORA_F32;
}

bool sora_run_has_adapters(const sora_run_options *options)
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

sora_status sora_run_write_config(sora_context *context, const sora_run_options *options, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_device *device = sora_context_device(context);
    char *path = NULL, *text = NULL;
    json_t *root = NULL;
    SORA_TRY(sora_format(&path, error, "%s/config.json", folder));
    if (sora_path_exists(path)) goto cleanup;
    root = json_pack("{s:s,s:s,s:s,s:{s:s,s:s,s:s,s:s},s:o}", "program", "soracl", "version", SORA_VERSION, "task",
                     options->task == SORA_TASK_T5 ? "t5" : "unet", "device", "name", device->name, "platform", device->platform,
                     "driver", device->driver, "type", sora_device_type_name(device->limits.type), "options",
                     sora_run_options_to_json(options));
    text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    if (!text) SORA_FAIL(error, SORA_ERROR_MEMORY, "%s: no host memory for config.json", folder);
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

size_t sora_run_name_length(const char *from)
{
    size_t length = strlen(from);
    return length > 5 && is(from + length - 5, ":last") ? length - 5 : length;
}

bool sora_run_inside(const char *from, const char *folder)
{
    char *path = strndup(from, sora_run_name_length(from)), *inner = path && *path ? realpath(path, NULL) : NULL,
         *outer = realpath(folder, NULL);
    size_t length = outer ? strlen(outer) : 0;
    bool yes = inner && outer && strncmp(inner, outer, length) == 0 && (inner[length] == '/' || inner[length] == '\0');
    free(path);
    free(inner);
    free(outer);
    return yes;
}

/* A run is to give the same bits whenever it goes on: it keeps the variants that were chosen when it began. */
static sora_status take_variants(sora_context *context, const char *path, const sora_watcher *watcher, sora_error *error)
{
    sora_error why;
    if (!sora_path_exists(path)) {
        sora_tune_forget(context);
        return SORA_OK;
    }
    sora_status status = sora_tune_load(context, path, &why);
    if (status == SORA_ERROR_INPUT) {
        sora_tune_forget(context);
        tell(watcher, "warning: goes on with default variants, and so not to the same bits: %s", why.message);
        return SORA_OK;
    }
    if (status != SORA_OK && error) *error = why;
    return status;
}

static bool has_events(const char *folder)
{
    char *path = NULL;
    bool has = sora_format(&path, NULL, "%s/events.jsonl", folder) == SORA_OK && sora_path_exists(path);
    free(path);
    return has;
}

sora_status sora_run_lock(const char *folder, int *lock, sora_error *error)
{
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return sora_fail(error, SORA_ERROR_INPUT, "%s: cannot open the folder: %s", folder, strerror(errno));
    if (flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(file);
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: another process trains in it; wait for it, or choose another --out",
                         folder);
    }
    *lock = file;
    return SORA_OK;
}

/* ---- Making room ------------------------------------------------------------------------------------------------- */

/* What runs, their checkpoints, and comparisons write, by fnmatch; a killed write leaves NAME.PID.tmp. */
static const char *const run_files[] = { "config.json", "base.json",   "base.safetensors", "variants.json", "events.jsonl",
                                         "best",        "result.json", "compare.json",     "report.html",   NULL };
static const char *const checkpoint_files[] = { "state.json",
                                                "optimizer.safetensors",
                                                "adapter.safetensors",
                                                "weights.safetensors",
                                                "model.safetensors",
                                                "config.json",
                                                "spiece.model",
                                                "tokenizer.json",
                                                "tokenizer_config.json",
                                                "special_tokens_map.json",
                                                "added_tokens.json",
                                                "generation_config.json",
                                                NULL };
static const char *const overlay_files[] = { "[0-9]*.*.png", NULL };

static bool is_own_file(const char *name, const char *const *own)
{
    for (; *own; own++) {
        char temporary[64];
        snprintf(temporary, sizeof temporary, "%s.[0-9]*.tmp", *own);
        if (fnmatch(*own, name, 0) == 0 || fnmatch(temporary, name, 0) == 0) return true;
    }
    return false;
}

/* What may be in a folder of that name within a run or a comparison; NULL: it is none of theirs. */
static const char *const *own_files_of(const char *path, const char *name)
{
    static const char prefix[] = "checkpoint-";
    char *result = NULL;
    if (strncmp(name, prefix, sizeof prefix - 1) == 0) {
        const char *number = name + sizeof prefix - 1, *rest = number + strspn(number, "0123456789");
        return rest > number && (is(rest, "") || is(rest, ".tmp")) ? checkpoint_files : NULL;
    }
    if (is(name, "overlays")) return overlay_files;
    bool row = sora_format(&result, NULL, "%s/result.json", path) == SORA_OK && sora_path_exists(result);
    free(result);
    return row ? run_files : NULL;
}

static sora_status check_own(const char *folder, const char *const *own, sora_error *error)
{
    sora_status status = SORA_OK;
    char **names = NULL, *path = NULL;
    size_t count = 0;
    SORA_TRY(sora_folder_list(folder, &names, &count, error));
    for (size_t i = 0; i < count; i++) {
        free(path);
        SORA_TRY(sora_format(&path, error, "%s/%s", folder, names[i]));
        bool is_folder = sora_path_is_folder(path);
        const char *const *inner = is_folder && own == run_files ? own_files_of(path, names[i]) : NULL;
        if (is_folder ? !inner : !is_own_file(names[i], own))
            SORA_FAIL(error, SORA_ERROR_ARGUMENT,
                      "%s: holds %.200s, which no run writes and --overwrite would remove; move it elsewhere, or choose another "
                      "--out",
                      folder, names[i]);
        if (inner) SORA_TRY(check_own(path, inner, error));
    }
cleanup:
    sora_names_free(names, count);
    free(path);
    return status;
}

/* Of the path without slashes at its end. */
static int trimmed_length(const char *folder)
{
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/') length--;
    return (int)length;
}

/* Renaming a link would leave what it means where it is; a working folder would go along, and every relative path with it. */
static sora_status check_place(const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    struct stat info;
    char *trimmed = NULL, *real = realpath(folder, NULL);
    SORA_TRY(sora_format(&trimmed, error, "%.*s", trimmed_length(folder), folder));
    if (lstat(trimmed, &info) == 0 && S_ISLNK(info.st_mode))
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: is a link, which --overwrite does not follow; give --out %s", trimmed,
                  real ? real : "what it means");
    if (sora_run_inside(".", folder))
        SORA_FAIL(error, SORA_ERROR_ARGUMENT,
                  "%s: is the working folder or holds it, and --overwrite would take it away; call soracl from another folder, "
                  "with --out %s",
                  folder, real ? real : folder);
cleanup:
    free(trimmed);
    free(real);
    return status;
}

static sora_status name_aside(const char *folder, char **out, sora_error *error)
{
    return sora_format(out, error, "%.*s.earlier", trimmed_length(folder), folder);
}

sora_status sora_run_set_aside(const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    char *aside = NULL;
    int lock = -1;
    SORA_TRY(sora_run_lock(folder, &lock, error));
    SORA_TRY(check_place(folder, error));
    SORA_TRY(check_own(folder, run_files, error));
    SORA_TRY(name_aside(folder, &aside, error));
    if (sora_path_exists(aside))
        SORA_FAIL(
            error, SORA_ERROR_ARGUMENT,
            "%s: is there already, and %s would be set aside by that name; an --overwrite that was killed may have left it: "
            "move it elsewhere or remove it",
            aside, folder);
    if (rename(folder, aside) != 0)
        SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot rename to %s, to make room: %s", folder, aside, strerror(errno));
cleanup:
    if (lock >= 0) close(lock);
    free(aside);
    return status;
}

void sora_run_tell_aside(const char *folder, const sora_watcher *watcher)
{
    char *aside = NULL;
    if (name_aside(folder, &aside, NULL) == SORA_OK && sora_path_exists(aside))
        tell(watcher, "warning: %s stays: an --overwrite that was killed may have left it; move it elsewhere or remove it",
             aside);
    free(aside);
}

void sora_run_take_back(const char *folder)
{
    char *aside = NULL;
    if (name_aside(folder, &aside, NULL) == SORA_OK && sora_folder_remove(folder, NULL) == SORA_OK) rename(aside, folder);
    free(aside);
}

sora_status sora_run_began(const char *folder, sora_error *error)
{
    char *aside = NULL;
    sora_status status = name_aside(folder, &aside, error);
    if (status == SORA_OK) status = sora_folder_remove(aside, error);
    free(aside);
    return status;
}

/* An earlier run makes room; what is none is not ours to touch, and neither is what this one begins with. */
static sora_status make_room(const sora_run_target *target, const sora_run_options *options, const char *config,
                             sora_error *error)
{
    sora_run_options earlier;
    const char *folder = target->folder;
    if (!has_events(folder) && sora_run_options_read(config, &earlier, NULL) != SORA_OK)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: holds a config.json, but no run; choose another --out", folder);
    if (!target->overwrite)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: holds a run; --resume goes on with it, --overwrite starts anew",
                         folder);
    bool t5 = options->task == SORA_TASK_T5, model = sora_run_inside(options->from, folder);
    if (model || (t5 && sora_run_inside(options->adapter, folder)))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: --%s %s lies in the run that --overwrite would remove", folder,
                         !model ? "adapter"
                         : t5   ? "model"
                                : "from",
                         model ? options->from : options->adapter);
    return sora_run_set_aside(folder, error);
}

sora_status sora_run_open_folder(sora_context *context, const sora_run_target *target, const sora_watcher *watcher,
                                 sora_run_options *options, sora_run_folder *opened, sora_error *error)
{
    sora_status status = SORA_OK;
    char *config = NULL, *variants = NULL;
    *opened = (sora_run_folder) { .lock = -1 };
    SORA_TRY(sora_format(&config, error, "%s/config.json", target->folder));
    SORA_TRY(sora_format(&variants, error, "%s/variants.json", target->folder));
    bool exists = sora_path_exists(config);
    if (target->resume) {
        if (!exists) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: nothing to resume, there is no config.json in it", target->folder);
        SORA_TRY(sora_run_lock(target->folder, &opened->lock, error));
        sora_task_kind task = options->task;
        SORA_TRY(sora_run_options_read(config, options, error));
        if (options->task != task)
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s: is a run of another task; this command goes on with runs of %s",
                      target->folder, task == SORA_TASK_T5 ? "T5" : "U-Net");
        compare_config(context, config, watcher);
        SORA_TRY(take_variants(context, variants, watcher, error));
    } else {
        if (exists) SORA_TRY(make_room(target, options, config, error));
        opened->made_room = exists;
        SORA_TRY(sora_folder_create(target->folder, error));
        SORA_TRY(sora_run_lock(target->folder, &opened->lock, error));
        if (sora_tune_choices(context) > 0) SORA_TRY(sora_tune_save(context, variants, error));
    }
    if (!opened->made_room) sora_run_tell_aside(target->folder, watcher);
cleanup:
    free(variants);
    free(config);
    return status;
}

void sora_run_close_folder(const sora_run_target *target, const sora_run_folder *opened, bool failed)
{
    static const char *const ours[] = { "config.json", "base.json", "base.safetensors", "variants.json" };
    bool undo = failed && !target->resume && !has_events(target->folder);
    if (undo && opened->made_room) sora_run_take_back(target->folder);
    for (size_t i = 0; undo && !opened->made_room && opened->lock >= 0 && i < SORA_COUNT(ours); i++) {
        char *path = NULL;
        if (sora_format(&path, NULL, "%s/%s", target->folder, ours[i]) == SORA_OK) unlink(path);
        free(path);
    }
    if (opened->lock >= 0) close(opened->lock);
}

sora_status sora_run_activate(sora_layers *layers, const sora_run_options *o, const sora_watcher *watcher, sora_error *error)
{
    int wasteful = 0;
    sora_adapter_options adapter = { .kind = is(o->method, "sora") ? SORA_ADAPTER_SORA : SORA_ADAPTER_LORA,
                                     .init = is(o->init, "ones")     ? SORA_INIT_ONES
                                             : is(o->init, "normal") ? SORA_INIT_NORMAL
                                                                     : SORA_INIT_PAPER,
                                     .rank = o->rank,
                                     .alpha = (float)o->alpha,
                                     .dropout = (float)o->dropout };
    layers->seed = o->seed;
    sora_status status = sora_adapt(layers, o->target, &adapter, &wasteful, error);
    if (status == SORA_OK && wasteful > 0)
        tell(watcher,
             "warning: in %d of the adapted layers the adapter is not smaller than the layer, r(p + q + 1) >= p q; a lower "
             "--rank or another --target is",
             wasteful);
    return status;
}

sora_status sora_run_check_method(const sora_run_options *options, sora_error *error)
{
    if (is(options->method, "full") && is(options->weights, "fp16"))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "--weights fp16: --method full trains every weight; none is frozen");
    if (is(options->method, "full") || sora_run_has_adapters(options)) return SORA_OK;
    return sora_fail(error, SORA_ERROR_ARGUMENT, "--method %s trains nothing: expected full, lora or sora", options->method);
}
