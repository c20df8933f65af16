/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/safetensors.h"

#include "base/file.h"
#include "base/half.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_HEADER ((uint64_t)100000000)

static const struct {
    const char *name;
    sora_file_dtype dtype;
    size_t size;
} dtypes[] = {
    { "F32", SORA_FILE_F32, 4 }, { "F16", SORA_FILE_F16, 2 }, { "BF16", SORA_FILE_BF16, 2 }, { "I32", SORA_FILE_I32, 4 },
    { "I64", SORA_FILE_I64, 8 }, { "F64", SORA_FILE_F64, 8 }, { "U8", SORA_FILE_U8, 1 },
};

struct sora_safetensors {
    void *map;
    size_t bytes;
    json_t *header; /* owns names and metadata */
    sora_file_tensor *tensors;
    size_t count;
};

static size_t dtype_size(sora_file_dtype dtype)
{
    for (size_t i = 0; i < SORA_COUNT(dtypes); i++)
        if (dtypes[i].dtype == dtype) return dtypes[i].size;
    return 0;
}

static const char *dtype_name(sora_file_dtype dtype)
{
    for (size_t i = 0; i < SORA_COUNT(dtypes); i++)
        if (dtypes[i].dtype == dtype) return dtypes[i].name;
    return NULL;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static sora_status read_shape(const char *path, const char *name, const json_t *shape, sora_file_tensor *out, sora_error *error)
{
    if (!json_is_array(shape) || json_array_size(shape) > SORA_SAFETENSORS_MAX_RANK)
        return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %.80s: shape is no list of at most %d numbers", path, name,
                         SORA_SAFETENSORS_MAX_RANK);
    out->rank = (int)json_array_size(shape);
    out->elements = 1;
    for (int i = 0; i < out->rank; i++) {
        json_t *item = json_array_get(shape, (size_t)i);
        json_int_t dim = json_integer_value(item);
        if (!json_is_integer(item) || dim < 0 || (dim > 0 && out->elements > (uint64_t)INT64_MAX / (uint64_t)dim))
            return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %.80s: dimension %d of its shape is no sensible number", path,
                             name, i);
        out->shape[i] = dim;
        out->elements *= (uint64_t)dim;
    }
    return SORA_OK;
}

static sora_status read_tensor(const char *path, const char *name, const json_t *entry, const unsigned char *data, uint64_t room,
                               sora_file_tensor *out, sora_error *error)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    json_t *offsets = json_object_get(entry, "data_offsets"), *from = json_array_get(offsets, 0),
           *to = json_array_get(offsets, 1);
    size_t kind = 0;
    while (kind < SORA_COUNT(dtypes) && (!dtype || strcmp(dtypes[kind].name, dtype) != 0)) kind++;
    if (kind == SORA_COUNT(dtypes))
        return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %.80s: dtype \"%.20s\" is not one that is read here", path, name,
                         dtype ? dtype : "absent");
    *out = (sora_file_tensor) { .name = name, .dtype = dtypes[kind].dtype };
    sora_status status = read_shape(path, name, json_object_get(entry, "shape"), out, error);
    if (status != SORA_OK) return status;
    json_int_t first = json_integer_value(from), last = json_integer_value(to);
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to) || first < 0 ||
        last < first || (uint64_t)last > room)
        return sora_fail(error, SORA_ERROR_INPUT,
                         "%s: tensor %.80s: data_offsets [%lld, %lld] are not within the %llu bytes of data", path, name,
                         (long long)first, (long long)last, (unsigned long long)room);
    if (out->elements > UINT64_MAX / dtypes[kind].size || out->elements * dtypes[kind].size != (uint64_t)(last - first))
        return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %.80s: %lld bytes for %llu elements of %s", path, name,
                         (long long)(last - first), (unsigned long long)out->elements, dtype);
    out->data = data + first;
    return SORA_OK;
}

static int by_offset(const void *a, const void *b)
{
    const sora_file_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    /* An empty tensor shares its offset with the one behind it. */
    return (x->elements > y->elements) - (x->elements < y->elements);
}

static sora_status check_cover(const char *path, const sora_safetensors *file, const unsigned char *data, uint64_t room,
                               sora_error *error)
{
    const unsigned char *expected = data;
    for (size_t i = 0; i < file->count; i++) {
        const sora_file_tensor *t = &file->tensors[i];
        if (t->data != (const void *)expected)
            return sora_fail(error, SORA_ERROR_INPUT, "%s: tensor %.80s: %s", path, t->name,
                             (const unsigned char *)t->data < expected ? "overlaps another one"
                                                                       : "there is a hole before its data");
        expected += t->elements * dtype_size(t->dtype);
    }
    if ((uint64_t)(expected - data) == room) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INPUT, "%s: %llu bytes of data, its tensors take %llu", path, (unsigned long long)room,
                     (unsigned long long)(expected - data));
}

static sora_status read_header(sora_safetensors *file, const char *path, sora_error *error)
{
    sora_status status = SORA_OK;
    uint64_t length;
    json_error_t problem;
    const char *name;
    json_t *entry;
    const unsigned char *map = file->map;
    if (file->bytes < 8)
        return sora_fail(error, SORA_ERROR_INPUT, "%s: %zu bytes are too few for a safetensors file", path, file->bytes);
    static const char pointer[] = "version https://git-lfs";
    if (file->bytes >= sizeof pointer && memcmp(map, pointer, sizeof pointer - 1) == 0)
        return sora_fail(error, SORA_ERROR_INPUT,
                         "%s: a pointer of Git LFS stands in the place of the weights; git lfs pull, in its folder, fetches them",
                         path);
    memcpy(&length, map, sizeof length);
    if (length > MAX_HEADER || length > file->bytes - 8)
        return sora_fail(error, SORA_ERROR_INPUT, "%s: a header of %llu bytes in a file of %zu; no safetensors file", path,
                         (unsigned long long)length, file->bytes);
    file->header = json_loadb((const char *)map + 8, length, JSON_REJECT_DUPLICATES, &problem);
    if (!json_is_object(file->header))
        return sora_fail(error, SORA_ERROR_INPUT, "%s: its header is no JSON object: %s", path,
                         file->header ? "another type" : problem.text);
    const unsigned char *data = map + 8 + length;
    uint64_t room = file->bytes - 8 - length;
    SORA_TRY(sora_allocate(json_object_size(file->header), sizeof *file->tensors, path, &file->tensors, error));
    json_object_foreach(file->header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) {
            const char *key;
            json_t *value;
            if (!json_is_object(entry)) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: __metadata__ is no object", path);
            json_object_foreach(entry, key, value) if (!json_is_string(value))
                SORA_FAIL(error, SORA_ERROR_INPUT, "%s: __metadata__ \"%.80s\" is no string", path, key);
            continue;
        }
        SORA_TRY(read_tensor(path, name, entry, data, room, &file->tensors[file->count], error));
        file->count++;
    }
    qsort(file->tensors, file->count, sizeof *file->tensors, by_offset);
    status = check_cover(path, file, data, room, error);
cleanup:
    return status;
}

sora_status sora_safetensors_open(const char *path, sora_safetensors **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_safetensors *file = NULL;
    struct stat info;
    *out = NULL;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* does not wait for a FIFO's other end */
    if (descriptor < 0)
        return sora_fail(error, errno == ENOENT ? SORA_ERROR_INPUT : SORA_ERROR_IO, "%s: cannot open: %s", path, strerror(errno));
    SORA_TRY(sora_allocate(1, sizeof *file, path, &file, error));
    if (fstat(descriptor, &info) != 0) SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot stat: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode)) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: not a regular file", path);
    if (info.st_size < 8)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: %lld bytes; no safetensors file", path, (long long)info.st_size);
    void *map = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0);
    if (map == MAP_FAILED) SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot map: %s", path, strerror(errno));
    file->map = map;
    file->bytes = (size_t)info.st_size;
    SORA_TRY(read_header(file, path, error));
    *out = file;
    file = NULL;
cleanup:
    close(descriptor);
    sora_safetensors_close(&file);
    return status;
}

void sora_safetensors_close(sora_safetensors **pointer)
{
    sora_safetensors *file = *pointer;
    if (!file) return;
    if (file->map) munmap(file->map, file->bytes);
    json_decref(file->header);
    free(file->tensors);
    free(file);
    *pointer = NULL;
}

size_t sora_safetensors_count(const sora_safetensors *file)
{
    return file->count;
}

const sora_file_tensor *sora_safetensors_at(const sora_safetensors *file, size_t index)
{
    return &file->tensors[index];
}

const sora_file_tensor *sora_safetensors_find(const sora_safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    return NULL;
}

uint64_t sora_file_tensor_bytes(const sora_file_tensor *tensor)
{
    return tensor->elements * dtype_size(tensor->dtype);
}

const char *sora_safetensors_metadata(const sora_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------- */

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

sora_status sora_file_tensor_to_f32(const sora_file_tensor *tensor, float *out, sora_error *error)
{
    const unsigned char *data = tensor->data;
    uint16_t half;
    double wide;
    switch (tensor->dtype) {
    case SORA_FILE_F32: memcpy(out, data, tensor->elements * sizeof *out); return SORA_OK;
    case SORA_FILE_F16: sora_halves_widen(data, tensor->elements, out); return SORA_OK;
    case SORA_FILE_BF16:
        for (uint64_t i = 0; i < tensor->elements; i++) {
            memcpy(&half, data + 2 * i, sizeof half);
            out[i] = from_bits((uint32_t)half << 16);
        }
        return SORA_OK;
    case SORA_FILE_F64:
        for (uint64_t i = 0; i < tensor->elements; i++) {
            memcpy(&wide, data + 8 * i, sizeof wide);
            out[i] = (float)wide;
        }
        return SORA_OK;
    default:
        return sora_fail(error, SORA_ERROR_INPUT, "tensor %s is %s; expected a floating-point type", tensor->name,
                         dtype_name(tensor->dtype));
    }
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

static sora_status make_header(const char *path, const sora_file_tensor *tensors, size_t count, const char *const (*metadata)[2],
                               size_t metadata_count, char **out, sora_error *error)
{
    sora_status status = SORA_OK;
    uint64_t offset = 0;
    json_t *header = json_object(), *notes = json_object();
    for (size_t i = 0; i < metadata_count; i++)
        if (json_object_set_new(notes, metadata[i][0], json_string(metadata[i][1])) != 0)
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: metadata %zu: expected UTF-8 (or there is no host memory)", path, i);
    if (metadata_count > 0) json_object_set(header, "__metadata__", notes);
    for (size_t i = 0; i < count; i++) {
        const sora_file_tensor *t = &tensors[i];
        const char *dtype = dtype_name(t->dtype);
        uint64_t bytes = t->elements * dtype_size(t->dtype);
        if (!t->name || !*t->name || strcmp(t->name, "__metadata__") == 0 || json_object_get(header, t->name))
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: tensor %zu: its name \"%.80s\" is empty or there already", path, i,
                      t->name ? t->name : "");
        if (!dtype || offset % dtype_size(t->dtype) != 0)
            SORA_FAIL(error, SORA_ERROR_ARGUMENT,
                      "%s: tensor %.80s: no such type, or it would stand unaligned; order tensors by size of type", path,
                      t->name);
        json_t *shape = json_array();
        for (int d = 0; d < t->rank; d++) json_array_append_new(shape, json_integer(t->shape[d]));
        json_t *entry = json_pack("{s:s,s:o,s:[I,I]}", "dtype", dtype, "shape", shape, "data_offsets", (json_int_t)offset,
                                  (json_int_t)(offset + bytes));
        if (json_object_set_new(header, t->name, entry) != 0)
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: tensor %zu: its name is no UTF-8 (or there is no host memory)", path, i);
        offset += bytes;
    }
    *out = json_dumps(header, JSON_COMPACT);
    if (!*out) status = sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory for the header", path);
cleanup:
    json_decref(header);
    json_decref(notes);
    return status;
}

sora_status sora_safetensors_write(const char *path, const sora_file_tensor *tensors, size_t count,
                                   const char *const (*metadata)[2], size_t metadata_count, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_file_writer writer = { 0 };
    char *header = NULL;
    SORA_TRY(make_header(path, tensors, count, metadata, metadata_count, &header, error));
    SORA_TRY(sora_file_begin(&writer, path, error));
    size_t length = strlen(header);
    uint64_t padded = (length + 7) / 8 * 8;
    fwrite(&padded, sizeof padded, 1, writer.stream);
    fprintf(writer.stream, "%s%*s", header, (int)(padded - length), "");
    for (size_t i = 0; i < count; i++) fwrite(tensors[i].data, dtype_size(tensors[i].dtype), tensors[i].elements, writer.stream);
    SORA_TRY(sora_file_commit(&writer, error)); /* looks for write errors */
cleanup:
    sora_file_abandon(&writer);
    free(header);
    return status;
}
