/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/structure.h"

#include <stdlib.h>
#include <string.h>

/* Each pattern looks at one node and what made its first input. What is replaced has the same outputs, so nothing else changes.
 */

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

void sora_graph_fuse(sora_graph *graph)
{
    for (int n = 0; n < (int)graph->node_count;) n += !fuse_pool(graph, n);
}
