/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_BASE_MEMORY_H
#define SORA_BASE_MEMORY_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed array of count elements in *out, freed with free(). count 0 gives a valid pointer. Checks count · size for overflow.
 * `what` names the thing in the message ("polygons of frame_0011.jpg"). SORA_ERROR_MEMORY, *out NULL, on failure. */
sora_status sora_allocate(size_t count, size_t size, const char *what, void *out, sora_error *error);

/* Copy of a string, freed with free(). */
sora_status sora_duplicate(const char *text, char **out, sora_error *error);

/* printf into a new string, freed with free(). */
sora_status sora_format(char **out, sora_error *error, const char *format, ...) SORA_PRINTF(3, 4);

/* Makes room for at least `needed` elements in a growing array (doubling); *items and *capacity change together. */
sora_status sora_reserve(void *items, size_t *capacity, size_t needed, size_t size, sora_error *error);

#define SORA_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SORA_MIN(a, b) ((a) < (b) ? (a) : (b))
#define SORA_MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
