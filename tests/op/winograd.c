/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions by transformed tiles, and their gradients of weights, against double precision: any channels, sizes that divide
 * nothing, both ways, in place of y and on top of it, with rounding errors within what is said of them. */
#include "op/winograd.h"
#include "guarded.h"

enum { X, W, BIAS, Y, DW };

/* With a larger workspace than asked for, whose end must stay as it was. */
static sora_view scratch(sora_context *context, uint64_t elements, sora_buffer *buffer)
{
    sora_error error;
    OK(sora_buffer_create(context, (elements + GUARD) * sizeof(float), "test", buffer, &error));
    sora_view view = sora_view_dense(buffer, 0, SORA_SHAPE((int64_t)elements + GUARD));
    OK(sora_fill(context, &view, NAN, &error));
    return view;
}

static void check_scratch(sora_context *context, sora_view view, uint64_t elements)
{
    sora_error error;
    float end[GUARD];
    view.offset += elements;
    view.shape = SORA_SHAPE(GUARD);
    view.stride = 1;
    OK(sora_view_read(context, &view, end, &error));
    for (int i = 0; i < GUARD; i++) assert_true(isnan(end[i]));
}

static void compare(fixture *f, sora_context *context, int which, const sora_shape *shape, const double *expected, double terms,
                    const char *what)
{
    int64_t elements = sora_shape_elements(shape);
    double bound = sora_winograd_error(terms);
    float *got = read_operand(f, context, which, elements);
    for (int64_t i = 0; i < elements; i++) {
        double off = fabs((double)got[GUARD + i] - expected[i]);
        if (!(off <= bound))
            fail_msg("%s, element %lld: %.9g; expected %.9g, bound %.3g", what, (long long)i, (double)got[GUARD + i], expected[i],
                     bound);
        got[GUARD + i] = f->host[which][GUARD + i];
    }
    check_rest(f, which, got, elements);
}

typedef struct sizes {
    int64_t images, inputs, outputs, height, width;
} sizes;

static double *convolved(const fixture *f, const sizes *s, bool flip, bool accumulate)
{
    int64_t n = s->height * s->width;
    double *y = calloc((size_t)(s->images * s->outputs * n), sizeof *y);
    assert_non_null(y);
    for (int64_t e = 0; e < s->images * s->outputs * n; e++) {
        int64_t image = e / n / s->outputs, o = e / n % s->outputs, row = e % n / s->width, column = e % s->width;
        y[e] = (double)f->host[BIAS][GUARD + o] + (accumulate ? (double)f->host[Y][GUARD + e] : 0.0);
        for (int64_t c = 0; c < s->inputs; c++)
            for (int t = 0; t < 9; t++) {
                int64_t u = row + t / 3 - 1, v = column + t % 3 - 1,
                        w = flip ? (c * s->outputs + o) * 9 + 8 - t : (o * s->inputs + c) * 9 + t;
                if (u < 0 || u >= s->height || v < 0 || v >= s->width) continue;
                y[e] +=
                    (double)f->host[W][GUARD + w] * (double)f->host[X][GUARD + (image * s->inputs + c) * n + u * s->width + v];
            }
    }
    return y;
}

static double *gradient_of(const fixture *f, const sizes *s)
{
    int64_t n = s->height * s->width;
    double *dw = calloc((size_t)(s->outputs * s->inputs * 9), sizeof *dw);
    assert_non_null(dw);
    for (int64_t e = 0; e < s->outputs * s->inputs * 9; e++) {
        int64_t o = e / 9 / s->inputs, c = e / 9 % s->inputs, t = e % 9;
        for (int64_t p = 0; p < s->images * n; p++) {
            int64_t image = p / n, u = p % n / s->width + t / 3 - 1, v = p % s->width + t % 3 - 1;
            if (u < 0 || u >= s->height || v < 0 || v >= s->width) continue;
            dw[e] += (double)f->host[Y][GUARD + (image * s->outputs + o) * n + p % n] *
                     (double)f->host[X][GUARD + (image * s->inputs + c) * n + u * s->width + v];
        }
        dw[e] = 0.5 * (double)f->host[BIAS][GUARD + o] * dw[e] + (double)f->host[DW][GUARD + e];
    }
    return dw;
}

/* y of weights that were transformed before has the same bits, also where it has only the first of their outputs, some more behind
 * them; nothing is written behind what is said to be kept. */
static void check_kept(sora_context *context, const sora_conv_desc *desc, const sizes *s, int64_t more)
{
    sora_error error;
    int64_t outputs = s->outputs + more, elements = outputs * s->inputs * 9, n = sora_view_elements(desc->y);
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    uint64_t kept = sora_winograd_kept(limits, s->inputs, outputs);
    assert_int_equal(kept > 0, limits->type == SORA_DEVICE_CPU && s->inputs >= 16 && outputs >= 16);
    if (kept == 0) return;
    float *weight = malloc((size_t)elements * sizeof *weight),
          *y[2] = { malloc((size_t)n * sizeof **y), malloc((size_t)n * sizeof **y) };
    sora_buffer room;
    sora_conv_desc both = *desc;
    sora_view end = scratch(context, (uint64_t)elements + kept, &room), out = end;
    for (int64_t i = 0; i < elements; i++) weight[i] = (float)(i * 7919 % 2003) / 2003.0f - 0.5f;
    out.offset = (uint64_t)elements;
    both.accumulate = false;
    both.weight =
        sora_view_dense(&room, 0, desc->back ? SORA_SHAPE(s->inputs, outputs, 3, 3) : SORA_SHAPE(outputs, s->inputs, 3, 3));
    OK(sora_view_write(context, &both.weight, weight, &error));
    OK(sora_winograd_keep(context, &both.weight, desc->back, &out, "test", &error));
    check_scratch(context, end, (uint64_t)elements + kept);
    for (int i = 0; i < 2; i++) {
        both.weight.transformed[desc->back] = i ? out.offset : 0;
        OK(sora_winograd(context, &both, &error));
        OK(sora_view_read(context, desc->y, y[i], &error));
    }
    assert_memory_equal(y[0], y[1], (size_t)n * sizeof **y);
    sora_buffer_destroy(&room);
    for (int i = 0; i < 2; i++) free(y[i]);
    free(weight);
}

static void check_convolutions(fixture *f, sora_context *context, const sizes *s)
{
    sora_error error;
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    for (int back = 0; back < 2; back++) {
        sora_view x = operand(f, context, X, SORA_SHAPE(s->images, s->inputs, s->height, s->width)),
                  w = operand(f, context, W,
                              back ? SORA_SHAPE(s->inputs, s->outputs, 3, 3) : SORA_SHAPE(s->outputs, s->inputs, 3, 3)),
                  bias = operand(f, context, BIAS, SORA_SHAPE(s->outputs)),
                  y = operand(f, context, Y, SORA_SHAPE(s->images, s->outputs, s->height, s->width));
        sora_buffer room;
        uint64_t need = sora_winograd_workspace(limits, &x.shape, s->outputs);
        sora_conv_desc desc = { .kernel = 3,
                                .x = &x,
                                .weight = w,
                                .back = back,
                                .bias = &bias,
                                .y = &y,
                                .accumulate = back,
                                .workspace = scratch(context, need, &room),
                                .label = "test" };
        OK(sora_winograd(context, &desc, &error));
        check_scratch(context, desc.workspace, need);
        double *expected = convolved(f, s, back, back);
        compare(f, context, Y, &y.shape, expected, (double)s->inputs, back ? "the way back" : "y");
        free(expected);
        for (int64_t more = 0; more < 100; more = 3 * more + 3) check_kept(context, &desc, s, more);
        sora_buffer_destroy(&room);
        destroy_operands(f);
    }
}

static void check_gradient(fixture *f, sora_context *context, const sizes *s)
{
    sora_error error;
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    sora_view x = operand(f, context, X, SORA_SHAPE(s->images, s->inputs, s->height, s->width)),
              dy = operand(f, context, Y, SORA_SHAPE(s->images, s->outputs, s->height, s->width)),
              factor = operand(f, context, BIAS, SORA_SHAPE(s->outputs)),
              dw = operand(f, context, DW, SORA_SHAPE(s->outputs, s->inputs, 3, 3));
    sora_buffer room;
    uint64_t need = sora_winograd_gradient_workspace(limits, &x.shape, s->outputs);
    sora_conv_gradient_desc desc = { .kernel = 3,
                                     .x = &x,
                                     .dy = &dy,
                                     .gradient = &dw,
                                     .scale = 0.5f,
                                     .row = &factor,
                                     .workspace = scratch(context, need, &room),
                                     .label = "test" };
    OK(sora_winograd_gradient(context, &desc, &error));
    check_scratch(context, desc.workspace, need);
    double *expected = gradient_of(f, s);
    double tiles = (double)(s->images * ((s->height + 3) / 4) * ((s->width + 3) / 4));
    compare(f, context, DW, &dw.shape, expected, tiles, "gradient of the weights");
    free(expected);
    sora_buffer_destroy(&room);
    destroy_operands(f);
}

static void check_sizes(fixture *f, sora_context *context, const sizes *s)
{
    check_convolutions(f, context, s);
    check_gradient(f, context, s);
}

static void check_context(fixture *f, sora_context *context)
{
    static const sizes all[] = { { 1, 1, 1, 1, 1 },    { 2, 3, 17, 3, 1 },  { 3, 17, 3, 1, 17 },
                                 { 1, 8, 16, 4, 4 },   { 2, 9, 24, 8, 12 }, { 1, 65, 3, 17, 65 },
                                 { 2, 16, 65, 16, 8 }, { 3, 33, 20, 6, 5 }, { 1, 17, 50, 9, 10 } };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) check_sizes(f, context, &all[i]);
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

/* More tiles than a work-item has, and, of more channels, than are transformed at a time. */
static void test_parts(void **state)
{
    fixture *f = *state;
    check_sizes(f, f->contexts[0], &(sizes) { 3, 9, 10, 150, 210 });
    check_sizes(f, f->contexts[0], &(sizes) { 2, 35, 17, 57, 61 });
    check_sizes(f, f->contexts[0], &(sizes) { 2, 65, 10, 70, 74 });
}

/* Only the first channels of y may be wanted: what is said to be needed for all of them is enough for fewer. */
static void test_leading(void **state)
{
    fixture *f = *state;
    sora_error error;
    sora_context *context = f->contexts[0];
    enum { CHANNELS = 128, SIDE = 60, SPARE = 1 << 14 };
    sora_view x = operand(f, context, X, SORA_SHAPE(1, CHANNELS, SIDE, SIDE)),
              w = operand(f, context, W, SORA_SHAPE(CHANNELS, CHANNELS, 3, 3)),
              y = operand(f, context, Y, SORA_SHAPE(1, CHANNELS, SIDE, SIDE));
    uint64_t need = sora_winograd_workspace(&sora_context_device(context)->limits, &x.shape, CHANNELS);
    sora_buffer room;
    sora_conv_desc desc = { .kernel = 3,
                            .x = &x,
                            .weight = w,
                            .back = true,
                            .y = &y,
                            .workspace = scratch(context, need + SPARE, &room),
                            .label = "test" };
    for (y.shape.dim[1] = 8; y.shape.dim[1] < CHANNELS; y.shape.dim[1] += 8) {
        OK(sora_winograd(context, &desc, &error));
        check_scratch(context, desc.workspace, need);
    }
    sora_buffer_destroy(&room);
    destroy_operands(f);
}

/* Images of more elements than 32 bits count go another way. */
static void test_counts(void **state)
{
    fixture *f = *state;
    const sora_device_limits *limits = &sora_context_device(f->contexts[0])->limits;
    sora_shape fits = SORA_SHAPE(8, 64, 4096, 4096), large = SORA_SHAPE(1, 256, 4096, 4096);
    assert_true(sora_winograd_takes(3, &fits, 64));
    assert_false(sora_winograd_takes(3, &fits, 128));
    assert_false(sora_winograd_takes(3, &large, 64));
    assert_false(sora_winograd_pays(limits, 3, &large, 64));
    assert_false(sora_winograd_takes(1, &fits, 64));
}

/* All of a few tiles by a work-item, at edges: as a CPU does it, on any device; what Oclgrind has the time for. */
static void test_near(void **state)
{
    fixture *f = *state;
    sora_error error;
    sora_context *context;
    OK(open_as_cpu(f->contexts[0], &context, &error));
    check_sizes(f, context, &(sizes) { 1, 3, 9, 5, 7 });
    sora_context_destroy(&context);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest
        all[] = { cmocka_unit_test(test_cpu),     cmocka_unit_test(test_gpu),  cmocka_unit_test(test_parts),
                  cmocka_unit_test(test_leading), cmocka_unit_test(test_near), cmocka_unit_test(test_counts) },
        as_cpu[] = { cmocka_unit_test(test_near) };
    if (argc > 1 && strcmp(argv[argc - 1], "--as-cpu") == 0) return cmocka_run_group_tests(as_cpu, open_fixture, close_fixture);
    return cmocka_run_group_tests(all, open_fixture, close_fixture);
}
