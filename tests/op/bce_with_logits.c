/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

#define TARGET                            \
    {                                     \
        .low = 0, .high = 1, .quantum = 1 \
    }
static const check_case cases[] = {
    { .label = "1", .inputs = { SORA_SHAPE(1), SORA_SHAPE(1) }, .values = { { .low = -6, .high = 6 }, TARGET }, .small = true },
    { .label = "3x17",
      .inputs = { SORA_SHAPE(3, 17), SORA_SHAPE(3, 17) },
      .values = { { .low = -6, .high = 6 }, TARGET },
      .small = true,
      .as_gpu = true },
    { .label = "part of a batch, strided",
      .inputs = { SORA_SHAPE(5, 1, 13, 5), SORA_SHAPE(5, 1, 13, 5) },
      .values = { { .low = -6, .high = 6 }, TARGET },
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "several parts",
      .inputs = { SORA_SHAPE(2, 1, 65, 257), SORA_SHAPE(2, 1, 65, 257) },
      .values = { { .low = -6, .high = 6 }, TARGET },
      .samples = 50 },
    { .label = "unequal", .inputs = { SORA_SHAPE(3, 4), SORA_SHAPE(3, 5) }, .refused = "must be equal" },
};

static void reference(const check_reference *r)
{
    double sum = 0;
    int64_t n = sora_shape_elements(&r->input_shapes[0]);
    for (int64_t i = 0; i < n; i++) {
        double x = r->inputs[0][i], t = r->inputs[1][i];
        sum += (x > 0 ? x : 0) - x * t + log1p(exp(-fabs(x)));
    }
    r->outputs[0][0] = sum / (double)n;
}

/* A mean of terms of at most 6; exp and log1p may err by 3 ulp each, the sums as in sum.c. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)test, (void)index;
    return kind == CHECK_GRADIENT ? (check_tolerance) { 16, 16 } : (check_tolerance) { 6 * 160, 8 };
}

const check_op check_bce_with_logits = { .op = &sora_op_bce_with_logits,
                                         .batched = 3,
                                         .cases = cases,
                                         .case_count = SORA_COUNT(cases),
                                         .reference = reference,
                                         .tolerance = tolerance };
