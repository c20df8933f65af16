/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

static const check_case cases[] = {
    { .label = "columns", .inputs = { SORA_SHAPE(3, 1), SORA_SHAPE(3, 17) }, .small = true, .as_gpu = true },
    { .label = "part of a batch, strided",
      .inputs = { SORA_SHAPE(4, 2, 3, 5), SORA_SHAPE(4, 7, 3, 5) },
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "three", .inputs = { SORA_SHAPE(2, 1, 17, 3), SORA_SHAPE(2, 3, 17, 3), SORA_SHAPE(2, 2, 17, 3) } },
    { .label = "another height", .inputs = { SORA_SHAPE(3, 1, 4, 4), SORA_SHAPE(3, 1, 5, 4) }, .refused = "differ in more than" },
};

static void reference(const check_reference *r)
{
    int64_t items = r->output_shapes[0].dim[0], joined = sora_shape_elements(&r->output_shapes[0]) / items, place = 0;
    for (int i = 0; i < SORA_OP_MAX_INPUTS && r->inputs[i]; i++) {
        int64_t part = sora_shape_elements(&r->input_shapes[i]) / items;
        for (int64_t n = 0; n < items; n++)
            for (int64_t j = 0; j < part; j++) r->outputs[0][n * joined + place + j] = r->inputs[i][n * part + j];
        place += part;
    }
}

static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)test, (void)index;
    return (check_tolerance) { kind == CHECK_GRADIENT ? 1e-3 : 0, kind == CHECK_GRADIENT ? 1e-3 : 0 }; /* copies */
}

const check_op check_concat = { .op = &sora_op_concat,
                                .batched = 7,
                                .cases = cases,
                                .case_count = SORA_COUNT(cases),
                                .reference = reference,
                                .tolerance = tolerance };
