/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

#define IDS(most) { .low = 0, .high = most, .quantum = 1 }

static const float outside[] = { -1, 7 };

static const check_case cases[] = {
    { .label = "1x1 of 1x1", .inputs = { SORA_SHAPE(1, 1), SORA_SHAPE(1, 1) }, .values = { IDS(0.4f) }, .small = true },
    { .label = "3x5 of 7x17, part of a batch",
      .inputs = { SORA_SHAPE(4, 5), SORA_SHAPE(7, 17) },
      .values = { IDS(6) },
      .batch = 3,
      .small = true,
      .as_gpu = true },
    { .label = "ids that meet again and again",
      .inputs = { SORA_SHAPE(3, 65), SORA_SHAPE(3, 257) },
      .values = { IDS(2) },
      .samples = 60,
      .as_gpu = true },
    { .label = "ids that are no rows",
      .inputs = { SORA_SHAPE(3, 5), SORA_SHAPE(7, 3) },
      .values = { { .low = 0, .high = 6, .quantum = 1, .special = outside, .special_count = 2 } },
      .forward_only = true,
      .small = true },
    { .label = "flat ids", .inputs = { SORA_SHAPE(3), SORA_SHAPE(7, 3) }, .refused = "expected [n, t]" },
};

static void reference(const check_reference *r)
{
    int64_t count = sora_shape_elements(&r->input_shapes[0]), rows = r->input_shapes[1].dim[0], d = r->input_shapes[1].dim[1];
    for (int64_t t = 0; t < count; t++)
        for (int64_t i = 0; i < d; i++) {
            int64_t id = (int64_t)r->inputs[0][t];
            r->outputs[0][t * d + i] = id >= 0 && id < rows ? r->inputs[1][id * d + i] : NAN;
        }
}

/* Copies; gradients are sums of at most every token's, one after the other. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)index;
    double tokens = check_elements(test, 0);
    return kind == CHECK_OUTPUT ? (check_tolerance) { 0, 0 } : (check_tolerance) { tokens * tokens, 4 };
}

const check_op check_embedding = { .op = &sora_op_embedding,
                                   .batched = 1,
                                   .integer = 1,
                                   .cases = cases,
                                   .case_count = SORA_COUNT(cases),
                                   .reference = reference,
                                   .tolerance = tolerance };
