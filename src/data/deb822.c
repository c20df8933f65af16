/* SPDX-License-Identifier: Apache-2.0 */
#include "data/deb822.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static sora_status append(sora_deb822_value *value, const char *text, size_t bytes, sora_error *error)
{
    sora_status status = sora_reserve(&value->text, &value->room, value->bytes + bytes + 2, 1, error);
    if (status != SORA_OK) return status;
    memcpy(value->text + value->bytes, text, bytes);
    value->bytes += bytes;
    value->text[value->bytes] = '\0';
    return SORA_OK;
}

/* A line "Name: value". *current is the value that it begins; NULL: a field that isn't wanted. */
static sora_status begin_field(sora_deb822 *reader, sora_deb822_value **current, sora_error *error)
{
    const sora_lines *lines = &reader->lines;
    const char *colon = memchr(lines->text, ':', lines->bytes);
    *current = NULL;
    if (!colon || colon == lines->text || memchr(lines->text, ' ', (size_t)(colon - lines->text)))
        return sora_fail(error, SORA_ERROR_INPUT, "%s: line %zu: no field; expected \"Name: value\"", lines->path, lines->number);
    for (int i = 0; i < SORA_DEB822_FIELDS; i++) {
        size_t length = strlen(reader->names[i]);
        if (length != (size_t)(colon - lines->text) || strncasecmp(reader->names[i], lines->text, length) != 0) continue;
        if (reader->values[i].found)
            return sora_fail(error, SORA_ERROR_INPUT, "%s: line %zu: a second %s in one record", lines->path, lines->number,
                             reader->names[i]);
        *current = &reader->values[i];
        (*current)->found = true;
        const char *value = colon + 1 + strspn(colon + 1, " \t"), *end = lines->text + lines->bytes;
        while (end > value && (end[-1] == ' ' || end[-1] == '\t')) end--;
        return append(*current, value, (size_t)(end - value), error);
    }
    return SORA_OK;
}

static sora_status check_text(const sora_lines *lines, sora_error *error)
{
    size_t valid;
    sora_utf8_count(lines->text, lines->bytes, &valid);
    if (valid == lines->bytes) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INPUT, "%s: line %zu: %s at byte %zu", lines->path, lines->number,
                     lines->text[valid] ? "no UTF-8" : "a NUL", valid);
}

sora_status sora_deb822_next(sora_deb822 *reader, bool *more, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_lines *lines = &reader->lines;
    sora_deb822_value *current = NULL;
    bool begun = false;
    for (int i = 0; i < SORA_DEB822_FIELDS; i++) {
        reader->values[i].found = false;
        reader->values[i].bytes = 0;
    }
    for (;;) {
        SORA_TRY(sora_lines_next(lines, more, error));
        if (!*more) break;
        sora_lines_trim(lines);
        SORA_TRY(check_text(lines, error));
        if (lines->bytes == 0 && begun) break; /* an empty line ends a record */
        if (lines->bytes == 0) continue;
        bool continues = lines->text[0] == ' ' || lines->text[0] == '\t';
        if (continues && !begun)
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s: line %zu: a continuation line without its field", lines->path, lines->number);
        if (!begun) reader->line = lines->number;
        begun = true;
        if (!continues) {
            SORA_TRY(begin_field(reader, &current, error));
        } else if (current) {
            SORA_TRY(append(current, "\n", 1, error));
            SORA_TRY(append(current, lines->text, lines->bytes, error));
        }
    }
    *more = begun;
cleanup:
    return status;
}

void sora_deb822_free(sora_deb822 *reader)
{
    sora_lines_free(&reader->lines);
    for (int i = 0; i < SORA_DEB822_FIELDS; i++) free(reader->values[i].text);
    memset(reader->values, 0, sizeof reader->values);
}
