/* SPDX-License-Identifier: Apache-2.0 */
#include "model/t5.h"

#include "graph/graph.h"

#include <stdio.h>

enum { Q, K, V, O };

/* A node's name: module and part. Dropout's random numbers hang on it. */
typedef struct node_name {
    char text[160];
} node_name;

static node_name join(const char *module, const char *part)
{
    node_name name;
    snprintf(name.text, sizeof name.text, "%s.%s", module, part);
    return name;
}

typedef struct builder {
    sora_graph *graph;
    sora_t5 *t5;
    bool training;
} builder;

static sora_tensor *drop(const builder *b, const char *module, const char *part, sora_tensor *x)
{
    float probability = b->t5->config.dropout;
    return b->training && probability > 0.0f ? sora_dropout(b->graph, join(module, part).text, x, probability) : x;
}

static sora_tensor *norm(const builder *b, sora_param *weight, sora_tensor *x)
{
    return sora_rms_norm(b->graph, sora_param_name(weight), x, sora_graph_param(b->graph, weight), b->t5->config.epsilon);
}

/* What every sublayer ends with: its last product, dropout, and the sum with what came in. */
static sora_tensor *finish(const builder *b, const char *module, sora_layer *last, sora_tensor *inner, sora_tensor *x)
{
    sora_tensor *y = drop(b, module, "dropout", sora_layer_forward(b->graph, last, inner, false));
    return sora_add(b->graph, join(module, "residual").text, x, y);
}

static sora_tensor *self_attention(const builder *b, const sora_t5_attention *a, sora_tensor *x, sora_tensor *line,
                                   sora_tensor *lengths, bool causal)
{
    const sora_t5_config *c = &b->t5->config;
    sora_tensor *qkv = sora_layers_forward(b->graph, join(a->name, "qkv").text, a->qkvo, 3, norm(b, a->norm, x));
    sora_tensor *y = sora_attention(b->graph, a->name, qkv,
                                    &(sora_attention_options) { .line = line,
                                                                .lengths = lengths,
                                                                .heads = c->heads,
                                                                .size = c->head_size,
                                                                .causal = causal,
                                                                .dropout = b->training ? c->dropout : 0.0f });
    return finish(b, a->name, a->qkvo[O], y, x);
}

static sora_tensor *cross_attention(const builder *b, const sora_t5_attention *a, sora_tensor *x, sora_tensor *memory,
                                    sora_tensor *lengths)
{
    const sora_t5_config *c = &b->t5->config;
    sora_tensor *q = sora_layer_forward(b->graph, a->qkvo[Q], norm(b, a->norm, x), false);
    sora_tensor *kv = sora_layers_forward(b->graph, join(a->name, "kv").text, &a->qkvo[K], 2, memory);
    sora_tensor *y = sora_attention(b->graph, a->name, q,
                                    &(sora_attention_options) { .keys = kv,
                                                                .lengths = lengths,
                                                                .heads = c->heads,
                                                                .size = c->head_size,
                                                                .dropout = b->training ? c->dropout : 0.0f });
    return finish(b, a->name, a->qkvo[O], y, x);
}

static sora_tensor *feed_forward(const builder *b, const sora_t5_feed_forward *f, sora_tensor *x)
{
    sora_tensor *y = norm(b, f->norm, x);
    if (f->in[1])
        y = sora_gated_gelu(b->graph, join(f->name, "gate").text,
                            sora_layers_forward(b->graph, join(f->name, "wi").text, f->in, 2, y));
    else
        y = sora_layer_forward(b->graph, f->in[0], y, true);
    return finish(b, f->name, f->out, drop(b, f->name, "inner_dropout", y), x);
}

static sora_tensor *embed(const builder *b, const char *stack, sora_tensor *ids)
{
    sora_tensor *x = sora_embedding(b->graph, join(stack, "embed_tokens").text, ids, sora_graph_param(b->graph, b->t5->shared));
    return drop(b, stack, "dropout", x);
}

static sora_tensor *positions(const builder *b, const sora_t5_stack *stack, int length, bool bidirectional)
{
    const sora_t5_config *c = &b->t5->config;
    return sora_relative_bias(b->graph, sora_param_name(stack->bias), sora_graph_param(b->graph, stack->bias),
                              &(sora_relative_bias_options) {
                                  .queries = length, .keys = length, .farthest = c->farthest, .bidirectional = bidirectional });
}

sora_tensor *sora_t5_encode(sora_graph *graph, sora_t5 *t5, sora_tensor *source, sora_tensor *lengths, bool training)
{
    builder b = { graph, t5, training };
    const sora_t5_stack *stack = &t5->encoder;
    int length = (int)sora_tensor_shape(source).dim[1];
    sora_tensor *x = embed(&b, "encoder", source), *line = positions(&b, stack, length, true);
    for (int i = 0; i < stack->count; i++) {
        x = self_attention(&b, &stack->blocks[i].self, x, line, lengths, false);
        x = feed_forward(&b, &stack->blocks[i].feed_forward, x);
    }
    return drop(&b, "encoder", "final_dropout", norm(&b, stack->norm, x));
}

/* Padding stands behind the text, and no position looks ahead: the decoder needs no lengths of its own. */
static sora_tensor *decode(const builder *b, sora_tensor *ids, sora_tensor *memory, sora_tensor *lengths)
{
    const sora_t5_stack *stack = &b->t5->decoder;
    int length = (int)sora_tensor_shape(ids).dim[1];
    sora_tensor *x = embed(b, "decoder", ids), *line = positions(b, stack, length, false);
    for (int i = 0; i < stack->count; i++) {
        x = self_attention(b, &stack->blocks[i].self, x, line, NULL, true);
        x = cross_attention(b, &stack->blocks[i].cross, x, memory, lengths);
        x = feed_forward(b, &stack->blocks[i].feed_forward, x);
    }
    return drop(b, "decoder", "final_dropout", norm(b, stack->norm, x));
}

sora_status sora_t5_build(sora_t5 *t5, const sora_t5_graph_options *options, sora_t5_graph *out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5_graph built = { 0 };
    int batch = options->graph.batch;
    *out = built;
    SORA_TRY(sora_graph_create(t5->params, &options->graph, &built.graph, error));
    sora_graph *graph = built.graph;
    builder b = { graph, t5, options->graph.training };
    built.source = sora_graph_input(graph, "source", SORA_I32, SORA_SHAPE(batch, options->source));
    built.lengths = sora_graph_input(graph, "lengths", SORA_I32, SORA_SHAPE(batch));
    built.decoder = sora_graph_input(graph, "decoder", SORA_I32, SORA_SHAPE(batch, options->target));
    built.labels = sora_graph_input(graph, "labels", SORA_I32, SORA_SHAPE(batch, options->target));
    sora_tensor *memory = sora_t5_encode(graph, t5, built.source, built.lengths, b.training);
    sora_tensor *hidden = decode(&b, built.decoder, memory, built.lengths);
    built.loss = sora_linear_cross_entropy(graph, "loss", hidden, sora_graph_param(graph, t5->head), built.labels,
                                           sora_t5_head_scale(t5), options->smoothing);
    sora_graph_output(graph, built.loss);
    if (options->keep_hidden) {
        built.hidden = hidden;
        sora_graph_output(graph, hidden);
    }
    /* With every rank at 0 there is nothing to train, and no way back. */
    bool trains = options->graph.training && sora_params_trainable_elements(t5->params) > 0;
    SORA_TRY(sora_graph_plan(graph, trains ? built.loss : NULL, error));
    *out = built;
    built.graph = NULL;
cleanup:
    sora_graph_destroy(&built.graph);
    return status;
}
