/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/train.h"

#include "base/file.h"
#include "train/checkpoint.h"
#include "train/run_folder.h"
#include "train/run_weights.h"

#include <stdlib.h>
#include <string.h>

/* The checkpoint folder and the run that `from` names. */
static sora_status find_checkpoint(const char *from, char **run, char **folder, sora_error *error)
{
    sora_status status = SORA_OK;
    char *state = NULL;
    size_t length = sora_run_name_length(from);
    bool last = from[length] != '\0';
    SORA_TRY(sora_duplicate(from, run, error));
    (*run)[length] = '\0';
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
    if (adapters)
        SORA_TRY(sora_run_load_checkpoint(sora_unet_params(unet), sora_unet_layers(unet), folder, "weights.safetensors", error));
    *out = unet;
    unet = NULL;
cleanup:
    sora_unet_destroy(&unet);
    free(run);
    free(folder);
    free(path);
    return status;
}
