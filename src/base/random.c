/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"

#include <Random123/philox.h>
#include <math.h>

void sora_philox(uint64_t seed, sora_purpose purpose, const uint32_t counter[4], uint32_t out[4])
{
    /* The purpose is spread over the key's high word so that neighbouring seeds of two purposes never meet. */
    philox4x32_key_t key = { { (uint32_t)seed, (uint32_t)(seed >> 32) ^ ((uint32_t)purpose * 0x9e3779b9u) } };
    philox4x32_ctr_t block = { { counter[0], counter[1], counter[2], counter[3] } };
    philox4x32_ctr_t result = philox4x32(block, key);
    for (int i = 0; i < 4; i++) out[i] = result.v[i];
}

uint32_t sora_random_u32(sora_random_stream *s)
{
    if (!s->drawn || s->element % 4 == 0)
        sora_philox(s->seed, s->purpose, (uint32_t[]) { s->step, s->stream, s->sample, s->element / 4 }, s->words);
    s->drawn = true;
    return s->words[s->element++ % 4];
}

double sora_random_uniform(sora_random_stream *stream)
{
    return sora_random_u32(stream) * 0x1p-32;
}

double sora_random_normal(sora_random_stream *stream)
{
    double radius = (sora_random_u32(stream) + 0.5) * 0x1p-32;
    double angle = sora_random_u32(stream) * 0x1p-32;
    return sqrt(-2.0 * log(radius)) * cos(6.283185307179586 * angle);
}

uint32_t sora_random_below(sora_random_stream *stream, uint32_t bound)
{
    uint32_t reject = (uint32_t)(-bound) % bound;
    uint32_t word;
    do word = sora_random_u32(stream);
    while (word < reject);
    return word % bound;
}

void sora_random_permutation(sora_random_stream *stream, uint32_t *out, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t j = sora_random_below(stream, i + 1);
        if (j != i) out[i] = out[j];
        out[j] = i;
    }
}

uint32_t sora_hash_name(const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash;
}
