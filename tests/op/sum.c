/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

static const sora_sum_attributes sum = { .mean = false }, mean = { .mean = true };

static const check_case cases[] = {
    { .label = "1", .attributes = &sum, .inputs = { SORA_SHAPE(1) }, .small = true },
    { .label = "257", .attributes = &sum, .inputs = { SORA_SHAPE(257) }, .small = true, .as_gpu = true },
    { .label = "mean of 257", .attributes = &mean, .inputs = { SORA_SHAPE(257) }, .small = true, .as_gpu = true },
    { .label = "part of a batch, strided",
      .attributes = &sum,
      .inputs = { SORA_SHAPE(5, 3, 17) },
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "mean of a part of a batch, strided",
      .attributes = &mean,
      .inputs = { SORA_SHAPE(5, 3, 17) },
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "several parts", .attributes = &sum, .inputs = { SORA_SHAPE(2, 5, 65, 257) }, .samples = 50 },
};

static void reference(const check_reference *r)
{
    double total = 0;
    int64_t n = sora_shape_elements(&r->input_shapes[0]);
    for (int64_t i = 0; i < n; i++) total += r->inputs[0][i];
    r->outputs[0][0] = ((const sora_sum_attributes *)r->attributes)->mean ? total / (double)n : total;
}

/* Two levels of 16 lanes: a term passes at most 2048 / 16 + 5 additions, then parts / 16 + 5. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    double n = check_elements(test, 0);
    if (kind == CHECK_GRADIENT) return (check_tolerance) { 1e-2, 4 };
    (void)index;
    return (check_tolerance) { n * 160.0, 4 };
}

const check_op check_sum = { .op = &sora_op_sum,
                             .batched = 1,
                             .cases = cases,
                             .case_count = SORA_COUNT(cases),
                             .reference = reference,
                             .tolerance = tolerance };
