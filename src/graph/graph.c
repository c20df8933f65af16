/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/structure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sora_status sora_graph_create(sora_params *params, const sora_graph_options *options, sora_graph **out, sora_error *error)
{
    *out = NULL;
    if (options->batch < 1) return sora_fail(error, SORA_ERROR_ARGUMENT, "batch %d: a graph needs at least 1", options->batch);
    sora_status status = sora_allocate(1, sizeof **out, "graph", out, error);
    if (status != SORA_OK) return status;
    (*out)->params = params;
    (*out)->context = sora_params_context(params);
    (*out)->options = *options;
    return SORA_OK;
}

void sora_graph_destroy(sora_graph **pointer)
{
    sora_graph *graph = *pointer;
    if (!graph) return;
    for (int slot = 0; slot < 2; slot++) {
        for (size_t i = 0; i < graph->write_count[slot]; i++)
            if (graph->writes[slot][i]) sora_event_wait(graph->context, &graph->writes[slot][i], NULL);
        free(graph->writes[slot]);
    }
    /* Launches may still be under way in this memory; drivers keep it until they end. */
    for (size_t i = 0; i < graph->own.chunk_count; i++) sora_buffer_destroy(&graph->own.chunks[i]);
    for (size_t i = 0; i < graph->tensor_count; i++) {
        free(graph->tensors[i]->name);
        free(graph->tensors[i]);
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        free(graph->nodes[i].name);
        free(graph->nodes[i].attributes);
    }
    free(graph->own.chunks);
    free(graph->tensors);
    free(graph->nodes);
    free(graph->blocks);
    free(graph->chunk_bytes);
    free(graph);
    *pointer = NULL;
}

/* ---- Building ---------------------------------------------------------------------------------------------------- */

/* Keeps the first failure; every building call ends here with NULL. */
static sora_tensor *keep_failure(sora_graph *graph, sora_status status, const sora_error *error)
{
    if (graph->failure == SORA_OK) {
        graph->failure = status;
        graph->failure_error = *error;
    }
    return NULL;
}

sora_tensor *sora_tensor_add(sora_graph *graph, const char *name, sora_dtype dtype, sora_shape shape, sora_error *error)
{
    sora_tensor *tensor = NULL;
    char text[80];
    if (sora_shape_elements(&shape) < 0) {
        sora_fail(error, SORA_ERROR_MEMORY, "%s: %s; expected at most %d elements. Try a smaller --batch or --size", name,
                  sora_shape_text(&shape, text), INT32_MAX);
        return NULL;
    }
    if (sora_reserve(&graph->tensors, &graph->tensor_capacity, graph->tensor_count + 1, sizeof *graph->tensors, error) != SORA_OK)
        return NULL;
    if (sora_allocate(1, sizeof *tensor, name, &tensor, error) != SORA_OK) return NULL;
    *tensor = (sora_tensor) { .graph = graph,
                              .index = graph->tensor_count,
                              .dtype = dtype,
                              .shape = shape,
                              .current = shape,
                              .producer = -1,
                              .block = -1 };
    if (sora_duplicate(name, &tensor->name, error) != SORA_OK) {
        free(tensor);
        return NULL;
    }
    graph->tensors[graph->tensor_count++] = tensor;
    return tensor;
}

sora_status sora_node_add(sora_graph *graph, sora_node_kind kind, const char *name, sora_node **out, sora_error *error)
{
    sora_status status = sora_reserve(&graph->nodes, &graph->node_capacity, graph->node_count + 1, sizeof *graph->nodes, error);
    char *copy = NULL;
    if (status == SORA_OK) status = sora_duplicate(name, &copy, error);
    if (status != SORA_OK) return status;
    *out = &graph->nodes[graph->node_count++];
    **out = (sora_node) { .kind = kind, .name = copy, .forward = -1 };
    return SORA_OK;
}

sora_tensor *sora_graph_input(sora_graph *graph, const char *name, sora_dtype dtype, sora_shape shape)
{
    sora_error error;
    char text[80];
    if (graph->failure != SORA_OK) return NULL;
    if (sora_shape_elements(&shape) == 0 || shape.dim[0] % graph->options.batch != 0) {
        sora_fail(&error, SORA_ERROR_ARGUMENT, "input %s: shape %s; its first dimension must be a multiple of the batch, %d",
                  name, sora_shape_text(&shape, text), graph->options.batch);
        return keep_failure(graph, SORA_ERROR_ARGUMENT, &error);
    }
    if (dtype == SORA_F16) {
        sora_fail(&error, SORA_ERROR_ARGUMENT, "input %s: halves; expected fp32 or int32", name);
        return keep_failure(graph, SORA_ERROR_ARGUMENT, &error);
    }
    sora_tensor *tensor = sora_tensor_add(graph, name, dtype, shape, &error);
    if (!tensor) return keep_failure(graph, SORA_ERROR_MEMORY, &error);
    tensor->input = true;
    return tensor;
}

sora_tensor *sora_graph_param(sora_graph *graph, sora_param *param)
{
    sora_error error;
    if (graph->failure != SORA_OK || !param) return NULL;
    for (size_t i = 0; i < graph->tensor_count; i++)
        if (graph->tensors[i]->param == param && !graph->tensors[i]->joined) return graph->tensors[i];
    sora_tensor *tensor = sora_tensor_add(graph, sora_param_name(param), SORA_F32, sora_param_shape(param), &error);
    if (!tensor) return keep_failure(graph, SORA_ERROR_MEMORY, &error);
    tensor->param = param;
    tensor->wants_gradient = sora_param_trainable(param);
    return tensor;
}

sora_tensor *sora_graph_joined(sora_graph *graph, sora_param *const *list, int count, sora_shape shape)
{
    sora_error error;
    int64_t elements = 0;
    if (graph->failure != SORA_OK) return NULL;
    if (count == 1) {
        sora_shape own = sora_param_shape(list[0]);
        if (own.rank == shape.rank) return sora_graph_param(graph, list[0]);
    }
    for (int i = 0; i < count; i++) {
        sora_shape part = sora_param_shape(list[i]);
        elements += sora_shape_elements(&part);
    }
    if (!sora_params_joined(list, count) || elements != sora_shape_elements(&shape)) {
        sora_fail(&error, SORA_ERROR_ARGUMENT, "%s and %d more are not the parameters of one product", sora_param_name(list[0]),
                  count - 1);
        return keep_failure(graph, SORA_ERROR_ARGUMENT, &error);
    }
    sora_tensor *tensor = sora_tensor_add(graph, sora_param_name(list[0]), SORA_F32, shape, &error);
    if (!tensor) return keep_failure(graph, SORA_ERROR_MEMORY, &error);
    tensor->param = list[0];
    tensor->joined = true;
    tensor->wants_gradient = sora_param_trainable(list[0]);
    return tensor;
}

void sora_graph_output(sora_graph *graph, sora_tensor *tensor)
{
    (void)graph;
    if (tensor) tensor->output = true;
}

sora_shape sora_tensor_shape(const sora_tensor *tensor)
{
    return tensor ? tensor->shape : (sora_shape) { 0 };
}

static sora_status run_rule(const sora_graph *graph, const sora_node *node, bool current, sora_op_shape_rule *rule,
                            sora_shape shapes[], sora_error *error)
{
    for (int i = 0; i < SORA_OP_MAX_INPUTS; i++)
        shapes[i] = !node->inputs[i] ? (sora_shape) { 0 } : current ? node->inputs[i]->current : node->inputs[i]->shape;
    *rule = (sora_op_shape_rule) { .attributes = node->attributes,
                                   .limits = &sora_context_device(graph->context)->limits,
                                   .training = graph->options.training,
                                   .input_count = node->input_count,
                                   .inputs = shapes,
                                   .uses_outputs = node->op->uses_outputs };
    for (int i = 0; graph->options.training && i < node->input_count; i++)
        if (node->inputs[i] && node->inputs[i]->wants_gradient) rule->wanted |= node->op->differentiable & 1u << i;
    sora_status status = node->op->infer(rule, error);
    if (status != SORA_OK) sora_error_prefix(error, "%s (%s)", node->name, node->op->name);
    return status;
}

static sora_status add_results(sora_graph *graph, sora_node *node, const sora_op_shape_rule *rule, sora_error *error)
{
    char name[160];
    int index = (int)(node - graph->nodes);
    for (int i = 0; i < rule->output_count; i++) {
        snprintf(name, sizeof name, i ? "%s:%d" : "%s", node->name, i);
        node->outputs[i] = sora_tensor_add(graph, name, SORA_F32, rule->outputs[i], error);
        if (!node->outputs[i]) return SORA_ERROR_MEMORY;
        node->outputs[i]->producer = index;
    }
    node->output_count = rule->output_count;
    for (int i = 0; graph->options.training && i < SORA_OP_MAX_SAVED; i++) {
        if (rule->saved[i].rank == 0) continue;
        snprintf(name, sizeof name, "%s saved:%d", node->name, i);
        node->saved[i] = sora_tensor_add(graph, name, SORA_F32, rule->saved[i], error);
        if (!node->saved[i]) return SORA_ERROR_MEMORY;
        node->saved[i]->producer = index;
    }
    return SORA_OK;
}

sora_tensor *sora_graph_node(sora_graph *graph, const sora_op *op, const char *name, const void *attributes,
                             size_t attribute_bytes, sora_tensor *const *inputs, int input_count)
{
    sora_status status = SORA_OK;
    sora_error error;
    sora_node *node;
    sora_op_shape_rule rule;
    sora_shape shapes[SORA_OP_MAX_INPUTS];
    if (graph->failure != SORA_OK) return NULL;
    if (graph->planned) SORA_FAIL(&error, SORA_ERROR_ARGUMENT, "%s: the graph is planned already", name);
    if (input_count > SORA_OP_MAX_INPUTS)
        SORA_FAIL(&error, SORA_ERROR_ARGUMENT, "%s: %d inputs, at most %d", name, input_count, SORA_OP_MAX_INPUTS);
    if (!inputs[0]) SORA_FAIL(&error, SORA_ERROR_ARGUMENT, "%s: its first input is absent", name);
    SORA_TRY(sora_node_add(graph, SORA_NODE_FORWARD, name, &node, &error));
    node->op = op;
    node->input_count = input_count;
    memcpy(node->inputs, inputs, (size_t)input_count * sizeof *inputs);
    if (attribute_bytes) {
        SORA_TRY(sora_allocate(1, attribute_bytes, name, &node->attributes, &error));
        memcpy(node->attributes, attributes, attribute_bytes);
    }
    SORA_TRY(run_rule(graph, node, false, &rule, shapes, &error));
    SORA_TRY(add_results(graph, node, &rule, &error));
    bool wants = false;
    for (int i = 0; i < input_count; i++) wants |= inputs[i] && inputs[i]->wants_gradient && (op->differentiable >> i & 1);
    for (int i = 0; i < node->output_count; i++) node->outputs[i]->wants_gradient = wants;
    return node->outputs[0];
cleanup:
    return keep_failure(graph, status, &error);
}

sora_tensor *sora_reshape(sora_graph *graph, const char *name, sora_tensor *x, sora_shape shape)
{
    sora_status status = SORA_OK;
    sora_error error;
    sora_node *node;
    char from[80], to[80];
    if (graph->failure != SORA_OK || !x) return NULL;
    if (sora_shape_elements(&shape) != sora_shape_elements(&x->shape) || shape.dim[0] != x->shape.dim[0])
        SORA_FAIL(&error, SORA_ERROR_ARGUMENT, "%s: %s can't be seen as %s; elements and first dimension must agree", name,
                  sora_shape_text(&x->shape, from), sora_shape_text(&shape, to));
    SORA_TRY(sora_node_add(graph, SORA_NODE_ALIAS, name, &node, &error));
    node->inputs[0] = x;
    node->input_count = node->output_count = 1;
    sora_tensor *view = node->outputs[0] = sora_tensor_add(graph, name, x->dtype, shape, &error);
    if (!view) return keep_failure(graph, SORA_ERROR_MEMORY, &error);
    view->producer = (int)graph->node_count - 1;
    view->base = x;
    view->sliced = true; /* first stride of whatever x turns out to be */
    view->wants_gradient = x->wants_gradient;
    return view;
cleanup:
    return keep_failure(graph, status, &error);
}

/* ---- Shapes of a batch ------------------------------------------------------------------------------------------- */

sora_status sora_graph_infer(sora_graph *graph, int count, sora_error *error)
{
    sora_op_shape_rule rule;
    sora_shape shapes[SORA_OP_MAX_INPUTS];
    for (size_t i = 0; i < graph->tensor_count; i++) {
        sora_tensor *t = graph->tensors[i];
        if (t->input) t->current.dim[0] = t->shape.dim[0] / graph->options.batch * count;
    }
    for (int n = 0; n < graph->forward_nodes; n++) {
        sora_node *node = &graph->nodes[n];
        if (node->kind == SORA_NODE_ALIAS) {
            node->outputs[0]->current.dim[0] = node->inputs[0]->current.dim[0];
            continue;
        }
        sora_status status = run_rule(graph, node, true, &rule, shapes, error);
        if (status != SORA_OK) return status;
        for (int i = 0; i < node->output_count; i++) node->outputs[i]->current = rule.outputs[i];
        for (int i = 0; i < SORA_OP_MAX_SAVED; i++)
            if (node->saved[i]) node->saved[i]->current = rule.saved[i];
    }
    for (size_t i = 0; i < graph->tensor_count; i++) {
        sora_tensor *t = graph->tensors[i];
        if (!t->of) continue;
        t->current = t->of->current;
        t->current.dim[1] = t->shape.dim[1];
    }
    return SORA_OK;
}

/* ---- Planning ---------------------------------------------------------------------------------------------------- */

/* What forward nodes need besides their tensors, which hangs on what is fused with them. */
static sora_status note_needs(sora_graph *graph, sora_error *error)
{
    sora_op_shape_rule rule;
    sora_shape shapes[SORA_OP_MAX_INPUTS];
    for (int n = 0; n < graph->forward_nodes; n++) {
        sora_node *node = &graph->nodes[n];
        if (node->kind == SORA_NODE_ALIAS) continue;
        sora_status status = run_rule(graph, node, false, &rule, shapes, error);
        if (status != SORA_OK) return status;
        node->uses_outputs = rule.uses_outputs;
        node->forward_workspace = rule.forward_workspace;
        node->backward_workspace = rule.backward_workspace;
    }
    return SORA_OK;
}

sora_status sora_graph_plan(sora_graph *graph, sora_tensor *loss, sora_error *error)
{
    sora_status status = SORA_OK;
    if (graph->failure != SORA_OK) {
        if (error) *error = graph->failure_error;
        return graph->failure;
    }
    if (graph->planned) return sora_fail(error, SORA_ERROR_ARGUMENT, "the graph is planned already");
    if (graph->node_count == 0) return sora_fail(error, SORA_ERROR_ARGUMENT, "the graph has no nodes");
    if (!graph->options.unfused) SORA_TRY(sora_graph_fuse(graph, error));
    graph->forward_nodes = (int)graph->node_count;
    SORA_TRY(note_needs(graph, error));
    if (loss) SORA_TRY(sora_graph_differentiate(graph, loss, error));
    if (loss && graph->options.recompute) SORA_TRY(sora_graph_recompute(graph, error));
    SORA_TRY(sora_graph_place(graph, error));
    graph->planned = true;
cleanup:
    return status;
}

sora_graph_statistics sora_graph_stats(const sora_graph *graph)
{
    return graph->statistics;
}
