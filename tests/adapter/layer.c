/* SPDX-License-Identifier: Apache-2.0 */
/* The module's life: normal, active, compacted, merged, unmerged; and its file. */
#include "../fixture.h"
#include "adapter/layer.h"
#include "base/file.h"
#include "base/random.h"
#include "soracl/safetensors.h"
#include "soracl/unet.h"

#include <math.h>
#include <unistd.h>

enum { IN = 17, OUT = 13, SIDE = 9, BATCH = 3, X = BATCH * IN * SIDE * SIDE, Y = BATCH * OUT * SIDE * SIDE };

typedef struct net {
    sora_params *params;
    sora_layers *layers;
    sora_layer *layer;
    int kernel;
} net;

static void open_net(int kernel, bool fixed, net *n)
{
    sora_error error;
    *n = (net) { .kernel = kernel };
    OK(sora_params_create(context, &n->params, &error));
    OK(sora_layers_create(n->params, 3, &n->layers, &error));
    OK(sora_layers_add(n->layers, "fc",
                       &(sora_layer_desc) { .in = IN, .out = OUT, .kernel = kernel, .bias = kernel == 0, .fixed = fixed },
                       &n->layer, &error));
}

static void close_net(net *n)
{
    sora_layers_destroy(&n->layers);
    sora_params_destroy(&n->params);
}

static void randomise(sora_param *param, uint32_t stream)
{
    sora_random_stream random = { .seed = 8, .purpose = SORA_PURPOSE_TEST, .stream = stream };
    sora_shape shape = sora_param_shape(param);
    for (int64_t i = 0, n = sora_shape_elements(&shape); i < n; i++)
        sora_param_host(param)[i] = (float)sora_random_normal(&random);
}

static sora_param *find(const net *n, const char *name)
{
    sora_param *param = sora_params_find(n->params, name);
    assert_non_null(param);
    return param;
}

/* The layer's output for fixed inputs. */
static void forward(net *n, float *y)
{
    static float x[X];
    sora_error error;
    sora_graph *graph;
    sora_random_stream random = { .seed = 9, .purpose = SORA_PURPOSE_TEST };
    for (int i = 0; i < X; i++) x[i] = (float)sora_random_normal(&random);
    int rows = n->kernel ? BATCH : BATCH * SIDE * SIDE;
    OK(sora_params_upload(n->params, 0, &error));
    OK(sora_graph_create(n->params, &(sora_graph_options) { .batch = rows }, &graph, &error));
    sora_tensor *in =
        sora_graph_input(graph, "x", SORA_F32, n->kernel ? SORA_SHAPE(BATCH, IN, SIDE, SIDE) : SORA_SHAPE(rows, IN));
    sora_tensor *out = sora_layer_forward(graph, n->layer, in, false);
    sora_graph_output(graph, out);
    OK(sora_graph_plan(graph, NULL, &error));
    OK(sora_graph_write(graph, in, x, rows, &error));
    OK(sora_graph_forward(graph, rows, 0, 0, &error));
    OK(sora_graph_read(graph, out, y, &error));
    sora_graph_destroy(&graph);
    OK(sora_params_download(n->params, &error));
}

static double largest_difference(const float *a, const float *b)
{
    double largest = 0;
    for (int i = 0; i < Y; i++) largest = fmax(largest, fabs(a[i] - b[i]));
    return largest;
}

/* Of the whole life with a kernel of that size; rank 6 with gates 1 and 4 at 0. */
static void live(int kernel)
{
    static float normal[Y], active[Y], trained[Y], compacted[Y], merged[Y], again[Y];
    sora_error error;
    sora_layer_info info;
    float gates[6];
    double change;
    int kept;
    net n;
    open_net(kernel, false, &n);
    forward(&n, normal);
    OK(sora_layer_activate(n.layer, &(sora_adapter_options) { .rank = 6, .alpha = 9 }, &error));
    assert_false(sora_param_trainable(find(&n, "fc.weight")));
    forward(&n, active);
    assert_memory_equal(normal, active, sizeof normal); /* W_u = 0 */
    FAILS(sora_layer_activate(n.layer, &(sora_adapter_options) { .rank = 6 }, &error), SORA_ERROR_ARGUMENT, "fc");

    randomise(find(&n, "fc.up"), 1);
    float *gate = sora_param_host(find(&n, "fc.gate"));
    gate[1] = gate[4] = 0;
    forward(&n, trained);
    assert_true(largest_difference(trained, normal) > 0.1);
    OK(sora_layer_describe(n.layer, &info, &error));
    int q = IN * (kernel ? kernel * kernel : 1);
    assert_true(info.active && !info.merged && info.rank_max == 6 && info.rank == 6 && info.rank_kept == 4);
    assert_true(info.scale == 1.5f && info.alpha == 9);
    assert_int_equal(info.parameters_trainable, 6 * (OUT + q + 1));
    assert_int_equal(info.parameters_kept, 4 * (OUT + q + 1));

    OK(sora_layer_compact(n.layer, &kept, &error));
    assert_int_equal(kept, 4);
    OK(sora_layer_gates(n.layer, gates, &error));
    for (int i = 0; i < 4; i++) assert_true(gates[i] != 0);
    OK(sora_layer_describe(n.layer, &info, &error));
    assert_true(info.rank_max == 6 && info.rank == 4 && info.scale == 1.5f); /* never rescaled after pruning */
    forward(&n, compacted);
    assert_true(largest_difference(trained, compacted) < 1e-4);

    sora_shape shape = sora_param_shape(find(&n, "fc.weight"));
    size_t bytes = (size_t)sora_shape_elements(&shape) * sizeof(float);
    float *before = malloc(bytes);
    assert_non_null(before);
    memcpy(before, sora_param_host(find(&n, "fc.weight")), bytes);
    OK(sora_layer_deactivate(n.layer, &change, &error));
    assert_true(change > 0.01);
    assert_null(sora_params_find(n.params, "fc.down"));
    forward(&n, merged);
    assert_true(largest_difference(merged, compacted) < 1e-4);

    OK(sora_layer_unmerge(n.layer, &error));
    assert_memory_equal(before, sora_param_host(find(&n, "fc.weight")), bytes);
    forward(&n, again);
    assert_memory_equal(again, compacted, sizeof again);

    OK(sora_layer_deactivate(n.layer, NULL, &error));
    sora_layer_forget(n.layer);
    FAILS(sora_layer_unmerge(n.layer, &error), SORA_ERROR_ARGUMENT, "fc");
    assert_true(sora_param_trainable(find(&n, "fc.weight")));
    OK(sora_layer_activate(n.layer, &(sora_adapter_options) { .rank = 2, .kind = SORA_ADAPTER_LORA }, &error));
    forward(&n, again);
    assert_memory_equal(again, merged, sizeof again);
    assert_null(sora_params_find(n.params, "fc.gate"));
    free(before);
    close_net(&n);
}

static void test_life_linear(void **state)
{
    (void)state;
    live(0);
}

static void test_life_1x1(void **state)
{
    (void)state;
    live(1);
}

static void test_life_3x3(void **state)
{
    (void)state;
    live(3);
}

static void test_rank_is_clipped_and_0_is_legal(void **state)
{
    (void)state;
    static float normal[Y], y[Y];
    sora_error error;
    sora_layer_info info;
    net n;
    open_net(0, false, &n);
    forward(&n, normal);
    OK(sora_layer_activate(n.layer, &(sora_adapter_options) { .rank = 100 }, &error));
    OK(sora_layer_describe(n.layer, &info, &error));
    assert_int_equal(info.rank_max, OUT);
    memset(sora_param_host(find(&n, "fc.gate")), 0, OUT * sizeof(float));
    int kept = -1;
    OK(sora_layer_compact(n.layer, &kept, &error));
    assert_int_equal(kept, 0);
    forward(&n, y);
    assert_memory_equal(normal, y, sizeof y);
    OK(sora_layer_describe(n.layer, &info, &error));
    assert_true(info.rank_max == OUT && info.rank == 0 && info.parameters_kept == 0);
    assert_int_equal(sora_params_trainable_elements(n.params), 0);
    OK(sora_layer_deactivate(n.layer, NULL, &error));
    forward(&n, y);
    assert_memory_equal(normal, y, sizeof y);
    sora_layer_forget(n.layer);
    OK(sora_layer_activate(n.layer, &(sora_adapter_options) { .rank = 0 }, &error));
    forward(&n, y);
    assert_memory_equal(normal, y, sizeof y);
    close_net(&n);
}

/* A failed call leaves the layer as it was. */
static void test_refusals(void **state)
{
    (void)state;
    sora_error error;
    sora_layer_info info;
    net n;
    open_net(0, true, &n);
    FAILS(sora_layer_activate(n.layer, &(sora_adapter_options) { .rank = -1 }, &error), SORA_ERROR_ARGUMENT, "rank");
    FAILS(sora_layer_activate(n.layer, &(sora_adapter_options) { .rank = 2, .dropout = 1 }, &error), SORA_ERROR_ARGUMENT,
          "dropout");
    FAILS(sora_layer_deactivate(n.layer, NULL, &error), SORA_ERROR_ARGUMENT, "fc");
    OK(sora_layer_activate(n.layer, &(sora_adapter_options) { .rank = 2 }, &error));
    FAILS(sora_layer_deactivate(n.layer, NULL, &error), SORA_ERROR_ARGUMENT, "shared");
    close_net(&n);

    open_net(0, false, &n);
    OK(sora_layer_activate(n.layer, &(sora_adapter_options) { .rank = 2 }, &error));
    sora_param_host(find(&n, "fc.up"))[3] = NAN;
    FAILS(sora_layer_deactivate(n.layer, NULL, &error), SORA_ERROR_NUMERIC, "fc");
    OK(sora_layer_describe(n.layer, &info, &error));
    assert_true(info.active && info.rank == 2);
    OK(sora_params_upload(n.params, 0, &error));
    FAILS(sora_layer_compact(n.layer, NULL, &error), SORA_ERROR_ARGUMENT, "device");
    close_net(&n);

    sora_unet *unet;
    int wasteful;
    OK(sora_unet_create(context, &(sora_unet_options) { .size = 64 }, &unet, &error));
    sora_layers *layers = sora_unet_layers(unet);
    size_t count = sora_params_count(sora_unet_params(unet));
    uint64_t trainable = sora_params_trainable_elements(sora_unet_params(unet));
    FAILS(sora_adapt(layers, "botleneck", &(sora_adapter_options) { .rank = 2 }, NULL, &error), SORA_ERROR_ARGUMENT,
          "bottleneck");
    FAILS(sora_adapt(layers, "(", &(sora_adapter_options) { .rank = 2 }, NULL, &error), SORA_ERROR_ARGUMENT, "(");
    assert_int_equal(sora_params_count(sora_unet_params(unet)), count);
    assert_int_equal(sora_params_trainable_elements(sora_unet_params(unet)), trainable);
    /* bottleneck of 64 × 64: r(p + q + 1) ≥ p·q from r = 32 on */
    OK(sora_adapt(layers, "bottleneck", &(sora_adapter_options) { .rank = 32 }, &wasteful, &error));
    assert_int_equal(wasteful, 1);
    sora_unet_destroy(&unet);
}

/* Layers of one product have adapters of one kind; a target that holds a layer which can't be activated leaves a merged one before
 * it what it was. */
static void test_refused_activations(void **state)
{
    (void)state;
    sora_error error;
    sora_layer_info info;
    sora_params *params;
    sora_layers *layers;
    sora_layer *layer[3];
    enum { O, Q, K };
    static const char *const names[] = { "o", "q", "k" };
    const sora_adapter_options sora = { .rank = 2 }, lora = { .kind = SORA_ADAPTER_LORA, .rank = 3 },
                               dropped = { .rank = 2, .dropout = 0.5f };
    OK(sora_params_create(context, &params, &error));
    OK(sora_layers_create(params, 1, &layers, &error));
    for (int i = 0; i < 3; i++)
        OK(sora_layers_add(layers, names[i], &(sora_layer_desc) { .in = 6, .out = 5 }, &layer[i], &error));
    OK(sora_layers_pack(layer + Q, 2, &error));
    OK(sora_layer_activate(layer[Q], &sora, &error));
    FAILS(sora_layer_activate(layer[K], &lora, &error), SORA_ERROR_ARGUMENT, "another kind");
    FAILS(sora_layer_activate(layer[K], &dropped, &error), SORA_ERROR_ARGUMENT, "or dropout");
    OK(sora_layer_activate(layer[O], &sora, &error));
    OK(sora_layer_deactivate(layer[O], NULL, &error));
    size_t count = sora_params_count(params);
    FAILS(sora_adapt(layers, "o|q", &sora, NULL, &error), SORA_ERROR_ARGUMENT, "q: has an active adapter");
    FAILS(sora_adapt(layers, "o|k", &lora, NULL, &error), SORA_ERROR_ARGUMENT, "another kind");
    OK(sora_layer_describe(layer[O], &info, &error));
    assert_true(info.merged && !info.active);
    assert_int_equal(sora_params_count(params), count);
    OK(sora_layer_unmerge(layer[O], &error));
    OK(sora_layer_describe(layer[O], &info, &error));
    assert_true(info.active && info.rank == 2 && info.kind == SORA_ADAPTER_SORA);
    OK(sora_layer_deactivate(layer[O], NULL, &error));
    OK(sora_adapt(layers, "o|k", &sora, NULL, &error)); /* which forgets the merge */
    OK(sora_layer_describe(layer[O], &info, &error));
    assert_true(info.active && !info.merged);
    sora_layers_destroy(&layers);
    sora_params_destroy(&params);
}

/* ---- The adapter's file ------------------------------------------------------------------------------------------ */

static void test_file(void **state)
{
    (void)state;
    sora_error error;
    sora_unet *a, *b;
    const sora_unet_options options = { .size = 64, .seed = 4 };
    OK(sora_unet_create(context, &options, &a, &error));
    OK(sora_adapt(sora_unet_layers(a), "bottleneck|decoder.1.conv2", &(sora_adapter_options) { .rank = 5, .alpha = 7 }, NULL,
                  &error));
    sora_layer *bottleneck = sora_layers_find(sora_unet_layers(a), "bottleneck");
    randomise(sora_params_find(sora_unet_params(a), "bottleneck.up"), 1);
    randomise(sora_params_find(sora_unet_params(a), "encoder.0.norm1.running_mean"), 2);
    sora_param_host(sora_params_find(sora_unet_params(a), "bottleneck.gate"))[2] = 0;
    OK(sora_layer_compact(bottleneck, NULL, &error));
    OK(sora_adapters_save(sora_unet_layers(a), at("a.safetensors"), &error));

    OK(sora_unet_create(context, &options, &b, &error));
    OK(sora_adapters_load(sora_unet_layers(b), at("a.safetensors"), &error));
    for (size_t i = 0; i < sora_params_count(sora_unet_params(a)); i++) {
        sora_param *x = sora_params_at(sora_unet_params(a), i);
        sora_param *y = sora_params_find(sora_unet_params(b), sora_param_name(x));
        sora_shape shape = sora_param_shape(x);
        assert_non_null(y);
        assert_memory_equal(sora_param_host(x), sora_param_host(y), (size_t)sora_shape_elements(&shape) * sizeof(float));
    }
    sora_layer_info info;
    OK(sora_layer_describe(sora_layers_find(sora_unet_layers(b), "bottleneck"), &info, &error));
    assert_true(info.rank_max == 5 && info.rank == 4 && info.alpha == 7);
    FAILS(sora_unet_save(b, at("w.safetensors"), &error), SORA_ERROR_ARGUMENT, "adapter");
    /* Where there are adapters already they stay as they are. */
    FAILS(sora_adapters_load(sora_unet_layers(b), at("a.safetensors"), &error), SORA_ERROR_ARGUMENT, "is active");
    OK(sora_layer_describe(sora_layers_find(sora_unet_layers(b), "bottleneck"), &info, &error));
    assert_true(info.active && info.rank == 4);
    sora_unet_destroy(&a);
    sora_unet_destroy(&b);
}

/* What fails late, at the bottleneck's NaN, takes back the running statistics that were read before. */
static void test_failed_load(void **state)
{
    (void)state;
    sora_error error;
    sora_unet *a;
    static const char name[] = "encoder.0.norm1.running_mean";
    OK(sora_unet_create(context, &(sora_unet_options) { .size = 64 }, &a, &error));
    sora_params *params = sora_unet_params(a);
    float *mean = sora_param_host(sora_params_find(params, name));
    OK(sora_adapt(sora_unet_layers(a), "bottleneck", &(sora_adapter_options) { .rank = 2 }, NULL, &error));
    const float marked = 12345.678f, nan = NAN;
    unsigned char *bytes, *place;
    size_t size;
    mean[0] = 5;
    sora_param_host(sora_params_find(params, "bottleneck.up"))[1] = marked;
    OK(sora_adapters_save(sora_unet_layers(a), at("late.safetensors"), &error));
    OK(sora_file_read(at("late.safetensors"), 1 << 24, &bytes, &size, &error));
    place = memmem(bytes, size, &marked, sizeof marked);
    assert_non_null(place);
    memcpy(place, &nan, sizeof nan);
    OK(sora_file_write(at("late.safetensors"), bytes, size, &error));
    free(bytes);
    mean[0] = 3;
    sora_layer_drop_adapter(sora_layers_find(sora_unet_layers(a), "bottleneck"));
    size_t count = sora_params_count(params);
    FAILS(sora_adapters_load(sora_unet_layers(a), at("late.safetensors"), &error), SORA_ERROR_INPUT, "bottleneck.up holds nan");
    assert_true(mean[0] == 3);
    assert_int_equal(sora_params_count(params), count);
    sora_unet_destroy(&a);
}

/* Every prefix of the file, and every file with one byte changed in its header, is taken or refused: never more. */
static void test_broken_files(void **state)
{
    (void)state;
    sora_error error;
    unsigned char *bytes;
    size_t count, header, refused = 0, tried = 0;
    net n;
    open_net(0, false, &n);
    OK(sora_layer_activate(n.layer, &(sora_adapter_options) { .rank = 2 }, &error));
    OK(sora_adapters_save(n.layers, at("small.safetensors"), &error));
    close_net(&n);
    OK(sora_file_read(at("small.safetensors"), 1 << 20, &bytes, &count, &error));
    header = 8 + bytes[0] + 256u * bytes[1];
    for (size_t i = 0; i < header; i++) {
        for (int cut = 0; cut < 2; cut++) {
            unsigned char kept = bytes[i];
            if (!cut) bytes[i] = (unsigned char)(kept + 1);
            OK(sora_file_write(at("broken.safetensors"), bytes, cut ? i : count, &error));
            bytes[i] = kept;
            open_net(0, false, &n);
            sora_status status = sora_adapters_load(n.layers, at("broken.safetensors"), &error);
            if (cut) assert_int_equal(status, SORA_ERROR_INPUT);
            if (status != SORA_OK) {
                sora_layer_info info;
                refused++;
                assert_true(status == SORA_ERROR_INPUT || status == SORA_ERROR_ARGUMENT);
                OK(sora_layer_describe(n.layer, &info, &error));
                assert_false(info.active); /* left as it was */
                assert_int_equal(sora_params_count(n.params), 2);
            }
            tried++;
            close_net(&n);
        }
    }
    print_message("# %zu of %zu broken files refused\n", refused, tried);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life_linear),  cmocka_unit_test(test_life_1x1),
        cmocka_unit_test(test_life_3x3),     cmocka_unit_test(test_rank_is_clipped_and_0_is_legal),
        cmocka_unit_test(test_refusals),     cmocka_unit_test(test_refused_activations),
        cmocka_unit_test(test_file),         cmocka_unit_test(test_failed_load),
        cmocka_unit_test(test_broken_files),
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
