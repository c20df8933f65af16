/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_CLI_H
#define SORACL_CLI_H

#include "soracl/train.h"

#include <jansson.h>

/* The program on top of the public library. Results go to stdout; progress, messages and errors to stderr. */

/* An option of a command: --name VALUE, --name=VALUE; a switch takes no value and has --no-name. Behind "--" there are none. */
typedef struct cli_option {
    const char *name, *group, *value, *help; /* value: what the help shows for it; NULL: a switch */
    const char *fallback;                    /* shown as the default; NULL: none */
    bool *flag;                              /* a switch's place */
    const char **text;                       /* or a value's; "on" or "off" of a switch that may be left unsaid */
} cli_option;

/* A command. Options of training runs go to `run` by their own table. Words that are no options go to words[]. */
typedef struct cli_command {
    const char *name, *summary, *usage, *example;
    const cli_option *options;
    size_t option_count;
    const char *const *run_groups; /* of sora_run_option_table that this command takes; ended by NULL; NULL: none */
    const char *const *run_without; /* names in these groups that it doesn't take; ended by NULL; NULL: it takes all */
    sora_run_options *run;
    sora_task_kind run_task;
    bool run_from; /* a new run needs --from */
    const char *const (*run_defaults)[2]; /* name and value, where they are not the table's; ended by NULL */
    bool run_given[128]; /* which of the table were given */
    const char **words;
    size_t word_count, word_room;
} cli_command;

/* Fills the command from argv (behind the command's name). 0: go on. 1: help was printed. SORA_ERROR_ARGUMENT with a message
 * otherwise. */
sora_status cli_parse(cli_command *command, int argc, char **argv, bool *help, sora_error *error);
void cli_print_help(const cli_command *command);
/* A whole number out of an option's text; *out stays where there is none. */
sora_status cli_number(const char *name, const char *text, long low, long high, long *out, sora_error *error);

/* "did you mean" for a word among names[]. Writes into text[room], "" where nothing is near. */
void cli_nearest(const char *word, const char *const *names, size_t count, char *text, size_t room);

/* Options of every command. */
typedef struct cli_globals {
    const char *device, *profile;
    bool json, quiet;
} cli_globals;

/* A context on the chosen device; with --profile it records. */
sora_status cli_open_context(const cli_globals *globals, sora_context **out, sora_error *error);
/* The end of a command with a context: writes the profile where one was asked for, destroys, says what failed. The exit code. */
int cli_finish(const cli_globals *globals, sora_context **context, sora_status status, const sora_error *error);

/* Follows a run on stderr: one line that is rewritten on a terminal, plain lines every few seconds elsewhere. */
typedef struct cli_follower {
    bool terminal, quiet, open_line;
    double last;
} cli_follower;
void cli_follower_start(cli_follower *follower, bool quiet);
sora_watcher cli_watch(cli_follower *follower);
void cli_follower_end(cli_follower *follower);

/* Ctrl-C asks a run to stop; a second one ends the program. */
void cli_catch_interrupts(void);
bool cli_interrupted(void); /* since then */

/* Takes the object over; NULL, which is what jansson makes of a text that is no UTF-8 and of NaN, is refused. */
sora_status cli_print_json(json_t *object, sora_error *error);
void cli_bytes(uint64_t bytes, char text[16]);
/* The folder of RUN or RUN:last. */
void cli_run_folder(const char *run, char folder[4096]);
/* What RUN or RUN:last was made with; false where it is no run. */
bool cli_run_options(const char *run, sora_run_options *options);
int cli_fail(sora_status status, const sora_error *error);
/* Writes status and message into *error and returns the status. */
sora_status cli_error(sora_error *error, sora_status status, const char *format, ...) SORA_PRINTF(3, 4);

/* Runs the training that command and options describe, by command->run_task, and prints its result. */
int cli_run_training(cli_command *command, cli_globals *globals, int argc, char **argv, const char **config, const char **out,
                     const char **resume, bool *overwrite);

int cli_devices(int argc, char **argv);
int cli_bench_limits(int argc, char **argv);
int cli_bench_step(int argc, char **argv);
int cli_bench_generate(int argc, char **argv);
int cli_bench_compare(int argc, char **argv);
int cli_tune(int argc, char **argv);
int cli_data_hands(int argc, char **argv);
int cli_data_headlines(int argc, char **argv);
int cli_unet_train(int argc, char **argv);
int cli_unet_finetune(int argc, char **argv);
int cli_unet_eval(int argc, char **argv);
int cli_unet_predict(int argc, char **argv);
int cli_adapter_show(int argc, char **argv);
int cli_adapter_merge(int argc, char **argv);
int cli_adapter_export(int argc, char **argv);
int cli_adapter_import(int argc, char **argv);
int cli_compare_unet(int argc, char **argv);
int cli_compare_t5(int argc, char **argv);
int cli_t5_finetune(int argc, char **argv);
int cli_t5_pretrain(int argc, char **argv);
int cli_t5_eval(int argc, char **argv);
int cli_t5_summarize(int argc, char **argv);
int cli_t5_tokenize(int argc, char **argv);
int cli_t5_detokenize(int argc, char **argv);
int cli_t5_vocab(int argc, char **argv);

#define CLI_GLOBALS_UNPROFILED(g)                                                                                            \
    { "device", "General", "NAME", "index, part of a name, cpu or gpu", "SORACL_DEVICE, then the best", NULL, &(g).device }, \
        { "json", "General", NULL, "results as JSON on stdout", NULL, &(g).json, NULL },                                     \
    {                                                                                                                        \
        "quiet", "General", NULL, "no progress, no messages", NULL, &(g).quiet, NULL                                         \
    }

#define CLI_GLOBALS(g)                                                                                                    \
    CLI_GLOBALS_UNPROFILED(g),                                                                                            \
    {                                                                                                                     \
        "profile", "General", "FILE", "record every launch; a trace for Chrome's and Perfetto's viewers", NULL, NULL, &(g).profile \
    }

#define CLI_RUN_OPTIONS \
    { "out", "Run", "DIR", "the run's folder", NULL, NULL, &out }, \
        { "resume", "Run", "DIR", "go on with the run in this folder, exactly where it stopped", NULL, NULL, &resume }, \
        { "config", "Run", "FILE", "options of another run's config.json; others given here win", NULL, NULL, &config }, \
        { "overwrite", "Run", NULL, "remove a run that is in --out already; refused where anything else is in it", NULL, &overwrite, NULL }, CLI_GLOBALS(globals)

#endif
