/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter/peft_config.h"

#include "base/file.h"
#include "base/memory.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES (4u << 20)

/* PEFT's own defaults, for keys that a file leaves out. */
#define DEFAULT_RANK 8
#define DEFAULT_ALPHA 8.0

/* Read below. */
static const char *const taken[] = { "peft_type",        "r",          "lora_alpha",     "lora_dropout",    "rank_pattern",
                                     "alpha_pattern",    "use_rslora", "target_modules", "exclude_modules", "bias",
                                     "init_lora_weights" };

/* Names and notes, where the weights came from, and settings of what is refused when it is on: no value of them changes y. PEFT
 * ignores runtime_config, too. */
static const char *const without_effect[] = {
    "base_model_name_or_path", "revision",   "peft_version",  "task_type",         "auto_mapping",
    "inference_mode",          "eva_config", "megatron_core", "qalora_group_size", "runtime_config"
};

/* Initialisations that leave the base weights alone; the others (pissa, olora, loftq, corda, lora_ga and what may come) change
 * them, so that the adapter only fits a model that is not the one at hand. */
static const char *const harmless_init[] = { "gaussian", "eva", "orthogonal", "mica" };

static bool is_one_of(const char *text, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, list[i]) == 0) return true;
    return false;
}

static sora_status refuse(const sora_peft_config *config, const char *key, const json_t *value, const char *why,
                          sora_error *error)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    sora_status status =
        sora_fail(error, SORA_ERROR_INPUT, "%s: \"%.80s\": %.120s: %s", config->path, key, text ? text : "?", why);
    free(text);
    return status;
}

static bool is_inactive(const json_t *value)
{
    if (json_is_string(value)) return json_string_length(value) == 0;
    if (json_is_array(value)) return json_array_size(value) == 0;
    if (json_is_object(value)) return json_object_size(value) == 0;
    return json_is_null(value) || json_is_false(value); /* a 0 may be the number of a layer */
}

static sora_status check_keys(const sora_peft_config *config, sora_error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach(config->root, key, value)
    {
        if (is_one_of(key, taken, SORA_COUNT(taken)) || is_one_of(key, without_effect, SORA_COUNT(without_effect)) ||
            is_inactive(value))
            continue;
        return refuse(config, key, value, "not supported; plain LoRA on linear layers is what is taken", error);
    }
    return SORA_OK;
}

/* NULL for a key that is absent or null. */
static const json_t *find(const sora_peft_config *config, const char *key)
{
    const json_t *value = json_object_get(config->root, key);
    return json_is_null(value) ? NULL : value;
}

static sora_status check_kind(const sora_peft_config *config, sora_error *error)
{
    const json_t *type = find(config, "peft_type"), *bias = find(config, "bias"), *init = find(config, "init_lora_weights");
    if (!type) return sora_fail(error, SORA_ERROR_INPUT, "%s: no \"peft_type\"; expected \"LORA\"", config->path);
    if (!json_is_string(type) || strcmp(json_string_value(type), "LORA") != 0)
        return refuse(config, "peft_type", type, "expected \"LORA\"", error);
    if (bias && (!json_is_string(bias) || strcmp(json_string_value(bias), "none") != 0))
        return refuse(config, "bias", bias, "expected \"none\": trained biases are not taken", error);
    bool harmless = !init || json_is_boolean(init) ||
                    (json_is_string(init) && is_one_of(json_string_value(init), harmless_init, SORA_COUNT(harmless_init)));
    if (!harmless)
        return refuse(config, "init_lora_weights", init,
                      "not supported; such an adapter stands on base weights that its initialisation changed", error);
    return SORA_OK;
}

static bool is_rank(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 1 && json_integer_value(value) <= INT_MAX;
}

static bool is_alpha(const json_t *value)
{
    return json_is_number(value) && isfinite((float)json_number_value(value));
}

static sora_status read_numbers(sora_peft_config *config, sora_error *error)
{
    const json_t *rank = find(config, "r"), *alpha = find(config, "lora_alpha"), *dropout = find(config, "lora_dropout"),
                 *rslora = find(config, "use_rslora");
    if (rank && !is_rank(rank)) return refuse(config, "r", rank, "expected a whole number of at least 1", error);
    if (alpha && !is_alpha(alpha)) return refuse(config, "lora_alpha", alpha, "expected a finite number", error);
    config->rank = rank ? (int)json_integer_value(rank) : DEFAULT_RANK;
    config->alpha = alpha ? json_number_value(alpha) : DEFAULT_ALPHA;
    config->dropout = (float)json_number_value(dropout);
    if (dropout && (!json_is_number(dropout) || !(config->dropout >= 0.0f && config->dropout < 1.0f)))
        return refuse(config, "lora_dropout", dropout, "expected a number from 0 to below 1", error);
    if (rslora && !json_is_boolean(rslora)) return refuse(config, "use_rslora", rslora, "expected true or false", error);
    config->rslora = json_is_true(rslora);
    return SORA_OK;
}

static sora_status read_pattern(const sora_peft_config *config, const char *name, bool (*accepts)(const json_t *),
                                const char *expected, const json_t **out, sora_error *error)
{
    const char *key;
    json_t *value;
    *out = find(config, name);
    if (*out && !json_is_object(*out)) return refuse(config, name, *out, "expected an object", error);
    json_object_foreach((json_t *)*out, key, value)
    {
        if (accepts(value)) continue;
        sora_status status = refuse(config, key, value, expected, error);
        sora_error_prefix(error, "%s", name);
        return status;
    }
    return SORA_OK;
}

static sora_status read_modules(const sora_peft_config *config, const char *name, const json_t **out, sora_error *error)
{
    size_t index;
    json_t *item;
    *out = find(config, name);
    if (!*out || json_is_string(*out)) return SORA_OK;
    if (!json_is_array(*out)) return refuse(config, name, *out, "expected a list of names or a pattern", error);
    json_array_foreach((json_t *)*out, index, item) if (!json_is_string(item)) return refuse(
        config, name, item, "expected names alone in the list", error);
    return SORA_OK;
}

static sora_status read_values(sora_peft_config *config, sora_error *error)
{
    sora_status status = SORA_OK;
    SORA_TRY(check_kind(config, error));
    SORA_TRY(check_keys(config, error));
    SORA_TRY(read_numbers(config, error));
    SORA_TRY(
        read_pattern(config, "rank_pattern", is_rank, "expected a whole number of at least 1", &config->rank_pattern, error));
    SORA_TRY(read_pattern(config, "alpha_pattern", is_alpha, "expected a finite number", &config->alpha_pattern, error));
    SORA_TRY(read_modules(config, "exclude_modules", &config->exclude, error));
    SORA_TRY(read_modules(config, "target_modules", &config->target, error));
    if (!config->target)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: no \"target_modules\"; PEFT writes out which modules it adapted", config->path);
cleanup:
    return status;
}

sora_status sora_peft_config_read(const char *folder, sora_peft_config *out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_peft_config config = { 0 };
    unsigned char *text = NULL;
    size_t bytes;
    json_error_t problem;
    *out = config;
    SORA_TRY(sora_format(&config.path, error, "%s/%s", folder, SORA_PEFT_CONFIG));
    SORA_TRY(sora_file_read(config.path, MAX_BYTES, &text, &bytes, error));
    config.root = json_loadb((const char *)text, bytes, JSON_REJECT_DUPLICATES, &problem);
    if (!json_is_object(config.root))
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: line %d: no JSON object: %s", config.path, config.root ? 1 : problem.line,
                  config.root ? "another type" : problem.text);
    SORA_TRY(read_values(&config, error));
    *out = config;
    config = (sora_peft_config) { 0 };
cleanup:
    free(text);
    sora_peft_config_free(&config);
    return status;
}

void sora_peft_config_free(sora_peft_config *config)
{
    free(config->path);
    json_decref(config->root);
    *config = (sora_peft_config) { 0 };
}
