/* SPDX-License-Identifier: Apache-2.0 */
/* Whole networks twice, as the graph makes them and with every layer by itself. */
#include "unet.h"

#include "soracl/layer.h"

#include <math.h>

/* Sums over up to 3 x 64 x 64 pixels are taken in other orders, and what they differ by goes through 24 normalisations: each is
 * allowed 2^-24 of the largest value a few thousand times. */
static void compare(const network *n)
{
    static result whole, single;
    int parts = run(n, false, false, false, &whole);
    assert_int_equal(run(n, true, false, false, &single), parts);
    for (int p = 0; p < parts; p++) {
        double largest = 1e-6, off = 0;
        assert_int_equal(whole.at[p], single.at[p]);
        for (int64_t i = whole.at[p]; i < whole.at[p + 1]; i++) {
            assert_true(isfinite(whole.values[i]) && isfinite(single.values[i]));
            largest = fmax(largest, fabs((double)single.values[i]));
            off = fmax(off, fabs((double)single.values[i] - (double)whole.values[i]));
        }
        if (off > 3e-4 * largest) fail_msg("%s: tensor %d is off by %g, its largest is %g", n->label, p, off, largest);
    }
    assert_int_equal(single.statistics.forward_nodes - whole.statistics.forward_nodes + single.statistics.backward_nodes -
                         whole.statistics.backward_nodes,
                     n->saved_nodes);
}

static void test_networks(void **state)
{
    (void)state;
    static const network networks[] = {
        { .label = "unet-fc, full", .unet = { .size = 64 }, .saved_nodes = 12 },
        { .label = "unet-fc, part of a batch", .unet = { .size = 64 }, .count = 2, .saved_nodes = 12 },
        /* Skips want no gradient: the way back of the decoder's first convolutions has half of the channels. */
        { .label = "unet-fc, bottleneck", .unet = { .size = 64 }, .target = "bottleneck", .saved_nodes = 6 },
        { .label = "unet-fc, part of a batch, bottleneck",
          .unet = { .size = 64 },
          .target = "bottleneck",
          .count = 1,
          .saved_nodes = 6 },
        { .label = "unet, odd sides", .unet = { .model = "unet", .size = 36, .width = 3, .depth = 2 }, .saved_nodes = 4 },
        { .label = "unet, bottleneck and decoder",
          .unet = { .model = "unet", .size = 32, .width = 4, .depth = 2 },
          .graph = { .loss = SORA_LOSS_DICE_BCE },
          .target = "bottleneck.conv2|decoder.*.conv1",
          .dropout = 0.25f,
          .saved_nodes = 2 },
        { .label = "unet, frozen statistics",
          .unet = { .model = "unet", .size = 32, .width = 4, .depth = 2 },
          .graph = { .batch_norm_frozen = true },
          .saved_nodes = 4 },
    };
    for (size_t i = 0; i < SORA_COUNT(networks); i++) compare(&networks[i]);
}

enum { ITEMS = 3, WIDTH = 17, NUMBERS = 4000 };

/* Two linear layers with dropout between them, the first with a ReLU; returns how many nodes are launched. `watched`: the ReLU's
 * own output is one of the graph's. */
static int run_dropout(const char *target, bool unfused, bool watched, float *out, int64_t *count)
{
    sora_error error;
    sora_params *params;
    sora_layers *layers;
    sora_graph *graph;
    sora_layer *layer[2];
    float x[ITEMS * WIDTH], y[ITEMS * WIDTH];
    OK(sora_params_create(context, &params, &error));
    OK(sora_layers_create(params, 7, &layers, &error));
    for (int i = 0; i < 2; i++)
        OK(sora_layers_add(layers, i ? "wo" : "wi",
                           &(sora_layer_desc) { .in = i ? 2 * WIDTH : WIDTH, .out = i ? WIDTH : 2 * WIDTH, .bias = true },
                           &layer[i], &error));
    if (target) OK(sora_adapt(layers, target, &(sora_adapter_options) { .rank = 3, .dropout = 0.25f }, NULL, &error));
    for (size_t i = 0; i < sora_params_count(params); i++) {
        sora_shape shape = sora_param_shape(sora_params_at(params, i));
        fill(sora_param_host(sora_params_at(params, i)), sora_shape_elements(&shape), (uint32_t)i, false);
    }
    OK(sora_params_upload(params, SORA_MOMENTS_NONE, &error));
    OK(sora_graph_create(params, &(sora_graph_options) { .training = true, .batch = ITEMS, .seed = 3, .unfused = unfused },
                         &graph, &error));
    sora_tensor *input = sora_graph_input(graph, "x", SORA_F32, SORA_SHAPE(ITEMS, WIDTH)),
                *wanted = sora_graph_input(graph, "y", SORA_F32, SORA_SHAPE(ITEMS, WIDTH));
    sora_tensor *hidden = sora_layer_forward(graph, layer[0], input, true);
    if (watched) sora_graph_output(graph, hidden);
    hidden = sora_dropout(graph, "wi.dropout", hidden, 0.4f);
    sora_graph_output(graph, hidden);
    sora_tensor *loss = sora_mse_loss(graph, "loss", sora_layer_forward(graph, layer[1], hidden, false), wanted);
    OK(sora_graph_plan(graph, loss, &error));
    fill(x, ITEMS * WIDTH, 91, false);
    fill(y, ITEMS * WIDTH, 92, false);
    OK(sora_graph_write(graph, input, x, ITEMS, &error));
    OK(sora_graph_write(graph, wanted, y, ITEMS, &error));
    OK(sora_graph_forward(graph, ITEMS, 5, 0, &error));
    OK(sora_params_zero_gradients(params, &error));
    OK(sora_graph_backward(graph, &error));
    OK(sora_graph_read(graph, loss, out, &error));
    OK(sora_graph_read(graph, hidden, out + 1, &error));
    *count = 1 + ITEMS * 2 * WIDTH;
    for (size_t i = 0; i < sora_params_count(params); i++) {
        sora_param *p = sora_params_at(params, i);
        sora_shape shape = sora_param_shape(p);
        if (!sora_param_trainable(p)) continue;
        OK(sora_param_read(p, 3, out + *count, &error));
        *count += sora_shape_elements(&shape);
        assert_true(*count <= NUMBERS);
    }
    sora_graph_statistics s = sora_graph_stats(graph);
    sora_graph_destroy(&graph);
    sora_layers_destroy(&layers);
    sora_params_destroy(&params);
    return s.forward_nodes + s.backward_nodes;
}

/* Dropout in a ReLU's output draws the numbers that it draws by itself, so all is equal to the bit. */
static void test_dropout_behind_relu(void **state)
{
    (void)state;
    static const char *const targets[] = { NULL, "w." };
    static float whole[NUMBERS], single[NUMBERS];
    for (int t = 0; t < 2; t++) {
        int64_t count, others;
        int nodes = run_dropout(targets[t], false, false, whole, &count);
        assert_int_equal(run_dropout(targets[t], true, false, single, &others), nodes + 2);
        assert_int_equal(count, others);
        assert_memory_equal(whole, single, (size_t)count * sizeof *whole);
        int zeros = 0;
        for (int i = 1; i <= ITEMS * 2 * WIDTH; i++) zeros += whole[i] == 0;
        assert_in_range(zeros, ITEMS * WIDTH + 1, ITEMS * 2 * WIDTH - 8); /* the ReLU's half, and more */
        assert_int_equal(run_dropout(targets[t], false, true, whole, &count), nodes + 2);
        assert_memory_equal(whole, single, (size_t)count * sizeof *whole);
    }
}

/* A sum of what a linear layer gives and the dropout of what another makes of it, either first; returns how many nodes are
 * launched. `watched`: dropout's own output is one of the graph's. */
static int run_residual(bool first, bool unfused, bool watched, float *out, int64_t *count)
{
    sora_error error;
    sora_params *params;
    sora_layers *layers;
    sora_graph *graph;
    sora_layer *layer[2];
    float x[ITEMS * WIDTH], y[ITEMS * WIDTH];
    OK(sora_params_create(context, &params, &error));
    OK(sora_layers_create(params, 7, &layers, &error));
    for (int i = 0; i < 2; i++)
        OK(sora_layers_add(layers, i ? "wo" : "wi", &(sora_layer_desc) { .in = WIDTH, .out = WIDTH }, &layer[i], &error));
    OK(sora_params_upload(params, SORA_MOMENTS_NONE, &error));
    OK(sora_graph_create(params, &(sora_graph_options) { .training = true, .batch = ITEMS, .seed = 3, .unfused = unfused },
                         &graph, &error));
    sora_tensor *input = sora_graph_input(graph, "x", SORA_F32, SORA_SHAPE(ITEMS, WIDTH)),
                *wanted = sora_graph_input(graph, "y", SORA_F32, SORA_SHAPE(ITEMS, WIDTH));
    sora_tensor *base = sora_layer_forward(graph, layer[0], input, false);
    sora_tensor *dropped = sora_dropout(graph, "wo.dropout", sora_layer_forward(graph, layer[1], base, false), 0.4f);
    if (watched) sora_graph_output(graph, dropped);
    sora_tensor *sum = first ? sora_add(graph, "sum", dropped, base) : sora_add(graph, "sum", base, dropped);
    sora_graph_output(graph, sum);
    sora_tensor *loss = sora_mse_loss(graph, "loss", sum, wanted);
    OK(sora_graph_plan(graph, loss, &error));
    fill(x, ITEMS * WIDTH, 91, false);
    fill(y, ITEMS * WIDTH, 92, false);
    OK(sora_graph_write(graph, input, x, ITEMS, &error));
    OK(sora_graph_write(graph, wanted, y, ITEMS, &error));
    OK(sora_graph_forward(graph, ITEMS, 5, 0, &error));
    OK(sora_params_zero_gradients(params, &error));
    OK(sora_graph_backward(graph, &error));
    OK(sora_graph_read(graph, loss, out, &error));
    OK(sora_graph_read(graph, sum, out + 1, &error));
    *count = 1 + ITEMS * WIDTH;
    for (int i = 0; i < 2; i++, *count += WIDTH * WIDTH)
        OK(sora_param_read(sora_params_at(params, (size_t)i), 3, out + *count, &error));
    sora_graph_statistics s = sora_graph_stats(graph);
    sora_graph_destroy(&graph);
    sora_layers_destroy(&layers);
    sora_params_destroy(&params);
    return s.forward_nodes + s.backward_nodes;
}

static void test_dropout_before_sum(void **state)
{
    (void)state;
    static float whole[NUMBERS], single[NUMBERS];
    for (int first = 0; first < 2; first++) {
        int64_t count, others;
        int nodes = run_residual(first, false, false, whole, &count);
        assert_int_equal(run_residual(first, true, false, single, &others), nodes + 1);
        assert_int_equal(count, others);
        assert_memory_equal(whole, single, (size_t)count * sizeof *whole);
        assert_int_equal(run_residual(first, false, true, whole, &count), nodes + 1);
        assert_memory_equal(whole, single, (size_t)count * sizeof *whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_networks), cmocka_unit_test(test_dropout_behind_relu),
                                        cmocka_unit_test(test_dropout_before_sum) };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
