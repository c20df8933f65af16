/* SPDX-License-Identifier: Apache-2.0 */
#include "data/mat.h"

#include "base/file.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define HEADER_BYTES 128
#define MAX_FILE ((size_t)256 << 20)
/* EgoHands' largest polygons.mat has 2 MB, all 48 together, as its metadata.mat has them, 50 MB. */
#define MAX_INFLATED ((size_t)128 << 20)
#define MAX_DEPTH 8
#define MAX_FIELDS 4096 /* EgoHands' structs have 4 to 7 */
/* What arrays may take in memory. In a file a number may be a byte, an array 8, and both compressed a thousand times. */
#define MAX_MEMORY ((size_t)256 << 20)

enum data_type {
    INT8 = 1,
    UINT8,
    INT16,
    UINT16,
    INT32,
    UINT32,
    SINGLE,
    DOUBLE = 9,
    INT64 = 12,
    UINT64,
    MATRIX,
    COMPRESSED,
    UTF8,
    UTF16,
    UTF32
};
enum array_class { CLASS_STRUCT = 2, CLASS_CHAR = 4, CLASS_DOUBLE = 6, CLASS_UINT64 = 15 };
#define FLAG_COMPLEX 0x0800u

/* Bytes that are left to read, all of them there. */
typedef struct cursor {
    const unsigned char *at;
    size_t left;
    const char *path; /* for messages */
    size_t *memory;   /* how much of MAX_MEMORY is left */
} cursor;

typedef struct element {
    uint32_t type;
    cursor data;
} element;

static sora_status broken(const cursor *c, sora_error *error, const char *what)
{
    return sora_fail(error, SORA_ERROR_INPUT, "%s: broken MAT file: %s", c->path, what);
}

static sora_status allocate(cursor *c, size_t count, size_t size, void *out, sora_error *error)
{
    if (count > *c->memory / size)
        return sora_fail(error, SORA_ERROR_INPUT, "%s: its arrays take more than %zu MiB of memory, which are accepted", c->path,
                         MAX_MEMORY >> 20);
    *c->memory -= count * size;
    return sora_allocate(count, size, c->path, out, error);
}

static uint32_t word(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void advance(cursor *c, size_t bytes)
{
    c->at += bytes;
    c->left -= bytes;
}

/* Takes one data element off the front: tag, data, padding to 8 bytes. */
static sora_status take(cursor *c, element *out, sora_error *error)
{
    if (c->left < 8) return broken(c, error, "it ends inside a data element");
    uint32_t type = word(c->at), bytes = word(c->at + 4);
    if (type >> 16) { /* small: type, size and data in 8 bytes */
        bytes = type >> 16;
        if (bytes > 4) return broken(c, error, "a small data element of more than 4 bytes");
        *out = (element) { type & 0xffff, { c->at + 4, bytes, c->path, c->memory } };
        advance(c, 8);
        return SORA_OK;
    }
    advance(c, 8);
    if (bytes > c->left) return broken(c, error, "a data element reaches beyond its end");
    *out = (element) { type, { c->at, bytes, c->path, c->memory } };
    size_t padded = type == COMPRESSED ? bytes : ((size_t)bytes + 7) / 8 * 8;
    advance(c, SORA_MIN(padded, c->left));
    return SORA_OK;
}

static size_t size_of(uint32_t type)
{
    switch (type) {
    case INT8:
    case UINT8:
    case UTF8: return 1;
    case INT16:
    case UINT16:
    case UTF16: return 2;
    case INT32:
    case UINT32:
    case UTF32:
    case SINGLE: return 4;
    case DOUBLE:
    case INT64:
    case UINT64: return 8;
    default: return 0;
    }
}

static double number_at(uint32_t type, const unsigned char *at)
{
    uint64_t low = word(at), high = size_of(type) == 8 ? word(at + 4) : 0, bits = low | high << 32;
    float single;
    double wide;
    switch (type) {
    case INT8: return (int8_t)low;
    case UINT8:
    case UTF8: return (uint8_t)low;
    case INT16: return (int16_t)low;
    case UINT16:
    case UTF16: return (uint16_t)low;
    case INT32: return (int32_t)low;
    case SINGLE: return memcpy(&single, &low, sizeof single), single;
    case DOUBLE: return memcpy(&wide, &bits, sizeof wide), wide;
    case INT64: return (double)(int64_t)bits;
    case UINT64: return (double)bits;
    default: return (double)low;
    }
}

/* Numbers may be stored in a smaller type than their class (doubles as bytes, where they are whole). */
static sora_status read_values(cursor *c, sora_mat_array *out, sora_error *error)
{
    element data;
    size_t count = out->rows * out->columns;
    sora_status status = take(c, &data, error);
    if (status != SORA_OK) return status;
    size_t size = size_of(data.type);
    if (size == 0 || data.data.left != count * size) return broken(c, error, "an array and its dimensions disagree");
    if (count == 0) return SORA_OK;
    status = allocate(c, count, sizeof *out->values, &out->values, error);
    if (status != SORA_OK) return status;
    for (size_t i = 0; i < count; i++) {
        unsigned char bytes[8] = { 0 };
        memcpy(bytes, data.data.at + i * size, size);
        out->values[i] = number_at(data.type, bytes);
    }
    return SORA_OK;
}

static sora_status read_array(cursor c, int depth, const char *wanted, bool *found, sora_mat_array *out, sora_error *error);

static sora_status read_struct(cursor *c, int depth, sora_mat_array *out, sora_error *error)
{
    sora_status status = SORA_OK;
    element length, names, item;
    size_t count = out->rows * out->columns;
    SORA_TRY(take(c, &length, error));
    SORA_TRY(take(c, &names, error));
    size_t room = length.type == INT32 && length.data.left == 4 ? word(length.data.at) : 0;
    if (room < 1 || room > sizeof *out->fields || names.type != INT8 || names.data.left % room != 0)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: broken MAT file: field names of %zu bytes", c->path, room);
    size_t fields = names.data.left / room;
    if (fields > MAX_FIELDS)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: a struct of %zu fields; expected at most %d", c->path, fields, MAX_FIELDS);
    /* Each item takes 8 bytes at least, so that the file's size bounds what is asked for here. */
    if (fields > 0 && count > c->left / 8 / fields) SORA_TRY(broken(c, error, "a struct array larger than the file"));
    SORA_TRY(allocate(c, fields, sizeof *out->fields, &out->fields, error));
    SORA_TRY(allocate(c, count * fields, sizeof *out->items, &out->items, error));
    out->field_count = fields;
    for (size_t f = 0; f < fields; f++) memcpy(out->fields[f], names.data.at + f * room, room - 1);
    for (size_t i = 0; i < count * fields; i++) {
        bool found;
        SORA_TRY(take(c, &item, error));
        if (item.type != MATRIX) SORA_TRY(broken(c, error, "a field that is no array"));
        SORA_TRY(read_array(item.data, depth + 1, NULL, &found, &out->items[i], error));
    }
cleanup:
    return status;
}

/* The contents of a MATRIX element: flags, dimensions, name, then by class. wanted: where it has another name, *found is false and
 * nothing is read; NULL: whatever its name. */
static sora_status read_array(cursor c, int depth, const char *wanted, bool *found, sora_mat_array *out, sora_error *error)
{
    element flags, dimensions, label;
    *found = false;
    *out = (sora_mat_array) { 0 };
    if (c.left == 0) return SORA_OK; /* how MATLAB writes [] */
    if (depth > MAX_DEPTH) return broken(&c, error, "nested too deeply");
    sora_status status = take(&c, &flags, error);
    if (status == SORA_OK) status = take(&c, &dimensions, error);
    if (status == SORA_OK) status = take(&c, &label, error);
    if (status != SORA_OK) return status;
    if (flags.type != UINT32 || flags.data.left != 8 || dimensions.type != INT32 || dimensions.data.left < 8 ||
        dimensions.data.left % 4 != 0 || label.type != INT8)
        return broken(&c, error, "an array without flags, dimensions or name");
    *found = !wanted || (label.data.left == strlen(wanted) && memcmp(label.data.at, wanted, label.data.left) == 0);
    if (!*found) return SORA_OK;
    out->rows = word(dimensions.data.at);
    out->columns = 1;
    for (size_t i = 4; i < dimensions.data.left; i += 4) {
        size_t d = word(dimensions.data.at + i);
        if (out->rows > MAX_INFLATED || d > MAX_INFLATED || (d && out->columns > MAX_INFLATED / d))
            return broken(&c, error, "absurd dimensions");
        out->columns *= d;
    }
    if (out->columns && out->rows > MAX_INFLATED / out->columns) return broken(&c, error, "absurd dimensions");
    uint32_t kind = word(flags.data.at) & 0xff;
    bool complex = word(flags.data.at) & FLAG_COMPLEX;
    out->kind = kind == CLASS_STRUCT ? SORA_MAT_STRUCT : kind == CLASS_CHAR ? SORA_MAT_TEXT : SORA_MAT_NUMBERS;
    if (kind == CLASS_STRUCT) return read_struct(&c, depth, out, error);
    if ((kind < CLASS_DOUBLE && kind != CLASS_CHAR) || kind > CLASS_UINT64 || complex) {
        if (out->rows * out->columns > 0) out->kind = SORA_MAT_OTHER;
        return SORA_OK;
    }
    return read_values(&c, out, error);
}

/* A compressed element into memory that grows with what comes out, *bytes the caller's. */
static sora_status inflate_element(const cursor *from, unsigned char **bytes, size_t *count, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t room = 0;
    z_stream stream = { .next_in = (unsigned char *)from->at, .avail_in = (uInt)from->left };
    *bytes = NULL;
    *count = 0;
    if (inflateInit(&stream) != Z_OK) return sora_fail(error, SORA_ERROR_MEMORY, "%s: no memory to decompress", from->path);
    int code = Z_OK;
    while (code == Z_OK) {
        if (*count == MAX_INFLATED)
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s: broken MAT file: it inflates to more than %zu MiB", from->path,
                      MAX_INFLATED >> 20);
        if (*count == room) SORA_TRY(sora_reserve(bytes, &room, SORA_MAX(4096, 2 * room), 1, error));
        size_t step = SORA_MIN(SORA_MIN(room, MAX_INFLATED) - *count, (size_t)1 << 24);
        stream.next_out = *bytes + *count;
        stream.avail_out = (uInt)step;
        code = inflate(&stream, Z_NO_FLUSH);
        *count += step - stream.avail_out;
    }
    if (code != Z_STREAM_END) SORA_TRY(broken(from, error, "its compressed data is damaged or ends too early"));
cleanup:
    inflateEnd(&stream);
    return status;
}

static sora_status find_variable(cursor c, const char *variable, sora_mat_array *out, sora_error *error)
{
    while (c.left >= 8) {
        unsigned char *inflated = NULL;
        size_t bytes = 0;
        bool found = false;
        element item;
        sora_status status = take(&c, &item, error);
        if (status == SORA_OK && item.type == COMPRESSED) {
            status = inflate_element(&item.data, &inflated, &bytes, error);
            cursor inside = { inflated, bytes, c.path, c.memory };
            if (status == SORA_OK) status = take(&inside, &item, error);
        }
        if (status == SORA_OK && item.type == MATRIX) status = read_array(item.data, 0, variable, &found, out, error);
        free(inflated);
        if (status != SORA_OK || found) return status;
    }
    return sora_fail(error, SORA_ERROR_INPUT, "%s: no variable %s in it", c.path, variable);
}

sora_status sora_mat_read(const char *path, const char *variable, sora_mat_array *out, sora_error *error)
{
    unsigned char *bytes = NULL;
    size_t count, memory = MAX_MEMORY;
    *out = (sora_mat_array) { 0 };
    sora_status status = sora_file_read(path, MAX_FILE, &bytes, &count, error);
    if (status != SORA_OK) return status;
    if (count >= 10 && memcmp(bytes, "MATLAB 7.3", 10) == 0)
        status =
            sora_fail(error, SORA_ERROR_INPUT, "%s: a MAT file of version 7.3; expected version 7 or older (save -v7)", path);
    else if (count < HEADER_BYTES || memcmp(bytes + HEADER_BYTES - 4, "\0\1IM", 4) != 0)
        status = sora_fail(error, SORA_ERROR_INPUT, "%s: no little-endian MAT file of version 5 to 7", path);
    else
        status = find_variable((cursor) { bytes + HEADER_BYTES, count - HEADER_BYTES, path, &memory }, variable, out, error);
    free(bytes);
    if (status != SORA_OK) sora_mat_free(out);
    return status;
}

void sora_mat_free(sora_mat_array *array)
{
    for (size_t i = 0; array->items && i < array->rows * array->columns * array->field_count; i++)
        sora_mat_free(&array->items[i]);
    free(array->items);
    free(array->fields);
    free(array->values);
    *array = (sora_mat_array) { 0 };
}

const sora_mat_array *sora_mat_field(const sora_mat_array *array, size_t index, const char *name)
{
    for (size_t f = 0; f < array->field_count; f++)
        if (strcmp(array->fields[f], name) == 0) return &array->items[index * array->field_count + f];
    return NULL;
}
