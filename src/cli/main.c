/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "devices", "what OpenCL devices there are, and which one would be taken", cli_devices },
    { "bench limits", "what the device can do: multiply-adds, bytes, launches", cli_bench_limits },
    { "bench step", "time and memory of whole training steps", cli_bench_step },
    { "bench generate", "tokens a second of a T5's generation", cli_bench_generate },
    { "bench compare", "steps measured on several devices side by side", cli_bench_compare },
    { "tune", "measure variants of products, convolutions and attention on this device, keep the best", cli_tune },
    { "data hands", "draw a data set of hand images", cli_data_hands },
    { "data headlines", "(text, title) pairs from Debian's package descriptions", cli_data_headlines },
    { "unet train", "train a U-Net from new weights", cli_unet_train },
    { "unet finetune", "adapt a trained U-Net: full, lora or sora", cli_unet_finetune },
    { "unet eval", "measure a U-Net on a data set", cli_unet_eval },
    { "unet predict", "hand masks for images", cli_unet_predict },
    { "compare unet", "no, full, LoRA and SoRA fine-tuning from the same weights, with a report", cli_compare_unet },
    { "compare t5", "the same for a T5 and its summaries", cli_compare_t5 },
    { "t5 finetune", "adapt a T5 to pairs of texts and summaries: full, lora or sora", cli_t5_finetune },
    { "t5 summarize", "summaries of texts", cli_t5_summarize },
    { "t5 eval", "measure a T5 on pairs of texts and summaries", cli_t5_eval },
    { "t5 pretrain", "train a T5 on plain texts by span corruption", cli_t5_pretrain },
    { "t5 tokenize", "ids of text, line by line", cli_t5_tokenize },
    { "t5 detokenize", "text of ids, line by line", cli_t5_detokenize },
    { "t5 vocab", "train a vocabulary of T5's kind on text", cli_t5_vocab },
    { "adapter show", "ranks and gates of a run's adapters", cli_adapter_show },
    { "adapter merge", "fold a run's adapters into plain weights", cli_adapter_merge },
    { "adapter export", "a run's adapters as a folder that PEFT loads", cli_adapter_export },
    { "adapter import", "PEFT's LoRA adapters as a run", cli_adapter_import },
};
#define COMMANDS (sizeof commands / sizeof commands[0])

/* ---- What all commands share ------------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupts;

static void on_interrupt(int signal_number)
{
    if (interrupts++) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
}

void cli_catch_interrupts(void)
{
    struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = SA_RESTART };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void)
{
    return interrupts > 0;
}

static bool interrupted(void *self)
{
    (void)self;
    return cli_interrupted();
}

int cli_fail(sora_status status, const sora_error *error)
{
    static const int codes[] = {
        [SORA_OK] = 0,           [SORA_ERROR_ARGUMENT] = 2, [SORA_ERROR_INPUT] = 3,   [SORA_ERROR_DEVICE] = 4,
        [SORA_ERROR_MEMORY] = 5, [SORA_ERROR_IO] = 1,       [SORA_ERROR_NUMERIC] = 1, [SORA_ERROR_INTERRUPTED] = 130
    };
    if (status != SORA_OK) fprintf(stderr, "soracl: %s\n", error->message);
    return codes[status];
}

sora_status cli_error(sora_error *error, sora_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    error->status = status;
    return status;
}

static void on_notify(void *self, const sora_compile_progress *p)
{
    (void)self;
    bool terminal = isatty(2);
    /* On a terminal the cursor stays in front, so that whatever comes next is written over it. */
    fprintf(stderr, "%scompiling kernels: %u of %u, about %.0f s left%s", terminal ? "\033[K" : "", p->done, p->known,
            p->seconds_left, terminal && p->done < p->known ? "\r" : "\n");
}

sora_status cli_open_context(const cli_globals *globals, sora_context **out, sora_error *error)
{
    sora_context_options options = { .device = globals->device,
                                     .profile = globals->profile != NULL,
                                     .notify = globals->quiet ? NULL : on_notify };
    return sora_context_create(&options, out, error);
}

int cli_finish(const cli_globals *globals, sora_context **context, sora_status status, const sora_error *error)
{
    sora_error profile_error;
    sora_status profile = SORA_OK;
    if (*context && globals->profile) profile = sora_context_write_profile(*context, globals->profile, &profile_error);
    sora_context_destroy(context);
    return status != SORA_OK ? cli_fail(status, error) : cli_fail(profile, &profile_error);
}

sora_status cli_print_json(json_t *object, sora_error *error)
{
    if (!object)
        return cli_error(
            error, SORA_ERROR_ARGUMENT, "%s",
            "--json: a name is no UTF-8 or a number is not finite, which JSON can't hold; without --json it is printed");
    /* A failure to write is main's to see, as with all that is printed. */
    json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(object);
    return SORA_OK;
}

void cli_bytes(uint64_t bytes, char text[16])
{
    if (bytes >= (uint64_t)10 << 30)
        snprintf(text, 16, "%.1f GiB", (double)bytes / 1073741824.0);
    else
        snprintf(text, 16, "%.1f MiB", (double)bytes / 1048576.0);
}

/* ---- Runs -------------------------------------------------------------------------------------------------------- */

void cli_run_folder(const char *run, char folder[4096])
{
    size_t length = strlen(run);
    if (length > 5 && strcmp(run + length - 5, ":last") == 0) length -= 5;
    snprintf(folder, 4096, "%.*s", (int)length, run);
}

bool cli_run_options(const char *run, sora_run_options *options)
{
    char folder[4096], path[4112];
    cli_run_folder(run, folder);
    snprintf(path, sizeof path, "%s/config.json", folder);
    return sora_run_options_read(path, options, NULL) == SORA_OK;
}

/* ---- Following a run --------------------------------------------------------------------------------------------- */

#define PLAIN_LINE_SECONDS 5.0

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void time_text(double seconds, char text[24])
{
    int s = (int)(seconds + 0.5);
    if (s >= 3600)
        snprintf(text, 24, "%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, 24, "%d:%02d", s / 60, s % 60);
}

static void clear_line(cli_follower *f)
{
    if (f->open_line) fprintf(stderr, "\r\033[K");
    f->open_line = false;
}

static bool on_progress(void *self, const sora_progress *p)
{
    cli_follower *f = self;
    if (f->quiet) return true;
    if (p->quality) {
        clear_line(f);
        fprintf(stderr, "step %u/%u  epoch %.1f  evaluation: ", p->step, p->steps, p->epoch);
        if (p->quality->task == SORA_TASK_UNET)
            fprintf(stderr, "hand IoU %.4f  Dice %.4f  ", p->quality->mask.iou_per_image, p->quality->mask.dice);
        else if (p->quality->text.generated)
            fprintf(stderr, "ROUGE-1 %.2f  ROUGE-L %.2f  ", 100 * p->quality->text.rouge.rouge1,
                    100 * p->quality->text.rouge.rougeL);
        fprintf(stderr, "loss %.4f", p->quality->loss);
        if (p->rank_max) fprintf(stderr, "  rank %d/%d", p->rank_kept, p->rank_max);
        fprintf(stderr, "\n");
        return true;
    }
    if (!f->terminal && p->step < p->steps && now() - f->last < PLAIN_LINE_SECONDS) return true;
    f->last = now();
    char left[24];
    time_text(p->seconds_left, left);
    clear_line(f);
    fprintf(stderr, "step %u/%u  epoch %.1f  loss %.4f  lr %.2g  %.1f a second  waiting %.0f %%  left %s%s", p->step, p->steps,
            p->epoch, p->loss, p->lr, p->items_per_second, 100 * p->waiting_share, left, f->terminal ? "" : "\n");
    fflush(stderr);
    f->open_line = f->terminal;
    return true;
}

static void on_message(void *self, const char *text)
{
    cli_follower *f = self;
    if (f->quiet) return;
    clear_line(f);
    fprintf(stderr, "%s\n", text);
}

void cli_follower_start(cli_follower *follower, bool quiet)
{
    *follower = (cli_follower) { .terminal = isatty(2), .quiet = quiet };
    cli_catch_interrupts();
}

sora_watcher cli_watch(cli_follower *follower)
{
    return (sora_watcher) { .progress = on_progress, .stop = interrupted, .message = on_message, .self = follower };
}

void cli_follower_end(cli_follower *follower)
{
    if (follower->open_line) fprintf(stderr, "\n");
    follower->open_line = false;
}

/* ---- Choosing the command ---------------------------------------------------------------------------------------- */

/* Whether the command is "GROUP ...". */
static bool in_group(const char *name, const char *group)
{
    size_t length = strlen(group);
    return strncmp(name, group, length) == 0 && name[length] == ' ';
}

static bool is_group(const char *word)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (in_group(commands[i].name, word)) return true;
    return false;
}

static void print_group(FILE *out, const char *group)
{
    fprintf(out, "usage: soracl %s COMMAND [options]; each command has --help\n\n", group);
    for (size_t i = 0; i < COMMANDS; i++)
        if (in_group(commands[i].name, group)) fprintf(out, "  %-16s %s\n", commands[i].name, commands[i].summary);
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

static void print_usage(FILE *out)
{
    fprintf(out,
            "soracl %s: fine-tune with gated low-rank adapters (SoRA, LoRA) on any OpenCL device\n\nusage: soracl COMMAND "
            "[options]; each command has --help\n\n",
            sora_version());
    for (size_t i = 0; i < COMMANDS; i++) fprintf(out, "  %-16s %s\n", commands[i].name, commands[i].summary);
    fprintf(out,
            "  %-16s the version\n\nexample\n  soracl data hands --layout egohands --out hands && soracl unet train --data "
            "egohands:hands --size 64 --epochs 1 --out first\n",
            "version");
}

/* Words of "unet train" that argv begins with; 0: another command. */
static int matches(const char *name, int argc, char **argv)
{
    char first[32];
    const char *space = strchr(name, ' ');
    snprintf(first, sizeof first, "%.*s", space ? (int)(space - name) : (int)strlen(name), name);
    if (argc < 1 || strcmp(argv[0], first) != 0) return 0;
    if (!space) return 1;
    return argc > 1 && strcmp(argv[1], space + 1) == 0 ? 2 : 0;
}

static int choose(int argc, char **argv)
{
    const char *names[COMMANDS];
    char hint[96], given[96];
    argc--;
    argv++;
    if (argc == 0) {
        print_usage(stderr);
        return 2;
    }
    if (is_help(argv[0])) {
        print_usage(stdout);
        return 0;
    }
    if (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "version") == 0) {
        printf("soracl %s\n", sora_version());
        return 0;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        int words = matches(commands[i].name, argc, argv);
        if (words) return commands[i].run(argc - words, argv + words);
        names[i] = commands[i].name;
    }
    bool help = argc > 1 && is_help(argv[1]);
    if (is_group(argv[0]) && (argc == 1 || help || argv[1][0] == '-')) {
        print_group(help ? stdout : stderr, argv[0]);
        return help ? 0 : 2;
    }
    snprintf(given, sizeof given, "%s%s%s", argv[0], argc > 1 && argv[1][0] != '-' ? " " : "",
             argc > 1 && argv[1][0] != '-' ? argv[1] : "");
    cli_nearest(given, names, COMMANDS, hint, sizeof hint);
    fprintf(stderr, "soracl: no command \"%s\"%s (soracl --help lists them)\n", given, hint);
    return 2;
}

/* The exit code where all that was printed arrived. Who closed the pipe (EPIPE) has read what was wanted. */
static int check_output(int code)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    /* An earlier failure's reason is gone, with what was to be written: one more byte meets it again. */
    if (errno == 0 && write(STDOUT_FILENO, "\n", 1) == 1) errno = EIO;
    if (errno == EPIPE) return code;
    fprintf(stderr, "soracl: standard output: cannot write: %s\n", strerror(errno));
    return code ? code : 1;
}

int main(int argc, char **argv)
{
    return check_output(choose(argc, argv));
}
