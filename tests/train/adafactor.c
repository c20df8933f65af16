/* SPDX-License-Identifier: Apache-2.0 */
/* Adafactor: against double precision, against Transformers, and what is kept of it. */
#include "../fixture.h"
#include "base/random.h"
#include "graph/params.h"
#include "soracl/optimizer.h"
#include "soracl/unet.h"
#include "train/checkpoint.h"

#include <jansson.h>
#include <math.h>

/* ---- Parameters whose gradients the test writes ------------------------------------------------------------------ */

typedef struct set {
    sora_params *params;
    sora_graph *graph; /* of the loss alone, which the optimiser looks at */
    sora_tensor *x, *loss;
    sora_optimizer *optimizer;
} set;

/* Vectors are plain, as norms and biases are: without decay. */
static void add(set *s, const char *name, sora_shape shape)
{
    sora_error error;
    OK(sora_params_add(s->params, name, shape.rank > 1 ? SORA_PARAM_WEIGHT : SORA_PARAM_PLAIN, shape, NULL, &error));
}

static void start(set *s, const sora_optimizer_options *options)
{
    sora_error error;
    static const float loss = 0.5f; /* must outlive the write */
    OK(sora_params_upload(s->params, sora_optimizer_moments(options), &error));
    OK(sora_optimizer_create(s->params, options, &s->optimizer, &error));
    OK(sora_graph_create(s->params, &(sora_graph_options) { .batch = 1 }, &s->graph, &error));
    s->x = sora_graph_input(s->graph, "x", SORA_F32, SORA_SHAPE(1, 1));
    s->loss = sora_sum(s->graph, "loss", s->x);
    sora_graph_output(s->graph, s->loss);
    OK(sora_graph_plan(s->graph, NULL, &error));
    OK(sora_graph_write(s->graph, s->x, &loss, 1, &error));
    OK(sora_graph_forward(s->graph, 1, 0, 0, &error));
}

static void end(set *s)
{
    sora_error error;
    sora_graph_destroy(&s->graph);
    sora_optimizer_destroy(&s->optimizer);
    OK(sora_params_download(s->params, &error));
}

static void update(set *s, float lr)
{
    sora_error error;
    OK(sora_optimizer_step(s->optimizer, s->graph, s->loss, &(sora_optimizer_rates) { .lr = lr, .gate_lr = lr }, 1, &error));
}

static int64_t elements_of(const sora_param *param)
{
    sora_shape shape = sora_param_shape(param);
    return sora_shape_elements(&shape);
}

static float *room(int64_t elements)
{
    float *data = calloc((size_t)(elements > 0 ? elements : 1), sizeof *data);
    assert_non_null(data);
    return data;
}

static float *read_part(const sora_param *param, int part)
{
    sora_error error;
    sora_shape shape = part == 0 ? sora_param_shape(param) : sora_param_moment_shape(param, SORA_MOMENTS_FACTORED, part);
    float *data = room(sora_shape_elements(&shape));
    OK(sora_param_read(param, part, data, &error));
    return data;
}

/* Gradients of a step; every fifth is large, and rows, columns and single elements are 0 here and there. */
static void make_gradient(uint32_t step, uint32_t stream, int64_t columns, float *out, int64_t n)
{
    sora_random_stream random = { .seed = 11, .purpose = SORA_PURPOSE_TEST, .step = step, .stream = stream };
    float size = step % 5 == 0 ? 3.0f : 0.001f * (float)(1 + stream % 3);
    for (int64_t i = 0; i < n; i++) {
        out[i] = size * (float)sora_random_normal(&random);
        if (i % 13 == 5 || (i / columns) % 7 == 6 || (columns > 3 && i % columns == 2)) out[i] = 0;
    }
}

static void write_gradients(set *s, uint32_t step)
{
    sora_error error;
    for (size_t i = 0; i < sora_params_count(s->params); i++) {
        sora_param *param = sora_params_at(s->params, i);
        sora_shape shape = sora_param_shape(param);
        int64_t n = elements_of(param);
        float *gradient = room(n);
        make_gradient(step, (uint32_t)i, shape.rank > 1 ? shape.dim[shape.rank - 1] : 1, gradient, n);
        OK(sora_param_write(param, SORA_PART_GRADIENT, gradient, &error));
        free(gradient);
    }
}

/* ---- 50 steps in double precision --------------------------------------------------------------------------------------------
 * Written from algorithms 4 and 5 of arXiv 1804.04235, one matrix after the other; no line is shared with the library. */

typedef struct reference {
    int64_t matrices, rows, columns;
    bool vector;
    double *w, *r, *c, *u;
    float *gradient;
} reference;

static double *doubles(int64_t n)
{
    double *data = calloc((size_t)n, sizeof *data);
    assert_non_null(data);
    return data;
}

static void open_reference(const sora_param *param, reference *out)
{
    sora_shape s = sora_param_shape(param);
    *out = (reference) { 1, s.dim[0], 1, s.rank == 1, NULL, NULL, NULL, NULL, NULL };
    if (s.rank > 1) out->rows = s.dim[s.rank - 2], out->columns = s.dim[s.rank - 1];
    for (int i = 0; i < s.rank - 2; i++) out->matrices *= s.dim[i];
    int64_t n = elements_of(param);
    out->w = doubles(n), out->u = doubles(n), out->gradient = room(n);
    out->r = doubles(out->matrices * out->rows), out->c = doubles(out->matrices * out->columns);
}

static void close_reference(reference *p)
{
    free(p->w), free(p->u), free(p->r), free(p->c), free(p->gradient);
}

/* The update of one matrix into u. */
static void reference_matrix(reference *p, int64_t matrix, double factor, double beta)
{
    int64_t rows = p->rows, columns = p->columns;
    const float *g = p->gradient + matrix * rows * columns;
    double *r = p->r + matrix * rows, *c = p->c + matrix * columns, *u = p->u + matrix * rows * columns, mean = 0;
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0;
        for (int64_t j = 0; j < columns; j++) sum += pow(factor * g[i * columns + j], 2) + 1e-30;
        r[i] = beta * r[i] + (1 - beta) * sum / (double)columns;
        mean += r[i] / (double)rows;
    }
    for (int64_t j = 0; j < columns; j++) {
        double sum = 0;
        for (int64_t i = 0; i < rows; i++) sum += pow(factor * g[i * columns + j], 2) + 1e-30;
        c[j] = beta * c[j] + (1 - beta) * sum / (double)rows;
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            u[i * columns + j] = factor * g[i * columns + j] / sqrt(p->vector ? r[i] : r[i] * c[j] / mean);
}

static void reference_step(reference *p, int step, double factor, double lr, double decay)
{
    int64_t n = p->matrices * p->rows * p->columns;
    double squares = 0;
    for (int64_t m = 0; m < p->matrices; m++) reference_matrix(p, m, factor, 1 - pow(step, -0.8));
    for (int64_t i = 0; i < n; i++) squares += p->u[i] * p->u[i];
    double rms = sqrt(squares / (double)n);
    for (int64_t i = 0; i < n; i++) p->w[i] -= lr * (p->u[i] / (rms > 1 ? rms : 1) + (p->vector ? 0 : decay) * p->w[i]);
}

static void expect_near(const char *name, const char *what, const float *got, const double *expected, int64_t n, double absolute,
                        double relative)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - expected[i]) <= absolute + relative * fabs(expected[i])))
            fail_msg("%s, %s %d: %.9g; expected %.9g", name, what, (int)i, got[i], expected[i]);
}

static void compare(const sora_param *param, const reference *p)
{
    /* A sum of 257 squares in single precision is good to 1e-6 or so, an update to a few of these; 50 of 0.01 add up. */
    float *w = read_part(param, 0), *r = read_part(param, 1);
    expect_near(sora_param_name(param), "value", w, p->w, elements_of(param), 3e-6, 2e-6);
    expect_near(sora_param_name(param), "row", r, p->r, p->matrices * p->rows, 0, 1e-5);
    if (!p->vector) {
        float *c = read_part(param, 2);
        expect_near(sora_param_name(param), "column", c, p->c, p->matrices * p->columns, 0, 1e-5);
        free(c);
    }
    free(w);
    free(r);
}

/* Chunks of 256 rows, blocks of 16 columns and runs of 2048 elements: one, a part of one, several. */
static const sora_shape many_shapes[] = {
    { 4, { 5, 3, 3, 3 } }, { 4, { 2, 2, 65, 65 } }, { 4, { 1, 3, 257, 17 } }, { 4, { 2, 1, 300, 3 } }, { 3, { 3, 5, 17 } },
    { 2, { 600, 33 } },    { 2, { 3, 5000 } },      { 2, { 5000, 3 } },       { 2, { 512, 64 } },
};

static void add_many(set *s)
{
    static const int64_t sizes[] = { 1, 3, 17, 65, 257 };
    char name[32];
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "vector %d", (int)sizes[i]);
        add(s, name, SORA_SHAPE(sizes[i]));
        for (int j = 0; j < 5; j++) {
            snprintf(name, sizeof name, "matrix %d x %d", (int)sizes[i], (int)sizes[j]);
            add(s, name, SORA_SHAPE(sizes[i], sizes[j]));
        }
    }
    for (size_t i = 0; i < sizeof many_shapes / sizeof *many_shapes; i++) {
        char text[80];
        add(s, sora_shape_text(&many_shapes[i], text), many_shapes[i]);
    }
    for (size_t i = 0; i < sora_params_count(s->params); i++) {
        sora_param *param = sora_params_at(s->params, i);
        for (int64_t j = 0; j < elements_of(param); j++)
            sora_param_host(param)[j] = (float)((j * 29 + (int64_t)i) % 101 - 50) / 50;
    }
}

static void check_50_steps(void)
{
    sora_error error;
    set s = { 0 };
    const double lr = 0.01, decay = 0.1, clip = 20;
    int clipped = 0;
    OK(sora_params_create(context, &s.params, &error));
    add_many(&s);
    size_t count = sora_params_count(s.params);
    reference *all = calloc(count, sizeof *all);
    assert_non_null(all);
    for (size_t i = 0; i < count; i++) {
        sora_param *param = sora_params_at(s.params, i);
        open_reference(param, &all[i]);
        for (int64_t j = 0; j < elements_of(param); j++) all[i].w[j] = sora_param_host(param)[j];
    }
    start(&s, &(sora_optimizer_options) { .kind = SORA_OPTIMIZER_ADAFACTOR, .weight_decay = (float)decay, .clip = (float)clip });
    for (int step = 1; step <= 50; step++) {
        double norm = 0;
        for (size_t i = 0; i < count; i++) {
            int64_t n = elements_of(sora_params_at(s.params, i));
            make_gradient((uint32_t)step, (uint32_t)i, all[i].columns, all[i].gradient, n);
            for (int64_t j = 0; j < n; j++) norm += pow(all[i].gradient[j], 2);
        }
        norm = sqrt(norm);
        clipped += norm > clip;
        for (size_t i = 0; i < count; i++)
            reference_step(&all[i], step, norm > clip ? clip / (norm + 1e-6) : 1, (double)(float)lr, (double)(float)decay);
        write_gradients(&s, (uint32_t)step);
        update(&s, (float)lr);
    }
    assert_int_equal(clipped, 10);
    for (size_t i = 0; i < count; i++) {
        compare(sora_params_at(s.params, i), &all[i]);
        close_reference(&all[i]);
    }
    free(all);
    end(&s);
    sora_params_destroy(&s.params);
    assert_int_equal(sora_context_memory(context).current, 0);
}

static void test_50_steps(void **state)
{
    (void)state;
    check_50_steps();
}

/* Work-items as a GPU gets them. */
static void test_50_steps_as_gpu(void **state)
{
    (void)state;
    sora_error error;
    sora_context *own = context;
    sora_device_limits limits = sora_context_device(context)->limits;
    limits.type = SORA_DEVICE_GPU;
    OK(sora_context_create(&(sora_context_options) { .limits = &limits }, &context, &error));
    check_50_steps();
    sora_context_destroy(&context);
    context = own;
}

/* ---- Transformers ------------------------------------------------------------------------------------------------ */

static void numbers(float *out, int64_t count, int phase, float scale)
{
    for (int64_t i = 0; i < count; i++) out[i] = scale * (float)((i * 37 + phase * 101) % 129 - 64) / 64;
}

static void expect_list(const char *name, const sora_param *param, int part, const json_t *list)
{
    float *got = read_part(param, part);
    size_t i;
    const json_t *item;
    json_array_foreach((json_t *)list, i, item)
    {
        const double expected = json_number_value(item);
        expect_near(name, part == 0 ? "value" : "moment", got + i, &expected, 1, part == 0 ? 1e-6 : 0, 3e-6);
    }
    free(got);
}

static void check_case(const json_t *root, const json_t *one)
{
    sora_error error;
    set s = { 0 };
    const json_t *dims = json_object_get(one, "shape"), *moments = json_object_get(one, "moments");
    sora_shape shape = { .rank = (int)json_array_size(dims) };
    char text[80];
    for (int i = 0; i < shape.rank; i++) shape.dim[i] = json_integer_value(json_array_get(dims, (size_t)i));
    sora_shape_text(&shape, text);
    OK(sora_params_create(context, &s.params, &error));
    add(&s, text, shape);
    sora_param *param = sora_params_at(s.params, 0);
    int64_t n = elements_of(param);
    numbers(sora_param_host(param), n, 7, 1);
    float *gradient = room(n);
    float decay = (float)json_number_value(json_object_get(root, "weight_decay"));
    start(&s, &(sora_optimizer_options) { .kind = SORA_OPTIMIZER_ADAFACTOR, .weight_decay = decay,
                                         .scale_parameter = json_is_true(json_object_get(one, "relative")) });
    for (int step = 1; step <= (int)json_integer_value(json_object_get(root, "steps")); step++) {
        numbers(gradient, n, step, step == 6 ? 4.0f : 0.25f);
        OK(sora_param_write(param, SORA_PART_GRADIENT, gradient, &error));
        update(&s, (float)json_number_value(json_object_get(root, "lr")));
    }
    expect_list(text, param, 0, json_object_get(one, "value"));
    assert_int_equal(json_array_size(moments), shape.rank > 1 ? 2 : 1);
    for (size_t i = 0; i < json_array_size(moments); i++) expect_list(text, param, (int)i + 1, json_array_get(moments, i));
    free(gradient);
    end(&s);
    sora_params_destroy(&s.params);
}

static void test_transformers(void **state)
{
    (void)state;
    json_error_t problem;
    json_t *root = json_load_file(REFERENCE, 0, &problem), *one;
    size_t i;
    assert_non_null(root);
    json_array_foreach(json_object_get(root, "cases"), i, one) check_case(root, one);
    assert_int_equal(i, 14);
    json_decref(root);
}

/* ---- What is kept ------------------------------------------------------------------------------------------------ */

/* p + q numbers for a matrix and n for a vector, and all that is taken was predicted. */
static void test_memory(void **state)
{
    (void)state;
    sora_error error;
    set s = { 0 };
    const sora_optimizer_options options = { .kind = SORA_OPTIMIZER_ADAFACTOR };
    OK(sora_params_create(context, &s.params, &error));
    add(&s, "embedding", SORA_SHAPE(1000, 65));
    add(&s, "convolution", SORA_SHAPE(8, 4, 3, 3));
    add(&s, "vector", SORA_SHAPE(17));
    uint64_t none = sora_params_device_bytes(s.params, SORA_MOMENTS_NONE),
             factored = sora_params_device_bytes(s.params, SORA_MOMENTS_FACTORED);
    assert_int_equal(factored - none, sizeof(float) * (1000 + 65 + 8 * 4 * (3 + 3) + 17));
    assert_int_equal(sora_optimizer_moments(&options), SORA_MOMENTS_FACTORED);
    uint64_t predicted = factored + sora_optimizer_device_bytes(s.params, &options);
    OK(sora_params_upload(s.params, SORA_MOMENTS_FACTORED, &error));
    OK(sora_optimizer_create(s.params, &options, &s.optimizer, &error));
    assert_int_equal(sora_context_memory(context).current, predicted);
    sora_optimizer_destroy(&s.optimizer);
    FAILS(sora_optimizer_create(s.params, &(sora_optimizer_options) { 0 }, &s.optimizer, &error), SORA_ERROR_ARGUMENT,
          "Adafactor");
    OK(sora_params_download(s.params, &error));
    OK(sora_params_upload(s.params, SORA_MOMENTS_TWO, &error));
    FAILS(sora_optimizer_create(s.params, &options, &s.optimizer, &error), SORA_ERROR_ARGUMENT, "factored");
    sora_params_destroy(&s.params);
    assert_int_equal(sora_context_memory(context).current, 0);
}

static void expect_equal_sets(const set *a, const set *b)
{
    for (size_t i = 0; i < sora_params_count(a->params); i++) {
        const sora_param *one = sora_params_at(a->params, i), *other = sora_params_at(b->params, i);
        for (int part = 0; part <= (sora_param_shape(one).rank > 1 ? 2 : 1); part++) {
            sora_shape shape = part ? sora_param_moment_shape(one, SORA_MOMENTS_FACTORED, part) : sora_param_shape(one);
            float *x = read_part(one, part), *y = read_part(other, part);
            assert_memory_equal(x, y, (size_t)sora_shape_elements(&shape) * sizeof *x);
            free(x);
            free(y);
        }
    }
}

static void steps(set *s, uint32_t first, uint32_t last)
{
    for (uint32_t step = first; step <= last; step++) {
        write_gradients(s, step);
        update(s, 0.01f);
    }
}

static void test_resume(void **state)
{
    (void)state;
    sora_error error;
    set whole = { 0 }, again = { 0 };
    const sora_optimizer_options options = { .kind = SORA_OPTIMIZER_ADAFACTOR, .clip = 1 };
    OK(sora_params_create(context, &whole.params, &error));
    OK(sora_params_create(context, &again.params, &error));
    add_many(&whole);
    add_many(&again);
    start(&whole, &options);
    steps(&whole, 1, 3);
    OK(sora_moments_save(whole.params, SORA_MOMENTS_FACTORED, folder, &error));
    for (size_t i = 0; i < sora_params_count(whole.params); i++)
        OK(sora_param_read(sora_params_at(whole.params, i), 0, sora_param_host(sora_params_at(again.params, i)), &error));
    FAILS(sora_moments_load(again.params, SORA_MOMENTS_TWO, folder, &error), SORA_ERROR_INPUT, "#");
    OK(sora_moments_load(again.params, SORA_MOMENTS_FACTORED, folder, &error));
    start(&again, &options);
    sora_optimizer_set_steps(again.optimizer, 3);
    steps(&again, 4, 6);
    steps(&whole, 4, 6);
    expect_equal_sets(&whole, &again);
    end(&whole); /* and on the host nothing is different */
    expect_equal_sets(&whole, &again);
    end(&again);
    sora_params_destroy(&whole.params);
    sora_params_destroy(&again.params);
}

/* Neither values nor moments move by a NaN, nor by anything after it. */
static void test_nonfinite(void **state)
{
    (void)state;
    sora_error error;
    set good = { 0 }, bad = { 0 };
    const sora_optimizer_options options = { .kind = SORA_OPTIMIZER_ADAFACTOR, .clip = 1 };
    const float broken = NAN;
    bool finite;
    float norm;
    OK(sora_params_create(context, &good.params, &error));
    OK(sora_params_create(context, &bad.params, &error));
    add_many(&good);
    add_many(&bad);
    start(&good, &options);
    start(&bad, &options);
    steps(&good, 1, 2);
    steps(&bad, 1, 2);
    write_gradients(&bad, 3);
    OK(sora_param_write(sora_params_find(bad.params, "vector 1"), SORA_PART_GRADIENT, &broken, &error));
    update(&bad, 0.01f);
    steps(&bad, 4, 5);
    OK(sora_optimizer_read(bad.optimizer, &finite, &norm, &error));
    assert_false(finite);
    OK(sora_optimizer_read(good.optimizer, &finite, &norm, &error));
    assert_true(finite);
    expect_equal_sets(&good, &bad);
    end(&good);
    end(&bad);
    sora_params_destroy(&good.params);
    sora_params_destroy(&bad.params);
}

/* What rows and columns that stay are divided by is what it was: R_i C_j / mean(R). */
static void test_selection(void **state)
{
    (void)state;
    sora_error error;
    sora_params *params;
    sora_param *param, *convolution, *gate;
    float *r, *c, *moment;
    double before[4][5];
    const int rows[] = { 0, 2, 3 }, columns[] = { 1, 4 }, last[] = { 2 };
    OK(sora_params_create(context, &params, &error));
    OK(sora_params_add(params, "up", SORA_PARAM_WEIGHT, SORA_SHAPE(4, 5), &param, &error));
    OK(sora_params_add(params, "convolution", SORA_PARAM_WEIGHT, SORA_SHAPE(3, 2, 2, 2), &convolution, &error));
    OK(sora_params_add(params, "gate", SORA_PARAM_GATE, SORA_SHAPE(3), &gate, &error));
    OK(sora_param_host_moment(param, 2, &moment, &error));
    OK(sora_params_set_moments(params, SORA_MOMENTS_FACTORED, &error)); /* forgets that one: it meant something else */
    OK(sora_param_host_moment(param, 1, &r, &error));
    OK(sora_param_host_moment(param, 2, &c, &error));
    assert_true(c[0] == 0 && sora_param_moment_shape(param, SORA_MOMENTS_FACTORED, 1).dim[0] == 4);
    double mean = 0;
    for (int i = 0; i < 4; i++) mean += (r[i] = (float)(i * i + 1)) / 4;
    for (int j = 0; j < 5; j++) c[j] = (float)(j + 1) * (float)mean / 3; /* of the same mean, as it always is */
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 5; j++) before[i][j] = (double)r[i] * (double)c[j] / mean;
    sora_param_select(param, 0, rows, 3);
    sora_param_select(param, 1, columns, 2);
    mean = ((double)r[0] + (double)r[1] + (double)r[2]) / 3;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 2; j++) {
            double expected = before[rows[i]][columns[j]];
            assert_true(fabs((double)r[i] * (double)c[j] / mean - expected) < 1e-6 * expected);
        }
    assert_true(fabs((double)(c[0] + c[1]) / 2 - mean) < 1e-6 * mean);
    /* A dimension before the last two goes with its matrices' moments, and a gate with its own two. */
    for (int which = 1; which <= 2; which++) {
        OK(sora_param_host_moment(convolution, which, &moment, &error));
        for (int i = 0; i < 12; i++) moment[i] = (float)i;
        OK(sora_param_host_moment(gate, which, &moment, &error));
        for (int i = 0; i < 3; i++) moment[i] = (float)i;
    }
    sora_param_select(convolution, 0, last, 1);
    sora_param_select(gate, 0, last, 1);
    for (int which = 1; which <= 2; which++) {
        OK(sora_param_host_moment(convolution, which, &moment, &error));
        assert_true(moment[0] == 8 && moment[3] == 11);
        OK(sora_param_host_moment(gate, which, &moment, &error));
        assert_true(moment[0] == 2);
    }
    sora_params_destroy(&params);
}

/* ---- A network --------------------------------------------------------------------------------------------------- */

enum { SIZE = 64, BATCH = 2 };

static int dropped_rows(sora_layer *layer)
{
    sora_error error;
    sora_layer_info before, after;
    OK(sora_layer_describe(layer, &before, &error));
    OK(sora_layer_compact(layer, NULL, &error));
    OK(sora_layer_describe(layer, &after, &error));
    return before.rank - after.rank;
}

/* One batch, over and over: bright pixels are the mask. Adapters with gates of mode adam, which keep their moments; some rows go
 * on the way. */
static double train_unet(bool adapters)
{
    sora_error error;
    sora_unet *unet;
    sora_unet_graph g;
    sora_optimizer *optimizer;
    const sora_optimizer_options options = { .kind = SORA_OPTIMIZER_ADAFACTOR, .gate = SORA_GATE_UPDATE_ADAM, .clip = 1 };
    float *image = room(BATCH * 3 * SIZE * SIZE), *mask = room(BATCH * SIZE * SIZE), first = 0, loss = 0;
    uint32_t done = 0;
    int dropped = 0;
    sora_random_stream random = { .seed = 5, .purpose = SORA_PURPOSE_TEST };
    for (int i = 0; i < BATCH * SIZE * SIZE; i++) {
        int at = i / (SIZE * SIZE) * 3 * SIZE * SIZE + i % (SIZE * SIZE);
        mask[i] = (i % SIZE / 16 + i / SIZE / 16) % 2 ? 1.0f : 0.0f;
        for (int c = 0; c < 3; c++) image[at + c * SIZE * SIZE] = mask[i] - 0.5f + 0.2f * (float)sora_random_normal(&random);
    }
    OK(sora_unet_create(context, &(sora_unet_options) { .size = SIZE, .seed = 3 }, &unet, &error));
    if (adapters)
        OK(sora_adapt(sora_unet_layers(unet), "bottleneck|.*conv2", &(sora_adapter_options) { .rank = 4 }, NULL, &error));
    for (int part = 0; part < 2; part++) {
        OK(sora_params_upload(sora_unet_params(unet), sora_optimizer_moments(&options), &error));
        OK(sora_optimizer_create(sora_unet_params(unet), &options, &optimizer, &error));
        sora_optimizer_set_steps(optimizer, done);
        OK(sora_unet_build(unet,
                           &(sora_unet_graph_options) { .graph = { .training = true, .batch = BATCH }, .loss = SORA_LOSS_BCE },
                           &g, &error));
        OK(sora_graph_write(g.graph, g.image, image, BATCH, &error));
        OK(sora_graph_write(g.graph, g.mask, mask, BATCH, &error));
        for (int step = 0; step < 15; step++, done++) {
            OK(sora_graph_forward(g.graph, BATCH, done, 0, &error));
            OK(sora_params_zero_gradients(sora_unet_params(unet), &error));
            OK(sora_graph_backward(g.graph, &error));
            OK(sora_graph_read(g.graph, g.loss, &loss, &error));
            if (done == 0) first = loss;
            const sora_optimizer_rates rates = { .lr = 0.01f, .gate_lr = 0.01f, .xi = 0.01f };
            OK(sora_optimizer_step(optimizer, g.graph, g.loss, &rates, 1, &error));
        }
        sora_graph_destroy(&g.graph);
        sora_optimizer_destroy(&optimizer);
        OK(sora_params_download(sora_unet_params(unet), &error));
        for (size_t i = 0; i < sora_layers_count(sora_unet_layers(unet)); i++)
            dropped += dropped_rows(sora_layers_at(sora_unet_layers(unet), i));
        assert_true(part == 1 || (dropped > 0) == adapters);
    }
    sora_unet_destroy(&unet);
    free(image);
    free(mask);
    assert_true(isfinite(loss));
    return (double)(loss / first);
}

static void test_unet_trains(void **state)
{
    (void)state;
    double full = train_unet(false), adapted = train_unet(true);
    print_message("# loss after 30 steps: %.3f of the first, with adapters %.3f\n", full, adapted);
    assert_true(full < 0.5);
    assert_true(adapted < 0.9);
    assert_int_equal(sora_context_memory(context).current, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_50_steps),  cmocka_unit_test(test_50_steps_as_gpu), cmocka_unit_test(test_transformers),
        cmocka_unit_test(test_memory),    cmocka_unit_test(test_resume),          cmocka_unit_test(test_nonfinite),
        cmocka_unit_test(test_selection), cmocka_unit_test(test_unet_trains),
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
