/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter/layer.h"

#include "graph/params_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "soracl-adapter-1"

/* What metadata holds of each active layer under "adapter:NAME"; hexadecimal floats are exact. */
#define LAYER_WRITE "%s rank_max %d rank %d alpha %a scale %a dropout %a"
#define LAYER_READ "%7s rank_max %d rank %d alpha %f scale %f dropout %f%n"

static bool belongs(const sora_layers *layers, const sora_param *param)
{
    if (sora_param_kind_of(param) == SORA_PARAM_STATE) return true;
    for (size_t i = 0; i < layers->count; i++) {
        const sora_layer *layer = layers->items[i];
        if (param == layer->down || param == layer->up || (layer->gate && param == layer->gate)) return true;
    }
    return false;
}

sora_status sora_adapters_save(const sora_layers *layers, const char *path, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t all = sora_params_count(layers->params), count = 0, notes = 0;
    sora_param **list = NULL;
    const char *(*metadata)[2] = NULL;
    char **owned = NULL;
    SORA_TRY(sora_allocate(all, sizeof *list, path, &list, error));
    SORA_TRY(sora_allocate(layers->count + 1, sizeof *metadata, path, &metadata, error));
    SORA_TRY(sora_allocate(2 * layers->count, sizeof *owned, path, &owned, error));
    metadata[0][0] = "format";
    metadata[0][1] = FORMAT;
    for (size_t i = 0; i < layers->count; i++) {
        const sora_layer *layer = layers->items[i];
        if (!layer->active) continue;
        SORA_TRY(sora_format(&owned[2 * notes], error, "adapter:%s", layer->name));
        SORA_TRY(sora_format(&owned[2 * notes + 1], error, LAYER_WRITE, layer->kind == SORA_ADAPTER_SORA ? "sora" : "lora",
                             layer->rank_max, layer->rank, (double)layer->alpha, (double)layer->scale, (double)layer->dropout));
        metadata[notes + 1][0] = owned[2 * notes];
        metadata[notes + 1][1] = owned[2 * notes + 1];
        notes++;
    }
    for (size_t i = 0; i < all; i++) {
        sora_param *param = sora_params_at(layers->params, i);
        if (belongs(layers, param)) list[count++] = param;
    }
    status = sora_params_write_file(path, list, count, SORA_FILE_F32, (const char *const(*)[2])metadata, notes + 1, error);
cleanup:
    for (size_t i = 0; owned && i < 2 * layers->count; i++) free(owned[i]);
    free(owned);
    free(metadata);
    free(list);
    return status;
}

static sora_status activate_from(sora_layer *layer, const char *path, const char *note, sora_error *error)
{
    char kind[8];
    int rank_max, rank, read = 0;
    float alpha, scale, dropout;
    if (sscanf(note, LAYER_READ, kind, &rank_max, &rank, &alpha, &scale, &dropout, &read) != 6 || note[read] != '\0' ||
        (strcmp(kind, "sora") != 0 && strcmp(kind, "lora") != 0))
        return sora_fail(error, SORA_ERROR_INPUT, "%s: adapter of layer %s is described by \"%.80s\", which is no description",
                         path, layer->name, note);
    sora_status status = sora_layer_activate_pruned(layer, strcmp(kind, "sora") == 0 ? SORA_ADAPTER_SORA : SORA_ADAPTER_LORA,
                                                    rank_max, rank, alpha, scale, dropout, error);
    if (status != SORA_OK) sora_error_prefix(error, "%s", path);
    return status;
}

sora_status sora_adapters_load(sora_layers *layers, const char *path, sora_error *error)
{
    sora_status status = sora_layers_require_normal(layers, "load adapters", error);
    sora_safetensors *file = NULL;
    float **kept = NULL; /* running statistics as they were, by number of the parameter */
    size_t active = 0, used = 0;
    if (status != SORA_OK) return status;
    SORA_TRY(sora_safetensors_open(path, &file, error));
    const char *format = sora_safetensors_metadata(file, "format");
    if (!format || strcmp(format, FORMAT) != 0)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: format \"%.40s\", expected \"" FORMAT "\"", path, format ? format : "");
    for (size_t i = 0; i < layers->count; i++) {
        char *key = NULL;
        SORA_TRY(sora_format(&key, error, "adapter:%s", layers->items[i]->name));
        const char *note = sora_safetensors_metadata(file, key);
        free(key);
        if (!note) continue;
        SORA_TRY(activate_from(layers->items[i], path, note, error));
        active++;
    }
    if (active == 0) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: none of its adapters belongs to a layer of this network", path);
    SORA_TRY(sora_allocate(sora_params_count(layers->params), sizeof *kept, path, &kept, error));
    for (size_t i = 0; i < sora_params_count(layers->params); i++) {
        sora_param *param = sora_params_at(layers->params, i);
        if (!belongs(layers, param)) continue;
        if (sora_param_kind_of(param) == SORA_PARAM_STATE) SORA_TRY(sora_layer_copy_param(param, &kept[i], error));
        SORA_TRY(sora_param_read_file(param, file, path, error));
        used++;
    }
    if (used != sora_safetensors_count(file))
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: holds %zu tensors, this network takes %zu: an adapter of another network", path,
                  sora_safetensors_count(file), used);
    for (size_t i = 0; i < sora_params_count(layers->params); i++) {
        sora_param *param = sora_params_at(layers->params, i);
        if (!belongs(layers, param)) sora_param_set_trainable(param, false);
    }
cleanup:
    for (size_t i = 0; kept && i < sora_params_count(layers->params); i++) {
        sora_param *param = sora_params_at(layers->params, i);
        sora_shape shape = sora_param_shape(param);
        if (status != SORA_OK && kept[i])
            memcpy(sora_param_host(param), kept[i], (size_t)sora_shape_elements(&shape) * sizeof **kept);
        free(kept[i]);
    }
    free(kept);
    if (status != SORA_OK)
        for (size_t i = 0; i < layers->count; i++) sora_layer_drop_adapter(layers->items[i]);
    sora_safetensors_close(&file);
    return status;
}
