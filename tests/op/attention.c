/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>
#include <stdlib.h>

#define ATTRIBUTES(h, d, c, p)                           \
    &(const sora_attention_attributes)                   \
    {                                                    \
        .heads = h, .size = d, .causal = c, .dropout = p \
    }
#define SELF(n, t, h, d) .inputs = { SORA_SHAPE(n, t, 3 * (h) * (d)), { 0 }, SORA_SHAPE(h, 2 * (t)-1), SORA_SHAPE(n) }
#define CROSS(n, t, s, h, d) .inputs = { SORA_SHAPE(n, t, (h) * (d)), SORA_SHAPE(n, s, 2 * (h) * (d)), { 0 }, SORA_SHAPE(n) }
#define LENGTHS(most) .values = { { 0 }, { 0 }, { 0 }, { .low = 1, .high = most, .quantum = 1 } }
#define FULL .values = { { 0 }, { 0 }, { 0 }, { .low = 512, .high = 512.1f, .quantum = 1 } }

static const check_case cases[] = {
    { .label = "1x1, 1 head of 1",
      SELF(1, 1, 1, 1),
      LENGTHS(1.1f),
      .attributes = ATTRIBUTES(1, 1, false, 0),
      .small = true,
      .wanted = { 1 } },
    { .label = "self, part of a batch",
      SELF(4, 17, 3, 5),
      LENGTHS(17),
      .attributes = ATTRIBUTES(3, 5, false, 0),
      .batch = 3,
      .small = true,
      .as_gpu = true },
    { .label = "causal", SELF(2, 9, 2, 16), LENGTHS(9), .attributes = ATTRIBUTES(2, 16, true, 0), .small = true, .as_gpu = true },
    { .label = "causal, several blocks, dropout",
      SELF(2, 131, 2, 33),
      LENGTHS(131),
      .attributes = ATTRIBUTES(2, 33, true, 0.1f),
      .samples = 40,
      .first_sample = 5,
      .as_gpu = true },
    { .label = "self, several blocks",
      SELF(2, 65, 1, 64),
      LENGTHS(65),
      .attributes = ATTRIBUTES(1, 64, false, 0),
      .samples = 40 },
    { .label = "cross",
      CROSS(2, 3, 17, 2, 16),
      LENGTHS(17),
      .attributes = ATTRIBUTES(2, 16, false, 0),
      .small = true,
      .as_gpu = true },
    { .label = "cross, several blocks, dropout",
      CROSS(3, 70, 129, 2, 17),
      LENGTHS(129),
      .attributes = ATTRIBUTES(2, 17, false, 0.3f),
      .samples = 40,
      .as_gpu = true },
    { .label = "causal, several runs, dropout",
      SELF(1, 300, 1, 9),
      LENGTHS(300),
      .attributes = ATTRIBUTES(1, 9, true, 0.1f),
      .samples = 20 },
    { .label = "cross, several runs",
      CROSS(2, 150, 310, 1, 8),
      LENGTHS(310),
      .attributes = ATTRIBUTES(1, 8, false, 0),
      .samples = 20 },
    { .label = "bare",
      .inputs = { SORA_SHAPE(2, 5, 3 * 8) },
      .attributes = ATTRIBUTES(2, 4, false, 0),
      .small = true,
      .wanted = { 1 } },
    { .label = "evaluation", SELF(2, 33, 2, 16), LENGTHS(33), .attributes = ATTRIBUTES(2, 16, false, 0.1f), .evaluation = true },
    { .label = "unequal",
      .inputs = { SORA_SHAPE(2, 5, 25) },
      .attributes = ATTRIBUTES(2, 4, false, 0),
      .refused = "expected [n, t, 3 h d]" },
    { .label = "too large a head",
      .inputs = { SORA_SHAPE(2, 5, 771) },
      .attributes = ATTRIBUTES(1, 257, false, 0),
      .refused = "at most 256" },
    { .label = "too long",
      .inputs = { SORA_SHAPE(1, 4097, 3) },
      .attributes = ATTRIBUTES(1, 1, false, 0),
      .refused = "at most 4096" },
    { .label = "T5-small, 8x512",
      SELF(8, 512, 8, 64),
      FULL,
      .attributes = ATTRIBUTES(8, 64, false, 0),
      .wanted = { 1 },
      .perf = true },
    { .label = "T5-small, 8x512, dropout",
      SELF(8, 512, 8, 64),
      FULL,
      .attributes = ATTRIBUTES(8, 64, false, 0.1f),
      .wanted = { 1 },
      .perf = true },
    { .label = "T5-small, 8x64 of 512", CROSS(8, 64, 512, 8, 64), FULL, .attributes = ATTRIBUTES(8, 64, false, 0), .perf = true },
    { .label = "bias of another length",
      .inputs = { SORA_SHAPE(1, 3, 3), { 0 }, SORA_SHAPE(1, 4) },
      .attributes = ATTRIBUTES(1, 1, false, 0),
      .refused = "expected [1, 5]" },
};

static double keep(const check_reference *r, float probability, int64_t sample, int64_t h, int64_t i, int64_t j)
{
    uint32_t counter[4] = { r->step, r->stream, r->first_sample + (uint32_t)sample, (uint32_t)((h * 512 + i / 8) * 4096 + j) },
             words[4];
    uint32_t threshold = (uint32_t)(probability * 65536.0f + 0.5f);
    sora_philox(r->seed, SORA_PURPOSE_DROPOUT, counter, words);
    uint32_t half = words[i % 8 / 2] >> (i % 2 ? 16 : 0) & 0xffff;
    return half < threshold ? 0 : 65536.0 / (65536.0 - threshold);
}

static void reference(const check_reference *r)
{
    const sora_attention_attributes *a = r->attributes;
    bool self = r->inputs[1] == NULL;
    int64_t n = r->input_shapes[0].dim[0], t = r->input_shapes[0].dim[1], s = self ? t : r->input_shapes[1].dim[1],
            inner = a->heads * a->size;
    int64_t q_stride = self ? 3 * inner : inner, k_stride = self ? 3 * inner : 2 * inner;
    double *p = malloc((size_t)s * sizeof *p);
    for (int64_t row = 0; row < n * a->heads * t; row++) {
        int64_t b = row / (a->heads * t), h = row / t % a->heads, i = row % t;
        int64_t limit = r->inputs[3] ? (int64_t)r->inputs[3][b] : s;
        const double *q = r->inputs[0] + (b * t + i) * q_stride + h * a->size;
        const double *k = (self ? r->inputs[0] + b * t * k_stride + inner : r->inputs[1] + b * s * k_stride) + h * a->size,
                     *v = k + inner;
        double total = 0, *o = r->outputs[0] + (b * t + i) * inner + h * a->size;
        if (a->causal && limit > i + 1) limit = i + 1;
        for (int64_t j = 0; j < limit; j++) {
            p[j] = r->inputs[2] ? r->inputs[2][h * (t + s - 1) + j - i + t - 1] : 0;
            for (int64_t c = 0; c < a->size; c++) p[j] += q[c] * k[j * k_stride + c];
            total += p[j] = exp(p[j]);
        }
        for (int64_t c = 0; c < a->size; c++) o[c] = 0;
        for (int64_t j = 0; j < limit; j++) {
            double weight = p[j] / total;
            if (r->training && a->dropout > 0) weight *= keep(r, a->dropout, b, h, i, j);
            for (int64_t c = 0; c < a->size; c++) o[c] += weight * v[j * k_stride + c];
        }
    }
    free(p);
}

/* A score is a sum of d products, each rounded up to d times; exp turns its absolute error into a relative one of p, and sums
 * over keys weigh it by p. Gradients have two such factors, and sums over up to all queries (keys) or, for the line, all samples
 * and queries. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    const sora_attention_attributes *a = test->attributes;
    double d = a->size, n = (double)test->inputs[0].dim[0], t = (double)test->inputs[0].dim[1],
           s = test->inputs[1].rank ? (double)test->inputs[1].dim[1] : t, score = d * (d + 4) / 2 + 16;
    if (kind == CHECK_OUTPUT) return (check_tolerance) { 4 * score + s, 16 };
    double terms = index == 2 ? n * t : fmax(t, s);
    return (check_tolerance) { 4 * (score + s) * d + terms * sqrt(terms) + 64, 64 };
}

/* Forward has two products of queries x keys x d; backward makes the scores again, and has four gradients: five. */
static check_work work(const check_case *test, bool backward)
{
    const sora_attention_attributes *a = test->attributes;
    double t = (double)test->inputs[0].dim[1], s = test->inputs[1].rank ? (double)test->inputs[1].dim[1] : t;
    return (check_work) { (backward ? 10 : 4) * (double)test->inputs[0].dim[0] * a->heads * a->size * t * s, 0 };
}

const check_op check_attention = { .op = &sora_op_attention,
                                   .batched = 1 | 1 << 1 | 1 << 3,
                                   .integer = 1 << 3,
                                   .cases = cases,
                                   .case_count = SORA_COUNT(cases),
                                   .reference = reference,
                                   .tolerance = tolerance,
                                   .work = work };
