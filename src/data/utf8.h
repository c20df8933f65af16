/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_UTF8_H
#define SORA_DATA_UTF8_H

#include <stddef.h>

/* Code points of text. Where it is no UTF-8 (RFC 3629: no overlong forms, no surrogates) or has a NUL, they count up to there and
 * *valid, the bytes before that place, is below `bytes`. */
size_t sora_utf8_count(const char *text, size_t bytes, size_t *valid);

#endif
