/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_VOCABULARY_H
#define SORACL_VOCABULARY_H

#include "soracl/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Training of T5's kind of vocabulary: SentencePiece's unigram language model (T. Kudo, "Subword Regularization", ACL 2018) with
 * <pad>,
 * </s> and <unk> as pieces 0, 1 and 2, no start of sentence, nmt_nfkc normalisation, a dummy prefix, extra white space removed,
 * no byte fallback; the rest as in T5's own spiece.model. */

typedef struct sora_vocabulary_options {
    int size;        /* pieces at most, with the three; 4 to 1,000,000. The tokenizer's sentinels come on top */
    double coverage; /* share of the text's characters that become pieces, 0.98 to 1; rarer ones are <unk>. 0: 0.9995 */
} sora_vocabulary_options;

/* Whether a line can be used: SORA_ERROR_INPUT, saying at which byte, where it is no UTF-8 or holds a NUL. */
SORA_API sora_status sora_vocabulary_check(const char *line, size_t bytes, sora_error *error);

/* Trains on lines[count], each UTF-8 that ends with NUL, and writes the model to `path` for sora_tokenizer_create, atomically.
 * Equal input gives equal bytes. Lines may have any length: they are cut at spaces into parts of at most 4192 bytes, as no piece
 * goes beyond a space. Left out are longer words, and parts with U+2585, which SentencePiece keeps for itself. The model has
 * fewer pieces than asked for where the text does not yield them. Blocks for minutes on large texts and sets SentencePiece's
 * global log level. Takes some 20 bytes of memory a character; SentencePiece ends the program where its own thread finds none.
 * SORA_ERROR_INPUT for a line as above, for no text at all and for what SentencePiece refuses, as more characters than pieces. */
SORA_API sora_status sora_vocabulary_train(const char *const *lines, size_t count, const sora_vocabulary_options *options,
                                           const char *path, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
