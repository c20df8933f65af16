/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/vocabulary.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "data/sentencepiece.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PART 4192u   /* bytes; longer ones are skipped by SentencePiece, as its sums lose their precision */
#define RESERVED 0x2585u /* stands for unknown characters in training */

typedef struct part_list {
    sora_text_part *items;
    size_t count, capacity;
} part_list;

sora_status sora_vocabulary_check(const char *line, size_t bytes, sora_error *error)
{
    if (memchr(line, '\0', bytes)) return sora_fail(error, SORA_ERROR_INPUT, "there is a NUL at byte %zu", strnlen(line, bytes));
    size_t good = sora_utf8_prefix(line, bytes);
    if (good == bytes) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INPUT, "byte %zu (0x%02x) is no UTF-8", good, (unsigned char)line[good]);
}

/* Whether nmt_nfkc leaves anything of a character: it drops or makes spaces of controls, format characters and white space.
 * Narrower than the truth does no harm, wider does: SentencePiece ends the program on text of which nothing is left. */
static bool is_visible(uint32_t code)
{
    static const uint32_t blank[][2] = { { 0, 0x20 },        { 0x7f, 0xa0 },         { 0xad, 0xad },     { 0x34f, 0x34f },
                                         { 0x61c, 0x61c },   { 0x115f, 0x1160 },     { 0x1680, 0x1680 }, { 0x17b4, 0x17b5 },
                                         { 0x180b, 0x180e }, { 0x2000, 0x200f },     { 0x2028, 0x202f }, { 0x205f, 0x206f },
                                         { 0x2581, 0x2581 }, { 0x2585, 0x2585 },     { 0x2800, 0x2800 }, { 0x3000, 0x3000 },
                                         { 0x3164, 0x3164 }, { 0xfe00, 0xfe0f },     { 0xfeff, 0xfeff }, { 0xffa0, 0xffa0 },
                                         { 0xfff0, 0xffff }, { 0xe0000, UINT32_MAX } };
    for (size_t i = 0; i < SORA_COUNT(blank); i++)
        if (code >= blank[i][0] && code <= blank[i][1]) return false;
    return true;
}

static bool is_usable(const char *text, size_t bytes)
{
    bool visible = false;
    uint32_t code;
    for (size_t length; (length = sora_utf8_next(text, bytes, &code)); text += length, bytes -= length) {
        if (code == RESERVED) return false;
        visible |= is_visible(code);
    }
    return visible;
}

/* Up to MAX_PART bytes that end before a space, or one longer word. */
static size_t part_length(const char *text, size_t bytes)
{
    if (bytes <= MAX_PART) return bytes;
    const char *space = memrchr(text, ' ', MAX_PART + 1);
    if (!space || space == text) space = memchr(text + 1, ' ', bytes - 1);
    return space ? (size_t)(space - text) : bytes;
}

static sora_status append_parts(part_list *list, const char *line, sora_error *error)
{
    for (size_t left = strlen(line), bytes; left > 0; line += bytes, left -= bytes) {
        bytes = part_length(line, left);
        if (bytes > MAX_PART || !is_usable(line, bytes)) continue;
        sora_status status = sora_reserve(&list->items, &list->capacity, list->count + 1, sizeof *list->items, error);
        if (status != SORA_OK) return status;
        list->items[list->count++] = (sora_text_part) { line, bytes };
    }
    return SORA_OK;
}

static sora_status check_options(const sora_vocabulary_options *options, sora_error *error)
{
    double coverage = options->coverage;
    if (options->size < 4 || options->size > 1000000)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "a vocabulary of %d pieces; expected 4 to 1000000", options->size);
    if (coverage == 0 || (coverage >= 0.98 && coverage <= 1)) return SORA_OK;
    return sora_fail(error, SORA_ERROR_ARGUMENT, "character coverage %g; expected 0.98 to 1", coverage);
}

sora_status sora_vocabulary_train(const char *const *lines, size_t count, const sora_vocabulary_options *options,
                                  const char *path, sora_error *error)
{
    sora_status status = SORA_OK;
    part_list list = { 0 };
    void *model = NULL;
    size_t bytes;
    char message[512] = "";
    SORA_TRY(check_options(options, error));
    for (size_t i = 0; i < count; i++) {
        status = sora_vocabulary_check(lines[i], strlen(lines[i]), error);
        if (status != SORA_OK) sora_error_prefix(error, "line %zu", i + 1);
        SORA_TRY(status);
        SORA_TRY(append_parts(&list, lines[i], error));
    }
    if (list.count == 0) SORA_FAIL(error, SORA_ERROR_INPUT, "no text to train a vocabulary on in %zu lines", count);
    double coverage = options->coverage == 0 ? 0.9995 : options->coverage;
    if (sora_sentencepiece_train(list.items, list.count, options->size, coverage, &model, &bytes, message, sizeof message) != 0)
        SORA_FAIL(error, SORA_ERROR_INPUT, "no vocabulary of %d pieces from %zu lines: %s", options->size, count, message);
    SORA_TRY(sora_file_write(path, model, bytes, error));
cleanup:
    free(model);
    free(list.items);
    return status;
}
