/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_BASE_UTF8_H
#define SORA_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that starts text[left], with its code point; 0 where there is none, or no valid one (Unicode, table 3-7:
 * no surrogates, no overlong forms, nothing above U+10FFFF). */
size_t sora_utf8_next(const char *text, size_t left, uint32_t *code);

/* Bytes before the first that is no UTF-8; `bytes` where all are. */
size_t sora_utf8_prefix(const char *text, size_t bytes);

/* Code points of text. Where it is no UTF-8 or has a NUL, they count up to there and *valid, the bytes before that place, is below
 * `bytes`. */
size_t sora_utf8_count(const char *text, size_t bytes, size_t *valid);

#endif
