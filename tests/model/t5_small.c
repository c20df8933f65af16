/* SPDX-License-Identifier: Apache-2.0 */
/* T5-small's shape with random weights: what it counts, what its graphs leave out, and what memory they take. */
#include "../fixture.h"
#include "adapter/layer.h"
#include "graph/graph.h"
#include "model/t5.h"
#include "soracl/optimizer.h"

enum { BATCH = 2, SOURCE = 64, TARGET = 16 };

static sora_t5 *t5;
static float room[32128 * 512]; /* for a gradient that should not be there */

static int open_small(void **state)
{
    sora_t5_config small;
    sora_t5_config_small(&small);
    small.dropout = 0.0f;
    return open_context(state) || sora_t5_create(context, &small, 1, &t5, NULL) ? -1 : 0;
}

static int close_small(void **state)
{
    sora_t5_destroy(&t5);
    return close_context(state);
}

static void adapt(sora_adapter_kind kind, int rank)
{
    sora_error error;
    OK(sora_adapt(t5->layers, ".*\\.(q|k|v|o|wi|wo)", &(sora_adapter_options) { .kind = kind, .rank = rank }, NULL, &error));
}

static void drop_adapters(void)
{
    for (size_t i = 0; i < sora_layers_count(t5->layers); i++) sora_layer_drop_adapter(sora_layers_at(t5->layers, i));
    for (size_t i = 0; i < sora_params_count(t5->params); i++) sora_param_set_trainable(sora_params_at(t5->params, i), true);
}

/* ---- Counts ------------------------------------------------------------------------------------------------------ */

static void test_counts(void **state)
{
    (void)state;
    uint64_t all = 0;
    for (size_t i = 0; i < sora_params_count(t5->params); i++) {
        sora_shape shape = sora_param_shape(sora_params_at(t5->params, i));
        all += (uint64_t)sora_shape_elements(&shape);
    }
    assert_int_equal(all, 60506624);
    assert_int_equal(sora_params_count(t5->params), 131);
    assert_int_equal(sora_params_trainable_elements(t5->params), 60506624);
    assert_int_equal(sora_layers_count(t5->layers), 96);
    /* Σ r · (p + q) over 72 of 512 × 512 and 24 of 512 × 2048 is r · 135,168; SoRA has r · 96 gates on top. */
    const struct {
        sora_adapter_kind kind;
        int rank, parameters;
    } wanted[] = { { SORA_ADAPTER_SORA, 8, 1082112 },
                   { SORA_ADAPTER_SORA, 16, 2164224 },
                   { SORA_ADAPTER_LORA, 8, 1081344 },
                   { SORA_ADAPTER_LORA, 16, 2162688 } };
    for (size_t i = 0; i < SORA_COUNT(wanted); i++) {
        adapt(wanted[i].kind, wanted[i].rank);
        assert_int_equal(sora_params_trainable_elements(t5->params), wanted[i].parameters);
        drop_adapters();
    }
}

/* ---- One step ---------------------------------------------------------------------------------------------------- */

typedef struct counts {
    int forward, backward, gradients;
} counts;

static void write_batch(sora_t5_graph *graph)
{
    sora_error error;
    static int32_t ids[BATCH * SOURCE], decoder[BATCH * TARGET], labels[BATCH * TARGET], lengths[BATCH] = { SOURCE, SOURCE / 2 };
    for (int i = 0; i < BATCH * SOURCE; i++) ids[i] = 2 + i * 211 % 32000;
    for (int i = 0; i < BATCH * TARGET; i++) labels[i] = 2 + i * 307 % 32000;
    for (int i = 0; i < BATCH * TARGET; i++) decoder[i] = i % TARGET ? labels[i - 1] : 0;
    OK(sora_graph_write(graph->graph, graph->source, ids, BATCH, &error));
    OK(sora_graph_write(graph->graph, graph->lengths, lengths, BATCH, &error));
    OK(sora_graph_write(graph->graph, graph->decoder, decoder, BATCH, &error));
    OK(sora_graph_write(graph->graph, graph->labels, labels, BATCH, &error));
}

/* The plan is said before anything is on the device, and holds to the byte after a step. */
static void check_step(const counts *wanted)
{
    sora_error error;
    const sora_optimizer_options rule = { .weight_decay = 0.01f, .clip = 1.0f };
    sora_moment_layout moments = sora_optimizer_moments(&rule);
    sora_t5_graph graph;
    sora_optimizer *optimizer;
    bool finite;
    float norm;
    uint64_t before = sora_context_memory(context).current, scratch_before = sora_context_memory(context).libraries;
    OK(sora_t5_build(
        t5, &(sora_t5_graph_options) { .graph = { .training = true, .batch = BATCH }, .source = SOURCE, .target = TARGET },
        &graph, &error));
    sora_graph_statistics stats = sora_graph_stats(graph.graph);
    assert_int_equal(stats.forward_nodes, wanted->forward);
    assert_int_equal(stats.backward_nodes, wanted->backward);
    assert_int_equal(stats.gradients, wanted->gradients);
    uint64_t predicted =
        sora_params_device_bytes(t5->params, moments) + stats.arena_bytes + sora_optimizer_device_bytes(t5->params, &rule);
    sora_context_reset_peak(context);
    OK(sora_params_upload(t5->params, moments, &error));
    OK(sora_optimizer_create(t5->params, &rule, &optimizer, &error));
    write_batch(&graph);
    OK(sora_graph_forward(graph.graph, BATCH, 0, 0, &error));
    OK(sora_params_zero_gradients(t5->params, &error));
    OK(sora_graph_backward(graph.graph, &error));
    OK(sora_optimizer_step(optimizer, graph.graph, graph.loss,
                           &(sora_optimizer_rates) { .lr = 1e-4f, .gate_lr = 1e-4f, .xi = 1e-6f }, 1, &error));
    OK(sora_optimizer_read(optimizer, &finite, &norm, &error));
    assert_true(finite && norm > 0.0f);
    sora_memory_account used = sora_context_memory(context);
    uint64_t scratch = sora_context_memory(context).libraries - scratch_before; /* of a GPU's library */
    assert_int_equal(used.current - before, predicted + scratch);
    assert_int_equal(used.peak - before, predicted + scratch);
    for (size_t i = 0; i < sora_params_count(t5->params); i++) {
        sora_param *param = sora_params_at(t5->params, i);
        if (!sora_param_trainable(param)) assert_int_not_equal(sora_param_read(param, 3, room, NULL), SORA_OK);
    }
    sora_graph_destroy(&graph.graph);
    sora_optimizer_destroy(&optimizer);
    OK(sora_params_download(t5->params, &error));
    assert_int_equal(sora_context_memory(context).current, before + scratch);
}

/* Forward: 2 embeddings, 2 lines of relative positions, 2 last norms, the loss; of each of the 12 blocks self-attention (norm, q
 * k v, attention, o, sum) and feed-forward (norm, wi, wo, sum), and of the 6 of the decoder cross-attention (norm, q, k v,
 * attention, o, sum): 7 + 12 · 9 + 6 · 6 = 151. Gradients: every node's output, and the parameters as products take them: of the
 * 96 matrices q, k, v and k, v count once (96 − 12 · 2 − 6 = 66), 32 norms, 2 tables of positions, and the embedding, that is
 * also the head. The gradient of a sum is that of its parts, so the 12 · 2 + 6 sums have no backward. */
enum { FORWARD = 151, SUMS = 30, PRODUCTS = 66, PLAIN = 32 + 2 + 1 };

static void test_full(void **state)
{
    (void)state;
    check_step(&(counts) { FORWARD, FORWARD - SUMS, FORWARD + PRODUCTS + PLAIN });
}

/* Embeddings, positions and the first norm of each stack lead to nothing that trains: 6 more nodes have no backward. Parameters
 * with a gradient are the factors alone. */
static void test_lora(void **state)
{
    (void)state;
    adapt(SORA_ADAPTER_LORA, 16);
    check_step(&(counts) { FORWARD, FORWARD - SUMS - 6, FORWARD - 6 + 2 * PRODUCTS });
    drop_adapters();
}

static void test_sora(void **state)
{
    (void)state;
    adapt(SORA_ADAPTER_SORA, 16);
    check_step(&(counts) { FORWARD, FORWARD - SUMS - 6, FORWARD - 6 + 3 * PRODUCTS });
    drop_adapters();
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_counts), cmocka_unit_test(test_full), cmocka_unit_test(test_lora),
                                        cmocka_unit_test(test_sora) };
    return cmocka_run_group_tests(tests, open_small, close_small);
}
