/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter/peft_pattern.h"

#include "base/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bounds on what a file may ask of the C library's matcher: characters, nested groups, and the size of the expression once its
 * counted repetitions are written out (glibc does write them out, x+ as xx*, at every level of nesting). */
#define MAX_LENGTH 20000
#define MAX_DEPTH 50
#define MAX_COST 20000
/* A set of five characters, [ -~], is written out as 95 and its brackets. */
#define GROWTH 32

typedef struct translation {
    const char *pattern, *at;
    char *out;
    size_t used;
    int depth;
    double cost[MAX_DEPTH + 1]; /* of what stands in each open group */
    double last;                /* of the item that a quantifier would repeat; 0: none */
    bool repeated;              /* a quantifier stands right before */
    sora_error *error;
} translation;

static sora_status refuse(const translation *t, const char *from, int length, const char *why)
{
    return sora_fail(t->error, SORA_ERROR_INPUT, "pattern \"%.200s\": \"%.*s\" at character %d: %s", t->pattern, length, from,
                     (int)(from - t->pattern) + 1, why);
}

static void put(translation *t, const char *text)
{
    size_t length = strlen(text);
    memcpy(t->out + t->used, text, length);
    t->used += length;
}

static void put_item(translation *t, const char *text)
{
    put(t, text);
    t->cost[t->depth] += 1.0;
    t->last = 1.0;
    t->repeated = false;
}

static void put_literal(translation *t, char c)
{
    char text[4] = { c };
    if (c == '}' || c == ']') /* POSIX leaves \} and \] undefined */
        memcpy(text, (char[]) { '[', c, ']', 0 }, 4);
    else if (strchr(".[\\()*+?{|^$", c))
        memcpy(text, (char[]) { '\\', c, 0 }, 3);
    put_item(t, text);
}

static void put_anchor(translation *t, const char *text)
{
    put(t, text);
    t->last = 0.0; /* Python repeats no anchor */
    t->repeated = false;
}

/* ---- Sets -------------------------------------------------------------------------------------------------------- */

static void add_class(bool set[128], char class)
{
    for (int c = 1; c < 128; c++) {
        bool digit = c >= '0' && c <= '9', space = c == ' ' || (c >= '\t' && c <= '\r');
        bool word = digit || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (class == 'd' ? digit : class == 's' ? space : word) set[c] = true;
    }
}

/* In a bracket ] goes first, ^ not first, - last; ranges are written out, since locales order letters differently. */
static void put_set(translation *t, const bool set[128], bool negated)
{
    char text[140];
    size_t n = 0;
    text[n++] = '[';
    if (negated) text[n++] = '^';
    size_t start = n;
    if (set[']']) text[n++] = ']';
    for (int c = 1; c < 128; c++)
        if (set[c] && c != ']' && c != '^' && c != '-' && c != '[') text[n++] = (char)c;
    if (set['[']) text[n++] = '[';
    bool lonely = n == start && !negated; /* nothing yet that would keep ^ from being first */
    if (lonely && set['^'] && !set['-']) {
        put_item(t, "\\^");
        return;
    }
    if (lonely && set['-']) text[n++] = '-';
    if (set['^']) text[n++] = '^';
    if (!lonely && set['-']) text[n++] = '-';
    text[n++] = ']';
    text[n] = '\0';
    put_item(t, text);
}

/* One member of a set: a character in *out, or a class that is added, then *out is 0. */
static sora_status take_member(translation *t, bool set[128], int *out)
{
    const char *from = t->at;
    char c = *t->at++;
    *out = c;
    if ((unsigned char)c >= 128) return refuse(t, from, 1, "only ASCII is taken in patterns");
    if (c != '\\') return SORA_OK;
    c = *t->at;
    if (c == '\0' || (unsigned char)c >= 128) return refuse(t, from, 1, "ends in the middle");
    t->at++;
    *out = c;
    if (!isalnum((unsigned char)c)) return SORA_OK;
    if (!strchr("dws", c)) return refuse(t, from, 2, "has no counterpart in POSIX's sets");
    add_class(set, c);
    *out = 0;
    return SORA_OK;
}

static sora_status take_set(translation *t)
{
    bool set[128] = { false }, negated = false;
    const char *from = t->at++;
    if (*t->at == '^') {
        negated = true;
        t->at++;
    }
    for (bool first = true; first || *t->at != ']'; first = false) {
        int low, high;
        if (*t->at == '\0') return refuse(t, from, 1, "set without an end");
        sora_status status = take_member(t, set, &low);
        if (status != SORA_OK) return status;
        high = low;
        if (t->at[0] == '-' && t->at[1] != ']' && t->at[1] != '\0') {
            t->at++;
            status = take_member(t, set, &high);
            if (status != SORA_OK) return status;
            if (low == 0 || high < low) return refuse(t, from, (int)(t->at - from), "no range of characters");
        }
        for (int c = low; c <= high && c > 0; c++) set[c] = true;
    }
    t->at++;
    put_set(t, set, negated);
    return SORA_OK;
}

/* ---- The rest ---------------------------------------------------------------------------------------------------- */

static sora_status take_escape(translation *t)
{
    static const struct {
        char name;
        const char *posix;
    } classes[] = { { 'd', "[0-9]" },          { 'D', "[^0-9]" },       { 's', "[ \t\n\v\f\r]" },
                    { 'S', "[^ \t\n\v\f\r]" }, { 'w', "[A-Za-z0-9_]" }, { 'W', "[^A-Za-z0-9_]" } };
    char c = t->at[1];
    if (c == '\0') return refuse(t, t->at, 1, "ends in the middle");
    t->at += 2;
    for (size_t i = 0; i < SORA_COUNT(classes); i++)
        if (classes[i].name == c) {
            put_item(t, classes[i].posix);
            return SORA_OK;
        }
    if (c == 'A' || c == 'Z')
        put_anchor(t, c == 'A' ? "^" : "$");
    else if (isalnum((unsigned char)c))
        return refuse(t, t->at - 2, 2, "has no counterpart in POSIX's extended expressions");
    else
        put_literal(t, c);
    return SORA_OK;
}

static sora_status open_group(translation *t)
{
    const char *from = t->at++;
    if (*t->at == '?') {
        size_t name = strncmp(t->at, "?P<", 3) == 0 ? strspn(t->at + 3, "abcdefghijklmnopqrstuvwxyz"
                                                                        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
                                                    : 0;
        if (t->at[1] == ':')
            t->at += 2;
        else if (name > 0 && t->at[3 + name] == '>')
            t->at += 4 + name;
        else
            return refuse(t, from, t->at[1] == '<' || t->at[1] == 'P' ? 4 : 3,
                          "has no counterpart in POSIX's extended expressions");
    }
    if (t->depth == MAX_DEPTH) return refuse(t, from, 1, "more groups in each other than are taken");
    put(t, "(");
    t->cost[++t->depth] = 1.0;
    t->last = 0.0;
    t->repeated = false;
    return SORA_OK;
}

static sora_status close_group(translation *t)
{
    if (t->depth == 0) return refuse(t, t->at, 1, "closes no group");
    t->at++;
    put(t, ")");
    t->last = t->cost[t->depth--];
    t->cost[t->depth] += t->last;
    t->repeated = false;
    return SORA_OK;
}

/* {3}, {3,}, {,3}, {3,5}: as Python reads it; everything else is a literal brace. most −1: no bound. */
static bool read_count(const char *text, long *least, long *most, const char **end)
{
    char *next;
    const char *p = text + 1;
    if (*p == '}') return false;
    *least = isdigit((unsigned char)*p) ? strtol(p, &next, 10) : 0;
    bool counted = isdigit((unsigned char)*p);
    if (counted) p = next;
    *most = *least;
    if (*p == ',') {
        p++;
        *most = isdigit((unsigned char)*p) ? strtol(p, &next, 10) : -1;
        if (*most >= 0) p = next;
    } else if (!counted) {
        return false;
    }
    *end = p + 1;
    return *p == '}';
}

static sora_status take_quantifier(translation *t)
{
    const char *from = t->at, *end = from + 1;
    long least = *from == '+', most = *from == '?' ? 1 : -1;
    if (*from == '{' && !read_count(from, &least, &most, &end)) {
        put_literal(t, *t->at++);
        return SORA_OK;
    }
    int length = (int)(end - from);
    if (t->repeated) return refuse(t, from, length, "repeats a repetition");
    if (t->last == 0.0) return refuse(t, from, length, "nothing to repeat");
    if (most >= 0 && most < least) return refuse(t, from, length, "least above most");
    double copies = most >= 0 ? (double)most : (double)least + 1.0;
    if (copies > 1.0) t->cost[t->depth] += t->last * (copies - 1.0);
    if (t->cost[t->depth] > MAX_COST) return refuse(t, from, length, "the repetitions are more than are taken");
    char text[64];
    if (*from != '{')
        snprintf(text, sizeof text, "%c", *from);
    else if (most < 0)
        snprintf(text, sizeof text, "{%ld,}", least);
    else
        snprintf(text, sizeof text, "{%ld,%ld}", least, most);
    put(t, text);
    t->at = end;
    t->repeated = true;
    if (*t->at == '+') return refuse(t, from, length + 1, "has no counterpart in POSIX's extended expressions");
    if (*t->at == '?') t->at++; /* lazy: matches the same names */
    return SORA_OK;
}

static sora_status take(translation *t)
{
    char c = *t->at;
    if ((unsigned char)c >= 128) return refuse(t, t->at, 1, "only ASCII is taken in patterns");
    switch (c) {
    case '\\': return take_escape(t);
    case '[': return take_set(t);
    case '(': return open_group(t);
    case ')': return close_group(t);
    case '*':
    case '+':
    case '?':
    case '{': return take_quantifier(t);
    case '.': put_item(t, "."); break;
    case '^': put_anchor(t, "^"); break;
    case '$': put_anchor(t, "$"); break;
    case '|': put_anchor(t, "|"); break;
    default: put_literal(t, c);
    }
    t->at++;
    return SORA_OK;
}

sora_status sora_peft_pattern_compile(const char *pattern, sora_peft_anchor anchor, regex_t *out, sora_error *error)
{
    sora_status status = SORA_OK;
    translation t = { .pattern = pattern, .at = pattern, .error = error };
    size_t length = strlen(pattern);
    if (length > MAX_LENGTH)
        return sora_fail(error, SORA_ERROR_INPUT, "pattern \"%.60s…\": %zu characters, at most %d are taken", pattern, length,
                         MAX_LENGTH);
    SORA_TRY(sora_allocate(length * GROWTH + 64, 1, "pattern", &t.out, error));
    put(&t, anchor == SORA_PEFT_TAIL ? "^(.*\\.)?(" : "^(");
    while (*t.at) SORA_TRY(take(&t));
    if (t.depth > 0) SORA_FAIL(error, SORA_ERROR_INPUT, "pattern \"%.200s\": a group without an end", pattern);
    put(&t, ")$");
    int code = regcomp(out, t.out, REG_EXTENDED | REG_NOSUB);
    if (code != 0) {
        char reason[128];
        regerror(code, out, reason, sizeof reason);
        SORA_FAIL(error, SORA_ERROR_INPUT, "pattern \"%.200s\" is no regular expression: %s", pattern, reason);
    }
cleanup:
    free(t.out);
    return status;
}

bool sora_peft_pattern_matches(const regex_t *pattern, const char *name)
{
    return regexec(pattern, name, 0, NULL, 0) == 0;
}

bool sora_peft_entry_matches(const char *entry, const char *name)
{
    size_t a = strlen(entry), b = strlen(name);
    if (a > b || strcmp(name + b - a, entry) != 0) return false;
    return a == b || name[b - a - 1] == '.';
}
