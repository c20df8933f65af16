/* SPDX-License-Identifier: Apache-2.0 */
#include "data/utf8.h"

#include <stdint.h>

/* Bytes of the code point at p, of which `left` may be read; 0: none is there. */
static size_t length_at(const unsigned char *p, size_t left)
{
    static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t length = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    if (length == 1) return p[0] != 0;
    if (length == 0 || length > left) return 0;
    uint32_t code = p[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (p[i] >> 6 != 2) return 0;
        code = code << 6 | (p[i] & 0x3fu);
    }
    return code < smallest[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? 0 : length;
}

size_t sora_utf8_count(const char *text, size_t bytes, size_t *valid)
{
    size_t at = 0, count = 0;
    while (at < bytes) {
        size_t length = length_at((const unsigned char *)text + at, bytes - at);
        if (length == 0) break;
        at += length;
        count++;
    }
    *valid = at;
    return count;
}
