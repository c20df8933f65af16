/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

static const sora_conv2d_attributes size1 = { .kernel = 1 }, size3 = { .kernel = 3 },
                                    counted3 = { .kernel = 3, .statistics = true };
#define CASE(k, n, c, o, h, w) .inputs = { SORA_SHAPE(n, c, h, w), SORA_SHAPE(o, c, k, k), SORA_SHAPE(o) }, .attributes = &size##k

static const check_case cases[] = {
    { .label = "1x1 of one pixel", CASE(1, 1, 1, 1, 1, 1), .small = true },
    { .label = "3x3 of one pixel", CASE(3, 1, 1, 1, 1, 1), .small = true },
    { .label = "3x3 of a column, strided", CASE(3, 3, 2, 3, 17, 1), .batch = 2, .strided = true, .small = true, .as_gpu = true },
    { .label = "3x3 of a row, strided", CASE(3, 3, 3, 5, 1, 17), .batch = 2, .strided = true, .small = true, .as_gpu = true },
    { .label = "3x3 of 5x3", CASE(3, 2, 3, 9, 5, 3), .small = true, .as_gpu = true },
    { .label = "3x3 of 4x4", CASE(3, 2, 8, 8, 4, 4), .as_gpu = true },
    { .label = "3x3 without bias",
      .inputs = { SORA_SHAPE(2, 4, 16, 16), SORA_SHAPE(6, 4, 3, 3), { 0 } },
      .attributes = &size3,
      .as_gpu = true },
    { .label = "1x1 of 17x3, strided", CASE(1, 3, 5, 17, 17, 3), .batch = 2, .strided = true, .small = true, .as_gpu = true },
    { .label = "3x3 of 65x17", CASE(3, 1, 3, 5, 65, 17), .samples = 60, .as_gpu = true },
    { .label = "3x3 of 33x64, strided", CASE(3, 2, 2, 3, 33, 64), .batch = 1, .strided = true, .samples = 60 },
    { .label = "3x3 of 3x257", CASE(3, 1, 2, 17, 3, 257), .samples = 60 },
    { .label = "3x3 of rows as wide as a register", CASE(3, 2, 3, 5, 6, 8), .small = true },
    { .label = "3x3 of two rows of 23, strided", CASE(3, 3, 9, 6, 2, 23), .batch = 2, .strided = true, .small = true },
    { .label = "3x3 to one channel of rows of 16", CASE(3, 2, 2, 1, 9, 16), .samples = 60 },
    { .label = "3x3 of more sums than rows keep", CASE(3, 2, 65, 8, 5, 9), .samples = 15 },
    { .label = "3x3 of bands across images", CASE(3, 5, 2, 3, 30, 47), .samples = 60 },
#define COUNTED(n, c, o, h, w) \
    .inputs = { SORA_SHAPE(n, c, h, w), SORA_SHAPE(o, c, 3, 3), SORA_SHAPE(o) }, .attributes = &counted3, .forward_only = true
    { .label = "statistics of 7x23, strided", COUNTED(3, 3, 6, 7, 23), .batch = 2, .strided = true, .small = true },
    { .label = "statistics of two rows", COUNTED(2, 2, 1, 2, 16) },
    { .label = "statistics far from zero", COUNTED(2, 4, 8, 16, 40), .values = { { 0 }, { 0 }, { .low = 999, .high = 1001 } } },
    { .label = "statistics by transformed tiles", COUNTED(1, 32, 32, 16, 16), .refused = "no statistics" },
    { .label = "1x1 of 65x65", CASE(1, 2, 3, 1, 65, 65), .samples = 40 },
    { .label = "tiles of 9x10, strided", CASE(3, 3, 19, 17, 9, 10), .batch = 2, .strided = true, .samples = 15, .as_gpu = true },
    { .label = "tiles of 8x12", CASE(3, 2, 16, 33, 8, 12), .samples = 15 },
    { .label = "tiles of a column", CASE(3, 1, 16, 16, 65, 1), .samples = 15 },
    { .label = "other channels",
      .inputs = { SORA_SHAPE(1, 2, 4, 4), SORA_SHAPE(3, 3, 3, 3), { 0 } },
      .attributes = &size3,
      .refused = "channels" },
    { .label = "5x5",
      .inputs = { SORA_SHAPE(1, 2, 4, 4), SORA_SHAPE(3, 2, 5, 5), { 0 } },
      .attributes = &size3,
      .refused = "expected k = 1 or 3" },
#define PERF(c, o, s)                                                                \
    {                                                                                \
        .label = "3x3 " #c " to " #o " of " #s, CASE(3, 8, c, o, s, s), .perf = true \
    }
    PERF(4, 4, 128),
    PERF(8, 4, 128),
    PERF(8, 8, 64),
    PERF(16, 16, 32),
    PERF(32, 32, 16),
    PERF(64, 64, 8),
    PERF(64, 64, 4),
    PERF(128, 128, 32),
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

/* Of parts of six rows: pixels, their mean, the sum of squares of what they differ from it. */
static void count_parts(const double *y, const sora_shape *shape, double *out)
{
    int64_t height = shape->dim[2], width = shape->dim[3], parts = (height + 5) / 6;
    for (int64_t plane = 0; plane < shape->dim[0] * shape->dim[1]; plane++)
        for (int64_t part = 0; part < parts; part++, out += 3) {
            const double *from = y + (plane * height + part * 6) * width;
            int64_t pixels = SORA_MIN(6, height - part * 6) * width;
            out[0] = (double)pixels;
            out[1] = out[2] = 0;
            for (int64_t i = 0; i < pixels; i++) out[1] += from[i] / (double)pixels;
            for (int64_t i = 0; i < pixels; i++) out[2] += (from[i] - out[1]) * (from[i] - out[1]);
        }
}

static void reference(const check_reference *r)
{
    const sora_shape *x = &r->input_shapes[0], *y = &r->output_shapes[0];
    int64_t pixels = x->dim[2] * x->dim[3];
    convolve(r->inputs[0], r->inputs[1], r->outputs[0], x->dim[0], x->dim[1], y->dim[1], x->dim[2], x->dim[3],
             ((const sora_conv2d_attributes *)r->attributes)->kernel);
    if (r->inputs[2])
        for (int64_t i = 0; i < sora_shape_elements(y); i++) r->outputs[0][i] += r->inputs[2][i / pixels % y->dim[1]];
    if (r->outputs[1]) count_parts(r->outputs[0], y, r->outputs[1]);
}

/* Forward: c·k² terms; dx: o·k²; dW and db: all pixels of all images. A large bias is in all partial sums. Statistics: what y is
 * off by enters squares twice, times what pixels differ by. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    const sora_shape *x = &test->inputs[0], *w = &test->inputs[1];
    double taps = (double)(w->dim[2] * w->dim[3]), pixels = (double)(x->dim[0] * x->dim[2] * x->dim[3]);
    if (kind == CHECK_OUTPUT) {
        double terms = (double)x->dim[1] * taps, part = 6 * (double)x->dim[3];
        check_tolerance y = check_sum_tolerance(terms + 1);
        y.absolute += (double)test->values[2].high * terms;
        if (index == 1) return (check_tolerance) { 2 * part * sqrt(terms) * y.absolute, part / 16 + 16 };
        return y;
    }
    return check_sum_tolerance(index == 0 ? (double)w->dim[0] * taps : pixels);
}

static check_work work(const check_case *test, bool backward)
{
    double macs = check_elements(test, 0) * (double)(test->inputs[1].dim[0] * test->inputs[1].dim[2] * test->inputs[1].dim[3]);
    return (check_work) { (backward ? 4 : 2) * macs, 0 };
}

const check_op check_conv2d = { .op = &sora_op_conv2d,
                                .batched = 1,
                                .cases = cases,
                                .case_count = SORA_COUNT(cases),
                                .reference = reference,
                                .tolerance = tolerance,
                                .work = work };
