/* SPDX-License-Identifier: Apache-2.0 */
#include "data/text_form.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <csv.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FIELD ((size_t)64 << 20)
#define NONE SIZE_MAX

/* libcsv knows no lines, so it is given one line at a time: what it calls back belongs to that line, and a line after which its
 * row is still open has left a quote open. */
typedef struct csv_reader {
    sora_text_pairs *pairs;
    sora_error *error;
    sora_status status; /* the callbacks' */
    const char *source_column, *target_column;
    size_t source_index, target_index; /* columns; NONE: not found so far */
    size_t columns;                    /* of the header; 0: it is still to come */
    size_t line, row_line, quote_line;
    size_t field;           /* of the row */
    size_t fields_ever;     /* of the file */
    bool row_open;          /* begun and not ended */
    sora_text_buffer names; /* of all columns, for the message */
    sora_text_buffer source, target;
} csv_reader;

static sora_status take_name(csv_reader *r, const char *name, size_t bytes)
{
    size_t valid;
    sora_utf8_count(name, bytes, &valid);
    if (valid < bytes)
        return sora_fail(r->error, SORA_ERROR_INPUT, "%s: line %zu: the header is no UTF-8 text", r->pairs->path, r->row_line);
    size_t *index[] = { &r->source_index, &r->target_index };
    const char *wanted[] = { r->source_column, r->target_column };
    for (int i = 0; i < 2; i++) {
        if (strlen(wanted[i]) != bytes || memcmp(wanted[i], name, bytes) != 0) continue;
        if (*index[i] != NONE)
            return sora_fail(r->error, SORA_ERROR_INPUT, "%s: line %zu: two columns \"%s\"", r->pairs->path, r->row_line,
                             wanted[i]);
        *index[i] = r->field;
    }
    sora_status status = r->names.count ? sora_text_append(&r->names, ", ", 2, r->error) : SORA_OK;
    return status == SORA_OK ? sora_text_append(&r->names, name, bytes, r->error) : status;
}

static void on_field(void *bytes, size_t count, void *self)
{
    csv_reader *r = self;
    const char *text = bytes ? bytes : "";
    if (r->status != SORA_OK) return;
    if (r->columns == 0)
        r->status = take_name(r, text, count);
    else if (r->field == r->source_index)
        r->status = sora_text_append(&r->source, text, count, r->error);
    if (r->columns && r->field == r->target_index && r->status == SORA_OK)
        r->status = sora_text_append(&r->target, text, count, r->error);
    r->field++;
    r->fields_ever++;
}

static sora_status end_header(csv_reader *r)
{
    const char *missing = r->source_index == NONE                                         ? r->source_column
                          : r->target_index == NONE && !r->pairs->options.target_optional ? r->target_column
                                                                                          : NULL;
    r->columns = r->field;
    if (!missing) return SORA_OK;
    return sora_fail(r->error, SORA_ERROR_INPUT, "%s: no column \"%s\"; the columns are %.*s", r->pairs->path, missing,
                     (int)SORA_MIN(r->names.count, 800), r->names.bytes);
}

static sora_status end_row(csv_reader *r)
{
    if (r->field != r->columns)
        return sora_fail(r->error, SORA_ERROR_INPUT, "%s: line %zu: %zu fields; the header has %zu", r->pairs->path, r->row_line,
                         r->field, r->columns);
    if (sora_text_is_full(r->pairs)) return SORA_OK;
    return sora_text_add(r->pairs, r->row_line, &r->source, &r->target, r->error);
}

static void on_row(int character, void *self)
{
    csv_reader *r = self;
    (void)character;
    if (r->status == SORA_OK) r->status = r->columns ? end_row(r) : end_header(r);
    r->source.count = r->target.count = r->field = 0;
    r->row_open = false;
}

static int is_space(unsigned char character)
{
    (void)character;
    return 0; /* white space around a field belongs to it */
}

static sora_status feed_line(csv_reader *r, struct csv_parser *parser, const sora_lines *lines)
{
    bool was_open = r->row_open, blank = strspn(lines->text, "\r\n") == lines->bytes;
    size_t fields = r->fields_ever;
    r->line = lines->number;
    /* libcsv's buffer grows by a fixed amount: let that rise with it, or large fields take quadratic time. */
    csv_set_blk_size(parser, SORA_MAX(SORA_MAX(csv_get_buffer_size(parser), lines->bytes), 4096));
    if (!was_open && !blank) {
        r->row_open = true;
        r->row_line = r->line;
    }
    if (csv_parse(parser, lines->text, lines->bytes, on_field, on_row, r) != lines->bytes && r->status == SORA_OK) {
        bool memory = csv_error(parser) != CSV_EPARSE;
        return sora_fail(r->error, memory ? SORA_ERROR_MEMORY : SORA_ERROR_INPUT, "%s: line %zu: %s", r->pairs->path, r->line,
                         memory ? csv_strerror(csv_error(parser))
                                : "a quote inside a field without quotes, or text behind a closing quote");
    }
    if (r->status == SORA_OK && r->row_open && (!was_open || r->fields_ever != fields)) r->quote_line = r->line;
    if (r->status == SORA_OK && csv_get_buffer_size(parser) > MAX_FIELD)
        return sora_fail(r->error, SORA_ERROR_INPUT,
                         "%s: line %zu: a field of more than %zu bytes begins here; is its quote closed?", r->pairs->path,
                         r->quote_line, MAX_FIELD);
    return r->status;
}

static sora_status end_file(csv_reader *r, struct csv_parser *parser)
{
    if (csv_fini(parser, on_field, on_row, r) != 0 && r->status == SORA_OK)
        return sora_fail(r->error, SORA_ERROR_INPUT, "%s: line %zu: a quote opens here and is never closed", r->pairs->path,
                         r->quote_line);
    if (r->status == SORA_OK && r->columns == 0)
        return sora_fail(r->error, SORA_ERROR_INPUT, "%s: empty; expected a header line with the columns \"%s\" and \"%s\"",
                         r->pairs->path, r->source_column, r->target_column);
    return r->status;
}

sora_status sora_text_read_csv(sora_text_pairs *pairs, sora_lines *lines, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_text_options *o = &pairs->options;
    csv_reader r = { .pairs = pairs,
                     .error = error,
                     .source_column = o->source_column ? o->source_column : "text",
                     .target_column = o->target_column ? o->target_column : "title",
                     .source_index = NONE,
                     .target_index = NONE };
    struct csv_parser parser;
    bool more = true;
    if (csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI) != 0)
        return sora_fail(error, SORA_ERROR_MEMORY, "%s: no CSV reader", pairs->path);
    csv_set_space_func(&parser, is_space);
    while (!sora_text_is_full(pairs)) {
        SORA_TRY(sora_lines_next(lines, &more, error));
        if (!more) break;
        SORA_TRY(feed_line(&r, &parser, lines));
    }
    if (!more) SORA_TRY(end_file(&r, &parser));
cleanup:
    csv_free(&parser);
    free(r.names.bytes);
    free(r.source.bytes);
    free(r.target.bytes);
    return status;
}
