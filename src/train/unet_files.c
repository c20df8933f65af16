/* SPDX-License-Identifier: Apache-2.0 */
#include "train/unet_files.h"

#include "adapter/layer.h"
#include "base/file.h"
#include "graph/params_file.h"
#include "train/checkpoint.h"

#include <stdlib.h>
#include <string.h>

static sora_status load_weights(sora_unet *unet, const char *path, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_safetensors *file = NULL;
    sora_params *params = sora_unet_params(unet);
    SORA_TRY(sora_safetensors_open(path, &file, error));
    for (size_t i = 0; i < sora_params_count(params); i++)
        SORA_TRY(sora_param_read_file(sora_params_at(params, i), file, path, error));
    if (sora_safetensors_count(file) != sora_params_count(params))
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: %zu tensors, this network has %zu: a checkpoint of another network", path,
                  sora_safetensors_count(file), sora_params_count(params));
cleanup:
    sora_safetensors_close(&file);
    return status;
}

sora_status sora_unet_load_checkpoint(sora_unet *unet, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_layers *layers = sora_unet_layers(unet);
    char *adapter = NULL, *weights = NULL;
    SORA_TRY(sora_format(&adapter, error, "%s/adapter.safetensors", folder));
    SORA_TRY(sora_format(&weights, error, "%s/weights.safetensors", folder));
    if (!sora_path_exists(adapter)) {
        status = load_weights(unet, weights, error);
        goto cleanup;
    }
    for (size_t i = 0; i < sora_layers_count(layers); i++) sora_layer_drop_adapter(sora_layers_at(layers, i));
    SORA_TRY(sora_adapters_load(layers, adapter, error));
cleanup:
    free(adapter);
    free(weights);
    return status;
}

sora_status sora_unet_merge(sora_unet *unet, sora_error *error)
{
    sora_layers *layers = sora_unet_layers(unet);
    for (size_t i = 0; i < sora_layers_count(layers); i++) {
        sora_layer *layer = sora_layers_at(layers, i);
        sora_status status = layer->active ? sora_layer_deactivate(layer, NULL, error) : SORA_OK;
        if (status != SORA_OK) return status;
        if (layer->merged) sora_layer_forget(layer);
    }
    for (size_t i = 0; i < sora_params_count(sora_unet_params(unet)); i++)
        sora_param_set_trainable(sora_params_at(sora_unet_params(unet), i), true);
    return SORA_OK;
}

/* The checkpoint folder and the run that `from` names. */
static sora_status find_checkpoint(const char *from, char **run, char **folder, sora_error *error)
{
    sora_status status = SORA_OK;
    char *state = NULL;
    size_t length = strlen(from);
    bool last = length > 5 && strcmp(from + length - 5, ":last") == 0;
    SORA_TRY(sora_duplicate(from, run, error));
    if (last) (*run)[length - 5] = '\0';
    SORA_TRY(sora_format(&state, error, "%s/state.json", *run));
    if (sora_path_exists(state)) {
        SORA_TRY(sora_duplicate(*run, folder, error));
        free(*run);
        *run = NULL;
        SORA_TRY(sora_format(run, error, "%s/..", *folder));
    } else {
        status = sora_checkpoint_find(*run, last, folder, error);
    }
cleanup:
    free(state);
    return status;
}

sora_status sora_unet_open(sora_context *context, const char *from, sora_unet **out, sora_error *error)
{
    sora_status status = SORA_OK;
    char *run = NULL, *folder = NULL, *path = NULL;
    sora_unet *unet = NULL;
    *out = NULL;
    if (sora_path_exists(from) && !sora_path_is_folder(from)) return sora_unet_load(context, from, out, error);
    SORA_TRY(find_checkpoint(from, &run, &folder, error));
    SORA_TRY(sora_format(&path, error, "%s/adapter.safetensors", folder));
    bool adapters = sora_path_exists(path);
    free(path);
    path = NULL;
    SORA_TRY(adapters ? sora_format(&path, error, "%s/base.safetensors", run)
                      : sora_format(&path, error, "%s/weights.safetensors", folder));
    SORA_TRY(sora_unet_load(context, path, &unet, error));
    if (adapters) SORA_TRY(sora_unet_load_checkpoint(unet, folder, error));
    *out = unet;
    unet = NULL;
cleanup:
    sora_unet_destroy(&unet);
    free(run);
    free(folder);
    free(path);
    return status;
}
