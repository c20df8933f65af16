/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#define TARGET                            \
    {                                     \
        .low = 0, .high = 1, .quantum = 1 \
    }
static const check_case cases[] = {
    { .label = "1", .inputs = { SORA_SHAPE(1), SORA_SHAPE(1) }, .values = { { .low = 0, .high = 1 }, TARGET }, .small = true },
    { .label = "3x17",
      .inputs = { SORA_SHAPE(3, 17), SORA_SHAPE(3, 17) },
      .values = { { .low = 0, .high = 1 }, TARGET },
      .small = true,
      .as_gpu = true },
    { .label = "part of a batch, strided",
      .inputs = { SORA_SHAPE(5, 1, 13, 5), SORA_SHAPE(5, 1, 13, 5) },
      .values = { { .low = 0, .high = 1 }, TARGET },
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "several parts",
      .inputs = { SORA_SHAPE(2, 1, 65, 257), SORA_SHAPE(2, 1, 65, 257) },
      .values = { { .low = 0, .high = 1 }, TARGET },
      .samples = 50 },
    { .label = "unequal", .inputs = { SORA_SHAPE(3, 4), SORA_SHAPE(3, 5) }, .refused = "must be equal" },
};

static void reference(const check_reference *r)
{
    double both = 0, squares = 0;
    for (int64_t i = 0, n = sora_shape_elements(&r->input_shapes[0]); i < n; i++) {
        double p = r->inputs[0][i], t = r->inputs[1][i];
        both += p * t;
        squares += p * p + t * t;
    }
    r->outputs[0][0] = 1 - (2 * both + 1) / (squares + 1);
}

/* A quotient of two sums, each right to 160 roundings of itself; the loss is below 1, the gradient below 4. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)test, (void)kind, (void)index;
    return (check_tolerance) { 4 * 330, 330 };
}

const check_op check_dice_loss = { .op = &sora_op_dice_loss,
                                   .batched = 3,
                                   .cases = cases,
                                   .case_count = SORA_COUNT(cases),
                                   .reference = reference,
                                   .tolerance = tolerance };
