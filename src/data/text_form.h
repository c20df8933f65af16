/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_TEXT_FORM_H
#define SORA_DATA_TEXT_FORM_H

#include "base/arena.h"
#include "data/lines.h"
#include "soracl/text.h"

/* What text.c and the readers of its forms share. */
struct sora_text_pairs {
    char *path;
    sora_text_options options; /* columns are the caller's: NULL after opening */
    sora_arena texts;
    sora_text_pair *items;
    size_t count, capacity;
    size_t rows, empty, too_short; /* rows seen, and of these left out */
};

/* A text that grows. */
typedef struct sora_text_buffer {
    char *bytes;
    size_t count, room;
} sora_text_buffer;
sora_status sora_text_append(sora_text_buffer *buffer, const char *bytes, size_t count, sora_error *error);

/* Takes a row over: checks both texts, and keeps, leaves out or refuses it. */
sora_status sora_text_add(sora_text_pairs *pairs, size_t line, const sora_text_buffer *source, const sora_text_buffer *target,
                          sora_error *error);
bool sora_text_is_full(const sora_text_pairs *pairs); /* the limit is reached */

/* The file's rows, each given to sora_text_add. */
sora_status sora_text_read_csv(sora_text_pairs *pairs, sora_lines *lines, sora_error *error);
sora_status sora_text_read_json(sora_text_pairs *pairs, sora_lines *lines, sora_error *error);

#endif
