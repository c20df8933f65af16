/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <math.h>

static const sora_relative_bias_attributes one = { .queries = 1, .keys = 1, .farthest = 128, .bidirectional = true },
                                           both = { .queries = 7, .keys = 5, .farthest = 20, .bidirectional = true },
                                           causal = { .queries = 17, .keys = 17, .farthest = 12 },
                                           far = { .queries = 400, .keys = 400, .farthest = 128, .bidirectional = true },
                                           far_causal = { .queries = 300, .keys = 300, .farthest = 128 },
                                           none = { .queries = 0, .keys = 3, .farthest = 128 };

static const check_case cases[] = {
    { .label = "1", .inputs = { SORA_SHAPE(32, 1) }, .attributes = &one, .small = true },
    { .label = "both ways", .inputs = { SORA_SHAPE(8, 3) }, .attributes = &both, .small = true, .as_gpu = true },
    { .label = "causal", .inputs = { SORA_SHAPE(8, 3) }, .attributes = &causal, .small = true, .as_gpu = true },
    { .label = "beyond the farthest", .inputs = { SORA_SHAPE(32, 8) }, .attributes = &far, .samples = 60 },
    { .label = "beyond the farthest, causal", .inputs = { SORA_SHAPE(32, 8) }, .attributes = &far_causal, .samples = 60 },
    { .label = "no queries", .inputs = { SORA_SHAPE(32, 8) }, .attributes = &none, .refused = "expected at least 1" },
    { .label = "odd buckets", .inputs = { SORA_SHAPE(33, 8) }, .attributes = &far, .refused = "expected [buckets, heads]" },
};

/* The formula without logarithms: the k-th of n logarithmic buckets begins at the least distance d with (d / e)^n >= (f /
 * e)^k. */
static int bucket(int relative, int buckets, int farthest, bool bidirectional)
{
    int n = bidirectional ? buckets / 2 : buckets, exact = n / 2, base = bidirectional && relative > 0 ? n : 0;
    int distance = bidirectional ? abs(relative) : relative < 0 ? -relative : 0, k = 0;
    if (distance < exact) return base + distance;
    double step = pow((double)farthest / exact, 1.0 / (n - exact));
    while (k < n - exact - 1 && distance >= exact * pow(step, k + 1) * (1 - 1e-12)) k++;
    return base + exact + k;
}

static void reference(const check_reference *r)
{
    const sora_relative_bias_attributes *a = r->attributes;
    int64_t heads = r->input_shapes[0].dim[1], count = a->queries + a->keys - 1;
    for (int64_t h = 0; h < heads; h++)
        for (int64_t x = 0; x < count; x++)
            r->outputs[0][h * count + x] =
                r->inputs[0][bucket((int)x - (a->queries - 1), (int)r->input_shapes[0].dim[0], a->farthest, a->bidirectional) *
                                 heads +
                             h];
}

/* Copies, and sums of at most the whole line. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    (void)index;
    const sora_relative_bias_attributes *a = test->attributes;
    double terms = a->queries + a->keys;
    return kind == CHECK_OUTPUT ? (check_tolerance) { 0, 0 } : (check_tolerance) { terms * terms, 4 };
}

const check_op check_relative_bias = {
    .op = &sora_op_relative_bias, .cases = cases, .case_count = SORA_COUNT(cases), .reference = reference, .tolerance = tolerance
};
