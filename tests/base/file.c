/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "../fixture.h"

#include <sys/stat.h>
#include <unistd.h>

/* Regular files alone are read; a FIFO is refused, not waited for. */
static void test_what_is_read(void **state)
{
    (void)state;
    sora_error error;
    unsigned char *bytes;
    size_t count;
    OK(sora_file_write(at("plain"), "abc", 3, &error));
    OK(sora_file_read(at("plain"), 3, &bytes, &count, &error));
    assert_int_equal(count, 3);
    assert_memory_equal(bytes, "abc", 4);
    free(bytes);
    FAILS(sora_file_read(at("plain"), 2, &bytes, &count, &error), SORA_ERROR_INPUT, "plain: 3 bytes, at most 2");
    FAILS(sora_file_read(at("absent"), 2, &bytes, &count, &error), SORA_ERROR_INPUT, "absent: cannot open");
    FAILS(sora_file_read(folder, 2, &bytes, &count, &error), SORA_ERROR_INPUT, "not a regular file");
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    alarm(10);
    FAILS(sora_file_read(at("fifo"), 2, &bytes, &count, &error), SORA_ERROR_INPUT, "fifo: not a regular file");
    alarm(0);
}

/* A file takes the place of another file or of a link to one, and of nothing else. */
static void test_what_is_replaced(void **state)
{
    (void)state;
    sora_error error;
    struct stat info;
    OK(sora_file_write(at("old"), "old", 3, &error));
    OK(sora_file_write(at("old"), "new", 3, &error));
    assert_int_equal(symlink("old", at("link")), 0);
    OK(sora_file_write(at("link"), "new", 3, &error));
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    assert_int_equal(symlink("pipe", at("link to it")), 0);
    FAILS(sora_file_write(at("pipe"), "abc", 3, &error), SORA_ERROR_IO, "pipe: cannot write: not a regular file");
    FAILS(sora_file_write(at("link to it"), "abc", 3, &error), SORA_ERROR_IO, "link to it: cannot write: not a regular file");
    assert_int_equal(lstat(at("pipe"), &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
    FAILS(sora_file_write(folder, "abc", 3, &error), SORA_ERROR_IO, "cannot write: it is a folder");
}

/* Folders on the way are made; an empty path names none. */
static void test_what_is_made(void **state)
{
    (void)state;
    sora_error error;
    OK(sora_folder_create(at("a/b/c"), &error));
    OK(sora_folder_create(at("a/b/c"), &error));
    assert_true(sora_path_is_folder(at("a/b/c")));
    FAILS(sora_folder_create(at("plain"), &error), SORA_ERROR_IO, "plain: cannot create folder");
    FAILS(sora_folder_create("", &error), SORA_ERROR_ARGUMENT, "\"\": expected a folder's path");
}

/* A file that can't come to stand in its place is refused when it is begun: what is to stand in it may take hours. */
static void test_what_is_written(void **state)
{
    (void)state;
    sora_error error;
    sora_file_writer writer;
    OK(sora_folder_create(at("stands"), &error));
    FAILS(sora_file_begin(&writer, at("stands"), &error), SORA_ERROR_IO, "stands: cannot write: it is a folder");
    FAILS(sora_file_begin(&writer, at("absent/file"), &error), SORA_ERROR_IO, "file: cannot write: No such file");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_what_is_read), cmocka_unit_test(test_what_is_made),
                                        cmocka_unit_test(test_what_is_replaced), cmocka_unit_test(test_what_is_written) };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
