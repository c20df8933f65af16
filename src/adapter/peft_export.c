/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/peft.h"

#include "adapter/layer.h"
#include "adapter/peft_config.h"
#include "adapter/peft_pattern.h"
#include "base/file.h"
#include "soracl/safetensors.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An active layer as LoRA. */
typedef struct module {
    const sora_layer *layer;
    int rank;
    double alpha; /* s · rank: 24 bits times a rank is exact in double, so alpha / r is s to the bit */
    float *down, *up;
    char *names[2];
} module;

typedef struct export {
    const sora_layers *layers;
    module *modules; /* one for each active layer, in the order of the layers */
    size_t count;
    int rank; /* the commonest of the modules with rows */
    double alpha;
} export;

/* ---- Modules ----------------------------------------------------------------------------------------------------- */

static sora_status read_values(const sora_param *param, float **out, sora_error *error)
{
    sora_shape shape = sora_param_shape(param);
    sora_status status = sora_allocate((size_t)sora_shape_elements(&shape), sizeof **out, sora_param_name(param), out, error);
    return status == SORA_OK ? sora_param_read(param, 0, *out, error) : status;
}

static sora_status check_finite(const sora_layer *layer, const char *what, const float *values, size_t count, sora_error *error)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return sora_fail(error, SORA_ERROR_NUMERIC, "layer %s: %s holds %g", layer->name, what, (double)values[i]);
    return SORA_OK;
}

/* A is W_d and B is W_u diag(g), both without the rows whose gate is 0: in place, the kept rows to the front. */
static void fold(module *m, const float *gate)
{
    const sora_layer *layer = m->layer;
    size_t all = (size_t)layer->rank, in = (size_t)layer->desc.in, kept = 0;
    for (size_t k = 0; k < all; k++) {
        if (gate && gate[k] == 0.0f) continue;
        memmove(m->down + kept * in, m->down + k * in, in * sizeof *m->down);
        kept++;
    }
    size_t next = 0; /* B's row-major columns: what is written is never behind what is still to be read */
    for (size_t i = 0; i < (size_t)layer->desc.out; i++)
        for (size_t k = 0; k < all; k++)
            if (!gate || gate[k] != 0.0f) m->up[next++] = m->up[i * all + k] * (gate ? gate[k] : 1.0f);
    m->rank = (int)kept;
}

static sora_status read_module(const sora_layer *layer, module *m, sora_error *error)
{
    sora_status status = SORA_OK;
    float *gate = NULL;
    m->layer = layer;
    SORA_TRY(sora_format(&m->names[0], error, "%s%s%s", SORA_PEFT_PREFIX, layer->name, SORA_PEFT_DOWN));
    SORA_TRY(sora_format(&m->names[1], error, "%s%s%s", SORA_PEFT_PREFIX, layer->name, SORA_PEFT_UP));
    if (!layer->down) goto cleanup;
    SORA_TRY(read_values(layer->down, &m->down, error));
    SORA_TRY(read_values(layer->up, &m->up, error));
    if (layer->gate) SORA_TRY(read_values(layer->gate, &gate, error));
    fold(m, gate);
    SORA_TRY(check_finite(layer, "down", m->down, (size_t)m->rank * (size_t)layer->desc.in, error));
    SORA_TRY(check_finite(layer, "up times gate", m->up, (size_t)m->rank * (size_t)layer->desc.out, error));
cleanup:
    m->alpha = (double)layer->scale * m->rank;
    free(gate);
    return status;
}

/* PEFT takes no rank of 0: one row that changes nothing. A is not 0, so that training could go on from it. */
static sora_status give_row(module *m, sora_error *error)
{
    const sora_layer *layer = m->layer;
    free(m->down);
    free(m->up);
    m->down = m->up = NULL;
    sora_status status = sora_allocate((size_t)layer->desc.in, sizeof *m->down, layer->name, &m->down, error);
    if (status == SORA_OK) status = sora_allocate((size_t)layer->desc.out, sizeof *m->up, layer->name, &m->up, error);
    for (int j = 0; status == SORA_OK && j < layer->desc.in; j++) m->down[j] = (float)(1.0 / sqrt((double)layer->desc.in));
    m->rank = 1;
    m->alpha = (double)layer->scale;
    return status;
}

static sora_status check_layer(const sora_layer *layer, sora_error *error)
{
    if (layer->merged)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "layer %s: its adapter is merged into its weight; unmerge it to export it",
                         layer->name);
    if (layer->active && layer->desc.kernel)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "layer %s: is a convolution; adapters of linear layers alone are exported",
                         layer->name);
    return SORA_OK;
}

static sora_status read_modules(export *e, bool rank_one_for_zero, sora_error *error)
{
    sora_status status = SORA_OK;
    int rows = 0;
    SORA_TRY(sora_allocate(e->layers->count, sizeof *e->modules, "modules", &e->modules, error));
    for (size_t i = 0; i < e->layers->count; i++) {
        SORA_TRY(check_layer(e->layers->items[i], error));
        if (!e->layers->items[i]->active) continue;
        module *m = &e->modules[e->count++];
        SORA_TRY(read_module(e->layers->items[i], m, error));
        rows = SORA_MAX(rows, m->rank);
    }
    if (e->count == 0) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "no layer has an active adapter: there is nothing to export");
    if (rows == 0 && !rank_one_for_zero)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT,
                  "every rank is 0: PEFT would raise NoMatchingPeftModuleError for such an adapter, which is the base model; on "
                  "request one module is written with rank 1 and B = 0");
    if (rows == 0) SORA_TRY(give_row(&e->modules[0], error));
cleanup:
    return status;
}

static void free_modules(export *e)
{
    for (size_t i = 0; i < e->count; i++) {
        free(e->modules[i].down);
        free(e->modules[i].up);
        free(e->modules[i].names[0]);
        free(e->modules[i].names[1]);
    }
    free(e->modules);
}

/* The commonest rank and alpha, the smaller of equally common ones: what r and lora_alpha say for all that no pattern names. */
static void choose_common(export *e)
{
    size_t most_rank = 0, most_alpha = 0;
    for (size_t i = 0; i < e->count; i++) {
        const module *m = &e->modules[i];
        size_t ranks = 0, alphas = 0;
        if (m->rank == 0) continue;
        for (size_t k = 0; k < e->count; k++) {
            ranks += e->modules[k].rank == m->rank;
            alphas += e->modules[k].rank > 0 && e->modules[k].alpha == m->alpha;
        }
        if (ranks > most_rank || (ranks == most_rank && m->rank < e->rank)) {
            most_rank = ranks;
            e->rank = m->rank;
        }
        if (alphas > most_alpha || (alphas == most_alpha && m->alpha < e->alpha)) {
            most_alpha = alphas;
            e->alpha = m->alpha;
        }
    }
}

/* ---- Names as PEFT reads them ------------------------------------------------------------------------------------ */

/* The name as a regular expression that matches it alone. */
static sora_status escape(const char *name, const char *before, char **out, sora_error *error)
{
    size_t used = strlen(before);
    sora_status status = sora_allocate(used + 2 * strlen(name) + 1, 1, name, out, error);
    if (status != SORA_OK) return status;
    memcpy(*out, before, used);
    for (const char *c = name; *c; c++) {
        if (!isalnum((unsigned char)*c) && *c != '_' && (unsigned char)*c < 128) (*out)[used++] = '\\';
        (*out)[used++] = *c;
    }
    return SORA_OK;
}

/* Whether (.*\.)?(name)$ matches `other` when the name's own dots are taken for the expression's. */
static bool loosely_matches(const char *name, const char *other)
{
    size_t a = strlen(name), b = strlen(other);
    if (a > b || (a < b && other[b - a - 1] != '.')) return false;
    for (size_t i = 0; i < a; i++)
        if (name[i] != '.' && name[i] != other[b - a + i]) return false;
    return true;
}

/* A key of rank_pattern and alpha_pattern. Where that is unambiguous it is the plain name, since programs that do not match
 * patterns look the module up by it. */
static sora_status pattern_key(const export *e, const module *m, char **out, sora_error *error)
{
    const char *name = m->layer->name;
    bool plain = name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")] == '\0';
    for (size_t i = 0; i < e->count && plain; i++)
        plain = &e->modules[i] == m || e->modules[i].rank == 0 || !loosely_matches(name, e->modules[i].layer->name);
    return plain ? sora_duplicate(name, out, error) : escape(name, "^", out, error);
}

static json_t *number(double value)
{
    return value == floor(value) && fabs(value) < 0x1p53 ? json_integer((json_int_t)value) : json_real(value);
}

static sora_status make_patterns(const export *e, json_t *ranks, json_t *alphas, sora_error *error)
{
    sora_status status = SORA_OK;
    for (size_t i = 0; i < e->count && status == SORA_OK; i++) {
        const module *m = &e->modules[i];
        char *key = NULL;
        if (m->rank == 0 || (m->rank == e->rank && m->alpha == e->alpha)) continue;
        status = pattern_key(e, m, &key, error);
        if (status == SORA_OK && m->rank != e->rank) json_object_set_new(ranks, key, json_integer(m->rank));
        if (status == SORA_OK && m->alpha != e->alpha) json_object_set_new(alphas, key, number(m->alpha));
        free(key);
    }
    return status;
}

static const module *find_module(const export *e, const sora_layer *layer)
{
    for (size_t i = 0; i < e->count; i++)
        if (e->modules[i].layer == layer) return &e->modules[i];
    return NULL;
}

/* A list's entry "q" names "x.q" too: whether that would adapt a layer without an adapter. */
static bool list_is_ambiguous(const export *e)
{
    for (size_t i = 0; i < e->layers->count; i++) {
        const module *own = find_module(e, e->layers->items[i]);
        if (own && own->rank > 0) continue;
        for (size_t k = 0; k < e->count; k++)
            if (e->modules[k].rank > 0 && sora_peft_entry_matches(e->modules[k].layer->name, e->layers->items[i]->name))
                return true;
    }
    return false;
}

/* Whether "name" in exclude_modules would exclude a module with rows. */
static bool exclusion_hurts(const export *e, const char *name)
{
    for (size_t i = 0; i < e->count; i++)
        if (e->modules[i].rank > 0 && sora_peft_entry_matches(name, e->modules[i].layer->name)) return true;
    return false;
}

/* target_modules: the full names as a list, or as one regular expression where a list would say more than that. */
static sora_status make_targets(const export *e, json_t **out, sora_error *error)
{
    sora_status status = SORA_OK;
    char *text = NULL;
    bool list = !list_is_ambiguous(e);
    *out = list ? json_array() : NULL;
    for (size_t i = 0; i < e->count; i++) {
        char *one = NULL, *longer = NULL;
        const char *name = e->modules[i].layer->name;
        if (e->modules[i].rank == 0) continue;
        if (list) {
            json_array_append_new(*out, json_string(name));
            continue;
        }
        status = escape(name, "", &one, error);
        if (status == SORA_OK) status = sora_format(&longer, error, "%s%s%s", text ? text : "", text ? "|" : "", one);
        free(one);
        free(text);
        text = longer;
        if (status != SORA_OK) goto cleanup;
    }
    if (!list) *out = json_string(text);
cleanup:
    free(text);
    return status;
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

static sora_status make_config(const export *e, const sora_peft_export_options *options, char **out, sora_error *error)
{
    sora_status status = SORA_OK;
    json_t *config = NULL, *ranks = json_object(), *alphas = json_object(), *excluded = json_array(), *targets = NULL;
    *out = NULL;
    SORA_TRY(make_targets(e, &targets, error));
    SORA_TRY(make_patterns(e, ranks, alphas, error));
    for (size_t i = 0; i < e->count; i++)
        if (e->modules[i].rank == 0 && !exclusion_hurts(e, e->modules[i].layer->name))
            json_array_append_new(excluded, json_string(e->modules[i].layer->name));
    config = json_pack("{s:s,s:s?,s:s?,s:i,s:o,s:f,s:O,s:O,s:O,s:O?,s:s,s:b,s:b,s:b,s:b,s:n}", "peft_type", "LORA",
                       "base_model_name_or_path", options->base_model, "task_type", options->task_type, "r", e->rank,
                       "lora_alpha", number(e->alpha), "lora_dropout", (double)e->modules[0].layer->dropout, "target_modules",
                       targets, "rank_pattern", ranks, "alpha_pattern", alphas, "exclude_modules",
                       json_array_size(excluded) ? excluded : NULL, "bias", "none", "fan_in_fan_out", 0, "inference_mode", 1,
                       "init_lora_weights", 1, "use_rslora", 0, "modules_to_save");
    if (config) *out = json_dumps(config, JSON_INDENT(2) | JSON_SORT_KEYS);
    if (!*out) status = sora_fail(error, SORA_ERROR_ARGUMENT, "no host memory for the configuration, or a name that is no UTF-8");
cleanup:
    json_decref(config);
    json_decref(ranks);
    json_decref(alphas);
    json_decref(excluded);
    json_decref(targets);
    return status;
}

static sora_status write_weights(const export *e, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_file_tensor *tensors = NULL;
    char *path = NULL;
    size_t used = 0;
    const char *const metadata[][2] = { { "format", "pt" } }; /* as PEFT writes it */
    SORA_TRY(sora_format(&path, error, "%s/%s", folder, SORA_PEFT_WEIGHTS));
    SORA_TRY(sora_allocate(2 * e->count, sizeof *tensors, path, &tensors, error));
    for (size_t i = 0; i < e->count; i++) {
        const module *m = &e->modules[i];
        const sora_layer_desc *desc = &m->layer->desc;
        if (m->rank == 0) continue;
        tensors[used++] = (sora_file_tensor) { .name = m->names[0],
                                               .dtype = SORA_FILE_F32,
                                               .rank = 2,
                                               .shape = { m->rank, desc->in },
                                               .elements = (uint64_t)m->rank * (uint64_t)desc->in,
                                               .data = m->down };
        tensors[used++] = (sora_file_tensor) { .name = m->names[1],
                                               .dtype = SORA_FILE_F32,
                                               .rank = 2,
                                               .shape = { desc->out, m->rank },
                                               .elements = (uint64_t)desc->out * (uint64_t)m->rank,
                                               .data = m->up };
    }
    status = sora_safetensors_write(path, tensors, used, metadata, 1, error);
cleanup:
    free(tensors);
    free(path);
    return status;
}

static sora_status write_config(const char *text, const char *folder, sora_error *error)
{
    char *path = NULL, *line = NULL;
    sora_status status = sora_format(&path, error, "%s/%s", folder, SORA_PEFT_CONFIG);
    if (status == SORA_OK) status = sora_format(&line, error, "%s\n", text);
    if (status == SORA_OK) status = sora_file_write(path, line, strlen(line), error);
    free(path);
    free(line);
    return status;
}

/* Nothing that is no export of ours may be lost. */
static sora_status check_replaceable(const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    char **names = NULL;
    size_t count = 0;
    if (!sora_path_exists(folder)) return SORA_OK;
    if (!sora_path_is_folder(folder)) return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: is there and no folder", folder);
    SORA_TRY(sora_folder_list(folder, &names, &count, error));
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], SORA_PEFT_CONFIG) != 0 && strcmp(names[i], SORA_PEFT_WEIGHTS) != 0)
            SORA_FAIL(error, SORA_ERROR_ARGUMENT,
                      "%s: holds %.200s; a folder that is new, empty or holds nothing but an adapter is needed", folder,
                      names[i]);
cleanup:
    sora_names_free(names, count);
    return status;
}

static sora_status write_folder(const export *e, const char *config, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    char *clean = NULL, *temporary = NULL;
    SORA_TRY(sora_duplicate(folder, &clean, error));
    for (size_t n = strlen(clean); n > 1 && clean[n - 1] == '/'; n--) clean[n - 1] = '\0';
    SORA_TRY(check_replaceable(clean, error));
    SORA_TRY(sora_format(&temporary, error, "%s.%ld.tmp", clean, (long)getpid()));
    SORA_TRY(sora_folder_remove(temporary, error));
    SORA_TRY(sora_folder_create(temporary, error));
    SORA_TRY(write_config(config, temporary, error));
    SORA_TRY(write_weights(e, temporary, error));
    SORA_TRY(sora_folder_replace(temporary, clean, error));
cleanup:
    if (status != SORA_OK && temporary) sora_folder_remove(temporary, NULL);
    free(temporary);
    free(clean);
    return status;
}

static sora_status check_task(const char *task, sora_error *error)
{
    static const char *const known[] = {
        "SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"
    };
    for (size_t i = 0; task && i < SORA_COUNT(known); i++)
        if (strcmp(known[i], task) == 0) return SORA_OK;
    return task
               ? sora_fail(error, SORA_ERROR_ARGUMENT, "task type \"%.80s\" is none of PEFT's (SEQ_2_SEQ_LM, CAUSAL_LM, …)", task)
               : SORA_OK;
}

sora_status sora_peft_export(const sora_layers *layers, const char *folder, const sora_peft_export_options *options,
                             sora_error *error)
{
    static const sora_peft_export_options defaults = { 0 };
    sora_status status = SORA_OK;
    export e = { .layers = layers };
    char *config = NULL;
    if (!options) options = &defaults;
    if (!*folder) return sora_fail(error, SORA_ERROR_ARGUMENT, "a folder to export to is needed");
    SORA_TRY(check_task(options->task_type, error));
    SORA_TRY(read_modules(&e, options->rank_one_for_zero, error));
    choose_common(&e);
    SORA_TRY(make_config(&e, options, &config, error));
    status = write_folder(&e, config, folder, error);
cleanup:
    free(config);
    free_modules(&e);
    return status;
}
