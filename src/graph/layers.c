/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/structure.h"

/* Layers as functions: each is one node of the op of its name. */

#define NODE(graph, op, name, attributes, ...)                                                                 \
    sora_graph_node(graph, op, name, attributes, sizeof *(attributes), (sora_tensor *const[]) { __VA_ARGS__ }, \
                    (int)(sizeof((sora_tensor *[]) { __VA_ARGS__ }) / sizeof(sora_tensor *)))

sora_tensor *sora_linear(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight, sora_tensor *bias, bool relu)
{
    sora_linear_attributes attributes = { .relu = relu };
    return NODE(graph, &sora_op_linear, name, &attributes, x, weight, bias);
}

static int kernel_of(const sora_tensor *weight)
{
    return weight && weight->shape.rank == 4 ? (int)weight->shape.dim[3] : 0;
}

sora_tensor *sora_conv2d(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight, sora_tensor *bias)
{
    sora_conv2d_attributes attributes = { .kernel = kernel_of(weight) };
    return NODE(graph, &sora_op_conv2d, name, &attributes, x, weight, bias);
}

sora_tensor *sora_conv_transpose2d(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight, sora_tensor *bias)
{
    return sora_graph_node(graph, &sora_op_conv_transpose2d, name, NULL, 0, (sora_tensor *const[]) { x, weight, bias }, 3);
}

static sora_tensor *adapted(sora_graph *graph, const sora_op *op, const char *name, sora_tensor *x, sora_tensor *weight,
                            sora_tensor *bias, const sora_adapted_tensors *adapter)
{
    sora_adapted_attributes attributes = {
        .relu = adapter->relu, .scale = adapter->scale, .dropout = adapter->dropout, .kernel = kernel_of(weight)
    };
    return NODE(graph, op, name, &attributes, x, weight, bias, adapter->down, adapter->up, adapter->gate);
}

sora_tensor *sora_adapted_linear(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight, sora_tensor *bias,
                                 const sora_adapted_tensors *adapter)
{
    return adapted(graph, &sora_op_adapted_linear, name, x, weight, bias, adapter);
}

sora_tensor *sora_adapted_conv2d(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight, sora_tensor *bias,
                                 const sora_adapted_tensors *adapter)
{
    return adapted(graph, &sora_op_adapted_conv2d, name, x, weight, bias, adapter);
}

sora_tensor *sora_batch_norm(sora_graph *graph, const char *name, sora_tensor *x, const sora_batch_norm_tensors *tensors)
{
    sora_batch_norm_attributes attributes = {
        .epsilon = 1e-5f, .momentum = 0.1f, .frozen = tensors->frozen, .relu = tensors->relu
    };
    return NODE(graph, &sora_op_batch_norm, name, &attributes, x, tensors->gamma, tensors->beta, tensors->running_mean,
                tensors->running_variance);
}

sora_tensor *sora_max_pool2d(sora_graph *graph, const char *name, sora_tensor *x)
{
    return sora_graph_node(graph, &sora_op_max_pool2d, name, NULL, 0, &x, 1);
}

sora_tensor *sora_relu(sora_graph *graph, const char *name, sora_tensor *x)
{
    return sora_graph_node(graph, &sora_op_relu, name, NULL, 0, &x, 1);
}

sora_tensor *sora_sigmoid(sora_graph *graph, const char *name, sora_tensor *x)
{
    return sora_graph_node(graph, &sora_op_sigmoid, name, NULL, 0, &x, 1);
}

sora_tensor *sora_dropout(sora_graph *graph, const char *name, sora_tensor *x, float probability)
{
    sora_dropout_attributes attributes = { .probability = probability };
    return NODE(graph, &sora_op_dropout, name, &attributes, x);
}

sora_tensor *sora_add(sora_graph *graph, const char *name, sora_tensor *a, sora_tensor *b)
{
    return sora_graph_node(graph, &sora_op_add, name, NULL, 0, (sora_tensor *const[]) { a, b }, 2);
}

sora_tensor *sora_concat(sora_graph *graph, const char *name, sora_tensor *a, sora_tensor *b)
{
    return sora_graph_node(graph, &sora_op_concat, name, NULL, 0, (sora_tensor *const[]) { a, b }, 2);
}

sora_tensor *sora_embedding(sora_graph *graph, const char *name, sora_tensor *ids, sora_tensor *table)
{
    return sora_graph_node(graph, &sora_op_embedding, name, NULL, 0, (sora_tensor *const[]) { ids, table }, 2);
}

sora_tensor *sora_rms_norm(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight, float epsilon)
{
    sora_rms_norm_attributes attributes = { .epsilon = epsilon };
    return NODE(graph, &sora_op_rms_norm, name, &attributes, x, weight);
}

sora_tensor *sora_gated_gelu(sora_graph *graph, const char *name, sora_tensor *x)
{
    return sora_graph_node(graph, &sora_op_gated_gelu, name, NULL, 0, &x, 1);
}

sora_tensor *sora_relative_bias(sora_graph *graph, const char *name, sora_tensor *table,
                                const sora_relative_bias_options *options)
{
    sora_relative_bias_attributes attributes = {
        .queries = options->queries, .keys = options->keys, .farthest = options->farthest, .bidirectional = options->bidirectional
    };
    return NODE(graph, &sora_op_relative_bias, name, &attributes, table);
}

sora_tensor *sora_attention(sora_graph *graph, const char *name, sora_tensor *queries, const sora_attention_options *options)
{
    sora_attention_attributes attributes = {
        .heads = options->heads, .size = options->size, .causal = options->causal, .dropout = options->dropout
    };
    return NODE(graph, &sora_op_attention, name, &attributes, queries, options->keys, options->line, options->lengths);
}

sora_tensor *sora_linear_cross_entropy(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight,
                                       sora_tensor *labels, float scale, float smoothing)
{
    sora_linear_cross_entropy_attributes attributes = { .scale = scale, .smoothing = smoothing, .ignored = -100 };
    return NODE(graph, &sora_op_linear_cross_entropy, name, &attributes, x, weight, labels);
}

sora_tensor *sora_bce_with_logits(sora_graph *graph, const char *name, sora_tensor *logits, sora_tensor *target)
{
    return sora_graph_node(graph, &sora_op_bce_with_logits, name, NULL, 0, (sora_tensor *const[]) { logits, target }, 2);
}

sora_tensor *sora_mse_loss(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *target)
{
    return sora_graph_node(graph, &sora_op_mse_loss, name, NULL, 0, (sora_tensor *const[]) { x, target }, 2);
}

sora_tensor *sora_dice_loss(sora_graph *graph, const char *name, sora_tensor *probability, sora_tensor *target)
{
    return sora_graph_node(graph, &sora_op_dice_loss, name, NULL, 0, (sora_tensor *const[]) { probability, target }, 2);
}

sora_tensor *sora_sum(sora_graph *graph, const char *name, sora_tensor *x)
{
    return sora_graph_node(graph, &sora_op_sum, name, &(sora_sum_attributes) { .mean = false }, sizeof(sora_sum_attributes), &x,
                           1);
}

sora_tensor *sora_mean(sora_graph *graph, const char *name, sora_tensor *x)
{
    return sora_graph_node(graph, &sora_op_sum, name, &(sora_sum_attributes) { .mean = true }, sizeof(sora_sum_attributes), &x,
                           1);
}
