/* SPDX-License-Identifier: Apache-2.0 */
#include "train/schedule.h"
#include "../test.h"

#include <math.h>

static void near(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-12 + 1e-9 * fabs(expected))) fail_msg("%.12g; expected %.12g", got, expected);
}

/* Transformers' get_*_schedule_with_warmup for 10 steps, 4 of warm-up, but for the first step, which is not 0. */
static void test_rates(void **state)
{
    (void)state;
    sora_schedule s = { .kind = SORA_SCHEDULE_LINEAR, .rate = 0.8, .steps = 10, .warmup = 4 };
    near(sora_schedule_rate(&s, 0), 0.2);
    near(sora_schedule_rate(&s, 1), 0.4);
    near(sora_schedule_rate(&s, 3), 0.8);
    near(sora_schedule_rate(&s, 4), 0.8);
    near(sora_schedule_rate(&s, 7), 0.4);
    near(sora_schedule_rate(&s, 9), 0.8 / 6);
    s.kind = SORA_SCHEDULE_COSINE;
    near(sora_schedule_rate(&s, 4), 0.8);
    near(sora_schedule_rate(&s, 7), 0.4);
    near(sora_schedule_rate(&s, 9), 0.4 * (1 + cos(M_PI * 5 / 6)));
    s.kind = SORA_SCHEDULE_CONSTANT;
    near(sora_schedule_rate(&s, 0), 0.2);
    near(sora_schedule_rate(&s, 9), 0.8);
    double sum = 0;
    for (int kind = SORA_SCHEDULE_CONSTANT; kind <= SORA_SCHEDULE_COSINE; kind++) {
        s.kind = (sora_schedule_kind)kind;
        sum = 0;
        for (uint32_t step = 0; step < s.steps; step++) sum += sora_schedule_rate(&s, step);
        near(sora_schedule_sum(&s), sum);
    }
    s = (sora_schedule) { .rate = 1, .steps = 3 };
    near(sora_schedule_rate(&s, 0), 1);
    assert_int_equal(sora_warmup_steps(0.06, 100), 6);
    assert_int_equal(sora_warmup_steps(20, 100), 20);
    assert_int_equal(sora_warmup_steps(0, 100), 0);
}

/* Patience 5: the sixth evaluation that is not better reduces by 0.2. */
static void test_plateau(void **state)
{
    (void)state;
    sora_plateau p = sora_plateau_start();
    assert_false(sora_plateau_update(&p, 0.05, 1.0));
    for (int i = 0; i < 5; i++) assert_false(sora_plateau_update(&p, 0.05, 1.0));
    assert_true(sora_plateau_update(&p, 0.05, 1.0));
    near(p.factor, 0.2);
    for (int i = 0; i < 5; i++) assert_false(sora_plateau_update(&p, 0.05, 1.0));
    assert_false(sora_plateau_update(&p, 0.05, 0.9)); /* better: patience starts anew */
    for (int i = 0; i < 5; i++) assert_false(sora_plateau_update(&p, 0.05, 0.95));
    assert_true(sora_plateau_update(&p, 0.05, 0.95));
    near(p.factor, 0.04);
    for (int i = 0; i < 100; i++) sora_plateau_update(&p, 0.05, 0.95);
    near(p.factor * 0.05, SORA_PLATEAU_MINIMUM);
}

static void test_xi_lists(void **state)
{
    (void)state;
    sora_error error;
    double xi[SORA_XI_MAX];
    int count;
    OK(sora_xi_list("linear:0:7e-4:8", xi, &count, &error));
    assert_int_equal(count, 8);
    for (int i = 0; i < 8; i++) near(xi[i], 1e-4 * i);
    OK(sora_xi_list("exp-linear:1e-4:1e-2:3", xi, &count, &error));
    near(xi[0], 1e-4);
    near(xi[1], 1e-3);
    near(xi[2], 1e-2);
    OK(sora_xi_list("log-linear:0:1:3", xi, &count, &error));
    near(xi[0], 0);
    near(xi[1], log((1 + exp(1)) / 2));
    near(xi[2], 1);
    const char *bad[] = { "",
                          "linear",
                          "linear:0:1",
                          "linear:0:1:0",
                          "linear:0.5:0.5:1",
                          "linear:0:1:65",
                          "linear:1:0:3",
                          "cubic:0:1:3",
                          "linear:0:nan:3",
                          "linear:-1:1:3",
                          "exp-linear:0:1:3",
                          "linear:0:1:3x",
                          "linear:0:inf:3" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (sora_xi_list(bad[i], xi, &count, &error) != SORA_ERROR_ARGUMENT) fail_msg("\"%s\" was taken", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rates), cmocka_unit_test(test_plateau),
                                        cmocka_unit_test(test_xi_lists) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
