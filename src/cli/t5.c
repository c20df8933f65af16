/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include "soracl/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef sora_status (*line_function)(const sora_tokenizer *tokenizer, const char *line, size_t bytes, sora_error *error);

static sora_status tokenize_line(const sora_tokenizer *tokenizer, const char *line, size_t bytes, sora_error *error)
{
    int32_t *ids;
    size_t count;
    sora_status status = sora_tokenizer_encode(tokenizer, line, bytes, &ids, &count, error);
    if (status != SORA_OK) return status;
    putchar('[');
    for (size_t i = 0; i < count; i++) printf("%d, ", ids[i]);
    printf("%d]\n", SORA_TOKEN_EOS);
    free(ids);
    return SORA_OK;
}

static sora_status ids_of(const char *line, size_t bytes, int32_t **ids, size_t *count, sora_error *error)
{
    json_error_t where;
    json_t *list = json_loadb(line, bytes, 0, &where);
    size_t i = 0;
    *count = json_array_size(list);
    *ids = malloc((*count + 1) * sizeof **ids);
    for (; *ids && i < *count; i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX) break;
        (*ids)[i] = (int32_t)json_integer_value(id);
    }
    bool good = *ids && json_is_array(list) && i == *count;
    json_decref(list);
    if (good) return SORA_OK;
    free(*ids);
    error->status = SORA_ERROR_INPUT;
    snprintf(error->message, sizeof error->message, "expected a JSON array of ids, as [37, 1782, 1]");
    return error->status;
}

static sora_status detokenize_line(const sora_tokenizer *tokenizer, const char *line, size_t bytes, sora_error *error)
{
    int32_t *ids;
    size_t count;
    char *text = NULL;
    sora_status status = ids_of(line, bytes, &ids, &count, error);
    if (status != SORA_OK) return status;
    status = sora_tokenizer_decode(tokenizer, ids, count, &text, error);
    if (status == SORA_OK) puts(text);
    free(text);
    free(ids);
    return status;
}

static sora_status each_line(FILE *in, const char *name, const sora_tokenizer *tokenizer, line_function use, sora_error *error)
{
    sora_status status = SORA_OK;
    char *line = NULL;
    size_t room = 0, number = 0;
    ssize_t length;
    while (status == SORA_OK && (length = getline(&line, &room, in)) >= 0) {
        number++;
        if (length > 0 && line[length - 1] == '\n') length--;
        if (length > 0 && line[length - 1] == '\r') length--;
        sora_error inner;
        status = use(tokenizer, line, (size_t)length, &inner);
        if (status == SORA_OK) continue;
        error->status = status;
        snprintf(error->message, sizeof error->message, "%.200s: line %zu: %.700s", name, number, inner.message);
    }
    if (status == SORA_OK && ferror(in))
        status = cli_error(error, SORA_ERROR_IO, "%.500s: cannot be read: %s", name, strerror(errno));
    free(line);
    return status;
}

static int run(const char *name, const char *summary, const char *example, line_function use, int argc, char **argv)
{
    const char *model = NULL, *words[1];
    sora_error error;
    sora_tokenizer *tokenizer = NULL;
    FILE *in = NULL;
    bool help;
    const cli_option options[] = { { "model", "Data", "DIR", "folder with spiece.model, or that file", NULL, NULL, &model } };
    char usage[96];
    snprintf(usage, sizeof usage, "%s --model DIR FILE|-", name);
    cli_command command = { .name = name,
                            .summary = summary,
                            .usage = usage,
                            .example = example,
                            .options = options,
                            .option_count = COUNT(options),
                            .words = words,
                            .word_room = 1 };
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status == SORA_OK && help) goto cleanup;
    if (status == SORA_OK && (!model || command.word_count != 1)) {
        status = error.status = SORA_ERROR_ARGUMENT;
        snprintf(error.message, sizeof error.message, "usage: soracl %s; - reads standard input", usage);
    }
    if (status == SORA_OK) status = sora_tokenizer_create(model, &tokenizer, &error);
    if (status != SORA_OK) goto cleanup;
    const char *file = command.words[0];
    in = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
    if (in) {
        status = each_line(in, in == stdin ? "standard input" : file, tokenizer, use, &error);
    } else {
        status = error.status = SORA_ERROR_INPUT;
        snprintf(error.message, sizeof error.message, "%.500s: cannot open: %s", file, strerror(errno));
    }
cleanup:
    if (in && in != stdin) fclose(in);
    sora_tokenizer_destroy(&tokenizer);
    return status == SORA_OK ? 0 : cli_fail(status, &error);
}

int cli_t5_tokenize(int argc, char **argv)
{
    return run("t5 tokenize", "ids of each line, as a JSON array with eos",
               "echo 'The house' | soracl t5 tokenize --model t5-small -", tokenize_line, argc, argv);
}

int cli_t5_detokenize(int argc, char **argv)
{
    return run("t5 detokenize", "text of each line's JSON array of ids",
               "echo '[37, 629, 1]' | soracl t5 detokenize --model t5-small -", detokenize_line, argc, argv);
}
