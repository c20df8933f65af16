/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "model/t5.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_WIDTH 65536
#define MOST_LAYERS 256

void sora_t5_config_small(sora_t5_config *out)
{
    *out = (sora_t5_config) { .vocabulary = 32128,
                              .width = 512,
                              .heads = 8,
                              .head_size = 64,
                              .inner_width = 2048,
                              .encoder_layers = 6,
                              .decoder_layers = 6,
                              .buckets = 32,
                              .farthest = 128,
                              .epsilon = 1e-6f,
                              .dropout = 0.1f,
                              .scale_head = true,
                              .eos = 1 };
}

sora_status sora_t5_config_check(const sora_t5_config *c, sora_error *error)
{
    const struct {
        const char *name;
        int value, low, high;
    } ranges[] = { { "vocab_size", c->vocabulary, 3, 4000000 },
                   { "d_model", c->width, 1, MOST_WIDTH },
                   { "num_heads", c->heads, 1, 256 },
                   { "d_kv", c->head_size, 1, 512 },
                   { "d_ff", c->inner_width, 1, 4 * MOST_WIDTH },
                   { "num_layers", c->encoder_layers, 1, MOST_LAYERS },
                   { "num_decoder_layers", c->decoder_layers, 1, MOST_LAYERS },
                   { "relative_attention_num_buckets", c->buckets, 4, 4096 },
                   { "relative_attention_max_distance", c->farthest, 2, 1 << 20 },
                   { "pad_token_id", c->pad, 0, c->vocabulary - 1 },
                   { "eos_token_id", c->eos, 0, c->vocabulary - 1 },
                   { "decoder_start_token_id", c->start, 0, c->vocabulary - 1 } };
    for (size_t i = 0; i < SORA_COUNT(ranges); i++)
        if (ranges[i].value < ranges[i].low || ranges[i].value > ranges[i].high)
            return sora_fail(error, SORA_ERROR_INPUT, "%s is %d; expected %d to %d", ranges[i].name, ranges[i].value,
                             ranges[i].low, ranges[i].high);
    if (c->buckets % 4 != 0 || c->farthest <= c->buckets / 2)
        return sora_fail(error, SORA_ERROR_INPUT,
                         "%d relative buckets up to distance %d; expected a multiple of 4, and a distance above half of it",
                         c->buckets, c->farthest);
    if (!(c->epsilon > 0.0f && c->epsilon < 1.0f) || !(c->dropout >= 0.0f && c->dropout < 1.0f))
        return sora_fail(error, SORA_ERROR_INPUT, "layer_norm_epsilon %g, dropout_rate %g; expected between 0 and 1",
                         (double)c->epsilon, (double)c->dropout);
    return SORA_OK;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

sora_status sora_t5_read_json(const char *folder, const char *name, char **path, json_t **root, sora_error *error)
{
    sora_status status = SORA_OK;
    unsigned char *text = NULL;
    size_t bytes;
    json_error_t where;
    *root = NULL;
    SORA_TRY(sora_format(path, error, "%s/%s", folder, name));
    if (!sora_path_exists(*path)) goto cleanup;
    SORA_TRY(sora_file_read(*path, 1 << 20, &text, &bytes, error));
    *root = json_loadb((char *)text, bytes, JSON_REJECT_DUPLICATES, &where);
    if (!*root) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: line %d: %s", *path, where.line, where.text);
cleanup:
    free(text);
    return status;
}

static sora_status read_integer(const json_t *root, const char *path, const char *key, bool needed, int *out, sora_error *error)
{
    const json_t *value = json_object_get(root, key);
    if (!value || json_is_null(value))
        return needed ? sora_fail(error, SORA_ERROR_INPUT, "%s: \"%s\" is missing", path, key) : SORA_OK;
    /* generation_config.json and some configs give eos as a list of one. */
    if (json_is_array(value) && json_array_size(value) == 1) value = json_array_get(value, 0);
    if (json_is_array(value))
        return sora_fail(error, SORA_ERROR_INPUT, "%s: \"%s\" has %zu ids; expected one", path, key, json_array_size(value));
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > INT32_MAX)
        return sora_fail(error, SORA_ERROR_INPUT, "%s: \"%s\" is no whole number of 0 or more", path, key);
    *out = (int)json_integer_value(value);
    return SORA_OK;
}

static sora_status read_number(const json_t *root, const char *path, const char *key, float *out, sora_error *error)
{
    const json_t *value = json_object_get(root, key);
    if (!value || json_is_null(value)) return SORA_OK;
    if (!json_is_number(value)) return sora_fail(error, SORA_ERROR_INPUT, "%s: \"%s\" is no number", path, key);
    *out = (float)json_number_value(value);
    return SORA_OK;
}

static sora_status read_switch(const json_t *root, const char *path, const char *key, bool *out, bool *there, sora_error *error)
{
    const json_t *value = json_object_get(root, key);
    *there = value && !json_is_null(value);
    if (!*there) return SORA_OK;
    if (!json_is_boolean(value)) return sora_fail(error, SORA_ERROR_INPUT, "%s: \"%s\" is neither true nor false", path, key);
    *out = json_is_true(value);
    return SORA_OK;
}

/* "relu" or "gated-gelu"; anything else would be computed wrongly. */
static sora_status read_activation(const json_t *root, const char *path, bool *gated, sora_error *error)
{
    const json_t *value = json_object_get(root, "feed_forward_proj");
    const char *name = value ? json_string_value(value) : "relu";
    if (name && strcmp(name, "relu") == 0)
        *gated = false;
    else if (name && strcmp(name, "gated-gelu") == 0)
        *gated = true;
    else
        return sora_fail(error, SORA_ERROR_INPUT, "%s: feed_forward_proj \"%.40s\"; this program has relu and gated-gelu", path,
                         name ? name : "?");
    return SORA_OK;
}

static sora_status read_architecture(const json_t *root, const char *path, sora_error *error)
{
    const char *type = json_string_value(json_object_get(root, "model_type"));
    /* mt5 is another model: its head is never scaled, and its spiece.model holds the sentinels. */
    if (type && strcmp(type, "t5") == 0) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INPUT, "%s: model_type is \"%.40s\"; this program has t5", path, type ? type : "missing");
}

sora_status sora_t5_config_read(const char *folder, sora_t5_config *out, json_t **json, sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL;
    json_t *root = NULL;
    sora_t5_config c = { .buckets = 32, .farthest = 128, .epsilon = 1e-6f, .dropout = 0.1f, .eos = 1 };
    bool tied = true, there;
    *json = NULL;
    SORA_TRY(sora_t5_read_json(folder, "config.json", &path, &root, error));
    if (!root)
        SORA_FAIL(error, SORA_ERROR_INPUT,
                  "%s: there is no such file; a model is a folder with config.json, model.safetensors and spiece.model", path);
    SORA_TRY(read_architecture(root, path, error));
    SORA_TRY(read_activation(root, path, &c.gated, error));
    SORA_TRY(read_integer(root, path, "vocab_size", true, &c.vocabulary, error));
    SORA_TRY(read_integer(root, path, "d_model", true, &c.width, error));
    SORA_TRY(read_integer(root, path, "d_kv", true, &c.head_size, error));
    SORA_TRY(read_integer(root, path, "num_heads", true, &c.heads, error));
    SORA_TRY(read_integer(root, path, "d_ff", true, &c.inner_width, error));
    SORA_TRY(read_integer(root, path, "num_layers", true, &c.encoder_layers, error));
    c.decoder_layers = c.encoder_layers;
    SORA_TRY(read_integer(root, path, "num_decoder_layers", false, &c.decoder_layers, error));
    SORA_TRY(read_integer(root, path, "relative_attention_num_buckets", false, &c.buckets, error));
    SORA_TRY(read_integer(root, path, "relative_attention_max_distance", false, &c.farthest, error));
    SORA_TRY(read_integer(root, path, "pad_token_id", false, &c.pad, error));
    SORA_TRY(read_integer(root, path, "eos_token_id", false, &c.eos, error));
    c.start = c.pad;
    SORA_TRY(read_integer(root, path, "decoder_start_token_id", false, &c.start, error));
    SORA_TRY(read_number(root, path, "layer_norm_epsilon", &c.epsilon, error));
    SORA_TRY(read_number(root, path, "dropout_rate", &c.dropout, error));
    SORA_TRY(read_switch(root, path, "tie_word_embeddings", &tied, &there, error));
    /* What is scaled is said in its own words by newer files; tying alone does not tell (docs/t5.md). */
    c.scale_head = tied;
    SORA_TRY(read_switch(root, path, "scale_decoder_outputs", &c.scale_head, &there, error));
    c.own_head = !tied;
    status = sora_t5_config_check(&c, error);
    if (status != SORA_OK) {
        sora_error_prefix(error, "%s", path);
        goto cleanup;
    }
    *out = c;
    *json = root;
    root = NULL;
cleanup:
    json_decref(root);
    free(path);
    return status;
}

sora_status sora_t5_config_read_ends(const char *folder, const sora_t5_config *config, int *start, int *eos, sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL;
    json_t *root = NULL;
    sora_t5_config said = *config;
    SORA_TRY(sora_t5_read_json(folder, "generation_config.json", &path, &root, error));
    if (!root) goto cleanup;
    SORA_TRY(read_integer(root, path, "bos_token_id", false, &said.start, error)); /* Transformers' stand-in for the next */
    SORA_TRY(read_integer(root, path, "decoder_start_token_id", false, &said.start, error));
    SORA_TRY(read_integer(root, path, "eos_token_id", false, &said.eos, error));
    status = sora_t5_config_check(&said, error);
    if (status != SORA_OK) sora_error_prefix(error, "%s", path);
cleanup:
    if (status == SORA_OK) {
        *start = said.start;
        *eos = said.eos;
    }
    json_decref(root);
    free(path);
    return status;
}

json_t *sora_t5_config_json(const sora_t5_config *c)
{
    json_t *root = json_pack(
        "{s:[s],s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:s,s:b,s:b,s:i,s:i,s:i,s:b}", "architectures",
        "T5ForConditionalGeneration", "model_type", "t5", "vocab_size", c->vocabulary, "d_model", c->width, "d_kv", c->head_size,
        "num_heads", c->heads, "d_ff", c->inner_width, "num_layers", c->encoder_layers, "num_decoder_layers", c->decoder_layers,
        "relative_attention_num_buckets", c->buckets, "relative_attention_max_distance", c->farthest, "feed_forward_proj",
        c->gated ? "gated-gelu" : "relu", "tie_word_embeddings", !c->own_head, "scale_decoder_outputs", c->scale_head,
        "pad_token_id", c->pad, "eos_token_id", c->eos, "decoder_start_token_id", c->start, "is_encoder_decoder", 1);
    if (!root) return NULL;
    /* As written in decimal, not as the nearest float shows in binary. */
    json_object_set_new(root, "layer_norm_epsilon", json_real(round((double)c->epsilon * 1e12) / 1e12));
    json_object_set_new(root, "dropout_rate", json_real(round((double)c->dropout * 1e6) / 1e6));
    return root;
}
