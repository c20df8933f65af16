/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_BASE_ARENA_H
#define SORA_BASE_ARENA_H

#include "base/status.h"

#include <stddef.h>

/* Strings that live and die together: in a few large blocks, never moved. Zero is an empty arena. */
typedef struct sora_arena_block sora_arena_block;
typedef struct sora_arena {
    sora_arena_block *blocks; /* the newest first */
} sora_arena;

/* A copy of bytes[count] with a NUL behind it. */
sora_status sora_arena_add(sora_arena *arena, const char *bytes, size_t count, const char **out, sora_error *error);
void sora_arena_free(sora_arena *arena);

#endif
