/* SPDX-License-Identifier: Apache-2.0 */
#include "data/text_form.h"

#include "base/memory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct json_row {
    const char *path;
    size_t line;
    const json_t *object;
} json_row;

static const char *type_name(const json_t *value)
{
    static const char *const names[] = { [JSON_OBJECT] = "an object",    [JSON_ARRAY] = "a list",  [JSON_STRING] = "a text",
                                         [JSON_INTEGER] = "a number",    [JSON_REAL] = "a number", [JSON_TRUE] = "a truth value",
                                         [JSON_FALSE] = "a truth value", [JSON_NULL] = "null" };
    return names[json_typeof(value)];
}

static sora_status append_text(const json_row *row, const char *key, const json_t *value, sora_text_buffer *out,
                               sora_error *error)
{
    if (!json_is_string(value))
        return sora_fail(error, SORA_ERROR_INPUT, "%s: line %zu: \"%s\" is or holds %s; expected a text or a list of texts",
                         row->path, row->line, key, type_name(value));
    return sora_text_append(out, json_string_value(value), json_string_length(value), error);
}

static sora_status fail_missing(const json_row *row, const char *key, sora_error *error)
{
    sora_status status;
    sora_text_buffer keys = { 0 };
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)row->object, name, value)
    {
        if (keys.count) SORA_TRY(sora_text_append(&keys, ", ", 2, error));
        SORA_TRY(sora_text_append(&keys, name, strlen(name), error));
    }
    status = sora_fail(error, SORA_ERROR_INPUT, "%s: line %zu: no \"%s\"; its keys are %.*s", row->path, row->line, key,
                       (int)SORA_MIN(keys.count, 800), keys.bytes ? keys.bytes : "");
cleanup:
    free(keys.bytes);
    return status;
}

/* The text of a key: a string; of a list all, or the first alone; null is an empty text. */
static sora_status take_text(const json_row *row, const char *key, bool optional, bool all, sora_text_buffer *out,
                             sora_error *error)
{
    sora_status status = SORA_OK;
    const json_t *value = json_object_get(row->object, key);
    out->count = 0;
    if (!value) return optional ? SORA_OK : fail_missing(row, key, error);
    if (json_is_null(value)) return SORA_OK;
    if (!json_is_array(value)) return append_text(row, key, value, out, error);
    size_t count = json_array_size(value);
    for (size_t i = 0; i < count; i++) {
        if (i && all) SORA_TRY(sora_text_append(out, " ", 1, error));
        if (!i || all) SORA_TRY(append_text(row, key, json_array_get(value, i), out, error));
    }
cleanup:
    return status;
}

static sora_status read_row(sora_text_pairs *pairs, const json_row *row, sora_text_buffer *source, sora_text_buffer *target,
                            sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_text_options *o = &pairs->options;
    bool scitldr = !json_object_get(row->object, "text") && json_object_get(row->object, "source");
    const char *source_key = o->source_column ? o->source_column : scitldr ? "source" : "text";
    const char *target_key = o->target_column ? o->target_column : scitldr ? "target" : "title";
    SORA_TRY(take_text(row, source_key, false, true, source, error));
    SORA_TRY(take_text(row, target_key, o->target_optional, false, target, error));
    SORA_TRY(sora_text_add(pairs, row->line, source, target, error));
cleanup:
    return status;
}

static sora_status read_line(sora_text_pairs *pairs, const sora_lines *lines, sora_text_buffer *source, sora_text_buffer *target,
                             sora_error *error)
{
    sora_status status = SORA_OK;
    json_error_t problem;
    json_t *root = json_loadb(lines->text, lines->bytes, JSON_REJECT_DUPLICATES, &problem);
    json_row row = { pairs->path, lines->number, root };
    if (!root)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: line %zu: %s; expected one JSON object a line", pairs->path, lines->number,
                  problem.text);
    if (!json_is_object(root))
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: line %zu: %s; expected one JSON object a line", pairs->path, lines->number,
                  type_name(root));
    SORA_TRY(read_row(pairs, &row, source, target, error));
cleanup:
    json_decref(root);
    return status;
}

sora_status sora_text_read_json(sora_text_pairs *pairs, sora_lines *lines, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_text_buffer source = { 0 }, target = { 0 };
    bool more;
    while (!sora_text_is_full(pairs)) {
        SORA_TRY(sora_lines_next(lines, &more, error));
        if (!more) break;
        if (strspn(lines->text, " \t\r\n") == lines->bytes) continue;
        SORA_TRY(read_line(pairs, lines, &source, &target, error));
    }
cleanup:
    free(source.bytes);
    free(target.bytes);
    return status;
}
