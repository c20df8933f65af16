/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

size_t sora_utf8_next(const char *text, size_t left, uint32_t *code)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (left == 0) return 0;
    const unsigned char *t = (const unsigned char *)text;
    *code = t[0];
    if (t[0] < 0x80) return 1;
    size_t length = t[0] >= 0xf0 ? 4 : t[0] >= 0xe0 ? 3 : 2;
    if (t[0] < 0xc2 || t[0] > 0xf4 || left < length) return 0;
    *code = t[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((t[i] & 0xc0) != 0x80) return 0;
        *code = *code << 6 | (t[i] & 0x3f);
    }
    if (*code < least[length] || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000)) return 0;
    return length;
}

size_t sora_utf8_prefix(const char *text, size_t bytes)
{
    uint32_t code;
    size_t at = 0;
    for (size_t length; (length = sora_utf8_next(text + at, bytes - at, &code)); at += length) {
    }
    return at;
}

size_t sora_utf8_count(const char *text, size_t bytes, size_t *valid)
{
    uint32_t code;
    size_t count = 0;
    *valid = 0;
    for (size_t length; (length = sora_utf8_next(text + *valid, bytes - *valid, &code)) && code != 0; *valid += length) count++;
    return count;
}
