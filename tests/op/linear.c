/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

static const sora_linear_attributes plain = { 0 }, relu = { .relu = true };
#define CASE(m, q, p) .inputs = { SORA_SHAPE(m, q), SORA_SHAPE(p, q), SORA_SHAPE(p) }

static const check_case cases[] = {
    { .label = "1x1x1", CASE(1, 1, 1), .attributes = &plain, .small = true },
    { .label = "3x17x5, strided",
      CASE(5, 17, 5),
      .attributes = &plain,
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "17x3x65 with relu",
      CASE(17, 3, 65),
      .attributes = &relu,
      .batch = 16,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "flattened, without bias",
      .inputs = { SORA_SHAPE(4, 3, 2, 5), SORA_SHAPE(7, 30), { 0 } },
      .attributes = &relu,
      .batch = 3,
      .strided = true,
      .as_gpu = true },
    { .label = "sequences with relu",
      .inputs = { SORA_SHAPE(4, 5, 17), SORA_SHAPE(7, 17), SORA_SHAPE(7) },
      .attributes = &relu,
      .batch = 3,
      .small = true,
      .as_gpu = true },
    { .label = "65x257x33", CASE(65, 257, 33), .attributes = &plain, .samples = 40 },
    { .label = "other width",
      .inputs = { SORA_SHAPE(4, 3), SORA_SHAPE(7, 4), { 0 } },
      .attributes = &plain,
      .refused = "expected [m, q]" },
    { .label = "8x256x256", CASE(8, 256, 256), .attributes = &plain, .perf = true },
    { .label = "512x512x512", CASE(512, 512, 512), .attributes = &plain, .perf = true },
};

static void reference(const check_reference *r)
{
    int64_t p = r->input_shapes[1].dim[0], q = r->input_shapes[1].dim[1], m = sora_shape_elements(&r->output_shapes[0]) / p;
    bool cut = ((const sora_linear_attributes *)r->attributes)->relu;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < p; j++) {
            double sum = r->inputs[2] ? r->inputs[2][j] : 0;
            for (int64_t k = 0; k < q; k++) sum += r->inputs[0][i * q + k] * r->inputs[1][j * q + k];
            r->outputs[0][i * p + j] = cut && sum < 0 ? 0 : sum;
        }
}

/* Forward sums over q, dx over p, dW and db over m (without lanes: m roundings). */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    double p = (double)test->inputs[1].dim[0], q = (double)test->inputs[1].dim[1], m = check_elements(test, 0) / q;
    if (kind == CHECK_OUTPUT) return check_sum_tolerance(q + 1);
    double terms = index == 0 ? p : m;
    return (check_tolerance) { terms * (terms + 8), 8 };
}

static check_work work(const check_case *test, bool backward)
{
    return (check_work) { (backward ? 4 : 2) * check_elements(test, 0) * (double)test->inputs[1].dim[0], 0 };
}

const check_op check_linear = { .op = &sora_op_linear,
                                .batched = 1,
                                .cases = cases,
                                .case_count = SORA_COUNT(cases),
                                .reference = reference,
                                .tolerance = tolerance,
                                .work = work };
