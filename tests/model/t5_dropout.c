/* SPDX-License-Identifier: Apache-2.0 */
/* Where T5 drops: in training alone, other elements each step, and in every place that the published model has. */
#include "../fixture.h"
#include "graph/structure.h"
#include "model/t5.h"

enum { BATCH = 2, LENGTH = 8, LAYERS = 2 };

/* Gated, so that each dropout is a node: behind a ReLU it is the linear layer's. */
static const sora_t5_config tiny = { .vocabulary = 64,
                                     .width = 32,
                                     .heads = 2,
                                     .head_size = 16,
                                     .inner_width = 64,
                                     .encoder_layers = LAYERS,
                                     .decoder_layers = LAYERS,
                                     .dropout = 0.1f,
                                     .gated = true };
static sora_t5 *t5;

static int open_tiny(void **state)
{
    return open_context(state) || sora_t5_create(context, &tiny, 1, &t5, NULL) ? -1 : 0;
}

static int close_tiny(void **state)
{
    sora_t5_destroy(&t5);
    return close_context(state);
}

static sora_t5_graph build(bool training)
{
    sora_error error;
    sora_t5_graph graph;
    OK(sora_t5_build(
        t5, &(sora_t5_graph_options) { .graph = { .training = training, .batch = BATCH }, .source = LENGTH, .target = LENGTH },
        &graph, &error));
    return graph;
}

static float loss_at(const sora_t5_graph *graph, uint32_t step)
{
    sora_error error;
    static int32_t ids[BATCH * LENGTH], lengths[BATCH] = { LENGTH, LENGTH };
    float loss;
    for (int i = 0; i < BATCH * LENGTH; i++) ids[i] = 2 + i * 7 % 60;
    OK(sora_graph_write(graph->graph, graph->source, ids, BATCH, &error));
    OK(sora_graph_write(graph->graph, graph->lengths, lengths, BATCH, &error));
    OK(sora_graph_write(graph->graph, graph->decoder, ids, BATCH, &error));
    OK(sora_graph_write(graph->graph, graph->labels, ids, BATCH, &error));
    OK(sora_graph_forward(graph->graph, BATCH, step, 0, &error));
    OK(sora_graph_read(graph->graph, graph->loss, &loss, &error));
    return loss;
}

static void test_losses(void **state)
{
    (void)state;
    sora_error error;
    sora_t5_graph training = build(true), evaluation = build(false);
    OK(sora_params_upload(t5->params, SORA_MOMENTS_NONE, &error));
    float first = loss_at(&training, 0), second = loss_at(&training, 1), plain = loss_at(&evaluation, 0);
    assert_true(first == loss_at(&training, 0) && plain == loss_at(&evaluation, 1));
    assert_true(first != second && first != plain && second != plain);
    sora_graph_destroy(&training.graph);
    sora_graph_destroy(&evaluation.graph);
    OK(sora_params_download(t5->params, &error));
}

/* How many nodes drop activations, and how many attentions probabilities; nothing does by another share. */
static void count(const sora_graph *graph, float share, int *activations, int *attentions)
{
    *activations = *attentions = 0;
    for (size_t i = 0; i < graph->node_count; i++) {
        const sora_node *node = &graph->nodes[i];
        float got = share;
        if (node->kind != SORA_NODE_FORWARD) continue;
        if (node->op == &sora_op_dropout) {
            got = ((const sora_dropout_attributes *)node->attributes)->probability;
            ++*activations;
        } else if (node->op == &sora_op_attention) {
            got = ((const sora_attention_attributes *)node->attributes)->dropout;
            ++*attentions;
        }
        if (got != share) fail_msg("%s drops %g, expected %g", node->name, (double)got, (double)share);
    }
}

static void test_places(void **state)
{
    (void)state;
    sora_t5_graph training = build(true), evaluation = build(false);
    int activations, attentions;
    count(training.graph, tiny.dropout, &activations, &attentions);
    /* Behind the embedding and the last norm of both stacks; behind each sublayer (two in the encoder, three in the decoder) and
     * inside each feed-forward. */
    assert_int_equal(activations, 2 * 2 + LAYERS * (2 + 1) + LAYERS * (3 + 1));
    assert_int_equal(attentions, LAYERS + 2 * LAYERS);
    count(evaluation.graph, 0.0f, &activations, &attentions);
    assert_int_equal(activations, 0);
    assert_int_equal(attentions, LAYERS + 2 * LAYERS);
    sora_graph_destroy(&training.graph);
    sora_graph_destroy(&evaluation.graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_losses), cmocka_unit_test(test_places) };
    return cmocka_run_group_tests(tests, open_tiny, close_tiny);
}
