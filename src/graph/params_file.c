/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/params_file.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Nearest half, ties to even; what is too large becomes infinite. */
static uint16_t half_of(float value)
{
    uint32_t bits, sign, rest;
    memcpy(&bits, &value, sizeof bits);
    sign = bits >> 16 & 0x8000u;
    rest = bits & 0x7fffffffu;
    if (rest >= 0x47800000u) return (uint16_t)(sign | (rest > 0x7f800000u ? 0x7e00u : 0x7c00u));
    if (rest < 0x38800000u) {
        /* Below the normal numbers, steps are of 2^-24: the addition rounds. */
        float magnitude, shifted;
        memcpy(&magnitude, &rest, sizeof magnitude);
        shifted = magnitude + 0.5f;
        memcpy(&rest, &shifted, sizeof rest);
        return (uint16_t)(sign | (rest - 0x3f000000u));
    }
    rest += 0xfffu + (rest >> 13 & 1u);
    return (uint16_t)(sign | ((rest - 0x38000000u) >> 13));
}

/* In place: halves in the first half of the floats' memory. */
static sora_status narrow(float *values, uint64_t count, const char *name, sora_error *error)
{
    uint16_t *halves = (uint16_t *)values;
    for (uint64_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, (const unsigned char *)values + i * sizeof value, sizeof value);
        uint16_t half = half_of(value);
        if ((half & 0x7c00u) == 0x7c00u)
            return sora_fail(error, SORA_ERROR_NUMERIC, "%s: %g has no number in fp16; store the weights as fp32", name, (double)value);
        memcpy(halves + i, &half, sizeof half);
    }
    return SORA_OK;
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
        sora_shape shape = sora_param_shape(list[i]);
        uint64_t elements = (uint64_t)sora_shape_elements(&shape);
        SORA_TRY(sora_allocate(elements, sizeof(float), name, &values[i], error));
        SORA_TRY(sora_param_read(list[i], 0, values[i], error));
        if (dtype == SORA_FILE_F16) SORA_TRY(narrow(values[i], elements, name, error));
        tensors[i] = (sora_file_tensor) {
            .name = name, .dtype = dtype, .rank = shape.rank, .elements = elements, .data = values[i]
        };
        memcpy(tensors[i].shape, shape.dim, (size_t)shape.rank * sizeof *shape.dim);
    }
    status = sora_safetensors_write(path, tensors, count, metadata, metadata_count, error);
cleanup:
    for (size_t i = 0; values && i < count; i++) free(values[i]);
    free(values);
    free(tensors);
    return status;
}

sora_status sora_param_read_file(sora_param *param, const sora_safetensors *file, const char *path, sora_error *error)
{
    const char *name = sora_param_name(param);
    return sora_param_read_tensor(param, sora_safetensors_find(file, name), path, name, error);
}

sora_status sora_param_read_tensor(sora_param *param, const sora_file_tensor *tensor, const char *path, const char *name, sora_error *error)
{
    sora_shape shape = sora_param_shape(param);
    if (!tensor) return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %s is missing", path, name);
    bool equal = tensor->rank == shape.rank;
    for (int i = 0; equal && i < shape.rank; i++) equal = tensor->shape[i] == shape.dim[i];
    if (!equal) {
        sora_shape found = { .rank = SORA_MIN(tensor->rank, SORA_MAX_RANK) };
        memcpy(found.dim, tensor->shape, (size_t)found.rank * sizeof *found.dim);
        char expected[80], got[80];
        return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %s is %s, expected %s", path, name, sora_shape_text(&found, got),
                         sora_shape_text(&shape, expected));
    }
    float *value = sora_param_host(param);
    sora_status status = sora_file_tensor_to_f32(tensor, value, error);
    if (status != SORA_OK) sora_error_prefix(error, "%s", path);
    for (uint64_t i = 0; status == SORA_OK && i < tensor->elements; i++)
        if (!isfinite(value[i]))
            status = sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %s holds %g at %llu", path, name, (double)value[i],
                               (unsigned long long)i);
    return status;
}
