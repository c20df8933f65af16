/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/peft.h"

#include "adapter/layer.h"
#include "adapter/peft_config.h"
#include "adapter/peft_pattern.h"
#include "base/file.h"
#include "graph/params_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What the configuration says of one layer. */
typedef struct plan {
    bool targeted, rank_said, alpha_said;
    int rank;
    double alpha;
} plan;

/* ---- Which layers, with which rank and alpha --------------------------------------------------------------------- */

static sora_status compile(const sora_peft_config *config, const char *key, const char *pattern, sora_peft_anchor anchor,
                           regex_t *out, sora_error *error)
{
    sora_status status = sora_peft_pattern_compile(pattern, anchor, out, error);
    if (status != SORA_OK) sora_error_prefix(error, "%s: \"%s\"", config->path, key);
    return status;
}

/* Sets `targeted` of the layers that a list or pattern names. */
static sora_status mark(const sora_layers *layers, const sora_peft_config *config, const char *key, const json_t *modules,
                        bool targeted, plan *plans, sora_error *error)
{
    regex_t pattern;
    size_t index;
    json_t *entry;
    if (json_is_string(modules)) {
        sora_status status = compile(config, key, json_string_value(modules), SORA_PEFT_WHOLE, &pattern, error);
        if (status != SORA_OK) return status;
        for (size_t i = 0; i < layers->count; i++)
            if (sora_peft_pattern_matches(&pattern, layers->items[i]->name)) plans[i].targeted = targeted;
        regfree(&pattern);
        return SORA_OK;
    }
    json_array_foreach((json_t *)modules, index,
                       entry) for (size_t i = 0; i < layers->count;
                                   i++) if (sora_peft_entry_matches(json_string_value(entry), layers->items[i]->name)) plans[i]
        .targeted = targeted;
    return SORA_OK;
}

static sora_status tensor_name(const sora_layer *layer, const char *suffix, char **out, sora_error *error)
{
    return sora_format(out, error, "%s%s%s", SORA_PEFT_PREFIX, layer->name, suffix);
}

/* "all-linear" leaves out the output layer of Transformers' models, and PEFT knows those by the model's class. Here it is the
 * layer called lm_head, unless the file has a tensor for it. */
static sora_status mark_all_linear(const sora_layers *layers, const sora_safetensors *file, plan *plans, sora_error *error)
{
    for (size_t i = 0; i < layers->count; i++) {
        const sora_layer *layer = layers->items[i];
        plans[i].targeted = layer->desc.kernel == 0;
        if (!sora_peft_entry_matches("lm_head", layer->name)) continue;
        char *name = NULL;
        sora_status status = tensor_name(layer, SORA_PEFT_DOWN, &name, error);
        if (status != SORA_OK) return status;
        if (!sora_safetensors_find(file, name)) plans[i].targeted = false;
        free(name);
    }
    return SORA_OK;
}

/* The first pattern in the file's order that matches a layer says its number, as in PEFT. */
static sora_status apply_pattern(const sora_layers *layers, const sora_peft_config *config, bool rank, plan *plans,
                                 sora_error *error)
{
    const char *key;
    json_t *value;
    regex_t pattern;
    const char *name = rank ? "rank_pattern" : "alpha_pattern";
    json_object_foreach((json_t *)(rank ? config->rank_pattern : config->alpha_pattern), key, value)
    {
        sora_status status = compile(config, name, key, SORA_PEFT_TAIL, &pattern, error);
        if (status != SORA_OK) return status;
        for (size_t i = 0; i < layers->count; i++) {
            bool *said = rank ? &plans[i].rank_said : &plans[i].alpha_said;
            if (!plans[i].targeted || *said || !sora_peft_pattern_matches(&pattern, layers->items[i]->name)) continue;
            *said = true;
            if (rank)
                plans[i].rank = (int)json_integer_value(value);
            else
                plans[i].alpha = json_number_value(value);
        }
        regfree(&pattern);
    }
    return SORA_OK;
}

static sora_status make_plans(const sora_layers *layers, const sora_peft_config *config, const sora_safetensors *file,
                              plan *plans, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t targeted = 0;
    const char *pattern = json_string_value(config->target);
    for (size_t i = 0; i < layers->count; i++) plans[i] = (plan) { .rank = config->rank, .alpha = config->alpha };
    if (pattern && strcasecmp(pattern, "all-linear") == 0)
        SORA_TRY(mark_all_linear(layers, file, plans, error));
    else
        SORA_TRY(mark(layers, config, "target_modules", config->target, true, plans, error));
    SORA_TRY(mark(layers, config, "exclude_modules", config->exclude, false, plans, error));
    SORA_TRY(apply_pattern(layers, config, true, plans, error));
    SORA_TRY(apply_pattern(layers, config, false, plans, error));
    for (size_t i = 0; i < layers->count; i++) targeted += plans[i].targeted;
    if (targeted == 0) {
        char *text = json_dumps(config->target, JSON_ENCODE_ANY | JSON_COMPACT);
        status = sora_fail(error, SORA_ERROR_INPUT,
                           "%s: \"target_modules\": %.200s and \"exclude_modules\" leave none of the %zu layers (first: %s)",
                           config->path, text ? text : "?", layers->count, layers->count ? layers->items[0]->name : "none");
        free(text);
    }
cleanup:
    return status;
}

/* ---- Weights ----------------------------------------------------------------------------------------------------- */

static sora_status read_factor(const sora_layer *layer, const char *suffix, sora_param *param, const sora_safetensors *file,
                               const char *path, sora_error *error)
{
    char *name = NULL;
    sora_status status = tensor_name(layer, suffix, &name, error);
    if (status == SORA_OK) status = sora_param_read_tensor(param, sora_safetensors_find(file, name), path, name, error);
    free(name);
    return status;
}

static sora_status activate(sora_layer *layer, const sora_peft_config *config, const plan *p, const sora_safetensors *file,
                            const char *path, sora_error *error)
{
    sora_status status = SORA_OK;
    float scale = (float)(p->alpha / (config->rslora ? sqrt((double)p->rank) : (double)p->rank));
    int limit = SORA_MIN(layer->desc.in, layer->desc.out);
    if (layer->desc.kernel)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: targets %s, which is a convolution; linear layers alone are taken", config->path,
                  layer->name);
    if (p->rank > limit)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: rank %d for %s, whose weight is %d × %d: at most %d is taken", config->path,
                  p->rank, layer->name, layer->desc.out, layer->desc.in, limit);
    SORA_TRY(
        sora_layer_activate_pruned(layer, SORA_ADAPTER_LORA, p->rank, p->rank, (float)p->alpha, scale, config->dropout, error));
    SORA_TRY(read_factor(layer, SORA_PEFT_DOWN, layer->down, file, path, error));
    SORA_TRY(read_factor(layer, SORA_PEFT_UP, layer->up, file, path, error));
cleanup:
    return status;
}

/* Whether the name is PREFIX layer SUFFIX of a targeted layer. */
static bool belongs(const sora_layers *layers, const plan *plans, const char *name)
{
    size_t prefix = strlen(SORA_PEFT_PREFIX), length = strlen(name), suffix = strlen(SORA_PEFT_DOWN); /* both suffixes' length */
    if (length <= prefix + suffix || strncmp(name, SORA_PEFT_PREFIX, prefix) != 0) return false;
    const char *end = name + length - suffix;
    if (strcmp(end, SORA_PEFT_DOWN) != 0 && strcmp(end, SORA_PEFT_UP) != 0) return false;
    size_t path = length - prefix - suffix;
    for (size_t i = 0; i < layers->count; i++) {
        const char *layer = layers->items[i]->name;
        if (plans[i].targeted && strlen(layer) == path && memcmp(layer, name + prefix, path) == 0) return true;
    }
    return false;
}

static sora_status check_tensors(const sora_layers *layers, const plan *plans, const sora_safetensors *file, const char *path,
                                 sora_error *error)
{
    for (size_t i = 0; i < sora_safetensors_count(file); i++) {
        const char *name = sora_safetensors_at(file, i)->name;
        if (!belongs(layers, plans, name))
            return sora_fail(error, SORA_ERROR_INPUT,
                             "%s: tensor %.200s is more than expected: no layer that the configuration targets has it", path,
                             name);
    }
    return SORA_OK;
}

/* ---- Together ---------------------------------------------------------------------------------------------------- */

static sora_status open_weights(const char *folder, char **path, sora_safetensors **out, sora_error *error)
{
    char *pickled = NULL;
    sora_status status = sora_format(path, error, "%s/%s", folder, SORA_PEFT_WEIGHTS);
    if (status == SORA_OK) status = sora_format(&pickled, error, "%s/adapter_model.bin", folder);
    if (status == SORA_OK && !sora_path_exists(*path) && sora_path_exists(pickled))
        status = sora_fail(
            error, SORA_ERROR_INPUT,
            "%s is missing; adapter_model.bin, Python's pickle format, is not read: let PEFT save the adapter again", *path);
    if (status == SORA_OK) status = sora_safetensors_open(*path, out, error);
    free(pickled);
    return status;
}

/* Leaves the adapters alone trainable; their factors were made so. */
static void freeze_others(sora_layers *layers)
{
    for (size_t i = 0; i < sora_params_count(layers->params); i++)
        sora_param_set_trainable(sora_params_at(layers->params, i), false);
    for (size_t i = 0; i < layers->count; i++) {
        if (!layers->items[i]->active) continue;
        sora_param_set_trainable(layers->items[i]->down, true);
        sora_param_set_trainable(layers->items[i]->up, true);
    }
}

sora_status sora_peft_import(sora_layers *layers, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_peft_config config = { 0 };
    sora_safetensors *file = NULL;
    char *path = NULL;
    plan *plans = NULL;
    SORA_TRY(sora_layers_require_normal(layers, "import an adapter", error));
    SORA_TRY(sora_peft_config_read(folder, &config, error));
    SORA_TRY(open_weights(folder, &path, &file, error));
    SORA_TRY(sora_allocate(layers->count, sizeof *plans, folder, &plans, error));
    SORA_TRY(make_plans(layers, &config, file, plans, error));
    SORA_TRY(check_tensors(layers, plans, file, path, error));
    for (size_t i = 0; i < layers->count && status == SORA_OK; i++)
        if (plans[i].targeted) status = activate(layers->items[i], &config, &plans[i], file, path, error);
    if (status == SORA_OK) {
        freeze_others(layers);
    } else {
        for (size_t i = 0; i < layers->count; i++) sora_layer_drop_adapter(layers->items[i]);
    }
cleanup:
    free(plans);
    free(path);
    sora_safetensors_close(&file);
    sora_peft_config_free(&config);
    return status;
}
