/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_TEXT_H
#define SORACL_TEXT_H

#include "soracl/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* (source, target) pairs of texts in memory, in the file's order. Immutable after opening: any number of threads may read. */
typedef struct sora_text_pairs sora_text_pairs;

typedef struct sora_text_options {
    /* NULL: what the form says. CSV: "text" and "title". JSON Lines: the same, or where an object has no "text" SciTLDR's
     * "source" and "target". A JSON list of texts as source is joined by one space; as target its first is taken. */
    const char *source_column, *target_column;
    size_t limit;                  /* 0: all; else the first so many usable pairs, and the file is read no further */
    size_t min_source, min_target; /* characters (code points); shorter pairs are left out and counted */
    bool target_optional;          /* only the source is needed: a target may be absent, empty or short */
} sora_text_options;

typedef struct sora_text_pair {
    const char *source, *target; /* UTF-8 without NUL, NUL-terminated, the set's own; target is "" where it is absent */
    size_t source_bytes, target_bytes;
    size_t line; /* where the record starts in the file, from 1 */
} sora_text_pair;

/* The form is the extension's: .csv (RFC 4180, UTF-8, with a header line) or .jsonl and .json (one object a line). `options` may
 * be NULL. Pairs whose source or target is empty or white space are left out and counted. SORA_ERROR_INPUT, with the line, for a
 * file that is broken, for invalid UTF-8 and NUL in a text, for a column that isn't there; also where no usable pair is left. */
SORA_API sora_status sora_text_open(const char *path, const sora_text_options *options, sora_text_pairs **out, sora_error *error);
SORA_API void sora_text_close(sora_text_pairs **pairs);
SORA_API size_t sora_text_count(const sora_text_pairs *pairs);
SORA_API size_t sora_text_skipped(const sora_text_pairs *pairs); /* left out: empty or too short */
SORA_API sora_text_pair sora_text_at(const sora_text_pairs *pairs, size_t index);

/* xxHash of all pairs, in their order, after what has the hash `seed`. */
SORA_API uint64_t sora_text_hash(const sora_text_pairs *pairs, uint64_t seed);

/* SORA_ERROR_INPUT naming the first pair of `a`, with its lines in both files, that stands in both with equal source and
 * target. */
SORA_API sora_status sora_text_check_disjoint(const sora_text_pairs *a, const sora_text_pairs *b, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
