/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static sora_status fail_errno(sora_error *error, const char *verb, const char *path)
{
    return sora_fail(error, errno == ENOENT ? SORA_ERROR_INPUT : SORA_ERROR_IO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

sora_status sora_file_read(const char *path, size_t limit, unsigned char **out, size_t *bytes, sora_error *error)
{
    sora_status status = SORA_OK;
    struct stat info;
    unsigned char *data = NULL;
    *out = NULL;
    *bytes = 0;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* does not wait for a FIFO's other end */
    FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "rb");
    if (!file) {
        status = fail_errno(error, "open", path);
        if (descriptor >= 0) close(descriptor);
        return status;
    }
    if (fstat(fileno(file), &info) != 0) {
        status = fail_errno(error, "stat", path);
        goto cleanup;
    }
    if (!S_ISREG(info.st_mode)) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: not a regular file", path);
    if ((unsigned long long)info.st_size > limit)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: %lld bytes, at most %zu are accepted", path, (long long)info.st_size, limit);
    size_t size = (size_t)info.st_size;
    SORA_TRY(sora_allocate(size + 1, 1, path, &data, error));
    if (fread(data, 1, size, file) != size) SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot read %zu bytes", path, size);
    *out = data;
    *bytes = size;
    data = NULL;
cleanup:
    free(data);
    fclose(file);
    return status;
}

sora_status sora_file_begin(sora_file_writer *writer, const char *path, sora_error *error)
{
    sora_status status = SORA_OK;
    struct stat info;
    *writer = (sora_file_writer) { 0 };
    /* The rename would put a file in a device's place, and says of a folder only when all is written that it is one. */
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot write: %s", path,
                  S_ISDIR(info.st_mode) ? "it is a folder" : "not a regular file");
    SORA_TRY(sora_duplicate(path, &writer->path, error));
    SORA_TRY(sora_format(&writer->temporary, error, "%s.%ld.tmp", path, (long)getpid()));
    writer->stream = fopen(writer->temporary, "wb");
    if (!writer->stream) SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot write: %s", path, strerror(errno));
cleanup:
    if (status != SORA_OK) sora_file_abandon(writer);
    return status;
}

static sora_status sync_parent(const char *path, sora_error *error)
{
    char *folder = NULL;
    sora_status status = sora_duplicate(path, &folder, error);
    if (status != SORA_OK) return status;
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = '\0';
    status = sora_folder_sync(slash ? folder : ".", error);
    free(folder);
    return status;
}

sora_status sora_file_commit(sora_file_writer *writer, sora_error *error)
{
    sora_status status = SORA_OK;
    if (!writer->stream) return sora_fail(error, SORA_ERROR_IO, "no file is being written");
    bool flushed = fflush(writer->stream) == 0 && !ferror(writer->stream) && fsync(fileno(writer->stream)) == 0;
    int reason = errno;
    bool closed = fclose(writer->stream) == 0;
    writer->stream = NULL;
    if (!flushed || !closed)
        SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot write: %s", writer->path, strerror(flushed ? errno : reason));
    if (rename(writer->temporary, writer->path) != 0)
        SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot rename into place: %s", writer->path, strerror(errno));
    status = sync_parent(writer->path, error);
cleanup:
    sora_file_abandon(writer);
    return status;
}

void sora_file_abandon(sora_file_writer *writer)
{
    if (writer->stream) fclose(writer->stream);
    if (writer->temporary) unlink(writer->temporary);
    free(writer->path);
    free(writer->temporary);
    *writer = (sora_file_writer) { 0 };
}

sora_status sora_file_write(const char *path, const void *data, size_t bytes, sora_error *error)
{
    sora_file_writer writer;
    sora_status status = sora_file_begin(&writer, path, error);
    if (status != SORA_OK) return status;
    if (fwrite(data, 1, bytes, writer.stream) != bytes) {
        status = sora_fail(error, SORA_ERROR_IO, "%s: cannot write %zu bytes: %s", path, bytes, strerror(errno));
        sora_file_abandon(&writer);
        return status;
    }
    return sora_file_commit(&writer, error);
}

bool sora_path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool sora_path_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

sora_status sora_folder_create(const char *path, sora_error *error)
{
    char *partial = NULL;
    if (!*path) return sora_fail(error, SORA_ERROR_ARGUMENT, "\"\": expected a folder's path");
    sora_status status = sora_duplicate(path, &partial, error);
    if (status != SORA_OK) return status;
    for (char *slash = strchr(partial + 1, '/'); status == SORA_OK && slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(partial, 0777) != 0 && errno != EEXIST)
            status = sora_fail(error, SORA_ERROR_IO, "%s: cannot create folder: %s", partial, strerror(errno));
        *slash = '/';
    }
    if (status == SORA_OK && mkdir(partial, 0777) != 0 && !(errno == EEXIST && sora_path_is_folder(partial)))
        status = sora_fail(error, SORA_ERROR_IO, "%s: cannot create folder: %s", partial, strerror(errno));
    free(partial);
    return status;
}

sora_status sora_folder_sync(const char *path, sora_error *error)
{
    int folder = open(path, O_RDONLY | O_DIRECTORY);
    if (folder < 0) return sora_fail(error, SORA_ERROR_IO, "%s: cannot open folder: %s", path, strerror(errno));
    /* Some file systems refuse fsync on folders; the rename has happened all the same. */
    bool synced = fsync(folder) == 0 || errno == EINVAL || errno == EROFS;
    int reason = errno;
    close(folder);
    return synced ? SORA_OK : sora_fail(error, SORA_ERROR_IO, "%s: cannot sync folder: %s", path, strerror(reason));
}

sora_status sora_folder_replace(const char *finished, const char *path, sora_error *error)
{
    sora_status status = SORA_OK;
    char *old = NULL;
    bool replaces = sora_path_exists(path);
    SORA_TRY(sora_folder_sync(finished, error));
    SORA_TRY(sora_format(&old, error, "%s.%ld.old", path, (long)getpid()));
    if (replaces && rename(path, old) != 0)
        SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot make room for the new one: %s", path, strerror(errno));
    if (rename(finished, path) != 0) {
        status = sora_fail(error, SORA_ERROR_IO, "%s: cannot rename into place: %s", path, strerror(errno));
        if (replaces) (void)rename(old, path); /* the reason that is told stays the first one */
        goto cleanup;
    }
    if (replaces) SORA_TRY(sora_folder_remove(old, error));
    status = sync_parent(path, error);
cleanup:
    free(old);
    return status;
}

sora_status sora_folder_remove(const char *path, sora_error *error)
{
    struct stat info;
    char **names = NULL;
    size_t count = 0;
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? SORA_OK : sora_fail(error, SORA_ERROR_IO, "%s: cannot stat: %s", path, strerror(errno));
    sora_status status = SORA_OK;
    if (S_ISDIR(info.st_mode)) {
        SORA_TRY(sora_folder_list(path, &names, &count, error));
        for (size_t i = 0; i < count; i++) {
            char *child = NULL;
            SORA_TRY(sora_format(&child, error, "%s/%s", path, names[i]));
            status = sora_folder_remove(child, error);
            free(child);
            if (status != SORA_OK) goto cleanup;
        }
    }
    if (remove(path) != 0) SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot remove: %s", path, strerror(errno));
cleanup:
    sora_names_free(names, count);
    return status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

sora_status sora_folder_list(const char *path, char ***names, size_t *count, sora_error *error)
{
    sora_status status = SORA_OK;
    char **found = NULL;
    size_t used = 0, capacity = 0;
    *names = NULL;
    *count = 0;
    DIR *folder = opendir(path);
    if (!folder) return fail_errno(error, "list", path);
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        SORA_TRY(sora_reserve(&found, &capacity, used + 1, sizeof *found, error));
        SORA_TRY(sora_duplicate(entry->d_name, &found[used], error));
        used++;
    }
    if (used) qsort(found, used, sizeof *found, compare_names);
    *names = found;
    *count = used;
    found = NULL;
cleanup:
    sora_names_free(found, used);
    closedir(folder);
    return status;
}

void sora_names_free(char **names, size_t count)
{
    if (!names) return;
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
}
