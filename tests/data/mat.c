/* SPDX-License-Identifier: Apache-2.0 */
/* MAT files that ask for more than they need. */
#include "data/mat.h"
#include "../fixture.h"

#include <zlib.h>

typedef struct bytes {
    unsigned char *at;
    size_t count;
} bytes;

static void put(bytes *to, const void *data, size_t count)
{
    to->at = realloc(to->at, to->count + count + 1);
    assert_non_null(to->at);
    if (count) memcpy(to->at + to->count, data, count);
    to->count += count;
}

/* A data element; its data is freed. */
static void put_element(bytes *to, uint32_t type, bytes data)
{
    const uint32_t tag[2] = { type, (uint32_t)data.count };
    put(to, tag, sizeof tag);
    put(to, data.at, data.count);
    put(to, "\0\0\0\0\0\0\0", (8 - data.count % 8) % 8);
    free(data.at);
}

static bytes copy(const void *data, size_t count)
{
    bytes out = { 0 };
    put(&out, data, count);
    return out;
}

static bytes zeros(size_t count)
{
    return (bytes) { calloc(count + 1, 1), count };
}

enum { INT8 = 1, UINT8 = 2, INT32 = 5, UINT32 = 6, MATRIX = 14, COMPRESSED = 15, CLASS_STRUCT = 2, CLASS_DOUBLE = 6 };

/* What each array begins with. */
static bytes array(uint32_t kind, int rows, int columns, const char *name)
{
    bytes out = { 0 };
    put_element(&out, UINT32, copy((uint32_t[]) { kind, 0 }, 8));
    put_element(&out, INT32, copy((int32_t[]) { rows, columns }, 8));
    put_element(&out, INT8, copy(name, strlen(name)));
    return out;
}

/* A MATRIX element of so many numbers, each a byte of 0. */
static bytes numbers(const char *name, int rows, size_t count)
{
    bytes out = { 0 }, content = array(CLASS_DOUBLE, rows, 1, name);
    put_element(&content, UINT8, zeros(count));
    put_element(&out, MATRIX, content);
    return out;
}

/* One whose fields have names of one letter and no elements. */
static bytes empty_struct(const char *name, size_t fields)
{
    bytes out = { 0 }, content = array(CLASS_STRUCT, 0, 0, name);
    put_element(&content, INT32, copy((int32_t[]) { 2 }, 4));
    put_element(&content, INT8, zeros(2 * fields));
    put_element(&out, MATRIX, content);
    return out;
}

static void write_mat(const char *path, bytes content, bool compressed)
{
    sora_error error;
    char header[128];
    bytes file = { 0 };
    memset(header, ' ', sizeof header);
    memcpy(header + 124, "\0\1IM", 4);
    put(&file, header, sizeof header);
    if (compressed) {
        uLongf count = compressBound(content.count);
        unsigned char *packed = malloc(count);
        assert_non_null(packed);
        assert_int_equal(compress2(packed, &count, content.at, content.count, 1), Z_OK);
        put(&file, (uint32_t[]) { COMPRESSED, (uint32_t)count }, 8);
        put(&file, packed, count);
        free(packed);
    } else {
        put(&file, content.at, content.count);
    }
    OK(sora_file_write(path, file.at, file.count, &error));
    free(content.at);
    free(file.at);
}

/* A variable that is not asked for is not read: here it could not be. */
static void test_other_variables_are_passed_over(void **state)
{
    (void)state;
    sora_error error;
    sora_mat_array read;
    bytes both = numbers("other", 5, 4), wanted = numbers("wanted", 3, 3);
    put(&both, wanted.at, wanted.count);
    free(wanted.at);
    write_mat(at("both.mat"), both, false);
    OK(sora_mat_read(at("both.mat"), "wanted", &read, &error));
    assert_int_equal(read.rows, 3);
    sora_mat_free(&read);
    FAILS(sora_mat_read(at("both.mat"), "wante", &read, &error), SORA_ERROR_INPUT, "no variable wante");
    FAILS(sora_mat_read(at("both.mat"), "other", &read, &error), SORA_ERROR_INPUT, "disagree");
}

static void test_fields_are_bounded(void **state)
{
    (void)state;
    sora_error error;
    sora_mat_array read;
    write_mat(at("fields.mat"), empty_struct("s", 4096), true);
    OK(sora_mat_read(at("fields.mat"), "s", &read, &error));
    sora_mat_free(&read);
    write_mat(at("fields.mat"), empty_struct("s", 4097), true);
    FAILS(sora_mat_read(at("fields.mat"), "s", &read, &error), SORA_ERROR_INPUT, "4097 fields; expected at most 4096");
}

/* 40 million bytes are as many numbers, 320 MB; 130 million are more than any file of EgoHands has. */
static void test_memory_is_bounded(void **state)
{
    (void)state;
    sora_error error;
    sora_mat_array read;
    write_mat(at("numbers.mat"), numbers("n", 40000000, 40000000), true);
    FAILS(sora_mat_read(at("numbers.mat"), "n", &read, &error), SORA_ERROR_INPUT, "256 MiB of memory");
    write_mat(at("numbers.mat"), numbers("n", 1, 135000000), true);
    FAILS(sora_mat_read(at("numbers.mat"), "n", &read, &error), SORA_ERROR_INPUT, "inflates to more than 128 MiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_variables_are_passed_over),
        cmocka_unit_test(test_fields_are_bounded),
        cmocka_unit_test(test_memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
