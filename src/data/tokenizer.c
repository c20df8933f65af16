/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/tokenizer.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "data/sentencepiece.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_MODEL ((size_t)64 << 20)

struct sora_tokenizer {
    sora_sentencepiece *model;
    int pieces;
};

/* The file of a path that may be its folder. Transformers of late writes tokenizer.json alone. */
static sora_status find_file(const char *path, char **file, sora_error *error)
{
    sora_status status = SORA_OK;
    char *other = NULL;
    if (!sora_path_is_folder(path)) return sora_duplicate(path, file, error);
    SORA_TRY(sora_format(file, error, "%s/spiece.model", path));
    SORA_TRY(sora_format(&other, error, "%s/tokenizer.json", path));
    if (!sora_path_exists(*file) && sora_path_exists(other))
        SORA_FAIL(
            error, SORA_ERROR_INPUT,
            "%s: there is no such file; %s is not read here: copy the spiece.model of the model that this one was trained from",
            *file, other);
cleanup:
    free(other);
    return status;
}

sora_status sora_tokenizer_create(const char *path, sora_tokenizer **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_tokenizer *tokenizer = NULL;
    unsigned char *bytes = NULL;
    size_t count;
    int specials[3];
    char *file = NULL, message[256] = "";
    *out = NULL;
    SORA_TRY(find_file(path, &file, error));
    SORA_TRY(sora_file_read(file, MAX_MODEL, &bytes, &count, error));
    SORA_TRY(sora_allocate(1, sizeof *tokenizer, file, &tokenizer, error));
    tokenizer->model = sora_sentencepiece_open(bytes, count, message, sizeof message);
    if (!tokenizer->model) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: no SentencePiece model: %s", file, message);
    tokenizer->pieces = sora_sentencepiece_size(tokenizer->model);
    sora_sentencepiece_specials(tokenizer->model, specials);
    if (specials[0] != SORA_TOKEN_PAD || specials[1] != SORA_TOKEN_EOS || specials[2] != SORA_TOKEN_UNKNOWN)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: pad %d, eos %d, unknown %d; T5's are 0, 1, 2", file, specials[0], specials[1],
                  specials[2]);
    *out = tokenizer;
    tokenizer = NULL;
cleanup:
    sora_tokenizer_destroy(&tokenizer);
    free(bytes);
    free(file);
    return status;
}

void sora_tokenizer_destroy(sora_tokenizer **tokenizer)
{
    if (*tokenizer) sora_sentencepiece_close((*tokenizer)->model);
    free(*tokenizer);
    *tokenizer = NULL;
}

int sora_tokenizer_size(const sora_tokenizer *tokenizer)
{
    return tokenizer->pieces + SORA_TOKENIZER_SENTINELS;
}

/* ---- Text to ids ------------------------------------------------------------------------------------------------- */

typedef struct id_list {
    int32_t *items;
    size_t count, capacity;
} id_list;

static sora_status append(id_list *list, const int32_t *ids, size_t count, sora_error *error)
{
    sora_status status = sora_reserve(&list->items, &list->capacity, list->count + count + 1, sizeof *list->items, error);
    if (status != SORA_OK) return status;
    if (count) memcpy(list->items + list->count, ids, count * sizeof *ids);
    list->count += count;
    return SORA_OK;
}

static sora_status append_text(const sora_tokenizer *tokenizer, id_list *list, const char *text, size_t bytes, sora_error *error)
{
    int32_t *ids = NULL;
    size_t count = 0;
    if (bytes == 0) return SORA_OK;
    if (sora_sentencepiece_encode(tokenizer->model, text, bytes, &ids, &count) != 0)
        return sora_fail(error, SORA_ERROR_MEMORY, "a text of %zu bytes could not be tokenized", bytes);
    sora_status status = append(list, ids, count, error);
    free(ids);
    return status;
}

/* The id of a special token that starts at text, with its length; −1: there is none. */
static int32_t special_at(const sora_tokenizer *tokenizer, const char *text, size_t left, size_t *length, bool *sentinel)
{
    static const struct {
        const char *text;
        int32_t id;
    } named[] = { { "</s>", SORA_TOKEN_EOS }, { "<pad>", SORA_TOKEN_PAD }, { "<unk>", SORA_TOKEN_UNKNOWN } };
    static const char prefix[] = "<extra_id_";
    *sentinel = false;
    for (size_t i = 0; i < SORA_COUNT(named); i++) {
        *length = strlen(named[i].text);
        if (left >= *length && memcmp(text, named[i].text, *length) == 0) return named[i].id;
    }
    size_t at = sizeof prefix - 1, digits = at;
    int k = 0;
    if (left <= at || memcmp(text, prefix, at) != 0) return -1;
    while (at < left && at < digits + 2 && isdigit((unsigned char)text[at])) k = 10 * k + (text[at++] - '0');
    bool leading_zero = at > digits + 1 && text[digits] == '0';
    if (at == digits || leading_zero || at >= left || text[at] != '>') return -1;
    *length = at + 1;
    *sentinel = true;
    return tokenizer->pieces + SORA_TOKENIZER_SENTINELS - 1 - k;
}

sora_status sora_tokenizer_encode(const sora_tokenizer *tokenizer, const char *text, size_t bytes, int32_t **ids, size_t *count,
                                  sora_error *error)
{
    sora_status status = SORA_OK;
    id_list list = { 0 };
    size_t from = 0;
    *ids = NULL;
    *count = 0;
    if (memchr(text, '\0', bytes))
        return sora_fail(error, SORA_ERROR_INPUT, "the text has a NUL at byte %zu", strnlen(text, bytes));
    size_t valid = sora_utf8_prefix(text, bytes);
    if (valid < bytes)
        return sora_fail(error, SORA_ERROR_INPUT, "byte %zu (0x%02x) of the text is no UTF-8", valid, (unsigned char)text[valid]);
    for (size_t at = 0; at < bytes;) {
        size_t length, end = at;
        bool sentinel;
        int32_t id = text[at] == '<' ? special_at(tokenizer, text + at, bytes - at, &length, &sentinel) : -1;
        if (id < 0) {
            at++;
            continue;
        }
        while (sentinel && end > from && isspace((unsigned char)text[end - 1])) end--;
        SORA_TRY(append_text(tokenizer, &list, text + from, end - from, error));
        SORA_TRY(append(&list, &id, 1, error));
        at += length;
        while (sentinel && at < bytes && isspace((unsigned char)text[at])) at++;
        from = at;
    }
    SORA_TRY(append_text(tokenizer, &list, text + from, bytes - from, error));
    SORA_TRY(append(&list, NULL, 0, error)); /* never NULL */
    *ids = list.items;
    *count = list.count;
    list.items = NULL;
cleanup:
    free(list.items);
    return status;
}

/* ---- Ids to text ------------------------------------------------------------------------------------------------- */

static sora_status write_pieces(const sora_tokenizer *tokenizer, FILE *out, const int32_t *ids, size_t count, sora_error *error)
{
    char *text = NULL;
    if (count == 0) return SORA_OK;
    if (sora_sentencepiece_decode(tokenizer->model, ids, count, &text) != 0)
        return sora_fail(error, SORA_ERROR_MEMORY, "%zu ids could not be decoded", count);
    fputs(text, out);
    free(text);
    return SORA_OK;
}

/* More bytes of a text than this many a token are rarely needed; SentencePiece's longest pieces have 16 or so. */
#define TOKEN_BYTES 64

sora_status sora_tokenizer_source(const sora_tokenizer *tokenizer, const char *prefix, const char *text, size_t bytes, int most,
                                  int32_t **ids, int *count, sora_error *error)
{
    sora_status status = SORA_OK;
    char *whole = NULL;
    size_t found, kept, front = strlen(prefix);
    *ids = NULL;
    if (most < 1) return sora_fail(error, SORA_ERROR_ARGUMENT, "at most %d ids; expected at least 1, the eos", most);
    SORA_TRY(sora_allocate(front + bytes + 1, 1, "text", &whole, error));
    memcpy(whole, prefix, front);
    memcpy(whole + front, text, bytes);
    /* A token may stand for any number of bytes, of spaces or of what is unknown, so more are taken until there are enough. A cut
     * is at a space, which no piece goes across: within a word it may change every token of the word. */
    for (size_t limit = (size_t)most * TOKEN_BYTES;; limit *= 2) {
        kept = SORA_MIN(bytes, limit);
        while (kept > 0 && kept < bytes && text[kept] != ' ') kept--;
        if (kept == 0 && bytes > 0) continue;
        SORA_TRY(sora_tokenizer_encode(tokenizer, whole, front + kept, ids, &found, error));
        if (kept == bytes || found >= (size_t)most) break;
        free(*ids);
        *ids = NULL;
    }
    *count = (int)SORA_MIN(found, (size_t)most - 1) + 1;
    int32_t *room = realloc(*ids, (size_t)*count * sizeof **ids);
    if (!room) SORA_FAIL(error, SORA_ERROR_MEMORY, "no host memory for %d ids", *count);
    *ids = room;
    room[*count - 1] = SORA_TOKEN_EOS;
cleanup:
    if (status != SORA_OK) {
        free(*ids);
        *ids = NULL;
    }
    free(whole);
    return status;
}

sora_status sora_tokenizer_decode(const sora_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
                                  sora_error *error)
{
    sora_status status = SORA_OK;
    size_t bytes, run = 0;
    int32_t *pieces = NULL;
    FILE *out = NULL;
    *text = NULL;
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= sora_tokenizer_size(tokenizer))
            return sora_fail(error, SORA_ERROR_INPUT, "id %d at %zu; expected 0 to %d", ids[i], i,
                             sora_tokenizer_size(tokenizer) - 1);
    SORA_TRY(sora_allocate(count, sizeof *pieces, "ids", &pieces, error));
    out = open_memstream(text, &bytes);
    if (!out) SORA_FAIL(error, SORA_ERROR_MEMORY, "no memory for a text of %zu ids", count);
    for (size_t i = 0; i < count && ids[i] != SORA_TOKEN_EOS; i++) {
        if (ids[i] == SORA_TOKEN_PAD) continue;
        if (ids[i] < tokenizer->pieces) {
            pieces[run++] = ids[i];
            continue;
        }
        SORA_TRY(write_pieces(tokenizer, out, pieces, run, error));
        fprintf(out, "%s<extra_id_%d>%s", ftell(out) > 0 ? " " : "", tokenizer->pieces + SORA_TOKENIZER_SENTINELS - 1 - ids[i],
                i + 1 < count && ids[i + 1] > SORA_TOKEN_EOS && ids[i + 1] < tokenizer->pieces ? " " : "");
        run = 0;
    }
    SORA_TRY(write_pieces(tokenizer, out, pieces, run, error));
cleanup:
    if (out && fclose(out) != 0 && status == SORA_OK)
        status = sora_fail(error, SORA_ERROR_MEMORY, "no memory for a text of %zu ids", count);
    if (status != SORA_OK) {
        free(*text);
        *text = NULL;
    }
    free(pieces);
    return status;
}

sora_status sora_tokenizer_decode_generated(const sora_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
                                            sora_error *error)
{
    int32_t *known = NULL;
    size_t n = 0;
    *text = NULL;
    sora_status status = sora_allocate(count, sizeof *known, "ids", &known, error);
    for (size_t i = 0; status == SORA_OK && i < count; i++)
        if (ids[i] > SORA_TOKEN_UNKNOWN && ids[i] < tokenizer->pieces) known[n++] = ids[i];
    if (status == SORA_OK) status = sora_tokenizer_decode(tokenizer, known, n, text, error);
    free(known);
    return status;
}
