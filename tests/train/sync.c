/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine that loses its power leaves: a file's or a folder's content is on the disk before it takes its name, and the name
 * before the next thing is done. The program's own fsync and rename stand before the C library's and tell of each call. */
#include "train/checkpoint.h"
#include "../fixture.h"
#include "train/events.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char calls[4096]; /* a line each, paths from the test's folder on */

static void note(const char *verb, const char *path, const char *rest)
{
    size_t used = strlen(calls), outer = strlen(folder);
    bool inside = strncmp(path, folder, outer) == 0;
    snprintf(calls + used, sizeof calls - used, "%s %s%s\n", verb, inside ? path + outer : path, rest);
}

/* With the bytes that a file has: what is in a stream's buffer is not in the file. */
int fsync(int descriptor)
{
    struct stat info;
    char link[40], path[300] = "", bytes[40] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    if (readlink(link, path, sizeof path - 1) < 0 || fstat(descriptor, &info) != 0) return -1;
    if (S_ISREG(info.st_mode)) snprintf(bytes, sizeof bytes, ": %ld bytes", (long)info.st_size);
    note("fsync", path, bytes);
    return (int)syscall(SYS_fsync, descriptor);
}

int rename(const char *from, const char *to)
{
    char target[300];
    snprintf(target, sizeof target, " to %s", strncmp(to, folder, strlen(folder)) == 0 ? to + strlen(folder) : to);
    note("rename", from, target);
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

/* Every %ld of `format` is the process's number, which names of temporary files have. */
static void expect(const char *format)
{
    char wanted[4096], got[sizeof calls];
    long self = (long)getpid();
    snprintf(wanted, sizeof wanted, format, self, self, self, self);
    memcpy(got, calls, sizeof got);
    calls[0] = '\0'; /* the next test's */
    assert_string_equal(got, wanted);
}

static void test_file(void **state)
{
    (void)state;
    sora_error error;
    OK(sora_file_write(at("file"), "abc", 3, &error));
    expect("fsync /file.%ld.tmp: 3 bytes\nrename /file.%ld.tmp to /file\nfsync \n");
}

static void test_folder(void **state)
{
    (void)state;
    sora_error error;
    OK(sora_folder_create(at("new"), &error));
    OK(sora_folder_create(at("old"), &error));
    OK(sora_folder_replace(at("new"), at("old"), &error));
    expect("fsync /new\nrename /old to /old.%ld.old\nrename /new to /old\nfsync \n");
}

static void test_checkpoint(void **state)
{
    (void)state;
    sora_error error;
    char *path;
    OK(sora_folder_create(at("run"), &error));
    OK(sora_checkpoint_begin(at("run"), 7, &path, &error));
    OK(sora_file_write(at("run/checkpoint-7.tmp/state.json"), "{}", 2, &error));
    OK(sora_checkpoint_commit(at("run"), 7, &error));
    free(path);
    expect("fsync /run/checkpoint-7.tmp/state.json.%ld.tmp: 2 bytes\n"
           "rename /run/checkpoint-7.tmp/state.json.%ld.tmp to /run/checkpoint-7.tmp/state.json\n"
           "fsync /run/checkpoint-7.tmp\n"
           "fsync /run/checkpoint-7.tmp\nrename /run/checkpoint-7.tmp to /run/checkpoint-7\nfsync /run\n");
}

/* A checkpoint's lines are there, too. */
static void test_events(void **state)
{
    (void)state;
    sora_error error;
    sora_events *events;
    OK(sora_events_open(at("events.jsonl"), 0, &events, &error));
    calls[0] = '\0';
    OK(sora_events_write(events, json_pack("{s:i}", "step", 1), &error));
    OK(sora_events_sync(events, &error));
    sora_events_close(&events);
    expect("fsync /events.jsonl: 11 bytes\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_file), cmocka_unit_test(test_folder),
                                        cmocka_unit_test(test_checkpoint), cmocka_unit_test(test_events) };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
