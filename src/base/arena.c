/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK ((size_t)1 << 20)

struct sora_arena_block {
    sora_arena_block *next;
    size_t used, room;
    char bytes[];
};

sora_status sora_arena_add(sora_arena *arena, const char *bytes, size_t count, const char **out, sora_error *error)
{
    sora_arena_block *block = arena->blocks;
    *out = NULL;
    if (!block || block->room - block->used <= count) {
        size_t room = count < BLOCK ? BLOCK : count + 1;
        block = room > SIZE_MAX - sizeof *block ? NULL : malloc(sizeof *block + room);
        if (!block) return sora_fail(error, SORA_ERROR_MEMORY, "no host memory for a text of %zu bytes", count);
        block->next = arena->blocks;
        block->used = 0;
        block->room = room;
        arena->blocks = block;
    }
    char *copy = block->bytes + block->used;
    if (count) memcpy(copy, bytes, count);
    copy[count] = '\0';
    block->used += count + 1;
    *out = copy;
    return SORA_OK;
}

void sora_arena_free(sora_arena *arena)
{
    while (arena->blocks) {
        sora_arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}
