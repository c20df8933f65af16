/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/structure.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Offsets are multiples of this many bytes: two common cache lines, and what sub-word vector loads like. */
#define ALIGNMENT 128
#define FOREVER INT_MAX

/* ---- Which tensors are parts of others --------------------------------------------------------------------------- */

const sora_tensor *sora_tensor_root(const sora_tensor *tensor, int64_t *offset)
{
    *offset = 0;
    while (tensor->base) {
        *offset += tensor->base_offset;
        tensor = tensor->base;
    }
    return tensor;
}

int64_t sora_tensor_stride(const sora_tensor *tensor)
{
    while (tensor->base && tensor->sliced) tensor = tensor->base;
    return sora_shape_elements(&tensor->shape) / tensor->shape.dim[0];
}

static const sora_tensor *root_of(const sora_tensor *tensor)
{
    int64_t offset;
    return sora_tensor_root(tensor, &offset);
}

bool sora_tensor_fits(const sora_tensor *tensor, const sora_op *op)
{
    bool dense = sora_tensor_stride(tensor) == sora_shape_elements(&tensor->shape) / tensor->shape.dim[0];
    return dense || !(op->dense >> tensor->shape.rank & 1);
}

/* Whether `tensor`, or what is seen as another shape of it, is of a node that takes it dense. */
static bool is_taken_dense(const sora_graph *graph, const sora_tensor *tensor)
{
    for (int n = 0; n < graph->forward_nodes; n++) {
        const sora_node *node = &graph->nodes[n];
        for (int i = 0; node->op && i < node->input_count + node->output_count; i++) {
            const sora_tensor *t = i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
            if (t && (node->op->dense >> t->shape.rank & 1) && root_of(t) == tensor) return true;
        }
    }
    return false;
}

/* A concatenation whose inputs can all be written in their place launches nothing. */
static void place_concatenations(sora_graph *graph)
{
    for (int n = 0; n < graph->forward_nodes; n++) {
        sora_node *node = &graph->nodes[n];
        bool possible = node->op == &sora_op_concat;
        for (int i = 0; possible && i < node->input_count; i++) {
            const sora_tensor *x = node->inputs[i];
            possible = !x->base && !x->param && !x->input && !is_taken_dense(graph, x);
            for (int j = 0; j < i; j++) possible &= node->inputs[j] != x;
        }
        if (!possible) continue;
        int64_t offset = 0;
        for (int i = 0; i < node->input_count; i++) {
            sora_tensor *x = node->inputs[i];
            x->base = node->outputs[0];
            x->base_offset = offset;
            x->sliced = true;
            offset += sora_shape_elements(&x->shape) / x->shape.dim[0];
        }
        node->elided = true;
    }
}

/* ---- Lifetimes --------------------------------------------------------------------------------------------------- */

typedef void see_tensor(sora_tensor *tensor, void *state);

static void see(see_tensor *f, sora_tensor *tensor, void *state)
{
    if (tensor && !tensor->param) f(tensor, state);
}

static void see_backward(const sora_graph *graph, const sora_node *node, see_tensor *f, void *state)
{
    const sora_node *forward = &graph->nodes[node->forward];
    for (int i = 0; i < forward->input_count; i++)
        if (node->op->uses_inputs >> i & 1) see(f, sora_tensor_again(forward->inputs[i]), state);
    for (int i = 0; i < forward->output_count; i++) {
        if (forward->uses_outputs >> i & 1) see(f, sora_tensor_again(forward->outputs[i]), state);
        see(f, node->output_gradients[i], state);
    }
    for (int i = 0; i < SORA_OP_MAX_SAVED; i++) see(f, forward->saved[i], state);
    for (int i = 0; i < SORA_OP_MAX_INPUTS; i++) see(f, node->input_gradients[i], state);
    see(f, node->besides, state);
}

static void see_again(const sora_graph *graph, const sora_node *node, see_tensor *f, void *state)
{
    const sora_node *forward = &graph->nodes[node->forward];
    for (int i = 0; i < forward->input_count; i++) see(f, sora_tensor_again(forward->inputs[i]), state);
    for (int i = 0; i < forward->output_count; i++) see(f, sora_tensor_again(forward->outputs[i]), state);
    for (int i = 0; i < SORA_OP_MAX_SAVED; i++) see(f, forward->saved[i], state);
}

/* Calls f for each tensor, parameters aside, that the node reads or writes. */
static void see_tensors(const sora_graph *graph, const sora_node *node, see_tensor *f, void *state)
{
    if (node->kind == SORA_NODE_BACKWARD) see_backward(graph, node, f, state);
    if (node->kind == SORA_NODE_AGAIN) see_again(graph, node, f, state);
    for (int i = 0; i < node->input_count; i++) see(f, node->inputs[i], state);
    for (int i = 0; i < node->output_count; i++) see(f, node->outputs[i], state);
    for (int i = 0; i < SORA_OP_MAX_SAVED; i++) see(f, node->saved[i], state);
}

static void touch(sora_tensor *tensor, void *time)
{
    tensor->first = SORA_MIN(tensor->first, *(const int *)time);
    tensor->last = SORA_MAX(tensor->last, *(const int *)time);
}

static sora_status add_workspace(sora_graph *graph, int index, sora_error *error)
{
    sora_node *node = &graph->nodes[index];
    uint64_t elements = node->kind == SORA_NODE_BACKWARD ? node->backward_workspace : node->forward_workspace;
    if (elements == 0 || node->elided) return SORA_OK;
    if (elements > INT32_MAX)
        return sora_fail(error, SORA_ERROR_MEMORY, "%s: needs scratch of %llu elements", node->name,
                         (unsigned long long)elements);
    node->workspace = sora_tensor_add(graph, node->name, SORA_F32, SORA_SHAPE((int64_t)elements), error);
    return node->workspace ? SORA_OK : SORA_ERROR_MEMORY;
}

static void find_lifetimes(sora_graph *graph)
{
    for (size_t i = 0; i < graph->tensor_count; i++) {
        sora_tensor *t = graph->tensors[i];
        t->first = FOREVER;
        t->last = -1;
        /* An input must still be there when a failed step is run again to find its NaN. */
        if (t->input) t->first = 0;
        if (t->input || t->output) t->last = FOREVER;
    }
    for (size_t n = 0; n < graph->node_count; n++) {
        int time = (int)n;
        see_tensors(graph, &graph->nodes[n], touch, &time);
        see(touch, graph->nodes[n].workspace, &time);
    }
}

/* A root lives as long as any of its parts; *roots is first and last of each tensor's root, kept at the root. */
static void extend_roots(sora_graph *graph)
{
    for (size_t i = 0; i < graph->tensor_count; i++) {
        sora_tensor *t = graph->tensors[i], *root = (sora_tensor *)root_of(t);
        if (root == t) continue;
        root->first = SORA_MIN(root->first, t->first);
        root->last = SORA_MAX(root->last, t->last);
    }
}

/* ---- In place ---------------------------------------------------------------------------------------------------- */

/* Lets `out` stand in the memory of `x`, whose last use is this node. */
static bool join(sora_tensor *x, sora_tensor *out, int time, sora_tensor *const *others, int other_count)
{
    if (!x || !out || out->base || out->param) return false;
    sora_tensor *root = (sora_tensor *)root_of(x);
    if (root->param || root->input || root->last != time || root == out) return false;
    if (sora_shape_elements(&root->shape) != sora_shape_elements(&out->shape) || sora_tensor_stride(x) != sora_tensor_stride(out))
        return false;
    for (int i = 0; i < other_count; i++)
        if (others[i] && others[i] != x && root_of(others[i]) == root) return false;
    out->base = x;
    out->base_offset = 0;
    out->sliced = true;
    root->last = SORA_MAX(root->last, out->last);
    return true;
}

static void join_in_place(sora_graph *graph)
{
    for (size_t n = 0; n < graph->node_count; n++) {
        sora_node *node = &graph->nodes[n];
        if ((node->kind == SORA_NODE_FORWARD && !node->elided) || node->kind == SORA_NODE_SUM) {
            for (int i = 0; i < node->input_count; i++)
                if ((node->op->in_place >> i & 1) &&
                    join(node->inputs[i], node->outputs[0], (int)n, node->inputs, node->input_count))
                    break;
        } else if (node->kind == SORA_NODE_BACKWARD) {
            sora_tensor *const *dx = node->input_gradients;
            if (!join(node->besides, dx[0], (int)n, node->output_gradients, SORA_OP_MAX_OUTPUTS) && node->op->gradient_in_place)
                join(node->output_gradients[0], dx[0], (int)n, dx, SORA_OP_MAX_INPUTS);
        }
    }
}

/* ---- Offsets ----------------------------------------------------------------------------------------------------- */

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static sora_status make_blocks(sora_graph *graph, sora_error *error)
{
    bool separate = graph->options.policy == SORA_PLAN_SEPARATE;
    for (size_t i = 0; i < graph->tensor_count; i++) {
        sora_tensor *t = graph->tensors[i];
        if (t->param || t->base || t->last < 0) continue;
        sora_status status =
            sora_reserve(&graph->blocks, &graph->block_capacity, graph->block_count + 1, sizeof *graph->blocks, error);
        if (status != SORA_OK) return status;
        uint64_t elements = (uint64_t)sora_shape_elements(&t->shape) + (separate ? 2 * SORA_GUARD : 0);
        t->block = (int)graph->block_count;
        graph->blocks[graph->block_count++] = (sora_block) { .name = t->name,
                                                             .bytes = elements * sizeof(float),
                                                             .first = separate ? 0 : t->first,
                                                             .last = separate ? FOREVER : t->last };
    }
    return SORA_OK;
}

static int larger_first(const void *a, const void *b)
{
    const sora_block *x = *(sora_block *const *)a, *y = *(sora_block *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return (x > y) - (x < y);
}

/* Into placed[count], which is in order of offsets. */
static void insert(sora_block *block, sora_block **placed, size_t count)
{
    size_t at = count;
    for (; at > 0 && placed[at - 1]->offset > block->offset; at--) placed[at] = placed[at - 1];
    placed[at] = block;
}

/* The lowest place in one space of `limit`-sized chunks that no block of an overlapping lifetime takes. placed[] is in order of
 * offsets, which run through all chunks here. */
static uint64_t lowest_place(const sora_block *block, sora_block *const *placed, size_t count, uint64_t limit)
{
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const sora_block *p = placed[i];
        if (p->last < block->first || p->first > block->last) continue;
        if (at / limit != (at + block->bytes - 1) / limit) at = (at / limit + 1) * limit;
        if (at + block->bytes <= p->offset) return at;
        at = SORA_MAX(at, aligned(p->offset + p->bytes));
    }
    if (at / limit != (at + block->bytes - 1) / limit) at = (at / limit + 1) * limit;
    return at;
}

/* Greedy by size (Pisarchyk & Lee, arXiv 2001.03288): the largest first, each at the lowest place that is free in its
 * lifetime. */
static sora_status assign_offsets(sora_graph *graph, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_block **order = NULL, **placed = NULL;
    uint64_t limit = sora_buffer_most(&sora_context_device(graph->context)->limits) / ALIGNMENT * ALIGNMENT, end = 0;
    SORA_TRY(sora_allocate(graph->block_count, sizeof *order, "plan", &order, error));
    SORA_TRY(sora_allocate(graph->block_count, sizeof *placed, "plan", &placed, error));
    for (size_t i = 0; i < graph->block_count; i++) order[i] = &graph->blocks[i];
    qsort(order, graph->block_count, sizeof *order, larger_first);
    for (size_t i = 0; i < graph->block_count; i++) {
        sora_block *block = order[i];
        if (block->bytes > limit)
            SORA_FAIL(error, SORA_ERROR_MEMORY,
                      "%s: %.1f MiB in one piece; the device allocates at most %.1f MiB. Try a smaller --batch or --size",
                      block->name, (double)block->bytes / 1048576, (double)limit / 1048576);
        block->offset = lowest_place(block, placed, i, limit);
        end = SORA_MAX(end, block->offset + block->bytes);
        insert(block, placed, i);
    }
    graph->chunk_count = (size_t)((end + limit - 1) / limit);
    SORA_TRY(sora_allocate(graph->chunk_count, sizeof *graph->chunk_bytes, "plan", &graph->chunk_bytes, error));
    for (size_t i = 0; i < graph->block_count; i++) {
        sora_block *block = &graph->blocks[i];
        block->chunk = (size_t)(block->offset / limit);
        block->offset %= limit;
        graph->chunk_bytes[block->chunk] = SORA_MAX(graph->chunk_bytes[block->chunk], aligned(block->offset + block->bytes));
    }
cleanup:
    free(order);
    free(placed);
    return status;
}

static uint64_t largest_live(const sora_graph *graph)
{
    uint64_t most = 0;
    for (size_t time = 0; time < graph->node_count; time++) {
        uint64_t live = 0;
        for (size_t i = 0; i < graph->block_count; i++)
            if (graph->blocks[i].first <= (int)time && (int)time <= graph->blocks[i].last) live += graph->blocks[i].bytes;
        most = SORA_MAX(most, live);
    }
    return most;
}

/* ---- What a step moves ------------------------------------------------------------------------------------------- */

static void add_bytes(sora_tensor *tensor, void *bytes)
{
    *(uint64_t *)bytes += 4 * (uint64_t)sora_shape_elements(&tensor->shape);
}

static void count_traffic(sora_graph *graph)
{
    for (size_t n = 0; n < graph->node_count; n++) {
        const sora_node *node = &graph->nodes[n];
        uint64_t bytes = 0;
        if (node->kind == SORA_NODE_ALIAS || node->elided) continue;
        see_tensors(graph, node, add_bytes, &bytes);
        graph->statistics.moved_bytes += bytes;
        if (node->op && !node->op->cheap) graph->statistics.least_moved_bytes += bytes;
    }
}

sora_status sora_graph_place(sora_graph *graph, sora_error *error)
{
    sora_status status = SORA_OK;
    place_concatenations(graph);
    for (size_t n = 0; n < graph->node_count; n++) SORA_TRY(add_workspace(graph, (int)n, error));
    find_lifetimes(graph);
    extend_roots(graph);
    if (graph->options.policy != SORA_PLAN_SEPARATE) join_in_place(graph);
    SORA_TRY(make_blocks(graph, error));
    SORA_TRY(assign_offsets(graph, error));
    graph->statistics.forward_nodes = graph->forward_nodes;
    for (size_t i = 0; i < graph->chunk_count; i++) graph->statistics.arena_bytes += graph->chunk_bytes[i];
    graph->statistics.live_bytes = largest_live(graph);
    count_traffic(graph);
cleanup:
    return status;
}
