/* SPDX-License-Identifier: Apache-2.0 */
/* Options reach what they are named after: runs of one or two steps, with and without each. */
#include "soracl/train.h"
#include "../fixture.h"
#include "graph/params.h"
#include "soracl/vocabulary.h"

#include <math.h>

static const char *const words[] = { "the",   "red",   "old",   "small",  "house", "garden",
                                     "walks", "opens", "finds", "letter", "under", "behind" };

static int open_starts(void **state)
{
    enum { LINES = 40 };
    sora_error error;
    sora_t5 *t5 = NULL;
    sora_unet *unet = NULL;
    char lines[LINES][64], *list[LINES];
    if (open_both(state)) return -1;
    for (int i = 0; i < LINES; i++) {
        snprintf(lines[i], sizeof lines[i], "%s %s %s %d.", words[i % 12], words[i * 5 % 12], words[i * 7 % 12], i);
        list[i] = lines[i];
    }
    FILE *out = fopen(at("train.csv"), "w");
    fprintf(out, "text,title\n");
    for (int i = 0; i < 24; i++) fprintf(out, "%s %s,%s\n", lines[i], lines[i + 3], words[i % 12]);
    fclose(out);
    sora_status status = sora_t5_create(context,
                                        &(sora_t5_config) { .vocabulary = 200,
                                                            .width = 32,
                                                            .heads = 2,
                                                            .head_size = 16,
                                                            .inner_width = 64,
                                                            .encoder_layers = 1,
                                                            .decoder_layers = 1,
                                                            .scale_head = true },
                                        7, &t5, &error);
    if (status == SORA_OK) status = sora_t5_save(t5, at("t5"), SORA_FILE_F32, &error);
    if (status == SORA_OK)
        status = sora_vocabulary_train((const char *const *)list, LINES, &(sora_vocabulary_options) { .size = 60 },
                                       at("t5/spiece.model"), &error);
    if (status == SORA_OK)
        status = sora_unet_create(context, &(sora_unet_options) { .model = "unet", .size = 32, .width = 4, .depth = 1 }, &unet,
                                  &error);
    if (status == SORA_OK) status = sora_unet_save(unet, at("unet"), &error);
    if (status == SORA_OK)
        status = sora_hands_draw(at("hands"),
                                 &(sora_hands_options) { .layout = "egohands", .images = 16, .width = 96, .height = 54 }, &error);
    if (status != SORA_OK) print_message("%s\n", error.message);
    sora_t5_destroy(&t5);
    sora_unet_destroy(&unet);
    return status == SORA_OK ? 0 : -1;
}

/* ---- Runs -------------------------------------------------------------------------------------------------------- */

/* What a run ended with, and the loss of its first step. */
typedef struct ended {
    double loss;
    sora_t5 *t5;
    sora_unet *unet;
    sora_params *params;
} ended;

static bool keep_first(void *self, const sora_progress *progress)
{
    ended *e = self;
    if (progress->step == 1 && !progress->quality) e->loss = progress->loss;
    return true;
}

/* "NAME VALUE NAME VALUE ..." */
static void set(sora_run_options *options, const char *settings)
{
    sora_error error;
    char text[256], *rest = text;
    snprintf(text, sizeof text, "%s", settings);
    for (char *name = strtok_r(text, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
        OK(sora_run_options_set(options, name, strtok_r(NULL, " ", &rest), &error));
}

/* From the same weights: full, at a constant rate, without decay and clipping, where `settings` don't say otherwise. */
static ended run(sora_task_kind task, const char *settings)
{
    static int number;
    sora_error error;
    sora_run_options options;
    sora_run_result result;
    ended e = { .loss = NAN };
    char name[16], last[300];
    snprintf(name, sizeof name, "run-%d", number++);
    sora_run_options_default(&options, task);
    set(&options, "steps 1 batch 4 log-every 1 method full rank 4 schedule constant warmup 0 lr 0.01 weight-decay 0 clip 0");
    if (task == SORA_TASK_T5) {
        set(&options, "max-source 32 max-target 8 eval-generate 0");
        OK(sora_run_options_set(&options, "model", at("t5"), &error));
        OK(sora_run_options_set(&options, "train", at("train.csv"), &error));
    } else {
        char data[280];
        snprintf(data, sizeof data, "egohands:%s", at("hands"));
        OK(sora_run_options_set(&options, "from", at("unet"), &error));
        OK(sora_run_options_set(&options, "data", data, &error));
    }
    set(&options, settings);
    sora_watcher watcher = { .progress = keep_first, .self = &e };
    sora_run_target target = { .folder = at(name) };
    snprintf(last, sizeof last, "%s:last", target.folder);
    if (task == SORA_TASK_T5) {
        OK(sora_t5_run(context, &options, &target, &watcher, &result, &error));
        OK(sora_t5_open(context, last, NULL, &e.t5, &error));
        e.params = sora_t5_params(e.t5);
    } else {
        OK(sora_unet_run(context, &options, &target, &watcher, &result, &error));
        OK(sora_unet_open(context, last, &e.unet, &error));
        e.params = sora_unet_params(e.unet);
    }
    assert_true(isfinite(e.loss));
    return e;
}

static void forget(ended *e)
{
    sora_t5_destroy(&e->t5);
    sora_unet_destroy(&e->unet);
}

static double first_loss(sora_task_kind task, const char *settings)
{
    ended e = run(task, settings);
    double loss = e.loss;
    forget(&e);
    return loss;
}

/* ---- Weights ----------------------------------------------------------------------------------------------------- */

/* A parameter's values in several runs; there is room for the largest. */
enum { MOST = 200 * 32, RUNS = 4 };
static float values[RUNS][MOST];

/* Values of parameter i of each; returns how many. */
static int read(ended *const *list, int count, size_t i)
{
    sora_error error;
    sora_shape shape = sora_param_shape(sora_params_at(list[0]->params, i));
    int64_t elements = sora_shape_elements(&shape);
    assert_true(elements <= MOST);
    for (int r = 0; r < count; r++) OK(sora_param_read(sora_params_at(list[r]->params, i), 0, values[r], &error));
    return (int)elements;
}

static double distance(const float *a, const float *b, int n)
{
    double square = 0;
    for (int i = 0; i < n; i++) square += pow((double)a[i] - (double)(b ? b[i] : 0.0f), 2);
    return sqrt(square);
}

/* Norm of what is different in the parameters of one kind. */
static double difference(ended *a, ended *b, sora_param_kind kind)
{
    double square = 0;
    for (size_t i = 0; i < sora_params_count(a->params); i++)
        if (sora_param_kind_of(sora_params_at(a->params, i)) == kind) {
            int n = read((ended *const[]) { a, b }, 2, i);
            square += pow(distance(values[0], values[1], n), 2);
        }
    return sqrt(square);
}

static ended start_of(sora_task_kind task)
{
    sora_error error;
    ended e = { 0 };
    if (task == SORA_TASK_T5) {
        OK(sora_t5_open(context, at("t5"), NULL, &e.t5, &error));
        e.params = sora_t5_params(e.t5);
    } else {
        OK(sora_unet_open(context, at("unet"), &e.unet, &error));
        e.params = sora_unet_params(e.unet);
    }
    return e;
}

static void near(const char *what, double got, double wanted, double allowed)
{
    if (!(fabs(got - wanted) <= allowed)) fail_msg("%s: %.7g, expected %.7g", what, got, wanted);
}

/* ---- Optimisers -------------------------------------------------------------------------------------------------- */

/* Beside what the gradient does, AdamW takes lr · decay of each weight, and nothing of a norm. */
static void test_weight_decay(void **state)
{
    (void)state;
    ended start = start_of(SORA_TASK_T5), without = run(SORA_TASK_T5, ""), with = run(SORA_TASK_T5, "weight-decay 10");
    for (size_t i = 0; i < sora_params_count(start.params); i++) {
        const sora_param *param = sora_params_at(start.params, i);
        double share = sora_param_kind_of(param) == SORA_PARAM_WEIGHT ? 0.01 * 10 : 0;
        int n = read((ended *const[]) { &start, &without, &with }, 3, i);
        for (int k = 0; k < n; k++) near(sora_param_name(param), values[1][k] - values[2][k], share * values[0][k], 1e-5);
    }
    forget(&start), forget(&without), forget(&with);
}

/* Plain SGD goes lr · clip far along a gradient that is longer. */
static void test_clip(void **state)
{
    (void)state;
    ended start = start_of(SORA_TASK_T5), without = run(SORA_TASK_T5, "optimizer sgd momentum 0"),
          with = run(SORA_TASK_T5, "optimizer sgd momentum 0 clip 0.1");
    double far[2] = { 0 };
    for (int kind = SORA_PARAM_WEIGHT; kind <= SORA_PARAM_PLAIN; kind++) {
        far[0] = hypot(far[0], difference(&start, &without, (sora_param_kind)kind));
        far[1] = hypot(far[1], difference(&start, &with, (sora_param_kind)kind));
    }
    assert_true(far[0] > 2 * 0.01 * 0.1);
    near("way of a clipped step", far[1], 0.01 * 0.1, 1e-2 * 0.01 * 0.1);
    forget(&start), forget(&without), forget(&with);
}

/* The second step goes on by that share of the first. */
static void test_momentum(void **state)
{
    (void)state;
    ended start = start_of(SORA_TASK_T5), one = run(SORA_TASK_T5, "optimizer sgd momentum 0"),
          without = run(SORA_TASK_T5, "optimizer sgd momentum 0 steps 2"),
          with = run(SORA_TASK_T5, "optimizer sgd momentum 0.5 steps 2");
    double first = 0, wrong = 0;
    for (size_t i = 0; i < sora_params_count(start.params); i++) {
        int n = read((ended *const[]) { &start, &one, &without, &with }, 4, i);
        for (int k = 0; k < n; k++) {
            double way = (double)values[1][k] - (double)values[0][k];
            first += way * way;
            wrong += pow((double)values[3][k] - (double)values[2][k] - 0.5 * way, 2);
        }
    }
    near("what is not half of the first step", sqrt(wrong / first), 0, 1e-2);
    forget(&start), forget(&one), forget(&without), forget(&with);
}

/* Adafactor's step is then relative to the root of the mean square of what it changes. */
static void test_scale_parameter(void **state)
{
    (void)state;
    ended start = start_of(SORA_TASK_T5), without = run(SORA_TASK_T5, "optimizer adafactor"),
          with = run(SORA_TASK_T5, "optimizer adafactor scale-parameter on");
    for (size_t i = 0; i < sora_params_count(start.params); i++) {
        int n = read((ended *const[]) { &start, &without, &with }, 3, i);
        double size = distance(values[0], NULL, n) / sqrt(n), whole = distance(values[0], values[1], n);
        near(sora_param_name(sora_params_at(start.params, i)), distance(values[0], values[2], n), fmax(size, 1e-3) * whole,
             1e-3 * whole);
    }
    forget(&start), forget(&without), forget(&with);
}

/* W_u is 0 at first, so that a gate's gradient is the penalty's alone; of that Adam makes a whole step towards 0. */
static void test_lambda_of_official_gates(void **state)
{
    (void)state;
    static const char *const lambdas[] = { "method sora gate official xi 1e-9 gate-lr 0.01 lambda 0",
                                           "method sora gate official xi 1e-9 gate-lr 0.01 lambda 10" };
    ended without = run(SORA_TASK_T5, lambdas[0]), with = run(SORA_TASK_T5, lambdas[1]);
    int gates = 0;
    for (size_t i = 0; i < sora_params_count(without.params); i++) {
        if (sora_param_kind_of(sora_params_at(without.params, i)) != SORA_PARAM_GATE) continue;
        int n = read((ended *const[]) { &without, &with }, 2, i);
        for (int k = 0; k < n; k++, gates++)
            near("a gate's loss", fabs((double)values[0][k]) - fabs((double)values[1][k]), 0.01,
                 fabs((double)values[0][k]) < 0.01 ? 0.02 : 1e-4);
    }
    assert_int_equal(gates, 4 * 16);
    forget(&without), forget(&with);
}

/* ---- Losses ------------------------------------------------------------------------------------------------------ */

/* The loss is linear in the share that all classes get. */
static void test_label_smoothing(void **state)
{
    (void)state;
    double none = first_loss(SORA_TASK_T5, "label-smoothing 0"), some = first_loss(SORA_TASK_T5, "label-smoothing 0.3"),
           more = first_loss(SORA_TASK_T5, "label-smoothing 0.6");
    assert_true(fabs(more - none) > 1e-3);
    near("loss between", some, (none + more) / 2, 1e-5 * fabs(none));
}

static void test_mask_losses(void **state)
{
    (void)state;
    double dice = first_loss(SORA_TASK_UNET, "loss dice"), bce = first_loss(SORA_TASK_UNET, "loss bce"),
           both = first_loss(SORA_TASK_UNET, "loss dice-bce");
    assert_true(fabs(dice - bce) > 1e-3 && dice <= 1);
    near("both losses", both, dice + bce, 1e-5);
}

/* ---- The U-Net's own --------------------------------------------------------------------------------------------- */

static void test_batch_norm(void **state)
{
    (void)state;
    ended start = start_of(SORA_TASK_UNET), batch = run(SORA_TASK_UNET, "method lora target .*conv2 bn batch"),
          frozen = run(SORA_TASK_UNET, "method lora target .*conv2 bn frozen");
    for (size_t i = 0; i < sora_params_count(start.params); i++) {
        sora_param *param = sora_params_at(start.params, i), *list[2];
        if (sora_param_kind_of(param) != SORA_PARAM_STATE) continue;
        list[0] = sora_params_find(batch.params, sora_param_name(param));
        list[1] = sora_params_find(frozen.params, sora_param_name(param));
        sora_shape shape = sora_param_shape(param);
        size_t bytes = (size_t)sora_shape_elements(&shape) * sizeof(float);
        assert_memory_not_equal(sora_param_host(list[0]), sora_param_host(param), bytes);
        assert_memory_equal(sora_param_host(list[1]), sora_param_host(param), bytes);
    }
    assert_true(batch.loss != frozen.loss);
    forget(&start), forget(&batch), forget(&frozen);
}

/* Of the network where all of it trains, of the branch where adapters do: W_u is 0 at first, and its gradient has the branch's
 * activations. */
static void test_dropout(void **state)
{
    (void)state;
    assert_true(first_loss(SORA_TASK_UNET, "dropout 0") != first_loss(SORA_TASK_UNET, "dropout 0.5"));
    ended without = run(SORA_TASK_UNET, "method lora target .*conv2 dropout 0"),
          with = run(SORA_TASK_UNET, "method lora target .*conv2 dropout 0.5");
    assert_true(with.loss == without.loss && difference(&without, &with, SORA_PARAM_WEIGHT) > 0);
    forget(&without), forget(&with);
    assert_true(first_loss(SORA_TASK_T5, "dropout 0") != first_loss(SORA_TASK_T5, "dropout 0.5"));
}

/* ---- Order ------------------------------------------------------------------------------------------------------- */

/* Nothing but the order of the data hangs on the seed where the weights are there and nothing drops. */
static void test_seeds_order(void **state)
{
    (void)state;
    assert_true(first_loss(SORA_TASK_T5, "seed 1") != first_loss(SORA_TASK_T5, "seed 2"));
    assert_true(first_loss(SORA_TASK_UNET, "augment off seed 1") != first_loss(SORA_TASK_UNET, "augment off seed 2"));
    assert_true(first_loss(SORA_TASK_UNET, "augment off") != first_loss(SORA_TASK_UNET, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_weight_decay),
                                        cmocka_unit_test(test_clip),
                                        cmocka_unit_test(test_momentum),
                                        cmocka_unit_test(test_scale_parameter),
                                        cmocka_unit_test(test_lambda_of_official_gates),
                                        cmocka_unit_test(test_label_smoothing),
                                        cmocka_unit_test(test_mask_losses),
                                        cmocka_unit_test(test_batch_norm),
                                        cmocka_unit_test(test_dropout),
                                        cmocka_unit_test(test_seeds_order) };
    return cmocka_run_group_tests(tests, open_starts, close_both);
}
