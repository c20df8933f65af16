/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_MODEL_T5_SEARCH_H
#define SORA_MODEL_T5_SEARCH_H

#include "base/memory.h"
#include "soracl/t5.h"

/* The choice of tokens for one source, on the host: greedy, sampling, or a beam search that goes as Transformers'
 * (generation/utils.py, _beam_search). Knows no device. */
typedef struct sora_t5_search sora_t5_search;

typedef struct sora_t5_search_desc {
    const sora_t5_generation *options;
    int vocabulary, start, eos;
    uint32_t sample; /* keys the random numbers */
} sora_t5_search_desc;

sora_status sora_t5_search_create(const sora_t5_search_desc *desc, sora_t5_search **out, sora_error *error);
void sora_t5_search_destroy(sora_t5_search **search);

bool sora_t5_search_done(const sora_t5_search *search);

/* Tokens that are fed next, one a beam. */
const int32_t *sora_t5_search_tokens(const sora_t5_search *search);

/* Takes the logits [beams][vocabulary] of the position behind those tokens (they are changed) and chooses. parents[beams]: the
 * beam that each goes on from. */
sora_status sora_t5_search_advance(sora_t5_search *search, float *logits, int *parents, sora_error *error);

/* The best sequence so far; ids are the caller's. */
sora_status sora_t5_search_result(const sora_t5_search *search, sora_t5_output *out, sora_error *error);

#endif
