/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

static const float ties[] = { 1.0f, 0.0f, -1.0f };
static const float nans[] = { NAN };

static const check_case cases[] = {
    { .label = "2x2", .inputs = { SORA_SHAPE(1, 1, 2, 2) }, .small = true },
    { .label = "odd edges, strided",
      .inputs = { SORA_SHAPE(4, 3, 5, 17) },
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "ties",
      .inputs = { SORA_SHAPE(2, 3, 8, 6) },
      .values = { { .special = ties, .special_count = 3, .quantum = 1 } },
      .exact_gradient = true,
      .as_gpu = true },
    { .label = "nan",
      .inputs = { SORA_SHAPE(2, 3, 8, 6) },
      .values = { { .special = nans, .special_count = 1 } },
      .forward_only = true,
      .as_gpu = true },
    { .label = "large", .inputs = { SORA_SHAPE(2, 3, 65, 257) }, .samples = 100 },
    { .label = "too small", .inputs = { SORA_SHAPE(2, 3, 1, 6) }, .refused = "at least 2" },
};

static int64_t winner(const check_reference *r, int64_t plane, int64_t i, int64_t j)
{
    int64_t h = r->input_shapes[0].dim[2], w = r->input_shapes[0].dim[3], best = -1;
    for (int t = 0; t < 4; t++) {
        int64_t at = (plane * h + 2 * i + t / 2) * w + 2 * j + t % 2;
        if (best < 0 || (!isnan(r->inputs[0][best]) && (r->inputs[0][at] > r->inputs[0][best] || isnan(r->inputs[0][at]))))
            best = at;
    }
    return best;
}

static void each(const check_reference *r, void (*use)(const check_reference *r, int64_t out, int64_t in))
{
    const sora_shape *y = &r->output_shapes[0];
    for (int64_t plane = 0; plane < y->dim[0] * y->dim[1]; plane++)
        for (int64_t i = 0; i < y->dim[2]; i++)
            for (int64_t j = 0; j < y->dim[3]; j++) use(r, (plane * y->dim[2] + i) * y->dim[3] + j, winner(r, plane, i, j));
}

static void take(const check_reference *r, int64_t out, int64_t in)
{
    r->outputs[0][out] = r->inputs[0][in];
}

static void give(const check_reference *r, int64_t out, int64_t in)
{
    r->input_gradients[0][in] += r->output_gradients[0][out];
}

static void reference(const check_reference *r)
{
    each(r, take);
}

static void gradient(const check_reference *r)
{
    for (int64_t i = 0, n = sora_shape_elements(&r->input_shapes[0]); i < n; i++) r->input_gradients[0][i] = 0;
    each(r, give);
}

static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)test, (void)index;
    return (check_tolerance) { kind == CHECK_GRADIENT ? 1e-3 : 0, kind == CHECK_GRADIENT ? 1e-3 : 0 }; /* copies */
}

const check_op check_max_pool2d = { .op = &sora_op_max_pool2d,
                                    .batched = 1,
                                    .cases = cases,
                                    .case_count = SORA_COUNT(cases),
                                    .reference = reference,
                                    .gradient = gradient,
                                    .tolerance = tolerance };
