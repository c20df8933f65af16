/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors files that are well made, and those that a hostile hand would make. */
#include "soracl/safetensors.h"
#include "../fixture.h"
#include "base/file.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file of that header and so many bytes of data behind it. */
static void write_raw(const char *header, size_t data)
{
    sora_error error;
    size_t length = strlen(header);
    unsigned char *bytes = calloc(8 + length + data, 1);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(bytes + 8, header, length);
    OK(sora_file_write(at("raw"), bytes, 8 + length + data, &error));
    free(bytes);
}

static void test_hostile_headers(void **state)
{
    (void)state;
    sora_error error;
    sora_safetensors *opened;
    const struct {
        const char *header;
        size_t data;
    } bad[] = {
        { "", 0 },
        { "[]", 0 },
        { "{", 0 },
        { "{\"a\":1}", 0 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3 }, /* too short */
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5 }, /* a rest that belongs to none */
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4 }, /* size and shape disagree */
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4 }, /* backwards */
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8 }, /* a hole */
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
          "offsets\":[0,4]}}",
          4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
          "offsets\":[4,8]}}",
          8 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
          "offsets\":[4,8]}}",
          8 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", 4 }, /* times 4 wraps to 4 */
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,18446744073709551615]}}", 4 },
        { "{\"__metadata__\":{\"k\":1},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}} x", 4 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_raw(bad[i].header, bad[i].data);
        memset(&error, 0, sizeof error);
        sora_status status = sora_safetensors_open(at("raw"), &opened, &error);
        if (status != SORA_ERROR_INPUT || !strstr(error.message, "raw")) fail_msg("%s: %s", bad[i].header, error.message);
        assert_null(opened);
    }
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}   ", 4); /* a scalar, padded */
    OK(sora_safetensors_open(at("raw"), &opened, &error));
    assert_int_equal(sora_safetensors_count(opened), 1);
    assert_int_equal(sora_safetensors_at(opened, 0)->elements, 1);
    sora_safetensors_close(&opened);

    const unsigned char lengths[][8] = {
        { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, { 0, 0, 0, 0, 0, 0, 0, 0x80 }, { 3 }, { 0 }
    };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        OK(sora_file_write(at("raw"), lengths[i], 8, &error));
        FAILS(sora_safetensors_open(at("raw"), &opened, &error), SORA_ERROR_INPUT, "raw");
    }
    char deep[20001];
    memset(deep, '[', 20000);
    deep[20000] = '\0';
    write_raw(deep, 0);
    FAILS(sora_safetensors_open(at("raw"), &opened, &error), SORA_ERROR_INPUT, "raw");
}

static void test_round_trip(void **state)
{
    (void)state;
    sora_error error;
    sora_safetensors *opened;
    const float a[6] = { 1, -2, 3.5f, NAN, INFINITY, -0.0f };
    const uint16_t half[3] = { 0x3c00, 0xc100, 0x0001 }, brain[2] = { 0x3f80, 0xc040 };
    const double wide[1] = { 0.1 };
    const sora_file_tensor tensors[] = {
        { .name = "wide", .dtype = SORA_FILE_F64, .rank = 0, .elements = 1, .data = wide },
        { .name = "z\"quoted\\", .dtype = SORA_FILE_F32, .rank = 2, .shape = { 2, 3 }, .elements = 6, .data = a },
        { .name = "half", .dtype = SORA_FILE_F16, .rank = 1, .shape = { 3 }, .elements = 3, .data = half },
        { .name = "brain", .dtype = SORA_FILE_BF16, .rank = 1, .shape = { 2 }, .elements = 2, .data = brain },
    };
    const char *const metadata[][2] = { { "format", "pt" }, { "note", "ä\n" } };
    float out[6];
    OK(sora_safetensors_write(at("good"), tensors, 4, metadata, 2, &error));
    OK(sora_safetensors_open(at("good"), &opened, &error));
    assert_string_equal(sora_safetensors_metadata(opened, "note"), "ä\n");
    assert_null(sora_safetensors_metadata(opened, "absent"));
    assert_null(sora_safetensors_find(opened, "absent"));
    OK(sora_file_tensor_to_f32(sora_safetensors_find(opened, "z\"quoted\\"), out, &error));
    assert_memory_equal(out, a, sizeof a);
    OK(sora_file_tensor_to_f32(sora_safetensors_find(opened, "half"), out, &error));
    assert_true(out[0] == 1 && out[1] == -2.5f && out[2] == 0x1p-24f);
    OK(sora_file_tensor_to_f32(sora_safetensors_find(opened, "brain"), out, &error));
    assert_true(out[0] == 1 && out[1] == -3);
    OK(sora_file_tensor_to_f32(sora_safetensors_find(opened, "wide"), out, &error));
    assert_true(out[0] == 0.1f);
    sora_safetensors_close(&opened);

    sora_file_tensor twice[] = { tensors[2], tensors[2] };
    FAILS(sora_safetensors_write(at("bad"), twice, 2, NULL, 0, &error), SORA_ERROR_ARGUMENT, "half");
    assert_false(sora_path_exists(at("bad")));
    sora_file_tensor latin = tensors[2];
    latin.name = "b\xff";
    FAILS(sora_safetensors_write(at("bad"), &latin, 1, NULL, 0, &error), SORA_ERROR_ARGUMENT, "tensor 0: its name is no UTF-8");
    const char *const notes[2][2] = { { "\xff", "v" }, { "k", "v\xff" } };
    for (int i = 0; i < 2; i++)
        FAILS(sora_safetensors_write(at("bad"), tensors, 1, notes + i, 1, &error), SORA_ERROR_ARGUMENT,
              "metadata 0: expected UTF-8");
    assert_false(sora_path_exists(at("bad")));
    FAILS(sora_safetensors_write("/proc/absent/x", tensors, 1, NULL, 0, &error), SORA_ERROR_IO, "/proc/absent");
}

/* A full disk: the old file stays. /dev/full refuses every write, so a folder on it can't be had; a limit on file sizes is the
 * same to the writer. */
static void test_full_disk(void **state)
{
    (void)state;
    sora_error error;
    sora_safetensors *opened;
    static float large[1 << 16];
    const float one = 1;
    const sora_file_tensor small = {
        .name = "a", .dtype = SORA_FILE_F32, .rank = 1, .shape = { 1 }, .elements = 1, .data = &one
    };
    const sora_file_tensor big = {
        .name = "a", .dtype = SORA_FILE_F32, .rank = 1, .shape = { 1 << 16 }, .elements = 1 << 16, .data = large
    };
    struct rlimit before, limit;
    char **names;
    size_t count;
    OK(sora_safetensors_write(at("kept"), &small, 1, NULL, 0, &error));
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 4096;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    memset(&error, 0, sizeof error);
    sora_status status = sora_safetensors_write(at("kept"), &big, 1, NULL, 0, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, SORA_ERROR_IO);
    assert_non_null(strstr(error.message, "kept"));
    OK(sora_safetensors_open(at("kept"), &opened, &error));
    assert_int_equal(sora_safetensors_find(opened, "a")->elements, 1);
    sora_safetensors_close(&opened);
    OK(sora_folder_list(folder, &names, &count, &error));
    for (size_t i = 0; i < count; i++)
        if (strncmp(names[i], "kept", 4) == 0 && strcmp(names[i], "kept") != 0) fail_msg("%s was left", names[i]);
    sora_names_free(names, count);
}

/* A FIFO is refused, not waited for. */
static void test_fifo(void **state)
{
    (void)state;
    sora_error error;
    sora_safetensors *opened;
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    alarm(10);
    FAILS(sora_safetensors_open(at("fifo"), &opened, &error), SORA_ERROR_INPUT, "fifo: not a regular file");
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_fifo),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
