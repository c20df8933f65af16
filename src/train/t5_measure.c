/* SPDX-License-Identifier: Apache-2.0 */
#include "train/t5_measure.h"

#include "base/file.h"

#include <jansson.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

sora_status sora_t5_open_tokenizer(const sora_t5 *t5, const char *folder, sora_tokenizer **out, sora_error *error)
{
    sora_status status = sora_tokenizer_create(folder, out, error);
    if (status != SORA_OK) return status;
    int ids = sora_tokenizer_size(*out), rows = sora_t5_describe(t5)->vocabulary;
    if (ids <= rows) return SORA_OK;
    sora_tokenizer_destroy(out);
    return sora_fail(error, SORA_ERROR_INPUT,
                     "%s: spiece.model has %d ids with its sentinels, the embedding %d rows: it is another model's", folder, ids,
                     rows);
}

static sora_status check_stop(const sora_watcher *watcher, size_t done, size_t all, const char *what, sora_error *error)
{
    if (!watcher || !watcher->stop || !watcher->stop(watcher->self)) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INTERRUPTED, "stopped after %zu of %zu %s", done, all, what);
}

sora_status sora_t5_measure_loss(sora_t5_graphs *graphs, sora_t5_batches *batches, sora_t5_staging *staging,
                                 const sora_watcher *watcher, sora_quality *out, sora_error *error)
{
    sora_status status = SORA_OK;
    double sum = 0.0, start = now();
    uint64_t all = 0, count = sora_t5_batches_per_epoch(batches);
    sora_t5_batches_seek(batches, 0);
    for (uint64_t i = 0; i < count; i++) {
        sora_t5_batch batch;
        sora_t5_graph *graph;
        uint64_t tokens;
        float loss;
        SORA_TRY(check_stop(watcher, i, count, "batches of the loss", error));
        SORA_TRY(sora_t5_batches_next(batches, &batch, error));
        SORA_TRY(sora_t5_graphs_run(graphs, &batch, staging, 0, 0, &graph, &tokens, error));
        SORA_TRY(sora_graph_read(graph->graph, graph->loss, &loss, error));
        sum += (double)loss * (double)tokens;
        all += tokens;
        out->text.examples += (size_t)batch.count;
    }
    out->loss = all ? sum / (double)all : 0.0;
    out->text.tokens_target = all;
    out->seconds += now() - start;
cleanup:
    return status;
}

/* ---- ROUGE ------------------------------------------------------------------------------------------------------- */

static sora_status score(const sora_t5_scoring *s, size_t i, const sora_t5_output *output, sora_quality *sum, sora_error *error)
{
    sora_status status = SORA_OK;
    char *text = NULL;
    sora_rouge rouge;
    SORA_TRY(sora_tokenizer_decode_generated(s->tokenizer, output->ids, (size_t)output->count, &text, error));
    SORA_TRY(sora_rouge_score(sora_text_at(s->pairs, i).target, text, &rouge, error));
    sum->text.rouge.rouge1 += rouge.rouge1;
    sum->text.rouge.rouge2 += rouge.rouge2;
    sum->text.rouge.rougeL += rouge.rougeL;
    sum->text.rouge.rougeLsum += rouge.rougeLsum;
    sum->text.generated_tokens += output->count;
    if (s->scores) s->scores[i] = rouge;
    if (s->texts) {
        s->texts[i] = text;
        text = NULL;
    }
cleanup:
    free(text);
    return status;
}

/* So many at once: the generator makes batches of them, of like length where they come in order. */
#define CHUNK 64

static sora_status score_chunk(sora_t5_generator *generator, const sora_t5_scoring *s, const uint32_t *order, int count,
                               sora_quality *sum, sora_error *error)
{
    sora_status status = SORA_OK;
    int32_t *ids[CHUNK] = { NULL };
    int lengths[CHUNK] = { 0 };
    sora_t5_output out[CHUNK] = { 0 };
    for (int i = 0; i < count; i++) {
        sora_text_pair pair = sora_text_at(s->pairs, order[i]);
        SORA_TRY(sora_tokenizer_source(s->tokenizer, s->prefix, pair.source, pair.source_bytes, s->max_source, &ids[i],
                                       &lengths[i], error));
    }
    SORA_TRY(sora_t5_generate(generator, (const int32_t *const *)ids, lengths, count, order, s->generation, NULL, out, error));
    for (int i = 0; i < count; i++) SORA_TRY(score(s, order[i], &out[i], sum, error));
cleanup:
    for (int i = 0; i < count; i++) {
        free(ids[i]);
        free(out[i].ids);
    }
    return status;
}

sora_status sora_t5_measure_rouge(sora_t5_generator *generator, const sora_t5_scoring *s, sora_quality *out, sora_error *error)
{
    sora_status status = SORA_OK;
    uint32_t *order = NULL;
    double start = now(), n = (double)s->count;
    if (s->count == 0) return SORA_OK;
    SORA_TRY(sora_allocate(s->count, sizeof *order, "order of texts", &order, error));
    for (size_t i = 0; i < s->count; i++) order[i] = (uint32_t)i;
    SORA_TRY(sora_t5_longest_first(s->pairs, order, s->count, error));
    for (size_t first = 0; first < s->count; first += CHUNK) {
        SORA_TRY(check_stop(s->watcher, first, s->count, "texts", error));
        SORA_TRY(score_chunk(generator, s, order + first, (int)SORA_MIN(CHUNK, s->count - first), out, error));
    }
    out->text.generated = s->count;
    out->text.rouge.rouge1 /= n;
    out->text.rouge.rouge2 /= n;
    out->text.rouge.rougeL /= n;
    out->text.rouge.rougeLsum /= n;
    out->text.generated_tokens /= n;
    out->seconds += now() - start;
cleanup:
    free(order);
    return status;
}

/* ---- A model that is not in training ----------------------------------------------------------------------------- */

static size_t generate_count(const sora_text_pairs *pairs, const sora_text_evaluation_options *o)
{
    return SORA_MIN(o->generate, sora_text_count(pairs));
}

static sora_status evaluate(sora_t5 *t5, const sora_text_pairs *pairs, const sora_text_evaluation_options *o, sora_quality *out,
                            sora_error *error)
{
    sora_status status = SORA_OK;
    sora_tokenizer *tokenizer = NULL;
    sora_t5_batches *batches = NULL;
    sora_t5_graphs graphs = { .t5 = t5, .options = { .batch = o->batch ? o->batch : 8 } };
    sora_t5_staging staging = { 0 };
    sora_t5_generator *generator = NULL;
    const char *prefix = o->prefix ? o->prefix : "";
    sora_t5_batches_options batching = {
        .batch = graphs.options.batch, .prefix = prefix, .max_source = o->max_source, .max_target = o->max_target
    };
    sora_t5_scoring scoring = { .pairs = pairs,
                                .prefix = prefix,
                                .max_source = o->max_source,
                                .count = generate_count(pairs, o),
                                .generation = o->generation,
                                .scores = o->scores,
                                .texts = o->texts,
                                .watcher = o->watcher };
    *out = (sora_quality) { .task = SORA_TASK_T5 };
    if (sora_params_on_device(sora_t5_params(t5)))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "the parameters are on the device already; download them first");
    SORA_TRY(sora_t5_open_tokenizer(t5, sora_t5_folder(t5), &tokenizer, error));
    scoring.tokenizer = tokenizer;
    SORA_TRY(sora_t5_batches_create(pairs, tokenizer, &batching, &batches, error));
    sora_t5_batches_longest(batches, &graphs.source, &graphs.target);
    SORA_TRY(sora_t5_staging_create(graphs.options.batch, graphs.source, graphs.target, &staging, error));
    SORA_TRY(sora_t5_graphs_open(&graphs, error));
    SORA_TRY(sora_params_upload(sora_t5_params(t5), 0, error));
    SORA_TRY(sora_t5_measure_loss(&graphs, batches, &staging, o->watcher, out, error));
    if (scoring.count > 0) {
        sora_t5_generator_options generation = { .batch = graphs.options.batch,
                                                 .source = graphs.source,
                                                 .beams = o->generation->beams,
                                                 .max_length = o->generation->max_length,
                                                 .share = sora_t5_graphs_longest(&graphs)->graph };
        SORA_TRY(sora_t5_generator_create(t5, &generation, &generator, error));
        SORA_TRY(sora_t5_measure_rouge(generator, &scoring, out, error));
    }
cleanup:
    sora_t5_generator_destroy(&generator);
    sora_t5_graphs_close(&graphs);
    if (sora_params_on_device(sora_t5_params(t5))) {
        sora_status down = sora_params_download(sora_t5_params(t5), status == SORA_OK ? error : NULL);
        if (status == SORA_OK) status = down;
    }
    sora_t5_staging_free(&staging);
    sora_t5_batches_destroy(&batches);
    sora_tokenizer_destroy(&tokenizer);
    return status;
}

static sora_status write_predictions(FILE *out, const sora_text_pairs *pairs, const sora_text_evaluation_options *o,
                                     sora_error *error)
{
    for (size_t i = 0; i < generate_count(pairs, o); i++) {
        sora_text_pair pair = sora_text_at(pairs, i);
        const sora_rouge *r = &o->scores[i];
        json_t *line = json_pack("{s:I,s:s,s:s,s:s,s:f,s:f,s:f,s:f}", "line", (json_int_t)pair.line, "text", pair.source,
                                 "reference", pair.target, "prediction", o->texts[i], "rouge1", 100 * r->rouge1, "rouge2",
                                 100 * r->rouge2, "rougeL", 100 * r->rougeL, "rougeLsum", 100 * r->rougeLsum);
        if (!line) return sora_fail(error, SORA_ERROR_MEMORY, "no host memory for the predictions");
        json_dumpf(line, out, JSON_COMPACT | JSON_REAL_PRECISION(9));
        fputc('\n', out);
        json_decref(line);
    }
    return SORA_OK;
}

sora_status sora_t5_evaluate(sora_t5 *t5, const sora_text_pairs *pairs, const sora_text_evaluation_options *o, sora_quality *out,
                             sora_error *error)
{
    sora_status status = SORA_OK;
    sora_text_evaluation_options kept = *o;
    size_t count = generate_count(pairs, o);
    sora_file_writer file = { 0 };
    sora_rouge *scores = NULL;
    char **texts = NULL;
    if (!o->predictions) return evaluate(t5, pairs, o, out, error);
    if (count == 0) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: nothing is generated that could stand in it", o->predictions);
    /* Before what takes long: a file that can't be written is told now. */
    SORA_TRY(sora_file_begin(&file, o->predictions, error));
    SORA_TRY(sora_allocate(count, sizeof *scores, "scores", &scores, error));
    SORA_TRY(sora_allocate(count, sizeof *texts, "predictions", &texts, error));
    if (!kept.scores) kept.scores = scores;
    if (!kept.texts) kept.texts = texts;
    SORA_TRY(evaluate(t5, pairs, &kept, out, error));
    SORA_TRY(write_predictions(file.stream, pairs, &kept, error));
    SORA_TRY(sora_file_commit(&file, error));
cleanup:
    sora_file_abandon(&file);
    for (size_t i = 0; texts && i < count; i++) free(texts[i]);
    free(texts);
    free(scores);
    return status;
}
