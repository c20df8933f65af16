/* SPDX-License-Identifier: Apache-2.0 */
#include "../fixture.h"
#include "base/random.h"
#include "cl/context.h"
#include "graph/params.h"
#include "soracl/layer.h"
#include "soracl/unet.h"

#include <math.h>

static void random_values(uint32_t stream, float *out, int64_t n)
{
    sora_random_stream random = { .seed = 3, .purpose = SORA_PURPOSE_TEST, .stream = stream };
    for (int64_t i = 0; i < n; i++) out[i] = (float)sora_random_uniform(&random);
}

/* ---- A chain of four linear layers ------------------------------------------------------------------------------- */

enum { WIDTH = 17, BATCH = 5 };

typedef struct chain {
    sora_params *params;
    sora_layers *layers;
    sora_graph *graph;
    sora_tensor *x, *target, *y, *loss;
} chain;

static void open_chain(const char *target, chain *c)
{
    sora_error error;
    char name[8];
    *c = (chain) { 0 };
    OK(sora_params_create(context, &c->params, &error));
    OK(sora_layers_create(c->params, 7, &c->layers, &error));
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "fc%d", i);
        OK(sora_layers_add(c->layers, name, &(sora_layer_desc) { .in = WIDTH, .out = WIDTH, .bias = true }, NULL, &error));
    }
    if (target) OK(sora_adapt(c->layers, target, &(sora_adapter_options) { .rank = 3 }, NULL, &error));
    OK(sora_params_upload(c->params, 0, &error));
}

static void plan_chain(chain *c, int batch)
{
    sora_error error;
    OK(sora_graph_create(c->params, &(sora_graph_options) { .training = true, .batch = batch }, &c->graph, &error));
    sora_tensor *x = c->x = sora_graph_input(c->graph, "x", SORA_F32, SORA_SHAPE(batch, WIDTH));
    c->target = sora_graph_input(c->graph, "target", SORA_F32, SORA_SHAPE(batch, WIDTH));
    for (int i = 0; i < 4; i++) x = sora_layer_forward(c->graph, sora_layers_at(c->layers, (size_t)i), x, i < 3);
    c->y = x;
    c->loss = sora_mse_loss(c->graph, "loss", x, c->target);
    sora_graph_output(c->graph, c->y);
    OK(sora_graph_plan(c->graph, c->loss, &error));
}

static void close_chain(chain *c)
{
    sora_graph_destroy(&c->graph);
    sora_layers_destroy(&c->layers);
    sora_params_destroy(&c->params);
}

static void run_chain(chain *c, int count)
{
    static float x[BATCH * WIDTH], target[BATCH * WIDTH];
    sora_error error;
    random_values(1, x, BATCH * WIDTH);
    random_values(2, target, BATCH * WIDTH);
    OK(sora_graph_write(c->graph, c->x, x, count, &error));
    OK(sora_graph_write(c->graph, c->target, target, count, &error));
    OK(sora_graph_forward(c->graph, count, 1, 0, &error));
    OK(sora_params_zero_gradients(c->params, &error));
    OK(sora_graph_backward(c->graph, &error));
    OK(sora_context_finish(context, &error));
}

/* All parameters: 4 × (weight, bias), y, 3 hidden outputs and the loss itself; x needs none. */
static void test_gradients_of_full_training(void **state)
{
    (void)state;
    chain c;
    open_chain(NULL, &c);
    plan_chain(&c, BATCH);
    sora_graph_statistics s = sora_graph_stats(c.graph);
    assert_int_equal(s.forward_nodes, 5);
    assert_int_equal(s.backward_nodes, 5);
    assert_int_equal(s.gradients, 8 + 5);
    close_chain(&c);
}

/* Adapters on fc2 alone: down, up, gate; loss, y (fc3's output) and fc2's output. Nothing below fc2, no frozen weight. */
static void test_gradients_stop_at_the_adapter(void **state)
{
    (void)state;
    chain c;
    open_chain("fc2", &c);
    plan_chain(&c, BATCH);
    sora_graph_statistics s = sora_graph_stats(c.graph);
    assert_int_equal(s.forward_nodes, 5);
    assert_int_equal(s.backward_nodes, 3);
    assert_int_equal(s.gradients, 3 + 3);
    close_chain(&c);
}

/* On unet-fc: parameters of full training are 24 convolutions, 24 × (gamma, beta), the bottleneck's and 6 × 2 of the up
 * convolutions and the head's two; with the bottleneck's adapter three of them are left, and no convolution of the encoder
 * runs backward. */
static void test_gradients_of_unet(void **state)
{
    (void)state;
    sora_error error;
    int nodes[2];
    for (int adapted = 0; adapted < 2; adapted++) {
        sora_unet *unet;
        sora_unet_graph graph;
        OK(sora_unet_create(context, &(sora_unet_options) { .size = 64 }, &unet, &error));
        if (adapted) OK(sora_adapt(sora_unet_layers(unet), "bottleneck", &(sora_adapter_options) { .rank = 8 }, NULL, &error));
        OK(sora_params_upload(sora_unet_params(unet), 2, &error));
        OK(sora_unet_build(unet, &(sora_unet_graph_options) { .graph = { .training = true, .batch = 2 } }, &graph, &error));
        int trainable = 0;
        for (size_t i = 0; i < sora_params_count(sora_unet_params(unet)); i++)
            trainable += sora_param_trainable(sora_params_at(sora_unet_params(unet), i));
        assert_int_equal(trainable, adapted ? 3 : 24 + 48 + 2 + 12 + 2);
        nodes[adapted] = sora_graph_stats(graph.graph).backward_nodes;
        sora_graph_destroy(&graph.graph);
        sora_unet_destroy(&unet);
    }
    /* forward: 24 convolutions, 24 norms (6 with a pool), bottleneck, 6 ups, head, sigmoid, loss; all of it goes back but the
     * first convolution's input; the adapter's way back is decoder, head, sigmoid, loss and the bottleneck */
    assert_int_equal(nodes[0], 24 + 24 + 1 + 6 + 1 + 1 + 1);
    assert_int_equal(nodes[1], 12 + 12 + 1 + 6 + 1 + 1 + 1);
}

static void test_shape_error_names_the_node(void **state)
{
    (void)state;
    sora_error error;
    sora_params *params;
    sora_param *weight;
    sora_graph *graph;
    OK(sora_params_create(context, &params, &error));
    OK(sora_params_add(params, "w", SORA_PARAM_WEIGHT, SORA_SHAPE(4, 9), &weight, &error));
    OK(sora_params_upload(params, 0, &error));
    OK(sora_graph_create(params, &(sora_graph_options) { .batch = 2 }, &graph, &error));
    sora_tensor *x = sora_graph_input(graph, "x", SORA_F32, SORA_SHAPE(2, 8));
    sora_tensor *y = sora_linear(graph, "projection", x, sora_graph_param(graph, weight), NULL, false);
    assert_null(y);
    assert_null(sora_relu(graph, "behind", y)); /* NULL in, NULL out: the first failure is the one that is told */
    FAILS(sora_graph_plan(graph, NULL, &error), SORA_ERROR_ARGUMENT, "projection");
    assert_non_null(strstr(error.message, "2x8"));
    sora_graph_destroy(&graph);
    sora_params_destroy(&params);
}

static void test_nan_is_named(void **state)
{
    (void)state;
    sora_error error;
    chain c;
    char *where;
    float bias[WIDTH] = { 0 };
    open_chain(NULL, &c);
    plan_chain(&c, BATCH);
    run_chain(&c, BATCH);
    OK(sora_graph_find_nonfinite(c.graph, &where, &error));
    assert_null(where);
    bias[3] = NAN;
    OK(sora_param_write(sora_params_find(c.params, "fc2.bias"), 0, bias, &error));
    run_chain(&c, BATCH);
    OK(sora_graph_find_nonfinite(c.graph, &where, &error));
    if (!where || !strstr(where, "fc2")) fail_msg("found %s; expected fc2", where ? where : "nothing");
    free(where);
    close_chain(&c);
}

static void find_in_unet(sora_unet *unet, bool training, const char *expected)
{
    sora_error error;
    sora_unet_graph g;
    char *where;
    static float image[3 * 64 * 64], mask[64 * 64];
    for (size_t i = 0; i < SORA_COUNT(image); i++) image[i] = 1;
    OK(sora_unet_build(unet, &(sora_unet_graph_options) { .graph = { .training = training, .batch = 1 } }, &g, &error));
    OK(sora_graph_write(g.graph, g.image, image, 1, &error));
    OK(sora_graph_write(g.graph, g.mask, mask, 1, &error));
    OK(sora_graph_forward(g.graph, 1, 1, 0, &error));
    OK(sora_graph_find_nonfinite(g.graph, &where, &error));
    if (!where || strcmp(where, expected) != 0) fail_msg("found %s; expected %s", where ? where : "nothing", expected);
    free(where);
    sora_graph_destroy(&g.graph);
}

/* A convolution that overflows makes the running statistics behind it infinite; these are named only where nothing wrote them. */
static void test_statistics_are_not_named(void **state)
{
    (void)state;
    sora_error error;
    sora_unet *unet;
    OK(sora_unet_create(context, &(sora_unet_options) { .model = "unet", .size = 64, .width = 1, .depth = 1 }, &unet, &error));
    sora_param *weight = sora_params_find(sora_unet_params(unet), "encoder.0.conv1.weight");
    sora_shape shape = sora_param_shape(weight);
    for (int64_t i = 0; i < sora_shape_elements(&shape); i++) sora_param_host(weight)[i] = 3e38f;
    OK(sora_params_upload(sora_unet_params(unet), 2, &error));
    find_in_unet(unet, true, "encoder.0.conv1 output");
    find_in_unet(unet, false, "encoder.0.norm1.running_mean parameter");
    sora_unet_destroy(&unet);
}

/* The last batch of an epoch: 3 of 5 items in a plan for 5 are what a plan for 3 computes. */
static void test_smaller_batch(void **state)
{
    (void)state;
    sora_error error;
    float gradients[2][WIDTH * WIDTH], y[2][BATCH * WIDTH], loss[2];
    for (int i = 0; i < 2; i++) {
        chain c;
        open_chain("fc1|fc2", &c);
        float up[WIDTH * 3];
        random_values(9, up, WIDTH * 3);
        OK(sora_param_write(sora_params_find(c.params, "fc2.up"), 0, up, &error));
        plan_chain(&c, i ? BATCH : 3);
        if (i) run_chain(&c, BATCH); /* a full batch before it must leave nothing behind */
        run_chain(&c, 3);
        OK(sora_graph_read(c.graph, c.y, y[i], &error));
        OK(sora_graph_read(c.graph, c.loss, &loss[i], &error));
        OK(sora_param_read(sora_params_find(c.params, "fc1.up"), 3, gradients[i], &error));
        close_chain(&c);
    }
    assert_true(loss[0] == loss[1] && loss[0] > 0);
    assert_memory_equal(y[0], y[1], 3 * WIDTH * sizeof(float));
    assert_memory_equal(gradients[0], gradients[1], 3 * WIDTH * sizeof(float));
}

static void test_inputs_are_checked(void **state)
{
    (void)state;
    sora_error error;
    chain c;
    float x[BATCH * WIDTH] = { 0 };
    open_chain(NULL, &c);
    plan_chain(&c, BATCH);
    FAILS(sora_graph_write(c.graph, c.x, x, BATCH + 1, &error), SORA_ERROR_ARGUMENT, "6");
    FAILS(sora_graph_forward(c.graph, 0, 0, 0, &error), SORA_ERROR_ARGUMENT, "0");
    OK(sora_graph_write(c.graph, c.x, x, BATCH, &error));
    OK(sora_graph_write(c.graph, c.target, x, 2, &error));
    FAILS(sora_graph_forward(c.graph, BATCH, 0, 0, &error), SORA_ERROR_ARGUMENT, "target");
    close_chain(&c);
}

/* ---- Plans ------------------------------------------------------------------------------------------------------- */

typedef struct unet_result {
    float loss, *gradients;
    int64_t count;
    sora_graph_statistics statistics;
} unet_result;

/* One training step's loss and all gradients, with adapters beside full layers so that every op takes part. */
static unet_result unet_step(sora_context *on, sora_plan_policy policy)
{
    static float image[3 * 3 * 64 * 64], mask[3 * 64 * 64];
    sora_error error;
    sora_unet *unet;
    sora_unet_graph graph;
    unet_result result = { 0 };
    OK(sora_unet_create(on, &(sora_unet_options) { .size = 64, .seed = 2 }, &unet, &error));
    sora_params *params = sora_unet_params(unet);
    OK(sora_layer_activate(sora_layers_find(sora_unet_layers(unet), "encoder.3.conv2"), &(sora_adapter_options) { .rank = 5 },
                           &error));
    OK(sora_params_upload(params, 0, &error));
    OK(sora_unet_build(unet,
                       &(sora_unet_graph_options) { .graph = { .training = true, .batch = 4, .policy = policy, .seed = 1 },
                                                    .loss = SORA_LOSS_DICE_BCE,
                                                    .dropout = 0.2f },
                       &graph, &error));
    random_values(4, image, sizeof image / sizeof *image);
    random_values(5, mask, sizeof mask / sizeof *mask);
    for (size_t i = 0; i < sizeof mask / sizeof *mask; i++) mask[i] = mask[i] > 0.7f;
    OK(sora_graph_write(graph.graph, graph.image, image, 3, &error));
    OK(sora_graph_write(graph.graph, graph.mask, mask, 3, &error));
    OK(sora_params_zero_gradients(params, &error));
    OK(sora_graph_forward(graph.graph, 3, 7, 0, &error));
    OK(sora_graph_backward(graph.graph, &error));
    OK(sora_graph_read(graph.graph, graph.loss, &result.loss, &error));
    if (policy == SORA_PLAN_SEPARATE) OK(sora_graph_check_guards(graph.graph, &error));
    result.gradients = malloc(sora_params_trainable_elements(params) * sizeof(float));
    assert_non_null(result.gradients);
    for (size_t i = 0; i < sora_params_count(params); i++) {
        sora_param *param = sora_params_at(params, i);
        sora_shape shape = sora_param_shape(param);
        if (!sora_param_trainable(param)) continue;
        OK(sora_param_read(param, 3, result.gradients + result.count, &error));
        result.count += sora_shape_elements(&shape);
    }
    result.statistics = sora_graph_stats(graph.graph);
    sora_graph_destroy(&graph.graph);
    sora_unet_destroy(&unet);
    return result;
}

static void expect_equal(const unet_result *a, const unet_result *b)
{
    assert_true(isfinite(a->loss) && a->loss > 0);
    assert_true(a->loss == b->loss);
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->gradients, b->gradients, (size_t)a->count * sizeof(float));
}

/* Sharing memory changes nothing, to the bit, and no op writes past its tensors. */
static void test_arena_equals_separate(void **state)
{
    (void)state;
    unet_result arena = unet_step(context, SORA_PLAN_ARENA), separate = unet_step(context, SORA_PLAN_SEPARATE);
    expect_equal(&arena, &separate);
    assert_true(arena.statistics.arena_bytes < separate.statistics.arena_bytes / 2);
    assert_true(arena.statistics.arena_bytes >= arena.statistics.live_bytes);
    assert_int_equal(arena.statistics.moved_bytes, separate.statistics.moved_bytes);
    print_message("# arena %llu bytes, lower bound %llu\n", (unsigned long long)arena.statistics.arena_bytes,
                  (unsigned long long)arena.statistics.live_bytes);
    assert_true((double)arena.statistics.arena_bytes < 1.15 * (double)arena.statistics.live_bytes);
    free(arena.gradients);
    free(separate.gradients);
}

/* Where the device allocates less in one piece than is needed, several pieces do. */
/* Sigmoid reads and writes an image, the mean reads one. */
static void test_moved_bytes(void **state)
{
    (void)state;
    sora_error error;
    sora_params *params = NULL;
    sora_graph *graph = NULL;
    const uint64_t image = 4 * 2 * 3 * 5 * 5, scalar = 4;
    OK(sora_params_create(context, &params, &error));
    OK(sora_graph_create(params, &(sora_graph_options) { .batch = 2 }, &graph, &error));
    sora_tensor *x = sora_graph_input(graph, "x", SORA_F32, SORA_SHAPE(2, 3, 5, 5));
    sora_graph_output(graph, sora_mean(graph, "mean", sora_sigmoid(graph, "sigmoid", x)));
    OK(sora_graph_plan(graph, NULL, &error));
    sora_graph_statistics s = sora_graph_stats(graph);
    assert_int_equal(s.moved_bytes, 2 * image + image + scalar);
    assert_int_equal(s.least_moved_bytes, image + scalar);
    sora_graph_destroy(&graph);
    sora_params_destroy(&params);
    /* Forward: four layers read and write, the loss reads two. Back: the loss reads two and writes one, layers read x and dy,
     * where x has the zeros of a ReLU before them, and all but the first write dx. Scalars: the loss; its gradient set to 1, and read. */
    chain c;
    const uint64_t rows = 4 * BATCH * WIDTH;
    open_chain(NULL, &c);
    plan_chain(&c, BATCH);
    assert_int_equal(sora_graph_stats(c.graph).moved_bytes, (8 + 2 + 3 + 8 + 3) * rows + 3 * scalar);
    close_chain(&c);
}

static void test_small_allocations(void **state)
{
    (void)state;
    sora_error error;
    sora_context *other;
    sora_device_limits limits = sora_context_device(context)->limits;
    unet_result one = unet_step(context, SORA_PLAN_ARENA);
    limits.allocation_bytes = one.statistics.arena_bytes / 3;
    OK(sora_context_create(&(sora_context_options) { .limits = &limits }, &other, &error));
    unet_result several = unet_step(other, SORA_PLAN_ARENA);
    expect_equal(&one, &several);
    sora_context_destroy(&other);

    limits.allocation_bytes = 64 * 1024;
    OK(sora_context_create(&(sora_context_options) { .limits = &limits }, &other, &error));
    sora_unet *unet;
    sora_unet_graph graph;
    OK(sora_unet_create(other, &(sora_unet_options) { .size = 64 }, &unet, &error));
    FAILS(sora_unet_build(unet, &(sora_unet_graph_options) { .graph = { .training = true, .batch = 4 } }, &graph, &error),
          SORA_ERROR_MEMORY, "--batch");
    FAILS(sora_unet_build(unet, &(sora_unet_graph_options) { .graph = { .training = true, .batch = 1 << 18 } }, &graph, &error),
          SORA_ERROR_MEMORY, "262144x3x64x64; expected at most 2147483647 elements");
    sora_unet_destroy(&unet);
    sora_context_destroy(&other);
    free(one.gradients);
    free(several.gradients);
}

/* ---- Parts of concatenations --------------------------------------------------------------------------------------- */

enum { ITEMS = 3, INNER = 24 };
enum { RMS_NORM, GATED_GELU, ATTENTION, EMBEDDING, LINEAR, ADAPTED_LINEAR, CROSS_ENTROPY, PART_OPS };

typedef struct parts {
    sora_params *params;
    sora_graph *graph;
    sora_tensor *x, *ids, *target, *joined, *loss;
} parts;

static sora_tensor *param_of(parts *p, const char *name)
{
    return sora_graph_param(p->graph, sora_params_find(p->params, name));
}

/* [ITEMS, n] of an op that takes rows; NULL: it gives a loss. */
static sora_tensor *add_part(parts *p, int op, sora_tensor *h)
{
    sora_graph *g = p->graph;
    sora_tensor *rows = sora_reshape(g, "rows", h, SORA_SHAPE(ITEMS, 2, INNER / 2)), *part = NULL;
    if (op == RMS_NORM) return sora_rms_norm(g, "part", h, param_of(p, "norm"), 1e-6f);
    if (op == GATED_GELU) return sora_gated_gelu(g, "part", h);
    if (op == ATTENTION)
        part = sora_attention(g, "part", rows, &(sora_attention_options) { .heads = 2, .size = INNER / 12 });
    else if (op == EMBEDDING)
        part = sora_embedding(g, "part", p->ids, param_of(p, "table"));
    else if (op == LINEAR)
        part = sora_linear(g, "part", rows, param_of(p, "table"), NULL, false);
    else if (op == ADAPTED_LINEAR)
        part =
            sora_adapted_linear(g, "part", rows, param_of(p, "table"), NULL,
                                &(sora_adapted_tensors) { .down = param_of(p, "down"), .up = param_of(p, "up"), .scale = 1.5f });
    if (!part) return NULL;
    sora_shape shape = sora_tensor_shape(part);
    return sora_reshape(g, "flat", part, SORA_SHAPE(ITEMS, 2 * shape.dim[2]));
}

/* x -> h -> (op of h, (h, relu of h)), so that what the op has and gives, and the gradients of both, are parts of others. */
static void open_parts(int op, sora_plan_policy policy, parts *p)
{
    static const struct {
        const char *name;
        sora_shape shape;
    } list[] = { { "first", SORA_SHAPE(INNER, 4) },
                 { "norm", SORA_SHAPE(INNER) },
                 { "table", SORA_SHAPE(5, INNER / 2) },
                 { "down", SORA_SHAPE(2, INNER / 2) },
                 { "up", SORA_SHAPE(5, 2) } };
    sora_error error;
    sora_param *param;
    OK(sora_params_create(context, &p->params, &error));
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        OK(sora_params_add(p->params, list[i].name, SORA_PARAM_WEIGHT, list[i].shape, &param, &error));
        random_values(20 + (uint32_t)i, sora_param_host(param), sora_shape_elements(&list[i].shape));
    }
    OK(sora_params_upload(p->params, SORA_MOMENTS_NONE, &error));
    OK(sora_graph_create(p->params, &(sora_graph_options) { .training = true, .batch = ITEMS, .policy = policy }, &p->graph,
                         &error));
    p->x = sora_graph_input(p->graph, "x", SORA_F32, SORA_SHAPE(ITEMS, 4));
    p->ids = sora_graph_input(p->graph, "ids", SORA_I32, SORA_SHAPE(ITEMS, 2));
    sora_tensor *h = sora_linear(p->graph, "h", p->x, param_of(p, "first"), NULL, false);
    sora_tensor *rows = sora_reshape(p->graph, "x of loss", h, SORA_SHAPE(ITEMS, 2, INNER / 2));
    sora_tensor *relu = sora_relu(p->graph, "relu", h), *part = add_part(p, op, h);
    p->joined = sora_concat(p->graph, "sides", h, relu);
    if (part) p->joined = sora_concat(p->graph, "joined", part, p->joined);
    p->target = sora_graph_input(p->graph, "target", SORA_F32, sora_tensor_shape(p->joined));
    p->loss = sora_mse_loss(p->graph, "mse", p->joined, p->target);
    if (op == CROSS_ENTROPY)
        p->loss = sora_add(p->graph, "loss", p->loss,
                           sora_linear_cross_entropy(p->graph, "part", rows, param_of(p, "table"), p->ids, 1.0f, 0.0f));
    sora_graph_output(p->graph, p->joined);
    OK(sora_graph_plan(p->graph, p->loss, &error));
    OK(sora_params_zero_gradients(p->params, &error));
}

static void step_parts(parts *p, int first, int count)
{
    static const int ids[ITEMS * 2] = { 3, 0, 1, 4, 3, 2 };
    static float x[ITEMS * 4], target[ITEMS * 4 * INNER];
    int64_t width = sora_tensor_shape(p->joined).dim[1];
    sora_error error;
    random_values(11, x, ITEMS * 4);
    random_values(12, target, ITEMS * 4 * INNER);
    OK(sora_graph_write(p->graph, p->x, x + 4 * first, count, &error));
    OK(sora_graph_write(p->graph, p->ids, ids + 2 * first, count, &error));
    OK(sora_graph_write(p->graph, p->target, target + width * first, count, &error));
    OK(sora_graph_forward(p->graph, count, 1, (uint32_t)first, &error));
    OK(sora_graph_backward(p->graph, &error));
}

static void expect_close(const char *what, int op, const float *is, const float *expected, int64_t n, float factor)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(is[i] - factor * expected[i]) <= 1e-5f * (1.0f + fabsf(is[i]))))
            fail_msg("op %d: element %lld of %s is %g, expected %g", op, (long long)i, what, (double)is[i],
                     (double)(factor * expected[i]));
}

/* An item alone has no distance to the next: what a batch gives is what its items give one by one. */
static void test_parts_of_concatenations(void **state)
{
    (void)state;
    static float joined[2][ITEMS * 4 * INNER], gradients[2][INNER * INNER];
    for (int op = 0; op < PART_OPS; op++) {
        for (sora_plan_policy policy = SORA_PLAN_ARENA; policy <= SORA_PLAN_SEPARATE; policy++) {
            sora_error error;
            parts p[2];
            for (int i = 0; i < 2; i++) open_parts(op, policy, &p[i]);
            int64_t width = sora_tensor_shape(p[0].joined).dim[1];
            step_parts(&p[0], 0, ITEMS);
            OK(sora_graph_read(p[0].graph, p[0].joined, joined[0], &error));
            for (int item = 0; item < ITEMS; item++) {
                step_parts(&p[1], item, 1);
                OK(sora_graph_read(p[1].graph, p[1].joined, joined[1] + item * width, &error));
            }
            expect_close("outputs", op, joined[0], joined[1], ITEMS * width, 1.0f);
            for (size_t i = 0; i < sora_params_count(p[0].params); i++) {
                sora_shape shape = sora_param_shape(sora_params_at(p[0].params, i));
                for (int j = 0; j < 2; j++) OK(sora_param_read(sora_params_at(p[j].params, i), 3, gradients[j], &error));
                expect_close(sora_param_name(sora_params_at(p[0].params, i)), op, gradients[0], gradients[1],
                             sora_shape_elements(&shape), 1.0f / ITEMS);
            }
            for (int i = 0; i < 2; i++) {
                if (policy == SORA_PLAN_SEPARATE) OK(sora_graph_check_guards(p[i].graph, &error));
                sora_graph_destroy(&p[i].graph);
                sora_params_destroy(&p[i].params);
            }
        }
    }
}

/* Rows of heads, not of a batch. */
static void test_concatenated_biases(void **state)
{
    (void)state;
    sora_error error;
    sora_params *params;
    sora_param *table;
    sora_graph *graph;
    float joined[2][12], line[2][6];
    sora_relative_bias_options options = { .queries = 3, .keys = 4, .farthest = 8, .bidirectional = true };
    OK(sora_params_create(context, &params, &error));
    OK(sora_params_add(params, "table", SORA_PARAM_PLAIN, SORA_SHAPE(8, 2), &table, &error));
    random_values(6, sora_param_host(table), 16);
    OK(sora_params_upload(params, SORA_MOMENTS_NONE, &error));
    OK(sora_graph_create(params, &(sora_graph_options) { .batch = 1 }, &graph, &error));
    sora_tensor *alone = sora_relative_bias(graph, "alone", sora_graph_param(graph, table), &options),
                *part = sora_relative_bias(graph, "part", sora_graph_param(graph, table), &options),
                *both = sora_concat(graph, "both", part, sora_sigmoid(graph, "other", alone));
    sora_graph_output(graph, alone);
    sora_graph_output(graph, both);
    OK(sora_graph_plan(graph, NULL, &error));
    OK(sora_graph_forward(graph, 1, 1, 0, &error));
    OK(sora_graph_read(graph, alone, line[0], &error));
    OK(sora_graph_read(graph, both, joined[0], &error));
    for (int h = 0; h < 2; h++) assert_memory_equal(joined[h], line[h], sizeof line[h]);
    sora_graph_destroy(&graph);
    sora_params_destroy(&params);
}

/* y = relu(x) of `width` numbers, in the arena of `share`. */
static sora_graph *open_relu(sora_params *params, sora_graph *share, int64_t width, sora_tensor **x, sora_tensor **y)
{
    sora_error error;
    sora_graph *graph;
    OK(sora_graph_create(params, &(sora_graph_options) { .batch = 1, .share = share }, &graph, &error));
    *x = sora_graph_input(graph, "x", SORA_F32, SORA_SHAPE(1, width));
    *y = sora_relu(graph, "y", *x);
    sora_graph_output(graph, *y);
    OK(sora_graph_plan(graph, NULL, &error));
    return graph;
}

/* An arena that can't grow for another graph is still its owner's; where the owner's memory can't be had again either, its calls
 * say so until it can. */
static void test_failed_growth(void **state)
{
    (void)state;
    enum { SMALL = 64, LARGE = 1 << 18 };
    sora_error error;
    sora_context *other;
    sora_params *params;
    sora_tensor *x[2], *y[2];
    static float in[LARGE], out[SMALL];
    sora_device_limits limits = sora_context_device(context)->limits;
    limits.global_bytes = LARGE;
    OK(sora_context_create(&(sora_context_options) { .limits = &limits }, &other, &error));
    OK(sora_params_create(other, &params, &error));
    OK(sora_params_upload(params, SORA_MOMENTS_NONE, &error));
    sora_graph *small = open_relu(params, NULL, SMALL, &x[0], &y[0]), *large = open_relu(params, small, LARGE, &x[1], &y[1]);
    for (int i = 0; i < SMALL; i++) in[i] = (float)i;
    OK(sora_graph_write(small, x[0], in, 1, &error));
    OK(sora_graph_forward(small, 1, 1, 0, &error));
    for (int lost = 0; lost < 2; lost++) {
        uint64_t before = sora_context_memory(other).current;
        if (lost) other->device.limits.global_bytes = 0;
        FAILS(sora_graph_write(large, x[1], in, 1, &error), SORA_ERROR_MEMORY, "activations");
        assert_int_equal(sora_context_memory(other).current, lost ? 0 : before);
        if (lost) {
            char *where;
            FAILS(sora_graph_write(small, x[0], in, 1, &error), SORA_ERROR_MEMORY, "activations");
            FAILS(sora_graph_forward(small, 1, 1, 0, &error), SORA_ERROR_MEMORY, "activations");
            FAILS(sora_graph_read(small, y[0], out, &error), SORA_ERROR_ARGUMENT, "y");
            FAILS(sora_graph_find_nonfinite(small, &where, &error), SORA_ERROR_ARGUMENT, "run");
            other->device.limits.global_bytes = LARGE;
        }
        memset(out, 0, sizeof out);
        OK(sora_graph_write(small, x[0], in, 1, &error));
        OK(sora_graph_forward(small, 1, 1, 0, &error));
        OK(sora_graph_read(small, y[0], out, &error));
        assert_memory_equal(out, in, sizeof out);
    }
    sora_graph_destroy(&large);
    sora_graph_destroy(&small);
    sora_params_destroy(&params);
    sora_context_destroy(&other);
}

/* ---- Parameters -------------------------------------------------------------------------------------------------- */

static void test_params(void **state)
{
    (void)state;
    sora_error error;
    sora_params *params;
    sora_param *a, *b, *running;
    OK(sora_params_create(context, &params, &error));
    OK(sora_params_add(params, "a", SORA_PARAM_WEIGHT, SORA_SHAPE(3, 5), &a, &error));
    OK(sora_params_add(params, "b", SORA_PARAM_PLAIN, SORA_SHAPE(17), &b, &error));
    OK(sora_params_add(params, "running", SORA_PARAM_STATE, SORA_SHAPE(17), &running, &error));
    FAILS(sora_params_add(params, "a", SORA_PARAM_WEIGHT, SORA_SHAPE(1), &a, &error), SORA_ERROR_ARGUMENT, "a");
    a = sora_params_find(params, "a");
    assert_int_equal(sora_params_count(params), 3);
    assert_int_equal(sora_params_trainable_elements(params), 15 + 17);
    assert_false(sora_param_trainable(running));
    for (int i = 0; i < 15; i++) sora_param_host(a)[i] = (float)i;
    float *moment;
    OK(sora_param_host_moment(a, 1, &moment, &error));
    for (int i = 0; i < 15; i++) moment[i] = (float)(100 + i);
    const int columns[] = { 1, 4 }, rows[] = { 0, 2 };
    sora_param_select(a, 1, columns, 2);
    sora_param_select(a, 0, rows, 2);
    const float kept[] = { 1, 4, 11, 14 };
    assert_memory_equal(sora_param_host(a), kept, sizeof kept);
    OK(sora_param_host_moment(a, 1, &moment, &error));
    assert_true(moment[0] == 101 && moment[3] == 114);
    OK(sora_params_upload(params, 2, &error));
    float read[4];
    OK(sora_param_read(a, 0, read, &error));
    assert_memory_equal(read, kept, sizeof kept);
    FAILS(sora_params_upload(params, 2, &error), SORA_ERROR_ARGUMENT, "device");
    OK(sora_params_download(params, &error));
    OK(sora_param_host_moment(a, 1, &moment, &error));
    assert_true(moment[0] == 101 && moment[3] == 114);
    sora_params_destroy(&params);
    assert_int_equal(sora_context_memory(context).current, sora_context_memory(context).libraries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_of_full_training),
        cmocka_unit_test(test_gradients_stop_at_the_adapter),
        cmocka_unit_test(test_gradients_of_unet),
        cmocka_unit_test(test_shape_error_names_the_node),
        cmocka_unit_test(test_nan_is_named),
        cmocka_unit_test(test_statistics_are_not_named),
        cmocka_unit_test(test_smaller_batch),
        cmocka_unit_test(test_inputs_are_checked),
        cmocka_unit_test(test_arena_equals_separate),
        cmocka_unit_test(test_moved_bytes),
        cmocka_unit_test(test_small_allocations),
        cmocka_unit_test(test_parts_of_concatenations),
        cmocka_unit_test(test_concatenated_biases),
        cmocka_unit_test(test_failed_growth),
        cmocka_unit_test(test_params),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
