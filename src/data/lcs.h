/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_LCS_H
#define SORA_DATA_LCS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest common subsequence of two sequences of tokens 0 .. alphabet − 1, 64 cells of its table a step. One thread an object. */
typedef struct sora_lcs sora_lcs;

/* For sequences `a` of up to longest_a tokens; sora_lcs_mark also needs the bound of `b` (0: lengths only). Memory grows as
 * longest_a · √longest_b / 4 bytes. Neither may exceed UINT32_MAX. */
sora_status sora_lcs_create(size_t alphabet, size_t longest_a, size_t longest_b, sora_lcs **out, sora_error *error);
void sora_lcs_destroy(sora_lcs **lcs); /* NULL is fine */

/* Sets a[n] for the calls that follow; it must live until the next one or destroy. */
void sora_lcs_begin(sora_lcs *lcs, const uint32_t *a, size_t n);

/* Length for a and b[m]. */
size_t sora_lcs_length(sora_lcs *lcs, const uint32_t *b, size_t m);

/* Sets marks[i] for each token a[i] of one of the longest: that which the table t gives when read from its end back: equal tokens
 * are taken at once, else b's is dropped where t[i][j − 1] > t[i − 1][j], and a's otherwise. Other marks keep their values. */
void sora_lcs_mark(sora_lcs *lcs, const uint32_t *b, size_t m, bool *marks);

#endif
