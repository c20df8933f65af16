/* SPDX-License-Identifier: Apache-2.0 */
/* Products in every variant against double precision: every transposition and epilogue, B in panels and as halves, at sizes that
 * divide nothing. */
#include "op/gemm.h"
#include "guarded.h"
#include "base/half.h"

enum { A, B, A2, B2, BIAS, WANTED, C, LEFT, PARTS };

typedef struct product {
    int64_t m, n, k, k2;
    bool ta, tb, bias, relu, accumulate;
    float alpha;
    int64_t padding;  /* added to each leading dimension */
    bool panels;      /* B is brought into panels first, */
    bool turned;      /* or Bᵀ is */
    bool half;        /* B is halves */
    bool zeros;       /* three in four of A's numbers are 0, and it says so; */
    bool zeros_right; /* of B's */
    bool wanted;      /* a quarter of C is, */
    bool sampled;     /* and Bᵀ is there in panels, too, where B is */
    bool blocks2;     /* B2 is 0 but in blocks, and it says so */
    int64_t sums;     /* rank of sums that ride on it, in the variants that can */
} product;

/* Three in four of an operand's numbers are 0. */
static void pass_relu(sora_context *context, int64_t elements, float *values, const sora_view *a)
{
    sora_error error;
    for (int64_t i = 0; i < elements; i++) values[i] = values[i] < 0.5f ? 0 : values[i];
    OK(sora_view_write(context, a, values, &error));
}

/* Four blocks, of which one has no terms and one no columns; the rest of B2 [k2, n] is 0. */
static sora_gemm_blocks leave_blocks(sora_context *context, const product *p, int64_t row, float *values, const sora_view *b2)
{
    sora_error error;
    const sora_gemm_blocks blocks = { 4, { p->n / 4, p->n / 4 * 3, p->n / 4 * 3 }, { p->k2 / 3, p->k2 / 3, p->k2 / 2 } };
    for (int64_t j = 0, i = 0; j < p->n; j++) {
        while (i < 3 && blocks.columns[i] <= j) i++;
        int64_t first = i ? blocks.terms[i - 1] : 0, last = i < 3 ? blocks.terms[i] : p->k2;
        for (int64_t l = 0; l < p->k2; l++)
            if (l < first || l >= last) values[l * row + j] = 0;
    }
    OK(sora_view_write(context, b2, values, &error));
    return blocks;
}

/* B as halves, which stand where the buffer began, and its values on the host as they are now. */
static void round_to_halves(sora_context *context, int64_t elements, float *values, sora_view *b)
{
    sora_error error;
    uint16_t *halves = malloc((size_t)elements * sizeof *halves);
    assert_non_null(halves);
    OK(sora_halves_of(values, (uint64_t)elements, "test", halves, &error));
    sora_halves_widen(halves, (uint64_t)elements, values);
    b->dtype = SORA_F16;
    b->offset *= 2;
    b->shape = SORA_SHAPE(elements);
    b->stride = 1;
    OK(sora_view_write(context, b, halves, &error));
    free(halves);
}

/* B [k, n], or Bᵀ where `turned`, in panels: a buffer of its own in `out`. */
static void bring_into_panels(sora_context *context, bool turned, int64_t n, int64_t k, sora_gemm_operand *b, sora_buffer *out)
{
    sora_error error;
    int64_t columns = turned ? k : n, rows = turned ? n : k;
    int panel = sora_gemm_panel(&sora_context_device(context)->limits, columns);
    int64_t elements = (int64_t)sora_gemm_panel_elements(panel, columns, rows);
    b->transposed ^= turned;
    OK(sora_buffer_create(context, (uint64_t)elements * sizeof(float), "test", out, &error));
    sora_view view = sora_view_dense(out, 0, SORA_SHAPE(elements));
    view.dtype = b->view.dtype;
    OK(sora_gemm_pack(context, b, columns, rows, panel, &view, "test", &error));
    *b = (sora_gemm_operand) { .view = view, .panel = panel, .turned = turned };
}

/* Where the variant can: S and room for the parts, which it returns the count of. */
static int64_t take_sums(fixture *f, sora_context *context, int64_t rank, sora_gemm_desc *desc)
{
    sora_gemm_variant variant = desc->variant ? *desc->variant : sora_gemm_choose(context, desc);
    int64_t parts = sora_gemm_sums_parts(&variant, desc->m);
    assert_true(parts <= sora_gemm_sums_most(desc->m));
    if (!parts) return 0;
    desc->sums = (sora_gemm_sums) { .rank = rank,
                                    .left = operand(f, context, LEFT, SORA_SHAPE(desc->m, rank)),
                                    .parts = operand(f, context, PARTS, SORA_SHAPE(parts, rank, desc->n)) };
    return parts;
}

static void check_sums(fixture *f, sora_context *context, const product *p, int64_t parts)
{
    int64_t part = p->sums * p->n;
    float *got = read_operand(f, context, PARTS, parts * part);
    check_row_sums(f, PARTS, got, parts, part, 0, p->m, f->host[LEFT] + GUARD, p->sums, p->sums, f->host[WANTED] + GUARD,
                   p->n + p->padding, p->n, 1);
    check_rest(f, PARTS, got, parts * part);
}

/* The variant of that number; false: this product has fewer. */
static bool check_variant(fixture *f, sora_context *context, int number, const product *p)
{
    sora_error error;
    sora_gemm_variant variants[SORA_GEMM_VARIANTS];
    int64_t lda = (p->ta ? p->m : p->k) + p->padding, ldb = (p->tb ? p->k : p->n) + p->padding;
    int64_t lda2 = p->k2 + p->padding, ldb2 = p->n + p->padding, ldc = p->n + p->padding, k2 = p->k2 ? p->k2 : 1;
    int64_t left = lda * (p->ta ? p->k : p->m), right = ldb * (p->tb ? p->n : p->k), all = ldc * p->m;
    sora_view a = operand(f, context, A, SORA_SHAPE(left)), b = operand(f, context, B, SORA_SHAPE(right)),
              a2 = operand(f, context, A2, SORA_SHAPE(lda2 * p->m)), b2 = operand(f, context, B2, SORA_SHAPE(ldb2 * k2)),
              bias = operand(f, context, BIAS, SORA_SHAPE(p->n)), c = operand(f, context, C, SORA_SHAPE(all));
    if (p->zeros) pass_relu(context, left, f->host[A] + GUARD, &a);
    if (p->zeros_right) pass_relu(context, right, f->host[B] + GUARD, &b);
    if (p->half) round_to_halves(context, right, f->host[B] + GUARD, &b);
    sora_buffer scratch = { 0 }, panels = { 0 }, panels2 = { 0 }, panels_turned = { 0 };
    sora_gemm_desc desc = { .m = p->m,
                            .n = p->n,
                            .k = p->k,
                            .a = { .view = a, .leading = lda, .transposed = p->ta, .zeros = p->zeros },
                            .b = { .view = b, .leading = ldb, .transposed = p->tb, .zeros = p->zeros_right },
                            .alpha = p->alpha,
                            .relu = p->relu,
                            .accumulate = p->accumulate,
                            .c = c,
                            .c_leading = ldc,
                            .label = "test" };
    if (p->wanted) {
        desc.wanted = operand(f, context, WANTED, SORA_SHAPE(all));
        desc.wanted_leading = ldc;
        pass_relu(context, all, f->host[WANTED] + GUARD, &desc.wanted);
    }
    if (p->sampled && p->panels) {
        sora_gemm_operand turned = desc.b;
        bring_into_panels(context, true, p->n, p->k, &turned, &panels_turned);
        desc.bt = turned.view;
        desc.has_bt = true;
    }
    if (p->panels) bring_into_panels(context, p->turned, p->n, p->k, &desc.b, &panels);
    if (p->k2)
        desc.k2 = p->k2, desc.a2 = (sora_gemm_operand) { .view = a2, .leading = lda2 },
        desc.b2 = (sora_gemm_operand) { .view = b2, .leading = ldb2 };
    if (p->blocks2) desc.blocks2 = leave_blocks(context, p, ldb2, f->host[B2] + GUARD, &b2);
    if (p->k2 && sora_gemm_panel(&sora_context_device(context)->limits, p->n))
        bring_into_panels(context, false, p->n, p->k2, &desc.b2, &panels2);
    if (p->bias) desc.bias = bias;
    int64_t columns = p->zeros_right && p->m > p->n ? p->m : p->n;
    uint64_t need = sora_gemm_workspace(&sora_context_device(context)->limits, columns, p->panels && !p->turned ? 0 : p->k);
    bool exists = number < sora_gemm_variants(&sora_context_device(context)->limits, &desc, variants);
    if (exists) desc.variant = &variants[number];
    if (need) {
        OK(sora_buffer_create(context, need * sizeof(float), "test", &scratch, &error));
        desc.workspace = sora_view_dense(&scratch, 0, SORA_SHAPE((int64_t)need));
        OK(sora_fill(context, &desc.workspace, NAN, &error));
    }
    int64_t parts = p->sums ? take_sums(f, context, p->sums, &desc) : 0;
    OK(sora_gemm(context, &desc, &error));
    if (parts) check_sums(f, context, p, parts);
    float *got = read_operand(f, context, C, all);
    const float *a_ = f->host[A] + GUARD, *b_ = f->host[B] + GUARD, *a2_ = f->host[A2] + GUARD, *b2_ = f->host[B2] + GUARD;
    double bound = (double)(p->k + p->k2 + 8) * ldexp(1, -23);
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t j = 0; j < p->n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < p->k; l++)
                sum += (double)(p->ta ? a_[l * lda + i] : a_[i * lda + l]) * (p->tb ? b_[j * ldb + l] : b_[l * ldb + j]);
            for (int64_t l = 0; l < p->k2; l++) sum += (double)a2_[i * lda2 + l] * b2_[l * ldb2 + j];
            sum *= p->alpha != 0 ? p->alpha : 1;
            if (p->accumulate) sum += f->host[C][GUARD + i * ldc + j];
            if (p->bias) sum += f->host[BIAS][GUARD + j];
            if (p->relu && sum < 0) sum = 0;
            float value = got[GUARD + i * ldc + j];
            if (p->wanted && f->host[WANTED][GUARD + i * ldc + j] == 0) sum = 0;
            if (!(fabs(value - sum) <= bound))
                fail_msg("%s, variant %d, %lldx%lldx%lld+%lld ta %d tb %d half %d, element %lld, %lld: %.9g; expected %.9g",
                         exists ? sora_gemm_provider_name(desc.variant->provider) : "default", number, (long long)p->m,
                         (long long)p->n, (long long)p->k, (long long)p->k2, p->ta, p->tb, p->half, (long long)i, (long long)j,
                         value, sum);
            got[GUARD + i * ldc + j] = f->host[C][GUARD + i * ldc + j];
        }
    }
    check_rest(f, C, got, all);
    sora_buffer_destroy(&scratch);
    sora_buffer_destroy(&panels);
    sora_buffer_destroy(&panels2);
    sora_buffer_destroy(&panels_turned);
    destroy_operands(f);
    return exists;
}

/* In every variant, and as the device does it by itself. */
static void check_product(fixture *f, sora_context *context, const product *p)
{
    for (int number = 0; check_variant(f, context, number, p); number++) continue;
}

static const int64_t sizes[][3] = { { 1, 1, 1 },      { 3, 17, 65 },  { 17, 3, 1 },     { 65, 257, 3 },  { 257, 65, 17 },
                                    { 1, 257, 65 },   { 64, 64, 64 }, { 129, 16, 130 }, { 6, 128, 257 }, { 65, 1, 257 },
                                    { 17, 257, 300 }, { 1, 7, 256 },  { 48, 129, 270 } };

static void check_context(fixture *f, sora_context *context)
{
    bool panels = sora_gemm_panel(&sora_context_device(context)->limits, 64) > 0;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (int t = 0; t < 4; t++) {
            product plain = { .m = sizes[s][0], .n = sizes[s][1], .k = sizes[s][2], .ta = t & 1, .tb = t >> 1 };
            check_product(f, context, &plain);
            product dressed = plain;
            dressed.k2 = 1 + (int64_t)s % 9;
            dressed.bias = dressed.relu = true, dressed.padding = 3;
            check_product(f, context, &dressed);
            product gathering = plain;
            gathering.accumulate = true, gathering.alpha = -1.5f, gathering.padding = 1;
            check_product(f, context, &gathering);
            product partial = plain;
            partial.wanted = true, partial.padding = 1, partial.alpha = 1.25f;
            check_product(f, context, &partial);
            dressed.half = gathering.half = dressed.blocks2 = true;
            check_product(f, context, &dressed);
            check_product(f, context, &gathering);
            dressed.panels = gathering.panels = panels, dressed.alpha = -0.75f;
            for (int form = 0; panels && form < 4; form++) {
                dressed.turned = gathering.turned = form & 1;
                dressed.half = gathering.half = form & 2;
                check_product(f, context, &dressed);
                check_product(f, context, &gathering);
            }
        }
    }
}

/* A variant leaves zeros of A out: of whole products, and at every edge of its blocks. */
static void check_zeros(fixture *f, sora_context *context)
{
    static const int64_t sparse_sizes[][3] = { { 1, 1, 1 },    { 3, 17, 65 },    { 65, 257, 3 },    { 257, 65, 17 },
                                               { 64, 64, 64 }, { 129, 16, 130 }, { 130, 520, 257 }, { 300, 130, 256 } };
    for (size_t s = 0; s < sizeof sparse_sizes / sizeof *sparse_sizes; s++)
        for (int half = 0; half < 2; half++) {
            product p = {
                .m = sparse_sizes[s][0], .n = sparse_sizes[s][1], .k = sparse_sizes[s][2], .panels = true, .zeros = true
            };
            p.half = half;
            check_product(f, context, &p);
            p.k2 = 1 + (int64_t)s % 9, p.bias = p.relu = true, p.padding = 3;
            check_product(f, context, &p);
            p.accumulate = true, p.alpha = -1.5f, p.relu = p.bias = false;
            check_product(f, context, &p);
            for (int form = 0; form < 2; form++) {
                p.panels = form, p.turned = form, p.tb = !form; /* rearranged on the way */
                check_product(f, context, &p);
            }
            p.panels = p.turned = p.half = false, p.k2 = 0;
            for (int t = 0; t < 4; t++) { /* A by columns, or B's zeros and A's transpose */
                p.ta = p.zeros = t & 1, p.tb = false, p.zeros_right = !p.zeros, p.accumulate = t >> 1, p.padding = t;
                check_product(f, context, &p);
                p.ta = !p.ta;
                check_product(f, context, &p);
            }
        }
}

/* A variant makes only what is wanted of C, from rows of Bᵀ: at every edge of its blocks, of its lists and of what it has in
 * registers. */
static void check_sampled(fixture *f, sora_context *context)
{
    static const int64_t sampled_sizes[][3] = { { 1, 1, 1 },       { 3, 17, 65 },    { 65, 257, 3 },
                                                { 257, 65, 17 },   { 64, 64, 64 },   { 129, 16, 40 },
                                                { 130, 300, 257 }, { 70, 130, 512 }, { 129, 257, 64 } };
    for (size_t s = 0; s < sizeof sampled_sizes / sizeof *sampled_sizes; s++)
        for (int half = 0; half < 2; half++) {
            product p = { .m = sampled_sizes[s][0],
                          .n = sampled_sizes[s][1],
                          .k = sampled_sizes[s][2],
                          .panels = true,
                          .wanted = true,
                          .sampled = true };
            p.half = half;
            check_product(f, context, &p);
            p.k2 = 1 + (int64_t)s % 9, p.padding = 3, p.alpha = -1.5f, p.sums = 1 + (int64_t)s % 6;
            check_product(f, context, &p);
            p.panels = p.half = false, p.sums = 0, p.tb = half;
            check_product(f, context, &p);
        }
}

/* Sums ride on no other variant. */
static void test_sums_elsewhere(void **state)
{
    fixture *f = *state;
    sora_error error;
    sora_gemm_variant variants[SORA_GEMM_VARIANTS];
    sora_context *context = f->contexts[0];
    sora_view all = operand(f, context, A, SORA_SHAPE(64));
    sora_gemm_desc desc = { .m = 8,
                            .n = 8,
                            .k = 8,
                            .a = { .view = all, .leading = 8 },
                            .b = { .view = all, .leading = 8 },
                            .sums = { .rank = 1, .left = all, .parts = all },
                            .c = all,
                            .c_leading = 8,
                            .variant = variants,
                            .label = "layer" };
    assert_true(sora_gemm_variants(&sora_context_device(context)->limits, &desc, variants) > 0);
    assert_int_equal(sora_gemm_sums_parts(variants, desc.m), 0);
    assert_int_equal(sora_gemm(context, &desc, &error), SORA_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "layer: sums ride on no"));
    destroy_operands(f);
}

/* A product that makes A2 = A Fᵀ of some layers itself, and sums over rows: of Sᵀ A, and of A2ᵀ X for another X. */
typedef struct ridden {
    int64_t m, n, k, later; /* columns of X, 0: no such sums */
    int layers;
    sora_narrow_layer of[SORA_ADAPTED_MODULES]; /* of columns of A */
    bool sums, zeros, half;
} ridden;

/* The variant of that number, if passes ride on it; returns whether there is such a variant, and counts those that do. */
static bool check_ridden(fixture *f, sora_context *context, int number, const ridden *p, int *count)
{
    enum { A_, B_, T, B2_, FACTORS, S, SUMS, LATER, LATER_SUMS, C_, OPERANDS };
    _Static_assert((int)OPERANDS <= (int)MOST_OPERANDS, "each has its buffer");
    sora_error error;
    sora_gemm_variant variants[SORA_GEMM_VARIANTS];
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    int64_t rank = 0, factors = 0, lda = p->k + 3, ldc = p->n + 1, ldx = p->later + 2;
    for (int l = 0; l < p->layers; l++) {
        rank += p->of[l].rank;
        factors += p->of[l].rank * p->of[l].columns;
    }
    sora_view a = operand(f, context, A_, SORA_SHAPE(p->m * lda)), b = operand(f, context, B_, SORA_SHAPE(p->k * p->n)),
              c = operand(f, context, C_, SORA_SHAPE(p->m * ldc)), t = operand(f, context, T, SORA_SHAPE(p->m, rank)),
              b2 = operand(f, context, B2_, SORA_SHAPE(rank, p->n)), factor = operand(f, context, FACTORS, SORA_SHAPE(factors)),
              s = operand(f, context, S, SORA_SHAPE(p->m, rank)), x = operand(f, context, LATER, SORA_SHAPE(p->m * ldx));
    if (p->zeros) pass_relu(context, p->m * lda, f->host[A_] + GUARD, &a);
    if (p->half) round_to_halves(context, p->k * p->n, f->host[B_] + GUARD, &b);
    sora_buffer panels = { 0 }, panels2 = { 0 };
    sora_gemm_desc desc = { .m = p->m,
                            .n = p->n,
                            .k = p->k,
                            .a = { .view = a, .leading = lda, .zeros = p->zeros },
                            .b = { .view = b, .leading = p->n },
                            .k2 = rank,
                            .a2 = { .view = t, .leading = rank },
                            .b2 = { .view = b2, .leading = p->n },
                            .c = c,
                            .c_leading = ldc,
                            .label = "layer" };
    bring_into_panels(context, false, p->n, p->k, &desc.b, &panels);
    bring_into_panels(context, false, p->n, rank, &desc.b2, &panels2);
    sora_narrow_desc before = { .m = p->m, .layer_count = p->layers, .x = a, .x_leading = lda, .factor = factor, .t = t };
    memcpy(before.layers, p->of, sizeof p->of);
    sora_narrow_desc after = { .m = p->m, .layer_count = 1, .layers = { { p->later, rank } }, .x = x, .x_leading = ldx, .s = t };
    desc.passes = (sora_gemm_passes) { &before, p->later ? &after : NULL };
    bool exists = number < sora_gemm_variants(limits, &desc, variants);
    desc.variant = &variants[number];
    int64_t parts = exists ? sora_gemm_pass_parts(limits, desc.variant, &desc) : 0;
    assert_true(parts <= sora_gemm_pass_parts_most(limits, p->m));
    if (exists && !parts) FAILS(sora_gemm(context, &desc, &error), SORA_ERROR_ARGUMENT, "layer: passes ride on no");
    if (parts) {
        before.parts = operand(f, context, SUMS, SORA_SHAPE(parts, factors));
        after.parts = operand(f, context, LATER_SUMS, SORA_SHAPE(parts, SORA_MAX(1, rank * p->later)));
        if (p->sums) before.s = s;
        OK(sora_gemm(context, &desc, &error));
        float *got_t = read_operand(f, context, T, p->m * rank), *got = read_operand(f, context, C_, p->m * ldc),
              *sums = read_operand(f, context, SUMS, parts * factors),
              *later = read_operand(f, context, LATER_SUMS, parts * SORA_MAX(1, rank * p->later));
        const float *A__ = f->host[A_] + GUARD, *B__ = f->host[B_] + GUARD, *B2__ = f->host[B2_] + GUARD,
                    *F = f->host[FACTORS] + GUARD, *S__ = f->host[S] + GUARD, *X__ = f->host[LATER] + GUARD;
        for (int64_t i = 0; i < p->m; i++)
            for (int64_t j = 0; j < p->n; j++) {
                double sum = 0;
                for (int64_t l = 0; l < p->k; l++) sum += (double)A__[i * lda + l] * B__[l * p->n + j];
                for (int64_t l = 0; l < rank; l++) sum += (double)got_t[GUARD + i * rank + l] * B2__[l * p->n + j];
                float *value = &got[GUARD + i * ldc + j];
                if (!(fabs(*value - sum) <= (double)(p->k + rank + 8) * 8 * ldexp(1, -23)))
                    fail_msg("variant %d, element %lld, %lld: %.9g; expected %.9g", number, (long long)i, (long long)j, *value,
                             sum);
                *value = f->host[C_][GUARD + i * ldc + j];
            }
        if (p->later)
            check_row_sums(f, LATER_SUMS, later, parts, rank * p->later, 0, p->m, got_t + GUARD, rank, rank, X__, ldx, p->later,
                           8);
        for (int64_t l = 0, column = 0, at_rank = 0, at = 0; l < p->layers; l++) {
            int64_t columns = p->of[l].columns, ranks = p->of[l].rank;
            if (p->sums)
                check_row_sums(f, SUMS, sums, parts, factors, at, p->m, S__ + at_rank, rank, ranks, A__ + column, lda, columns,
                               1);
            for (int64_t i = 0; i < p->m; i++)
                for (int64_t r = 0; r < ranks; r++) {
                    double sum = 0;
                    for (int64_t j = 0; j < columns; j++) sum += (double)A__[i * lda + column + j] * F[at + r * columns + j];
                    float *value = &got_t[GUARD + i * rank + at_rank + r];
                    if (!(fabs(*value - sum) <= (double)(columns + 8) * ldexp(1, -23)))
                        fail_msg("variant %d, rank %lld of row %lld: %.9g; expected %.9g", number, (long long)(at_rank + r),
                                 (long long)i, *value, sum);
                    *value = f->host[T][GUARD + i * rank + at_rank + r];
                }
            column += columns;
            at_rank += ranks;
            at += columns * ranks;
        }
        check_rest(f, T, got_t, p->m * rank);
        check_rest(f, C_, got, p->m * ldc);
        check_rest(f, SUMS, sums, parts * factors);
        check_rest(f, LATER_SUMS, later, parts * SORA_MAX(1, rank * p->later));
        ++*count;
    }
    sora_buffer_destroy(&panels);
    sora_buffer_destroy(&panels2);
    destroy_operands(f);
    return exists;
}

/* Variants on which it rides. */
static int count_ridden(fixture *f, sora_context *context, const ridden *p)
{
    int count = 0;
    for (int number = 0; check_ridden(f, context, number, p, &count); number++) continue;
    return count;
}

static int64_t enough_rows(sora_context *context)
{
    return 128 * (int64_t)sora_context_device(context)->limits.compute_units;
}

/* They ride where all units have rows: on tiles of every size, and on products without the terms that are 0. */
static void test_passes(void **state)
{
    fixture *f = *state;
    sora_context *context = f->contexts[0];
    int64_t enough = enough_rows(context);
    const ridden products[] = {
        { .m = enough + 1, .n = 17, .k = 65, .layers = 1, .of = { { 65, 3 } } },
        { .m = enough + 45, .n = 65, .k = 17, .later = 33, .layers = 1, .of = { { 17, 5 } }, .sums = true },
        { .m = 2 * enough + 3,
          .n = 257,
          .k = 40,
          .later = 520,
          .layers = 4,
          .of = { { 3, 6 }, { 17, 0 }, { 19, 1 }, { 1, 4 } },
          .sums = true },
        { .m = enough + 3, .n = 257, .k = 530, .later = 17, .layers = 2, .of = { { 513, 4 }, { 17, 2 } }, .half = true },
        { .m = enough + 70, .n = 520, .k = 65, .later = 65, .layers = 1, .of = { { 65, 9 } }, .sums = true, .zeros = true },
        { .m = 3 * enough,
          .n = 17,
          .k = 257,
          .later = 1,
          .layers = 2,
          .of = { { 200, 1 }, { 57, 7 } },
          .sums = true,
          .zeros = true },
    };
    const ridden few = { .m = 3, .n = 17, .k = 3, .layers = 1, .of = { { 3, 1 } } };
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        assert_true(count_ridden(f, context, &products[i]) > products[i].zeros);
    assert_int_equal(count_ridden(f, context, &few), 0);
}

/* More rows never need more parts than a plan for them has, on a device with such limits. */
static void check_pass_parts(const sora_device_limits *limits)
{
    int64_t before = 0, riding = 0;
    for (int64_t m = 1; m < 9000; m++) {
        sora_gemm_variant variants[SORA_GEMM_VARIANTS];
        const sora_gemm_desc desc = {
            .m = m, .n = 512, .k = 256 + m % 2 * 1024, .a = { .zeros = m % 3 == 0 }, .b = { .panel = 16 }
        };
        int64_t most = sora_gemm_pass_parts_most(limits, m);
        assert_true(most >= before);
        before = most;
        for (int v = sora_gemm_variants(limits, &desc, variants); v-- > 0;) {
            int64_t parts = sora_gemm_pass_parts(limits, &variants[v], &desc);
            assert_true(parts <= most && (!parts || parts >= 2 * (int64_t)limits->compute_units));
            riding += parts > 0;
        }
    }
    assert_true(limits->compute_units > 64 || riding > 0);
}

/* However many units there are and whatever these have near by. */
static void test_pass_parts(void **state)
{
    fixture *f = *state;
    static const unsigned units[] = { 1, 2, 3, 8, 17, 96 }, near[] = { 0, 1 << 15, 1 << 19, 1 << 21 };
    sora_device_limits limits = sora_context_device(f->contexts[0])->limits;
    for (size_t u = 0; u < sizeof units / sizeof *units; u++)
        for (size_t b = 0; b < sizeof near / sizeof *near; b++) {
            limits.compute_units = units[u];
            limits.local_bytes = near[b];
            check_pass_parts(&limits);
        }
}

/* As a CPU of narrower vectors does them, on any device. */
static void test_passes_as_cpu(void **state)
{
    fixture *f = *state;
    sora_error error;
    sora_context *context;
    OK(open_as_cpu(f->contexts[0], &context, &error));
    const ridden one = { .m = enough_rows(context) + 3,
                         .n = 9,
                         .k = 11,
                         .later = 17,
                         .layers = 2,
                         .of = { { 9, 3 }, { 2, 2 } },
                         .sums = true,
                         .zeros = true };
    assert_true(count_ridden(f, context, &one) > 1);
    sora_context_destroy(&context);
}

/* Three products in one launch, gaps between their operands, give what each gives alone. */
static void check_batch(fixture *f, sora_context *context, int64_t m, int64_t n, int64_t k, bool transposed)
{
    enum { COUNT = 3, GAP = 5, PANELS = C + 1, ALONE = BIAS };
    sora_error error;
    int panel = sora_gemm_panel(&sora_context_device(context)->limits, n);
    int64_t right = panel ? (int64_t)sora_gemm_panel_elements(panel, n, k) : k * n, elements = COUNT * (m * n + GAP);
    sora_view a = operand(f, context, A, SORA_SHAPE(COUNT * (m * k + GAP))),
              b = operand(f, context, B, SORA_SHAPE(COUNT * (k * n + GAP))),
              panels = operand(f, context, PANELS, SORA_SHAPE(COUNT * (right + GAP))),
              together = operand(f, context, C, SORA_SHAPE(elements)), alone = operand(f, context, ALONE, SORA_SHAPE(elements));
    OK(sora_view_write(context, &alone, f->host[C] + GUARD, &error));
    sora_gemm_variant variants[SORA_GEMM_VARIANTS];
    sora_gemm_desc desc = { .m = m,
                            .n = n,
                            .k = k,
                            .a = { .view = a, .leading = transposed ? m : k, .transposed = transposed },
                            .b = { .view = panel ? panels : b, .leading = n, .panel = panel },
                            .accumulate = true,
                            .c = together,
                            .c_leading = n,
                            .batch = { COUNT, m * k + GAP, (panel ? right : k * n) + GAP, m * n + GAP } };
    for (int i = 0; panel && i < COUNT; i++) {
        sora_gemm_operand one = { .view = b, .leading = n };
        sora_view out = panels;
        one.view.offset += (uint64_t)(i * (k * n + GAP));
        out.offset += (uint64_t)(i * (right + GAP));
        OK(sora_gemm_pack(context, &one, n, k, panel, &out, "test", &error));
    }
    int count = sora_gemm_variants(&sora_context_device(context)->limits, &desc, variants);
    float *got = malloc((size_t)elements * sizeof *got), *expected = malloc((size_t)elements * sizeof *got);
    assert_true(got && expected);
    for (int v = 0; v < count; v++) {
        desc.variant = &variants[v];
        OK(sora_gemm(context, &desc, &error));
        for (int i = 0; i < COUNT; i++) {
            sora_gemm_desc one = desc;
            one.batch.count = 0;
            one.a.view.offset += (uint64_t)(i * desc.batch.a);
            one.b.view.offset += (uint64_t)(i * desc.batch.b);
            one.c = alone;
            one.c.offset += (uint64_t)(i * desc.batch.c);
            OK(sora_gemm(context, &one, &error));
        }
        OK(sora_view_read(context, &together, got, &error));
        OK(sora_view_read(context, &alone, expected, &error));
        assert_memory_equal(got, expected, (size_t)elements * sizeof *got);
        assert_memory_not_equal(got, f->host[C] + GUARD, (size_t)elements * sizeof *got);
    }
    desc.k2 = 1;
    FAILS(sora_gemm(context, &desc, &error), SORA_ERROR_ARGUMENT, "one pair of operands");
    desc.batch.count = 1;
    desc.b2.panel = panel + 8;
    FAILS(sora_gemm(context, &desc, &error), SORA_ERROR_ARGUMENT, "in panels of");
    free(got);
    free(expected);
    destroy_operands(f);
}

static void test_batches(void **state)
{
    fixture *f = *state;
    for (int c = 0; c < 2; c++)
        for (int transposed = 0; transposed < 2; transposed++) {
            check_batch(f, f->contexts[c], 1, 3, 1, transposed);
            check_batch(f, f->contexts[c], 17, 65, 3, transposed);
            check_batch(f, f->contexts[c], 65, 17, 130, transposed);
        }
}

static void test_cpu(void **state)
{
    fixture *f = *state;
    check_context(f, f->contexts[0]);
    check_zeros(f, f->contexts[0]);
    check_sampled(f, f->contexts[0]);
}

static void test_gpu(void **state)
{
    fixture *f = *state;
    check_context(f, f->contexts[1]);
}

/* Each of our groups on one product: what Oclgrind has the time for. */
static void test_groups(void **state)
{
    fixture *f = *state;
    static const product one = { .m = 3, .n = 17, .k = 18, .k2 = 2, .bias = true, .relu = true, .padding = 1 };
    sora_gemm_variant variants[SORA_GEMM_VARIANTS];
    const sora_gemm_desc desc = { .m = one.m, .n = one.n, .k = one.k, .k2 = one.k2 };
    int count = sora_gemm_variants(&sora_context_device(f->contexts[1])->limits, &desc, variants), ours = 0;
    for (int number = 0; number < count; number++)
        if (variants[number].provider == SORA_GEMM_TILE) ours += check_variant(f, f->contexts[1], number, &one);
    assert_int_equal(ours, 5);
}

/* CLBlast counts elements in ints: what lies or reaches beyond those is done by our own. */
static void test_far(void **state)
{
    fixture *f = *state;
    const sora_device_limits *limits = &sora_context_device(f->contexts[1])->limits;
    const sora_gemm_desc near = {
        .m = 40, .n = 50, .k = 60, .k2 = 2, .a.leading = 60, .b.leading = 50, .a2.leading = 2, .b2.leading = 50, .c_leading = 50
    };
    sora_gemm_variant variants[SORA_GEMM_VARIANTS];
    sora_gemm_desc far[8];
    for (size_t i = 0; i < SORA_COUNT(far); i++) far[i] = near;
    far[0].a.view.offset = far[1].b.view.offset = far[2].a2.view.offset = far[3].b2.view.offset = far[4].c.offset =
        INT32_MAX - 40;
    far[5].m = far[5].n = 1 << 15, far[5].c_leading = 1 << 16;
    far[6].k = far[6].a.leading = 1 << 26;
    far[7].m = 1 << 24, far[7].n = 128;
    assert_true(sora_gemm_variants(limits, &near, variants) > 1);
    assert_int_equal(variants[0].provider, SORA_GEMM_CLBLAST);
    for (size_t i = 0; i < SORA_COUNT(far); i++) {
        int count = sora_gemm_variants(limits, &far[i], variants);
        assert_true(count > 0);
        for (int v = 0; v < count; v++) assert_int_equal(variants[v].provider, SORA_GEMM_TILE);
    }
}

/* The products that leave out what is 0 or not wanted, at edges of their blocks: as a CPU does them, on any device. */
static void test_partial(void **state)
{
    fixture *f = *state;
    static const product products[] = {
        { .m = 7, .n = 17, .k = 70, .k2 = 3, .bias = true, .relu = true, .padding = 1, .panels = true, .zeros = true },
        { .m = 130, .n = 3, .k = 17, .tb = true, .zeros = true },
        { .m = 130, .n = 3, .k = 17, .ta = true, .zeros = true },
        { .m = 3, .n = 130, .k = 17, .ta = true, .zeros_right = true },
        { .m = 130, .n = 3, .k = 64, .wanted = true, .sampled = true },
        { .m = 7, .n = 65, .k = 70, .k2 = 3, .padding = 1, .panels = true, .wanted = true, .sampled = true, .sums = 5 },
    };
    static const sora_gemm_provider providers[] = { SORA_GEMM_SPARSE, SORA_GEMM_SPARSE,  SORA_GEMM_SPARSE,
                                                    SORA_GEMM_SPARSE, SORA_GEMM_SAMPLED, SORA_GEMM_SAMPLED };
    sora_error error;
    sora_context *context;
    OK(open_as_cpu(f->contexts[0], &context, &error));
    for (size_t p = 0; p < SORA_COUNT(products); p++) {
        const product *one = &products[p];
        sora_gemm_variant variants[SORA_GEMM_VARIANTS];
        sora_gemm_desc desc = { .m = one->m,
                                .n = one->n,
                                .k = one->k,
                                .k2 = one->k2,
                                .a = { .transposed = one->ta, .zeros = one->zeros },
                                .b = { .transposed = one->tb, .panel = one->panels ? 16 : 0, .zeros = one->zeros_right },
                                .wanted_leading = one->sampled ? one->n : 0,
                                .has_bt = one->sampled && one->panels };
        int count = sora_gemm_variants(&sora_context_device(context)->limits, &desc, variants), found = 0;
        for (int number = 0; number < count; number++)
            if (variants[number].provider == providers[p]) found += check_variant(f, context, number, one);
        assert_int_equal(found, 1);
    }
    sora_context_destroy(&context);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_cpu),     cmocka_unit_test(test_gpu),        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_batches), cmocka_unit_test(test_partial),    cmocka_unit_test(test_sums_elsewhere),
        cmocka_unit_test(test_passes),  cmocka_unit_test(test_pass_parts), cmocka_unit_test(test_passes_as_cpu),
        cmocka_unit_test(test_far),
    };
    const struct CMUnitTest small[] = { cmocka_unit_test(test_groups) },
                            as_cpu[] = { cmocka_unit_test(test_partial), cmocka_unit_test(test_passes_as_cpu) };
    if (argc > 1 && strcmp(argv[argc - 1], "--as-cpu") == 0) return cmocka_run_group_tests(as_cpu, open_fixture, close_fixture);
    if (argc > 1 && strcmp(argv[1], "--small") == 0) return cmocka_run_group_tests(small, open_fixture, close_fixture);
    return cmocka_run_group_tests(all, open_fixture, close_fixture);
}
