/* SPDX-License-Identifier: Apache-2.0 */
/* Products of op/narrow.h against double precision: ranks that fill no block or are 0, rows and columns that fill none or
 * several, more rows than one part of the sum has. */
#include "op/narrow.h"
#include "guarded.h"

enum { X, FACTOR, DY, UP, T, DT, PARTS };

static void compare(const char *what, int64_t i, int64_t j, double got, double expected, int64_t terms)
{
    if (!(fabs(got - expected) <= (double)(terms + 8) * ldexp(1, -23)))
        fail_msg("%s[%lld][%lld] is %.9g; expected %.9g", what, (long long)i, (long long)j, got, expected);
}

static sora_view scratch_of(sora_context *context, uint64_t need, sora_buffer *buffer)
{
    sora_error error;
    sora_view view = { 0 };
    *buffer = (sora_buffer) { 0 };
    if (!need) return view;
    OK(sora_buffer_create(context, need * sizeof(float), "test", buffer, &error));
    view = sora_view_dense(buffer, 0, SORA_SHAPE((int64_t)need));
    OK(sora_fill(context, &view, NAN, &error));
    return view;
}

static void check_forward(fixture *f, sora_context *context, int64_t m, int64_t n, int64_t rank, int64_t padding)
{
    sora_error error;
    sora_buffer buffer;
    int64_t leading = n + padding;
    sora_view x = operand(f, context, X, SORA_SHAPE(m * leading)), factor = operand(f, context, FACTOR, SORA_SHAPE(rank * n)),
              t = operand(f, context, T, SORA_SHAPE(m * rank));
    sora_view scratch = scratch_of(context, sora_narrow_workspace(&sora_context_device(context)->limits, m, n, rank), &buffer);
    OK(sora_narrow(context,
                   &(sora_narrow_desc) { .m = m,
                                         .n = n,
                                         .rank = rank,
                                         .x = x,
                                         .x_leading = leading,
                                         .factor = factor,
                                         .t = t,
                                         .workspace = scratch,
                                         .label = "test" },
                   &error));
    float *got = read_operand(f, context, T, m * rank);
    const float *X_ = f->host[X] + GUARD, *F = f->host[FACTOR] + GUARD;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < rank; j++) {
            double sum = 0;
            for (int64_t k = 0; k < n; k++) sum += (double)X_[i * leading + k] * F[j * n + k];
            compare("t", i, j, got[GUARD + i * rank + j], sum, n);
            got[GUARD + i * rank + j] = f->host[T][GUARD + i * rank + j];
        }
    check_rest(f, T, got, m * rank);
    sora_buffer_destroy(&buffer);
    destroy_operands(f);
}

/* A product left [rows, r]ᵀ right, in parts at `at` of each of `size` elements; adds up the parts and gives their place back what
 * it held. */
static void check_product(fixture *f, const char *what, float *got, int64_t count, int64_t size, int64_t at, int64_t m,
                          const float *left, int64_t left_row, int64_t rank, const float *right, int64_t right_row,
                          int64_t columns, double tolerance)
{
    for (int64_t j = 0; j < rank; j++)
        for (int64_t o = 0; o < columns; o++) {
            double sum = 0, all = 0;
            for (int64_t i = 0; i < m; i++) sum += (double)left[i * left_row + j] * right[i * right_row + o];
            for (int64_t p = 0; p < count; p++) {
                int64_t place = GUARD + p * size + at + j * columns + o;
                all += got[place];
                got[place] = f->host[PARTS][place];
            }
            compare(what, j, o, all / tolerance, sum / tolerance, m);
        }
}

typedef struct back_case {
    int64_t m, n, padding;
    int layers;
    sora_narrow_layer of[SORA_ADAPTED_MODULES];
    bool t, x;
} back_case;

static void check_back(fixture *f, sora_context *context, const back_case *c)
{
    sora_error error;
    sora_buffer buffer;
    static const sora_view none = { 0 };
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    int64_t p = 0, r = 0, factors = 0, count = sora_narrow_parts(limits, c->m);
    for (int i = 0; i < c->layers; i++) {
        p += c->of[i].outputs;
        r += c->of[i].rank;
        factors += c->of[i].outputs * c->of[i].rank;
    }
    int64_t ldx = c->n + c->padding, ldy = p + c->padding, size = factors + r * c->n;
    sora_view x = operand(f, context, X, SORA_SHAPE(c->m * ldx)), dy = operand(f, context, DY, SORA_SHAPE(c->m * ldy)),
              up = operand(f, context, UP, SORA_SHAPE(factors)), t = operand(f, context, T, SORA_SHAPE(c->m * r)),
              dt = operand(f, context, DT, SORA_SHAPE(c->m * r)), parts = operand(f, context, PARTS, SORA_SHAPE(count * size));
    sora_narrow_back_desc desc = { .m = c->m,
                                   .n = c->n,
                                   .layer_count = c->layers,
                                   .dy = dy,
                                   .dy_leading = ldy,
                                   .up = up,
                                   .dt = dt,
                                   .t = c->t ? t : none,
                                   .x = c->x ? x : none,
                                   .x_leading = ldx,
                                   .parts = parts,
                                   .workspace =
                                       scratch_of(context, sora_narrow_back_workspace(limits, c->m, c->n, p, r), &buffer),
                                   .label = "test" };
    memcpy(desc.layers, c->of, sizeof c->of);
    OK(sora_narrow_back(context, &desc, &error));
    float *got_dt = read_operand(f, context, DT, c->m * r), *got = read_operand(f, context, PARTS, count * size);
    const float *DY_ = f->host[DY] + GUARD, *U = f->host[UP] + GUARD, *T_ = f->host[T] + GUARD, *X_ = f->host[X] + GUARD;
    /* Its sums are of the dT that was made. */
    if (c->x) check_product(f, "q", got, count, size, factors, c->m, got_dt + GUARD, r, r, X_, ldx, c->n, sqrt((double)p));
    for (int64_t l = 0, row = 0, column = 0, at = 0; l < c->layers; l++) {
        int64_t outputs = c->of[l].outputs, rank = c->of[l].rank;
        for (int64_t i = 0; i < c->m; i++)
            for (int64_t j = 0; j < rank; j++) {
                double sum = 0;
                int64_t place = GUARD + i * r + column + j;
                for (int64_t o = 0; o < outputs; o++) sum += (double)DY_[i * ldy + row + o] * U[at + j * outputs + o];
                compare("dt", i, column + j, got_dt[place], sum, outputs);
                got_dt[place] = f->host[DT][place];
            }
        if (c->t) check_product(f, "p", got, count, size, at, c->m, T_ + column, r, rank, DY_ + row, ldy, outputs, 1);
        row += outputs;
        column += rank;
        at += outputs * rank;
    }
    check_rest(f, DT, got_dt, c->m * r);
    check_rest(f, PARTS, got, count * size);
    sora_buffer_destroy(&buffer);
    destroy_operands(f);
}

static void check_context(fixture *f, sora_context *context)
{
    static const int64_t sizes[][3] = { { 1, 1, 1 },    { 7, 17, 3 },  { 6, 512, 4 },   { 5, 520, 2 },    { 9, 1029, 5 },
                                        { 97, 33, 16 }, { 250, 8, 6 }, { 1700, 24, 1 }, { 100, 600, 17 }, { 270, 1040, 3 } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t m = sizes[i][0], n = sizes[i][1], rank = sizes[i][2];
        check_forward(f, context, m, n, rank, 0);
        check_forward(f, context, m, n, rank, 3);
        back_case one = { .m = m, .n = 1 + n / 3, .layers = 1, .of = { { n, rank } }, .t = true, .x = true };
        check_back(f, context, &one);
        one.t = false, one.padding = 3;
        check_back(f, context, &one);
        one.t = true, one.x = false;
        check_back(f, context, &one);
        back_case several = {
            .m = m, .n = n, .padding = 1, .layers = 4, .of = { { n, rank }, { 5, 0 }, { 17, 6 }, { 1, 1 } }, .t = true, .x = true
        };
        check_back(f, context, &several);
    }
}

static void test_cpu(void **state)
{
    fixture *f = *state;
    check_context(f, f->contexts[0]);
}

static void test_gpu(void **state)
{
    fixture *f = *state;
    check_context(f, f->contexts[1]);
}

/* More rows never need less scratch: a plan is made for the largest batch. */
static void test_workspace(void **state)
{
    fixture *f = *state;
    for (int c = 0; c < 2; c++) {
        const sora_device_limits *limits = &sora_context_device(f->contexts[c])->limits;
        for (int64_t m = 1; m < 3000; m++) {
            assert_true(sora_narrow_parts(limits, m) <= sora_narrow_parts(limits, m + 1));
            assert_true(sora_narrow_workspace(limits, m, 64, 4) <= sora_narrow_workspace(limits, m + 1, 64, 4));
            assert_true(sora_narrow_back_workspace(limits, m, 64, 32, 4) <= sora_narrow_back_workspace(limits, m + 1, 64, 32, 4));
        }
    }
}

/* A kernel of a CPU on any device: what Oclgrind has the time for. */
static void test_small(void **state)
{
    fixture *f = *state;
    sora_error error;
    sora_context *context;
    OK(open_as_cpu(f->contexts[0], &context, &error));
    const back_case c = { .m = 7, .n = 17, .padding = 1, .layers = 2, .of = { { 18, 5 }, { 3, 1 } }, .t = true, .x = true };
    check_forward(f, context, 7, 17, 5, 1);
    check_back(f, context, &c);
    sora_context_destroy(&context);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest all[] = { cmocka_unit_test(test_cpu), cmocka_unit_test(test_gpu), cmocka_unit_test(test_workspace),
                                      cmocka_unit_test(test_small) };
    const struct CMUnitTest as_cpu[] = { cmocka_unit_test(test_small) };
    if (argc > 1 && strcmp(argv[argc - 1], "--as-cpu") == 0) return cmocka_run_group_tests(as_cpu, open_fixture, close_fixture);
    return cmocka_run_group_tests(all, open_fixture, close_fixture);
}
