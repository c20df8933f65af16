/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#define CASE(n, c, o, h, w) .inputs = { SORA_SHAPE(n, c, h, w), SORA_SHAPE(c, o, 2, 2), SORA_SHAPE(o) }

static const check_case cases[] = {
    { .label = "one pixel", CASE(1, 1, 1, 1, 1), .small = true },
    { .label = "5x3, strided", CASE(4, 3, 2, 5, 3), .batch = 3, .strided = true, .small = true, .as_gpu = true },
    { .label = "17x1", CASE(2, 5, 3, 17, 1), .small = true, .as_gpu = true },
    { .label = "without bias", .inputs = { SORA_SHAPE(2, 9, 4, 4), SORA_SHAPE(9, 7, 2, 2), { 0 } }, .as_gpu = true },
    { .label = "whole rows of lanes", CASE(2, 5, 3, 3, 32), .batch = 1, .strided = true, .small = true, .as_gpu = true },
    { .label = "17x65", CASE(1, 2, 3, 17, 65), .samples = 60 },
    { .label = "3x3 weights",
      .inputs = { SORA_SHAPE(2, 3, 4, 4), SORA_SHAPE(3, 2, 3, 3), { 0 } },
      .refused = "expected [n, c, h, w], [c, o, 2, 2]" },
};

static void reference(const check_reference *r)
{
    const sora_shape *x = &r->input_shapes[0], *y = &r->output_shapes[0];
    int64_t c = x->dim[1], o = y->dim[1], h = x->dim[2], w = x->dim[3];
    for (int64_t i = 0; i < sora_shape_elements(y); i++) {
        int64_t v = i % (2 * w), u = i / (2 * w) % (2 * h), out = i / (4 * h * w) % o, n = i / (4 * h * w * o);
        double sum = r->inputs[2] ? r->inputs[2][out] : 0;
        for (int64_t b = 0; b < c; b++)
            sum += r->inputs[0][((n * c + b) * h + u / 2) * w + v / 2] * r->inputs[1][(b * o + out) * 4 + u % 2 * 2 + v % 2];
        r->outputs[0][i] = sum;
    }
}

static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    const sora_shape *x = &test->inputs[0], *w = &test->inputs[1];
    double pixels = (double)(x->dim[0] * x->dim[2] * x->dim[3]);
    if (kind == CHECK_OUTPUT) return check_sum_tolerance((double)x->dim[1] + 1);
    return check_sum_tolerance(index == 0 ? 4 * (double)w->dim[1] : 4 * pixels);
}

const check_op check_conv_transpose2d = { .op = &sora_op_conv_transpose2d,
                                          .batched = 1,
                                          .cases = cases,
                                          .case_count = SORA_COUNT(cases),
                                          .reference = reference,
                                          .tolerance = tolerance };
