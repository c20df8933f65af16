/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

int cli_t5_finetune(int argc, char **argv)
{
    static const char *const groups[] = { "Data", "Network", "Training", "Adapter", NULL };
    cli_globals globals = { 0 };
    sora_run_options run;
    const char *out = NULL, *resume = NULL, *config = NULL;
    bool overwrite = false;
    const cli_option options[] = { CLI_RUN_OPTIONS };
    cli_command command = {
        .name = "t5 finetune",
        .summary = "adapt a T5 to pairs of texts and summaries",
        .usage = "t5 finetune --model DIR --train FILE --dev FILE --method full|lora|sora --out DIR",
        .example =
            "soracl t5 finetune --model t5-small --train headlines/train.csv --dev headlines/dev.csv --method sora --out t5-run",
        .options = options,
        .option_count = COUNT(options),
        .run_groups = groups,
        .run_task = SORA_TASK_T5,
        .run = &run
    };
    return cli_run_training(&command, &globals, argc, argv, &config, &out, &resume, &overwrite);
}

int cli_t5_pretrain(int argc, char **argv)
{
    static const char *const groups[] = { "Data", "Network", "Training", NULL };
    static const char *const defaults[][2] = {
        { "objective", "spans" }, { "method", "full" }, { "max-source", "256" }, { NULL, NULL }
    };
    cli_globals globals = { 0 };
    sora_run_options run;
    const char *out = NULL, *resume = NULL, *config = NULL;
    bool overwrite = false;
    const cli_option options[] = { CLI_RUN_OPTIONS };
    cli_command command = {
        .name = "t5 pretrain",
        .summary = "train a T5 on plain texts by span corruption (15 %, mean length 3)",
        .usage =
            "t5 pretrain --model DIR --train FILE --out DIR; weights are new where DIR has config.json and spiece.model alone",
        .example = "soracl t5 pretrain --model new-t5 --train texts.csv --batch 16 --epochs 4 --lr 0.003 --out t5",
        .options = options,
        .option_count = COUNT(options),
        .run_groups = groups,
        .run_task = SORA_TASK_T5,
        .run_defaults = defaults,
        .run = &run
    };
    return cli_run_training(&command, &globals, argc, argv, &config, &out, &resume, &overwrite);
}
