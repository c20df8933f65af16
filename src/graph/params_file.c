/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/params_file.h"

#include "base/half.h"
#include "data/weights.h"
#include "graph/params_structure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FINITE_LANES 16

static sora_file_tensor tensor_of(const sora_param *param, sora_file_dtype dtype, const void *data)
{
    sora_file_tensor tensor = {
        .name = param->name, .dtype = dtype, .rank = param->shape.rank, .elements = (uint64_t)param->elements, .data = data
    };
    memcpy(tensor.shape, param->shape.dim, (size_t)param->shape.rank * sizeof *param->shape.dim);
    return tensor;
}

/* x − x is 0 for a number and NaN for all else; sums of a block go lane by lane, a test of each number does not. */
static bool all_finite(const float *value, uint64_t count)
{
    float sums[FINITE_LANES] = { 0 }, sum = 0.0f;
    uint64_t whole = count / FINITE_LANES * FINITE_LANES;
    for (uint64_t i = 0; i < whole; i += FINITE_LANES)
        for (int l = 0; l < FINITE_LANES; l++) sums[l] += value[i + l] - value[i + l];
    for (uint64_t i = whole; i < count; i++) sum += value[i] - value[i];
    for (int l = 0; l < FINITE_LANES; l++) sum += sums[l];
    return sum == 0.0f;
}

/* `refusal` where a value is not finite: neither read nor written. */
static sora_status check_finite(const float *value, uint64_t count, const char *path, const char *name, sora_status refusal,
                                sora_error *error)
{
    uint64_t i = 0;
    if (all_finite(value, count)) return SORA_OK;
    while (isfinite(value[i])) i++;
    return sora_fail(error, refusal, "%s: tensor %s holds %g at %llu", path, name, (double)value[i], (unsigned long long)i);
}

sora_status sora_params_write_file(const char *path, sora_param *const *list, size_t count, sora_file_dtype dtype,
                                   const char *const (*metadata)[2], size_t metadata_count, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_file_tensor *tensors = NULL;
    float **values = NULL;
    SORA_TRY(sora_allocate(count, sizeof *tensors, path, &tensors, error));
    SORA_TRY(sora_allocate(count, sizeof *values, path, &values, error));
    for (size_t i = 0; i < count; i++) {
        const char *name = sora_param_name(list[i]);
        uint64_t elements = (uint64_t)list[i]->elements;
        SORA_TRY(sora_allocate(elements, sizeof(float), name, &values[i], error));
        SORA_TRY(sora_param_read(list[i], 0, values[i], error));
        SORA_TRY(check_finite(values[i], elements, path, name, SORA_ERROR_NUMERIC, error));
        if (dtype == SORA_FILE_F16) SORA_TRY(sora_halves_of(values[i], elements, name, (uint16_t *)values[i], error));
        tensors[i] = tensor_of(list[i], dtype, values[i]);
    }
    status = sora_safetensors_write(path, tensors, count, metadata, metadata_count, error);
cleanup:
    for (size_t i = 0; values && i < count; i++) free(values[i]);
    free(values);
    free(tensors);
    return status;
}

sora_status sora_params_hash(const sora_params *params, uint64_t *out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_file_tensor *tensors = NULL;
    const sora_file_tensor **list = NULL;
    SORA_TRY(sora_allocate(params->count, sizeof *tensors, "tensors", &tensors, error));
    SORA_TRY(sora_allocate(params->count, sizeof *list, "tensors", &list, error));
    for (size_t i = 0; i < params->count; i++) {
        tensors[i] = tensor_of(params->items[i], SORA_FILE_F32, params->items[i]->host[SORA_PART_VALUE]);
        list[i] = &tensors[i];
    }
    status = sora_tensors_hash(list, params->count, "the parameters", out, error);
cleanup:
    free(tensors);
    free(list);
    return status;
}

sora_status sora_param_read_file(sora_param *param, const sora_safetensors *file, const char *path, sora_error *error)
{
    const char *name = sora_param_name(param);
    return sora_param_read_tensor(param, sora_safetensors_find(file, name), path, name, error);
}

static sora_status check_tensor(const sora_param *param, const sora_file_tensor *tensor, const char *path, const char *name,
                                sora_error *error)
{
    sora_shape shape = sora_param_shape(param);
    if (!tensor) return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %s is missing", path, name);
    bool equal = tensor->rank == shape.rank;
    for (int i = 0; equal && i < shape.rank; i++) equal = tensor->shape[i] == shape.dim[i];
    if (equal) return SORA_OK;
    sora_shape found = { .rank = SORA_MIN(tensor->rank, SORA_MAX_RANK) };
    memcpy(found.dim, tensor->shape, (size_t)found.rank * sizeof *found.dim);
    char expected[80], got[80];
    return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %s is %s, expected %s", path, name, sora_shape_text(&found, got),
                     sora_shape_text(&shape, expected));
}

sora_status sora_param_read_tensor(sora_param *param, const sora_file_tensor *tensor, const char *path, const char *name,
                                   sora_error *error)
{
    sora_status status = check_tensor(param, tensor, path, name, error);
    if (status != SORA_OK) return status;
    float *value = sora_param_host(param);
    status = sora_file_tensor_to_f32(tensor, value, error);
    if (status != SORA_OK) sora_error_prefix(error, "%s", path);
    return status == SORA_OK ? check_finite(value, tensor->elements, path, name, SORA_ERROR_INPUT, error) : status;
}

sora_status sora_param_borrow_tensor(sora_param *param, const sora_file_tensor *tensor, const char *path, const char *name,
                                     sora_error *error)
{
    if (!tensor || tensor->dtype != SORA_FILE_F32 || (uintptr_t)tensor->data % _Alignof(float) != 0)
        return sora_param_read_tensor(param, tensor, path, name, error);
    sora_status status = check_tensor(param, tensor, path, name, error);
    if (status == SORA_OK) status = check_finite(tensor->data, tensor->elements, path, name, SORA_ERROR_INPUT, error);
    if (status != SORA_OK) return status;
    free(param->host[SORA_PART_VALUE]);
    param->host[SORA_PART_VALUE] = (float *)tensor->data; /* private pages, which may be written */
    param->borrowed = true;
    return SORA_OK;
}

void sora_params_keep_weights(sora_params *params, sora_weights *weights)
{
    params->weights = weights;
}
