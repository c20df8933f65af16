/* SPDX-License-Identifier: Apache-2.0 */
/* A SoRA module trained through graph and optimiser: against an independent implementation in double precision, and on a problem
 * whose rank is known. */
#include "../fixture.h"
#include "base/random.h"
#include "soracl/layer.h"
#include "soracl/optimizer.h"

#include <math.h>

/* ---- The module under training ----------------------------------------------------------------------------------- */

typedef struct module {
    sora_context *context;
    sora_params *params;
    sora_layers *layers;
    sora_layer *layer;
    sora_graph *graph;
    sora_tensor *x, *target, *loss;
    sora_optimizer *optimizer;
    int in, out, batch;
} module;

static void open_module(int in, int out, int batch, int rank, float scale, const sora_optimizer_options *options, uint64_t seed,
                        module *m)
{
    sora_error error;
    *m = (module) { .context = context, .in = in, .out = out, .batch = batch };
    OK(sora_params_create(context, &m->params, &error));
    OK(sora_layers_create(m->params, seed, &m->layers, &error));
    OK(sora_layers_add(m->layers, "fc", &(sora_layer_desc) { .in = in, .out = out }, &m->layer, &error));
    OK(sora_layer_activate(m->layer, &(sora_adapter_options) { .rank = rank, .alpha = scale * (float)rank }, &error));
    OK(sora_params_upload(m->params, 2, &error));
    OK(sora_optimizer_create(m->params, options, &m->optimizer, &error));
    OK(sora_graph_create(m->params, &(sora_graph_options) { .training = true, .batch = batch }, &m->graph, &error));
    m->x = sora_graph_input(m->graph, "x", SORA_F32, SORA_SHAPE(batch, in));
    m->target = sora_graph_input(m->graph, "target", SORA_F32, SORA_SHAPE(batch, out));
    m->loss = sora_mse_loss(m->graph, "loss", sora_layer_forward(m->graph, m->layer, m->x, false), m->target);
    OK(sora_graph_plan(m->graph, m->loss, &error));
}

static void close_module(module *m)
{
    sora_graph_destroy(&m->graph);
    sora_optimizer_destroy(&m->optimizer);
    sora_layers_destroy(&m->layers);
    sora_params_destroy(&m->params);
}

static void step_module(module *m, uint32_t step, const float *x, const float *target, const sora_optimizer_rates *rates)
{
    sora_error error;
    OK(sora_graph_write(m->graph, m->x, x, m->batch, &error));
    OK(sora_graph_write(m->graph, m->target, target, m->batch, &error));
    OK(sora_graph_forward(m->graph, m->batch, step, 0, &error));
    OK(sora_params_zero_gradients(m->params, &error));
    OK(sora_graph_backward(m->graph, &error));
    OK(sora_optimizer_step(m->optimizer, m->graph, m->loss, rates, 1, &error));
}

static void read_param(module *m, const char *name, float *out)
{
    sora_error error;
    OK(sora_param_read(sora_params_find(m->params, name), 0, out, &error));
}

static void normals(uint64_t seed, uint32_t step, uint32_t stream, float *out, int n)
{
    sora_random_stream random = { .seed = seed, .purpose = SORA_PURPOSE_TEST, .step = step, .stream = stream };
    for (int i = 0; i < n; i++) out[i] = (float)sora_random_normal(&random);
}

/* ---- 100 steps in double precision -------------------------------------------------------------------------------------------
 * Written from the formulas of arXiv 2311.11696 and 1711.05101 alone: no line is shared with the library. */

enum { P = 7, Q = 9, R = 5, M = 6 };

typedef struct reference {
    double base[P][Q], down[R][Q], up[P][R], gate[R];
    double down_m[R][Q], down_v[R][Q], up_m[P][R], up_v[P][R], gate_m[R], gate_v[R];
} reference;

static double soft_threshold(double x, double xi)
{
    return x > xi ? x - xi : x < -xi ? x + xi : 0;
}

static double adam_move(double gradient, double *m, double *v, int t)
{
    *m = 0.9 * *m + 0.1 * gradient;
    *v = 0.999 * *v + 0.001 * gradient * gradient;
    return *m / (1 - pow(0.9, t)) / (sqrt(*v / (1 - pow(0.999, t))) + 1e-8);
}

static void reference_step(reference *w, double s, int mode, int t, const float *x, const float *target, double lr,
                           double gate_lr, double xi, double l1, double decay, double clip)
{
    double ddown[R][Q] = { 0 }, dup[P][R] = { 0 }, dgate[R] = { 0 }, square = 0;
    for (int row = 0; row < M; row++) {
        double h[R], dh[R] = { 0 };
        for (int r = 0; r < R; r++) {
            h[r] = 0;
            for (int j = 0; j < Q; j++) h[r] += w->down[r][j] * x[row * Q + j];
        }
        for (int i = 0; i < P; i++) {
            double y = 0;
            for (int j = 0; j < Q; j++) y += w->base[i][j] * x[row * Q + j];
            for (int r = 0; r < R; r++) y += s * w->up[i][r] * w->gate[r] * h[r];
            double dy = 2 * (y - target[row * P + i]) / (M * P);
            for (int r = 0; r < R; r++) {
                dup[i][r] += s * dy * w->gate[r] * h[r];
                dh[r] += s * dy * w->up[i][r];
            }
        }
        for (int r = 0; r < R; r++) {
            dgate[r] += dh[r] * h[r];
            for (int j = 0; j < Q; j++) ddown[r][j] += dh[r] * w->gate[r] * x[row * Q + j];
        }
    }
    for (int r = 0; r < R; r++) {
        square += dgate[r] * dgate[r];
        for (int j = 0; j < Q; j++) square += ddown[r][j] * ddown[r][j];
        for (int i = 0; i < P; i++) square += dup[i][r] * dup[i][r];
    }
    double factor = sqrt(square) > clip ? clip / sqrt(square) : 1;
    for (int r = 0; r < R; r++) {
        for (int j = 0; j < Q; j++)
            w->down[r][j] -=
                lr * (adam_move(factor * ddown[r][j], &w->down_m[r][j], &w->down_v[r][j], t) + decay * w->down[r][j]);
        for (int i = 0; i < P; i++)
            w->up[i][r] -= lr * (adam_move(factor * dup[i][r], &w->up_m[i][r], &w->up_v[i][r], t) + decay * w->up[i][r]);
        double g = w->gate[r], d = factor * dgate[r];
        if (mode == SORA_GATE_UPDATE_PAPER) w->gate[r] = soft_threshold(g - gate_lr * d, xi);
        if (mode == SORA_GATE_UPDATE_ADAM)
            w->gate[r] = soft_threshold(g - gate_lr * adam_move(d, &w->gate_m[r], &w->gate_v[r], t), xi);
        if (mode == SORA_GATE_UPDATE_OFFICIAL) {
            double sign = (g > 0) - (g < 0);
            g -= gate_lr * adam_move(d + l1 * sign / R, &w->gate_m[r], &w->gate_v[r], t);
            double shrunk = soft_threshold(g, xi);
            w->gate[r] = fabs(shrunk) < xi ? 0 : shrunk;
        }
    }
}

static double largest_error(const float *got, const double *expected, int n)
{
    double largest = 0;
    for (int i = 0; i < n; i++) largest = fmax(largest, fabs(got[i] - expected[i]));
    return largest;
}

static void load(const float *from, double *to, int n)
{
    for (int i = 0; i < n; i++) to[i] = from[i];
}

static void check_mode(sora_gate_update mode, double xi, double l1)
{
    const double lr = 0.01, gate_lr = 0.02, decay = 0.05, clip = 0.5, scale = 1.5;
    float base[P * Q], down[R * Q], up[P * R], gate[R], last_gate[R];
    float slots[2][M * Q + M * P]; /* an input stays in use until the step after the next */
    static reference w;
    module m;
    int moved = 0;
    w = (reference) { 0 };
    open_module(
        Q, P, M, R, (float)scale,
        &(sora_optimizer_options) { .weight_decay = (float)decay, .clip = (float)clip, .gate = mode, .gate_l1 = (float)l1 }, 5,
        &m);
    read_param(&m, "fc.weight", base);
    read_param(&m, "fc.down", down);
    read_param(&m, "fc.up", up);
    read_param(&m, "fc.gate", gate);
    load(base, w.base[0], P * Q);
    load(down, w.down[0], R * Q);
    load(up, w.up[0], P * R);
    load(gate, w.gate, R);
    for (int t = 1; t <= 100; t++) {
        float *x = slots[t % 2], *target = x + M * Q;
        normals(1, (uint32_t)t, 0, x, M * Q);
        normals(1, (uint32_t)t, 1, target, M * P);
        step_module(&m, (uint32_t)t, x, target,
                    &(sora_optimizer_rates) { .lr = (float)lr, .gate_lr = (float)gate_lr, .xi = (float)xi });
        reference_step(&w, scale, mode, t, x, target, (float)lr, (float)gate_lr, (float)xi, l1, (float)decay, clip);
    }
    read_param(&m, "fc.down", down);
    read_param(&m, "fc.up", up);
    read_param(&m, "fc.gate", last_gate);
    double errors[3] = { largest_error(down, w.down[0], R * Q), largest_error(up, w.up[0], P * R),
                         largest_error(last_gate, w.gate, R) };
    for (int r = 0; r < R; r++) moved += fabs(last_gate[r] - gate[r]) > 0.01;
    /* Adam divides by the square root of small second moments, so rounding of 1e-7 grows along 100 steps. */
    for (int i = 0; i < 3; i++)
        if (!(errors[i] < 2e-5))
            fail_msg("mode %d: down, up, gate differ by %.2g %.2g %.2g", mode, errors[0], errors[1], errors[2]);
    assert_true(moved >= 2);
    for (int r = 0; r < R; r++) assert_true((last_gate[r] == 0) == (w.gate[r] == 0));
    close_module(&m);
}

static void test_paper_100_steps(void **state)
{
    (void)state;
    check_mode(SORA_GATE_UPDATE_PAPER, 0.005, 0);
}

static void test_adam_100_steps(void **state)
{
    (void)state;
    check_mode(SORA_GATE_UPDATE_ADAM, 0.003, 0);
}

static void test_official_100_steps(void **state)
{
    (void)state;
    check_mode(SORA_GATE_UPDATE_OFFICIAL, 0.002, 0.1);
}

/* ---- A known rank ------------------------------------------------------------------------------------------------------------
 * y = (W₀ + ΔW) x with ΔW 32 × 32 of rank 4; the module starts with rank 16, g ~ N(0, 1), s = 1. */

enum { D = 32, TRUE_RANK = 4, START_RANK = 16, BATCH = 64, STEPS = 1500 };

typedef struct outcome {
    int kept;
    double error; /* mean square of the update's entries that are wrong, as a share of ΔW's */
    double error_released;
    int numerical_rank;
} outcome;

/* Singular values by one-sided Jacobi rotations of columns (Hestenes). */
static void singular_values(double a[D][D], double out[D])
{
    for (int sweep = 0; sweep < 60; sweep++) {
        double off = 0;
        for (int p = 0; p < D; p++) {
            for (int q = p + 1; q < D; q++) {
                double alpha = 0, beta = 0, gamma = 0;
                for (int i = 0; i < D; i++) alpha += a[i][p] * a[i][p], beta += a[i][q] * a[i][q], gamma += a[i][p] * a[i][q];
                if (fabs(gamma) <= 1e-14 * sqrt(alpha * beta) || gamma == 0) continue;
                off = fmax(off, fabs(gamma));
                double zeta = (beta - alpha) / (2 * gamma);
                double t = (zeta > 0 ? 1 : -1) / (fabs(zeta) + sqrt(1 + zeta * zeta)), c = 1 / sqrt(1 + t * t), s = c * t;
                for (int i = 0; i < D; i++) {
                    double left = a[i][p];
                    a[i][p] = c * left - s * a[i][q];
                    a[i][q] = s * left + c * a[i][q];
                }
            }
        }
        if (off == 0) break;
    }
    for (int j = 0; j < D; j++) {
        out[j] = 0;
        for (int i = 0; i < D; i++) out[j] += a[i][j] * a[i][j];
        out[j] = sqrt(out[j]);
    }
}

/* The update s · W_u diag(g) W_d as it is now, and how far from the truth. */
static double read_update(module *m, float truth[D][D], double update[D][D])
{
    float down[START_RANK * D], up[D * START_RANK], gate[START_RANK];
    double wrong = 0, all = 0;
    read_param(m, "fc.down", down);
    read_param(m, "fc.up", up);
    read_param(m, "fc.gate", gate);
    for (int i = 0; i < D; i++) {
        for (int j = 0; j < D; j++) {
            update[i][j] = 0;
            for (int r = 0; r < START_RANK; r++) update[i][j] += (double)up[i * START_RANK + r] * gate[r] * down[r * D + j];
            wrong += pow(update[i][j] - truth[i][j], 2);
            all += truth[i][j] * truth[i][j];
        }
    }
    return wrong / all;
}

static outcome recover(uint64_t seed, sora_gate_update mode, double lambda, bool release)
{
    static float left[D * TRUE_RANK], right[TRUE_RANK * D], truth[D][D], base[D][D], slots[2][2 * BATCH * D];
    static double update[D][D];
    const float lr = 0.01f;
    double values[D];
    outcome result = { 0 };
    sora_error error;
    sora_layer_info info;
    module m;
    normals(seed, 0, 2, left, D * TRUE_RANK);
    normals(seed, 0, 3, right, TRUE_RANK * D);
    for (int i = 0; i < D; i++) {
        for (int j = 0; j < D; j++) {
            truth[i][j] = 0;
            for (int r = 0; r < TRUE_RANK; r++) truth[i][j] += left[i * TRUE_RANK + r] * right[r * D + j] / sqrtf(D);
        }
    }
    open_module(D, D, BATCH, START_RANK, 1, &(sora_optimizer_options) { .gate = mode }, seed, &m);
    read_param(&m, "fc.weight", base[0]);
    for (uint32_t step = 0; step < (release ? 2u : 1u) * STEPS; step++) {
        double now = step < STEPS ? lambda : 0;
        float *x = slots[step % 2], *target = x + BATCH * D;
        normals(seed, step, 4, x, BATCH * D);
        for (int n = 0; n < BATCH; n++) {
            for (int i = 0; i < D; i++) {
                double y = 0;
                for (int j = 0; j < D; j++) y += (double)(base[i][j] + truth[i][j]) * x[n * D + j];
                target[n * D + i] = (float)y;
            }
        }
        step_module(&m, step, x, target, &(sora_optimizer_rates) { .lr = lr, .gate_lr = lr, .xi = (float)now * lr });
        if (step + 1 != STEPS) continue;
        OK(sora_layer_describe(m.layer, &info, &error));
        result.kept = info.rank_kept;
        result.error = read_update(&m, truth, update);
        singular_values(update, values);
        double largest = 0;
        for (int i = 0; i < D; i++) largest = fmax(largest, values[i]);
        for (int i = 0; i < D; i++) result.numerical_rank += values[i] > 0.01 * largest;
    }
    if (release) result.error_released = read_update(&m, truth, update);
    close_module(&m);
    return result;
}

static void test_rank_recovered(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        outcome o = recover(seed, SORA_GATE_UPDATE_PAPER, 0.3, true);
        print_message("# seed %d: kept %d, error %.3g, %.3g after λ was set to 0\n", (int)seed, o.kept, o.error,
                      o.error_released);
        assert_in_range(o.kept, 4, 5);
        assert_true(o.error_released < 1e-4);
    }
}

static void test_nothing_pruned_without_lambda(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) assert_int_equal(recover(seed, SORA_GATE_UPDATE_PAPER, 0, false).kept, START_RANK);
}

static void test_all_pruned_by_large_lambda(void **state)
{
    (void)state;
    outcome o = recover(1, SORA_GATE_UPDATE_PAPER, 30, false);
    assert_int_equal(o.kept, 0);
    assert_int_equal(o.numerical_rank, 0);
}

/* Adam moves a gate by its learning rate whatever the size of the gradient, so gates of no use stay: the update's own rank says
 * what was learned. */
static void test_adam_learns_the_rank(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        outcome o = recover(seed, SORA_GATE_UPDATE_ADAM, 0.3, false);
        print_message("# seed %d: %d gates, numerical rank %d, error %.3g\n", (int)seed, o.kept, o.numerical_rank, o.error);
        assert_int_equal(o.numerical_rank, TRUE_RANK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paper_100_steps),
        cmocka_unit_test(test_adam_100_steps),
        cmocka_unit_test(test_official_100_steps),
        cmocka_unit_test(test_rank_recovered),
        cmocka_unit_test(test_nothing_pruned_without_lambda),
        cmocka_unit_test(test_all_pruned_by_large_lambda),
        cmocka_unit_test(test_adam_learns_the_rank),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
