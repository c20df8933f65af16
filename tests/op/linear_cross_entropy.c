/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

static const sora_linear_cross_entropy_attributes plain = { .scale = 1, .ignored = -100 },
                                                  scaled = { .scale = 0.37f, .ignored = -100 },
                                                  smooth = { .scale = 0.37f, .smoothing = 0.1f, .ignored = -100 },
                                                  wrong = { .scale = 1, .smoothing = 1, .ignored = -100 };
static const float ignored[] = { -100 }, outside[] = { 7 };
#define CASE(n, t, d, v) .inputs = { SORA_SHAPE(n, t, d), SORA_SHAPE(v, d), SORA_SHAPE(n, t) }
#define LABELS(v) .values = { { 0 }, { 0 }, { .low = 0, .high = (v)-1, .quantum = 1, .special = ignored, .special_count = 1 } }

static const check_case cases[] = {
    { .label = "1x1x1 of 1",
      CASE(1, 1, 1, 1),
      .attributes = &plain,
      .values = { { 0 }, { 0 }, { .low = 0, .high = 0.4f, .quantum = 1 } },
      .small = true },
    { .label = "3x5x17 of 7, part of a batch",
      CASE(4, 5, 17, 7),
      LABELS(7),
      .attributes = &plain,
      .batch = 3,
      .small = true,
      .as_gpu = true },
    { .label = "with smoothing", CASE(3, 5, 17, 65), LABELS(65), .attributes = &smooth, .small = true, .as_gpu = true },
    { .label = "several chunks", CASE(2, 3, 5, 5003), LABELS(5003), .attributes = &smooth, .samples = 40, .as_gpu = true },
    /* The weight is frozen: forward makes the gradient. */
    { .label = "frozen, part of a batch",
      CASE(4, 5, 17, 7),
      LABELS(7),
      .attributes = &scaled,
      .batch = 3,
      .wanted = { 1 },
      .small = true,
      .as_gpu = true },
    { .label = "frozen, several chunks",
      CASE(2, 3, 5, 5003),
      LABELS(5003),
      .attributes = &scaled,
      .wanted = { 1 },
      .samples = 40, /* all of x; the weight is not compared, and its 25015 differences took long */
      .as_gpu = true },
    { .label = "frozen, with smoothing", CASE(3, 5, 17, 65), LABELS(65), .attributes = &smooth, .wanted = { 1 }, .small = true },
    { .label = "nothing counts",
      CASE(2, 3, 5, 17),
      .attributes = &plain,
      .values = { { 0 }, { 0 }, { .low = -100, .high = -100.1f, .quantum = 1 } },
      .forward_only = true },
    { .label = "a label that is no class",
      CASE(2, 9, 5, 7),
      .attributes = &plain,
      .values = { { 0 }, { 0 }, { .low = 0, .high = 6, .quantum = 1, .special = outside, .special_count = 1 } },
      .forward_only = true },
    { .label = "smoothing of 1", CASE(1, 1, 1, 1), .attributes = &wrong, .refused = "expected 0 to below 1" },
    { .label = "other width",
      .inputs = { SORA_SHAPE(1, 1, 2), SORA_SHAPE(3, 3), SORA_SHAPE(1, 1) },
      .attributes = &plain,
      .refused = "expected [n, t, d]" },
};

static void reference(const check_reference *r)
{
    const sora_linear_cross_entropy_attributes *a = r->attributes;
    int64_t rows = sora_shape_elements(&r->input_shapes[2]), v = r->input_shapes[1].dim[0], d = r->input_shapes[1].dim[1],
            used = 0;
    double sum = 0;
    for (int64_t row = 0; row < rows; row++) {
        int64_t label = (int64_t)r->inputs[2][row];
        double exponentials = 0, all = 0, own = label < v ? 0 : NAN;
        if (label == a->ignored) continue;
        for (int64_t c = 0; c < v; c++) {
            double logit = 0;
            for (int64_t i = 0; i < d; i++) logit += r->inputs[0][row * d + i] * r->inputs[1][c * d + i];
            logit *= (double)a->scale;
            exponentials += exp(logit); /* small logits: no maximum is needed */
            all += logit;
            if (c == label) own = logit;
        }
        sum += log(exponentials) - (1 - (double)a->smoothing) * own - (double)a->smoothing * all / (double)v;
        used++;
    }
    r->outputs[0][0] = used ? sum / (double)used : 0;
}

/* Logits of d terms; the sum of v exponentials in 16 lanes; log and exp within 4 ulp of values up to d + log v. Gradients are
 * sums over v classes or all rows of shares below 1. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    double v = (double)test->inputs[1].dim[0], d = (double)test->inputs[1].dim[1], rows = check_elements(test, 2);
    double logit = d * (d / 16 + 8);
    if (kind == CHECK_OUTPUT) return (check_tolerance) { 2 * logit + v / 16 + 40 + rows, 8 };
    return (check_tolerance) { (index == 0 ? 2 : 1) * (logit + v / 16 + 40 + rows), 64 };
}

const check_op check_linear_cross_entropy = { .op = &sora_op_linear_cross_entropy,
                                              .batched = 1 | 1 << 2,
                                              .integer = 1 << 2,
                                              .cases = cases,
                                              .case_count = SORA_COUNT(cases),
                                              .reference = reference,
                                              .tolerance = tolerance };
