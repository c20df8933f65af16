/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

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

static void print_row(const sora_comparison_row *row)
{
    const sora_run_result *r = &row->result;
    char trainable[32], rank[24] = "-", seconds[16] = "-", device[16], process[16];
    number_text(r->parameters_trainable, trainable);
    if (r->rank_max >= 0) snprintf(rank, sizeof rank, "%d/%d", r->rank_kept, r->rank_max);
    if (r->steps) snprintf(seconds, sizeof seconds, "%.1f ms", 1e3 * r->seconds_per_step);
    cli_bytes(r->device_bytes_peak, device);
    cli_bytes(r->process_bytes_peak, process);
    /* A label may hold a λ: two bytes, one column. */
    int extra = strstr(row->label, "\u03bb") ? 1 : 0;
    printf("%-*s %4llu %11s %9s   %.4f  %.4f %9s %10s %10s\n", 34 + extra, row->label, (unsigned long long)row->seed, trainable,
           rank, r->quality.mask.iou_per_image, r->quality.mask.dice, seconds, device, process);
}

static int print_file(const char *folder)
{
    char path[4096], part[4096];
    size_t bytes;
    snprintf(path, sizeof path, "%s/compare.json", folder);
    FILE *file = fopen(path, "re");
    while (file && (bytes = fread(part, 1, sizeof part, file)) > 0) fwrite(part, 1, bytes, stdout);
    if (file) fclose(file);
    printf("\n");
    return 0;
}

int cli_compare_unet(int argc, char **argv)
{
    static const char *const groups[] = { "Data", "Network", "Training", "Adapter", NULL };
    cli_globals globals = { 0 };
    sora_run_options run;
    const char *out = NULL, *methods = NULL, *target = NULL, *rank = NULL, *lambda = NULL, *seeds = NULL, *overlays = NULL;
    bool overwrite = false, help;
    const cli_option options[] = {
        { "out", "Comparison", "DIR",
          "gets a run a row, compare.json, report.html and overlays; an interrupted comparison goes on", NULL, NULL, &out },
        { "methods", "Comparison", "LIST", "what to compare; no fine-tuning is always there", "full,lora,sora", NULL, &methods },
        { "target", "Comparison", "LIST", "regular expressions separated by spaces: rows for each", "bottleneck.*", NULL,
          &target },
        { "rank", "Comparison", "LIST", "one, or one for each target", "40", NULL, &rank },
        { "lambda", "Comparison", "LIST", "a SoRA row each: 0.01,0.1,0.5", "0.1", NULL, &lambda },
        { "seeds", "Comparison", "LIST", "every row once a seed: 1,2,3", "--seed", NULL, &seeds },
        { "overlays", "Comparison", "N", "images in the report's grid", "6", NULL, &overlays },
        { "overwrite", "Comparison", NULL, "remove a comparison that is in --out already", NULL, &overwrite, NULL },
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
                            .run_task = SORA_TASK_UNET,
                            .run = &run };
    sora_error error;
    sora_context *context = NULL;
    sora_comparison_row *rows = NULL;
    size_t count = 0;
    cli_follower follower;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (!out) {
        snprintf(error.message, sizeof error.message, "--out DIR is needed");
        return cli_fail(SORA_ERROR_ARGUMENT, &error);
    }
    sora_comparison_options comparison = { .folder = out,
                                           .overwrite = overwrite,
                                           .methods = methods,
                                           .targets = target,
                                           .ranks = rank,
                                           .lambdas = lambda,
                                           .seeds = seeds,
                                           .overlays = overlays ? atoi(overlays) : 0 };
    status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) {
        cli_follower_start(&follower, globals.quiet);
        sora_watcher watcher = cli_watch(&follower);
        status = sora_unet_compare(context, &run, &comparison, &watcher, &rows, &count, &error);
        cli_follower_end(&follower);
    }
    if (status == SORA_OK && globals.json)
        print_file(out);
    else if (status == SORA_OK) {
        printf("%-34s %4s %11s %9s %8s %7s %9s %10s %10s\n", "method", "seed", "trainable", "rank", "hand IoU", "Dice",
               "per step", "device", "process");
        for (size_t i = 0; i < count; i++) print_row(&rows[i]);
        printf("\n%s/report.html has curves and pictures\n", out);
    }
    free(rows);
    sora_error close_error;
    sora_status closed = cli_close_context(&globals, &context, &close_error);
    return status != SORA_OK ? cli_fail(status, &error) : cli_fail(closed, &close_error);
}
