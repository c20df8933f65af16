/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

static const float special[] = { 0.0f, -0.0f, 1e-30f, 88.0f, -88.0f, 300.0f, -300.0f };

static const check_case cases[] = {
    { .label = "1", .inputs = { SORA_SHAPE(1) }, .small = true },
    { .label = "3x17", .inputs = { SORA_SHAPE(3, 17) }, .values = { { .low = -8, .high = 8 } }, .small = true, .as_gpu = true },
    { .label = "part of a batch, strided",
      .inputs = { SORA_SHAPE(5, 65) },
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "without overflow",
      .inputs = { SORA_SHAPE(257) },
      .values = { { .special = special, .special_count = 7 } },
      .as_gpu = true },
};

static void reference(const check_reference *r)
{
    for (int64_t i = 0, n = sora_shape_elements(&r->input_shapes[0]); i < n; i++)
        r->outputs[0][i] = 1 / (1 + exp(-r->inputs[0][i]));
}

/* OpenCL allows exp 3 ulp, the quotient 2.5; the rest is a few roundings. Results of e^-88 may be flushed to 0. The gradient y (1 - y) has
 * y's own roundings, of 1 where y is near 1, as an absolute error. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)test, (void)index;
    return (check_tolerance){ kind == CHECK_GRADIENT ? 8 : 1e-30, 32 };
}

const check_op check_sigmoid = { .op = &sora_op_sigmoid,
                                 .batched = 1,
                                 .cases = cases,
                                 .case_count = SORA_COUNT(cases),
                                 .reference = reference,
                                 .tolerance = tolerance };
