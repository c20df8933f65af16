/* SPDX-License-Identifier: Apache-2.0 */
#include "data/headlines_lists.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "data/deb822.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_LINE ((size_t)4 << 20) /* Debian's longest, a Provides, has some 50 KiB */
#define HELPER "/usr/lib/apt/apt-helper"
#define REMEDY "apt-get -o Acquire::Languages=en update (as root) gets them"

extern char **environ;

/* ---- A list as a stream ------------------------------------------------------------------------------------------ */

typedef struct list_stream {
    FILE *file;
    pid_t helper; /* 0: a plain file */
} list_stream;

static bool is_compressed(const char *name)
{
    static const char *const endings[] = { ".lz4", ".xz", ".gz", ".bz2", ".zst", ".lzma" };
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < SORA_COUNT(endings); i++)
        if (strcmp(dot, endings[i]) == 0) return true;
    return false;
}

/* apt's own reader knows what apt compresses its lists with; its text comes through a pipe. */
static sora_status spawn_helper(const char *path, int write_end, pid_t *helper, sora_error *error)
{
    posix_spawn_file_actions_t actions;
    char *const words[] = { HELPER, "cat-file", (char *)path, NULL };
    if (posix_spawn_file_actions_init(&actions) != 0) return sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory", path);
    int failed = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!failed) failed = posix_spawn_file_actions_adddup2(&actions, write_end, 1);
    if (!failed) failed = posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    if (!failed) failed = posix_spawn(helper, HELPER, &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (!failed) return SORA_OK;
    *helper = 0;
    return sora_fail(error, failed == ENOENT ? SORA_ERROR_INPUT : SORA_ERROR_IO,
                     "%s: compressed, and apt's reader for it cannot be started: " HELPER ": %s", path, strerror(failed));
}

static sora_status open_list(const char *path, list_stream *stream, sora_error *error)
{
    sora_status status = SORA_OK;
    int ends[2] = { -1, -1 };
    *stream = (list_stream) { 0 };
    if (is_compressed(path)) {
        if (pipe2(ends, O_CLOEXEC) != 0) SORA_FAIL(error, SORA_ERROR_IO, "%s: no pipe: %s", path, strerror(errno));
        SORA_TRY(spawn_helper(path, ends[1], &stream->helper, error));
        stream->file = fdopen(ends[0], "rb");
        if (stream->file) ends[0] = -1;
    } else {
        stream->file = fopen(path, "rbe");
    }
    if (!stream->file) SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot open: %s", path, strerror(errno));
cleanup:
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0) close(ends[i]);
    return status;
}

/* Says where the helper failed, unless there is an error already: a helper whose text nobody reads any more fails, too. */
static sora_status close_list(list_stream *stream, const char *path, sora_status status, sora_error *error)
{
    int code = 0;
    pid_t ended = stream->helper;
    if (stream->file) fclose(stream->file);
    if (stream->helper) {
        do ended = waitpid(stream->helper, &code, 0);
        while (ended < 0 && errno == EINTR);
    }
    if (status != SORA_OK || (ended == stream->helper && code == 0)) return status;
    return sora_fail(error, SORA_ERROR_INPUT, "%s: apt-helper cat-file cannot read it (broken?)", path);
}

/* ---- Records ----------------------------------------------------------------------------------------------------- */

static sora_status need_field(const sora_deb822 *reader, int index, sora_error *error)
{
    const sora_deb822_value *value = &reader->values[index];
    if (value->found && value->bytes) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INPUT, "%s: line %zu: a record without %s", reader->lines.path, reader->line,
                     reader->names[index]);
}

static sora_status add_package(sora_deb_lists *lists, const sora_deb822 *reader, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_deb822_value *name = &reader->values[0], *source = &reader->values[1];
    sora_deb_package package;
    SORA_TRY(need_field(reader, 0, error));
    SORA_TRY(sora_arena_add(&lists->texts, name->text, name->bytes, &package.name, error));
    package.source = package.name;
    if (source->found && source->bytes) /* "glibc (2.36-9)": the version is not the name's */
        SORA_TRY(sora_arena_add(&lists->texts, source->text, strcspn(source->text, " \t\n("), &package.source, error));
    SORA_TRY(sora_reserve(&lists->packages, &lists->package_room, lists->package_count + 1, sizeof package, error));
    lists->packages[lists->package_count++] = package;
cleanup:
    return status;
}

/* Takes white space off both ends of [*from, end), and gives the new end. */
static char *strip(char **from, char *end)
{
    while (*from < end && strchr(" \t\n\r\f\v", **from)) ++*from;
    while (end > *from && strchr(" \t\n\r\f\v", end[-1])) end--;
    return end;
}

/* A long description in place: lines stripped, " ." for an empty one. Returns its length. */
static size_t unfold(char *text, char *end)
{
    char *out = text;
    for (char *from = text, *line_end; from <= end; from = line_end + 1) {
        line_end = memchr(from, '\n', (size_t)(end - from));
        if (!line_end) line_end = end;
        char *begin = from, *stop = strip(&begin, line_end);
        if (stop - begin == 1 && *begin == '.') begin = stop;
        if (from > text) *out++ = '\n'; /* never past what was read: at least the line's own newline lies behind */
        memmove(out, begin, (size_t)(stop - begin));
        out += stop - begin;
    }
    char *begin = text;
    out = strip(&begin, out);
    memmove(text, begin, (size_t)(out - begin));
    return (size_t)(out - begin);
}

static sora_status add_description(sora_deb_lists *lists, const sora_deb822 *reader, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_deb822_value *package = &reader->values[0], *value = &reader->values[1];
    sora_deb_description d = { 0 };
    size_t valid;
    SORA_TRY(need_field(reader, 0, error));
    SORA_TRY(need_field(reader, 1, error));
    char *end = value->text + value->bytes, *newline = memchr(value->text, '\n', value->bytes), *title = value->text;
    char *text = newline ? newline + 1 : end, *title_end = strip(&title, newline ? newline : end);
    size_t bytes = unfold(text, end);
    d.text_characters = sora_utf8_count(text, bytes, &valid);
    SORA_TRY(sora_arena_add(&lists->texts, package->text, package->bytes, &d.package, error));
    SORA_TRY(sora_arena_add(&lists->texts, title, (size_t)(title_end - title), &d.title, error));
    SORA_TRY(sora_arena_add(&lists->texts, text, bytes, &d.text, error));
    SORA_TRY(sora_reserve(&lists->descriptions, &lists->description_room, lists->description_count + 1, sizeof d, error));
    lists->descriptions[lists->description_count++] = d;
cleanup:
    return status;
}

static sora_status read_list(sora_deb_lists *lists, const char *path, bool translation, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_deb822 reader = { .lines = { .path = path, .limit = MAX_LINE },
                           .names = { "Package", translation ? "Description-en" : "Source" } };
    list_stream stream;
    bool more;
    SORA_TRY(open_list(path, &stream, error));
    reader.lines.file = stream.file;
    for (;;) {
        SORA_TRY(sora_deb822_next(&reader, &more, error));
        if (!more) break;
        SORA_TRY(translation ? add_description(lists, &reader, error) : add_package(lists, &reader, error));
    }
cleanup:
    status = close_list(&stream, path, status, error);
    sora_deb822_free(&reader);
    return status;
}

/* ---- The folder -------------------------------------------------------------------------------------------------- */

/* "..._main_i18n_Translation-en.lz4" is a list of kind "Translation-en". */
static bool is_list(const char *name, const char *kind)
{
    size_t length = is_compressed(name) ? (size_t)(strrchr(name, '.') - name) : strlen(name), end = strlen(kind);
    return length >= end && memcmp(name + length - end, kind, end) == 0 && (length == end || name[length - end - 1] == '_');
}

static sora_status check_found(const char *folder, size_t packages, size_t translations, sora_error *error)
{
    if (packages && translations) return SORA_OK;
    if (packages)
        return sora_fail(error, SORA_ERROR_INPUT,
                         "%s: has package lists but no descriptions (..._Translation-en): apt is set up without them, as in slim "
                         "containers (Acquire::Languages \"none\"); " REMEDY,
                         folder);
    return sora_fail(error, SORA_ERROR_INPUT, "%s: has no %s: apt has not fetched its lists, or they were removed; " REMEDY,
                     folder, translations ? "package lists (..._Packages)" : "lists of apt");
}

sora_status sora_deb_lists_read(const char *folder, sora_deb_lists *lists, sora_error *error)
{
    sora_status status = SORA_OK;
    char **names = NULL, *path = NULL;
    size_t count = 0, found[2] = { 0 };
    if (!sora_path_is_folder(folder))
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: no such folder; apt keeps its lists in /var/lib/apt/lists, and " REMEDY, folder);
    SORA_TRY(sora_folder_list(folder, &names, &count, error));
    for (size_t i = 0; i < count; i++) {
        bool translation = is_list(names[i], "Translation-en");
        if (!translation && !is_list(names[i], "Packages")) continue;
        SORA_TRY(sora_format(&path, error, "%s/%s", folder, names[i]));
        SORA_TRY(read_list(lists, path, translation, error));
        found[translation]++;
        free(path);
        path = NULL;
    }
    SORA_TRY(check_found(folder, found[0], found[1], error));
cleanup:
    free(path);
    sora_names_free(names, count);
    return status;
}

void sora_deb_lists_free(sora_deb_lists *lists)
{
    sora_arena_free(&lists->texts);
    free(lists->packages);
    free(lists->descriptions);
    *lists = (sora_deb_lists) { 0 };
}
