/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_BASE_FILE_H
#define SORA_BASE_FILE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Reads a whole regular file into *out (freed with free(); one NUL follows the bytes). Refuses files above `limit` bytes. */
sora_status sora_file_read(const char *path, size_t limit, unsigned char **out, size_t *bytes, sora_error *error);

/* A file being written: to a temporary beside `path`; commit flushes, syncs, renames and syncs the folder; abandon removes it.
 * Exactly one of the two ends it; both accept a writer that failed to begin. After a failed commit the old file stands. What is there
 * and no regular file is refused. */
typedef struct sora_file_writer {
    FILE *stream;
    char *path, *temporary;
} sora_file_writer;

sora_status sora_file_begin(sora_file_writer *writer, const char *path, sora_error *error);
sora_status sora_file_commit(sora_file_writer *writer, sora_error *error);
void sora_file_abandon(sora_file_writer *writer);

/* The whole file at once, by begin / fwrite / commit. */
sora_status sora_file_write(const char *path, const void *data, size_t bytes, sora_error *error);

bool sora_path_exists(const char *path);
bool sora_path_is_folder(const char *path);

/* mkdir -p. */
sora_status sora_folder_create(const char *path, sora_error *error);
sora_status sora_folder_sync(const char *path, sora_error *error);

/* Renames a finished folder into place and syncs both it and its parent. A folder that stands there makes room first and is
 * removed once the new one stands; after a failure it is back. */
sora_status sora_folder_replace(const char *finished, const char *path, sora_error *error);

/* Removes a folder and all below it; symbolic links are removed, never followed. A path that does not exist is fine. */
sora_status sora_folder_remove(const char *path, sora_error *error);

/* Names in a folder ("." and ".." left out) in byte order; *names and its strings are freed with sora_names_free. */
sora_status sora_folder_list(const char *path, char ***names, size_t *count, sora_error *error);
void sora_names_free(char **names, size_t count);

#endif
