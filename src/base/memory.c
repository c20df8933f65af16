/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sora_status sora_allocate(size_t count, size_t size, const char *what, void *out, sora_error *error)
{
    void **pointer = out;
    *pointer = calloc(count ? count : 1, size);
    if (*pointer) return SORA_OK;
    return sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory for %zu elements of %zu bytes", what, count, size);
}

sora_status sora_duplicate(const char *text, char **out, sora_error *error)
{
    *out = strdup(text);
    return *out ? SORA_OK : sora_fail(error, SORA_ERROR_MEMORY, "no host memory for a string of %zu bytes", strlen(text));
}

sora_status sora_format(char **out, sora_error *error, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    *out = length < 0 ? NULL : malloc((size_t)length + 1);
    if (*out) vsnprintf(*out, (size_t)length + 1, format, again);
    va_end(again);
    return *out ? SORA_OK : sora_fail(error, SORA_ERROR_MEMORY, "no host memory for a string of %d bytes", length);
}

sora_status sora_reserve(void *items, size_t *capacity, size_t needed, size_t size, sora_error *error)
{
    void **pointer = items;
    if (needed <= *capacity) return SORA_OK;
    size_t grown = *capacity ? *capacity : 8;
    while (grown < needed) {
        if (grown > SIZE_MAX / 2) return sora_fail(error, SORA_ERROR_MEMORY, "array of %zu elements is too large", needed);
        grown *= 2;
    }
    void *moved = grown > SIZE_MAX / size ? NULL : realloc(*pointer, grown * size);
    if (!moved) return sora_fail(error, SORA_ERROR_MEMORY, "no host memory for %zu elements of %zu bytes", grown, size);
    *pointer = moved;
    *capacity = grown;
    return SORA_OK;
}
