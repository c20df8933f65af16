/* SPDX-License-Identifier: Apache-2.0 */
/* What the trainer itself decides, by its numbers: what makes one step of several batches, which learning rate a step has, which
 * evaluation is the best, when a run stops, and when ranks go. */
#include "train/trainer.h"
#include "../fixture.h"
#include "graph/params.h"
#include "model/t5.h"
#include "soracl/vocabulary.h"
#include "train/run_folder.h"
#include "train/t5_task.h"
#include "train/trainer_state.h"

#include <math.h>

enum { LINES = 24 };

static const char *const words[] = { "red",   "old",   "small", "house",  "garden", "river",
                                     "walks", "opens", "finds", "letter", "under",  "behind" };

/* Texts of several lengths with one summary: a mean over batches is then one over labels, too. */
static void write_pairs(const char *path, int count)
{
    FILE *out = fopen(path, "w");
    fprintf(out, "text,title\n");
    for (int i = 0; i < count; i++) {
        for (int w = 0; w < 4 + 3 * i; w++) fprintf(out, "%s ", words[(i * 7 + w * 5 + w * w) % 12]);
        fprintf(out, "%d,old house\n", i);
    }
    fclose(out);
}

static int setup(void **state)
{
    static const sora_t5_config tiny = { .vocabulary = 256,
                                         .width = 16,
                                         .heads = 2,
                                         .head_size = 8,
                                         .inner_width = 32,
                                         .encoder_layers = 1,
                                         .decoder_layers = 1,
                                         .scale_head = true };
    sora_error error;
    sora_t5 *t5 = NULL;
    char lines[LINES][64], *list[LINES];
    if (open_both(state)) return -1;
    for (int i = 0; i < LINES; i++) {
        snprintf(lines[i], sizeof lines[i], "%s %s %s %d.", words[i % 12], words[i * 5 % 12], words[i * 7 % 12], i);
        list[i] = lines[i];
    }
    sora_status status = sora_t5_create(context, &tiny, 7, &t5, &error);
    if (status == SORA_OK) status = sora_t5_save(t5, at("model"), SORA_FILE_F32, &error);
    if (status == SORA_OK)
        status = sora_vocabulary_train((const char *const *)list, LINES, &(sora_vocabulary_options) { .size = 60 },
                                       at("model/spiece.model"), &error);
    sora_t5_destroy(&t5);
    write_pairs(at("one.csv"), 1);
    write_pairs(at("eight.csv"), 8);
    if (status != SORA_OK) print_message("%s\n", error.message);
    return status == SORA_OK ? 0 : -1;
}

/* ---- A run that is watched from within --------------------------------------------------------------------------- */

/* What a test wants of a run, and what became of it. */
typedef struct watched {
    const char *texts, *settings; /* "NAME VALUE NAME VALUE" */
    float dropout;
    const sora_evaluation *script; /* what its evaluations come to, the last one from there on; NULL: what they find */
    sora_run_result result;
    sora_params *params;
    sora_task inner;
    float losses[LINES]; /* of each batch */
    int loss_count, evaluations, script_count;
    double lr[LINES], norm; /* lr of each step, norm of the first one's gradient */
    double weights, gates;  /* Σ |change| by the first step */
    float *before;          /* all parameters, one after the other */
} watched;

static watched *w;

static sora_status keep_loss(void *self, uint32_t step, uint32_t first_sample, sora_micro_step *out, sora_error *error)
{
    sora_status status = w->inner.micro_step(self, step, first_sample, out, error);
    if (status == SORA_OK && w->loss_count < LINES)
        status = sora_graph_read(out->graph, out->loss, &w->losses[w->loss_count++], error);
    return status;
}

static sora_status as_scripted(void *self, sora_evaluation *out, sora_error *error)
{
    if (!w->script) return w->inner.evaluate(self, out, error);
    *out = w->script[SORA_MIN(w->evaluations, w->script_count - 1)];
    out->fields = json_object();
    w->evaluations++;
    return SORA_OK;
}

/* Parameters as the first step found them (change false), and by how much it changed them. */
static void see_parameters(bool change)
{
    sora_error error;
    size_t all = 0, next = 0;
    for (size_t i = 0; i < sora_params_count(w->params); i++) {
        sora_shape shape = sora_param_shape(sora_params_at(w->params, i));
        all += (size_t)sora_shape_elements(&shape);
    }
    if (!change) w->before = malloc(all * sizeof *w->before);
    float *now = malloc(all * sizeof *now);
    for (size_t i = 0; i < sora_params_count(w->params); i++) {
        sora_param *param = sora_params_at(w->params, i);
        sora_shape shape = sora_param_shape(param);
        size_t count = (size_t)sora_shape_elements(&shape);
        OK(sora_param_read(param, 0, change ? now + next : w->before + next, &error));
        double *sum = sora_param_kind_of(param) == SORA_PARAM_GATE ? &w->gates : &w->weights;
        for (size_t k = next; change && k < next + count; k++) *sum += fabs((double)now[k] - (double)w->before[k]);
        next += count;
    }
    free(now);
}

static bool on_progress(void *self, const sora_progress *progress)
{
    (void)self;
    if (progress->gradient_norm == 0.0) return true; /* an evaluation */
    if (progress->step <= LINES) w->lr[progress->step - 1] = progress->lr;
    if (progress->step != 1) return true;
    w->norm = progress->gradient_norm;
    see_parameters(true);
    return true;
}

/* The same options in all runs but for what a test sets: nothing warms up, decays, is clipped or saved in between. */
static void train(const char *name, watched *run)
{
    static const char usual[] = "lr 0.01 optimizer sgd momentum 0 weight-decay 0 clip 0 warmup 0 gate-warmup 0 schedule constant "
                                "method full target .*\\.[qv] rank 4 init ones lambda 0 eval-generate 0 log-every 1 "
                                "eval-every 1000 save-every 1000 epochs 1000";
    sora_error error;
    sora_run_options options;
    sora_text_pairs *pairs;
    sora_tokenizer *tokenizer;
    sora_t5 *t5;
    sora_t5_task *t5_task;
    char text[600], *rest = text;
    sora_watcher watcher = { .progress = on_progress };
    w = run;
    sora_run_options_default(&options, SORA_TASK_T5);
    snprintf(text, sizeof text, "%s %s", usual, run->settings);
    for (char *option; (option = strtok_r(rest, " ", &rest));)
        OK(sora_run_options_set(&options, option, strtok_r(NULL, " ", &rest), &error));
    OK(sora_text_open(at(run->texts), NULL, &pairs, &error));
    OK(sora_t5_open(context, at("model"), NULL, &t5, &error));
    t5->config.dropout = run->dropout;
    OK(sora_t5_open_tokenizer(t5, at("model"), &tokenizer, &error));
    if (sora_run_has_adapters(&options)) OK(sora_run_activate(sora_t5_layers(t5), &options, NULL, &error));
    OK(sora_t5_task_create(t5, tokenizer, pairs, NULL, &options, &t5_task, &error));
    OK(sora_folder_create(at(name), &error));
    sora_task task = sora_t5_task_of(t5_task);
    run->inner = task;
    run->params = task.params;
    task.micro_step = keep_loss;
    task.evaluate = as_scripted;
    see_parameters(false);
    OK(sora_train(&task, &options, at(name), false, &watcher, &run->result, &error));
    free(run->before);
    sora_t5_task_destroy(&t5_task);
    sora_tokenizer_destroy(&tokenizer);
    sora_t5_destroy(&t5);
    sora_text_close(&pairs);
}

static void near(const char *what, double got, double wanted, double allowed)
{
    if (!(fabs(got - wanted) <= allowed)) fail_msg("%s: %.9g, expected %.9g", what, got, wanted);
}

/* ---- Tests ------------------------------------------------------------------------------------------------------- */

/* Two batches of 4 are a batch of 8: the same gradient, the same step. */
static void test_accumulate(void **state)
{
    (void)state;
    watched one = { .texts = "eight.csv", .settings = "steps 2 batch 8" },
            two = { .texts = "eight.csv", .settings = "steps 2 batch 4 accumulate 2" };
    train("eight", &one);
    train("four", &two);
    assert_true(one.norm > 0.1 && one.weights > 0.1);
    near("norm of the gradient", two.norm, one.norm, 1e-5 * one.norm);
    near("change of the weights", two.weights, one.weights, 1e-4 * one.weights);
    near("loss", ((double)two.losses[0] + (double)two.losses[1]) / 2, (double)one.losses[0], 1e-5 * (double)one.losses[0]);
}

/* Batches of one text: only dropout tells them apart, within a step as between steps. */
static void test_dropout_of_batches(void **state)
{
    (void)state;
    watched dropped = { .texts = "one.csv", .settings = "steps 2 batch 1 accumulate 2 lr 0", .dropout = 0.3f },
            plain = { .texts = "one.csv", .settings = "steps 2 batch 1 accumulate 2 lr 0" };
    train("dropped", &dropped);
    train("plain", &plain);
    for (int i = 0; i < 4; i++) {
        assert_true(plain.losses[i] == plain.losses[0]);
        for (int k = 0; k < i; k++) assert_true(dropped.losses[i] != dropped.losses[k]);
    }
}

/* Of the first of two steps of a warm-up the learning rate is half, and so is the update; gates have a warm-up of their own. */
static void test_warmup(void **state)
{
    (void)state;
    static const char settings[] = "method sora lambda 10 steps 4 batch 8";
    char text[100];
    watched cold = { .texts = "eight.csv", .settings = settings }, warm = { .texts = "eight.csv", .settings = text },
            warm_gates = warm;
    train("cold", &cold);
    snprintf(text, sizeof text, "%s warmup 2", settings);
    train("warm", &warm);
    snprintf(text, sizeof text, "%s gate-warmup 2", settings);
    train("warm-gates", &warm_gates);
    assert_true(cold.weights > 0.01 && cold.gates > 0.01);
    near("weights, --warmup 2", warm.weights, cold.weights / 2, 1e-3 * cold.weights);
    near("gates, --warmup 2", warm.gates, cold.gates, 1e-3 * cold.gates);
    near("weights, --gate-warmup 2", warm_gates.weights, cold.weights, 1e-3 * cold.weights);
    near("gates, --gate-warmup 2", warm_gates.gates, cold.gates / 2, 1e-3 * cold.gates);
    for (int i = 0; i < 4; i++) near("lr that a line says", warm.lr[i], i ? 0.01 : 0.005, 1e-8);
}

/* The best evaluation counts, not the first, the last or the worst; what is as good is no better. */
static void test_best_and_patience(void **state)
{
    (void)state;
    static const sora_evaluation script[] = {
        { .score = -2 }, { .score = -3 }, { .score = -1 }, { .score = -2 }, { .score = -1 }
    };
    watched run = {
        .texts = "eight.csv", .settings = "steps 24 batch 8 patience 2 eval-every 1", .script = script, .script_count = 5
    };
    sora_error error;
    unsigned char *best;
    size_t bytes;
    train("patient", &run);
    assert_int_equal(run.result.steps, 5);
    OK(sora_file_read(at("patient/best"), 64, &best, &bytes, &error));
    assert_memory_equal(best, "checkpoint-3\n", sizeof "checkpoint-3\n");
    free(best);
}

/* Of evaluations with one score the loss decides, which a resume has to know. */
static void test_best_of_equal_scores(void **state)
{
    (void)state;
    static const sora_evaluation script[] = { { .loss = 3 }, { .loss = 2 }, { .loss = 2 }, { .loss = 4 } };
    watched run = {
        .texts = "eight.csv", .settings = "steps 24 batch 8 patience 2 eval-every 1", .script = script, .script_count = 4
    };
    sora_error error;
    unsigned char *best;
    size_t bytes;
    train("equal", &run);
    assert_int_equal(run.result.steps, 4);
    OK(sora_file_read(at("equal/best"), 64, &best, &bytes, &error));
    assert_memory_equal(best, "checkpoint-2\n", sizeof "checkpoint-2\n");
    free(best);
    json_t *root = json_load_file(at("equal/checkpoint-4/state.json"), 0, NULL);
    near("loss of the best", json_number_value(json_object_get(json_object_get(root, "best"), "loss")), 2, 1e-9);
    json_decref(root);
}

/* A checkpoint of before the loss was kept goes on, and is saved again as it was. */
static void test_best_without_a_loss(void **state)
{
    (void)state;
    sora_error error;
    const sora_layers none = { 0 };
    sora_trainer_state older = { .step = 3, .has_best = true, .best_score = 0.5, .best_loss = -INFINITY, .best_step = 2 }, read;
    OK(sora_trainer_state_save(&older, &none, folder, &error));
    OK(sora_trainer_state_create(&none, &read, &error));
    OK(sora_trainer_state_load(&read, &none, folder, &error));
    assert_true(read.has_best && read.best_step == 2 && read.best_score == 0.5 && read.best_loss == -INFINITY);
    sora_trainer_state_free(&read);
}

/* A learning rate of 0 makes nothing better. */
static void test_patience(void **state)
{
    (void)state;
    watched run = { .texts = "eight.csv", .settings = "steps 24 batch 8 lr 0 patience 2 eval-every 1" };
    train("still", &run);
    assert_int_equal(run.result.steps, 3);
}

/* The sixth evaluation without a better loss makes the rate of what follows a fifth; scores are not looked at. */
static void test_plateau(void **state)
{
    (void)state;
    static const sora_evaluation script[] = { { .score = 1, .loss = 2 }, { .score = 2, .loss = 1 }, { .score = 3, .loss = 1 } };
    watched run = {
        .texts = "eight.csv", .settings = "steps 16 batch 8 schedule plateau eval-every 1", .script = script, .script_count = 3
    };
    train("plateau", &run);
    for (int i = 0; i < 16; i++) near("lr", run.lr[i], i < 8 ? 0.01 : i < 14 ? 0.002 : 0.0004, 1e-8);
    json_t *root = json_load_file(at("plateau/checkpoint-16/state.json"), 0, NULL);
    near("factor", json_number_value(json_object_get(json_object_get(root, "plateau"), "factor")), 0.04, 1e-9);
    json_decref(root);
}

/* All gates are 0 from the first step on. They are looked at with every line. */
static void test_drop_after(void **state)
{
    (void)state;
    watched each = { .texts = "eight.csv", .settings = "method sora lambda 1e6 steps 24 batch 8 drop-after 3" },
            second = { .texts = "eight.csv", .settings = "method sora lambda 1e6 steps 24 batch 8 drop-after 4 log-every 2" };
    train("each", &each);
    assert_int_equal(each.result.steps, 3);
    assert_int_equal(each.result.rank_kept, 0);
    train("second", &second);
    assert_int_equal(second.result.steps, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_accumulate),
                                        cmocka_unit_test(test_dropout_of_batches),
                                        cmocka_unit_test(test_warmup),
                                        cmocka_unit_test(test_best_and_patience),
                                        cmocka_unit_test(test_patience),
                                        cmocka_unit_test(test_plateau),
                                        cmocka_unit_test(test_drop_after),
                                        cmocka_unit_test(test_best_of_equal_scores),
                                        cmocka_unit_test(test_best_without_a_loss) };
    return cmocka_run_group_tests(tests, setup, close_both);
}
