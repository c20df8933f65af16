/* SPDX-License-Identifier: Apache-2.0 */
/* Both products of op/narrow.h, alone and in one pass, against double precision: ranks that fill no block, rows and columns that
 * fill none or several, more rows than one part of the sum has. */
#include "op/narrow.h"
#include "../gpu.h"
#include "../test.h"
#include "base/random.h"
#include "op/update.h"

#include <math.h>

enum { GUARD = 16, X, FACTOR, S, ROW_SCALE, T, GRADIENT, OPERANDS };

typedef struct fixture {
    sora_context *contexts[2]; /* as the device is, and with a GPU's limits */
    sora_buffer buffers[OPERANDS];
    float *host[OPERANDS];
} fixture;

typedef struct narrow_case {
    int64_t m, n, rank, padding; /* added to leading dimensions */
    bool t, s, turned, scaled, accumulate;
    float alpha;
} narrow_case;

static int open_fixture(void **state)
{
    static fixture f;
    *state = &f;
    return open_with_gpu(f.contexts);
}

static int close_fixture(void **state)
{
    fixture *f = *state;
    return close_with_gpu(f->contexts);
}

/* Values with NaN around: what reads past an operand shows. */
static sora_view operand(fixture *f, sora_context *context, int which, int64_t elements)
{
    sora_error error;
    sora_random_stream random = { .seed = 6, .purpose = SORA_PURPOSE_TEST, .stream = (uint32_t)which };
    int64_t all = elements + 2 * GUARD;
    float *values = f->host[which] = malloc((size_t)all * sizeof(float));
    assert_non_null(values);
    for (int64_t i = 0; i < all; i++)
        values[i] = i < GUARD || i >= GUARD + elements ? NAN : (float)(2 * sora_random_uniform(&random) - 1);
    OK(sora_buffer_create(context, (uint64_t)all * sizeof(float), "test", &f->buffers[which], &error));
    sora_view view = sora_view_dense(&f->buffers[which], 0, SORA_SHAPE(all));
    OK(sora_view_write(context, &view, values, &error));
    view.offset = GUARD;
    return view;
}

static float *read_all(sora_context *context, sora_view view, int64_t elements)
{
    sora_error error;
    float *got = malloc((size_t)(elements + 2 * GUARD) * sizeof *got);
    assert_non_null(got);
    view.offset = 0;
    view.shape = SORA_SHAPE(elements + 2 * GUARD);
    OK(sora_view_read(context, &view, got, &error));
    return got;
}

static void compare(const narrow_case *c, const char *what, int64_t i, int64_t j, double got, double expected, int64_t terms)
{
    if (!(fabs(got - expected) <= (double)(terms + 8) * ldexp(1, -23)))
        fail_msg("%lldx%lld rank %lld, t %d, s %d, turned %d: %s[%lld][%lld] is %.9g; expected %.9g", (long long)c->m,
                 (long long)c->n, (long long)c->rank, c->t, c->s, c->turned, what, (long long)i, (long long)j, got, expected);
}

static void check(fixture *f, sora_context *context, const narrow_case *c)
{
    sora_error error;
    static const sora_view none = { 0 };
    int64_t ldx = c->n + c->padding, ldt = c->rank + c->padding;
    sora_view x = operand(f, context, X, c->m * ldx), factor = operand(f, context, FACTOR, c->n * c->rank),
              s = operand(f, context, S, c->m * ldt), scale = operand(f, context, ROW_SCALE, c->rank),
              t = operand(f, context, T, c->m * ldt), gradient = operand(f, context, GRADIENT, c->rank * c->n);
    sora_buffer scratch;
    uint64_t need = sora_narrow_workspace(&sora_context_device(context)->limits, c->m, c->n, c->rank);
    OK(sora_buffer_create(context, need * sizeof(float), "test", &scratch, &error));
    sora_view workspace = sora_view_dense(&scratch, 0, SORA_SHAPE((int64_t)need));
    OK(sora_fill(context, &workspace, NAN, &error));
    OK(sora_narrow(context,
                   &(sora_narrow_desc) { .m = c->m,
                                         .n = c->n,
                                         .rank = c->rank,
                                         .x = x,
                                         .x_leading = ldx,
                                         .factor = c->t ? factor : none,
                                         .turned = c->turned,
                                         .alpha = c->alpha,
                                         .t = t,
                                         .t_leading = ldt,
                                         .s = c->s ? s : none,
                                         .s_leading = ldt,
                                         .row_scale = c->scaled ? scale : none,
                                         .gradient = gradient,
                                         .accumulate = c->accumulate,
                                         .workspace = workspace,
                                         .label = "test" },
                   &error));
    float *got_t = read_all(context, t, c->m * ldt), *got_g = read_all(context, gradient, c->rank * c->n);
    const float *X_ = f->host[X] + GUARD, *F = f->host[FACTOR] + GUARD, *S_ = f->host[S] + GUARD;
    for (int64_t i = 0; c->t && i < c->m; i++)
        for (int64_t j = 0; j < c->rank; j++) {
            double sum = 0;
            for (int64_t k = 0; k < c->n; k++)
                sum += (double)X_[i * ldx + k] * (c->turned ? F[k * c->rank + j] : F[j * c->n + k]);
            int64_t at = GUARD + i * ldt + j;
            compare(c, "t", i, j, got_t[at], sum * (c->alpha != 0 ? c->alpha : 1), c->n);
            got_t[at] = f->host[T][at];
        }
    for (int64_t j = 0; c->s && j < c->rank; j++)
        for (int64_t k = 0; k < c->n; k++) {
            double sum = 0;
            for (int64_t i = 0; i < c->m; i++) sum += (double)S_[i * ldt + j] * X_[i * ldx + k];
            int64_t at = GUARD + j * c->n + k;
            if (c->scaled) sum *= f->host[ROW_SCALE][GUARD + j];
            if (c->accumulate) sum += f->host[GRADIENT][at];
            compare(c, "gradient", j, k, got_g[at], sum, c->m);
            got_g[at] = f->host[GRADIENT][at];
        }
    assert_memory_equal(got_t, f->host[T], (size_t)(c->m * ldt + 2 * GUARD) * sizeof(float)); /* nothing else was written */
    assert_memory_equal(got_g, f->host[GRADIENT], (size_t)(c->rank * c->n + 2 * GUARD) * sizeof(float));
    free(got_t);
    free(got_g);
    sora_buffer_destroy(&scratch);
    for (int i = X; i < OPERANDS; i++) sora_buffer_destroy(&f->buffers[i]), free(f->host[i]);
}

static void check_context(fixture *f, sora_context *context)
{
    static const int64_t sizes[][3] = { { 1, 1, 1 },    { 7, 17, 3 },  { 6, 512, 4 },   { 5, 520, 2 },    { 9, 1029, 5 },
                                        { 97, 33, 16 }, { 250, 8, 6 }, { 1700, 24, 1 }, { 100, 600, 17 }, { 270, 1040, 3 } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        narrow_case c = { .m = sizes[i][0], .n = sizes[i][1], .rank = sizes[i][2], .t = true };
        check(f, context, &c);
        c.turned = true, c.alpha = -0.5f, c.padding = 3;
        check(f, context, &c);
        c.s = true;
        check(f, context, &c);
        c.t = false, c.accumulate = true, c.scaled = i % 2 == 0;
        check(f, context, &c);
        c.turned = c.accumulate = false, c.t = c.scaled = true, c.padding = 0;
        check(f, context, &c);
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
        for (int64_t m = 1; m < 3000; m++)
            assert_true(sora_narrow_workspace(limits, m, 64, 4) <= sora_narrow_workspace(limits, m + 1, 64, 4));
    }
}

int main(void)
{
    const struct CMUnitTest all[] = { cmocka_unit_test(test_cpu), cmocka_unit_test(test_gpu), cmocka_unit_test(test_workspace) };
    return cmocka_run_group_tests(all, open_fixture, close_fixture);
}
