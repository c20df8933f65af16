/* SPDX-License-Identifier: Apache-2.0 */
#include "model/t5.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What generation is asked to do: usual values, generation_config.json, and what makes no sense. */

#define MOST_LENGTH 4097 /* the most that --max-target takes, and the start token */

void sora_t5_generation_default(sora_t5_generation *options)
{
    /* 20 tokens behind the start token: Transformers counts that where nobody says a length, and not in a length of 20. */
    *options = (sora_t5_generation) {
        .beams = 1, .max_length = 21, .length_penalty = 1.0, .temperature = 1.0, .top_k = 50, .top_p = 1.0
    };
}

sora_status sora_t5_generation_check(const sora_t5_generation *o, sora_error *error)
{
    if (o->beams < 1 || o->beams > 64 || (o->sample && o->beams > 1))
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "--beams %d: expected 1 to 64, and 1 where tokens are sampled (--no-sample: they are not)", o->beams);
    if (o->max_length < 2 || o->max_length > MOST_LENGTH || o->min_length < 0 || o->min_length > o->max_length)
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "--min-length %d, --max-length %d: expected a most of 2 to %d (the start token counts) and a least "
                         "that is not above it",
                         o->min_length, o->max_length, MOST_LENGTH);
    if (!isfinite(o->length_penalty) || fabs(o->length_penalty) > 100.0 || o->no_repeat_ngram < 0 || o->no_repeat_ngram > 4096)
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "--length-penalty %g, --no-repeat-ngram %d: expected −100 to 100, and 0 to 4096", o->length_penalty,
                         o->no_repeat_ngram);
    if (o->sample &&
        (!(o->temperature > 0.0) || !isfinite(o->temperature) || o->top_k < 0 || !(o->top_p > 0.0 && o->top_p <= 1.0)))
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "--temperature %g, --top-k %d, --top-p %g: expected above 0, 0 or more, and above 0 to 1",
                         o->temperature, o->top_k, o->top_p);
    return SORA_OK;
}

/* What the files say beside lengths: tokens without the start token. NOT_SAID: nothing. */
typedef struct new_tokens {
    int least, most;
} new_tokens;
#define NOT_SAID INT32_MIN

/* Settings of Transformers that change what it generates, and that this program has not; the number that turns each off, NAN where
 * none does. Null, false and empty lists and texts turn off any. */
static const struct {
    const char *key;
    double off;
} unsupported[] = { { "repetition_penalty", 1 },
                    { "encoder_repetition_penalty", 1 },
                    { "encoder_no_repeat_ngram_size", 0 },
                    { "num_beam_groups", 1 },
                    { "diversity_penalty", 0 },
                    { "num_return_sequences", 1 },
                    { "penalty_alpha", 0 },
                    { "guidance_scale", 1 },
                    { "typical_p", 1 },
                    { "min_p", 0 },
                    { "top_h", NAN },
                    { "epsilon_cutoff", 0 },
                    { "eta_cutoff", 0 },
                    { "max_time", NAN },
                    { "stop_strings", NAN },
                    { "bad_words_ids", NAN },
                    { "force_words_ids", NAN },
                    { "constraints", NAN },
                    { "sequence_bias", NAN },
                    { "suppress_tokens", NAN },
                    { "begin_suppress_tokens", NAN },
                    { "forced_bos_token_id", NAN },
                    { "forced_eos_token_id", NAN },
                    { "forced_decoder_ids", NAN },
                    { "exponential_decay_length_penalty", NAN },
                    { "renormalize_logits", NAN },
                    { "watermarking_config", NAN },
                    { "token_healing", NAN },
                    { "dola_layers", NAN } };

static bool is_off(const json_t *value, double off)
{
    if (json_is_number(value)) return json_number_value(value) == off;
    if (json_is_string(value)) return json_string_length(value) == 0;
    return json_is_false(value) || (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static sora_status check_unsupported(const char *path, const char *key, const json_t *value, sora_error *error)
{
    for (size_t i = 0; i < SORA_COUNT(unsupported); i++) {
        if (strcmp(key, unsupported[i].key) != 0 || is_off(value, unsupported[i].off)) continue;
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
        sora_status status =
            sora_fail(error, SORA_ERROR_INPUT, "%s: \"%s\": %.120s: not supported; take the key out to generate without it", path,
                      key, text ? text : "?");
        free(text);
        return status;
    }
    return SORA_OK;
}

static sora_status read_value(const char *path, const char *key, const json_t *value, sora_t5_generation *o, new_tokens *added,
                              sora_error *error)
{
    struct {
        const char *key;
        int *whole;
        double *number;
        bool *flag;
    } fields[] = { { "num_beams", &o->beams, NULL, NULL },
                   { "min_length", &o->min_length, NULL, NULL },
                   { "max_length", &o->max_length, NULL, NULL },
                   { "min_new_tokens", &added->least, NULL, NULL },
                   { "max_new_tokens", &added->most, NULL, NULL },
                   { "length_penalty", NULL, &o->length_penalty, NULL },
                   { "no_repeat_ngram_size", &o->no_repeat_ngram, NULL, NULL },
                   { "do_sample", NULL, NULL, &o->sample },
                   { "temperature", NULL, &o->temperature, NULL },
                   { "top_k", &o->top_k, NULL, NULL },
                   { "top_p", NULL, &o->top_p, NULL } };
    if (strcmp(key, "early_stopping") == 0) {
        const char *word = json_string_value(value);
        if (!json_is_boolean(value) && !(word && strcmp(word, "never") == 0))
            return sora_fail(error, SORA_ERROR_INPUT, "%s: \"early_stopping\" is neither true, false nor \"never\"", path);
        o->early_stopping = word ? SORA_STOP_NEVER : json_is_true(value) ? SORA_STOP_EARLY : SORA_STOP_HEURISTIC;
        return SORA_OK;
    }
    for (size_t i = 0; i < SORA_COUNT(fields); i++) {
        if (strcmp(key, fields[i].key) != 0) continue;
        bool fits = fields[i].whole    ? json_is_integer(value) && llabs(json_integer_value(value)) < INT32_MAX
                    : fields[i].number ? json_is_number(value)
                                       : json_is_boolean(value);
        if (!fits) return sora_fail(error, SORA_ERROR_INPUT, "%s: \"%s\" is no such value", path, key);
        if (fields[i].whole) *fields[i].whole = (int)json_integer_value(value);
        if (fields[i].number) *fields[i].number = json_number_value(value);
        if (fields[i].flag) *fields[i].flag = json_is_true(value);
        return SORA_OK;
    }
    return check_unsupported(path, key, value, error);
}

static sora_status read_values(const char *path, const json_t *root, sora_t5_generation *o, new_tokens *added, sora_error *error)
{
    sora_status status = SORA_OK;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)root, key, value)
    {
        if (!json_is_null(value)) SORA_TRY(read_value(path, key, value, o, added, error));
    }
    /* As in Transformers they win over lengths, whichever file has those. */
    if (added->least != NOT_SAID) o->min_length = added->least + 1;
    if (added->most != NOT_SAID) {
        o->max_length = added->most + 1;
        if (added->least == NOT_SAID) o->min_length = SORA_MIN(o->min_length, o->max_length);
    }
    /* What only contradicts something else may still be settled by options. */
    sora_t5_generation alone = *o;
    alone.sample = false;
    alone.min_length = SORA_MIN(o->min_length, o->max_length);
    status = sora_t5_generation_check(&alone, error);
    if (status != SORA_OK) {
        sora_error_prefix(error, "%s", path);
        status = SORA_ERROR_INPUT;
        if (error) error->status = status;
    }
cleanup:
    return status;
}

sora_status sora_t5_generation_read(const char *folder, sora_t5_generation *options, sora_error *error)
{
    sora_status status = SORA_OK;
    char *paths[2] = { NULL, NULL };
    json_t *config = NULL, *generation = NULL;
    sora_t5_generation read = *options;
    new_tokens added = { NOT_SAID, NOT_SAID };
    SORA_TRY(sora_t5_read_json(folder, "config.json", &paths[0], &config, error));
    SORA_TRY(sora_t5_read_json(folder, "generation_config.json", &paths[1], &generation, error));
    /* Transformers looks into config.json itself where there is no other file, and never at a task's: those are older. */
    if (config && !generation) SORA_TRY(read_values(paths[0], config, &read, &added, error));
    const json_t *task = json_object_get(json_object_get(config, "task_specific_params"), "summarization");
    if (task) SORA_TRY(read_values(paths[0], task, &read, &added, error));
    if (generation) SORA_TRY(read_values(paths[1], generation, &read, &added, error));
    *options = read;
cleanup:
    json_decref(config);
    json_decref(generation);
    free(paths[0]);
    free(paths[1]);
    return status;
}
