/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/structure.h"
#include "op/update.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

sora_arena *sora_graph_arena(sora_graph *graph)
{
    return graph->options.share ? sora_graph_arena(graph->options.share) : &graph->own;
}

/* What was never written shows as NaN instead of as whatever the memory held. Not in a shared arena: it would touch all of it
 * before the first step, on a processor as long as half a step. */
static sora_status fill_chunk(sora_graph *graph, sora_buffer *buffer, sora_error *error)
{
    sora_view view = sora_view_dense(buffer, 0, SORA_SHAPE((int64_t)(buffer->bytes / sizeof(float))));
    return sora_fill(graph->context, &view, NAN, error);
}

static sora_status write_guards(sora_graph *graph, sora_error *error)
{
    uint32_t guard[SORA_GUARD];
    sora_arena *arena = sora_graph_arena(graph);
    for (int i = 0; i < SORA_GUARD; i++) guard[i] = SORA_GUARD_BITS;
    for (size_t i = 0; i < graph->block_count; i++) {
        const sora_block *block = &graph->blocks[i];
        uint64_t start = block->offset / sizeof(float), ends[2] = { start, start + block->bytes / sizeof(float) - SORA_GUARD };
        for (int e = 0; e < 2; e++) {
            sora_view view = sora_view_dense(&arena->chunks[block->chunk], ends[e], SORA_SHAPE(SORA_GUARD));
            sora_status status = sora_view_write(graph->context, &view, guard, error);
            if (status != SORA_OK) return status;
        }
    }
    return SORA_OK;
}

static bool has_room(sora_graph *graph, size_t chunk)
{
    const sora_buffer *buffer = &sora_graph_arena(graph)->chunks[chunk];
    return buffer->memory && buffer->bytes >= graph->chunk_bytes[chunk];
}

/* The old memory goes first: there may not be room for both. Where there is too little for the new one it is taken again, for
 * the graphs that share it. */
static sora_status grow_chunk(sora_graph *graph, sora_buffer *chunk, uint64_t bytes, sora_error *error)
{
    uint64_t before = chunk->bytes;
    sora_buffer_destroy(chunk);
    sora_status status = sora_buffer_create(graph->context, bytes, "activations", chunk, error);
    if (status != SORA_OK && before) sora_buffer_create(graph->context, before, "activations", chunk, NULL);
    return status;
}

sora_status sora_graph_allocate(sora_graph *graph, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_arena *arena = sora_graph_arena(graph);
    sora_buffer *grown = NULL;
    bool fresh = !graph->allocated;
    if (!graph->planned) return sora_fail(error, SORA_ERROR_ARGUMENT, "the graph is not planned yet");
    if (graph->chunk_count > arena->chunk_count) {
        SORA_TRY(sora_allocate(graph->chunk_count, sizeof *grown, "arena", &grown, error));
        if (arena->chunk_count) memcpy(grown, arena->chunks, arena->chunk_count * sizeof *grown);
        free(arena->chunks);
        arena->chunks = grown;
        arena->chunk_count = graph->chunk_count;
    }
    for (size_t i = 0; i < graph->chunk_count; i++) {
        if (has_room(graph, i)) continue;
        fresh = true;
        SORA_TRY(grow_chunk(graph, &arena->chunks[i], graph->chunk_bytes[i], error));
        if (graph->options.policy == SORA_PLAN_SEPARATE) SORA_TRY(fill_chunk(graph, &arena->chunks[i], error));
    }
    if (fresh && graph->options.policy == SORA_PLAN_SEPARATE) SORA_TRY(write_guards(graph, error));
    graph->allocated = true;
cleanup:
    return status;
}

/* `view` is of its parameter; of a joined one it is that of all. */
static sora_view whole_view(const sora_tensor *tensor, sora_view view)
{
    if (!tensor->joined || !view.memory) return view;
    view.shape = tensor->shape;
    view.stride = sora_view_inner(&view);
    return view;
}

/* A rehearsal before there is memory only asks whether a tensor is there. */
static cl_mem memory_of(sora_graph *graph, size_t chunk)
{
    return graph->allocated ? sora_graph_arena(graph)->chunks[chunk].memory : (cl_mem)graph;
}

static sora_view view_of(sora_graph *graph, const sora_tensor *tensor)
{
    int64_t offset;
    if (!tensor) return (sora_view) { 0 };
    if (tensor->param) return whole_view(tensor, sora_param_view(tensor->param, SORA_PART_VALUE));
    const sora_tensor *root = sora_tensor_root(tensor, &offset);
    if (root->block < 0) return (sora_view) { 0 };
    const sora_block *block = &graph->blocks[root->block];
    uint64_t guard = graph->options.policy == SORA_PLAN_SEPARATE ? SORA_GUARD : 0;
    sora_view view = { .memory = memory_of(graph, block->chunk),
                       .offset = block->offset / sizeof(float) + guard + (uint64_t)offset,
                       .dtype = tensor->dtype,
                       .shape = tensor->current,
                       .stride = sora_tensor_stride(tensor) };
    return view;
}

sora_view sora_tensor_view(const sora_graph *graph, const sora_tensor *tensor)
{
    return view_of((sora_graph *)graph, tensor);
}

/* ---- Running ----------------------------------------------------------------------------------------------------- */

static sora_status wait_writes(sora_graph *graph, int slot, sora_error *error)
{
    sora_status status = SORA_OK;
    for (size_t i = 0; i < graph->write_count[slot]; i++) {
        sora_status one = sora_event_wait(graph->context, &graph->writes[slot][i], status == SORA_OK ? error : NULL);
        if (status == SORA_OK) status = one;
    }
    graph->write_count[slot] = 0;
    return status;
}

sora_status sora_graph_write(sora_graph *graph, sora_tensor *input, const void *data, int count, sora_error *error)
{
    sora_status status = SORA_OK;
    if (!input->input) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: not an input", input->name);
    if (count < 1 || count > graph->options.batch)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: %d items for a graph of at most %d", input->name, count, graph->options.batch);
    SORA_TRY(sora_graph_allocate(graph, error));
    SORA_TRY(
        sora_reserve(&graph->writes[0], &graph->write_capacity[0], graph->write_count[0] + 1, sizeof **graph->writes, error));
    sora_view view = view_of(graph, input);
    view.shape.dim[0] = input->shape.dim[0] / graph->options.batch * count;
    SORA_TRY(sora_view_write_async(graph->context, &view, data, &graph->writes[0][graph->write_count[0]], error));
    graph->write_count[0]++;
    input->written = count;
cleanup:
    return status;
}

/* Whether there was a forward pass, in memory that is still there: a graph that shares it may have failed to grow it. */
static bool was_run(sora_graph *graph)
{
    bool run = graph->count > 0;
    for (size_t i = 0; run && i < graph->chunk_count; i++) run = has_room(graph, i);
    return run;
}

typedef struct node_views {
    sora_view inputs[SORA_OP_MAX_INPUTS], outputs[SORA_OP_MAX_OUTPUTS], saved[SORA_OP_MAX_SAVED];
    sora_view output_gradients[SORA_OP_MAX_OUTPUTS], input_gradients[SORA_OP_MAX_INPUTS];
} node_views;

static sora_status run_node(sora_graph *graph, const sora_node *node, sora_error *error)
{
    node_views v = { 0 };
    bool again = node->kind == SORA_NODE_AGAIN, back = again || node->kind == SORA_NODE_BACKWARD;
    const sora_node *forward = back ? &graph->nodes[node->forward] : node;
    if (node->kind == SORA_NODE_ALIAS || node->elided) return SORA_OK;
    if (node->kind == SORA_NODE_SEED) {
        v.outputs[0] = view_of(graph, node->outputs[0]);
        return sora_fill(graph->context, &v.outputs[0], 1.0f, error);
    }
    for (int i = 0; i < forward->input_count; i++)
        v.inputs[i] = view_of(graph, back ? sora_tensor_again(forward->inputs[i]) : forward->inputs[i]);
    for (int i = 0; i < forward->output_count; i++)
        v.outputs[i] = view_of(graph, back ? sora_tensor_again(forward->outputs[i]) : forward->outputs[i]);
    for (int i = 0; i < SORA_OP_MAX_SAVED; i++) v.saved[i] = view_of(graph, forward->saved[i]);
    sora_op_run run = { .context = graph->context,
                        .name = node->name,
                        .attributes = forward->attributes,
                        .training = graph->options.training,
                        .again = again,
                        .input_count = forward->input_count,
                        .inputs = v.inputs,
                        .outputs = v.outputs,
                        .saved = v.saved,
                        .workspace = view_of(graph, node->workspace),
                        .seed = graph->options.seed,
                        .step = graph->step,
                        .stream = sora_hash_name(node->name),
                        .first_sample = graph->first_sample };
    if (node->kind != SORA_NODE_BACKWARD) return node->op->forward(&run, error);
    for (int i = 0; i < forward->input_count; i++)
        if (forward->inputs[i] && forward->inputs[i]->param)
            v.inputs[i] = whole_view(forward->inputs[i], sora_param_back_view(forward->inputs[i]->param));
    for (int i = 0; i < SORA_OP_MAX_OUTPUTS; i++) v.output_gradients[i] = view_of(graph, node->output_gradients[i]);
    for (int i = 0; i < forward->input_count; i++)
        v.input_gradients[i] =
            node->parameter_gradients[i]
                ? whole_view(forward->inputs[i], sora_param_view(forward->inputs[i]->param, SORA_PART_GRADIENT))
                : view_of(graph, node->input_gradients[i]);
    run.output_gradients = v.output_gradients;
    run.input_gradients = v.input_gradients;
    run.besides = view_of(graph, node->besides);
    return node->op->backward(&run, error);
}

static sora_status run_range(sora_graph *graph, size_t from, size_t to, sora_error *error)
{
    for (size_t n = from; n < to; n++) {
        sora_status status = run_node(graph, &graph->nodes[n], error);
        if (status != SORA_OK) {
            sora_error_prefix(error, "%s", graph->nodes[n].name);
            return status;
        }
    }
    return SORA_OK;
}

sora_status sora_graph_prepare(sora_graph *graph, sora_error *error)
{
    if (!graph->planned) return sora_fail(error, SORA_ERROR_ARGUMENT, "the graph is not planned yet");
    if (!sora_params_placed(graph->params))
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "parameters have no place on the device yet: sora_params_place gives them one");
    sora_launches_rehearse(graph->context);
    sora_status status = run_range(graph, 0, graph->node_count, error);
    sora_launches_rehearsed(graph->context);
    return status;
}

sora_status sora_graph_forward(sora_graph *graph, int count, uint32_t step, uint32_t first_sample, sora_error *error)
{
    sora_status status = SORA_OK;
    if (count < 1 || count > graph->options.batch)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%d items for a graph of at most %d", count, graph->options.batch);
    if (!sora_params_on_device(graph->params))
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "parameters are on the host; upload them before a forward pass");
    for (size_t i = 0; i < graph->tensor_count; i++) {
        const sora_tensor *t = graph->tensors[i];
        if (t->input && t->written < count)
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "input %s: %d items written, %d needed", t->name, t->written, count);
    }
    SORA_TRY(sora_graph_allocate(graph, error));
    if (count != graph->count) SORA_TRY(sora_graph_infer(graph, count, error));
    graph->count = count;
    graph->step = step;
    graph->first_sample = first_sample;
    SORA_TRY(run_range(graph, 0, (size_t)graph->forward_nodes, error));
    /* The writes of the step before are done after this, so its host memory is free and at most two steps are in flight. */
    SORA_TRY(wait_writes(graph, 1, error));
    cl_event *events = graph->writes[1];
    size_t capacity = graph->write_capacity[1];
    graph->writes[1] = graph->writes[0];
    graph->write_count[1] = graph->write_count[0];
    graph->write_capacity[1] = graph->write_capacity[0];
    graph->writes[0] = events;
    graph->write_count[0] = 0;
    graph->write_capacity[0] = capacity;
cleanup:
    return status;
}

sora_status sora_graph_backward(sora_graph *graph, sora_error *error)
{
    if (!graph->loss)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "the graph was planned without a loss: it has no backward pass");
    if (!was_run(graph)) return sora_fail(error, SORA_ERROR_ARGUMENT, "a backward pass needs a forward pass before it");
    return run_range(graph, (size_t)graph->forward_nodes, graph->node_count, error);
}

sora_status sora_graph_read(sora_graph *graph, sora_tensor *tensor, float *out, sora_error *error)
{
    if (!tensor->output && !tensor->input)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: not an output; its memory may be in other use", tensor->name);
    if (!was_run(graph))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: nothing was run yet, or its memory was lost", tensor->name);
    sora_view view = view_of(graph, tensor);
    return sora_view_read(graph->context, &view, out, error);
}

/* ---- Looking for what went wrong --------------------------------------------------------------------------------- */

static sora_status holds_nonfinite(sora_graph *graph, const sora_view *view, bool *found, sora_error *error)
{
    float *data = NULL;
    int64_t elements = view->memory && view->dtype == SORA_F32 ? sora_view_elements(view) : 0;
    *found = false;
    if (elements == 0) return SORA_OK;
    sora_status status = sora_allocate((size_t)elements, sizeof *data, "tensor", &data, error);
    if (status == SORA_OK) status = sora_view_read(graph->context, view, data, error);
    for (int64_t i = 0; status == SORA_OK && i < elements && !*found; i++) *found = !isfinite(data[i]);
    free(data);
    return status;
}

/* *where the name of the first of `tensor` (or of a parameter's gradient) that is not finite. */
static sora_status look_at(sora_graph *graph, const sora_tensor *tensor, bool gradient, const char *what, char **where,
                           sora_error *error)
{
    bool found;
    if (!tensor || *where) return SORA_OK;
    sora_view view = gradient ? whole_view(tensor, sora_param_view(tensor->param, SORA_PART_GRADIENT)) : view_of(graph, tensor);
    sora_status status = holds_nonfinite(graph, &view, &found, error);
    return status == SORA_OK && found ? sora_format(where, error, "%s %s", tensor->name, what) : status;
}

sora_status sora_graph_find_nonfinite(sora_graph *graph, char **where, sora_error *error)
{
    sora_status status = SORA_OK;
    *where = NULL;
    if (!was_run(graph)) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "nothing was run yet, or its memory was lost");
    for (size_t i = 0; i < graph->tensor_count; i++) {
        const sora_tensor *t = graph->tensors[i];
        /* What went wrong in training is in its statistics already: forward wrote them. */
        if (t->param && graph->options.training && sora_param_kind_of(t->param) == SORA_PARAM_STATE) continue;
        if (t->input || t->param) SORA_TRY(look_at(graph, t, false, t->input ? "input" : "parameter", where, error));
    }
    if (graph->loss && sora_params_on_device(graph->params)) SORA_TRY(sora_params_zero_gradients(graph->params, error));
    for (size_t n = 0; n < graph->node_count && !*where; n++) {
        const sora_node *node = &graph->nodes[n];
        SORA_TRY(run_node(graph, node, error));
        if (node->elided) continue;
        for (int i = 0; i < node->output_count; i++)
            SORA_TRY(
                look_at(graph, node->outputs[i], false, node->kind <= SORA_NODE_ALIAS ? "output" : "(backward)", where, error));
        for (int i = 0; node->kind == SORA_NODE_BACKWARD && i < SORA_OP_MAX_INPUTS; i++) {
            SORA_TRY(look_at(graph, node->input_gradients[i], false, "(backward)", where, error));
            if (node->parameter_gradients[i])
                SORA_TRY(look_at(graph, graph->nodes[node->forward].inputs[i], true, "gradient", where, error));
        }
    }
cleanup:
    if (status != SORA_OK) {
        free(*where);
        *where = NULL;
    }
    return status;
}

sora_status sora_graph_check_guards(sora_graph *graph, sora_error *error)
{
    uint32_t guard[SORA_GUARD];
    if (graph->options.policy != SORA_PLAN_SEPARATE || !graph->allocated)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "only an allocated graph with separate buffers has guard bands");
    for (size_t i = 0; i < graph->block_count; i++) {
        const sora_block *block = &graph->blocks[i];
        uint64_t start = block->offset / sizeof(float), ends[2] = { start, start + block->bytes / sizeof(float) - SORA_GUARD };
        for (int e = 0; e < 2; e++) {
            sora_view view = sora_view_dense(&sora_graph_arena(graph)->chunks[block->chunk], ends[e], SORA_SHAPE(SORA_GUARD));
            sora_status status = sora_view_read(graph->context, &view, guard, error);
            if (status != SORA_OK) return status;
            for (int j = 0; j < SORA_GUARD; j++)
                if (guard[j] != SORA_GUARD_BITS)
                    return sora_fail(error, SORA_ERROR_DEVICE, "%s: something was written %d elements %s it", block->name,
                                     e ? j + 1 : SORA_GUARD - j, e ? "behind" : "before");
        }
    }
    return SORA_OK;
}
