/* SPDX-License-Identifier: Apache-2.0 */
/* Mistakes that earlier implementations made, each with a test that fails where it is made again: the decoder's input not shifted
 * (1), padding that counts and texts that change their neighbours (2), training texts in the evaluation (3), a sparsity that
 * never reaches the gates (4), summaries cut at 20 tokens (8). */
#include "train/t5_graphs.h"
#include "../fixture.h"
#include "base/random.h"
#include "graph/graph.h"
#include "model/t5.h"
#include "soracl/train.h"
#include "soracl/vocabulary.h"

#include <math.h>

enum { TEXTS = 5, SOURCE = 48, TARGET = 24, WORDS = 40 };

static const sora_t5_config tiny = { .vocabulary = 256,
                                     .width = 32,
                                     .heads = 2,
                                     .head_size = 16,
                                     .inner_width = 64,
                                     .encoder_layers = 2,
                                     .decoder_layers = 2,
                                     .scale_head = true };

/* ---- A batch of texts of several lengths ------------------------------------------------------------------------- */

static int32_t ids[TEXTS][SOURCE], *sources[TEXTS], *targets[TEXTS];
static int source_lengths[TEXTS] = { 3, 47, 11, 1, 30 }, target_lengths[TEXTS];
static double scores[TEXTS]; /* log p of each target, as generation found it */

static void make_sources(void)
{
    sora_random_stream random = { .seed = 3, .purpose = SORA_PURPOSE_TEST };
    for (int i = 0; i < TEXTS; i++) {
        sources[i] = ids[i];
        for (int t = 0; t < source_lengths[i]; t++) ids[i][t] = 3 + (int32_t)(sora_random_uniform(&random) * 250);
    }
}

static void generate(sora_t5 *t5, int batch, sora_t5_output *out)
{
    sora_error error;
    sora_t5_generator *generator;
    sora_t5_generation options;
    sora_t5_generation_default(&options);
    options.beams = 2;
    options.max_length = TARGET + 1;
    options.length_penalty = 0.0; /* a score is then the sum of log p */
    options.no_repeat_ngram = 2;
    OK(sora_t5_generator_create(
        t5, &(sora_t5_generator_options) { .batch = batch, .source = SOURCE, .beams = 2, .max_length = TARGET + 1 }, &generator,
        &error));
    OK(sora_t5_generate(generator, (const int32_t *const *)sources, source_lengths, TEXTS, NULL, &options, NULL, out, &error));
    sora_t5_generator_destroy(&generator);
}

/* The mean loss of texts first..first + count as a batch of a run, and the labels that it is the mean over. */
static double loss_of(sora_t5_graphs *graphs, int first, int count, uint64_t *tokens)
{
    sora_error error;
    sora_t5_graph *graph;
    sora_t5_staging staging;
    float loss;
    sora_t5_batch batch = { .count = count,
                            .sources = sources + first,
                            .targets = targets + first,
                            .source_lengths = source_lengths + first,
                            .target_lengths = target_lengths + first };
    for (int i = first; i < first + count; i++) {
        batch.source_longest = SORA_MAX(batch.source_longest, source_lengths[i]);
        batch.target_longest = SORA_MAX(batch.target_longest, target_lengths[i]);
    }
    OK(sora_t5_staging_create(TEXTS, SOURCE, TARGET, &staging, &error));
    OK(sora_t5_graphs_run(graphs, &batch, &staging, 0, 0, &graph, tokens, &error));
    OK(sora_graph_read(graph->graph, graph->loss, &loss, &error));
    if (graphs->options.training) {
        OK(sora_params_zero_gradients(graphs->t5->params, &error));
        OK(sora_graph_backward(graph->graph, &error));
        OK(sora_context_finish(context, &error));
    }
    sora_t5_staging_free(&staging);
    return (double)loss;
}

static void near(const char *what, double got, double wanted, double allowed)
{
    if (!(fabs(got - wanted) <= allowed)) fail_msg("%s: %.7g, expected %.7g", what, got, wanted);
}

/* Generation has no labels to copy from and no padding behind its tokens. What it says of each of its own texts, training's and
 * evaluation's batches must say too, whatever the text stands beside. */
static void check_losses(sora_t5 *t5, bool training)
{
    sora_error error;
    sora_t5_graphs graphs = { .t5 = t5, .options = { .training = training, .batch = TEXTS }, .source = SOURCE, .target = TARGET };
    uint64_t tokens;
    double all = 0, count = 0;
    OK(sora_t5_graphs_open(&graphs, &error));
    for (int i = 0; i < TEXTS; i++) {
        double loss = loss_of(&graphs, i, 1, &tokens);
        assert_int_equal(tokens, target_lengths[i]);
        near("loss of a text alone", loss * (double)tokens, -scores[i], 1e-4 * fabs(scores[i]));
        all -= scores[i];
        count += target_lengths[i];
    }
    double loss = loss_of(&graphs, 0, TEXTS, &tokens);
    assert_int_equal(tokens, (int)count);
    near("loss of all", loss, all / count, 1e-4 * all / count);
    sora_t5_graphs_close(&graphs);
}

/* The gradient of a batch is the mean of its texts' own ones over the labels that count. */
static void check_gradients(sora_t5 *t5, const char *name)
{
    sora_error error;
    sora_param *param = sora_params_find(t5->params, name);
    sora_shape shape = sora_param_shape(param);
    size_t n = (size_t)sora_shape_elements(&shape);
    float *one = calloc(n, sizeof *one);
    double *sum = calloc(n, sizeof *sum), largest = 0;
    uint64_t tokens, all = 0;
    sora_t5_graphs graphs = { .t5 = t5, .options = { .training = true, .batch = TEXTS }, .source = SOURCE, .target = TARGET };
    OK(sora_t5_graphs_open(&graphs, &error));
    for (int i = 0; i < TEXTS; i++) {
        loss_of(&graphs, i, 1, &tokens);
        OK(sora_param_read(param, 3, one, &error));
        for (size_t k = 0; k < n; k++) sum[k] += (double)tokens * (double)one[k];
        all += tokens;
    }
    loss_of(&graphs, 0, TEXTS, &tokens);
    OK(sora_param_read(param, 3, one, &error));
    for (size_t k = 0; k < n; k++) largest = fmax(largest, fabs((double)one[k]));
    assert_true(largest > 1e-4);
    for (size_t k = 0; k < n; k++) near(name, (double)one[k], sum[k] / (double)all, 1e-4 * largest);
    sora_t5_graphs_close(&graphs);
    free(one), free(sum);
}

static void test_labels_and_padding(void **state)
{
    (void)state;
    sora_error error;
    sora_t5 *t5;
    sora_t5_output together[TEXTS], alone[TEXTS];
    make_sources();
    OK(sora_t5_create(context, &tiny, 5, &t5, &error));
    OK(sora_params_upload(t5->params, 0, &error));
    generate(t5, TEXTS, together);
    generate(t5, 1, alone);
    for (int i = 0; i < TEXTS; i++) {
        assert_int_equal(alone[i].count, together[i].count);
        assert_memory_equal(alone[i].ids, together[i].ids, (size_t)alone[i].count * sizeof *alone[i].ids);
        near("score of a text alone", alone[i].score, together[i].score, 1e-5 * fabs(together[i].score));
        targets[i] = together[i].ids;
        target_lengths[i] = i == 2 ? together[i].count / 3 : together[i].count;
        scores[i] = together[i].score;
    }
    /* Targets of several lengths, too: of a start of a text generation says nothing, so it is taken from a batch of its own. */
    sora_t5_graphs graphs = { .t5 = t5, .options = { .batch = TEXTS }, .source = SOURCE, .target = TARGET };
    uint64_t tokens;
    OK(sora_t5_graphs_open(&graphs, &error));
    double loss = loss_of(&graphs, 2, 1, &tokens);
    scores[2] = -loss * (double)tokens;
    sora_t5_graphs_close(&graphs);
    check_losses(t5, false);
    check_losses(t5, true);
    check_gradients(t5, "encoder.block.0.layer.0.SelfAttention.k.weight");
    check_gradients(t5, "decoder.block.1.layer.1.EncDecAttention.v.weight");
    check_gradients(t5, "shared.weight");
    OK(sora_params_download(t5->params, &error));
    for (int i = 0; i < TEXTS; i++) free(together[i].ids), free(alone[i].ids);
    sora_t5_destroy(&t5);
}

/* ---- Runs -------------------------------------------------------------------------------------------------------- */

static const char *const words[] = { "red",   "old",   "small", "house",  "garden", "river",
                                     "walks", "opens", "finds", "letter", "under",  "behind" };

static void write_pairs(const char *path, int first, int count)
{
    FILE *out = fopen(path, "w");
    fprintf(out, "text,title\n");
    for (int i = first; i < first + count; i++) {
        for (int w = 0; w < 8 + i % 20; w++) fprintf(out, "%s ", words[(i * 7 + w * 5 + w * w) % 12]);
        fprintf(out, "%d,%s %s %d\n", i, words[i % 12], words[(i / 12 + 3) % 12], i);
    }
    fclose(out);
}

static int open_runs(void **state)
{
    sora_error error;
    sora_t5 *t5 = NULL;
    char lines[WORDS][64], *list[WORDS];
    if (open_both(state)) return -1;
    for (int i = 0; i < WORDS; i++) {
        snprintf(lines[i], sizeof lines[i], "%s %s %s %d.", words[i % 12], words[i * 5 % 12], words[i * 7 % 12], i);
        list[i] = lines[i];
    }
    sora_status status = sora_t5_create(context, &tiny, 7, &t5, &error);
    if (status == SORA_OK) status = sora_t5_save(t5, at("model"), SORA_FILE_F32, &error);
    if (status == SORA_OK)
        status = sora_vocabulary_train((const char *const *)list, WORDS, &(sora_vocabulary_options) { .size = 60 },
                                       at("model/spiece.model"), &error);
    sora_t5_destroy(&t5);
    write_pairs(at("train.csv"), 0, 32);
    write_pairs(at("dev.csv"), 32, 6);
    write_pairs(at("overlap.csv"), 31, 6);
    if (status != SORA_OK) print_message("%s\n", error.message);
    return status == SORA_OK ? 0 : -1;
}

static void set(sora_run_options *options, const char *name, const char *value)
{
    sora_error error;
    OK(sora_run_options_set(options, name, value, &error));
}

static sora_run_options options_for(const char *dev)
{
    sora_run_options options;
    sora_run_options_default(&options, SORA_TASK_T5);
    set(&options, "model", at("model"));
    set(&options, "train", at("train.csv"));
    set(&options, "dev", at(dev));
    set(&options, "batch", "4");
    set(&options, "rank", "4");
    set(&options, "max-source", "64");
    set(&options, "max-target", "40");
    return options;
}

static void test_overlap(void **state)
{
    (void)state;
    sora_error error;
    sora_run_result result;
    sora_run_options options = options_for("overlap.csv");
    FAILS(sora_t5_run(context, &options, &(sora_run_target) { .folder = at("overlapping") }, NULL, &result, &error),
          SORA_ERROR_INPUT, "overlap.csv");
    assert_non_null(strstr(error.message, "line 33 of"));
    assert_false(sora_path_exists(at("overlapping")));
}

static void keep_shrink(void *self, const char *text)
{
    const char *number = strstr(text, "planned shrink") ? strchr(text, ':') : NULL;
    if (number) *(double *)self = strtod(number + 1, NULL);
}

/* Σ |g| over the gates that a run ended with, their number, and what it had said that they would lose. */
typedef struct shrunk {
    double sum, planned;
    int gates;
} shrunk;

static shrunk gates_after(const char *name, const char *lambda)
{
    sora_error error;
    sora_run_result result;
    sora_t5 *t5;
    char last[300];
    shrunk s = { 0 };
    sora_watcher watcher = { .message = keep_shrink, .self = &s.planned };
    sora_run_options options = options_for("dev.csv");
    set(&options, "steps", "8");
    set(&options, "gate-lr", "0.01");
    set(&options, "lambda", lambda);
    set(&options, "eval-generate", "0");
    OK(sora_t5_run(context, &options, &(sora_run_target) { .folder = at(name) }, &watcher, &result, &error));
    snprintf(last, sizeof last, "%s:last", at(name));
    OK(sora_t5_open(context, last, NULL, &t5, &error));
    for (size_t i = 0; i < sora_params_count(t5->params); i++) {
        sora_param *gate = sora_params_at(t5->params, i);
        if (sora_param_kind_of(gate) != SORA_PARAM_GATE) continue;
        for (int r = 0; r < sora_param_shape(gate).dim[0]; r++) s.sum += fabs((double)sora_param_host(gate)[r]);
        s.gates += 4;
    }
    sora_t5_destroy(&t5);
    return s;
}

/* A gate loses λ · Ση in a run. Two λ must differ by that, and a run must have said so when it began. */
static void test_lambda_reaches_the_gates(void **state)
{
    (void)state;
    shrunk little = gates_after("little", "0.5"), much = gates_after("much", "2");
    assert_int_equal(little.gates, 4 * 32);
    near("planned shrink", little.planned, 0.5 * 0.01 * 8, 1e-3);
    near("planned shrink", much.planned, 2 * 0.01 * 8, 1e-3);
    /* Some gates start nearer to 0 than that, and the gradients differ a little. */
    near("difference of the means of |g|", (little.sum - much.sum) / little.gates, much.planned - little.planned,
         0.15 * much.planned);
}

static void test_summaries_are_not_cut(void **state)
{
    (void)state;
    sora_error error;
    sora_run_result result;
    sora_t5 *t5;
    sora_text_pairs *pairs;
    sora_quality quality;
    sora_t5_generation generation;
    sora_run_options options = options_for("dev.csv");
    /* A learning rate of 0: the weights are random ones, that never end a text. */
    set(&options, "steps", "1");
    set(&options, "lr", "0");
    OK(sora_t5_run(context, &options, &(sora_run_target) { .folder = at("long") }, NULL, &result, &error));
    assert_int_equal(result.quality.text.generated, 6);
    near("generated tokens of a run's evaluation", result.quality.text.generated_tokens, 40, 0);
    OK(sora_t5_open(context, at("model"), NULL, &t5, &error));
    OK(sora_text_open(at("dev.csv"), NULL, &pairs, &error));
    sora_t5_generation_default(&generation);
    generation.max_length = 61;
    const sora_text_evaluation_options how = {
        .batch = 4, .max_source = 64, .max_target = 40, .generate = SIZE_MAX, .generation = &generation
    };
    OK(sora_t5_evaluate(t5, pairs, &how, &quality, &error));
    near("generated tokens of an evaluation", quality.text.generated_tokens, 60, 0);
    sora_text_close(&pairs);
    sora_t5_destroy(&t5);
}

/* Of texts whose loss an evaluation does not take it has no lengths. */
static void test_few_evaluated(void **state)
{
    (void)state;
    sora_error error;
    sora_run_result result;
    FILE *out = fopen(at("uneven.csv"), "w");
    fprintf(out, "text,title\nred,old\n");
    for (int w = 0; w < 120; w++) fprintf(out, "%s ", words[w % 12]);
    fprintf(out, "end,small garden\n");
    fclose(out);
    sora_run_options options = options_for("uneven.csv");
    set(&options, "steps", "1");
    set(&options, "max-source", "200");
    set(&options, "eval-examples", "1");
    OK(sora_t5_run(context, &options, &(sora_run_target) { .folder = at("few") }, NULL, &result, &error));
    assert_int_equal(result.quality.text.examples, 1);
    assert_int_equal(result.quality.text.generated, 1);
}

/* A finished run that is resumed says again what it came to. */
static void test_finished_is_evaluated(void **state)
{
    (void)state;
    sora_error error;
    sora_run_result first, again;
    sora_run_options options = options_for("dev.csv");
    set(&options, "steps", "2");
    set(&options, "eval-examples", "3");
    set(&options, "eval-generate", "2");
    OK(sora_t5_run(context, &options, &(sora_run_target) { .folder = at("finished") }, NULL, &first, &error));
    OK(sora_t5_run(context, &options, &(sora_run_target) { .folder = at("finished"), .resume = true }, NULL, &again, &error));
    assert_false(again.finished);
    assert_int_equal(again.quality.text.examples, 3);
    assert_int_equal(again.quality.text.generated, 2);
    near("loss", again.quality.loss, first.quality.loss, 1e-5);
    near("generated tokens", again.quality.text.generated_tokens, first.quality.text.generated_tokens, 0);
}

/* The most that --max-target takes is what generation takes, too, with its start token. */
static void test_longest_summaries(void **state)
{
    (void)state;
    sora_error error;
    sora_run_result result;
    sora_t5_generation generation;
    sora_run_options options = options_for("dev.csv");
    set(&options, "steps", "1");
    set(&options, "lr", "0");
    set(&options, "max-target", "4096");
    set(&options, "eval-generate", "1");
    OK(sora_t5_run(context, &options, &(sora_run_target) { .folder = at("longest") }, NULL, &result, &error));
    near("generated tokens", result.quality.text.generated_tokens, 4096, 0);
    sora_t5_generation_default(&generation);
    generation.max_length = 4098;
    FAILS(sora_t5_generation_check(&generation, &error), SORA_ERROR_ARGUMENT, "--max-length 4098: expected a most of 2 to 4097");
}

/* An evaluation generates in chunks of 64: a text of the second one has random numbers of its own. */
static void test_samples_of_chunks(void **state)
{
    (void)state;
    enum { PAIRS = 65 };
    sora_error error;
    sora_t5 *t5;
    sora_text_pairs *pairs;
    sora_quality quality;
    sora_t5_generation generation;
    char *texts[PAIRS] = { NULL };
    FILE *out = fopen(at("equal.csv"), "w");
    fprintf(out, "text,title\n");
    for (int i = 0; i < PAIRS; i++) fprintf(out, "the old house,%d\n", i);
    fclose(out);
    OK(sora_t5_open(context, at("model"), NULL, &t5, &error));
    OK(sora_text_open(at("equal.csv"), NULL, &pairs, &error));
    assert_int_equal(sora_text_count(pairs), PAIRS);
    sora_t5_generation_default(&generation);
    generation.sample = true;
    const sora_text_evaluation_options how = {
        .batch = 16, .max_source = 64, .max_target = 16, .generate = SIZE_MAX, .generation = &generation, .texts = texts
    };
    OK(sora_t5_evaluate(t5, pairs, &how, &quality, &error));
    for (int i = 1; i < PAIRS; i++) assert_string_not_equal(texts[0], texts[i]);
    for (int i = 0; i < PAIRS; i++) free(texts[i]);
    sora_text_close(&pairs);
    sora_t5_destroy(&t5);
}

static bool ask(void *self)
{
    return --*(int *)self < 0;
}

/* Whoever asks an evaluation to stop does not wait for all of its loss, and gets no file of half of it. */
static void test_evaluation_stops(void **state)
{
    (void)state;
    sora_error error;
    sora_t5 *t5;
    sora_text_pairs *pairs;
    sora_quality quality;
    sora_t5_generation generation;
    int asked;
    const sora_watcher watcher = { .stop = ask, .self = &asked };
    const char *path = at("predictions.jsonl");
    OK(sora_t5_open(context, at("model"), NULL, &t5, &error));
    OK(sora_text_open(at("dev.csv"), NULL, &pairs, &error));
    sora_t5_generation_default(&generation);
    sora_text_evaluation_options options = { .batch = 1,
                                             .max_source = 64,
                                             .max_target = 16,
                                             .generate = SIZE_MAX,
                                             .generation = &generation,
                                             .watcher = &watcher,
                                             .predictions = path };
    asked = 1;
    FAILS(sora_t5_evaluate(t5, pairs, &options, &quality, &error), SORA_ERROR_INTERRUPTED, "stopped after 1 of");
    assert_false(sora_path_exists(path));
    asked = (int)sora_text_count(pairs);
    FAILS(sora_t5_evaluate(t5, pairs, &options, &quality, &error), SORA_ERROR_INTERRUPTED, "stopped after 0 of");
    asked = 1000;
    OK(sora_t5_evaluate(t5, pairs, &options, &quality, &error));
    assert_true(sora_path_exists(path));
    sora_text_close(&pairs);
    sora_t5_destroy(&t5);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_labels_and_padding),
                                        cmocka_unit_test(test_overlap),
                                        cmocka_unit_test(test_lambda_reaches_the_gates),
                                        cmocka_unit_test(test_summaries_are_not_cut),
                                        cmocka_unit_test(test_few_evaluated),
                                        cmocka_unit_test(test_finished_is_evaluated),
                                        cmocka_unit_test(test_longest_summaries),
                                        cmocka_unit_test(test_samples_of_chunks),
                                        cmocka_unit_test(test_evaluation_stops) };
    return cmocka_run_group_tests(tests, open_runs, close_both);
}
