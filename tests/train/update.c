/* SPDX-License-Identifier: Apache-2.0 */
/* Updates against numbers worked out by hand and against double precision. */
#include "op/update.h"
#include "../test.h"

#include <math.h>

typedef struct fixture {
    sora_context *context;
    sora_buffer control;
} fixture;

static int setup(void **state)
{
    static fixture f;
    const float go[SORA_CONTROL_ELEMENTS] = { 1, 1, 0, 0 };
    if (sora_context_create(&(sora_context_options) { 0 }, &f.context, NULL)) return -1;
    if (sora_buffer_create(f.context, sizeof go, "control", &f.control, NULL)) return -1;
    sora_view view = sora_view_dense(&f.control, 0, SORA_SHAPE(SORA_CONTROL_ELEMENTS));
    *state = &f;
    return sora_view_write(f.context, &view, go, NULL) ? -1 : 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    sora_buffer_destroy(&f->control);
    sora_context_destroy(&f->context);
    return 0;
}

/* Value, gradient and two moments of n elements on the device. */
typedef struct range {
    sora_buffer buffers[4];
    sora_update_range views;
} range;

static void open_range(fixture *f, const float *value, const float *gradient, int n, range *out)
{
    sora_error error;
    const float zeros[64] = { 0 };
    sora_view *views[4] = { &out->views.value, &out->views.gradient, &out->views.moment1, &out->views.moment2 };
    out->views.elements = n;
    for (int i = 0; i < 4; i++) {
        OK(sora_buffer_create(f->context, (uint64_t)n * sizeof(float), "test", &out->buffers[i], &error));
        *views[i] = sora_view_dense(&out->buffers[i], 0, SORA_SHAPE(n));
        /* By the host: Oclgrind keeps no record of a buffer that only kernels wrote. */
        if (i >= 2) OK(sora_view_write(f->context, views[i], zeros, &error));
    }
    OK(sora_view_write(f->context, &out->views.value, value, &error));
    OK(sora_view_write(f->context, &out->views.gradient, gradient, &error));
}

static void close_range(range *r)
{
    for (int i = 0; i < 4; i++) sora_buffer_destroy(&r->buffers[i]);
}

static sora_view control_of(fixture *f)
{
    return sora_view_dense(&f->control, 0, SORA_SHAPE(SORA_CONTROL_ELEMENTS));
}

static void expect(fixture *f, const range *r, const double *expected)
{
    sora_error error;
    float got[64];
    OK(sora_view_read(f->context, &r->views.value, got, &error));
    for (int i = 0; i < r->views.elements; i++)
        if (!(fabs(got[i] - expected[i]) <= 2e-7 + 1e-6 * fabs(expected[i])))
            fail_msg("element %d: %.9g; expected %.9g", i, got[i], expected[i]);
}

static void gate_step(fixture *f, range *r, sora_gate_desc desc)
{
    sora_error error;
    sora_view control = control_of(f);
    desc.beta1 = 0.9f, desc.beta2 = 0.999f, desc.epsilon = 1e-8f;
    OK(sora_gate(f->context, &r->views, &desc, &control, &error));
}

/* Learning rate 0.1, ξ 0.05: 0.5 − 0.1·1 = 0.4 → 0.35; −0.5 + 0.1 → −0.35; 0.02 + 0.02 = 0.04 → 0; 0 − 0.2 → −0.15 (a gate at 0
 * comes back); 0.05 − 0.1·0 = ξ → 0; 0.1 − 0.1·(−1) = 0.2 → 0.15. */
static void test_gate_paper(void **state)
{
    const float g[] = { 0.5f, -0.5f, 0.02f, 0, 0.05f, 0.1f }, gradient[] = { 1, -1, -0.2f, 2, 0, -1 };
    const double once[] = { 0.35, -0.35, 0, -0.15, 0, 0.15 };
    const double twice[] = { 0.2, -0.2, 0, -0.3, 0, 0.2 }; /* the same gradients again */
    range r;
    open_range(*state, g, gradient, 6, &r);
    gate_step(*state, &r, (sora_gate_desc) { .mode = SORA_GATE_PAPER, .lr = 0.1f, .xi = 0.05f, .step = 1 });
    expect(*state, &r, once);
    gate_step(*state, &r, (sora_gate_desc) { .mode = SORA_GATE_PAPER, .lr = 0.1f, .xi = 0.05f, .step = 2 });
    expect(*state, &r, twice);
    close_range(&r);
}

/* Adam's first steps under an unchanging gradient are lr · sign(gradient): m̂ = ∇, v̂ = ∇², whatever its size. With learning rate
 * 0.1 and ξ 0.05: 0.5 → 0.4 → 0.35 → 0.25 → 0.2; 0.02 + 0.1 → 0.07 → 0.17 → 0.12; without gradient 0.08 → 0.03 → 0. */
static void test_gate_adam(void **state)
{
    const float g[] = { 0.5f, -0.5f, 0.02f, 0.08f }, gradient[] = { 7, -0.01f, -300, 0 };
    const double once[] = { 0.35, -0.35, 0.07, 0.03 }, twice[] = { 0.2, -0.2, 0.12, 0 };
    range r;
    open_range(*state, g, gradient, 4, &r);
    for (uint32_t step = 1; step <= 2; step++) {
        gate_step(*state, &r, (sora_gate_desc) { .mode = SORA_GATE_ADAM, .lr = 0.1f, .xi = 0.05f, .step = step });
        expect(*state, &r, step == 1 ? once : twice);
    }
    close_range(&r);
}

/* No gradient and no L1: the operator alone at ξ = 0.1: 0.15 → 0, 0.21 → 0.11, −0.3 → −0.2, 0.2 is not below 2ξ in exact
 * arithmetic, so it is left out. With an L1 gradient of 0.25 and none of the loss Adam moves towards 0 by lr = 0.05:
 * 0.4 → 0.35 → 0.25, −0.4 → −0.25; where the loss outweighs it (−1 + 0.25 < 0) the gate grows: 0.4 → 0.45 → 0.35; at 0 the sign
 * is 0. */
static void test_gate_official(void **state)
{
    const float g[] = { 0.15f, 0.21f, -0.3f, -0.19f, 0 }, none[5] = { 0 };
    const double shrunk[] = { 0, 0.11, -0.2, 0, 0 };
    const float g2[] = { 0.4f, -0.4f, 0.4f, 0 }, gradient[] = { 0, 0, -1, 0 };
    const double pulled[] = { 0.25, -0.25, 0.35, 0 };
    range r;
    open_range(*state, g, none, 5, &r);
    gate_step(*state, &r, (sora_gate_desc) { .mode = SORA_GATE_OFFICIAL, .lr = 0.05f, .xi = 0.1f, .step = 1 });
    expect(*state, &r, shrunk);
    close_range(&r);
    open_range(*state, g2, gradient, 4, &r);
    gate_step(*state, &r, (sora_gate_desc) { .mode = SORA_GATE_OFFICIAL, .lr = 0.05f, .xi = 0.1f, .l1 = 0.25f, .step = 1 });
    expect(*state, &r, pulled);
    close_range(&r);
}

enum { N = 17, STEPS = 20 };

static void test_adamw(void **state)
{
    fixture *f = *state;
    sora_error error;
    sora_view control = control_of(f);
    float value[N], gradient[N];
    double w[N], m[N] = { 0 }, v[N] = { 0 };
    range r;
    for (int i = 0; i < N; i++) w[i] = value[i] = 0.3f * (float)(i - 8), gradient[i] = 0;
    open_range(f, value, gradient, N, &r);
    for (int step = 1; step <= STEPS; step++) {
        for (int i = 0; i < N; i++) {
            gradient[i] = sinf((float)(step * 3 + i));
            m[i] = 0.9 * m[i] + 0.1 * gradient[i];
            v[i] = 0.99 * v[i] + 0.01 * gradient[i] * gradient[i];
            w[i] -= 0.02 * (m[i] / (1 - pow(0.9, step)) / (sqrt(v[i] / (1 - pow(0.99, step))) + 1e-8) + 0.1 * w[i]);
        }
        OK(sora_view_write(f->context, &r.views.gradient, gradient, &error));
        OK(sora_adamw(
            f->context, &r.views,
            &(sora_adamw_desc) {
                .lr = 0.02f, .beta1 = 0.9f, .beta2 = 0.99f, .epsilon = 1e-8f, .weight_decay = 0.1f, .step = (uint32_t)step },
            &control, &error));
    }
    float got[N];
    OK(sora_view_read(f->context, &r.views.value, got, &error));
    for (int i = 0; i < N; i++) assert_true(fabs(got[i] - w[i]) < 3e-6);
    close_range(&r);
}

static void test_sgd(void **state)
{
    fixture *f = *state;
    sora_error error;
    sora_view control = control_of(f);
    float value[N], gradient[N] = { 0 };
    double w[N], m[N] = { 0 };
    range r;
    for (int i = 0; i < N; i++) w[i] = value[i] = 0.3f * (float)(i - 8);
    open_range(f, value, gradient, N, &r);
    for (int step = 1; step <= STEPS; step++) {
        for (int i = 0; i < N; i++) {
            gradient[i] = cosf((float)(step * 5 + i));
            double d = gradient[i] + 0.01 * w[i];
            m[i] = step == 1 ? d : 0.9 * m[i] + d;
            w[i] -= 0.02 * m[i];
        }
        OK(sora_view_write(f->context, &r.views.gradient, gradient, &error));
        OK(sora_sgd(f->context, &r.views,
                    &(sora_sgd_desc) { .lr = 0.02f, .momentum = 0.9f, .weight_decay = 0.01f, .step = (uint32_t)step }, &control,
                    &error));
    }
    float got[N];
    OK(sora_view_read(f->context, &r.views.value, got, &error));
    for (int i = 0; i < N; i++) assert_true(fabs(got[i] - w[i]) < 3e-6);
    close_range(&r);
}

/* The clip factor, and a flag that stays down once a gradient or the loss was not finite. */
static void test_control(void **state)
{
    fixture *f = *state;
    sora_error error;
    sora_buffer scratch, loss_buffer, control_buffer;
    float a[N], b[3] = { 3, 4, 0 }, control_values[SORA_CONTROL_ELEMENTS] = { 0, 1, 0, 0 }, loss = 0.5f;
    double norm = 0;
    range ra, rb;
    for (int i = 0; i < N; i++) a[i] = (float)(i - 8), norm += a[i] * a[i];
    norm = sqrt(norm) / 2; /* two micro-batches */
    open_range(f, a, a, N, &ra);
    open_range(f, b, b, 3, &rb);
    uint64_t workspace = sora_gradient_norm_workspace();
    OK(sora_buffer_create(f->context, workspace * sizeof(float), "test", &scratch, &error));
    OK(sora_buffer_create(f->context, sizeof loss, "test", &loss_buffer, &error));
    OK(sora_buffer_create(f->context, sizeof control_values, "test", &control_buffer, &error));
    const sora_view *gradients = &ra.views.gradient, none = { 0 };
    sora_view work = sora_view_dense(&scratch, 0, SORA_SHAPE((int64_t)workspace)),
              loss_view = sora_view_dense(&loss_buffer, 0, SORA_SHAPE(1)),
              control = sora_view_dense(&control_buffer, 0, SORA_SHAPE(SORA_CONTROL_ELEMENTS));
    OK(sora_view_write(f->context, &loss_view, &loss, &error));
    OK(sora_view_write(f->context, &control, control_values, &error));
    OK(sora_gradient_norm(f->context, gradients, &loss_view, 1, 0.5f, &control, &work, &error));
    OK(sora_view_read(f->context, &control, control_values, &error));
    assert_true(fabs(control_values[2] - norm) < 1e-5 * norm);
    assert_true(fabs(control_values[0] - 0.5 / norm) < 1e-5);
    assert_true(control_values[1] == 1);

    OK(sora_gradient_norm(f->context, gradients, &loss_view, 0, 1, &control, &work, &error));
    OK(sora_view_read(f->context, &control, control_values, &error));
    assert_true(control_values[0] == 1 && control_values[1] == 1);

    OK(sora_gradient_norm(f->context, &none, &loss_view, 1, 0.5f, &control, &work, &error));
    OK(sora_view_read(f->context, &control, control_values, &error));
    assert_true(control_values[0] == 0.5f && control_values[1] == 1 && control_values[2] == 0);

    a[5] = INFINITY;
    OK(sora_view_write(f->context, &ra.views.gradient, a, &error));
    for (int again = 0; again < 2; again++) {
        OK(sora_gradient_norm(f->context, gradients, &loss_view, 1, 1, &control, &work, &error));
        OK(sora_view_read(f->context, &control, control_values, &error));
        assert_true(control_values[1] == 0);
        OK(sora_sgd(f->context, &rb.views, &(sora_sgd_desc) { .lr = 1, .step = 1 }, &control, &error));
        OK(sora_adamw(f->context, &rb.views, &(sora_adamw_desc) { .lr = 1, .step = 1 }, &control, &error));
        OK(sora_gate(f->context, &rb.views, &(sora_gate_desc) { .lr = 1, .xi = 1, .step = 1 }, &control, &error));
        expect(f, &rb, (const double[]) { 3, 4, 0 });
        a[5] = 0; /* finite again: nothing may move all the same */
        OK(sora_view_write(f->context, &ra.views.gradient, a, &error));
    }
    const float good = 1;
    OK(sora_view_write(f->context, &(sora_view) { .memory = control.memory, .offset = 1, .shape = SORA_SHAPE(1), .stride = 1 },
                       &good, &error));
    loss = NAN;
    OK(sora_view_write(f->context, &loss_view, &loss, &error));
    OK(sora_gradient_norm(f->context, gradients, &loss_view, 1, 1, &control, &work, &error));
    OK(sora_view_read(f->context, &control, control_values, &error));
    assert_true(control_values[1] == 0);
    sora_buffer_destroy(&scratch);
    sora_buffer_destroy(&loss_buffer);
    sora_buffer_destroy(&control_buffer);
    close_range(&ra);
    close_range(&rb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gate_paper), cmocka_unit_test(test_gate_adam), cmocka_unit_test(test_gate_official),
        cmocka_unit_test(test_adamw),      cmocka_unit_test(test_sgd),       cmocka_unit_test(test_control),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
