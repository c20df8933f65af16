/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

static const sora_dropout_attributes none = { 0 }, tenth = { 0.1f }, most = { 0.9f }, wrong = { 1.0f };

static const check_case cases[] = {
    { .label = "none", .inputs = { SORA_SHAPE(3, 17) }, .attributes = &none, .small = true },
    { .label = "evaluation", .inputs = { SORA_SHAPE(3, 17) }, .attributes = &tenth, .evaluation = true },
    { .label = "a tenth, part of a batch, strided",
      .inputs = { SORA_SHAPE(5, 65) },
      .attributes = &tenth,
      .batch = 3,
      .first_sample = 11,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "most", .inputs = { SORA_SHAPE(3, 3, 17, 65) }, .attributes = &most, .samples = 50, .as_gpu = true },
    { .label = "added to another, part of a batch, strided",
      .inputs = { SORA_SHAPE(5, 65), SORA_SHAPE(5, 65) },
      .attributes = &tenth,
      .batch = 3,
      .first_sample = 11,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "none, added", .inputs = { SORA_SHAPE(3, 17), SORA_SHAPE(3, 17) }, .attributes = &none },
    { .label = "evaluation, added",
      .inputs = { SORA_SHAPE(3, 17), SORA_SHAPE(3, 17) },
      .attributes = &tenth,
      .evaluation = true },
    { .label = "unequal", .inputs = { SORA_SHAPE(3, 5), SORA_SHAPE(3, 6) }, .attributes = &tenth, .refused = "must be equal" },
    { .label = "all", .inputs = { SORA_SHAPE(3) }, .attributes = &wrong, .refused = "expected 0 to below 1" },
};

/* Half-word e % 8 of block (step, stream, sample, e / 8), from the host's generator. */
static double keep(const check_reference *r, float probability, int64_t sample, int64_t element)
{
    uint32_t counter[4] = { r->step, r->stream, r->first_sample + (uint32_t)sample, (uint32_t)(element / 8) }, words[4];
    uint32_t threshold = (uint32_t)(probability * 65536.0f + 0.5f);
    sora_philox(r->seed, SORA_PURPOSE_DROPOUT, counter, words);
    uint32_t half = words[element % 8 / 2] >> (element % 2 ? 16 : 0) & 0xffff;
    return half < threshold ? 0 : 65536.0 / (65536.0 - threshold);
}

static void reference(const check_reference *r)
{
    float probability = ((const sora_dropout_attributes *)r->attributes)->probability;
    int64_t items = r->input_shapes[0].dim[0], inner = sora_shape_elements(&r->input_shapes[0]) / items;
    for (int64_t n = 0; n < items; n++)
        for (int64_t i = 0; i < inner; i++)
            r->outputs[0][n * inner + i] =
                r->inputs[0][n * inner + i] * (r->training && probability > 0 ? keep(r, probability, n, i) : 1) +
                (r->inputs[1] ? r->inputs[1][n * inner + i] : 0);
}

static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)kind, (void)index;
    /* The factor's rounding, the product's of values up to 10, and the sum's. */
    return (check_tolerance) { test->inputs[1].rank ? 20 : 1e-3, 4 };
}

const check_op check_dropout = { .op = &sora_op_dropout,
                                 .batched = 3,
                                 .cases = cases,
                                 .case_count = SORA_COUNT(cases),
                                 .reference = reference,
                                 .tolerance = tolerance };
