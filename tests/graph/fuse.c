/* SPDX-License-Identifier: Apache-2.0 */
/* Whole networks twice, as the graph makes them and with every layer by itself. */
#include "op/range.h"
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
    /* Which layers go by rows hangs on the device. */
    if (sora_lanes(&sora_context_device(context)->limits) == 8) assert_int_equal(whole.counting, n->counting);
    assert_int_equal(single.counting, 0);
}

static void test_networks(void **state)
{
    (void)state;
    static const network networks[] = {
        { .label = "unet-fc, full", .unet = { .size = 64 }, .saved_nodes = 12, .counting = 9 },
        { .label = "unet-fc, part of a batch", .unet = { .size = 64 }, .count = 2, .saved_nodes = 12, .counting = 9 },
        /* Skips want no gradient: the way back of the decoder's first convolutions has half of the channels. */
        { .label = "unet-fc, bottleneck", .unet = { .size = 64 }, .target = "bottleneck", .saved_nodes = 6, .counting = 9 },
        { .label = "unet-fc, part of a batch, bottleneck",
          .unet = { .size = 64 },
          .target = "bottleneck",
          .count = 1,
          .saved_nodes = 6,
          .counting = 9 },
        { .label = "unet, odd sides",
          .unet = { .model = "unet", .size = 36, .width = 3, .depth = 2 },
          .saved_nodes = 4,
          .counting = 10 },
        { .label = "unet, bottleneck and decoder",
          .unet = { .model = "unet", .size = 32, .width = 4, .depth = 2 },
          .graph = { .loss = SORA_LOSS_DICE_BCE },
          .target = "bottleneck.conv2|decoder.*.conv1",
          .dropout = 0.25f,
          .saved_nodes = 2,
          .counting = 7 },
        { .label = "unet, frozen statistics",
          .unet = { .model = "unet", .size = 32, .width = 4, .depth = 2 },
          .graph = { .batch_norm_frozen = true },
          .saved_nodes = 4 },
    };
    for (size_t i = 0; i < SORA_COUNT(networks); i++) compare(&networks[i]);
}

enum { ITEMS = 3, MANY = 257, WIDTH = 17, NUMBERS = 20000 };

/* What of the layers is adapted, and dropout in the adapters' branch. */
typedef struct adaption {
    const char *target;
    float dropout;
} adaption;

static const adaption adaptions[] = { { NULL, 0 }, { "w.", 0 }, { "w.", 0.25f } };

/* Two linear layers, "wi" and "wo", by way of `hidden` numbers, in a graph from x to y. */
typedef struct pair {
    sora_params *params;
    sora_layers *layers;
    sora_layer *wi, *wo;
    sora_graph *graph;
    sora_tensor *x, *y;
    int64_t items;
    uint64_t moved; /* by a step */
} pair;

static pair open_pair(int64_t items, int64_t hidden, const adaption *how, bool unfused)
{
    sora_error error;
    pair p = { .items = items };
    OK(sora_params_create(context, &p.params, &error));
    OK(sora_layers_create(p.params, 7, &p.layers, &error));
    OK(sora_layers_add(p.layers, "wi", &(sora_layer_desc) { .in = WIDTH, .out = hidden, .bias = true }, &p.wi, &error));
    OK(sora_layers_add(p.layers, "wo", &(sora_layer_desc) { .in = hidden, .out = WIDTH, .bias = true }, &p.wo, &error));
    sora_adapter_options options = { .rank = 3, .dropout = how->dropout };
    if (how->target) OK(sora_adapt(p.layers, how->target, &options, NULL, &error));
    for (size_t i = 0; i < sora_params_count(p.params); i++) {
        sora_shape shape = sora_param_shape(sora_params_at(p.params, i));
        fill(sora_param_host(sora_params_at(p.params, i)), sora_shape_elements(&shape), (uint32_t)i, false);
    }
    OK(sora_params_upload(p.params, SORA_MOMENTS_NONE, &error));
    OK(sora_graph_create(p.params, &(sora_graph_options) { .training = true, .batch = items, .seed = 3, .unfused = unfused },
                         &p.graph, &error));
    p.x = sora_graph_input(p.graph, "x", SORA_F32, SORA_SHAPE(items, WIDTH));
    p.y = sora_graph_input(p.graph, "y", SORA_F32, SORA_SHAPE(items, WIDTH));
    return p;
}

/* A step towards y from `out`; the loss, `shown`, which is an output of the graph, and all gradients go into `numbers`. Returns
 * how many nodes are launched. */
static int step_pair(pair *p, sora_tensor *out, sora_tensor *shown, float *numbers, int64_t *count)
{
    sora_error error;
    float x[MANY * WIDTH], y[MANY * WIDTH];
    sora_tensor *loss = sora_mse_loss(p->graph, "loss", out, p->y);
    sora_shape shape = sora_tensor_shape(shown);
    sora_graph_output(p->graph, shown);
    OK(sora_graph_plan(p->graph, loss, &error));
    fill(x, p->items * WIDTH, 91, false);
    fill(y, p->items * WIDTH, 92, false);
    OK(sora_graph_write(p->graph, p->x, x, p->items, &error));
    OK(sora_graph_write(p->graph, p->y, y, p->items, &error));
    OK(sora_graph_forward(p->graph, p->items, 5, 0, &error));
    OK(sora_params_zero_gradients(p->params, &error));
    OK(sora_graph_backward(p->graph, &error));
    OK(sora_graph_read(p->graph, loss, numbers, &error));
    OK(sora_graph_read(p->graph, shown, numbers + 1, &error));
    *count = 1 + sora_shape_elements(&shape);
    for (size_t i = 0; i < sora_params_count(p->params); i++) {
        sora_param *param = sora_params_at(p->params, i);
        shape = sora_param_shape(param);
        if (!sora_param_trainable(param)) continue;
        assert_true(*count + sora_shape_elements(&shape) <= NUMBERS);
        OK(sora_param_read(param, 3, numbers + *count, &error));
        *count += sora_shape_elements(&shape);
    }
    sora_graph_statistics s = sora_graph_stats(p->graph);
    p->moved = s.moved_bytes;
    sora_graph_destroy(&p->graph);
    sora_layers_destroy(&p->layers);
    sora_params_destroy(&p->params);
    return s.forward_nodes + s.backward_nodes;
}

/* Dropout between the layers, behind the first one's ReLU. `watched`: the ReLU's own output is one of the graph's. */
static int run_dropout(const adaption *how, bool unfused, bool watched, float *out, int64_t *count)
{
    pair p = open_pair(ITEMS, 2 * WIDTH, how, unfused);
    sora_tensor *hidden = sora_layer_forward(p.graph, p.wi, p.x, true);
    if (watched) sora_graph_output(p.graph, hidden);
    hidden = sora_dropout(p.graph, "wi.dropout", hidden, 0.4f);
    return step_pair(&p, sora_layer_forward(p.graph, p.wo, hidden, false), hidden, out, count);
}

/* Dropout in a ReLU's output draws the numbers that it draws by itself, so all is equal to the bit. */
static void test_dropout_behind_relu(void **state)
{
    (void)state;
    static float whole[NUMBERS], single[NUMBERS];
    for (size_t a = 0; a < SORA_COUNT(adaptions); a++) {
        int64_t count, others;
        int nodes = run_dropout(&adaptions[a], false, false, whole, &count);
        assert_int_equal(run_dropout(&adaptions[a], true, false, single, &others), nodes + 2);
        assert_int_equal(count, others);
        assert_memory_equal(whole, single, (size_t)count * sizeof *whole);
        int zeros = 0;
        for (int i = 1; i <= ITEMS * 2 * WIDTH; i++) zeros += whole[i] == 0;
        assert_in_range(zeros, ITEMS * WIDTH + 1, ITEMS * 2 * WIDTH - 8); /* the ReLU's half, and more */
        assert_int_equal(run_dropout(&adaptions[a], false, true, whole, &count), nodes + 2);
        assert_memory_equal(whole, single, (size_t)count * sizeof *whole);
    }
}

/* A second dropout behind the first stays a node. */
static int run_two_dropouts(const adaption *how, bool unfused, float *out, int64_t *count)
{
    pair p = open_pair(ITEMS, 2 * WIDTH, how, unfused);
    sora_tensor *hidden = sora_layer_forward(p.graph, p.wi, p.x, true);
    hidden = sora_dropout(p.graph, "second", sora_dropout(p.graph, "first", hidden, 0.4f), 0.3f);
    return step_pair(&p, sora_layer_forward(p.graph, p.wo, hidden, false), hidden, out, count);
}

static void test_two_dropouts_behind_relu(void **state)
{
    (void)state;
    static float whole[NUMBERS], single[NUMBERS];
    for (size_t a = 0; a < SORA_COUNT(adaptions); a++) {
        int64_t count, others;
        int nodes = run_two_dropouts(&adaptions[a], false, whole, &count);
        assert_int_equal(run_two_dropouts(&adaptions[a], true, single, &others), nodes + 2);
        assert_int_equal(count, others);
        assert_memory_equal(whole, single, (size_t)count * sizeof *whole);
    }
}

static sora_relu_before relu_before(const sora_graph *graph, const char *name)
{
    for (size_t n = 0; n < graph->node_count; n++) {
        const sora_node *node = &graph->nodes[n];
        if (strcmp(node->name, name) != 0) continue;
        return node->op == &sora_op_linear ? ((const sora_linear_attributes *)node->attributes)->before
                                           : ((const sora_adapted_attributes *)node->attributes)->before;
    }
    fail_msg("no node %s", name);
    return (sora_relu_before) { 0 };
}

/* The layer that reads another's ReLU, by way of dropout or not, is told that its input has zeros, and no other; it masks the
 * gradient, unless somebody else has that input, too. */
static void test_zeros_behind_relu(void **state)
{
    (void)state;
    for (int way = 0; way < 32; way++) {
        bool relu = way & 1, dropout = way & 2, unfused = way & 4, watched = way & 16;
        pair p = open_pair(ITEMS, 2 * WIDTH, &adaptions[way & 8 ? 1 : 0], unfused);
        sora_tensor *hidden = sora_layer_forward(p.graph, p.wi, p.x, relu);
        if (dropout) hidden = sora_dropout(p.graph, "wi.dropout", hidden, 0.4f);
        if (watched) sora_graph_output(p.graph, hidden);
        sora_tensor *out = sora_layer_forward(p.graph, p.wo, hidden, false);
        sora_error error;
        OK(sora_graph_plan(p.graph, sora_mse_loss(p.graph, "loss", out, p.y), &error));
        sora_relu_before before = relu_before(p.graph, "wo");
        assert_int_equal(before.zeros, relu && !unfused);
        assert_int_equal(before.masks, before.zeros && !watched);
        assert_true(before.probability == (dropout && before.zeros ? 0.4f : 0.0f));
        assert_false(relu_before(p.graph, "wi").zeros);
        sora_graph_destroy(&p.graph);
        sora_layers_destroy(&p.layers);
        sora_params_destroy(&p.params);
    }
}

/* Of so many items and hidden numbers that every product behind the ReLU is one that leaves zeros out. */
static void run_many(const adaption *how, bool unfused, float *out, int64_t *count)
{
    pair p = open_pair(MANY, 300, how, unfused);
    sora_tensor *hidden = sora_dropout(p.graph, "wi.dropout", sora_layer_forward(p.graph, p.wi, p.x, true), 0.4f);
    sora_tensor *wo = sora_layer_forward(p.graph, p.wo, hidden, false);
    step_pair(&p, wo, wo, out, count);
}

/* Their sums of up to 300 terms are the whole products' but for their order. */
static void test_many_zeros(void **state)
{
    (void)state;
    static float whole[NUMBERS], single[NUMBERS];
    for (size_t a = 0; a < 2; a++) {
        int64_t count, others;
        run_many(&adaptions[a], false, whole, &count);
        run_many(&adaptions[a], true, single, &others);
        assert_int_equal(count, others);
        for (int64_t i = 0; i < count; i++)
            if (!(fabsf(whole[i] - single[i]) <= 300 * 0x1p-24f * fmaxf(1, fabsf(single[i]))))
                fail_msg("number %lld: %.9g; expected %.9g", (long long)i, whole[i], single[i]);
    }
}

/* A sum of what a layer gives and the dropout of what the other makes of it, either first. `watched`: dropout's own output is one
 * of the graph's. */
static int run_residual(bool first, bool unfused, bool watched, float *out, int64_t *count)
{
    pair p = open_pair(ITEMS, WIDTH, &adaptions[0], unfused);
    sora_tensor *base = sora_layer_forward(p.graph, p.wi, p.x, false);
    sora_tensor *dropped = sora_dropout(p.graph, "wo.dropout", sora_layer_forward(p.graph, p.wo, base, false), 0.4f);
    if (watched) sora_graph_output(p.graph, dropped);
    sora_tensor *sum = first ? sora_add(p.graph, "sum", dropped, base) : sora_add(p.graph, "sum", base, dropped);
    return step_pair(&p, sum, sum, out, count);
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

/* A sum of what a layer gives and what the other makes of one norm of it, or of two: the gradients that meet in it are added by
 * the norms. Returns what a step moves. */
static uint64_t run_norms(int norms, bool unfused, float *out, int64_t *count)
{
    pair p = open_pair(ITEMS, WIDTH, &adaptions[0], unfused);
    sora_tensor *weight = sora_graph_param(p.graph, sora_params_find(p.params, "wo.bias"));
    sora_tensor *base = sora_layer_forward(p.graph, p.wi, p.x, false), *sum = base;
    for (int i = 0; i < norms; i++)
        sum = sora_add(p.graph, i ? "second" : "first", sum,
                       sora_relu(p.graph, i ? "b" : "a", sora_rms_norm(p.graph, i ? "norm b" : "norm a", base, weight, 1e-6f)));
    sora_tensor *y = sora_layer_forward(p.graph, p.wo, sum, false);
    step_pair(&p, y, sum, out, count);
    return p.moved;
}

static void test_gradients_that_meet(void **state)
{
    (void)state;
    static float whole[NUMBERS], single[NUMBERS];
    for (int norms = 1; norms <= 2; norms++) {
        int64_t count, others;
        uint64_t moved = run_norms(norms, false, whole, &count);
        /* A sum reads one gradient and writes another more than a norm that adds. The last of two norms, whose gradient is the
         * first to be made, has nothing to add to it. */
        assert_int_equal(run_norms(norms, true, single, &others), moved + 2 * sizeof(float) * ITEMS * WIDTH);
        assert_int_equal(count, others);
        for (int64_t i = 0; i < count; i++) assert_float_equal(whole[i], single[i], 1e-6 * fmax(1, fabsf(single[i])));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_networks),
                                        cmocka_unit_test(test_dropout_behind_relu),
                                        cmocka_unit_test(test_two_dropouts_behind_relu),
                                        cmocka_unit_test(test_zeros_behind_relu),
                                        cmocka_unit_test(test_many_zeros),
                                        cmocka_unit_test(test_dropout_before_sum),
                                        cmocka_unit_test(test_gradients_that_meet) };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
