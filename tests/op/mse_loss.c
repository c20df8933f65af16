/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

static const check_case cases[] = {
    { .label = "1", .inputs = { SORA_SHAPE(1), SORA_SHAPE(1) }, .values = { { .low = -3, .high = 3 }, { .low = -3, .high = 3 } }, .small = true },
    { .label = "3x17",
      .inputs = { SORA_SHAPE(3, 17), SORA_SHAPE(3, 17) },
      .values = { { .low = -3, .high = 3 }, { .low = -3, .high = 3 } },
      .small = true,
      .as_gpu = true },
    { .label = "part of a batch, strided",
      .inputs = { SORA_SHAPE(5, 1, 13, 5), SORA_SHAPE(5, 1, 13, 5) },
      .values = { { .low = -3, .high = 3 }, { .low = -3, .high = 3 } },
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "several parts",
      .inputs = { SORA_SHAPE(2, 1, 65, 257), SORA_SHAPE(2, 1, 65, 257) },
      .values = { { .low = -3, .high = 3 }, { .low = -3, .high = 3 } },
      .samples = 50 },
    { .label = "unequal", .inputs = { SORA_SHAPE(3, 4), SORA_SHAPE(3, 5) }, .refused = "must be equal" },
};

static void reference(const check_reference *r)
{
    double sum = 0;
    int64_t n = sora_shape_elements(&r->input_shapes[0]);
    for (int64_t i = 0; i < n; i++) {
        double d = r->inputs[0][i] - r->inputs[1][i];
        sum += d * d;
    }
    r->outputs[0][0] = sum / (double)n;
}

/* A mean of squares of at most 36, the sums as in sum.c. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)test, (void)index;
    return kind == CHECK_GRADIENT ? (check_tolerance) { 8, 8 } : (check_tolerance) { 36 * 160, 8 };
}

const check_op check_mse_loss = { .op = &sora_op_mse_loss,
                                         .batched = 3,
                                         .cases = cases,
                                         .case_count = SORA_COUNT(cases),
                                         .reference = reference,
                                         .tolerance = tolerance };
