/* SPDX-License-Identifier: Apache-2.0 */
/* Products of op/narrow.h against double precision: ranks that fill no block or are 0, rows and columns that fill none or
 * several, more rows than one part of the sum has. */
#include "op/narrow.h"
#include "guarded.h"

enum { X, FACTOR, S, T, PARTS };

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

typedef struct narrow_case {
    int64_t m, padding;
    int layers;
    sora_narrow_layer of[SORA_ADAPTED_MODULES];
    bool t, s;
} narrow_case;

static void check_passes(fixture *f, sora_context *context, const narrow_case *c)
{
    sora_error error;
    sora_buffer buffer;
    static const sora_view none = { 0 };
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    int64_t n = 0, r = 0, size = 0, count = sora_narrow_parts(limits, c->m);
    uint64_t scratch = 0;
    for (int i = 0; i < c->layers; i++) {
        n += c->of[i].columns;
        r += c->of[i].rank;
        size += c->of[i].columns * c->of[i].rank;
        scratch = SORA_MAX(scratch, sora_narrow_workspace(limits, c->m, c->of[i].columns, c->of[i].rank));
    }
    int64_t leading = n + c->padding;
    sora_view x = operand(f, context, X, SORA_SHAPE(c->m * leading)), factor = operand(f, context, FACTOR, SORA_SHAPE(size)),
              t = operand(f, context, T, SORA_SHAPE(c->m * r)), s = operand(f, context, S, SORA_SHAPE(c->m * r)),
              parts = operand(f, context, PARTS, SORA_SHAPE(count * size));
    sora_narrow_desc desc = { .m = c->m,
                              .layer_count = c->layers,
                              .x = x,
                              .x_leading = leading,
                              .factor = c->t ? factor : none,
                              .t = c->t ? t : none,
                              .s = c->s ? s : none,
                              .parts = parts,
                              .workspace = scratch_of(context, scratch, &buffer),
                              .label = "test" };
    memcpy(desc.layers, c->of, sizeof c->of);
    OK(sora_narrow(context, &desc, &error));
    float *got_t = read_operand(f, context, T, c->m * r), *got = read_operand(f, context, PARTS, count * size);
    const float *X_ = f->host[X] + GUARD, *F = f->host[FACTOR] + GUARD, *S_ = f->host[S] + GUARD;
    for (int64_t l = 0, column = 0, rank_at = 0, at = 0; l < c->layers; l++) {
        int64_t columns = c->of[l].columns, rank = c->of[l].rank;
        for (int64_t i = 0; i < c->m && c->t; i++)
            for (int64_t j = 0; j < rank; j++) {
                double sum = 0;
                int64_t place = GUARD + i * r + rank_at + j;
                for (int64_t o = 0; o < columns; o++) sum += (double)X_[i * leading + column + o] * F[at + j * columns + o];
                compare("t", i, rank_at + j, got_t[place], sum, columns);
                got_t[place] = f->host[T][place];
            }
        if (c->s) check_row_sums(f, PARTS, got, count, size, at, c->m, S_ + rank_at, r, rank, X_ + column, leading, columns, 1);
        column += columns;
        rank_at += rank;
        at += columns * rank;
    }
    check_rest(f, T, got_t, c->m * r);
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
        for (int wanted = 1; wanted < 4; wanted++) {
            narrow_case one = { .m = m, .layers = 1, .of = { { n, rank } }, .t = wanted & 1, .s = wanted >> 1 };
            check_passes(f, context, &one);
            one.padding = 3;
            check_passes(f, context, &one);
            narrow_case several = { .m = m,
                                    .padding = 1,
                                    .layers = 4,
                                    .of = { { n, rank }, { 5, 0 }, { 17, 6 }, { 1, 1 } },
                                    .t = wanted & 1,
                                    .s = wanted >> 1 };
            check_passes(f, context, &several);
        }
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
    const narrow_case c = { .m = 7, .padding = 1, .layers = 2, .of = { { 18, 5 }, { 3, 1 } }, .t = true, .s = true };
    check_passes(f, context, &c);
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
