/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

static const float edges[] = { 0.0f, 1e-30f, -1e-30f, NAN, INFINITY, -INFINITY };

static const check_case cases[] = {
    { .label = "1", .inputs = { SORA_SHAPE(1) }, .small = true },
    { .label = "3x17", .inputs = { SORA_SHAPE(3, 17) }, .small = true, .as_gpu = true },
    { .label = "part of a batch, strided",
      .inputs = { SORA_SHAPE(5, 65) },
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "edges",
      .inputs = { SORA_SHAPE(257) },
      .values = { { .special = edges, .special_count = 6 } },
      .forward_only = true,
      .as_gpu = true },
    { .label = "large", .inputs = { SORA_SHAPE(3, 5, 65, 257) }, .strided = true, .samples = 20 },
};

static void reference(const check_reference *r)
{
    for (int64_t i = 0, n = sora_shape_elements(&r->input_shapes[0]); i < n; i++) {
        double x = r->inputs[0][i];
        r->outputs[0][i] = x < 0 ? 0 : x;
    }
}

static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)test, (void)index;
    /* Nothing is rounded but the differences of the reference. */
    return (check_tolerance) { kind == CHECK_GRADIENT ? 1e-3 : 0, 0 };
}

const check_op check_relu = { .op = &sora_op_relu,
                              .batched = 1,
                              .cases = cases,
                              .case_count = SORA_COUNT(cases),
                              .reference = reference,
                              .tolerance = tolerance };
