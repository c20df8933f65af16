/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include "soracl/tokenizer.h"
#include "soracl/vocabulary.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- How to generate --------------------------------------------------------------------------------------------- */

typedef struct generation_words {
    const char *beams, *length_penalty, *no_repeat, *min_length, *max_length, *sample, *temperature, *top_k, *top_p, *seed;
    const char *early_stopping;
} generation_words;

#define GENERATION_OPTIONS(w, longest)                                                                                              \
    { "beams", "Generation", "N", "beams of the search (1: greedy)", "generation_config.json, then 1", NULL, &(w).beams },          \
        { "length-penalty", "Generation", "N", "score = sum of log p / length^N", "1", NULL, &(w).length_penalty },                 \
        { "no-repeat-ngram", "Generation", "N", "no N tokens twice in a row of each other (0: any)", "0", NULL, &(w).no_repeat },   \
        { "min-length", "Generation", "N", "least tokens, start token counted", "0", NULL, &(w).min_length },                       \
        { "max-length", "Generation", "N", "most tokens, start token counted", longest, NULL, &(w).max_length },                    \
        { "early-stopping", "Generation", NULL, "a search ends with its first N finished beams", NULL, NULL, &(w).early_stopping }, \
        { "sample", "Generation", NULL,       "draws tokens by their probability (--no-sample: greedy or beams)",                   \
          NULL,     NULL,         &(w).sample },                                                                                    \
        { "temperature", "Generation", "N", "samples, with log p / N", "greedy", NULL, &(w).temperature },                          \
        { "top-k", "Generation", "N", "samples from the N likeliest tokens (0: all)", "50", NULL, &(w).top_k },                     \
        { "top-p", "Generation", "N", "samples from the fewest tokens whose probability reaches N", "1", NULL, &(w).top_p },        \
    {                                                                                                                               \
        "seed", "Generation", "N", "another seed, other samples", "1", NULL, &(w).seed                                              \
    }

static sora_status set_whole(const char *name, const char *text, int *out, sora_error *error)
{
    char *end;
    if (!text) return SORA_OK;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (*text && !*end && errno == 0 && value >= 0 && value <= 1000000) {
        *out = (int)value;
        return SORA_OK;
    }
    error->status = SORA_ERROR_ARGUMENT;
    snprintf(error->message, sizeof error->message, "--%s: \"%.60s\"; expected a whole number of 0 to 1000000", name, text);
    return SORA_ERROR_ARGUMENT;
}

static sora_status set_seed(const char *text, uint64_t *out, sora_error *error)
{
    char *end;
    if (!text) return SORA_OK;
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (isdigit((unsigned char)*text) && !*end && errno == 0) return SORA_OK;
    return cli_error(error, SORA_ERROR_ARGUMENT, "--seed: \"%.60s\"; expected a whole number from 0, below 2^64", text);
}

static bool is_on(const char *word)
{
    return word && strcmp(word, "on") == 0;
}

static sora_status set_number(const char *name, const char *text, double *out, sora_error *error)
{
    char *end;
    if (!text) return SORA_OK;
    double value = strtod(text, &end);
    if (*text && !*end && isfinite(value)) {
        *out = value;
        return SORA_OK;
    }
    error->status = SORA_ERROR_ARGUMENT;
    snprintf(error->message, sizeof error->message, "--%s: \"%.60s\" is no number", name, text);
    return SORA_ERROR_ARGUMENT;
}

/* What the model's folder says, and the words given on top; max_length (0: Transformers') where neither does. */
static sora_status read_generation(const generation_words *w, const char *folder, int max_length, sora_t5_generation *out,
                                   sora_error *error)
{
    sora_t5_generation_default(out);
    out->seed = 1;
    if (max_length > 0) out->max_length = max_length;
    sora_status status = sora_t5_generation_read(folder, out, error);
    if (status == SORA_OK) status = set_whole("beams", w->beams, &out->beams, error);
    if (status == SORA_OK) status = set_whole("no-repeat-ngram", w->no_repeat, &out->no_repeat_ngram, error);
    if (status == SORA_OK) status = set_whole("min-length", w->min_length, &out->min_length, error);
    if (status == SORA_OK) status = set_whole("max-length", w->max_length, &out->max_length, error);
    if (status == SORA_OK) status = set_whole("top-k", w->top_k, &out->top_k, error);
    if (status == SORA_OK) status = set_seed(w->seed, &out->seed, error);
    if (status == SORA_OK) status = set_number("length-penalty", w->length_penalty, &out->length_penalty, error);
    if (status == SORA_OK) status = set_number("temperature", w->temperature, &out->temperature, error);
    if (status == SORA_OK) status = set_number("top-p", w->top_p, &out->top_p, error);
    if (status != SORA_OK) return status;
    bool drawing = w->temperature || w->top_k || w->top_p, sampling = drawing || is_on(w->sample);
    if (w->sample && !is_on(w->sample) && drawing)
        return cli_error(error, SORA_ERROR_ARGUMENT, "%s", "--no-sample beside --temperature, --top-k or --top-p, which sample");
    /* What was said here turns off what only the folder says. */
    if (w->early_stopping) out->early_stopping = is_on(w->early_stopping) ? SORA_STOP_EARLY : SORA_STOP_HEURISTIC;
    if (sampling) out->sample = true;
    if (sampling && !w->beams) out->beams = 1;
    if (!sampling && (w->sample || (w->beams && out->beams > 1))) out->sample = false;
    if (!w->min_length && out->min_length > out->max_length) out->min_length = out->max_length;
    return sora_t5_generation_check(out, error);
}

/* ---- What a run was trained with --------------------------------------------------------------------------------- */

#define FROM_RUN(otherwise) "as the run was trained, else " otherwise

/* Prefix, columns and lengths: what is given (NULL: nothing), else those of the run that --adapter, or else --model, names. */
static sora_status read_texts_options(const char *model, const char *adapter, const char *prefix, const char *source,
                                      const char *target, const char *max_source, const char *max_target, sora_run_options *out,
                                      sora_error *error)
{
    const char *const given[][2] = { { "prefix", prefix },
                                     { "source-column", source },
                                     { "target-column", target },
                                     { "max-source", max_source },
                                     { "max-target", max_target } };
    sora_status status = SORA_OK;
    bool is_run = (adapter && cli_run_options(adapter, out)) || cli_run_options(model, out);
    if (!is_run || out->task != SORA_TASK_T5) sora_run_options_default(out, SORA_TASK_T5);
    for (size_t i = 0; status == SORA_OK && i < COUNT(given); i++)
        if (given[i][1]) status = sora_run_options_set(out, given[i][0], given[i][1], error);
    return status;
}

/* ---- summarize --------------------------------------------------------------------------------------------------- */

typedef struct texts {
    char **items;
    size_t count, room;
} texts;

static sora_status add_text(texts *list, const char *text, size_t bytes, sora_error *error)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 16;
        char **grown = realloc(list->items, room * sizeof *grown);
        if (!grown) return cli_error(error, SORA_ERROR_MEMORY, "%s", "no host memory for the texts");
        list->items = grown;
        list->room = room;
    }
    char *copy = malloc(bytes + 1);
    if (!copy) return cli_error(error, SORA_ERROR_MEMORY, "%s", "no host memory for a text");
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    list->items[list->count++] = copy;
    return SORA_OK;
}

static void free_texts(texts *list)
{
    for (size_t i = 0; i < list->count; i++) free(list->items[i]);
    free(list->items);
}

/* Adds what holds more than white space (an empty line is a text, too: its summary stands in the same line). */
static sora_status take_text(const char *name, size_t line, const char *text, size_t length, texts *list, sora_error *error)
{
    sora_error inner;
    sora_status status = sora_vocabulary_check(text, length, &inner);
    if (status != SORA_OK) {
        error->status = status;
        if (line)
            snprintf(error->message, sizeof error->message, "%.500s: line %zu: %.400s", name, line, inner.message);
        else
            snprintf(error->message, sizeof error->message, "%.500s: %.400s", name, inner.message);
        return status;
    }
    return line || strspn(text, " \t\r\n") < length ? add_text(list, text, length, error) : SORA_OK;
}

/* One text a file, or a line. */
static sora_status read_texts(const char *name, bool lines, texts *list, sora_error *error)
{
    FILE *in = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
    char *text = NULL;
    size_t room = 0, number = 0;
    ssize_t length;
    sora_status status = SORA_OK;
    if (!in) {
        error->status = SORA_ERROR_INPUT;
        snprintf(error->message, sizeof error->message, "%.500s: cannot open: %s", name, strerror(errno));
        return SORA_ERROR_INPUT;
    }
    /* A text has no NUL: up to one is the whole file, or what take_text refuses. */
    while (status == SORA_OK && (length = getdelim(&text, &room, lines ? '\n' : '\0', in)) >= 0) {
        number++;
        while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r')) length--;
        status = take_text(name, lines ? number : 0, text, (size_t)length, list, error);
    }
    if (status == SORA_OK && ferror(in))
        status = cli_error(error, SORA_ERROR_IO, "%s: cannot be read: %s", name, strerror(errno));
    free(text);
    if (in != stdin) fclose(in);
    return status;
}

typedef struct summarizer {
    sora_t5 *t5;
    sora_tokenizer *tokenizer;
    const char *prefix;
    int max_source;
    bool json, stream;
    /* streaming: what is printed so far of the text under way */
    int32_t ids[4096];
    int count;
    size_t printed;
} summarizer;

/* Prints what the tokens so far say and was not printed yet: a piece may change its neighbour's white space, never what is before
 * it. */
static bool on_token(void *self, int index, int32_t token)
{
    summarizer *s = self;
    char *text;
    sora_error error;
    (void)index;
    if (s->count < (int)COUNT(s->ids)) s->ids[s->count++] = token;
    if (sora_tokenizer_decode_generated(s->tokenizer, s->ids, (size_t)s->count, &text, &error) != SORA_OK) return true;
    if (strlen(text) > s->printed) fwrite(text + s->printed, 1, strlen(text) - s->printed, stdout);
    s->printed = strlen(text) > s->printed ? strlen(text) : s->printed;
    free(text);
    fflush(stdout);
    return !cli_interrupted();
}

static sora_status print_summary(const summarizer *s, const char *text, const sora_t5_output *output, sora_error *error)
{
    char *summary = NULL;
    sora_status status = sora_tokenizer_decode_generated(s->tokenizer, output->ids, (size_t)output->count, &summary, error);
    if (status != SORA_OK) return status;
    if (s->json) {
        json_t *tokens = json_array(), *line;
        for (int i = 0; i < output->count; i++) json_array_append_new(tokens, json_integer(output->ids[i]));
        line = json_pack("{s:s,s:s,s:o}", "text", text, "summary", summary, "tokens", tokens);
        if (!line) status = cli_error(error, SORA_ERROR_INPUT, "%s", "a text is no UTF-8");
        json_dumpf(line, stdout, JSON_COMPACT);
        json_decref(line);
        printf("\n");
    } else if (s->stream) {
        printf("\n");
    } else {
        printf("%s\n", summary);
    }
    fflush(stdout);
    free(summary);
    return status;
}

/* Texts first..first + count of all: chunks, so that results come while others are under way. */
static sora_status summarize_chunk(summarizer *s, sora_t5_generator *generator, const sora_t5_generation *options,
                                   const texts *list, size_t first, int count, sora_error *error)
{
    sora_status status = SORA_OK;
    int32_t *ids[64] = { NULL };
    int lengths[64] = { 0 };
    uint32_t places[64];
    char *const *items = list->items + first;
    sora_t5_output out[64] = { 0 };
    sora_t5_stream stream = { .use = s->stream ? on_token : NULL, .self = s };
    for (int i = 0; status == SORA_OK && i < count; i++)
        status = sora_tokenizer_source(s->tokenizer, s->prefix, items[i], strlen(items[i]), s->max_source, &ids[i], &lengths[i],
                                       error);
    for (int i = 0; i < count; i++) places[i] = (uint32_t)(first + (size_t)i);
    s->count = 0;
    s->printed = 0;
    if (status == SORA_OK)
        status = sora_t5_generate(generator, (const int32_t *const *)ids, lengths, count, places, options, &stream, out, error);
    for (int i = 0; status == SORA_OK && i < count; i++) status = print_summary(s, items[i], &out[i], error);
    for (int i = 0; i < count; i++) {
        free(ids[i]);
        free(out[i].ids);
    }
    return status;
}

static sora_status summarize_all(summarizer *s, const texts *list, const sora_t5_generation *options, int batch,
                                 sora_error *error)
{
    sora_t5_generator *generator = NULL;
    int chunk = s->stream ? 1 : batch;
    sora_t5_generator_options room = {
        .batch = chunk, .source = s->max_source, .beams = options->beams, .max_length = options->max_length
    };
    sora_status status = sora_t5_generator_create(s->t5, &room, &generator, error);
    if (status == SORA_OK) status = sora_params_upload(sora_t5_params(s->t5), 0, error);
    for (size_t first = 0; status == SORA_OK && first < list->count && !cli_interrupted(); first += (size_t)chunk) {
        int count = (int)(list->count - first < (size_t)chunk ? list->count - first : (size_t)chunk);
        status = summarize_chunk(s, generator, options, list, first, count, error);
    }
    sora_t5_generator_destroy(&generator);
    return status == SORA_OK && cli_interrupted() ? cli_error(error, SORA_ERROR_INTERRUPTED, "%s", "stopped") : status;
}

int cli_t5_summarize(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const char *model = NULL, *adapter = NULL, *prefix = NULL, *max_source = NULL, *batch = NULL, *words[1];
    generation_words w = { 0 };
    bool lines = false, help;
    const cli_option options[] = {
        { "model", "Data", "DIR", "folder of a model, or a run (its best checkpoint; RUN:last its last)", NULL, NULL, &model },
        { "adapter", "Data", "DIR", "run or PEFT folder whose adapters are put on the model", NULL, NULL, &adapter },
        { "lines", "Data", NULL, "every line is a text of its own", NULL, &lines, NULL },
        { "prefix", "Data", "TEXT", "put before each text", FROM_RUN("\"summarize: \""), NULL, &prefix },
        { "max-source", "Data", "N", "tokens of a text, eos counted; longer ones are cut", FROM_RUN("512"), NULL, &max_source },
        { "batch", "Data", "N", "texts at once", "8", NULL, &batch },
        GENERATION_OPTIONS(w, "the model's, then 21"),
        CLI_GLOBALS(globals),
    };
    cli_command command = { .name = "t5 summarize",
                            .summary = "summaries of texts",
                            .usage = "t5 summarize --model DIR [--adapter DIR] [FILE|-]",
                            .example =
                                "soracl t5 summarize --model t5-small --beams 4 --length-penalty 2 --max-length 200 article.txt",
                            .options = options,
                            .option_count = COUNT(options),
                            .words = words,
                            .word_room = 1 };
    sora_error error;
    sora_context *context = NULL;
    summarizer s = { 0 };
    texts list = { 0 };
    sora_run_options run = { 0 };
    int at_once = 8;
    sora_t5_generation generation;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    const char *file = command.word_count ? command.words[0] : "-";
    if (!model) status = cli_error(&error, SORA_ERROR_ARGUMENT, "--model is needed; usage: soracl %s", command.usage);
    if (status == SORA_OK) status = set_whole("batch", batch, &at_once, &error);
    if (status == SORA_OK && (at_once < 1 || at_once > 64))
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "%s", "--batch is 1 to 64");
    if (status == SORA_OK) status = read_texts_options(model, adapter, prefix, NULL, NULL, max_source, NULL, &run, &error);
    if (status == SORA_OK) status = read_texts(file, lines, &list, &error);
    if (status == SORA_OK && list.count == 0) status = cli_error(&error, SORA_ERROR_INPUT, "%s: holds no text", file);
    if (status == SORA_OK) status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) status = sora_t5_open(context, model, adapter, &s.t5, &error);
    if (status == SORA_OK) sora_params_freeze(sora_t5_params(s.t5));
    if (status == SORA_OK) status = read_generation(&w, sora_t5_folder(s.t5), 0, &generation, &error);
    if (status == SORA_OK) status = sora_t5_open_tokenizer(s.t5, sora_t5_folder(s.t5), &s.tokenizer, &error);
    s.prefix = run.prefix;
    s.max_source = run.max_source;
    s.json = globals.json;
    s.stream = !globals.json && generation.beams == 1 && isatty(1);
    cli_catch_interrupts();
    if (status == SORA_OK) status = summarize_all(&s, &list, &generation, at_once, &error);
    sora_t5_destroy(&s.t5);
    sora_tokenizer_destroy(&s.tokenizer);
    free_texts(&list);
    return cli_finish(&globals, &context, status, &error);
}

/* ---- eval -------------------------------------------------------------------------------------------------------- */

int cli_t5_eval(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const char *model = NULL, *adapter = NULL, *data = NULL, *prefix = NULL, *source = NULL, *target = NULL, *limit = NULL,
               *batch = NULL, *max_source = NULL, *max_target = NULL, *predictions = NULL;
    generation_words w = { 0 };
    bool help, generate = true;
    const cli_option options[] = {
        { "model", "Data", "DIR", "folder of a model, or a run (its best checkpoint; RUN:last its last)", NULL, NULL, &model },
        { "adapter", "Data", "DIR", "run or PEFT folder whose adapters are put on the model", NULL, NULL, &adapter },
        { "data", "Data", "FILE", "texts and summaries: .csv or .jsonl", NULL, NULL, &data },
        { "source-column", "Data", "NAME", "column of the text", FROM_RUN("as the file's form has it"), NULL, &source },
        { "target-column", "Data", "NAME", "column of the summary", FROM_RUN("as the file's form has it"), NULL, &target },
        { "prefix", "Data", "TEXT", "put before each text", FROM_RUN("\"summarize: \""), NULL, &prefix },
        { "max-source", "Data", "N", "tokens of a text, eos counted", FROM_RUN("512"), NULL, &max_source },
        { "max-target", "Data", "N", "tokens of a summary, eos counted", FROM_RUN("64"), NULL, &max_target },
        { "limit", "Data", "N", "the first N pairs alone (0: all)", "0", NULL, &limit },
        { "batch", "Data", "N", "texts at once", "8", NULL, &batch },
        { "generate", "Generation", NULL, "summaries and their ROUGE (--no-generate: the loss alone)", NULL, &generate, NULL },
        { "predictions", "Generation", "FILE", "gets a line of JSON a pair: text, reference, prediction, ROUGE", NULL, NULL,
          &predictions },
        GENERATION_OPTIONS(w, "the model's, then --max-target and the start token"),
        CLI_GLOBALS(globals),
    };
    cli_command command = { .name = "t5 eval",
                            .summary = "measure a T5 on pairs of texts and summaries",
                            .usage = "t5 eval --model DIR [--adapter DIR] --data FILE",
                            .example = "soracl t5 eval --model t5-run --data headlines/test.csv --beams 4 --json",
                            .options = options,
                            .option_count = COUNT(options) };
    sora_error error;
    sora_context *context = NULL;
    sora_t5 *t5 = NULL;
    sora_text_pairs *pairs = NULL;
    sora_quality q;
    sora_run_options run = { 0 };
    sora_t5_generation generation;
    int pairs_limit = 0, at_once = 8;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (!model || !data)
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "--model and --data are needed; usage: soracl %s", command.usage);
    if (status == SORA_OK && predictions && !generate)
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "%s", "--predictions beside --no-generate: nothing would stand in it");
    if (status == SORA_OK) status = set_whole("limit", limit, &pairs_limit, &error);
    if (status == SORA_OK) status = set_whole("batch", batch, &at_once, &error);
    if (status == SORA_OK && (at_once < 1 || at_once > 1024))
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "%s", "--batch is 1 to 1024");
    if (status == SORA_OK)
        status = read_texts_options(model, adapter, prefix, source, target, max_source, max_target, &run, &error);
    sora_text_options text = { .source_column = run.source_column[0] ? run.source_column : NULL,
                               .target_column = run.target_column[0] ? run.target_column : NULL,
                               .limit = (size_t)pairs_limit };
    if (status == SORA_OK) status = sora_text_open(data, &text, &pairs, &error);
    if (status == SORA_OK && !globals.quiet && sora_text_skipped(pairs) > 0)
        fprintf(stderr, "%s: %zu of %zu pairs are left out, as empty\n", data, sora_text_skipped(pairs),
                sora_text_skipped(pairs) + sora_text_count(pairs));
    if (status == SORA_OK) status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) status = sora_t5_open(context, model, adapter, &t5, &error);
    if (status == SORA_OK) sora_params_freeze(sora_t5_params(t5));
    if (status == SORA_OK) status = read_generation(&w, sora_t5_folder(t5), run.max_target + 1, &generation, &error);
    cli_follower follower;
    cli_follower_start(&follower, globals.quiet);
    sora_watcher watcher = cli_watch(&follower);
    sora_text_evaluation_options evaluation = { .batch = at_once,
                                                .prefix = run.prefix,
                                                .max_source = run.max_source,
                                                .max_target = run.max_target,
                                                .generate = generate ? SIZE_MAX : 0,
                                                .generation = &generation,
                                                .predictions = predictions,
                                                .watcher = &watcher };
    if (status == SORA_OK) status = sora_t5_evaluate(t5, pairs, &evaluation, &q, &error);
    const sora_text_metrics *m = &q.text;
    if (status == SORA_OK && globals.json)
        status = cli_print_json(sora_quality_to_json(&q), &error);
    else if (status == SORA_OK) {
        printf("%zu pairs, %llu target tokens\n  loss a token   %.4f\n", m->examples, (unsigned long long)m->tokens_target,
               q.loss);
        if (m->generated)
            printf("  ROUGE-1        %.2f\n  ROUGE-2        %.2f\n  ROUGE-L        %.2f\n  ROUGE-Lsum     %.2f\n  tokens a text  "
                   "%.1f\n  tokens/s       %.0f\n",
                   100 * m->rouge.rouge1, 100 * m->rouge.rouge2, 100 * m->rouge.rougeL, 100 * m->rouge.rougeLsum,
                   m->generated_tokens, m->generated_tokens * (double)m->generated / q.seconds);
    }
    sora_t5_destroy(&t5);
    sora_text_close(&pairs);
    return cli_finish(&globals, &context, status, &error);
}
