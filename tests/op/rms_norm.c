/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

static const sora_rms_norm_attributes usual = { .epsilon = 1e-6f };

static const check_case cases[] = {
    { .label = "1x1",
      .inputs = { SORA_SHAPE(1, 1), SORA_SHAPE(1) },
      .values = { { .low = 0.5f, .high = 1 } },
      .attributes = &usual,
      .small = true },
    { .label = "3x5x17, part of a batch",
      .inputs = { SORA_SHAPE(4, 5, 17), SORA_SHAPE(17) },
      .attributes = &usual,
      .batch = 3,
      .small = true,
      .as_gpu = true },
    { .label = "130 rows of 65",
      .inputs = { SORA_SHAPE(130, 65), SORA_SHAPE(65) },
      .attributes = &usual,
      .samples = 60,
      .as_gpu = true },
    { .label = "7x3x257",
      .inputs = { SORA_SHAPE(7, 3, 257), SORA_SHAPE(257) },
      .attributes = &usual,
      .samples = 60,
      .as_gpu = true },
    { .label = "other width",
      .inputs = { SORA_SHAPE(3, 4), SORA_SHAPE(5) },
      .attributes = &usual,
      .refused = "expected [..., d]" },
};

static void reference(const check_reference *r)
{
    int64_t d = r->input_shapes[1].dim[0], rows = sora_shape_elements(&r->input_shapes[0]) / d;
    for (int64_t row = 0; row < rows; row++) {
        const double *x = r->inputs[0] + row * d;
        double squares = 0;
        for (int64_t i = 0; i < d; i++) squares += x[i] * x[i];
        for (int64_t i = 0; i < d; i++) r->outputs[0][row * d + i] = x[i] / sqrt(squares / (double)d + 1e-6) * r->inputs[1][i];
    }
}

/* Values of at most √d; a root within 4 ulp; dx has a sum of d terms, dw of all rows, both of terms of at most √d. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    double d = (double)test->inputs[1].dim[0], rows = check_elements(test, 0) / d, most = sqrt(d);
    if (kind == CHECK_OUTPUT) return (check_tolerance) { 1e-3, d / 16 + 16 };
    double terms = index == 1 ? rows : d;
    return (check_tolerance) { most * terms * (terms + 16), 32 };
}

const check_op check_rms_norm = { .op = &sora_op_rms_norm,
                                  .batched = 1,
                                  .cases = cases,
                                  .case_count = SORA_COUNT(cases),
                                  .reference = reference,
                                  .tolerance = tolerance };
