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

/* Tokens that can't follow a beam's sequence: those that would repeat an n-gram, and eos before the least length. ids has room
 * for max_length; returns how many. */
int sora_t5_search_forbidden(const sora_t5_search *search, int beam, int32_t *ids);

/* What is known of the logits of the position behind a beam's tokens. */
typedef struct sora_t5_likely {
    float largest, sum;  /* of all: the largest, and the sum of e^(logit − largest) */
    const float *logits; /* the largest that are not forbidden, falling; of equal ones the lower token first */
    const int32_t *ids;  /* −1: there are no more */
} sora_t5_likely;

/* How many logits of a beam the search looks at; 0: it samples, and looks at all. */
int sora_t5_search_width(const sora_t5_search *search);

/* Chooses from what is likely [beams]. parents[beams]: the beam that each goes on from. */
sora_status sora_t5_search_advance(sora_t5_search *search, const sora_t5_likely *likely, int *parents, sora_error *error);

/* Where it samples: chooses from all logits [vocabulary], which are changed. */
void sora_t5_search_sample(sora_t5_search *search, float *logits);

/* The best sequence so far; ids are the caller's. */
sora_status sora_t5_search_result(const sora_t5_search *search, sora_t5_output *out, sora_error *error);

#endif
