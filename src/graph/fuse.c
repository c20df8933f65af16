/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/structure.h"

#include "cl/context.h"
#include "op/conv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each pattern looks at one node and what made its first input. What is replaced has the same outputs, so nothing else
 * changes. */

static sora_node *maker(const sora_graph *graph, const sora_tensor *tensor, const sora_op *op)
{
    sora_node *node = tensor->producer >= 0 ? &graph->nodes[tensor->producer] : NULL;
    return node && node->op == op && node->outputs[0] == tensor ? node : NULL;
}

static void remove_node(sora_graph *graph, int index)
{
    sora_node *node = &graph->nodes[index];
    free(node->name);
    free(node->attributes);
    memmove(node, node + 1, (graph->node_count - (size_t)index - 1) * sizeof *node);
    graph->node_count--;
    for (size_t i = 0; i < graph->tensor_count; i++) graph->tensors[i]->producer -= graph->tensors[i]->producer > index;
}

/* Max-pool of what a batch norm made: the norm writes both, and its backward takes both gradients at once. */
static bool fuse_pool(sora_graph *graph, int index)
{
    sora_node *pool = &graph->nodes[index], *norm;
    if (pool->op != &sora_op_max_pool2d || !(norm = maker(graph, pool->inputs[0], &sora_op_batch_norm))) return false;
    const sora_shape *x = &norm->outputs[0]->shape;
    if (norm->output_count > 1 || x->dim[2] % 2 || x->dim[3] % 2) return false;
    ((sora_batch_norm_attributes *)norm->attributes)->pool = true;
    norm->outputs[1] = pool->outputs[0];
    norm->outputs[1]->producer = norm->outputs[0]->producer;
    norm->output_count = 2;
    remove_node(graph, index);
    return true;
}

/* Batch norm of what a convolution made: its statistics come with the convolution, which has every value in registers. */
static sora_status fuse_statistics(sora_graph *graph, int index, sora_error *error)
{
    sora_node *norm = &graph->nodes[index], *conv;
    if (norm->op != &sora_op_batch_norm || !graph->options.training || norm->input_count != 5) return SORA_OK;
    if (((const sora_batch_norm_attributes *)norm->attributes)->frozen) return SORA_OK;
    if (!(conv = maker(graph, norm->inputs[0], &sora_op_conv2d)) || conv->output_count > 1) return SORA_OK;
    sora_conv2d_attributes *attributes = conv->attributes;
    const sora_shape *x = &conv->inputs[0]->shape, *y = &conv->outputs[0]->shape;
    if (!sora_conv_has_statistics(&sora_context_device(graph->context)->limits, attributes->kernel, x, y->dim[1])) return SORA_OK;
    char name[160];
    snprintf(name, sizeof name, "%s:1", conv->name);
    sora_tensor *statistics =
        sora_tensor_add(graph, name, SORA_F32, SORA_SHAPE(x->dim[0], y->dim[1], sora_conv_statistics_parts(x), 3), error);
    if (!statistics) return SORA_ERROR_MEMORY;
    statistics->producer = conv->outputs[0]->producer;
    attributes->statistics = true;
    conv->outputs[conv->output_count++] = statistics;
    norm->inputs[norm->input_count++] = statistics;
    return SORA_OK;
}

static int users_of(const sora_graph *graph, const sora_tensor *tensor)
{
    int users = tensor->output;
    for (size_t n = 0; n < graph->node_count; n++)
        for (int i = 0; i < graph->nodes[n].input_count; i++) users += graph->nodes[n].inputs[i] == tensor;
    return users;
}

/* The linear layer whose ReLU made the tensor, and where its dropout stands; NULL: none. */
static sora_node *relu_maker(const sora_graph *graph, const sora_tensor *tensor, sora_relu_dropout **behind)
{
    sora_node *node = maker(graph, tensor, &sora_op_linear);
    if (node) {
        sora_linear_attributes *a = node->attributes;
        *behind = &a->behind_relu;
        return a->relu ? node : NULL;
    }
    if (!(node = maker(graph, tensor, &sora_op_adapted_linear))) return NULL;
    sora_adapted_attributes *a = node->attributes;
    *behind = &a->behind_relu;
    return a->relu ? node : NULL;
}

/* Dropout of what a linear layer's ReLU let pass: it happens in the layer's output, whose zeros are all that the way back needs
 * of both. There is room for one. */
static bool fuse_dropout(sora_graph *graph, int index)
{
    sora_node *dropout = &graph->nodes[index], *linear;
    if (dropout->op != &sora_op_dropout || users_of(graph, dropout->inputs[0]) > 1) return false;
    sora_relu_dropout *behind;
    if (!(linear = relu_maker(graph, dropout->inputs[0], &behind)) || behind->probability > 0) return false;
    *behind = (sora_relu_dropout) { .probability = ((const sora_dropout_attributes *)dropout->attributes)->probability,
                                    .stream = sora_hash_name(dropout->name) };
    linear->outputs[0] = dropout->outputs[0];
    linear->outputs[0]->producer = dropout->inputs[0]->producer;
    remove_node(graph, index);
    return true;
}

/* What a linear layer has from another's ReLU is mostly zeros, which its product may leave out; and where nothing else has it,
 * the gradient is wanted elsewhere alone. */
static void fuse_relu(sora_graph *graph, int index)
{
    sora_node *node = &graph->nodes[index];
    sora_relu_before *before = NULL;
    sora_relu_dropout *behind;
    if (node->op == &sora_op_linear)
        before = &((sora_linear_attributes *)node->attributes)->before;
    else if (node->op == &sora_op_adapted_linear)
        before = &((sora_adapted_attributes *)node->attributes)->before;
    if (!before || !relu_maker(graph, node->inputs[0], &behind)) return;
    behind->masked = users_of(graph, node->inputs[0]) == 1;
    *before = (sora_relu_before) { .zeros = true, .masks = behind->masked, .probability = behind->probability };
}

/* A sum with what dropout made: dropout adds it, under its own name, which its random numbers hang on. */
static bool fuse_residual(sora_graph *graph, int index)
{
    sora_node *sum = &graph->nodes[index], *dropout = NULL;
    int at = 2;
    while (sum->op == &sora_op_add && !dropout && at > 0) dropout = maker(graph, sum->inputs[--at], &sora_op_dropout);
    if (!dropout || dropout->input_count > 1 || users_of(graph, dropout->outputs[0]) > 1) return false;
    sora_tensor *base = sum->inputs[1 - at];
    int place = dropout->outputs[0]->producer;
    sora_node fused = *sum;
    fused.op = dropout->op;
    fused.name = dropout->name;
    fused.attributes = dropout->attributes;
    fused.inputs[0] = dropout->inputs[0];
    fused.inputs[1] = base;
    dropout->name = sum->name;
    dropout->attributes = sum->attributes;
    dropout->outputs[0]->producer = -1;
    *sum = fused;
    remove_node(graph, place);
    return true;
}

sora_status sora_graph_fuse(sora_graph *graph, sora_error *error)
{
    sora_status status = SORA_OK;
    for (int n = 0; status == SORA_OK && n < (int)graph->node_count;) {
        status = fuse_statistics(graph, n, error);
        fuse_relu(graph, n);
        n += !fuse_pool(graph, n) && !fuse_dropout(graph, n) && !fuse_residual(graph, n);
    }
    return status;
}
