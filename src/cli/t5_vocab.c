/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include "soracl/tokenizer.h"
#include "soracl/vocabulary.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef struct line_list {
    char **items;
    size_t count, room;
} line_list;

static sora_status fail(sora_error *error, sora_status status, const char *name, const char *message)
{
    error->status = status;
    snprintf(error->message, sizeof error->message, "%.400s: %.600s", name, message);
    return status;
}

/* Takes the text over. */
static sora_status append(line_list *lines, char *text, sora_error *error)
{
    if (lines->count == lines->room) {
        size_t room = lines->room ? 2 * lines->room : 1024;
        char **grown = realloc(lines->items, room * sizeof *grown);
        if (!grown) {
            free(text);
            return fail(error, SORA_ERROR_MEMORY, "lines", "not enough memory");
        }
        lines->items = grown;
        lines->room = room;
    }
    lines->items[lines->count++] = text;
    return SORA_OK;
}

static sora_status check(const char *name, size_t number, const char *line, size_t length, sora_error *error)
{
    sora_error inner;
    char where[512];
    sora_status status = sora_vocabulary_check(line, length, &inner);
    if (status == SORA_OK) return SORA_OK;
    snprintf(where, sizeof where, "%.400s: line %zu", name, number);
    return fail(error, status, where, inner.message);
}

static sora_status read_lines(FILE *in, const char *name, line_list *lines, sora_error *error)
{
    sora_status status = SORA_OK;
    char *line = NULL;
    size_t room = 0, number = 0;
    ssize_t length;
    while (status == SORA_OK && (length = getline(&line, &room, in)) >= 0) {
        if (length > 0 && line[length - 1] == '\n') line[--length] = '\0';
        if (length > 0 && line[length - 1] == '\r') line[--length] = '\0';
        status = check(name, ++number, line, (size_t)length, error);
        if (status != SORA_OK || length == 0) continue;
        char *kept = strdup(line);
        status = kept ? append(lines, kept, error) : fail(error, SORA_ERROR_MEMORY, name, "not enough memory");
    }
    if (status == SORA_OK && ferror(in)) status = fail(error, SORA_ERROR_IO, name, "cannot be read");
    free(line);
    return status;
}

static sora_status read_file(const char *path, line_list *lines, sora_error *error)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *in = standard ? stdin : fopen(path, "re");
    if (!in) return fail(error, errno == ENOENT ? SORA_ERROR_INPUT : SORA_ERROR_IO, path, strerror(errno));
    sora_status status = read_lines(in, standard ? "standard input" : path, lines, error);
    if (!standard) fclose(in);
    return status;
}

static sora_status numbers(const char *size, const char *coverage, sora_vocabulary_options *options, sora_error *error)
{
    char *end;
    long pieces = strtol(size, &end, 10);
    if (!*size || *end || pieces < 4 || pieces > 1000000)
        return fail(error, SORA_ERROR_ARGUMENT, "--size", "expected a number of pieces, 4 to 1000000");
    options->size = (int)pieces;
    if (!coverage) return SORA_OK;
    options->coverage = strtod(coverage, &end);
    if (*coverage && !*end && options->coverage >= 0.98 && options->coverage <= 1) return SORA_OK;
    return fail(error, SORA_ERROR_ARGUMENT, "--coverage", "expected a share of the characters, 0.98 to 1");
}

static sora_status train(const line_list *lines, const sora_vocabulary_options *options, const char *out, bool quiet,
                         sora_error *error)
{
    sora_tokenizer *tokenizer = NULL;
    sora_status status = sora_vocabulary_train((const char *const *)lines->items, lines->count, options, out, error);
    if (status == SORA_OK) status = sora_tokenizer_create(out, &tokenizer, error);
    if (status != SORA_OK) return status;
    int pieces = sora_tokenizer_size(tokenizer) - SORA_TOKENIZER_SENTINELS;
    sora_tokenizer_destroy(&tokenizer);
    if (!quiet && pieces < options->size)
        fprintf(stderr, "the text yields no more than %d of %d pieces\n", pieces, options->size);
    if (!quiet) printf("%s: %d pieces from %zu lines\n", out, pieces, lines->count);
    return SORA_OK;
}

int cli_t5_vocab(int argc, char **argv)
{
    const char *out = NULL, *size = NULL, *coverage = NULL, *words[256];
    line_list lines = { 0 };
    sora_vocabulary_options vocabulary = { 0 };
    sora_error error;
    bool help, quiet = false;
    const cli_option options[] = {
        { "out", "Data", "FILE", "the model to write; T5's folders call it spiece.model", NULL, NULL, &out },
        { "size", "Data", "N", "pieces at most, with <pad>, </s> and <unk>", NULL, NULL, &size },
        { "coverage", "Data", "SHARE", "of the text's characters that become pieces", "0.9995", NULL, &coverage },
        { "quiet", "General", NULL, "no messages", NULL, &quiet, NULL },
    };
    cli_command command = { .name = "t5 vocab",
                            .summary = "train a vocabulary, SentencePiece's unigram as T5 has it, on text of one sentence a line",
                            .usage = "t5 vocab --out FILE.model --size N FILE|-...",
                            .example = "soracl t5 vocab --out spiece.model --size 4000 sentences.txt",
                            .options = options,
                            .option_count = COUNT(options),
                            .words = words,
                            .word_room = COUNT(words) };
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status == SORA_OK && help) goto cleanup;
    if (status == SORA_OK && (!out || !size || command.word_count == 0))
        status = fail(&error, SORA_ERROR_ARGUMENT, "t5 vocab", "usage: soracl t5 vocab --out FILE.model --size N FILE|-...");
    if (status == SORA_OK) status = numbers(size, coverage, &vocabulary, &error);
    for (size_t i = 0; status == SORA_OK && i < command.word_count; i++) status = read_file(words[i], &lines, &error);
    if (status == SORA_OK) status = train(&lines, &vocabulary, out, quiet, &error);
cleanup:
    for (size_t i = 0; i < lines.count; i++) free(lines.items[i]);
    free(lines.items);
    return status == SORA_OK ? 0 : cli_fail(status, &error);
}
