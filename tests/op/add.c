/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

static const check_case cases[] = {
    { .label = "1", .inputs = { SORA_SHAPE(1), SORA_SHAPE(1) }, .small = true },
    { .label = "part of a batch, strided",
      .inputs = { SORA_SHAPE(5, 3, 17), SORA_SHAPE(5, 3, 17) },
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "large", .inputs = { SORA_SHAPE(3, 65, 257), SORA_SHAPE(3, 65, 257) }, .samples = 20 },
    { .label = "unequal", .inputs = { SORA_SHAPE(3, 5), SORA_SHAPE(3, 6) }, .refused = "must be equal" },
};

static void reference(const check_reference *r)
{
    for (int64_t i = 0, n = sora_shape_elements(&r->input_shapes[0]); i < n; i++)
        r->outputs[0][i] = r->inputs[0][i] + r->inputs[1][i];
}

static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)test, (void)index;
    return (check_tolerance) { kind == CHECK_GRADIENT ? 1e-3 : 0,
                               kind == CHECK_GRADIENT ? 1e-3 : 1 }; /* one rounding; gradients are copies */
}

const check_op check_add = { .op = &sora_op_add,
                             .batched = 3,
                             .cases = cases,
                             .case_count = SORA_COUNT(cases),
                             .reference = reference,
                             .tolerance = tolerance };
