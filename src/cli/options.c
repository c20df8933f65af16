/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int distance(const char *a, const char *b)
{
    int row[64];
    int n = (int)strlen(b);
    if (n > 60) return 99;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j], best = corner + (a[i - 1] != b[j - 1]);
            if (above + 1 < best) best = above + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            corner = above;
            row[j] = best;
        }
    }
    return row[n];
}

void cli_nearest(const char *word, const char *const *names, size_t count, char *text, size_t room)
{
    int best = 3;
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        int d = distance(word, names[i]);
        if (d >= best) continue;
        best = d;
        snprintf(text, room, "; did you mean %s?", names[i]);
    }
}

/* Whether the command takes an option of the table. */
static bool takes(const cli_command *command, const sora_option *option)
{
    for (const char *const *name = command->run_without; name && *name; name++)
        if (strcmp(*name, option->name) == 0) return false;
    for (const char *const *g = command->run_groups; g && *g; g++)
        if (strcmp(*g, option->group) == 0 && (option->tasks & command->run_task)) return true;
    return false;
}

/* A command's own option stands before one of the same name in the table. */
static bool is_own(const cli_command *command, const char *name)
{
    for (size_t i = 0; i < command->option_count; i++)
        if (strcmp(command->options[i].name, name) == 0) return true;
    return false;
}

/* ---- Help -------------------------------------------------------------------------------------------------------- */

static void print_option(const char *name, const char *value, const char *help, const char *fallback, const char *choices)
{
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", name, value ? " " : "", value ? value : "");
    printf("  %-24s %s", left, help);
    if (choices) printf(" (%s)", choices);
    if (fallback && *fallback) printf(" [%s]", fallback);
    printf("\n");
}

static bool first_of_group(const cli_command *command, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (strcmp(command->options[i].group, command->options[index].group) == 0) return false;
    return true;
}

static const char *fallback_of(const cli_command *command, const sora_option *option)
{
    for (const char *const(*d)[2] = command->run_defaults; d && (*d)[0]; d++)
        if (strcmp((*d)[0], option->name) == 0) return (*d)[1];
    return option->fallback;
}

static void print_run_options(const cli_command *command)
{
    size_t count;
    const sora_option *table = sora_run_option_table(&count);
    for (const char *const *g = command->run_groups; g && *g; g++) {
        printf("\n%s\n", *g);
        for (size_t i = 0; i < count; i++)
            if (strcmp(table[i].group, *g) == 0 && takes(command, &table[i]) && !is_own(command, table[i].name))
                print_option(table[i].name,
                             table[i].type == SORA_OPTION_SWITCH ? NULL
                             : table[i].type == SORA_OPTION_TEXT ? "TEXT"
                                                                 : "N",
                             table[i].help, fallback_of(command, &table[i]), table[i].values);
    }
}

void cli_print_help(const cli_command *command)
{
    printf("soracl %s: %s\n\nusage: soracl %s\n", command->name, command->summary, command->usage);
    print_run_options(command);
    for (size_t i = 0; i < command->option_count; i++) {
        if (!first_of_group(command, i)) continue;
        printf("\n%s\n", command->options[i].group);
        for (size_t j = i; j < command->option_count; j++) {
            const cli_option *o = &command->options[j];
            if (strcmp(o->group, command->options[i].group) == 0) print_option(o->name, o->value, o->help, o->fallback, NULL);
        }
    }
    printf("\nexample\n  %s\n", command->example);
}

/* ---- Parsing ----------------------------------------------------------------------------------------------------- */

static sora_status fail(sora_error *error, const char *format, const char *a, const char *b)
{
    error->status = SORA_ERROR_ARGUMENT;
    snprintf(error->message, sizeof error->message, format, a, b);
    return SORA_ERROR_ARGUMENT;
}

static sora_status unknown(const cli_command *command, const char *name, sora_error *error)
{
    const char *names[128];
    char hint[96];
    size_t count = 0, table_count;
    const sora_option *table = sora_run_option_table(&table_count);
    for (size_t i = 0; i < command->option_count && count < COUNT(names); i++) names[count++] = command->options[i].name;
    for (size_t i = 0; i < table_count && count < COUNT(names); i++)
        if (takes(command, &table[i])) names[count++] = table[i].name;
    cli_nearest(name, names, count, hint, sizeof hint);
    if (strncmp(hint, "; did you mean ", 15) == 0) {
        char with_dashes[128];
        snprintf(with_dashes, sizeof with_dashes, "; did you mean --%s", hint + 15);
        return fail(error, "no option --%s%s", name, with_dashes);
    }
    return fail(error, "no option --%s; --help lists them%s", name, "");
}

/* The value of --name VALUE or --name=VALUE. */
static sora_status take_value(const char *name, const char *attached, int argc, char **argv, int *at, const char **value,
                              sora_error *error)
{
    *value = attached;
    if (attached) return SORA_OK;
    if (*at + 1 >= argc) return fail(error, "--%s needs a value%s", name, "");
    /* Far more often a value that was forgotten. */
    if (strncmp(argv[*at + 1], "--", 2) == 0)
        return fail(error, "--%s needs a value; one that begins as %s is given behind =", name, argv[*at + 1]);
    *value = argv[++*at];
    return SORA_OK;
}

static sora_status parse_option(cli_command *command, int argc, char **argv, int *at, sora_error *error)
{
    char name[64];
    const char *text = argv[*at] + 2, *attached = strchr(text, '='), *value;
    size_t length = attached ? (size_t)(attached++ - text) : strlen(text), count;
    if (length >= sizeof name) return unknown(command, "(a very long name)", error);
    snprintf(name, sizeof name, "%.*s", (int)length, text);
    bool negated = strncmp(name, "no-", 3) == 0;
    for (size_t i = 0; i < command->option_count; i++) {
        const cli_option *o = &command->options[i];
        bool is_switch = !o->value, match = strcmp(o->name, name) == 0;
        if (is_switch && (match || (negated && strcmp(o->name, name + 3) == 0))) {
            if (attached) return fail(error, "--%s takes no value%s", name, "");
            if (o->flag)
                *o->flag = match;
            else
                *o->text = match ? "on" : "off";
            return SORA_OK;
        }
        if (!is_switch && match) {
            sora_status status = take_value(name, attached, argc, argv, at, o->text, error);
            /* Where there is no default an empty text says nothing. */
            bool empty = status == SORA_OK && !o->fallback && !**o->text;
            return empty ? fail(error, "--%s: \"\"; expected %s", name, o->value) : status;
        }
    }
    const sora_option *table = sora_run_option_table(&count);
    for (size_t i = 0; i < count; i++) {
        bool is_switch = table[i].type == SORA_OPTION_SWITCH, match = strcmp(table[i].name, name) == 0;
        if (!takes(command, &table[i]) || !(match || (is_switch && negated && strcmp(table[i].name, name + 3) == 0))) continue;
        sora_status status = SORA_OK;
        if (is_switch && !attached)
            value = match ? "on" : "off";
        else
            status = take_value(name, attached, argc, argv, at, &value, error);
        command->run_given[i] = true;
        return status == SORA_OK ? sora_run_options_set(command->run, table[i].name, value, error) : status;
    }
    return unknown(command, name, error);
}

sora_status cli_number(const char *name, const char *text, long low, long high, long *out, sora_error *error)
{
    char *end;
    if (!text) return SORA_OK;
    *out = strtol(text, &end, 10);
    if (*text && !*end && *out >= low && *out <= high) return SORA_OK;
    error->status = SORA_ERROR_ARGUMENT;
    snprintf(error->message, sizeof error->message, "--%s: \"%.60s\"; expected %ld to %ld", name, text, low, high);
    return SORA_ERROR_ARGUMENT;
}

sora_status cli_parse(cli_command *command, int argc, char **argv, bool *help, sora_error *error)
{
    *help = false;
    if (command->run) sora_run_options_default(command->run, command->run_task);
    for (const char *const(*d)[2] = command->run_defaults; d && (*d)[0]; d++) {
        sora_status status = sora_run_options_set(command->run, (*d)[0], (*d)[1], error);
        if (status != SORA_OK) return status;
    }
    bool words_alone = false; /* behind "--" */
    for (int at = 0; at < argc; at++) {
        if (!words_alone && strcmp(argv[at], "--") == 0) {
            words_alone = true;
            continue;
        }
        if (!words_alone && (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0)) {
            *help = true;
            cli_print_help(command);
            return SORA_OK;
        }
        if (!words_alone && strncmp(argv[at], "--", 2) == 0) {
            sora_status status = parse_option(command, argc, argv, &at, error);
            if (status != SORA_OK) return status;
        } else if (command->word_count < command->word_room) {
            command->words[command->word_count++] = argv[at];
        } else {
            return fail(error, "\"%s\" is one word too many; usage: soracl %s", argv[at], command->usage);
        }
    }
    return SORA_OK;
}
