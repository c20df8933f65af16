/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

static const check_case cases[] = {
    { .label = "1", .inputs = { SORA_SHAPE(1) }, .small = true },
    { .label = "part of a batch, strided",
      .inputs = { SORA_SHAPE(5, 3, 17) },
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "several parts", .inputs = { SORA_SHAPE(2, 5, 65, 257) }, .samples = 50 },
};

static void reference(const check_reference *r)
{
    double sum = 0;
    int64_t n = sora_shape_elements(&r->input_shapes[0]);
    for (int64_t i = 0; i < n; i++) sum += r->inputs[0][i];
    r->outputs[0][0] = sum / (double)n;
}

/* As the sum, divided by the number of terms. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)test, (void)index;
    return kind == CHECK_GRADIENT ? (check_tolerance) { 1e-2, 4 } : (check_tolerance) { 160, 4 };
}

const check_op check_mean = { .op = &sora_op_mean,
                              .batched = 1,
                              .cases = cases,
                              .case_count = SORA_COUNT(cases),
                              .reference = reference,
                              .tolerance = tolerance };
