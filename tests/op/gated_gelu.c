/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

#define WIDE { { .low = -5, .high = 5 } }

static const check_case cases[] = {
    { .label = "1x2", .inputs = { SORA_SHAPE(1, 2) }, .values = WIDE, .small = true },
    { .label = "3x5x34, part of a batch",
      .inputs = { SORA_SHAPE(4, 5, 34) },
      .values = WIDE,
      .batch = 3,
      .small = true,
      .as_gpu = true },
    { .label = "17x3x514", .inputs = { SORA_SHAPE(17, 3, 514) }, .values = WIDE, .samples = 60 },
    { .label = "odd", .inputs = { SORA_SHAPE(3, 5) }, .refused = "expected [..., 2 f]" },
};

static void reference(const check_reference *r)
{
    int rank = r->input_shapes[0].rank;
    int64_t f = r->input_shapes[0].dim[rank - 1] / 2, rows = sora_shape_elements(&r->input_shapes[0]) / (2 * f);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < f; i++) {
            double a = r->inputs[0][row * 2 * f + i], b = r->inputs[0][row * 2 * f + f + i];
            r->outputs[0][row * f + i] = 0.5 * a * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (a + 0.044715 * a * a * a))) * b;
        }
}

/* tanh within 5 ulp, its argument up to 6 rounded four times over; 1 + tanh near 0 loses what it has in absolute terms, times |a
 * b|. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)test, (void)kind, (void)index;
    return (check_tolerance) { 25 * 40, 40 };
}

const check_op check_gated_gelu = { .op = &sora_op_gated_gelu,
                                    .batched = 1,
                                    .cases = cases,
                                    .case_count = SORA_COUNT(cases),
                                    .reference = reference,
                                    .tolerance = tolerance };
