/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <stdio.h>

/* What train, finetune and pretrain of every task share. */

/* The options of --config FILE, with what was given on the command line on top. */
static sora_status merge_config(const cli_command *command, const char *config, sora_error *error)
{
    size_t count;
    const sora_option *table = sora_run_option_table(&count);
    sora_run_options given = *command->run;
    sora_status status = sora_run_options_merge(config, command->run, error);
    for (size_t i = 0; status == SORA_OK && i < count; i++) {
        char text[1100];
        if (!command->run_given[i] || !(table[i].tasks & command->run_task)) continue;
        sora_run_options_text(&given, &table[i], text, sizeof text);
        status = sora_run_options_set(command->run, table[i].name, text, error);
    }
    return status;
}

/* A run goes on with what it began with: options beside --resume would be ignored. */
static sora_status check_resume(const cli_command *command, const char *resume, const char *given, sora_error *error)
{
    size_t count;
    const sora_option *table = sora_run_option_table(&count);
    for (size_t i = 0; !given && i < count; i++)
        if (command->run_given[i]) given = table[i].name;
    if (!given) return SORA_OK;
    return cli_error(error, SORA_ERROR_ARGUMENT,
                     "--%s beside --resume: %s goes on with its own options; leave it out, or start another run with --config "
                     "%s/config.json --out NEW",
                     given, resume, resume);
}

static void print_quality(const sora_quality *q)
{
    const sora_mask_metrics *m = &q->mask;
    const sora_text_metrics *t = &q->text;
    if (q->task == SORA_TASK_T5) {
        printf("  loss %.4f a target token (%zu texts)", q->loss, t->examples);
        if (t->generated)
            printf("; ROUGE-1 %.2f, -2 %.2f, -L %.2f (%zu texts)", 100 * t->rouge.rouge1, 100 * t->rouge.rouge2,
                   100 * t->rouge.rougeL, t->generated);
        printf("\n");
        return;
    }
    printf("  hand IoU %.4f per image, %.4f pooled; Dice %.4f, precision %.4f, recall %.4f (%zu images)\n", m->iou_per_image,
           m->iou_pooled, m->dice, m->precision, m->recall, m->images);
}

static sora_status print_result(const sora_run_options *options, const char *folder, const sora_run_result *r, bool json,
                                sora_error *error)
{
    if (json) {
        json_t *object = json_pack(
            "{s:s,s:s,s:I,s:I,s:o,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o}", "run", folder, "method", options->method, "steps",
            (json_int_t)r->steps, "best_step", (json_int_t)r->best_step, "seconds_per_step",
            r->finished ? json_real(r->seconds_per_step) : json_null(), "device_bytes_predicted",
            (json_int_t)r->device_bytes_predicted, "device_bytes_peak", (json_int_t)r->device_bytes_peak, "process_bytes_peak",
            (json_int_t)r->process_bytes_peak, "parameters_trainable", (json_int_t)r->parameters_trainable, "parameters_kept",
            (json_int_t)r->parameters_kept, "rank_kept", r->rank_max < 0 ? json_null() : json_integer(r->rank_kept), "rank_max",
            r->rank_max < 0 ? json_null() : json_integer(r->rank_max), "quality", sora_quality_to_json(&r->quality));
        return cli_print_json(object, error);
    }
    char device[16], process[16];
    cli_bytes(r->device_bytes_peak, device);
    cli_bytes(r->process_bytes_peak, process);
    printf("%s\n", folder);
    print_quality(&r->quality);
    printf("  %u steps", r->steps);
    if (r->finished) printf(", %.1f ms a step", 1e3 * r->seconds_per_step);
    printf("; %llu parameters trained", (unsigned long long)r->parameters_trainable);
    if (r->rank_max >= 0) printf("; %d of %d ranks kept", r->rank_kept, r->rank_max);
    if (r->best_step && r->best_step != r->steps)
        printf("\n  the best is checkpoint-%u: other commands take it, unless %s:last is named", r->best_step, folder);
    printf("\n  device memory %s, process %s\n", device, process);
    return SORA_OK;
}

int cli_run_training(cli_command *command, cli_globals *globals, int argc, char **argv, const char **config, const char **out,
                     const char **resume, bool *overwrite)
{
    sora_error error;
    sora_context *context = NULL;
    sora_run_result result;
    bool help;
    cli_follower follower;
    sora_run_target target = { 0 };
    sora_status status = cli_parse(command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (*resume)
        status = check_resume(command, *resume, *out ? "out" : *config ? "config" : *overwrite ? "overwrite" : NULL, &error);
    if (status == SORA_OK && *config) status = merge_config(command, *config, &error);
    target = (sora_run_target) { .folder = *resume ? *resume : *out, .overwrite = *overwrite, .resume = *resume != NULL };
    if (status == SORA_OK && !target.folder)
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "%s", "--out DIR is needed, or --resume DIR to go on with a run");
    if (status == SORA_OK && command->run_from && !*resume && !command->run->from[0])
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "--from RUN is needed; usage: soracl %s", command->usage);
    if (status == SORA_OK) status = cli_open_context(globals, &context, &error);
    if (status == SORA_OK) {
        cli_follower_start(&follower, globals->quiet);
        sora_watcher watcher = cli_watch(&follower);
        status = command->run_task == SORA_TASK_T5 ? sora_t5_run(context, command->run, &target, &watcher, &result, &error)
                                                   : sora_unet_run(context, command->run, &target, &watcher, &result, &error);
        cli_follower_end(&follower);
    }
    if (status == SORA_OK && *resume) {
        char path[4096]; /* a resumed run has the options that it began with */
        snprintf(path, sizeof path, "%s/config.json", *resume);
        status = sora_run_options_read(path, command->run, &error);
    }
    if (status == SORA_OK) status = print_result(command->run, target.folder, &result, globals->json, &error);
    return cli_finish(globals, &context, status, &error);
}
