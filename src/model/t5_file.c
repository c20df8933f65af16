/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "graph/params_file.h"
#include "model/t5.h"
#include "soracl/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

/* Tensors of the hub's files that say nothing: other names of the embedding, and a bias that no position uses. */
static bool is_idle(const char *name)
{
    static const char *const idle[] = { "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight",
                                        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight" };
    for (size_t i = 0; i < SORA_COUNT(idle); i++)
        if (strcmp(name, idle[i]) == 0) return true;
    return false;
}

static const sora_file_tensor *find_embedding(const sora_weights *weights)
{
    static const char *const names[] = { "shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight" };
    const sora_file_tensor *found = NULL;
    for (size_t i = 0; i < SORA_COUNT(names) && !found; i++) found = sora_weights_find(weights, names[i]);
    return found;
}

/* The head is the file's where that holds one that differs from the embedding, whatever the config says of tying. */
static bool has_own_head(const sora_weights *weights)
{
    const sora_file_tensor *head = sora_weights_find(weights, "lm_head.weight"), *shared = find_embedding(weights);
    if (!head || !shared) return head != NULL;
    if (head->dtype != shared->dtype || head->elements != shared->elements) return true;
    return memcmp(head->data, shared->data, sora_file_tensor_bytes(head)) != 0;
}

static sora_status read_weights(sora_t5 *t5, const sora_weights *weights, sora_error *error)
{
    const char *path = sora_weights_path(weights);
    for (size_t i = 0; i < sora_params_count(t5->params); i++) {
        sora_param *param = sora_params_at(t5->params, i);
        const char *name = sora_param_name(param);
        const sora_file_tensor *tensor = param == t5->shared ? find_embedding(weights) : sora_weights_find(weights, name);
        sora_status status = sora_param_borrow_tensor(param, tensor, path, name, error);
        if (status != SORA_OK) return status;
    }
    for (size_t i = 0; i < sora_weights_count(weights); i++) {
        const char *name = sora_weights_at(weights, i)->name;
        if (!sora_params_find(t5->params, name) && !is_idle(name))
            return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %s is not part of a T5 of this config.json", path, name);
    }
    return SORA_OK;
}

sora_status sora_t5_load(sora_context *context, const char *folder, sora_t5 **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_weights *weights = NULL;
    sora_t5 *t5 = NULL;
    sora_t5_config config;
    json_t *json = NULL;
    uint64_t hash;
    *out = NULL;
    SORA_TRY(sora_t5_config_read(folder, &config, &json, error));
    SORA_TRY(sora_weights_open(folder, &weights, error));
    config.own_head = has_own_head(weights);
    SORA_TRY(sora_t5_allocate(context, &config, &t5, error));
    SORA_TRY(sora_t5_config_read_ends(folder, &config, &t5->start, &t5->eos, error));
    t5->json = json;
    json = NULL;
    free(t5->folder);
    t5->folder = NULL;
    SORA_TRY(sora_duplicate(folder, &t5->folder, error));
    SORA_TRY(read_weights(t5, weights, error));
    SORA_TRY(sora_weights_hash(weights, &hash, error));
    snprintf(t5->base, sizeof t5->base, "%016llx", (unsigned long long)hash);
    sora_params_keep_weights(t5->params, weights);
    weights = NULL;
    *out = t5;
    t5 = NULL;
cleanup:
    json_decref(json);
    sora_t5_destroy(&t5);
    sora_weights_close(&weights);
    return status;
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

static sora_status write_config(const sora_t5 *t5, const char *folder, sora_file_dtype dtype, sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL, *text = NULL;
    const char *name = dtype == SORA_FILE_F16 ? "float16" : "float32";
    json_t *root = t5->json ? json_deep_copy(t5->json) : sora_t5_config_json(&t5->config);
    if (root) json_object_set_new(root, json_object_get(root, "dtype") ? "dtype" : "torch_dtype", json_string(name));
    text = root ? json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    if (!text) SORA_FAIL(error, SORA_ERROR_MEMORY, "%s: no host memory for config.json", folder);
    SORA_TRY(sora_format(&path, error, "%s/config.json", folder));
    SORA_TRY(sora_file_write(path, text, strlen(text), error));
cleanup:
    json_decref(root);
    free(path);
    free(text);
    return status;
}

static sora_status copy_file(const char *from, const char *to, const char *name, sora_error *error)
{
    sora_status status = SORA_OK;
    char *source = NULL, *target = NULL;
    unsigned char *data = NULL;
    size_t bytes;
    SORA_TRY(sora_format(&source, error, "%s/%s", from, name));
    if (!sora_path_exists(source)) goto cleanup;
    SORA_TRY(sora_format(&target, error, "%s/%s", to, name));
    SORA_TRY(sora_file_read(source, 256u << 20, &data, &bytes, error));
    SORA_TRY(sora_file_write(target, data, bytes, error));
cleanup:
    free(data);
    free(source);
    free(target);
    return status;
}

static sora_status refuse_adapters(const sora_t5 *t5, const char *folder, sora_error *error)
{
    for (size_t i = 0; i < sora_layers_count(t5->layers); i++) {
        sora_layer_info info;
        sora_status status = sora_layer_describe(sora_layers_at(t5->layers, i), &info, error);
        if (status != SORA_OK) return status;
        if (info.active)
            return sora_fail(error, SORA_ERROR_ARGUMENT,
                             "%s: layer %s has an active adapter; merge it first or save the adapters", folder, info.name);
    }
    return SORA_OK;
}

sora_status sora_t5_save(const sora_t5 *t5, const char *folder, sora_file_dtype dtype, sora_error *error)
{
    static const char *const beside[] = { "spiece.model",          "tokenizer.json",
                                          "tokenizer_config.json", "special_tokens_map.json",
                                          "added_tokens.json",     "generation_config.json" };
    static const char *const metadata[][2] = { { "format", "pt" } };
    sora_status status = SORA_OK;
    size_t count = sora_params_count(t5->params);
    sora_param **list = NULL;
    char *path = NULL;
    SORA_TRY(refuse_adapters(t5, folder, error));
    SORA_TRY(sora_folder_create(folder, error));
    SORA_TRY(sora_allocate(count, sizeof *list, folder, &list, error));
    for (size_t i = 0; i < count; i++) list[i] = sora_params_at(t5->params, i);
    SORA_TRY(sora_format(&path, error, "%s/model.safetensors", folder));
    SORA_TRY(sora_params_write_file(path, list, count, dtype, metadata, SORA_COUNT(metadata), error));
    for (size_t i = 0; *t5->folder && i < SORA_COUNT(beside); i++) SORA_TRY(copy_file(t5->folder, folder, beside[i], error));
    SORA_TRY(write_config(t5, folder, dtype, error));
cleanup:
    free(path);
    free(list);
    return status;
}
