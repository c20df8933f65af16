/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "train/comparison.h"
#include "train/t5_measure.h"
#include "train/t5_task.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct t5_comparison {
    sora_context *context;
    const sora_run_options *options;
    const sora_comparison_options *asked;
    const sora_watcher *watcher;
    sora_text_pairs *pairs;
    sora_t5 *t5;
    sora_rouge *scores; /* [pairs], of one row */
    char **texts;       /* [pairs], what that row wrote */
    json_t *examples;
} t5_comparison;

/* ---- Data and models --------------------------------------------------------------------------------------------- */

static sora_status open_data(void *self, uint64_t *hash, sora_error *error)
{
    sora_status status = SORA_OK;
    t5_comparison *c = self;
    const char *path = c->asked->test ? c->asked->test : c->options->eval_data;
    sora_text_options reading = sora_t5_text_options(c->options);
    sora_text_pairs *training = NULL, *evaluating = NULL;
    if (reading.target_optional)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "--objective %s: summaries are compared, which needs pairs", c->options->objective);
    if (!*path) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "--dev FILE or --test FILE is needed: what the rows are measured on");
    SORA_TRY(sora_t5_open_data(c->options, &training, &evaluating, error));
    *hash = sora_t5_data_hash(training, evaluating);
    reading.limit = c->asked->eval_limit;
    SORA_TRY(sora_text_open(path, &reading, &c->pairs, error));
    SORA_TRY(sora_text_check_disjoint(training, c->pairs, error));
    SORA_TRY(sora_allocate(sora_text_count(c->pairs), sizeof *c->scores, "scores", &c->scores, error));
    SORA_TRY(sora_allocate(sora_text_count(c->pairs), sizeof *c->texts, "summaries", &c->texts, error));
cleanup:
    sora_text_close(&training);
    sora_text_close(&evaluating);
    return status;
}

static size_t count_pairs(const void *self)
{
    return sora_text_count(((const t5_comparison *)self)->pairs);
}

static sora_status run(void *self, const sora_run_options *options, const sora_run_target *target, sora_run_result *result,
                       sora_error *error)
{
    t5_comparison *c = self;
    return sora_t5_run(c->context, options, target, c->watcher, result, error);
}

static sora_status open_model(void *self, const char *from, sora_error *error)
{
    t5_comparison *c = self;
    return sora_t5_open(c->context, from, NULL, &c->t5, error);
}

static sora_status check_target(const void *self, const char *target, sora_error *error)
{
    return sora_t5_check_target(((const t5_comparison *)self)->t5, target, error);
}

static sora_params *params_of(const void *self)
{
    return sora_t5_params(((const t5_comparison *)self)->t5);
}

static sora_layers *layers_of(const void *self)
{
    return sora_t5_layers(((const t5_comparison *)self)->t5);
}

static void forget_texts(t5_comparison *c)
{
    for (size_t i = 0; c->texts && i < sora_text_count(c->pairs); i++) {
        free(c->texts[i]);
        c->texts[i] = NULL;
    }
}

static void close_model(void *self)
{
    t5_comparison *c = self;
    sora_t5_destroy(&c->t5);
    forget_texts(c);
}

/* ---- Measuring --------------------------------------------------------------------------------------------------- */

/* Up to the first '.', '!' or '?' that white space follows, or the first empty line. */
static size_t first_sentence(const char *text, size_t bytes)
{
    size_t start = 0;
    while (start < bytes && isspace((unsigned char)text[start])) start++;
    for (size_t i = start; i + 1 < bytes; i++) {
        if (strchr(".!?", text[i]) && isspace((unsigned char)text[i + 1])) return i + 1;
        if (text[i] == '\n' && text[i + 1] == '\n') return i;
    }
    return bytes;
}

/* The first sentence of each text as its summary, without a model. */
static sora_status copy_sentences(t5_comparison *c, sora_quality *out, sora_error *error)
{
    size_t count = sora_text_count(c->pairs);
    sora_rouge *mean = &out->text.rouge;
    *out = (sora_quality) { .task = SORA_TASK_T5, .loss = (double)NAN, .text = { .examples = count, .generated = count } };
    for (size_t i = 0; i < count; i++) {
        sora_text_pair pair = sora_text_at(c->pairs, i);
        int length = (int)first_sentence(pair.source, pair.source_bytes);
        sora_status status = sora_format(&c->texts[i], error, "%.*s", length, pair.source);
        if (status == SORA_OK) status = sora_rouge_score(pair.target, c->texts[i], &c->scores[i], error);
        if (status != SORA_OK) return status;
        mean->rouge1 += c->scores[i].rouge1 / (double)count;
        mean->rouge2 += c->scores[i].rouge2 / (double)count;
        mean->rougeL += c->scores[i].rougeL / (double)count;
        mean->rougeLsum += c->scores[i].rougeLsum / (double)count;
    }
    return SORA_OK;
}

static sora_status generate(t5_comparison *c, sora_quality *out, sora_error *error)
{
    sora_t5_generation generation;
    sora_t5_generation_default(&generation);
    generation.max_length = c->options->max_target + 1; /* the start token counts */
    sora_text_evaluation_options options = { .batch = c->options->batch,
                                             .prefix = c->options->prefix,
                                             .max_source = c->options->max_source,
                                             .max_target = c->options->max_target,
                                             .generate = SIZE_MAX,
                                             .generation = &generation,
                                             .scores = c->scores,
                                             .texts = c->texts,
                                             .watcher = c->watcher };
    return sora_t5_evaluate(c->t5, c->pairs, &options, out, error);
}

static sora_status evaluate(void *self, double *scores, sora_quality *out, sora_error *error)
{
    t5_comparison *c = self;
    size_t count = sora_text_count(c->pairs);
    forget_texts(c);
    sora_status status = c->t5 ? generate(c, out, error) : copy_sentences(c, out, error);
    for (size_t i = 0; status == SORA_OK && i < count; i++) {
        scores[i] = 100.0 * c->scores[i].rougeL;
        scores[count + i] = 100.0 * c->scores[i].rouge1;
        scores[2 * count + i] = 100.0 * c->scores[i].rouge2;
    }
    return status;
}

static json_t *quality_json(const sora_quality *q)
{
    static const char *const of_a_model[] = { "loss", "tokens_target", "generated_tokens_mean" };
    sora_quality plain = *q;
    if (!isnan(q->loss)) return sora_quality_to_json(q);
    plain.loss = 0.0; /* JSON has no NaN */
    json_t *json = sora_quality_to_json(&plain);
    for (size_t i = 0; json && i < SORA_COUNT(of_a_model); i++) json_object_set_new(json, of_a_model[i], json_null());
    return json;
}

/* ---- Examples ---------------------------------------------------------------------------------------------------- */

static sora_status begin(void *self, sora_error *error)
{
    t5_comparison *c = self;
    size_t asked = c->asked->overlays > 0 ? (size_t)c->asked->overlays : 6, count = SORA_MIN(asked, sora_text_count(c->pairs));
    for (size_t i = 0; i < count; i++) {
        sora_text_pair pair = sora_text_at(c->pairs, i);
        json_t *example = json_pack("{s:s,s:s,s:[]}", "text", pair.source, "reference", pair.target, "summaries");
        if (json_array_append_new(c->examples, example) != 0)
            return sora_fail(error, SORA_ERROR_MEMORY, "no host memory for the examples");
    }
    return SORA_OK;
}

static sora_status illustrate(void *self, const char *label, const char *slug, sora_error *error)
{
    t5_comparison *c = self;
    size_t index;
    json_t *example;
    (void)slug;
    json_array_foreach(c->examples, index, example)
    {
        json_t *summary = json_pack("{s:s,s:s}", "label", label, "summary", c->texts[index]);
        if (json_array_append_new(json_object_get(example, "summaries"), summary) != 0)
            return sora_fail(error, SORA_ERROR_MEMORY, "no host memory for the examples");
    }
    return SORA_OK;
}

static json_t *illustrations(const void *self)
{
    return ((const t5_comparison *)self)->examples;
}

sora_status sora_t5_compare(sora_context *context, const sora_run_options *options, const sora_comparison_options *asked,
                            const sora_watcher *watcher, sora_comparison_row **rows, size_t *count, sora_error *error)
{
    t5_comparison c = { .context = context, .options = options, .asked = asked, .watcher = watcher, .examples = json_array() };
    sora_comparison_task task = { .self = &c,
                                  .name = "t5",
                                  .from_missing = "--model DIR is needed: the weights that every method starts from",
                                  .all = SORA_TARGET_T5,
                                  .all_name = "",
                                  .ranks_are_rows = true,
                                  .schedule_is_row = true,
                                  .baseline = "first sentence",
                                  .examples = "examples",
                                  .shown = "examples",
                                  .measures = { "rougeL", "rouge1", "rouge2" },
                                  .measure_count = 3,
                                  .open_data = open_data,
                                  .count = count_pairs,
                                  .begin = begin,
                                  .run = run,
                                  .open_model = open_model,
                                  .check_target = check_target,
                                  .params = params_of,
                                  .layers = layers_of,
                                  .close_model = close_model,
                                  .evaluate = evaluate,
                                  .illustrate = illustrate,
                                  .quality = quality_json,
                                  .illustrations = illustrations };
    sora_status status = sora_compare(context, options, asked, watcher, &task, rows, count, error);
    forget_texts(&c);
    free(c.texts);
    free(c.scores);
    sora_text_close(&c.pairs);
    json_decref(c.examples);
    return status;
}
