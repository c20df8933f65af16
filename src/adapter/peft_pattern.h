/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_ADAPTER_PEFT_PATTERN_H
#define SORA_ADAPTER_PEFT_PATTERN_H

#include "base/status.h"

#include <regex.h>
#include <stdbool.h>

typedef enum sora_peft_anchor {
    SORA_PEFT_WHOLE = 0, /* re.fullmatch: target_modules and exclude_modules as a string */
    SORA_PEFT_TAIL,      /* (.*\.)?(pattern)$: keys of rank_pattern and alpha_pattern */
} sora_peft_anchor;

/* Compiles a Python regular expression by saying it in POSIX's extended ones. Only whether a name matches is asked, so lazy
 * quantifiers and groups of every kind are the same there. What has no counterpart (lookaround, back references, flags, \b,
 * atomic groups and possessive quantifiers), and what would take much memory, is SORA_ERROR_INPUT that names it. Freed with
 * regfree. */
sora_status sora_peft_pattern_compile(const char *pattern, sora_peft_anchor anchor, regex_t *out, sora_error *error);

bool sora_peft_pattern_matches(const regex_t *pattern, const char *name);

/* An entry of a list of modules means the name itself and every name that ends in ".entry". */
bool sora_peft_entry_matches(const char *entry, const char *name);

#endif
