/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_DEB822_H
#define SORA_DATA_DEB822_H

#include "data/lines.h"

#define SORA_DEB822_FIELDS 2

/* A field's value in the present record: its first line, and continuation lines as they are, each behind a newline. */
typedef struct sora_deb822_value {
    char *text; /* NULL: never seen */
    size_t bytes, room;
    bool found; /* in this record */
} sora_deb822_value;

/* Records of a Debian control file (deb(5), deb822(5)), of which a few fields are wanted. */
typedef struct sora_deb822 {
    sora_lines lines;
    const char *names[SORA_DEB822_FIELDS]; /* wanted fields; all of them in use */
    sora_deb822_value values[SORA_DEB822_FIELDS];
    size_t line; /* where the record starts */
} sora_deb822;

/* *more is false at the end. SORA_ERROR_INPUT, with the line, for what is no such file and for texts that are no UTF-8. */
sora_status sora_deb822_next(sora_deb822 *reader, bool *more, sora_error *error);
void sora_deb822_free(sora_deb822 *reader);

#endif
