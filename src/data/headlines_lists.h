/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_HEADLINES_LISTS_H
#define SORA_DATA_HEADLINES_LISTS_H

#include "base/arena.h"

#include <stddef.h>

/* A package as a Packages file has it, and a description as a Translation-en file has it. */
typedef struct sora_deb_package {
    const char *name, *source;
} sora_deb_package;

typedef struct sora_deb_description {
    const char *package, *title, *text;
    size_t text_characters;
} sora_deb_description;

typedef struct sora_deb_lists {
    sora_arena texts;
    sora_deb_package *packages; /* in the files' order, with repetitions */
    size_t package_count, package_room;
    sora_deb_description *descriptions;
    size_t description_count, description_room;
} sora_deb_lists;

/* Reads apt's lists in a folder into *lists, which is zero before. SORA_ERROR_INPUT, saying what to do, where there are none. */
sora_status sora_deb_lists_read(const char *folder, sora_deb_lists *lists, sora_error *error);
void sora_deb_lists_free(sora_deb_lists *lists);

#endif
