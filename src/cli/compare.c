/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void number_text(uint64_t value, char text[32])
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value), at = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
}

/* What every row ends with. */
static void print_costs(const sora_run_result *r)
{
    char seconds[16] = "-", device[16] = "-", process[16] = "-";
    if (r->steps) snprintf(seconds, sizeof seconds, "%.1f ms", 1e3 * r->seconds_per_step);
    if (r->device_bytes_peak) cli_bytes(r->device_bytes_peak, device);
    if (r->process_bytes_peak) cli_bytes(r->process_bytes_peak, process);
    printf(" %9s %10s %10s\n", seconds, device, process);
}

/* A label may hold a λ: two bytes, one column. */
static int label_width(const sora_comparison_row *row, int width)
{
    return width + (strstr(row->label, "\u03bb") ? 1 : 0);
}

static void rank_text(const sora_run_result *r, char text[24])
{
    snprintf(text, 24, "-");
    if (r->rank_max >= 0) snprintf(text, 24, "%d/%d", r->rank_kept, r->rank_max);
}

static void print_unet(const sora_comparison_row *rows, size_t count)
{
    printf("%-34s %4s %11s %9s %8s %7s %9s %10s %10s\n", "method", "seed", "trainable", "rank", "hand IoU", "Dice", "per step",
           "device", "process");
    for (size_t i = 0; i < count; i++) {
        const sora_run_result *r = &rows[i].result;
        char trainable[32], rank[24];
        number_text(r->parameters_trainable, trainable);
        rank_text(r, rank);
        printf("%-*s %4llu %11s %9s   %.4f  %.4f", label_width(&rows[i], 34), rows[i].label, (unsigned long long)rows[i].seed,
               trainable, rank, r->quality.mask.iou_per_image, r->quality.mask.dice);
        print_costs(r);
    }
}

/* Parameters that a row's adapters keep, of those that LoRA of its rank and target has; 0: there is no such row. */
static double share_of_lora(const sora_comparison_row *rows, size_t count, const sora_comparison_row *row)
{
    for (size_t i = 0; row->target[0] && i < count; i++) {
        const sora_comparison_row *other = &rows[i];
        if (strcmp(other->method, "lora") == 0 && other->rank == row->rank && strcmp(other->target, row->target) == 0)
            return (double)row->result.parameters_kept / (double)other->result.parameters_kept;
    }
    return 0.0;
}

static void print_t5(const sora_comparison_row *rows, size_t count)
{
    printf("%-26s %4s %11s %11s %8s %11s %7s %7s %7s %7s %9s %10s %10s\n", "method", "seed", "trainable", "kept", "of LoRA's",
           "rank", "loss", "ROUGE-1", "-2", "-L", "per step", "device", "process");
    for (size_t i = 0; i < count; i++) {
        const sora_run_result *r = &rows[i].result;
        const sora_rouge *rouge = &r->quality.text.rouge;
        char trainable[32], kept[32], rank[24], share[16] = "-", loss[16] = "-";
        double part = share_of_lora(rows, count, &rows[i]);
        number_text(r->parameters_trainable, trainable);
        number_text(r->parameters_kept, kept);
        rank_text(r, rank);
        if (part > 0.0) snprintf(share, sizeof share, "%.1f %%", 100 * part);
        if (isfinite(r->quality.loss)) snprintf(loss, sizeof loss, "%.4f", r->quality.loss);
        printf("%-*s %4llu %11s %11s %9s %11s %7s %7.2f %7.2f %7.2f", label_width(&rows[i], 26), rows[i].label,
               (unsigned long long)rows[i].seed, trainable, kept, share, rank, loss, 100 * rouge->rouge1, 100 * rouge->rouge2,
               100 * rouge->rougeL);
        print_costs(r);
    }
}

static sora_status print_file(const char *folder, sora_error *error)
{
    char path[4096], part[4096];
    size_t bytes;
    snprintf(path, sizeof path, "%s/compare.json", folder);
    FILE *file = fopen(path, "re");
    if (!file) return cli_error(error, SORA_ERROR_IO, "%s: %s", path, strerror(errno));
    while ((bytes = fread(part, 1, sizeof part, file)) > 0) fwrite(part, 1, bytes, stdout);
    bool failed = ferror(file);
    fclose(file);
    printf("\n");
    return failed ? cli_error(error, SORA_ERROR_IO, "%s: %s", path, "could not be read to its end") : SORA_OK;
}

/* What the command line says of a comparison. */
typedef struct words {
    const char *out, *methods, *target, *rank, *lambda, *seeds, *shown, *shown_name, *full_lr, *test, *eval_limit;
    long most_shown;
    bool overwrite;
} words;

/* It becomes the --lr of rows, which read it back from their config.json. */
static sora_status read_full_lr(const words *w, sora_run_options run, double *out, sora_error *error)
{
    sora_error found;
    if (!w->full_lr) return SORA_OK;
    if (sora_run_options_set(&run, "lr", w->full_lr, &found) != SORA_OK)
        return cli_error(error, found.status, "--full-lr, as %s", found.message);
    *out = run.lr;
    return SORA_OK;
}

static sora_status read_comparison(const words *w, const sora_run_options *run, sora_comparison_options *out, sora_error *error)
{
    long limit = 0, shown = 0;
    *out = (sora_comparison_options) { .folder = w->out,
                                       .overwrite = w->overwrite,
                                       .methods = w->methods,
                                       .targets = w->target,
                                       .ranks = w->rank,
                                       .lambdas = w->lambda,
                                       .seeds = w->seeds,
                                       .test = w->test };
    if (!w->out) return cli_error(error, SORA_ERROR_ARGUMENT, "%s", "--out DIR is needed");
    sora_status status = read_full_lr(w, *run, &out->full_lr, error);
    if (status == SORA_OK) status = cli_number("eval-limit", w->eval_limit, 0, 1000000000, &limit, error);
    if (status == SORA_OK) status = cli_number(w->shown_name, w->shown, 1, w->most_shown, &shown, error);
    out->eval_limit = (size_t)limit;
    out->overlays = (int)shown;
    return status;
}

typedef sora_status (*compare_function)(sora_context *context, const sora_run_options *options,
                                        const sora_comparison_options *comparison, const sora_watcher *watcher,
                                        sora_comparison_row **rows, size_t *count, sora_error *error);

static int compare(cli_command *command, const cli_globals *globals, const words *w, compare_function run,
                   void (*print)(const sora_comparison_row *rows, size_t count), int argc, char **argv)
{
    sora_error error;
    sora_context *context = NULL;
    sora_comparison_options comparison;
    sora_comparison_row *rows = NULL;
    size_t count = 0;
    cli_follower follower;
    bool help;
    sora_status status = cli_parse(command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    status = read_comparison(w, command->run, &comparison, &error);
    if (status == SORA_OK) status = cli_open_context(globals, &context, &error);
    if (status == SORA_OK) {
        cli_follower_start(&follower, globals->quiet);
        sora_watcher watcher = cli_watch(&follower);
        status = run(context, command->run, &comparison, &watcher, &rows, &count, &error);
        cli_follower_end(&follower);
    }
    if (status == SORA_OK && globals->json)
        status = print_file(w->out, &error);
    else if (status == SORA_OK) {
        print(rows, count);
        printf("\n%s/report.html has curves and %s\n", w->out, command->run_task == SORA_TASK_T5 ? "summaries" : "pictures");
    }
    free(rows);
    return cli_finish(globals, &context, status, &error);
}

static const char *const groups[] = { "Data", "Network", "Training", "Adapter", NULL };

int cli_compare_unet(int argc, char **argv)
{
    cli_globals globals = { 0 };
    sora_run_options run;
    words w = { .shown_name = "overlays", .most_shown = 64 };
    const cli_option options[] = {
        { "out", "Comparison", "DIR",
          "gets a run a row, compare.json, report.html and overlays; an interrupted comparison goes on", NULL, NULL, &w.out },
        { "methods", "Comparison", "LIST", "what to compare; no fine-tuning is always there", "full,lora,sora", NULL,
          &w.methods },
        { "target", "Comparison", "LIST", "regular expressions separated by spaces: rows for each", "bottleneck.*", NULL,
          &w.target },
        { "rank", "Comparison", "LIST", "one, or one for each target", "40", NULL, &w.rank },
        { "lambda", "Comparison", "LIST", "a SoRA row each: 0.01,0.1,0.5", "0.1", NULL, &w.lambda },
        { "seeds", "Comparison", "LIST", "every row once a seed: 1,2,3", "--seed", NULL, &w.seeds },
        { "full-lr", "Comparison", "N", "learning rate of full fine-tuning", "--lr", NULL, &w.full_lr },
        { "overlays", "Comparison", "N", "images in the report's grid, at most 64", "6", NULL, &w.shown },
        { "overwrite", "Comparison", NULL, "remove a comparison that is in --out already; refused where anything else is in it",
          NULL, &w.overwrite, NULL },
        CLI_GLOBALS(globals),
    };
    cli_command command = { .name = "compare unet",
                            .summary = "what SoRA gives over LoRA and full fine-tuning, on your device and data",
                            .usage = "compare unet --from RUN --data KIND:DIR[:SPLIT] --out DIR",
                            .example = "soracl compare unet --from run --data gtea:hands2 --target \"bottleneck "
                                       ".*conv[12]|bottleneck\" --rank 40,8 --lambda 0.1,1 "
                                       "--epochs 2 --out study",
                            .options = options,
                            .option_count = sizeof options / sizeof options[0],
                            .run_groups = groups,
                            .run_without = (const char *const[]) { "model", "size", "width", "depth", "method", NULL },
                            .run_task = SORA_TASK_UNET,
                            .run = &run };
    return compare(&command, &globals, &w, sora_unet_compare, print_unet, argc, argv);
}

int cli_compare_t5(int argc, char **argv)
{
    cli_globals globals = { 0 };
    sora_run_options run;
    words w = { .shown_name = "examples", .most_shown = 1000000 };
    const cli_option options[] = {
        { "out", "Comparison", "DIR", "gets a run a row, compare.json and report.html; an interrupted comparison goes on", NULL,
          NULL, &w.out },
        { "methods", "Comparison", "LIST", "what to compare; no fine-tuning and the first sentence are always there",
          "full,lora,sora", NULL, &w.methods },
        { "target", "Comparison", "LIST", "regular expressions separated by spaces: rows for each", SORA_TARGET_T5, NULL,
          &w.target },
        { "rank", "Comparison", "LIST", "rows for each: 8,16", "8", NULL, &w.rank },
        { "lambda", "Comparison", "LIST", "a SoRA row each: 0.01,0.1,0.5; --xi-schedule adds one more", "0.1", NULL, &w.lambda },
        { "seeds", "Comparison", "LIST", "every row once a seed: 1,2,3", "--seed", NULL, &w.seeds },
        { "full-lr", "Comparison", "N", "learning rate of full fine-tuning", "--lr", NULL, &w.full_lr },
        { "test", "Comparison", "FILE", "texts that the finished rows are measured on", "--dev", NULL, &w.test },
        { "eval-limit", "Comparison", "N", "only the first N of them", "all", NULL, &w.eval_limit },
        { "examples", "Comparison", "N", "texts with their summaries in the report", "6", NULL, &w.shown },
        { "overwrite", "Comparison", NULL, "remove a comparison that is in --out already; refused where anything else is in it",
          NULL, &w.overwrite, NULL },
        CLI_GLOBALS(globals),
    };
    cli_command command = { .name = "compare t5",
                            .summary = "what SoRA gives over LoRA and full fine-tuning, on your device and texts",
                            .usage = "compare t5 --model DIR --train FILE --dev FILE [--test FILE] --out DIR",
                            .example = "soracl compare t5 --model t5-small --train headlines/train.csv --dev headlines/dev.csv "
                                       "--rank 8,16 --lambda 0.1,0.3 --full-lr 0.0003 --out t5-study",
                            .options = options,
                            .option_count = sizeof options / sizeof options[0],
                            .run_groups = groups,
                            .run_without = (const char *const[]) { "objective", "method", "adapter", NULL },
                            .run_task = SORA_TASK_T5,
                            .run = &run };
    return compare(&command, &globals, &w, sora_t5_compare, print_t5, argc, argv);
}
