/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdlib.h>

static const sora_adapted_attributes plain1 = { .scale = 0.5f, .kernel = 1 }, plain3 = { .scale = 2.0f, .kernel = 3 },
                                     dropped3 = { .scale = 1.5f, .dropout = 0.25f, .kernel = 3 };
#define CASE(k, n, c, o, r, h, w)                                                \
    .inputs = { SORA_SHAPE(n, c, h, w), SORA_SHAPE(o, c, k, k), SORA_SHAPE(o),   \
                SORA_SHAPE(r, c, k, k), SORA_SHAPE(o, r),       SORA_SHAPE(r) }, \
    .attributes = &plain##k

static const check_case cases[] = {
    { .label = "3x3 of one pixel", CASE(3, 1, 1, 1, 1, 1, 1), .small = true },
    { .label = "3x3, strided", CASE(3, 3, 3, 5, 2, 5, 7), .batch = 2, .strided = true, .small = true, .as_gpu = true },
    { .label = "1x1, strided", CASE(1, 3, 5, 3, 3, 5, 17), .batch = 2, .strided = true, .small = true, .as_gpu = true },
    { .label = "lora",
      .inputs = { SORA_SHAPE(2, 3, 4, 4), SORA_SHAPE(4, 3, 3, 3), { 0 }, SORA_SHAPE(2, 3, 3, 3), SORA_SHAPE(4, 2), { 0 } },
      .attributes = &plain3,
      .small = true,
      .as_gpu = true },
    { .label = "1x1, rank 11", CASE(1, 2, 5, 3, 11, 3, 5), .batch = 2, .as_gpu = true },
    { .label = "1x1, 70 outputs", CASE(1, 1, 2, 70, 3, 3, 3), .samples = 30, .as_gpu = true },
    { .label = "evaluation", CASE(3, 2, 3, 4, 2, 8, 8), .evaluation = true, .as_gpu = true },
    { .label = "dropout",
      .inputs = { SORA_SHAPE(3, 2, 5, 3), SORA_SHAPE(3, 2, 3, 3), SORA_SHAPE(3), SORA_SHAPE(2, 2, 3, 3), SORA_SHAPE(3, 2),
                  SORA_SHAPE(2) },
      .attributes = &dropped3,
      .batch = 2,
      .first_sample = 5,
      .strided = true,
      .as_gpu = true },
    { .label = "rows that overlap", CASE(3, 2, 2, 3, 2, 19, 37), .samples = 30 },
    { .label = "rank",
      .inputs = { SORA_SHAPE(1, 3, 4, 4), SORA_SHAPE(4, 3, 3, 3), { 0 }, SORA_SHAPE(2, 3, 3, 3), SORA_SHAPE(4, 3), { 0 } },
      .attributes = &plain3,
      .refused = "don't fit" },
};

/* y[n][o] = Σ_c x[n][c] ∗ w[o][c], zero padding, stride 1. */
static void convolve(const double *x, const double *w, double *y, int64_t items, int64_t c, int64_t o, int64_t h, int64_t wd,
                     int k)
{
    for (int64_t n = 0; n < items; n++)
        for (int64_t a = 0; a < o; a++)
            for (int64_t i = 0; i < h; i++)
                for (int64_t j = 0; j < wd; j++) {
                    double sum = 0;
                    for (int64_t b = 0; b < c; b++)
                        for (int t = 0; t < k * k; t++) {
                            int64_t u = i + t / k - k / 2, v = j + t % k - k / 2;
                            if (u >= 0 && u < h && v >= 0 && v < wd)
                                sum += x[((n * c + b) * h + u) * wd + v] * w[(a * c + b) * k * k + t];
                        }
                    y[((n * o + a) * h + i) * wd + j] = sum;
                }
}

static double keep(const check_reference *r, float probability, int64_t sample, int64_t element)
{
    uint32_t counter[4] = { r->step, r->stream, r->first_sample + (uint32_t)sample, (uint32_t)(element / 8) }, words[4];
    uint32_t threshold = (uint32_t)(probability * 65536.0f + 0.5f);
    sora_philox(r->seed, SORA_PURPOSE_DROPOUT, counter, words);
    uint32_t half = words[element % 8 / 2] >> (element % 2 ? 16 : 0) & 0xffff;
    return half < threshold ? 0 : 65536.0 / (65536.0 - threshold);
}

static void reference(const check_reference *r)
{
    const sora_adapted_attributes *a = r->attributes;
    const sora_shape *x = &r->input_shapes[0], *y = &r->output_shapes[0];
    int64_t items = x->dim[0], c = x->dim[1], o = y->dim[1], rank = r->input_shapes[4].dim[1], h = x->dim[2], w = x->dim[3],
            pixels = h * w, inner = c * pixels;
    double *branch = malloc((size_t)(items * inner) * sizeof *branch), *t = malloc((size_t)(items * rank * pixels) * sizeof *t);
    for (int64_t i = 0; i < items * inner; i++)
        branch[i] = r->inputs[0][i] * (r->training && a->dropout > 0 ? keep(r, a->dropout, i / inner, i % inner) : 1);
    convolve(r->inputs[0], r->inputs[1], r->outputs[0], items, c, o, h, w, a->kernel);
    convolve(branch, r->inputs[3], t, items, c, rank, h, w, a->kernel);
    for (int64_t i = 0; i < items * o * pixels; i++) {
        int64_t n = i / (o * pixels), out = i / pixels % o, pixel = i % pixels;
        if (r->inputs[2]) r->outputs[0][i] += r->inputs[2][out];
        for (int64_t j = 0; j < rank; j++)
            r->outputs[0][i] += (double)a->scale * r->inputs[4][out * rank + j] * (r->inputs[5] ? r->inputs[5][j] : 1) *
                                t[(n * rank + j) * pixels + pixel];
    }
    free(branch);
    free(t);
}

/* Products of three or four factors, scaled by at most 2 · 4/3: the sums of both convolutions one inside the other. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    const sora_shape *x = &test->inputs[0], *w = &test->inputs[1];
    double taps = (double)(w->dim[2] * w->dim[3]), pixels = (double)(x->dim[0] * x->dim[2] * x->dim[3]),
           rank = (double)test->inputs[4].dim[1];
    double inner = (double)x->dim[1] * taps, outer = (double)w->dim[0];
    double terms = kind == CHECK_OUTPUT ? inner * (1 + 3 * rank)
                   : index == 0         ? outer * taps * (1 + 3 * rank)
                                        : 3 * pixels * SORA_MAX(inner, outer);
    (void)index;
    return (check_tolerance) { terms * 40 + terms * pixels / 16 * (kind == CHECK_GRADIENT && index > 0), 16 };
}

const check_op check_adapted_conv2d = { .op = &sora_op_adapted_conv2d,
                                        .batched = 1,
                                        .cases = cases,
                                        .case_count = SORA_COUNT(cases),
                                        .reference = reference,
                                        .tolerance = tolerance };
