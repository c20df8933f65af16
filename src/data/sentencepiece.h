/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_SENTENCEPIECE_H
#define SORA_DATA_SENTENCEPIECE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* libsentencepiece from C. Nothing throws; results are allocated with malloc. */
typedef struct sora_sentencepiece sora_sentencepiece;

/* NULL after a failure, with why in message[room]. */
sora_sentencepiece *sora_sentencepiece_open(const void *model, size_t bytes, char *message, size_t room);
void sora_sentencepiece_close(sora_sentencepiece *model);
int sora_sentencepiece_size(const sora_sentencepiece *model);
void sora_sentencepiece_specials(const sora_sentencepiece *model, int out[3]); /* pad, eos, unknown */
/* 0, or −1 where memory ran out or the text can't be processed. */
int sora_sentencepiece_encode(const sora_sentencepiece *model, const char *text, size_t bytes, int32_t **ids, size_t *count);
int sora_sentencepiece_decode(const sora_sentencepiece *model, const int32_t *ids, size_t count, char **text);

typedef struct sora_text_part {
    const char *text;
    size_t bytes;
} sora_text_part;

/* A unigram model of at most `size` pieces with T5's settings, in *model[*bytes]. The parts are not empty, not above 4192 bytes,
 * have something left after normalisation and none of U+2585: SentencePiece ends the program on what it does not expect. 0, or −1
 * with why in message[room]. */
int sora_sentencepiece_train(const sora_text_part *parts, size_t count, int size, double coverage, void **model, size_t *bytes,
                             char *message, size_t room);

#ifdef __cplusplus
}
#endif
#endif
