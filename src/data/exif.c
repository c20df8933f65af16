/* SPDX-License-Identifier: Apache-2.0 */
#include "data/exif.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ORIENTATION 0x0112
#define SHORT 3

typedef struct block {
    const unsigned char *data;
    size_t bytes;
    bool big;
} block;

static uint32_t read(const block *b, size_t at, int size)
{
    uint32_t value = 0;
    for (int i = 0; i < size; i++) value |= (uint32_t)b->data[at + (size_t)i] << 8 * (b->big ? size - 1 - i : i);
    return value;
}

int sora_exif_orientation(const unsigned char *data, size_t bytes)
{
    if (bytes < 14) return 1;
    block b = { data, bytes, memcmp(data, "MM", 2) == 0 };
    if ((!b.big && memcmp(data, "II", 2) != 0) || read(&b, 2, 2) != 42) return 1;
    size_t at = read(&b, 4, 4);
    if (at > bytes - 2) return 1;
    uint32_t entries = read(&b, at, 2);
    at += 2;
    for (uint32_t i = 0; i < entries && at + 12 <= bytes; i++, at += 12) {
        if (read(&b, at, 2) != ORIENTATION) continue;
        uint32_t value = read(&b, at + 8, 2);
        return read(&b, at + 2, 2) == SHORT && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}
