/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include "soracl/tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLAIN_EVERY 10 /* shapes, where stderr is no terminal */

typedef struct tuning_follower {
    bool quiet, terminal;
} tuning_follower;

static bool on_shape(void *self, const sora_tune_row *row, size_t done, size_t count, double left)
{
    tuning_follower *f = self;
    if (!f->quiet && (f->terminal || done == count || done % PLAIN_EVERY == 0)) {
        fprintf(stderr, "%sshape %zu/%zu  %.60s  left %.0f s%s", f->terminal ? "\r\033[K" : "", done, count, row->shape, left,
                f->terminal && done < count ? "" : "\n");
        fflush(stderr);
    }
    return !cli_interrupted();
}

static json_t *row_json(const sora_tune_row *r)
{
    return json_pack("{s:s,s:s,s:s,s:f,s:f,s:i,s:i,s:b}", "shape", r->shape, "default", r->standard, "best", r->best,
                     "default_seconds", r->tried > 1 ? r->standard_seconds : 0.0, "seconds", r->tried > 1 ? r->seconds : 0.0,
                     "tried", r->tried, "wrong", r->wrong, "changed", r->changed);
}

static void print_rows(const sora_tune_row *rows, size_t count, const char *path)
{
    size_t changed = 0;
    printf("%-62s %-22s %-22s %9s %6s\n", "shape", "default", "best", "ms", "gain");
    for (size_t i = 0; i < count; i++) {
        const sora_tune_row *r = &rows[i];
        changed += r->changed;
        if (r->tried < 2)
            printf("%-62s %-22s only one\n", r->shape, r->standard);
        else
            printf("%-62s %-22s %-22s %9.3f %5.2fx%s\n", r->shape, r->standard, r->changed ? r->best : "the default",
                   1e3 * r->seconds, r->standard_seconds / r->seconds, r->wrong ? "  (some gave wrong results)" : "");
    }
    printf("%zu of %zu shapes have a faster variant than the default; %s%s\n", changed, count,
           path ? "kept in " : "there is no cache folder to keep them in", path ? path : "");
}

/* One step is what is tuned: all its shapes are taken down while it runs. A run of texts has them of many lengths, which fall
 * into classes by halves. */
#define LENGTHS 4

static sora_status tune(sora_context *context, const cli_step_words *words, const sora_bench_options *step,
                        const sora_tune_options *options, sora_tune_row **rows, size_t *count, sora_error *error)
{
    bool texts = words->run.task == SORA_TASK_T5;
    sora_bench_step ignored;
    sora_bench_options one = *step;
    sora_status status = sora_tune_begin(context, error);
    for (int i = 0; status == SORA_OK && (i == 0 || (texts && i < LENGTHS && one.source > 1 && one.target_length > 1)); i++) {
        status = sora_bench_run_step(context, &one, &ignored, error);
        one.source /= 2;
        one.target_length /= 2;
    }
    sora_tune_end(context);
    return status == SORA_OK ? sora_tune_run(context, options, rows, count, error) : status;
}

int cli_tune(int argc, char **argv)
{
    cli_globals globals = { 0 };
    cli_step_words words = { .steps = "1" };
    sora_bench_options step = { 0 };
    const char *network = "t5-small", *budget = NULL;
    const cli_option options[] = {
        { "for", "Tuning", "NAME", "network, or folder of a run, whose shapes are measured (t5-small|unet-fc|unet|RUN)",
          "t5-small", NULL, &network },
        { "budget", "Tuning", "MINUTES", "stop after so long; what takes most of the time is measured first", "no limit", NULL,
          &budget },
        CLI_STEP_OPTIONS(words),
        CLI_GLOBALS(globals),
    };
    cli_command command = {
        .name = "tune",
        .summary =
            "measure the variants of products, convolutions and attention at a network's shapes on this device, and keep the "
            "best; later runs use them. Ctrl-C keeps what was measured so far",
        .usage = "tune [--for t5-small|unet-fc|unet|RUN] [--budget MINUTES] [--batch N] [--json]",
        .example = "soracl tune --for unet-fc --size 64 --budget 5",
        .options = options,
        .option_count = sizeof options / sizeof options[0]
    };
    sora_context *context = NULL;
    sora_tune_row *rows = NULL;
    size_t count = 0;
    long minutes = 0;
    bool help;
    sora_error error;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    tuning_follower follower = { .quiet = globals.quiet, .terminal = isatty(2) };
    status = cli_number("budget", budget, 1, 10000, &minutes, &error);
    if (status == SORA_OK) status = cli_step_options(&words, network, &step, &error);
    if (status == SORA_OK) status = cli_open_context(&globals, &context, &error);
    cli_catch_interrupts();
    if (status == SORA_OK)
        status = tune(context, &words, &step,
                      &(sora_tune_options) { .budget = 60.0 * (double)minutes, .progress = on_shape, .self = &follower }, &rows,
                      &count, &error);
    if (status == SORA_OK && globals.json) {
        json_t *list = json_array();
        const char *path = sora_tune_path(context);
        for (size_t i = 0; i < count; i++) json_array_append_new(list, row_json(&rows[i]));
        status = cli_print_json(json_pack("{s:o,s:o}", "shapes", list, "path", path ? json_string(path) : json_null()), &error);
    } else if (status == SORA_OK) {
        print_rows(rows, count, sora_tune_path(context));
    }
    free(rows);
    return cli_finish(&globals, &context, status, &error);
}
