/* SPDX-License-Identifier: Apache-2.0 */
#include "train/run_weights.h"

#include "adapter/layer.h"
#include "base/file.h"
#include "graph/params_file.h"

#include <stdlib.h>

static sora_status load_weights(sora_params *params, const char *path, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_safetensors *file = NULL;
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

sora_status sora_run_load_checkpoint(sora_params *params, sora_layers *layers, const char *folder, const char *weights,
                                     sora_error *error)
{
    sora_status status = SORA_OK;
    char *adapter = NULL, *path = NULL;
    SORA_TRY(sora_format(&adapter, error, "%s/adapter.safetensors", folder));
    SORA_TRY(sora_format(&path, error, "%s/%s", folder, weights));
    if (!sora_path_exists(adapter)) {
        status = load_weights(params, path, error);
        goto cleanup;
    }
    for (size_t i = 0; i < sora_layers_count(layers); i++) sora_layer_drop_adapter(sora_layers_at(layers, i));
    SORA_TRY(sora_adapters_load(layers, adapter, error));
cleanup:
    free(adapter);
    free(path);
    return status;
}

sora_status sora_run_merge(sora_params *params, sora_layers *layers, sora_error *error)
{
    for (size_t i = 0; i < sora_layers_count(layers); i++) {
        sora_layer *layer = sora_layers_at(layers, i);
        sora_status status = layer->active ? sora_layer_deactivate(layer, NULL, error) : SORA_OK;
        if (status != SORA_OK) return status;
        if (layer->merged) sora_layer_forget(layer);
    }
    for (size_t i = 0; i < sora_params_count(params); i++) sora_param_set_trainable(sora_params_at(params, i), true);
    return SORA_OK;
}
