/* SPDX-License-Identifier: Apache-2.0 */
#include "train/checkpoint.h"

#include "base/file.h"
#include "soracl/safetensors.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char prefix[] = "checkpoint-";

sora_status sora_checkpoint_begin(const char *run, uint32_t step, char **folder, sora_error *error)
{
    sora_status status = sora_format(folder, error, "%s/%s%u.tmp", run, prefix, step);
    if (status == SORA_OK) status = sora_folder_remove(*folder, error);
    if (status == SORA_OK) status = sora_folder_create(*folder, error);
    if (status != SORA_OK) {
        free(*folder);
        *folder = NULL;
    }
    return status;
}

sora_status sora_checkpoint_commit(const char *run, uint32_t step, sora_error *error)
{
    sora_status status = SORA_OK;
    char *from = NULL, *to = NULL;
    SORA_TRY(sora_format(&from, error, "%s/%s%u.tmp", run, prefix, step));
    SORA_TRY(sora_format(&to, error, "%s/%s%u", run, prefix, step));
    SORA_TRY(sora_folder_sync(from, error));
    SORA_TRY(sora_folder_remove(to, error));
    if (rename(from, to) != 0) SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot rename into place: %s", to, strerror(errno));
    SORA_TRY(sora_folder_sync(run, error));
cleanup:
    if (status != SORA_OK) sora_checkpoint_abandon(run, step);
    free(from);
    free(to);
    return status;
}

void sora_checkpoint_abandon(const char *run, uint32_t step)
{
    char *path = NULL;
    if (sora_format(&path, NULL, "%s/%s%u.tmp", run, prefix, step) == SORA_OK) sora_folder_remove(path, NULL);
    free(path);
}

/* The step of "checkpoint-N"; false for any other name. */
static bool parse_name(const char *name, uint32_t *step)
{
    size_t length = sizeof prefix - 1, digits;
    if (strncmp(name, prefix, length) != 0) return false;
    digits = strspn(name + length, "0123456789");
    if (digits == 0 || digits > 10 || name[length + digits] != '\0' || (digits > 1 && name[length] == '0')) return false;
    unsigned long long value = strtoull(name + length, NULL, 10);
    *step = (uint32_t)value;
    return value <= UINT32_MAX;
}

static int rising(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

sora_status sora_checkpoint_list(const char *run, uint32_t **steps, size_t *count, sora_error *error)
{
    char **names = NULL;
    size_t name_count = 0;
    *steps = NULL;
    *count = 0;
    sora_status status = sora_folder_list(run, &names, &name_count, error);
    if (status == SORA_OK) status = sora_allocate(name_count, sizeof **steps, "checkpoints", steps, error);
    for (size_t i = 0; status == SORA_OK && i < name_count; i++)
        if (parse_name(names[i], &(*steps)[*count])) ++*count;
    if (*steps) qsort(*steps, *count, sizeof **steps, rising);
    sora_names_free(names, name_count);
    return status;
}

/* The step that RUN/best names, where that checkpoint is there. */
static bool read_best(const char *run, uint32_t *step)
{
    char *path = NULL, *folder = NULL;
    unsigned char *text = NULL;
    size_t bytes;
    bool found = false;
    if (sora_format(&path, NULL, "%s/best", run) == SORA_OK && sora_file_read(path, 64, &text, &bytes, NULL) == SORA_OK) {
        text[strcspn((char *)text, "\n")] = '\0';
        found = parse_name((char *)text, step) && sora_format(&folder, NULL, "%s/%s", run, (char *)text) == SORA_OK &&
                sora_path_is_folder(folder);
    }
    free(path);
    free(folder);
    free(text);
    return found;
}

static bool contains(const uint32_t *list, size_t count, uint32_t step)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == step) return true;
    return false;
}

sora_status sora_checkpoint_prune(const char *run, int keep, const uint32_t *always, size_t always_count, sora_error *error)
{
    sora_status status = SORA_OK;
    uint32_t *steps = NULL, best = 0;
    size_t count = 0, name_count = 0;
    char **names = NULL, *path = NULL;
    bool has_best = read_best(run, &best);
    SORA_TRY(sora_checkpoint_list(run, &steps, &count, error));
    size_t left = 0;
    for (size_t i = 0; i < count; i++)
        if (!(has_best && steps[i] == best) && !contains(always, always_count, steps[i])) steps[left++] = steps[i];
    for (size_t i = 0; i + (size_t)keep < left; i++) {
        SORA_TRY(sora_format(&path, error, "%s/%s%u", run, prefix, steps[i]));
        SORA_TRY(sora_folder_remove(path, error));
        free(path);
        path = NULL;
    }
    SORA_TRY(sora_folder_list(run, &names, &name_count, error));
    for (size_t i = 0; i < name_count; i++) {
        size_t length = strlen(names[i]);
        if (strncmp(names[i], prefix, sizeof prefix - 1) != 0 || length < 4 || strcmp(names[i] + length - 4, ".tmp") != 0)
            continue;
        SORA_TRY(sora_format(&path, error, "%s/%s", run, names[i]));
        SORA_TRY(sora_folder_remove(path, error));
        free(path);
        path = NULL;
    }
cleanup:
    sora_names_free(names, name_count);
    free(path);
    free(steps);
    return status;
}

sora_status sora_checkpoint_set_best(const char *run, uint32_t step, sora_error *error)
{
    char *path = NULL, line[32];
    int length = snprintf(line, sizeof line, "%s%u\n", prefix, step);
    sora_status status = sora_format(&path, error, "%s/best", run);
    if (status == SORA_OK) status = sora_file_write(path, line, (size_t)length, error);
    free(path);
    return status;
}

static sora_status refuse_empty(const char *run, sora_error *error)
{
    char *peft = NULL;
    sora_status status = sora_format(&peft, error, "%s/adapter_config.json", run);
    if (status != SORA_OK) return status;
    bool is_peft = sora_path_exists(peft);
    free(peft);
    if (is_peft)
        return sora_fail(error, SORA_ERROR_INPUT,
                         "%s: a PEFT folder, no run; soracl adapter import %s --model DIR --out RUN makes one of it", run, run);
    return sora_fail(error, SORA_ERROR_INPUT, "%s: no checkpoint in it; is it a run's folder, and did the run save one?", run);
}

sora_status sora_checkpoint_find(const char *run, bool last, char **path, sora_error *error)
{
    uint32_t *steps = NULL, step = 0;
    size_t count = 0;
    *path = NULL;
    sora_status status = sora_checkpoint_list(run, &steps, &count, error);
    if (status == SORA_OK && count == 0) status = refuse_empty(run, error);
    if (status == SORA_OK && (last || !read_best(run, &step))) step = steps[count - 1];
    if (status == SORA_OK) status = sora_format(path, error, "%s/%s%u", run, prefix, step);
    free(steps);
    return status;
}

/* ---- Moments ----------------------------------------------------------------------------------------------------- */

static bool has_moment(const sora_param *param, sora_moment_layout moments, int which)
{
    return sora_param_trainable(param) && sora_param_moment_shape(param, moments, which).rank > 0;
}

sora_status sora_moments_save(const sora_params *params, sora_moment_layout moments, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t count = sora_params_count(params), used = 0, room = 2 * count;
    sora_file_tensor *tensors = NULL;
    char **names = NULL, *path = NULL;
    float **values = NULL;
    SORA_TRY(sora_allocate(room, sizeof *tensors, "moments", &tensors, error));
    SORA_TRY(sora_allocate(room, sizeof *names, "moments", &names, error));
    SORA_TRY(sora_allocate(room, sizeof *values, "moments", &values, error));
    SORA_TRY(sora_format(&path, error, "%s/optimizer.safetensors", folder));
    for (size_t i = 0; i < count; i++) {
        const sora_param *param = sora_params_at(params, i);
        for (int which = 1; which <= 2 && has_moment(param, moments, which); which++, used++) {
            sora_shape shape = sora_param_moment_shape(param, moments, which);
            uint64_t elements = (uint64_t)sora_shape_elements(&shape);
            SORA_TRY(sora_format(&names[used], error, "%s#%d", sora_param_name(param), which));
            SORA_TRY(sora_allocate(elements, sizeof(float), names[used], &values[used], error));
            SORA_TRY(sora_param_read(param, which, values[used], error));
            tensors[used] = (sora_file_tensor) {
                .name = names[used], .dtype = SORA_FILE_F32, .rank = shape.rank, .elements = elements, .data = values[used]
            };
            memcpy(tensors[used].shape, shape.dim, (size_t)shape.rank * sizeof *shape.dim);
        }
    }
    SORA_TRY(sora_safetensors_write(path, tensors, used, NULL, 0, error));
cleanup:
    for (size_t i = 0; i < room; i++) {
        if (names) free(names[i]);
        if (values) free(values[i]);
    }
    free(names);
    free(values);
    free(tensors);
    free(path);
    return status;
}

static sora_status load_moment(sora_param *param, sora_moment_layout moments, int which, const sora_safetensors *file,
                               const char *path, sora_error *error)
{
    sora_status status = SORA_OK;
    char *name = NULL;
    float *moment;
    sora_shape shape = sora_param_moment_shape(param, moments, which);
    SORA_TRY(sora_format(&name, error, "%s#%d", sora_param_name(param), which));
    const sora_file_tensor *tensor = sora_safetensors_find(file, name);
    if (!tensor) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: tensor %s is missing", path, name);
    bool equal = tensor->rank == shape.rank && tensor->dtype == SORA_FILE_F32;
    for (int i = 0; equal && i < shape.rank; i++) equal = tensor->shape[i] == shape.dim[i];
    if (!equal) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: tensor %s has another shape than its parameter asks for", path, name);
    SORA_TRY(sora_param_host_moment(param, which, &moment, error));
    memcpy(moment, tensor->data, tensor->elements * sizeof *moment);
cleanup:
    free(name);
    return status;
}

sora_status sora_moments_load(sora_params *params, sora_moment_layout moments, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_safetensors *file = NULL;
    char *path = NULL;
    size_t expected = 0;
    SORA_TRY(sora_format(&path, error, "%s/optimizer.safetensors", folder));
    SORA_TRY(sora_safetensors_open(path, &file, error));
    SORA_TRY(sora_params_set_moments(params, moments, error));
    for (size_t i = 0; i < sora_params_count(params); i++) {
        sora_param *param = sora_params_at(params, i);
        for (int which = 1; which <= 2 && has_moment(param, moments, which); which++, expected++)
            SORA_TRY(load_moment(param, moments, which, file, path, error));
    }
    if (sora_safetensors_count(file) != expected)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: %zu tensors, expected %zu", path, sora_safetensors_count(file), expected);
cleanup:
    sora_safetensors_close(&file);
    free(path);
    return status;
}
