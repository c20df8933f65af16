/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

static const sora_adapted_attributes plain = { .scale = 0.5f }, relu = { .scale = 2.0f, .relu = true },
                                     dropped = { .scale = 1.5f, .dropout = 0.25f },
                                     both = { .scale = 1.5f, .dropout = 0.25f, .relu = true };
/* Three layers of 5, 9 and 3 outputs, ranks 3, 0 and 2: down [5, q], up flat with 5 · 3 + 3 · 2 elements. */
static const sora_adapted_attributes
    packed = { .modules = 3, .outputs = { 5, 9, 3 }, .ranks = { 3, 0, 2 }, .scales = { 0.5f, 1, 2 } },
    packed_dropped = { .dropout = 0.25f, .modules = 3, .outputs = { 5, 9, 3 }, .ranks = { 3, 0, 2 }, .scales = { 0.5f, 1, 2 } };
#define PACKED(n, t) \
    .inputs = { SORA_SHAPE(n, t, 17), SORA_SHAPE(17, 17), { 0 }, SORA_SHAPE(5, 17), SORA_SHAPE(21), SORA_SHAPE(5) }
#define CASE(m, q, p, r) \
    .inputs = { SORA_SHAPE(m, q), SORA_SHAPE(p, q), SORA_SHAPE(p), SORA_SHAPE(r, q), SORA_SHAPE(p, r), SORA_SHAPE(r) }

static const check_case cases[] = {
    { .label = "1x1x1 rank 1", CASE(1, 1, 1, 1), .attributes = &plain, .small = true },
    { .label = "3x17x5 rank 3, strided",
      CASE(5, 17, 5, 3),
      .attributes = &plain,
      .batch = 3,
      .strided = true,
      .small = true,
      .as_gpu = true },
    { .label = "relu", CASE(17, 3, 65, 2), .attributes = &relu, .batch = 16, .strided = true, .small = true, .as_gpu = true },
    { .label = "lora without bias",
      .inputs = { SORA_SHAPE(4, 17), SORA_SHAPE(9, 17), { 0 }, SORA_SHAPE(3, 17), SORA_SHAPE(9, 3), { 0 } },
      .attributes = &plain,
      .small = true,
      .as_gpu = true },
    { .label = "evaluation", CASE(5, 17, 5, 3), .attributes = &relu, .evaluation = true, .as_gpu = true },
    { .label = "dropout",
      CASE(5, 17, 9, 3),
      .attributes = &dropped,
      .batch = 3,
      .first_sample = 5,
      .strided = true,
      .as_gpu = true },
    { .label = "dropout and relu", CASE(5, 17, 9, 3), .attributes = &both, .batch = 3, .first_sample = 5, .as_gpu = true },
    { .label = "rank 17", CASE(33, 65, 40, 17), .attributes = &plain, .samples = 40 },
    { .label = "factors of several work-items", CASE(5, 257, 300, 17), .attributes = &plain, .samples = 40, .as_gpu = true },
    { .label = "sequences",
      .inputs = { SORA_SHAPE(4, 5, 17), SORA_SHAPE(9, 17), { 0 }, SORA_SHAPE(3, 17), SORA_SHAPE(9, 3), SORA_SHAPE(3) },
      .attributes = &relu,
      .batch = 3,
      .small = true,
      .as_gpu = true },
    { .label = "three layers in one", PACKED(4, 5), .attributes = &packed, .batch = 3, .small = true, .as_gpu = true },
    { .label = "three layers in one, dropout",
      PACKED(4, 5),
      .attributes = &packed_dropped,
      .batch = 3,
      .first_sample = 5,
      .as_gpu = true },
    { .label = "three layers without gates",
      .inputs = { SORA_SHAPE(2, 3, 17), SORA_SHAPE(17, 17), { 0 }, SORA_SHAPE(5, 17), SORA_SHAPE(21), { 0 } },
      .attributes = &packed },
    { .label = "three layers of other ranks",
      .inputs = { SORA_SHAPE(2, 3, 17), SORA_SHAPE(17, 17), { 0 }, SORA_SHAPE(6, 17), SORA_SHAPE(21), { 0 } },
      .attributes = &packed,
      .refused = "don't fit" },
    { .label = "factors",
      .inputs = { SORA_SHAPE(4, 17), SORA_SHAPE(9, 17), { 0 }, SORA_SHAPE(3, 16), SORA_SHAPE(9, 3), { 0 } },
      .attributes = &plain,
      .refused = "don't fit" },
};

static double keep(const check_reference *r, float probability, int64_t sample, int64_t element)
{
    uint32_t counter[4] = { r->step, r->stream, r->first_sample + (uint32_t)sample, (uint32_t)(element / 8) }, words[4];
    uint32_t threshold = (uint32_t)(probability * 65536.0f + 0.5f);
    sora_philox(r->seed, SORA_PURPOSE_DROPOUT, counter, words);
    uint32_t half = words[element % 8 / 2] >> (element % 2 ? 16 : 0) & 0xffff;
    return half < threshold ? 0 : 65536.0 / (65536.0 - threshold);
}

/* One row of the branch: t_j = Σ_k x_k down_jk. Dropout knows samples and their elements, of which a sequence has many rows. */
static double down_product(const check_reference *r, int64_t row, int64_t j)
{
    const sora_adapted_attributes *a = r->attributes;
    int64_t q = r->input_shapes[1].dim[1], rows = r->input_shapes[0].rank == 3 ? r->input_shapes[0].dim[1] : 1;
    double sum = 0;
    for (int64_t k = 0; k < q; k++)
        sum += r->inputs[0][row * q + k] * r->inputs[3][j * q + k] *
               (r->training && a->dropout > 0 ? keep(r, a->dropout, row / rows, row % rows * q + k) : 1);
    return sum;
}

/* Element (j, k) of the up factor with its scale, and 0 between the blocks of several layers. */
static double up_element(const check_reference *r, int64_t j, int64_t k)
{
    const sora_adapted_attributes *a = r->attributes;
    const double *up = r->inputs[4];
    if (a->modules == 0) return (double)a->scale * up[j * r->input_shapes[4].dim[1] + k];
    for (int i = 0; i < a->modules; i++) {
        if (j < a->outputs[i]) return k >= 0 && k < a->ranks[i] ? (double)a->scales[i] * up[j * a->ranks[i] + k] : 0;
        up += a->outputs[i] * a->ranks[i];
        j -= a->outputs[i];
        k -= a->ranks[i];
    }
    return 0;
}

static void reference(const check_reference *r)
{
    const sora_adapted_attributes *a = r->attributes;
    int64_t p = r->input_shapes[1].dim[0], q = r->input_shapes[1].dim[1], m = sora_shape_elements(&r->output_shapes[0]) / p,
            rank = r->input_shapes[3].dim[0];
    for (int64_t i = 0; i < m; i++) {
        double t[64];
        for (int64_t j = 0; j < rank; j++) t[j] = down_product(r, i, j) * (r->inputs[5] ? r->inputs[5][j] : 1);
        for (int64_t j = 0; j < p; j++) {
            double sum = r->inputs[2] ? r->inputs[2][j] : 0;
            for (int64_t k = 0; k < q; k++) sum += r->inputs[0][i * q + k] * r->inputs[1][j * q + k];
            for (int64_t k = 0; k < rank; k++) sum += t[k] * up_element(r, j, k);
            r->outputs[0][i * p + j] = a->relu && sum < 0 ? 0 : sum;
        }
    }
}

/* Sums inside sums: q · r terms forward, with a scale of at most 2 · 4/3; backward the rows come on top. */
static check_tolerance tolerance(const check_case *test, check_kind kind, int index)
{
    double p = (double)test->inputs[1].dim[0], q = (double)test->inputs[1].dim[1], r = (double)test->inputs[3].dim[0],
           m = check_elements(test, 0) / q;
    (void)index;
    double terms = kind == CHECK_OUTPUT ? q * (1 + 3 * r) : 3 * (m + 1) * SORA_MAX(p, q) * (1 + r);
    return (check_tolerance) { terms * 40, 16 };
}

const check_op check_adapted_linear = { .op = &sora_op_adapted_linear,
                                        .batched = 1,
                                        .cases = cases,
                                        .case_count = SORA_COUNT(cases),
                                        .reference = reference,
                                        .tolerance = tolerance };
