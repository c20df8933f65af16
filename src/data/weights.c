/* SPDX-License-Identifier: Apache-2.0 */
#include "data/weights.h"

#include "base/file.h"
#include "base/memory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"
#define PICKLE "pytorch_model.bin"
#define MAX_INDEX ((size_t)64 << 20)

typedef struct shard {
    char *name;
    sora_safetensors *file;
} shard;

struct sora_weights {
    char *path;
    shard *shards;
    size_t shard_count, shard_room;
    const sora_file_tensor **tensors; /* by name */
    size_t count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const sora_file_tensor *const *)a)->name, (*(const sora_file_tensor *const *)b)->name);
}

/* ---- Opening ----------------------------------------------------------------------------------------------------- */

/* Opens folder/name, once. */
static sora_status open_shard(sora_weights *weights, const char *folder, const char *name, sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL;
    for (size_t i = 0; i < weights->shard_count; i++)
        if (strcmp(weights->shards[i].name, name) == 0) return SORA_OK;
    SORA_TRY(sora_format(&path, error, "%s/%s", folder, name));
    SORA_TRY(sora_reserve(&weights->shards, &weights->shard_room, weights->shard_count + 1, sizeof *weights->shards, error));
    shard *next = &weights->shards[weights->shard_count];
    *next = (shard) { 0 };
    SORA_TRY(sora_duplicate(name, &next->name, error));
    weights->shard_count++;
    SORA_TRY(sora_safetensors_open(path, &next->file, error));
cleanup:
    free(path);
    return status;
}

/* An index comes from elsewhere: its names must not lead out of the folder. */
static bool is_plain(const char *name)
{
    return name && *name && *name != '.' && !strchr(name, '/') && !strchr(name, '\\') && !strstr(name, "..");
}

static sora_status open_shards(sora_weights *weights, const char *folder, json_t *map, sora_error *error)
{
    const char *tensor;
    json_t *file;
    json_object_foreach(map, tensor, file)
    {
        const char *name = json_string_value(file);
        if (!is_plain(name))
            return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %.80s: \"%.80s\" is no plain file name", weights->path, tensor,
                             name ? name : "(no text)");
        sora_status status = open_shard(weights, folder, name, error);
        if (status == SORA_OK) continue;
        sora_error_prefix(error, "%s", weights->path);
        return status;
    }
    return SORA_OK;
}

static const shard *shard_named(const sora_weights *weights, const char *name)
{
    for (size_t i = 0; i < weights->shard_count; i++)
        if (strcmp(weights->shards[i].name, name) == 0) return &weights->shards[i];
    return NULL;
}

static sora_status check_index(const sora_weights *weights, json_t *map, sora_error *error)
{
    const char *name;
    json_t *place;
    json_object_foreach(map, name, place)
    {
        const char *file = json_string_value(place);
        if (!sora_safetensors_find(shard_named(weights, file)->file, name))
            return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %.80s is not in %.80s", weights->path, name, file);
    }
    /* What is in a second file too, or in none of the index's, would be taken or left by chance. */
    for (size_t i = 0; i < weights->shard_count; i++) {
        const shard *s = &weights->shards[i];
        for (size_t k = 0; k < sora_safetensors_count(s->file); k++) {
            name = sora_safetensors_at(s->file, k)->name;
            const char *file = json_string_value(json_object_get(map, name));
            if (!file || strcmp(file, s->name) != 0)
                return sora_fail(error, SORA_ERROR_INPUT, "%s: %.80s holds tensor %.80s, which the index has %s%.80s",
                                 weights->path, s->name, name, file ? "in " : "not", file ? file : "");
        }
    }
    return SORA_OK;
}

static sora_status open_index(sora_weights *weights, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    unsigned char *text = NULL;
    json_t *index = NULL;
    json_error_t where;
    size_t bytes;
    SORA_TRY(sora_file_read(weights->path, MAX_INDEX, &text, &bytes, error));
    index = json_loadb((const char *)text, bytes, JSON_REJECT_DUPLICATES, &where);
    if (!index) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: line %d: %s", weights->path, where.line, where.text);
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: no \"weight_map\" of tensors and files", weights->path);
    SORA_TRY(open_shards(weights, folder, map, error));
    SORA_TRY(check_index(weights, map, error));
cleanup:
    json_decref(index);
    free(text);
    return status;
}

static sora_status fail_absent(const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    char *pickle = NULL, *sharded = NULL;
    if (!sora_path_is_folder(folder)) return sora_fail(error, SORA_ERROR_INPUT, "%s: no such folder", folder);
    SORA_TRY(sora_format(&pickle, error, "%s/" PICKLE, folder));
    SORA_TRY(sora_format(&sharded, error, "%s/" PICKLE ".index.json", folder));
    if (sora_path_exists(pickle) || sora_path_exists(sharded))
        SORA_FAIL(error, SORA_ERROR_INPUT,
                  "%s: its weights are a " PICKLE ", which is Python code and is not read here; convert them with Transformers: "
                  "model.save_pretrained(folder, safe_serialization=True), or take the hub's converted revision "
                  "(huggingface.co/spaces/safetensors/convert)",
                  folder);
    status = sora_fail(error, SORA_ERROR_INPUT, "%s: neither " SINGLE " nor " INDEX, folder);
cleanup:
    free(pickle);
    free(sharded);
    return status;
}

/* The list of all tensors, by name. */
static sora_status collect(sora_weights *weights, sora_error *error)
{
    size_t total = 0;
    for (size_t i = 0; i < weights->shard_count; i++) total += sora_safetensors_count(weights->shards[i].file);
    sora_status status = sora_allocate(total, sizeof *weights->tensors, weights->path, &weights->tensors, error);
    if (status != SORA_OK) return status;
    for (size_t i = 0; i < weights->shard_count; i++)
        for (size_t k = 0; k < sora_safetensors_count(weights->shards[i].file); k++)
            weights->tensors[weights->count++] = sora_safetensors_at(weights->shards[i].file, k);
    qsort(weights->tensors, weights->count, sizeof *weights->tensors, by_name);
    return SORA_OK;
}

sora_status sora_weights_open(const char *folder, sora_weights **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_weights *weights = NULL;
    char *index = NULL;
    *out = NULL;
    SORA_TRY(sora_allocate(1, sizeof *weights, folder, &weights, error));
    SORA_TRY(sora_format(&weights->path, error, "%s/" SINGLE, folder));
    SORA_TRY(sora_format(&index, error, "%s/" INDEX, folder));
    if (sora_path_exists(weights->path)) {
        SORA_TRY(open_shard(weights, folder, SINGLE, error));
    } else if (sora_path_exists(index)) {
        free(weights->path);
        weights->path = index;
        index = NULL;
        SORA_TRY(open_index(weights, folder, error));
    } else {
        SORA_TRY(fail_absent(folder, error));
    }
    SORA_TRY(collect(weights, error));
    *out = weights;
    weights = NULL;
cleanup:
    free(index);
    sora_weights_close(&weights);
    return status;
}

void sora_weights_close(sora_weights **pointer)
{
    sora_weights *weights = *pointer;
    if (!weights) return;
    for (size_t i = 0; i < weights->shard_count; i++) {
        sora_safetensors_close(&weights->shards[i].file);
        free(weights->shards[i].name);
    }
    free(weights->shards);
    free(weights->tensors);
    free(weights->path);
    free(weights);
    *pointer = NULL;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

const char *sora_weights_path(const sora_weights *weights)
{
    return weights->path;
}

size_t sora_weights_count(const sora_weights *weights)
{
    return weights->count;
}

const sora_file_tensor *sora_weights_at(const sora_weights *weights, size_t index)
{
    return weights->tensors[index];
}

const sora_file_tensor *sora_weights_find(const sora_weights *weights, const char *name)
{
    const sora_file_tensor wanted = { .name = name }, *key = &wanted;
    const sora_file_tensor **found = bsearch(&key, weights->tensors, weights->count, sizeof key, by_name);
    return found ? *found : NULL;
}

sora_status sora_tensors_hash(const sora_file_tensor **tensors, size_t count, const char *name, uint64_t *out, sora_error *error)
{
    *out = 0;
    XXH3_state_t *state = XXH3_createState();
    if (!state || XXH3_64bits_reset(state) != XXH_OK) {
        XXH3_freeState(state);
        return sora_fail(error, SORA_ERROR_MEMORY, "%s: no memory to hash it", name);
    }
    for (size_t i = 0; i < count; i++) {
        const sora_file_tensor *t = tensors[i];
        const uint32_t type[2] = { (uint32_t)t->dtype, (uint32_t)t->rank };
        XXH3_64bits_update(state, t->name, strlen(t->name) + 1);
        XXH3_64bits_update(state, type, sizeof type);
        XXH3_64bits_update(state, t->shape, (size_t)t->rank * sizeof t->shape[0]);
        XXH3_64bits_update(state, t->data, sora_file_tensor_bytes(t));
    }
    *out = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return SORA_OK;
}

sora_status sora_weights_hash(const sora_weights *weights, uint64_t *out, sora_error *error)
{
    return sora_tensors_hash(weights->tensors, weights->count, weights->path, out, error);
}
