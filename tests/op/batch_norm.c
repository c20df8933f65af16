/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

#define ATTRIBUTES(...)                                 \
    {                                                   \
        .epsilon = 1e-5f, .momentum = 0.1f, __VA_ARGS__ \
    }
static const sora_batch_norm_attributes plain = ATTRIBUTES(), relu = ATTRIBUTES(.relu = true),
                                        frozen = ATTRIBUTES(.frozen = true),
                                        frozen_relu = ATTRIBUTES(.frozen = true, .relu = true), pool = ATTRIBUTES(.pool = true),
                                        pool_relu = ATTRIBUTES(.relu = true, .pool = true),
                                        pool_frozen = ATTRIBUTES(.frozen = true, .relu = true, .pool = true);
#define CASE(n, c, h, w) .inputs = { SORA_SHAPE(n, c, h, w), SORA_SHAPE(c), SORA_SHAPE(c), SORA_SHAPE(c), SORA_SHAPE(c) }
#define VARIANCE                \
    { 0 }, { 0 }, { 0 }, { 0 }, \
    {                           \
        .low = 0.5f, .high = 2  \
    }

static const check_case cases[] = {
    { .label = "3x2 of 5x3, strided",
      CASE(4, 2, 5, 3),
      .values = { VARIANCE },
      .attributes = &plain,
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "relu", CASE(3, 3, 4, 17), .values = { VARIANCE }, .attributes = &relu, .small = true, .as_gpu = true },
    { .label = "frozen",
      CASE(3, 3, 5, 5),
      .values = { VARIANCE },
      .attributes = &frozen,
      .batch = 2,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "frozen, relu", CASE(3, 3, 5, 5), .values = { VARIANCE }, .attributes = &frozen_relu, .as_gpu = true },
    { .label = "evaluation", CASE(3, 3, 5, 5), .values = { VARIANCE }, .attributes = &relu, .evaluation = true, .as_gpu = true },
    { .label = "far from zero",
      CASE(3, 2, 9, 17),
      .values = { { .low = 99, .high = 101 }, { 0 }, { 0 }, { 0 }, { .low = 0.5f, .high = 2 } },
      .attributes = &plain,
      .forward_only = true },
    { .label = "several runs", CASE(2, 2, 65, 65), .values = { VARIANCE }, .attributes = &plain, .samples = 40, .as_gpu = true },
    { .label = "groups of images",
      CASE(65, 2, 17, 3),
      .values = { VARIANCE },
      .attributes = &plain,
      .batch = 63,
      .samples = 40,
      .as_gpu = true },
    { .label = "pool, strided",
      CASE(4, 2, 6, 10),
      .values = { VARIANCE },
      .attributes = &pool,
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "pool, relu", CASE(3, 3, 4, 16), .values = { VARIANCE }, .attributes = &pool_relu, .small = true, .as_gpu = true },
    { .label = "pool, frozen", CASE(3, 3, 4, 6), .values = { VARIANCE }, .attributes = &pool_frozen, .as_gpu = true },
    { .label = "pool, evaluation", CASE(3, 3, 4, 6), .values = { VARIANCE }, .attributes = &pool_relu, .evaluation = true },
    { .label = "pool, several runs",
      CASE(2, 2, 66, 64),
      .values = { VARIANCE },
      .attributes = &pool_relu,
      .samples = 40,
      .as_gpu = true },
    { .label = "statistics of its input",
      .inputs = { SORA_SHAPE(3, 2, 4, 4), SORA_SHAPE(2), SORA_SHAPE(2), SORA_SHAPE(2), SORA_SHAPE(2), SORA_SHAPE(3, 2, 2, 3) },
      .values = { VARIANCE, { .low = 8, .high = 8 } },
      .attributes = &relu,
      .batch = 2,
      .strided = true,
      .forward_only = true,
      .small = true,
      .as_gpu = true },
    { .label = "statistics of other channels",
      .inputs = { SORA_SHAPE(3, 2, 4, 4), SORA_SHAPE(2), SORA_SHAPE(2), SORA_SHAPE(2), SORA_SHAPE(2), SORA_SHAPE(3, 1, 2, 3) },
      .attributes = &relu,
      .refused = "expected [n, c, parts, 3]" },
    { .label = "pool, odd", CASE(2, 3, 4, 5), .attributes = &pool, .refused = "expected even h and w" },
    { .label = "channels",
      .inputs = { SORA_SHAPE(2, 3, 4, 4), SORA_SHAPE(3), SORA_SHAPE(4), SORA_SHAPE(3), SORA_SHAPE(3) },
      .attributes = &plain,
      .refused = "takes 3 values" },
};

static void reference(const check_reference *r)
{
    const sora_batch_norm_attributes *a = r->attributes;
    const sora_shape *x = &r->input_shapes[0];
    int64_t items = x->dim[0], channels = x->dim[1], pixels = x->dim[2] * x->dim[3], count = items * pixels;
    for (int64_t c = 0; c < channels; c++) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < count; i++)
            mean += r->inputs[0][(i / pixels * channels + c) * pixels + i % pixels] / (double)count;
        for (int64_t i = 0; i < count; i++) {
            double d = r->inputs[0][(i / pixels * channels + c) * pixels + i % pixels] - mean;
            variance += d * d / (double)count;
        }
        if (r->inputs[5]) {
            mean = 8;
            variance = 8.0 / (double)(pixels / 2);
        }
        if (r->training && !a->frozen) {
            r->inputs[3][c] += (double)a->momentum * (mean - r->inputs[3][c]);
            r->inputs[4][c] += (double)a->momentum * (variance * (double)count / (double)(count - 1) - r->inputs[4][c]);
        } else {
            mean = r->inputs[3][c];
            variance = r->inputs[4][c];
        }
        for (int64_t i = 0; i < count; i++) {
            int64_t at = (i / pixels * channels + c) * pixels + i % pixels;
            double y = (r->inputs[0][at] - mean) / sqrt(variance + (double)a->epsilon) * r->inputs[1][c] + r->inputs[2][c];
            r->outputs[0][at] = a->relu && y < 0 ? 0 : y;
        }
    }
    int64_t width = x->dim[3], pooled = a->pool ? items * channels * pixels / 4 : 0;
    for (int64_t i = 0; i < pooled; i++) {
        const double *square = r->outputs[0] + (2 * (i / (width / 2)) * width + 2 * (i % (width / 2)));
        r->outputs[1][i] = fmax(fmax(square[0], square[1]), fmax(square[width], square[width + 1]));
    }
}

/* Values of about 1 with variance 1/3, or 100 with the same: x itself is then only known to 2^-24 of 100. Sums over all pixels,
 * in lanes; 1/sigma is below 8 in all cases and enters the gradients twice. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    double count = check_elements(test, 0) / (double)test->inputs[0].dim[1], large = test->values[0].low != 0 ? 100 : 1,
           depth = count / 16 + 16;
    (void)index;
    if (kind == CHECK_GRADIENT) return (check_tolerance) { index == 0 ? 64 * depth : 64 * count * 8, 64 };
    return (check_tolerance) { 8 * large * depth, 16 };
}

const check_op check_batch_norm = { .op = &sora_op_batch_norm,
                                    .batched = 1 | 1 << 5,
                                    .state = 1 << 3 | 1 << 4,
                                    .cases = cases,
                                    .case_count = SORA_COUNT(cases),
                                    .reference = reference,
                                    .tolerance = tolerance };
