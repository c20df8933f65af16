/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/params_file.h"
#include "model/unet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "soracl-unet-1"

sora_status sora_unet_save(const sora_unet *unet, const char *path, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t count = sora_params_count(unet->params);
    sora_param **list = NULL;
    char config[128], mean[96], deviation[96];
    for (size_t i = 0; i < sora_layers_count(unet->layers); i++) {
        sora_layer_info info;
        SORA_TRY(sora_layer_describe(sora_layers_at(unet->layers, i), &info, error));
        if (info.active)
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: layer %s has an active adapter; merge it first or save the adapters", path,
                      info.name);
    }
    SORA_TRY(sora_allocate(count, sizeof *list, path, &list, error));
    for (size_t i = 0; i < count; i++) list[i] = sora_params_at(unet->params, i);
    snprintf(config, sizeof config, "%s size %d width %d depth %d", unet->config.model, unet->config.size, unet->config.width,
             unet->config.depth);
    snprintf(mean, sizeof mean, "%a %a %a", (double)unet->mean[0], (double)unet->mean[1], (double)unet->mean[2]);
    snprintf(deviation, sizeof deviation, "%a %a %a", (double)unet->deviation[0], (double)unet->deviation[1],
             (double)unet->deviation[2]);
    const char *const metadata[][2] = {
        { "format", FORMAT }, { "network", config }, { "mean", mean }, { "deviation", deviation }
    };
    status = sora_params_write_file(path, list, count, SORA_FILE_F32, metadata, SORA_COUNT(metadata), error);
cleanup:
    free(list);
    return status;
}

static sora_status read_triple(const sora_safetensors *file, const char *path, const char *key, float out[3], sora_error *error)
{
    const char *text = sora_safetensors_metadata(file, key);
    int read = 0;
    if (!text || sscanf(text, "%f %f %f%n", &out[0], &out[1], &out[2], &read) != 3 || text[read] != '\0' || !isfinite(out[0]) ||
        !isfinite(out[1]) || !isfinite(out[2]))
        return sora_fail(error, SORA_ERROR_INPUT, "%s: metadata \"%s\" is \"%.60s\", expected three numbers", path, key,
                         text ? text : "absent");
    return SORA_OK;
}

static sora_status read_config(const sora_safetensors *file, const char *path, char model[16], sora_unet_options *options,
                               sora_error *error)
{
    const char *format = sora_safetensors_metadata(file, "format"), *text = sora_safetensors_metadata(file, "network");
    int read = 0;
    if (!format || strcmp(format, FORMAT) != 0)
        return sora_fail(error, SORA_ERROR_INPUT, "%s: format \"%.40s\", expected \"" FORMAT "\" (weights written by soracl)",
                         path, format ? format : "none");
    if (!text ||
        sscanf(text, "%15s size %d width %d depth %d%n", model, &options->size, &options->width, &options->depth, &read) != 4 ||
        text[read] != '\0')
        return sora_fail(error, SORA_ERROR_INPUT, "%s: metadata \"network\" is \"%.60s\", which is no description of a network",
                         path, text ? text : "absent");
    options->model = model;
    return SORA_OK;
}

sora_status sora_unet_load(sora_context *context, const char *path, sora_unet **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_safetensors *file = NULL;
    sora_unet *unet = NULL;
    char model[16];
    sora_unet_options options = { 0 };
    const char *largest;
    uint64_t elements;
    *out = NULL;
    SORA_TRY(sora_safetensors_open(path, &file, error));
    SORA_TRY(read_config(file, path, model, &options, error));
    /* Metadata alone may ask for any memory; a file that holds the largest weight has the network's order of size. */
    status = sora_unet_largest_weight(&options, &largest, &elements, error);
    const sora_file_tensor *tensor = status == SORA_OK ? sora_safetensors_find(file, largest) : NULL;
    if (status == SORA_OK && (!tensor || tensor->elements != elements))
        status = sora_fail(error, SORA_ERROR_INPUT, "tensor %s has %llu values, expected %llu of metadata \"network\": \"%.60s\"",
                           largest, (unsigned long long)(tensor ? tensor->elements : 0), (unsigned long long)elements,
                           sora_safetensors_metadata(file, "network"));
    if (status == SORA_OK) status = sora_unet_create(context, &options, &unet, error);
    if (status != SORA_OK) {
        sora_error_prefix(error, "%s", path);
        if (status == SORA_ERROR_ARGUMENT) status = SORA_ERROR_INPUT;
        if (error) error->status = status;
        goto cleanup;
    }
    SORA_TRY(read_triple(file, path, "mean", unet->mean, error));
    SORA_TRY(read_triple(file, path, "deviation", unet->deviation, error));
    size_t count = sora_params_count(unet->params);
    for (size_t i = 0; i < count; i++) SORA_TRY(sora_param_read_file(sora_params_at(unet->params, i), file, path, error));
    for (size_t i = 0; i < sora_safetensors_count(file); i++) {
        const char *name = sora_safetensors_at(file, i)->name;
        if (!sora_params_find(unet->params, name))
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s: tensor %s is not part of %s", path, name, unet->config.model);
    }
    *out = unet;
    unet = NULL;
cleanup:
    sora_unet_destroy(&unet);
    sora_safetensors_close(&file);
    return status;
}
