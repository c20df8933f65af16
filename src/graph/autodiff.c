/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/structure.h"

#include <stdio.h>
#include <stdlib.h>

/* Reverse mode: nodes are visited from the loss back, so all that flows into a tensor is known when its producer is reached.
 * What several consumers send is summed pairwise, in the order of their visit. */

typedef struct contributions {
    sora_tensor **items;
    size_t count, capacity;
} contributions;

static sora_status add_gradient(sora_graph *graph, const sora_tensor *of, sora_tensor **out, sora_error *error)
{
    char name[160];
    snprintf(name, sizeof name, "%s gradient", of->name);
    *out = sora_tensor_add(graph, name, SORA_F32, of->shape, error);
    if (!*out) return SORA_ERROR_MEMORY;
    (*out)->of = of;
    return SORA_OK;
}

/* The shape of x's gradient where a node of `op` is the only one to make it: of a concatenation the trailing inputs may want
 * none. */
static sora_shape wanted_part(const sora_graph *graph, const sora_op *op, const sora_tensor *x)
{
    sora_shape shape = x->shape;
    int consumers = 0;
    for (int n = 0; n < graph->forward_nodes; n++)
        for (int i = 0; i < graph->nodes[n].input_count; i++) consumers += graph->nodes[n].inputs[i] == x;
    const sora_node *joins = x->producer >= 0 ? &graph->nodes[x->producer] : NULL;
    if (graph->options.unfused || !op->gradient_leading || consumers != 1 || !joins || joins->op != &sora_op_concat) return shape;
    for (int i = joins->input_count - 1; i > 0 && !joins->inputs[i]->wants_gradient; i--)
        shape.dim[1] -= joins->inputs[i]->shape.dim[1];
    return shape;
}

static sora_status contribute(contributions *to, sora_tensor *gradient, sora_error *error)
{
    sora_status status = sora_reserve(&to->items, &to->capacity, to->count + 1, sizeof *to->items, error);
    if (status == SORA_OK) to->items[to->count++] = gradient;
    return status;
}

/* The node that makes a gradient, where it can add another to it. */
static sora_node *adding_node(const sora_graph *graph, const sora_tensor *gradient)
{
    for (size_t n = (size_t)graph->forward_nodes; !graph->options.unfused && n < graph->node_count; n++) {
        sora_node *node = &graph->nodes[n];
        if (node->kind == SORA_NODE_BACKWARD && node->input_gradients[0] == gradient)
            return node->op->gradient_adds ? node : NULL;
    }
    return NULL;
}

/* Nodes that can add to the gradient that they make are given the one before it, which is there when they run. */
static void add_on_the_way(const sora_graph *graph, contributions *from)
{
    size_t left = 0;
    for (size_t i = 0; i < from->count; i++) {
        sora_node *node = left > 0 ? adding_node(graph, from->items[i]) : NULL;
        if (node && sora_tensor_fits(from->items[left - 1], node->op)) node->besides = from->items[--left];
        from->items[left++] = from->items[i];
    }
    from->count = left;
}

/* *out = op of gradients of the same tensor. */
static sora_status add_sum(sora_graph *graph, const sora_op *op, const sora_tensor *of, sora_tensor *a, sora_tensor *b,
                           sora_tensor **out, sora_error *error)
{
    sora_node *node;
    sora_status status = add_gradient(graph, of, out, error);
    if (status == SORA_OK) status = sora_node_add(graph, SORA_NODE_SUM, (*out)->name, &node, error);
    if (status != SORA_OK) return status;
    node->op = op;
    node->inputs[0] = a;
    node->inputs[1] = b;
    node->input_count = b ? 2 : 1;
    node->outputs[0] = *out;
    node->output_count = 1;
    return SORA_OK;
}

/* tensor->gradient from what flowed into it; stays NULL where nothing did. */
static sora_status settle(sora_graph *graph, sora_tensor *tensor, contributions *from, sora_error *error)
{
    sora_status status = SORA_OK;
    if (from->count == 0) return SORA_OK;
    add_on_the_way(graph, from);
    sora_tensor *sum = from->items[0];
    for (size_t i = 1; i < from->count; i++) SORA_TRY(add_sum(graph, &sora_op_add, tensor, from->items[i], sum, &sum, error));
    tensor->gradient = sum;
    graph->statistics.gradients++;
cleanup:
    return status;
}

/* Slices, reshapes and sums need no launch: their gradient is a part of what is there, or all of it. */
static sora_status pass_part(sora_graph *graph, sora_tensor *of, sora_tensor *gradient, int64_t offset, contributions *to,
                             sora_error *error)
{
    sora_tensor *part;
    sora_status status = add_gradient(graph, of, &part, error);
    if (status != SORA_OK) return status;
    part->base = gradient;
    part->base_offset = offset;
    part->sliced = true;
    return contribute(to, part, error);
}

static sora_status differentiate_node(sora_graph *graph, int index, contributions *flows, bool *param_seen, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_node node = graph->nodes[index]; /* adding nodes moves the array */
    sora_tensor *gradients[SORA_OP_MAX_OUTPUTS] = { NULL };
    bool any = false;
    for (int i = 0; i < node.output_count; i++) {
        SORA_TRY(settle(graph, node.outputs[i], &flows[node.outputs[i]->index], error));
        gradients[i] = node.outputs[i]->gradient;
        any |= gradients[i] != NULL;
    }
    if (!any) return SORA_OK;
    if (node.kind == SORA_NODE_ALIAS || node.op == &sora_op_concat) {
        int64_t offset = 0;
        for (int i = 0; i < node.input_count; i++) {
            sora_tensor *x = node.inputs[i];
            if (x->wants_gradient) SORA_TRY(pass_part(graph, x, gradients[0], offset, &flows[x->index], error));
            offset += sora_shape_elements(&x->shape) / x->shape.dim[0];
        }
        return SORA_OK;
    }
    if (!node.op->backward) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: %s has no backward", node.name, node.op->name);
    sora_node back = { .forward = index };
    bool wanted = false;
    for (int i = 0; i < node.input_count; i++) {
        sora_tensor *x = node.inputs[i];
        if (!x || !x->wants_gradient || !(node.op->differentiable >> i & 1)) continue;
        if (x->param && !(node.op->parameters >> i & 1))
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: %s takes %s as an activation; a trainable parameter can't stand there",
                      node.name, node.op->name, x->name);
        if (node.op->passes >> i & 1) {
            SORA_TRY(pass_part(graph, x, gradients[0], 0, &flows[x->index], error));
            continue;
        }
        wanted = true;
        if (x->param) {
            back.parameter_gradients[i] = true;
            graph->statistics.gradients += !param_seen[x->index];
            param_seen[x->index] = true;
        } else {
            SORA_TRY(add_gradient(graph, x, &back.input_gradients[i], error));
            if (i == 0) back.input_gradients[i]->shape = wanted_part(graph, node.op, x);
            SORA_TRY(contribute(&flows[x->index], back.input_gradients[i], error));
        }
    }
    if (!wanted) return SORA_OK;
    /* A slice of a concatenation's gradient goes where it has no gaps first: a concatenation of one is a copy. */
    for (int i = 0; i < node.output_count; i++)
        if (gradients[i] && !sora_tensor_fits(gradients[i], node.op))
            SORA_TRY(add_sum(graph, &sora_op_concat, node.outputs[i], gradients[i], NULL, &gradients[i], error));
    sora_node *added;
    SORA_TRY(sora_node_add(graph, SORA_NODE_BACKWARD, node.name, &added, error));
    added->op = node.op;
    added->forward = index;
    for (int i = 0; i < SORA_OP_MAX_OUTPUTS; i++) added->output_gradients[i] = gradients[i];
    for (int i = 0; i < SORA_OP_MAX_INPUTS; i++) {
        added->input_gradients[i] = back.input_gradients[i];
        added->parameter_gradients[i] = back.parameter_gradients[i];
    }
    added->backward_workspace = node.backward_workspace;
    graph->statistics.backward_nodes++;
cleanup:
    return status;
}

sora_status sora_graph_differentiate(sora_graph *graph, sora_tensor *loss, sora_error *error)
{
    sora_status status = SORA_OK;
    char text[80];
    sora_node *seed;
    sora_tensor *one;
    /* Contributions only ever go to tensors of the forward part. */
    size_t tensors = graph->tensor_count;
    contributions *flows = NULL;
    bool *param_seen = NULL;
    if (!graph->options.training)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: a graph for evaluation can't be differentiated", loss->name);
    if (sora_shape_elements(&loss->shape) != 1 || loss->shape.rank != 1)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: a loss must be a scalar [1], this is %s", loss->name,
                  sora_shape_text(&loss->shape, text));
    if (!loss->wants_gradient) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: depends on no trainable parameter", loss->name);
    SORA_TRY(sora_allocate(tensors, sizeof *flows, "gradients", &flows, error));
    SORA_TRY(sora_allocate(tensors, sizeof *param_seen, "gradients", &param_seen, error));
    graph->loss = loss;
    loss->output = true;
    SORA_TRY(add_gradient(graph, loss, &one, error));
    SORA_TRY(sora_node_add(graph, SORA_NODE_SEED, loss->name, &seed, error));
    seed->outputs[0] = one;
    seed->output_count = 1;
    SORA_TRY(contribute(&flows[loss->index], one, error));
    for (int n = graph->forward_nodes - 1; n >= 0; n--) SORA_TRY(differentiate_node(graph, n, flows, param_seen, error));
cleanup:
    for (size_t i = 0; flows && i < tensors; i++) free(flows[i].items);
    free(flows);
    free(param_seen);
    return status;
}
