/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_LINES_H
#define SORA_DATA_LINES_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* A stream read line by line; memory is that of its longest line, which is bounded. Start it as { .file, .path, .limit }. */
typedef struct sora_lines {
    FILE *file;       /* the caller's */
    const char *path; /* for messages; the caller's */
    size_t limit;     /* bytes of a line */
    size_t number;    /* of the line that was read last, from 1 */
    char *text;       /* with its line end, if it has one; NUL-terminated */
    size_t bytes, room;
} sora_lines;

/* *more is false at the end. A byte order mark before the first line is left out. SORA_ERROR_INPUT for a line above the limit. */
sora_status sora_lines_next(sora_lines *lines, bool *more, sora_error *error);
void sora_lines_trim(sora_lines *lines); /* takes LF or CR LF off */
void sora_lines_free(sora_lines *lines);

#endif
