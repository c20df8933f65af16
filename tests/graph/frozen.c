/* SPDX-License-Identifier: Apache-2.0 */
/* How the device keeps frozen weights: in panels, as halves, transformed. */
#include "../fixture.h"
#include "../gpu.h"
#include "base/half.h"
#include "base/random.h"
#include "graph/graph.h"
#include "graph/params.h"
#include "soracl/layer.h"

#include <math.h>

static void fill(float *out, int64_t n, uint32_t stream)
{
    sora_random_stream random = { .seed = 9, .purpose = SORA_PURPOSE_TEST, .stream = stream };
    for (int64_t i = 0; i < n; i++) out[i] = (float)(2 * sora_random_uniform(&random) - 1);
}

/* ---- There and back ---------------------------------------------------------------------------------------------- */

static const int64_t rows[] = { 65, 17, 130, 3, 41 };
enum { COLUMNS = 33, COUNT = 5, TABLE = 4 };

typedef struct weights {
    sora_params *params;
    sora_param *plain, *list[COUNT];
} weights;

/* Frozen: three that are one product, one by itself, a table, and a vector beside them. */
static weights create(sora_context *where)
{
    sora_error error;
    weights w;
    const float three[] = { 1, 2, 3.0001f };
    OK(sora_params_create(where, &w.params, &error));
    OK(sora_params_add(w.params, "plain", SORA_PARAM_PLAIN, SORA_SHAPE(3), &w.plain, &error));
    memcpy(sora_param_host(w.plain), three, sizeof three);
    for (int i = 0; i < COUNT; i++) {
        char name[8];
        snprintf(name, sizeof name, "w%d", i);
        OK(sora_params_add(w.params, name, SORA_PARAM_WEIGHT, SORA_SHAPE(rows[i], COLUMNS), &w.list[i], &error));
        fill(sora_param_host(w.list[i]), rows[i] * COLUMNS, (uint32_t)i);
        if (i == TABLE)
            sora_param_set_table(w.list[i]);
        else
            sora_param_set_product(w.list[i]);
        sora_param_set_trainable(w.list[i], false);
        if (i < 3) sora_param_set_pack(w.list[i], 1, 2 - i);
    }
    return w;
}

/* What trains has a way back, whatever its optimiser keeps. They come back to the bit or, as halves, rounded to nearest, read or downloaded; memory is what was said. */
static void check_values(sora_context *where, sora_moment_layout moments, bool trains, sora_dtype dtype)
{
    sora_error error;
    uint64_t already = sora_context_memory(where).current;
    weights w = create(where);
    float *expected[COUNT], read[130 * COLUMNS], plain[3];
    bool panels = sora_context_device(where)->limits.type == SORA_DEVICE_CPU;
    memcpy(plain, sora_param_host(w.plain), sizeof plain);
    for (int i = 0; i < COUNT; i++) {
        expected[i] = malloc((size_t)rows[i] * COLUMNS * sizeof(float));
        memcpy(expected[i], sora_param_host(w.list[i]), (size_t)rows[i] * COLUMNS * sizeof(float));
        for (int64_t j = 0; dtype == SORA_F16 && j < rows[i] * COLUMNS; j++)
            expected[i][j] = sora_half_value(sora_half_of(expected[i][j]));
    }
    OK(sora_params_set_frozen_dtype(w.params, dtype, &error));
    sora_param_set_trainable(w.plain, trains);
    uint64_t predicted = sora_params_device_bytes(w.params, moments);
    OK(sora_params_upload(w.params, moments, &error));
    assert_int_equal(sora_context_memory(where).current - already, predicted);
    FAILS(sora_params_set_frozen_dtype(w.params, SORA_F32, &error), SORA_ERROR_ARGUMENT, "place");
    for (int i = 0; i < COUNT; i++) {
        bool as_they_are = dtype == SORA_F32 && (i == TABLE || !panels);
        OK(sora_param_read(w.list[i], 0, read, &error));
        assert_memory_equal(read, expected[i], (size_t)rows[i] * COLUMNS * sizeof(float));
        assert_int_equal(sora_param_view(w.list[i], SORA_PART_VALUE).dtype, dtype);
        assert_int_equal(sora_param_back_view(w.list[i]).back, panels && i != TABLE && trains);
        if (!as_they_are) FAILS(sora_param_write(w.list[i], 0, read, &error), SORA_ERROR_ARGUMENT, "host");
    }
    OK(sora_params_download(w.params, &error));
    for (int i = 0; i < COUNT; i++) {
        assert_memory_equal(sora_param_host(w.list[i]), expected[i], (size_t)rows[i] * COLUMNS * sizeof(float));
        assert_int_equal(sora_param_rounded(w.list[i]), dtype == SORA_F16);
        free(expected[i]);
    }
    assert_memory_equal(sora_param_host(w.plain), plain, sizeof plain);
    sora_params_destroy(&w.params);
    assert_int_equal(sora_context_memory(where).current, already);
}

static sora_context *open_gpu(void)
{
    sora_error error;
    sora_context *gpu;
    sora_device_limits limits = gpu_limits(context);
    OK(sora_context_create(&(sora_context_options) { .limits = &limits }, &gpu, &error));
    return gpu;
}

static void test_values(void **state)
{
    (void)state;
    sora_context *gpu = open_gpu(), *const contexts[] = { context, gpu };
    for (int c = 0; c < 2; c++)
        for (int moments = SORA_MOMENTS_NONE; moments <= SORA_MOMENTS_ONE; moments++)
            for (int trains = 0; trains < 2; trains++) {
                check_values(contexts[c], (sora_moment_layout)moments, trains, SORA_F32);
                check_values(contexts[c], (sora_moment_layout)moments, trains, SORA_F16);
            }
    sora_context_destroy(&gpu);
}

/* Half the memory but for what stays fp32 and the padding of each weight. */
static void test_memory(void **state)
{
    (void)state;
    sora_error error;
    weights w = create(context);
    uint64_t whole = sora_params_device_bytes(w.params, SORA_MOMENTS_ONE);
    OK(sora_params_set_frozen_dtype(w.params, SORA_F16, &error));
    uint64_t halved = sora_params_device_bytes(w.params, SORA_MOMENTS_ONE);
    assert_true(halved >= whole / 2 && halved <= whole / 2 + 10 * 128);
    sora_params_destroy(&w.params);
}

static void test_refused(void **state)
{
    (void)state;
    sora_error error;
    static const struct {
        float value;
        const char *said;
    } bad[] = { { 65520, "w2: 65520 has no number in fp16" }, { -1e6f, "w2: -1e+06" }, { NAN, "w2: nan" } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weights w = create(context);
        uint64_t already = sora_context_memory(context).current;
        OK(sora_params_set_frozen_dtype(w.params, SORA_F16, &error));
        sora_param_host(w.list[2])[7] = bad[i].value;
        FAILS(sora_params_upload(w.params, SORA_MOMENTS_ONE, &error), SORA_ERROR_NUMERIC, bad[i].said);
        assert_int_equal(sora_context_memory(context).current, already);
        sora_param_host(w.list[2])[7] = 65519;
        OK(sora_params_upload(w.params, SORA_MOMENTS_ONE, &error));
        sora_params_destroy(&w.params);
    }
    weights w = create(context);
    FAILS(sora_params_set_frozen_dtype(w.params, SORA_I32, &error), SORA_ERROR_ARGUMENT, "expected fp32 or fp16");
    for (int i = 0; i < COUNT; i++) sora_param_set_trainable(w.list[i], true);
    FAILS(sora_params_set_frozen_dtype(w.params, SORA_F16, &error), SORA_ERROR_ARGUMENT, "has frozen weights");
    sora_params_destroy(&w.params);
}

/* ---- In a network ------------------------------------------------------------------------------------------------ */

enum { TOKENS = 7, WIDTH = 70, INNER = 130, CLASSES = 2500, MOST = 4096 };

typedef struct result {
    float loss, gradients[MOST];
    int64_t count;
} result;

/* Embedding, linear layers with an adapter, without one and with one, and the table again as the head, for `batch` texts. Weights are
 * halves already, so that keeping them as such changes nothing. */
static result run_network(sora_context *where, sora_dtype dtype, int batch)
{
    sora_error error;
    result out = { 0 };
    sora_params *params;
    sora_layers *layers;
    sora_layer *inner, *middle, *last;
    sora_param *table;
    sora_graph *graph;
    int32_t *ids = malloc((size_t)batch * TOKENS * sizeof *ids), *labels = malloc((size_t)batch * TOKENS * sizeof *labels);
    assert_true(ids && labels);
    OK(sora_params_create(where, &params, &error));
    OK(sora_params_add(params, "table", SORA_PARAM_WEIGHT, SORA_SHAPE(CLASSES, WIDTH), &table, &error));
    sora_param_set_table(table);
    fill(sora_param_host(table), CLASSES * WIDTH, 20);
    OK(sora_layers_create(params, 3, &layers, &error));
    OK(sora_layers_add(layers, "inner", &(sora_layer_desc) { .in = WIDTH, .out = INNER }, &inner, &error));
    OK(sora_layers_add(layers, "middle", &(sora_layer_desc) { .in = INNER, .out = WIDTH }, &middle, &error));
    OK(sora_layers_add(layers, "last", &(sora_layer_desc) { .in = WIDTH, .out = WIDTH }, &last, &error));
    OK(sora_adapt(layers, "inner|last", &(sora_adapter_options) { .rank = 3 }, NULL, &error));
    for (size_t i = 0; i < sora_params_count(params); i++) {
        sora_param *p = sora_params_at(params, i);
        sora_shape shape = sora_param_shape(p);
        float *value = sora_param_host(p);
        if (sora_param_trainable(p)) fill(value, sora_shape_elements(&shape), (uint32_t)i);
        for (int64_t j = 0; !sora_param_trainable(p) && j < sora_shape_elements(&shape); j++)
            value[j] = sora_half_value(sora_half_of(value[j]));
    }
    OK(sora_params_set_frozen_dtype(params, dtype, &error));
    OK(sora_params_upload(params, SORA_MOMENTS_ONE, &error));
    OK(sora_graph_create(params, &(sora_graph_options) { .training = true, .batch = batch, .policy = SORA_PLAN_SEPARATE }, &graph,
                         &error));
    sora_tensor *tokens = sora_graph_input(graph, "ids", SORA_I32, SORA_SHAPE(batch, TOKENS)),
                *wanted = sora_graph_input(graph, "labels", SORA_I32, SORA_SHAPE(batch, TOKENS));
    sora_tensor *x = sora_embedding(graph, "embedding", tokens, sora_graph_param(graph, table));
    x = sora_layer_forward(graph, middle, sora_layer_forward(graph, inner, x, true), false);
    x = sora_layer_forward(graph, last, x, false);
    sora_tensor *loss = sora_linear_cross_entropy(graph, "loss", x, sora_graph_param(graph, table), wanted, 0.1f, 0.0f);
    OK(sora_graph_plan(graph, loss, &error));
    for (int i = 0; i < batch * TOKENS; i++) ids[i] = i * 97 % CLASSES, labels[i] = i * 131 % CLASSES;
    OK(sora_graph_write(graph, tokens, ids, batch, &error));
    OK(sora_graph_write(graph, wanted, labels, batch, &error));
    OK(sora_graph_forward(graph, batch, 1, 0, &error));
    OK(sora_params_zero_gradients(params, &error));
    OK(sora_graph_backward(graph, &error));
    OK(sora_graph_read(graph, loss, &out.loss, &error));
    OK(sora_graph_check_guards(graph, &error));
    for (size_t i = 0; i < sora_params_count(params); i++) {
        sora_param *p = sora_params_at(params, i);
        sora_shape shape = sora_param_shape(p);
        if (!sora_param_trainable(p)) continue;
        assert_true(out.count + sora_shape_elements(&shape) <= MOST);
        OK(sora_param_read(p, SORA_PART_GRADIENT, out.gradients + out.count, &error));
        out.count += sora_shape_elements(&shape);
    }
    sora_graph_destroy(&graph);
    sora_layers_destroy(&layers);
    sora_params_destroy(&params);
    free(ids);
    free(labels);
    return out;
}

/* On a CPU halves take fp32's way, by inner products (few rows) and in panels: the same bits. A GPU has another provider for
 * them. */
static void test_network(void **state)
{
    (void)state;
    sora_context *gpu = open_gpu();
    for (int batch = 1; batch <= 5; batch += 4) {
        result plain = run_network(context, SORA_F32, batch), halves = run_network(context, SORA_F16, batch);
        assert_true(isfinite(plain.loss) && plain.loss > 1 && plain.count > 100);
        assert_memory_equal(&halves, &plain, sizeof plain);
        plain = run_network(gpu, SORA_F32, batch), halves = run_network(gpu, SORA_F16, batch);
        /* The longest sums have CLASSES terms, and each may round by half an ulp of what is below 1. */
        assert_true(fabsf(plain.loss - halves.loss) <= CLASSES * 0x1p-24f * plain.loss);
        for (int64_t i = 0; i < plain.count; i++)
            assert_true(fabsf(plain.gradients[i] - halves.gradients[i]) <= CLASSES * 0x1p-24f);
    }
    sora_context_destroy(&gpu);
}

/* An adapter's passes ride on products of panels where there are rows for all units; a GPU makes products of them. */
static void test_many_rows(void **state)
{
    (void)state;
    sora_context *gpu = open_gpu();
    int batch = 20 * (int)sora_context_device(context)->limits.compute_units;
    result cpu = run_network(context, SORA_F32, batch), apart = run_network(gpu, SORA_F32, batch);
    double wrong = 0, all = 0;
    for (int64_t i = 0; i < apart.count; i++) {
        wrong += pow((double)cpu.gradients[i] - apart.gradients[i], 2);
        all += pow(apart.gradients[i], 2);
    }
    assert_true(fabsf(cpu.loss - apart.loss) <= 1e-5f * apart.loss);
    if (!(wrong <= 1e-10 * all)) fail_msg("gradients differ by %g of %g", sqrt(wrong), sqrt(all));
    sora_context_destroy(&gpu);
}

/* ---- Convolutions ------------------------------------------------------------------------------------------------ */

enum { SIDE = 12, IMAGES = 2, FEW = 20, SOME = 50, MORE = 19 };

typedef struct images {
    sora_params *params;
    sora_layers *layers;
    sora_layer *list[3];
} images;

/* Of 20 to 50 channels, of these and the image's own to 19, and of them to 50; all but the first may be frozen. */
static images create_images(sora_context *where, bool frozen)
{
    static const int inputs[] = { FEW, SOME + FEW, MORE }, outputs[] = { SOME, MORE, SOME };
    sora_error error;
    images m;
    OK(sora_params_create(where, &m.params, &error));
    OK(sora_layers_create(m.params, 3, &m.layers, &error));
    for (int i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "c%d", i);
        OK(sora_layers_add(m.layers, name, &(sora_layer_desc) { .in = inputs[i], .out = outputs[i], .kernel = 3, .bias = true },
                           &m.list[i], &error));
    }
    for (size_t i = 0; i < sora_params_count(m.params); i++)
        sora_param_set_trainable(sora_params_at(m.params, i), !frozen || i < 2);
    return m;
}

static void destroy_images(images *m)
{
    sora_layers_destroy(&m->layers);
    sora_params_destroy(&m->params);
}

/* The loss, and the first bias's gradients, which come back through the others. */
static result run_images(images *m)
{
    sora_error error;
    result out = { 0 };
    sora_graph *graph;
    float pixels[IMAGES * FEW * SIDE * SIDE], wanted[IMAGES * SOME * SIDE * SIDE];
    OK(sora_params_upload(m->params, SORA_MOMENTS_ONE, &error));
    OK(sora_graph_create(m->params, &(sora_graph_options) { .training = true, .batch = IMAGES, .policy = SORA_PLAN_SEPARATE },
                         &graph, &error));
    sora_tensor *in = sora_graph_input(graph, "in", SORA_F32, SORA_SHAPE(IMAGES, FEW, SIDE, SIDE)),
                *target = sora_graph_input(graph, "target", SORA_F32, SORA_SHAPE(IMAGES, SOME, SIDE, SIDE)), *x = in;
    for (int i = 0; i < 3; i++) {
        x = sora_layer_forward(graph, m->list[i], x, true);
        if (i == 0) x = sora_concat(graph, "concat", x, in);
    }
    sora_tensor *loss = sora_mse_loss(graph, "loss", x, target);
    OK(sora_graph_plan(graph, loss, &error));
    fill(pixels, SORA_COUNT(pixels), 30);
    fill(wanted, SORA_COUNT(wanted), 31);
    OK(sora_graph_write(graph, in, pixels, IMAGES, &error));
    OK(sora_graph_write(graph, target, wanted, IMAGES, &error));
    OK(sora_graph_forward(graph, IMAGES, 1, 0, &error));
    OK(sora_params_zero_gradients(m->params, &error));
    OK(sora_graph_backward(graph, &error));
    OK(sora_graph_read(graph, loss, &out.loss, &error));
    OK(sora_graph_check_guards(graph, &error));
    OK(sora_param_read(sora_params_find(m->params, "c0.bias"), SORA_PART_GRADIENT, out.gradients, &error));
    out.count = SOME;
    sora_graph_destroy(&graph);
    return out;
}

/* Transformed once or in every step: the same bits. What is written into them on the host is there after the next upload. */
static void test_convolutions(void **state)
{
    (void)state;
    sora_error error;
    sora_context *gpu = open_gpu(), *const contexts[] = { context, gpu };
    for (int c = 0; c < 2; c++) {
        images frozen = create_images(contexts[c], true), trained = create_images(contexts[c], false);
        for (int again = 0; again < 2; again++) {
            uint64_t already = sora_context_memory(contexts[c]).current,
                     predicted = sora_params_device_bytes(frozen.params, SORA_MOMENTS_ONE);
            result with = run_images(&frozen);
            assert_int_equal(sora_context_memory(contexts[c]).current - already, predicted);
            result without = run_images(&trained);
            assert_true(isfinite(with.loss) && with.loss > 0);
            assert_memory_equal(&with, &without, sizeof with);
            for (int i = 0; i < 3; i++) {
                char name[12];
                float value[MORE * (SOME + FEW) * 9] = { 0 }, same[MORE * (SOME + FEW) * 9] = { 0 };
                snprintf(name, sizeof name, "c%d.weight", i);
                sora_param *w = sora_params_find(frozen.params, name);
                sora_view view = sora_param_view(w, SORA_PART_VALUE);
                bool kept = i > 0 && c == 0;
                assert_int_equal(view.transformed[0] > 0, kept);
                assert_int_equal(view.transformed[1] > 0, kept);
                if (kept) FAILS(sora_param_write(w, 0, value, &error), SORA_ERROR_ARGUMENT, "host");
                OK(sora_param_read(w, 0, value, &error));
                OK(sora_param_read(sora_params_find(trained.params, name), 0, same, &error));
                assert_memory_equal(value, same, sizeof same);
            }
            OK(sora_params_download(frozen.params, &error));
            OK(sora_params_download(trained.params, &error));
            images *both[] = { &frozen, &trained };
            for (int i = 0; i < 2; i++)
                fill(sora_param_host(sora_params_find(both[i]->params, "c2.weight")), SOME * MORE * 9, 40);
        }
        /* Where nothing trains there is no way back; what is thawed has nothing, and gives the others one, without moments, too. */
        sora_params_freeze(frozen.params);
        OK(sora_params_upload(frozen.params, SORA_MOMENTS_NONE, &error));
        sora_view view = sora_param_view(sora_params_find(frozen.params, "c1.weight"), SORA_PART_VALUE);
        assert_true(view.transformed[1] == 0 && (view.transformed[0] > 0) == (c == 0));
        OK(sora_params_download(frozen.params, &error));
        sora_param_set_trainable(sora_params_find(frozen.params, "c1.weight"), true);
        OK(sora_params_upload(frozen.params, SORA_MOMENTS_NONE, &error));
        assert_int_equal(sora_param_view(sora_params_find(frozen.params, "c1.weight"), SORA_PART_VALUE).transformed[0], 0);
        view = sora_param_view(sora_params_find(frozen.params, "c2.weight"), SORA_PART_VALUE);
        assert_int_equal(view.transformed[1] > 0, c == 0);
        destroy_images(&frozen);
        destroy_images(&trained);
    }
    sora_context_destroy(&gpu);
}

/* Where only the way back is kept transformed, what is written on the device would leave that as it was. */
static void test_only_back(void **state)
{
    (void)state;
    sora_error error;
    sora_params *params;
    sora_param *w;
    OK(sora_params_create(context, &params, &error));
    OK(sora_params_add(params, "w", SORA_PARAM_WEIGHT, SORA_SHAPE(113, 256, 3, 3), &w, &error));
    sora_param_set_convolution(w);
    sora_param_set_trainable(w, false);
    OK(sora_params_add(params, "trained", SORA_PARAM_PLAIN, SORA_SHAPE(1), NULL, &error));
    OK(sora_params_upload(params, SORA_MOMENTS_ONE, &error));
    sora_view view = sora_param_view(w, SORA_PART_VALUE);
    assert_true(view.transformed[0] == 0 && view.transformed[1] > 0);
    float *value = calloc(113 * 256 * 9, sizeof *value);
    assert_non_null(value);
    FAILS(sora_param_write(w, SORA_PART_VALUE, value, &error), SORA_ERROR_ARGUMENT, "host");
    free(value);
    sora_params_destroy(&params);
}

/* What was rounded is not merged into. */
static void test_merge(void **state)
{
    (void)state;
    sora_error error;
    sora_params *params;
    sora_layers *layers;
    sora_layer *layer;
    OK(sora_params_create(context, &params, &error));
    OK(sora_layers_create(params, 3, &layers, &error));
    OK(sora_layers_add(layers, "layer", &(sora_layer_desc) { .in = 5, .out = 7 }, &layer, &error));
    OK(sora_layer_activate(layer, &(sora_adapter_options) { .rank = 2 }, &error));
    OK(sora_params_set_frozen_dtype(params, SORA_F16, &error));
    OK(sora_params_upload(params, SORA_MOMENTS_ONE, &error));
    OK(sora_params_download(params, &error));
    FAILS(sora_layer_deactivate(layer, NULL, &error), SORA_ERROR_ARGUMENT, "layer layer: its weight was rounded to fp16");
    sora_layers_destroy(&layers);
    sora_params_destroy(&params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),       cmocka_unit_test(test_memory),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_network),      cmocka_unit_test(test_many_rows), cmocka_unit_test(test_merge),
        cmocka_unit_test(test_convolutions), cmocka_unit_test(test_only_back),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
