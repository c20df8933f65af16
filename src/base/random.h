/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_BASE_RANDOM_H
#define SORA_BASE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Counter-based random numbers (Philox 4x32-10: Salmon et al., SC'11), so that a number depends on what it is for and not on
 * who drew before: key = (seed, purpose), counter = (step, stream, sample, element / 4). kernels/philox.h gives the same. */

typedef enum sora_purpose {
    SORA_PURPOSE_INIT = 1, /* initial weights: stream = hash of the tensor's name, element = index */
    SORA_PURPOSE_DROPOUT,  /* stream = hash of the op's name, step = training step */
    SORA_PURPOSE_SHUFFLE,  /* step = epoch */
    SORA_PURPOSE_AUGMENT,  /* step = epoch, sample = index in the data set */
    SORA_PURPOSE_DRAW,     /* generated data sets: sample = image */
    SORA_PURPOSE_BOOTSTRAP,
    SORA_PURPOSE_SPLIT,
    SORA_PURPOSE_TEST,
    SORA_PURPOSE_SAMPLE,  /* of generated tokens: step = position, sample = text */
    SORA_PURPOSE_CORRUPT, /* T5's span corruption: step = epoch, sample = text */
} sora_purpose;

typedef struct sora_random_stream {
    uint64_t seed;
    sora_purpose purpose;
    uint32_t step, stream, sample;
    uint32_t element; /* the next one; advances by one a draw. What stands above stays once there was one */
    bool drawn;
    uint32_t words[4]; /* of the element before, once drawn */
} sora_random_stream;

/* Four words of one counter. */
void sora_philox(uint64_t seed, sora_purpose purpose, const uint32_t counter[4], uint32_t out[4]);

uint32_t sora_random_u32(sora_random_stream *stream);
double sora_random_uniform(sora_random_stream *stream);                 /* [0, 1), 32 bits */
double sora_random_normal(sora_random_stream *stream);                  /* N(0, 1), Box-Muller; two words a number */
uint32_t sora_random_below(sora_random_stream *stream, uint32_t bound); /* 0 .. bound − 1, without bias */
void sora_random_permutation(sora_random_stream *stream, uint32_t *out, uint32_t count);

/* FNV-1a of a name: the `stream` of a tensor or op. */
uint32_t sora_hash_name(const char *name);

#endif
