/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/structure.h"

#include <stdlib.h>

/* What a cheap op made and the way back reads is not kept for it but made again, just before its first reader there: by the same
 * launches from tensors that are kept anyway, or are made again themselves. */

enum { UNKNOWN = 0, POSSIBLE, IMPOSSIBLE };

typedef struct search {
    sora_graph *graph;
    bool *needed;          /* of each tensor: the way back reads it */
    unsigned char *answer; /* whether it can be made again */
    int *before;           /* of each node that is added: the node it has to come before */
    size_t tensors;        /* before any was added */
} search;

sora_tensor *sora_tensor_again(sora_tensor *tensor)
{
    return tensor && tensor->again ? tensor->again : tensor;
}

/* Calls `visit` for each tensor of the forward part that a backward node reads. */
static sora_status each_read(search *s, int index,
                             sora_status (*visit)(search *s, sora_tensor *read, int index, sora_error *error), sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_node back = s->graph->nodes[index]; /* visiting may move the array */
    if (back.kind != SORA_NODE_BACKWARD) return SORA_OK;
    const sora_node forward = s->graph->nodes[back.forward];
    for (int i = 0; i < forward.input_count; i++)
        if (forward.inputs[i] && (back.op->uses_inputs >> i & 1)) SORA_TRY(visit(s, forward.inputs[i], index, error));
    for (int i = 0; i < forward.output_count; i++)
        if (forward.uses_outputs >> i & 1) SORA_TRY(visit(s, forward.outputs[i], index, error));
cleanup:
    return status;
}

/* A reshape is in its base's memory: before concatenations are placed no other tensor of the forward part has one. */
static sora_status mark(search *s, sora_tensor *read, int index, sora_error *error)
{
    (void)index;
    (void)error;
    for (const sora_tensor *t = read; t; t = t->base) s->needed[t->index] = true;
    return SORA_OK;
}

static bool is_joined(const search *s, const sora_tensor *tensor)
{
    bool joined = false;
    for (int n = 0; n < s->graph->forward_nodes; n++) {
        const sora_node *node = &s->graph->nodes[n];
        for (int i = 0; node->op == &sora_op_concat && i < node->input_count; i++) joined |= node->inputs[i] == tensor;
    }
    return joined;
}

static bool can_make(search *s, const sora_tensor *tensor);

static bool is_there(search *s, const sora_tensor *tensor)
{
    return !tensor || tensor->param || tensor->input || tensor->output || s->needed[tensor->index] || can_make(s, tensor);
}

static bool look(search *s, const sora_tensor *tensor)
{
    if (tensor->param || tensor->input || tensor->output || tensor->producer < 0) return false;
    if (tensor->base) return can_make(s, tensor->base);
    const sora_node *node = &s->graph->nodes[tensor->producer];
    /* Parts of a concatenation are kept with it. */
    if (!node->op->cheap || is_joined(s, node->outputs[0])) return false;
    bool possible = true;
    for (int i = 0; possible && i < node->input_count; i++) possible = is_there(s, node->inputs[i]);
    return possible;
}

static bool can_make(search *s, const sora_tensor *tensor)
{
    unsigned char *answer = &s->answer[tensor->index];
    if (*answer == UNKNOWN) *answer = look(s, tensor) ? POSSIBLE : IMPOSSIBLE;
    return *answer == POSSIBLE;
}

static sora_status add_copy(search *s, sora_tensor *of, sora_error *error)
{
    sora_tensor *copy = sora_tensor_add(s->graph, of->name, of->dtype, of->shape, error);
    if (!copy) return SORA_ERROR_MEMORY;
    copy->of = of;
    of->again = copy;
    return SORA_OK;
}

static sora_status make(search *s, sora_tensor *tensor, int before, sora_error *error)
{
    sora_status status = SORA_OK;
    if (tensor->again || !can_make(s, tensor)) return SORA_OK;
    if (tensor->base) {
        SORA_TRY(make(s, tensor->base, before, error));
        SORA_TRY(add_copy(s, tensor, error));
        tensor->again->base = tensor->base->again;
        tensor->again->sliced = tensor->sliced;
        return SORA_OK;
    }
    const sora_node node = s->graph->nodes[tensor->producer];
    for (int i = 0; i < node.input_count; i++)
        if (node.inputs[i] && !node.inputs[i]->param) SORA_TRY(make(s, node.inputs[i], before, error));
    for (int i = 0; i < node.output_count; i++) SORA_TRY(add_copy(s, node.outputs[i], error));
    sora_node *added;
    SORA_TRY(sora_node_add(s->graph, SORA_NODE_AGAIN, node.name, &added, error));
    s->before[added - s->graph->nodes] = before;
    added->op = node.op;
    added->forward = tensor->producer;
    added->forward_workspace = node.forward_workspace;
cleanup:
    return status;
}

/* Nodes from `first` on, which were added behind all, go where they belong, in the order in which they were added. */
static sora_status put_in_order(search *s, size_t first, sora_error *error)
{
    sora_graph *graph = s->graph;
    sora_node *order;
    size_t next = first, count = 0, all = graph->node_count;
    sora_status status = sora_allocate(all, sizeof *order, "order of nodes", &order, error);
    if (status != SORA_OK) return status;
    for (size_t n = 0; n < first; n++) {
        while (next < all && s->before[next] == (int)n) order[count++] = graph->nodes[next++];
        order[count++] = graph->nodes[n];
    }
    for (size_t n = 0; n < all; n++) graph->nodes[n] = order[n];
    free(order);
    return SORA_OK;
}

sora_status sora_graph_recompute(sora_graph *graph, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t nodes = graph->node_count;
    search s = { .graph = graph, .tensors = graph->tensor_count };
    SORA_TRY(sora_allocate(s.tensors, sizeof *s.needed, "tensors made again", &s.needed, error));
    SORA_TRY(sora_allocate(s.tensors, sizeof *s.answer, "tensors made again", &s.answer, error));
    SORA_TRY(sora_allocate(nodes + (size_t)graph->forward_nodes, sizeof *s.before, "tensors made again", &s.before, error));
    for (size_t n = (size_t)graph->forward_nodes; n < nodes; n++) SORA_TRY(each_read(&s, (int)n, mark, error));
    for (size_t n = (size_t)graph->forward_nodes; n < nodes; n++) SORA_TRY(each_read(&s, (int)n, make, error));
    SORA_TRY(put_in_order(&s, nodes, error));
cleanup:
    free(s.needed);
    free(s.answer);
    free(s.before);
    return status;
}
