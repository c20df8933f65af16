/* SPDX-License-Identifier: Apache-2.0 */
#include "data/text_form.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <xxhash.h>

#define MAX_LINE ((size_t)64 << 20)

typedef sora_status (*form_reader)(sora_text_pairs *pairs, sora_lines *lines, sora_error *error);

sora_status sora_text_append(sora_text_buffer *buffer, const char *bytes, size_t count, sora_error *error)
{
    sora_status status = sora_reserve(&buffer->bytes, &buffer->room, buffer->count + count + 1, 1, error);
    if (status != SORA_OK) return status;
    if (count) memcpy(buffer->bytes + buffer->count, bytes, count);
    buffer->count += count;
    return SORA_OK;
}

bool sora_text_is_full(const sora_text_pairs *pairs)
{
    return pairs->options.limit && pairs->count >= pairs->options.limit;
}

static sora_status check_text(const sora_text_pairs *pairs, size_t line, const char *what, const sora_text_buffer *text,
                              size_t *characters, sora_error *error)
{
    size_t valid;
    *characters = sora_utf8_count(text->bytes, text->count, &valid);
    if (valid == text->count) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INPUT, "%s: line %zu: the %s %s at its byte %zu", pairs->path, line, what,
                     text->bytes[valid] ? "is no UTF-8" : "has a NUL", valid);
}

static bool is_blank(const sora_text_buffer *text)
{
    for (size_t i = 0; i < text->count; i++)
        if (!strchr(" \t\r\n\f\v", text->bytes[i])) return false;
    return true;
}

sora_status sora_text_add(sora_text_pairs *pairs, size_t line, const sora_text_buffer *source, const sora_text_buffer *target,
                          sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_text_options *o = &pairs->options;
    size_t source_characters, target_characters;
    sora_text_pair pair = { .source_bytes = source->count, .target_bytes = target->count, .line = line };
    pairs->rows++;
    SORA_TRY(check_text(pairs, line, "source", source, &source_characters, error));
    SORA_TRY(check_text(pairs, line, "target", target, &target_characters, error));
    if (is_blank(source) || (!o->target_optional && is_blank(target))) {
        pairs->empty++;
    } else if (source_characters < o->min_source || (!o->target_optional && target_characters < o->min_target)) {
        pairs->too_short++;
    } else {
        SORA_TRY(sora_reserve(&pairs->items, &pairs->capacity, pairs->count + 1, sizeof *pairs->items, error));
        SORA_TRY(sora_arena_add(&pairs->texts, source->bytes, source->count, &pair.source, error));
        SORA_TRY(sora_arena_add(&pairs->texts, target->bytes, target->count, &pair.target, error));
        pairs->items[pairs->count++] = pair;
    }
cleanup:
    return status;
}

static form_reader reader_of(const char *path)
{
    static const struct {
        const char *extension;
        form_reader read;
    } forms[] = { { ".csv", sora_text_read_csv }, { ".jsonl", sora_text_read_json }, { ".json", sora_text_read_json } };
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    for (size_t i = 0; dot && i < SORA_COUNT(forms); i++)
        if (strcasecmp(dot, forms[i].extension) == 0) return forms[i].read;
    return NULL;
}

sora_status sora_text_open(const char *path, const sora_text_options *options, sora_text_pairs **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_text_pairs *pairs = NULL;
    sora_lines lines = { .path = path, .limit = MAX_LINE };
    form_reader read = reader_of(path);
    *out = NULL;
    if (!read) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: expected a file of texts, .csv, .jsonl or .json", path);
    if (sora_path_is_folder(path)) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: a folder; expected a file of texts", path);
    SORA_TRY(sora_allocate(1, sizeof *pairs, path, &pairs, error));
    SORA_TRY(sora_duplicate(path, &pairs->path, error));
    if (options) pairs->options = *options;
    lines.file = fopen(path, "rbe");
    if (!lines.file)
        SORA_FAIL(error, errno == ENOENT ? SORA_ERROR_INPUT : SORA_ERROR_IO, "%s: cannot open: %s", path, strerror(errno));
    SORA_TRY(read(pairs, &lines, error));
    if (pairs->count == 0)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: no usable pair in %zu rows: %zu empty, %zu too short", path, pairs->rows,
                  pairs->empty, pairs->too_short);
    pairs->options.source_column = pairs->options.target_column = NULL;
    *out = pairs;
    pairs = NULL;
cleanup:
    if (lines.file) fclose(lines.file);
    sora_lines_free(&lines);
    sora_text_close(&pairs);
    return status;
}

void sora_text_close(sora_text_pairs **pairs)
{
    if (*pairs) {
        sora_arena_free(&(*pairs)->texts);
        free((*pairs)->items);
        free((*pairs)->path);
    }
    free(*pairs);
    *pairs = NULL;
}

size_t sora_text_count(const sora_text_pairs *pairs)
{
    return pairs->count;
}

size_t sora_text_skipped(const sora_text_pairs *pairs)
{
    return pairs->empty + pairs->too_short;
}

sora_text_pair sora_text_at(const sora_text_pairs *pairs, size_t index)
{
    return pairs->items[index];
}

/* ---- What is in a set, and that two have nothing in common -------------------------------------------------------- */

typedef struct mark {
    uint64_t hash;
    size_t index;
} mark;

static uint64_t hash_of(const sora_text_pair *pair, uint64_t seed)
{
    return XXH64(pair->target, pair->target_bytes, XXH64(pair->source, pair->source_bytes, seed));
}

uint64_t sora_text_hash(const sora_text_pairs *pairs, uint64_t seed)
{
    for (size_t i = 0; i < pairs->count; i++) seed = hash_of(&pairs->items[i], seed);
    return seed;
}

static int compare_marks(const void *a, const void *b)
{
    const mark *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static bool same_pair(const sora_text_pair *a, const sora_text_pair *b)
{
    return a->source_bytes == b->source_bytes && a->target_bytes == b->target_bytes &&
           memcmp(a->source, b->source, a->source_bytes) == 0 && memcmp(a->target, b->target, a->target_bytes) == 0;
}

/* The first pair of `set` that equals `pair`; NULL: none does. */
static const sora_text_pair *find_pair(const sora_text_pairs *set, const mark *marks, const sora_text_pair *pair)
{
    uint64_t hash = hash_of(pair, 0);
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (marks[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < set->count && marks[low].hash == hash; low++)
        if (same_pair(&set->items[marks[low].index], pair)) return &set->items[marks[low].index];
    return NULL;
}

sora_status sora_text_check_disjoint(const sora_text_pairs *a, const sora_text_pairs *b, sora_error *error)
{
    mark *marks = NULL;
    sora_status status = sora_allocate(b->count, sizeof *marks, b->path, &marks, error);
    if (status != SORA_OK) return status;
    for (size_t i = 0; i < b->count; i++) marks[i] = (mark) { hash_of(&b->items[i], 0), i };
    qsort(marks, b->count, sizeof *marks, compare_marks);
    for (size_t i = 0; i < a->count; i++) {
        const sora_text_pair *twin = find_pair(b, marks, &a->items[i]);
        if (twin)
            SORA_FAIL(error, SORA_ERROR_INPUT, "line %zu of %s and line %zu of %s are the same pair", a->items[i].line, a->path,
                      twin->line, b->path);
    }
cleanup:
    free(marks);
    return status;
}
