/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_TOKENIZER_H
#define SORACL_TOKENIZER_H

#include "soracl/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* T5's tokenizer: a SentencePiece unigram model and 100 sentinels behind its pieces, <extra_id_k> = pieces + 99 − k. Immutable after
 * creation: any number of threads may use it. */
typedef struct sora_tokenizer sora_tokenizer;

#define SORA_TOKEN_PAD 0
#define SORA_TOKEN_EOS 1
#define SORA_TOKEN_UNKNOWN 2
#define SORA_TOKENIZER_SENTINELS 100

/* `path` is a spiece.model, or a folder that has one. SORA_ERROR_INPUT where it is none, or its pad, eos and unknown are not 0, 1, 2. */
SORA_API sora_status sora_tokenizer_create(const char *path, sora_tokenizer **out, sora_error *error);
SORA_API void sora_tokenizer_destroy(sora_tokenizer **tokenizer);
SORA_API int sora_tokenizer_size(const sora_tokenizer *tokenizer); /* ids run from 0 to below this */

/* Ids of UTF-8 text, without eos. Sentinels, </s>, <pad> and <unk> in the text become their ids, with the white space around a sentinel
 * eaten, as Transformers' T5Tokenizer does. SORA_ERROR_INPUT for a NUL within the text. *ids is the caller's (free()). */
SORA_API sora_status sora_tokenizer_encode(const sora_tokenizer *tokenizer, const char *text, size_t bytes, int32_t **ids, size_t *count,
                                           sora_error *error);

/* Ids of prefix and text, cut to `most` with the eos that ends them: what a model reads. *ids is the caller's (free()). */
SORA_API sora_status sora_tokenizer_source(const sora_tokenizer *tokenizer, const char *prefix, const char *text, size_t bytes, int most,
                                           int32_t **ids, int *count, sora_error *error);

/* Text of ids: up to the first eos, padding left out, sentinels as <extra_id_k>. SORA_ERROR_INPUT for an id out of range. *text is the
 * caller's (free()). */
SORA_API sora_status sora_tokenizer_decode(const sora_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text, sora_error *error);

/* Text of what a model generated, as Transformers' skip_special_tokens has it: </s>, <pad>, <unk> and sentinels say nothing, and neither
 * does what lies beyond all ids (an embedding may have more rows; T5's own has 28). */
SORA_API sora_status sora_tokenizer_decode_generated(const sora_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
                                                     sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
