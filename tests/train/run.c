/* SPDX-License-Identifier: Apache-2.0 */
/* Runs through the library: watched, stopped, refused for want of memory; options; the report of broken folders. */
#include "soracl/train.h"
#include "../fixture.h"
#include "base/file.h"
#include "cl/context.h"
#include "train/checkpoint.h"
#include "train/unet_task.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static void options_for(const char *steps, sora_run_options *options)
{
    sora_error error;
    char data[256];
    snprintf(data, sizeof data, "egohands:%s/hands", folder);
    sora_run_options_default(options, SORA_TASK_UNET);
    OK(sora_run_options_set(options, "data", data, &error));
    OK(sora_run_options_set(options, "size", "64", &error));
    OK(sora_run_options_set(options, "batch", "4", &error));
    OK(sora_run_options_set(options, "steps", steps, &error));
    OK(sora_run_options_set(options, "log-every", "1", &error));
}

typedef struct watched {
    int reports, evaluations, messages, stop_at;
    uint32_t last;
} watched;

static bool on_progress(void *self, const sora_progress *progress)
{
    watched *w = self;
    w->reports++;
    w->evaluations += progress->quality != NULL;
    if (!(progress->step >= w->last && progress->step <= progress->steps && isfinite(progress->loss))) w->reports = -1000;
    w->last = progress->step;
    return !w->stop_at || (int)progress->step < w->stop_at;
}

static void on_message(void *self, const char *text)
{
    (void)text;
    ((watched *)self)->messages++;
}

/* A program follows a run, stops it, and goes on: the end is that of a run that was never stopped. */
static void test_watched_and_stopped(void **state)
{
    (void)state;
    sora_error error;
    sora_run_options options;
    sora_run_result whole, rest;
    watched w = { .stop_at = 3 };
    sora_watcher watcher = { .progress = on_progress, .message = on_message, .self = &w };
    options_for("8", &options);
    OK(sora_unet_run(context, &options, &(sora_run_target) { .folder = at("whole") }, NULL, &whole, &error));
    assert_int_equal(whole.steps, 8);
    assert_true(whole.finished && isfinite(whole.quality.loss) && whole.seconds_per_step > 0);
    assert_true(whole.device_bytes_peak > 0 && whole.device_bytes_peak <= whole.device_bytes_predicted);
    FAILS(sora_unet_run(context, &options, &(sora_run_target) { .folder = at("stopped") }, &watcher, &rest, &error),
          SORA_ERROR_INTERRUPTED, "resume");
    assert_true(w.reports > 0 && w.last == 3);
    w.stop_at = 0;
    OK(sora_unet_run(context, &options, &(sora_run_target) { .folder = at("stopped"), .resume = true }, &watcher, &rest, &error));
    assert_true(w.evaluations >= 1 && w.last == 8);
    assert_true(rest.quality.loss == whole.quality.loss && rest.quality.mask.iou_per_image == whole.quality.mask.iou_per_image);
    FAILS(sora_unet_run(context, &options, &(sora_run_target) { .folder = at("whole") }, NULL, &rest, &error),
          SORA_ERROR_ARGUMENT, "overwrite");
    OK(sora_unet_run(context, &options, &(sora_run_target) { .folder = at("whole"), .resume = true }, NULL, &rest, &error));
    assert_true(!rest.finished && rest.quality.loss == whole.quality.loss &&
                rest.quality.mask.iou_per_image == whole.quality.mask.iou_per_image);
}

static void expect_equal_files(const char *one, const char *other)
{
    sora_error error;
    unsigned char *a, *b;
    size_t a_bytes, b_bytes;
    OK(sora_file_read(at(one), 64u << 20, &a, &a_bytes, &error));
    OK(sora_file_read(at(other), 64u << 20, &b, &b_bytes, &error));
    assert_int_equal(a_bytes, b_bytes);
    assert_memory_equal(a, b, a_bytes);
    free(a);
    free(b);
}

/* Adafactor's moments through checkpoints, with gates that have two of their own and rows that are dropped on the way. A step is
 * two batches: what goes on begins with the batch after the last one that was seen. */
static void test_adafactor_goes_on(void **state)
{
    (void)state;
    sora_error error;
    sora_run_options options;
    sora_run_result whole, rest;
    watched w = { .stop_at = 4 };
    sora_watcher watcher = { .progress = on_progress, .self = &w };
    static const char *const settings[][2] = { { "optimizer", "adafactor" }, { "lr", "0.01" },     { "method", "sora" },
                                               { "target", ".*conv2" },      { "rank", "6" },      { "gate", "adam" },
                                               { "gate-lr", "0.05" },        { "lambda", "1" },    { "drop-after", "1" },
                                               { "save-every", "1" },        { "accumulate", "2" } };
    options_for("6", &options);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        OK(sora_run_options_set(&options, settings[i][0], settings[i][1], &error));
    OK(sora_unet_run(context, &options, &(sora_run_target) { .folder = at("adafactor") }, NULL, &whole, &error));
    assert_true(whole.rank_kept > 0 && whole.rank_kept < whole.rank_max);
    assert_true(whole.device_bytes_peak > 0 && whole.device_bytes_peak <= whole.device_bytes_predicted);
    FAILS(sora_unet_run(context, &options, &(sora_run_target) { .folder = at("halted") }, &watcher, &rest, &error),
          SORA_ERROR_INTERRUPTED, "resume");
    w.stop_at = 0;
    OK(sora_unet_run(context, &options, &(sora_run_target) { .folder = at("halted"), .resume = true }, &watcher, &rest, &error));
    assert_int_equal(rest.rank_kept, whole.rank_kept);
    expect_equal_files("adafactor/checkpoint-6/optimizer.safetensors", "halted/checkpoint-6/optimizer.safetensors");
    expect_equal_files("adafactor/checkpoint-6/state.json", "halted/checkpoint-6/state.json");
}

/* Predicted before the first step, with what would fit. */
static void test_too_little_memory(void **state)
{
    (void)state;
    sora_error error;
    sora_run_options options;
    sora_run_result result;
    sora_context *small;
    sora_device_limits limits = sora_context_device(context)->limits;
    limits.global_bytes = 32u << 20;
    OK(sora_context_create(&(sora_context_options) { .limits = &limits }, &small, &error));
    options_for("2", &options);
    OK(sora_run_options_set(&options, "size", "128", &error));
    OK(sora_run_options_set(&options, "batch", "16", &error));
    OK(sora_run_options_set(&options, "accumulate", "3", &error));
    FAILS(sora_unet_run(small, &options, &(sora_run_target) { .folder = at("large") }, NULL, &result, &error), SORA_ERROR_MEMORY,
          "--batch");
    const char *advice = strstr(error.message, "--batch ");
    char fitting[16];
    snprintf(fitting, sizeof fitting, "%d", atoi(advice + 8));
    assert_in_range(atoi(fitting), 2, 8);
    char accumulate[32];
    snprintf(accumulate, sizeof accumulate, "(--accumulate %d keeps", 3 * 16 / atoi(fitting));
    assert_non_null(strstr(advice, accumulate));
    OK(sora_run_options_set(&options, "batch", fitting, &error));
    OK(sora_unet_run(small, &options, &(sora_run_target) { .folder = at("fitting"), .overwrite = true }, NULL, &result, &error));
    sora_context_destroy(&small);
}

/* A small network and its task, whose functions a test replaces by its own. */
typedef struct small_run {
    sora_run_options options;
    sora_dataset *data, *eval_data;
    sora_unet *unet;
    sora_unet_task *of;
    sora_task task;
} small_run;

static void open_small(const char *steps, const char *const (*settings)[2], size_t count, small_run *out)
{
    sora_error error;
    options_for(steps, &out->options);
    for (size_t i = 0; i < count; i++) OK(sora_run_options_set(&out->options, settings[i][0], settings[i][1], &error));
    const sora_unet_options network = { .model = "unet", .size = out->options.size, .width = 2, .depth = 1 };
    OK(sora_unet_open_data(&out->options, &out->data, &out->eval_data, &error));
    OK(sora_unet_create(context, &network, &out->unet, &error));
    OK(sora_unet_task_create(out->unet, out->data, out->eval_data, &out->options, &out->of, &error));
    out->task = sora_unet_task_of(out->of);
}

static void close_small(small_run *run)
{
    sora_unet_task_destroy(&run->of);
    sora_unet_destroy(&run->unet);
    sora_dataset_close(&run->data);
    sora_dataset_close(&run->eval_data);
}

/* Trains in the folder NAME, which ends with SORA_ERROR_NUMERIC and this message. */
static void ends_not_finite(const small_run *run, const char *name, const sora_watcher *watcher, const char *message)
{
    sora_error error;
    sora_run_result result;
    OK(sora_folder_create(at(name), &error));
    FAILS(sora_train(&run->task, &run->options, at(name), false, watcher, &result, &error), SORA_ERROR_NUMERIC, message);
    assert_non_null(strstr(error.message, "; the last checkpoint stands. Try a lower --lr"));
}

/* A task whose batches' passes have a mark behind them, and that frees batches only when all that was marked is done. */
static cl_event mark;

static sora_status marked_step(void *self, uint32_t step, uint32_t first_sample, sora_micro_step *out, sora_error *error)
{
    sora_status status = sora_unet_task_of(self).micro_step(self, step, first_sample, out, error);
    if (mark) clReleaseEvent(mark);
    if (clEnqueueMarkerWithWaitList(context->queue, 0, NULL, &mark) != CL_SUCCESS) fail();
    return status;
}

static sora_status seek_at_rest(void *self, uint64_t batch, sora_error *error)
{
    cl_int state = CL_COMPLETE;
    if (mark) clGetEventInfo(mark, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
    assert_int_equal(state, CL_COMPLETE);
    return sora_unet_task_of(self).seek(self, batch, error);
}

/* A step that failed is known only when the next one has been enqueued, which reads a batch. */
static void test_nonfinite(void **state)
{
    (void)state;
    small_run run;
    static const char *const settings[][2] = { { "size", "256" },          { "lr", "1000" },         { "weight-decay", "100" },
                                               { "schedule", "constant" }, { "warmup", "0" },        { "clip", "0" },
                                               { "eval-every", "1000" },   { "save-every", "1000" }, { "log-every", "1000" } };
    open_small("100", settings, SORA_COUNT(settings), &run);
    run.task.micro_step = marked_step;
    run.task.seek = seek_at_rest;
    ends_not_finite(&run, "nonfinite", NULL, "is not finite");
    clReleaseEvent(mark);
    close_small(&run);
}

/* A step after which running statistics are not finite, which training with those of its batches does not read. */
#define BAD_STEP 3

static sora_params *poisoned;

static sora_status poisoning_step(void *self, uint32_t step, uint32_t first_sample, sora_micro_step *out, sora_error *error)
{
    static const float variances[2] = { 1, INFINITY };
    sora_status status = sora_unet_task_of(self).micro_step(self, step, first_sample, out, error);
    if (status != SORA_OK || step + 1 != BAD_STEP) return status;
    return sora_param_write(sora_params_find(poisoned, "encoder.0.norm1.running_var"), 0, variances, error);
}

/* What no one could load is no checkpoint, whether a step saves it, a stop, or the end: those before are kept and can be loaded. */
static void test_nonfinite_statistics(void **state)
{
    (void)state;
    static const struct {
        const char *name, *steps, *save_every;
        int stop_at;
        uint32_t kept[2];
    } cases[] = { { "each", "6", "1", 0, { 1, 2 } }, { "stop", "6", "2", BAD_STEP, { 2, 0 } }, { "end", "3", "2", 0, { 2, 0 } } };
    for (size_t i = 0; i < SORA_COUNT(cases); i++) {
        sora_error error;
        small_run run;
        sora_unet *unet;
        char last[64];
        uint32_t *steps;
        size_t count;
        watched w = { .stop_at = cases[i].stop_at };
        const char *const settings[][2] = { { "save-every", cases[i].save_every }, { "keep", "2" }, { "eval-every", "1000" } };
        open_small(cases[i].steps, settings, SORA_COUNT(settings), &run);
        poisoned = run.task.params;
        run.task.micro_step = poisoning_step;
        ends_not_finite(&run, cases[i].name, &(sora_watcher) { .progress = on_progress, .self = &w },
                        "weights.safetensors: tensor encoder.0.norm1.running_var holds inf at 1");
        OK(sora_checkpoint_list(at(cases[i].name), &steps, &count, &error));
        assert_int_equal(count, cases[i].kept[1] ? 2 : 1);
        assert_memory_equal(steps, cases[i].kept, count * sizeof *steps);
        snprintf(last, sizeof last, "%s:last", cases[i].name);
        OK(sora_unet_open(context, at(last), &unet, &error));
        sora_unet_destroy(&unet);
        free(steps);
        close_small(&run);
    }
}

/* An evaluation of which one figure is replaced. */
static enum { NAN_LOSS, NAN_SCORE, NO_FIELDS } replaced;

static sora_status odd_evaluation(void *self, sora_evaluation *out, sora_error *error)
{
    sora_status status = sora_unet_task_of(self).evaluate(self, out, error);
    if (status != SORA_OK) return status;
    if (replaced == NAN_LOSS) out->loss = NAN;
    if (replaced == NAN_SCORE) out->score = NAN;
    if (replaced == NO_FIELDS) {
        json_decref(out->fields);
        out->fields = NULL;
    }
    return SORA_OK;
}

/* It is no event without its figures, no best one, and no end of a run. */
static void test_nonfinite_evaluation(void **state)
{
    (void)state;
    sora_error error;
    small_run run;
    sora_run_result result;
    unsigned char *events;
    size_t bytes, count;
    uint32_t *steps;
    open_small("2", NULL, 0, &run);
    run.task.evaluate = odd_evaluation;
    replaced = NAN_LOSS;
    ends_not_finite(&run, "odd-evaluation", NULL, "step 2: the evaluation's loss is not finite");
    replaced = NAN_SCORE;
    ends_not_finite(&run, "odd-evaluation", NULL, "step 2: the evaluation's score is not finite");
    replaced = NO_FIELDS;
    FAILS(sora_train(&run.task, &run.options, at("odd-evaluation"), false, NULL, &result, &error), SORA_ERROR_MEMORY,
          "evaluation");
    OK(sora_checkpoint_list(at("odd-evaluation"), &steps, &count, &error));
    assert_int_equal(count, 0);
    OK(sora_file_read(at("odd-evaluation/events.jsonl"), 1 << 20, &events, &bytes, &error));
    assert_null(strstr((char *)events, "\"evaluation\""));
    free(events);
    free(steps);
    close_small(&run);
}

static float losses[4];
static int loss_count;

/* The first batch again and again. */
static sora_status same_batch(void *self, uint32_t step, uint32_t first_sample, sora_micro_step *out, sora_error *error)
{
    sora_status status = SORA_OK;
    SORA_TRY(sora_unet_task_of(self).seek(self, 0, error));
    SORA_TRY(sora_unet_task_of(self).micro_step(self, step, first_sample, out, error));
    SORA_TRY(sora_graph_read(out->graph, out->loss, &losses[loss_count++ % 4], error));
cleanup:
    return status;
}

/* Two steps of two equal batches, whose losses only dropout can make differ. */
static void see_losses(const char *dropout)
{
    sora_error error;
    sora_run_options options;
    sora_run_result result;
    sora_dataset *data, *eval_data;
    sora_unet *unet;
    sora_unet_task *unet_task;
    options_for("2", &options);
    OK(sora_run_options_set(&options, "accumulate", "2", &error));
    OK(sora_run_options_set(&options, "augment", "off", &error));
    OK(sora_run_options_set(&options, "lr", "0", &error));
    OK(sora_run_options_set(&options, "dropout", dropout, &error));
    OK(sora_unet_open_data(&options, &data, &eval_data, &error));
    OK(sora_unet_create(context, &(sora_unet_options) { .model = "unet", .size = 64, .width = 2, .depth = 1 }, &unet, &error));
    OK(sora_unet_task_create(unet, data, eval_data, &options, &unet_task, &error));
    OK(sora_folder_create(at(dropout), &error));
    sora_task task = sora_unet_task_of(unet_task);
    task.micro_step = same_batch;
    OK(sora_train(&task, &options, at(dropout), false, NULL, &result, &error));
    sora_unet_task_destroy(&unet_task);
    sora_unet_destroy(&unet);
    sora_dataset_close(&data);
    sora_dataset_close(&eval_data);
}

static void test_dropout_of_batches(void **state)
{
    (void)state;
    see_losses("0");
    for (int i = 1; i < 4; i++) assert_true(losses[i] == losses[0]);
    see_losses("0.3");
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++) assert_true(losses[i] != losses[k]);
}

static void test_unwritable_folder(void **state)
{
    (void)state;
    sora_error error;
    sora_run_options options;
    sora_run_result result;
    options_for("2", &options);
    FAILS(sora_unet_run(context, &options, &(sora_run_target) { .folder = "/proc/soracl/run" }, NULL, &result, &error),
          SORA_ERROR_IO, "/proc");
    OK(sora_file_write(at("file"), "x", 1, &error));
    FAILS(sora_unet_run(context, &options, &(sora_run_target) { .folder = at("file/run") }, NULL, &result, &error), SORA_ERROR_IO,
          "file");
}

static void test_options(void **state)
{
    (void)state;
    sora_error error;
    sora_run_options a, b;
    size_t count;
    const sora_option *table = sora_run_option_table(&count);
    const struct {
        const char *name, *value;
    } bad[] = {
        { "batch", "0" },           { "batch", "4x" },         { "batch", "" },    { "lr", "nan" },     { "lr", "-1" },
        { "gate", "soft" },         { "seed", "-1" },          { "dropout", "1" }, { "epochs", "1e9" }, { "optimizer", "adam" },
        { "rank", "999999999999" }, { "no-such-option", "1" }, { "lambda", "inf" }
    };
    sora_run_options_default(&a, SORA_TASK_UNET);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(&error, 0, sizeof error);
        if (sora_run_options_set(&a, bad[i].name, bad[i].value, &error) != SORA_ERROR_ARGUMENT ||
            !strstr(error.message, bad[i].name))
            fail_msg("--%s %s: %s", bad[i].name, bad[i].value, error.message);
    }
    /* The text of every option is read back as it was. */
    OK(sora_run_options_set(&a, "lr", "0.30000000000000004", &error));
    sora_run_options_default(&b, SORA_TASK_UNET);
    for (size_t i = 0; i < count; i++) {
        char text[1100];
        if (!(table[i].tasks & SORA_TASK_UNET)) continue;
        sora_run_options_text(&a, &table[i], text, sizeof text);
        if (*text) OK(sora_run_options_set(&b, table[i].name, text, &error));
    }
    assert_true(a.lr == b.lr && a.batch == b.batch && a.seed == b.seed && strcmp(a.gate, b.gate) == 0);
    const char *broken[] = {
        "", "{", "[]", "{\"lr\":\"x\"}", "{\"lr\":1,\"lr\":2}", "{\"nonsense\":1}", "{\"batch\":1e99}", "{\"data\":\"\\u0000\"}"
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        OK(sora_file_write(at("config.json"), broken[i], strlen(broken[i]), &error));
        sora_status status = sora_run_options_read(at("config.json"), &b, &error);
        if (status != SORA_ERROR_INPUT && status != SORA_ERROR_ARGUMENT) fail_msg("%s was taken", broken[i]);
    }
    char deep[40001];
    memset(deep, '[', 40000);
    deep[40000] = '\0';
    OK(sora_file_write(at("config.json"), deep, 40000, &error));
    FAILS(sora_run_options_read(at("config.json"), &b, &error), SORA_ERROR_INPUT, "config.json");
}

/* Whoever has the parameters on the device goes on using them there. */
static void test_predictions_beside_training(void **state)
{
    (void)state;
    sora_error error;
    sora_unet *unet;
    OK(sora_unet_create(context, &(sora_unet_options) { .size = 64 }, &unet, &error));
    OK(sora_params_upload(sora_unet_params(unet), SORA_MOMENTS_NONE, &error));
    FAILS(sora_unet_predict(unet, NULL, 0, &(sora_prediction_options) { .batch = 1 }, &error), SORA_ERROR_ARGUMENT,
          "on the device already");
    assert_true(sora_params_on_device(sora_unet_params(unet)));
    sora_unet_destroy(&unet);
}

/* Numbers within a few roundings of each other, one of 301 digits, and names with dots. */
static void test_report_of_odd_numbers(void **state)
{
    (void)state;
    static const char compare[] =
        "{\"task\": \"t5\", \"runs\": [{\"label\": \"LoRA\", \"method\": \"lora\", \"seed\": 1, \"folder\": \"lora-..-r2\", "
        "\"parameters_kept\": 1e300, \"quality\": {\"rougeL\": 0.5}}], \"bootstrap\": []}",
                      events[] = "{\"event\": \"evaluation\", \"step\": 1, \"loss\": 5.0}\n"
                                 "{\"event\": \"evaluation\", \"step\": 2, \"loss\": 5.000000000000001}\n";
    sora_error error;
    unsigned char *page;
    size_t bytes;
    OK(sora_folder_create(at("odd/lora-..-r2"), &error));
    OK(sora_file_write(at("odd/compare.json"), compare, strlen(compare), &error));
    OK(sora_file_write(at("odd/lora-..-r2/events.jsonl"), events, strlen(events), &error));
    OK(sora_report_write(at("odd"), &error));
    OK(sora_file_read(at("odd/report.html"), 1 << 20, &page, &bytes, &error));
    assert_non_null(strstr((char *)page, "<polyline"));
    assert_non_null(strstr((char *)page, "1,000,000,000,000,000,052,504,760,255,204,420,248,704,468,581"));
    free(page);
}

static void test_report_of_nothing(void **state)
{
    (void)state;
    sora_error error;
    FAILS(sora_report_write(at("absent"), &error), SORA_ERROR_INPUT, "absent");
    OK(sora_folder_create(at("broken"), &error));
    const char *texts[] = { "", "{", "{}", "{\"runs\":3}", "{\"runs\":[3]}", "{\"runs\":[{\"method\":7}]}" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        OK(sora_file_write(at("broken/compare.json"), texts[i], strlen(texts[i]), &error));
        if (sora_report_write(at("broken"), &error) != SORA_ERROR_INPUT) fail_msg("%s was taken", texts[i]);
    }
}

static int setup(void **state)
{
    if (open_both(state)) return -1;
    return sora_hands_draw(at("hands"), &(sora_hands_options) { .layout = "egohands", .images = 16, .width = 96, .height = 54 },
                           NULL)
               ? -1
               : 0;
}

/* A comparison's rows are of pairs and of adapters of their own; a program that asks for others is told so before anything is
 * read. */
static void test_comparisons_of_others(void **state)
{
    (void)state;
    sora_error error;
    static const struct {
        const char *name, *value, *message;
    } others[] = { { "objective", "spans", "--objective spans" }, { "adapter", "run", "--adapter run" } };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        sora_run_options options;
        sora_comparison_row *rows;
        size_t count;
        sora_run_options_default(&options, SORA_TASK_T5);
        OK(sora_run_options_set(&options, "model", "nothing", &error));
        OK(sora_run_options_set(&options, "train", "nothing.csv", &error));
        OK(sora_run_options_set(&options, others[i].name, others[i].value, &error));
        FAILS(
            sora_t5_compare(context, &options, &(sora_comparison_options) { .folder = at("none") }, NULL, &rows, &count, &error),
            SORA_ERROR_ARGUMENT, others[i].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watched_and_stopped),         cmocka_unit_test(test_adafactor_goes_on),
        cmocka_unit_test(test_too_little_memory),           cmocka_unit_test(test_nonfinite),
        cmocka_unit_test(test_nonfinite_statistics),        cmocka_unit_test(test_nonfinite_evaluation),
        cmocka_unit_test(test_unwritable_folder),           cmocka_unit_test(test_options),
        cmocka_unit_test(test_predictions_beside_training), cmocka_unit_test(test_report_of_nothing),
        cmocka_unit_test(test_report_of_odd_numbers),       cmocka_unit_test(test_comparisons_of_others),
        cmocka_unit_test(test_dropout_of_batches),
    };
    return cmocka_run_group_tests(tests, setup, close_both);
}
