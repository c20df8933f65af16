/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter/layer.h"
#include "graph/graph.h"
#include "op/ops.h"

/* Layers of one input as one product: their weights, and each kind of their factors, stand side by side in device memory. */

sora_status sora_layers_pack(sora_layer *const *layers, int count, sora_error *error)
{
    if (count < 1 || count > SORA_ADAPTED_MODULES)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%d layers in one product; expected 1 to %d", count, SORA_ADAPTED_MODULES);
    for (int i = 0; i < count; i++) {
        const sora_layer *layer = layers[i];
        if (layer->desc.kernel || layer->bias || layer->active || layer->pack || layer->desc.in != layers[0]->desc.in ||
            layer->owner != layers[0]->owner)
            return sora_fail(error, SORA_ERROR_ARGUMENT,
                             "layer %s: only linear layers of one input, without bias and adapter, share a product", layer->name);
    }
    int pack = ++layers[0]->owner->packs;
    for (int i = 0; i < count; i++) {
        layers[i]->pack = pack;
        layers[i]->place = i;
        sora_layer_pack_param(layers[i], layers[i]->weight, SORA_PACK_WEIGHT);
    }
    return SORA_OK;
}

void sora_layer_pack_param(const sora_layer *layer, sora_param *param, sora_pack_part part)
{
    if (layer->pack) sora_param_set_pack(param, 4 * (layer->pack - 1) + (int)part, layer->place);
}

/* The factors of the layers that have any, one after the other. */
typedef struct packed_factors {
    sora_adapted_attributes attributes;
    sora_param *down[SORA_ADAPTED_MODULES], *up[SORA_ADAPTED_MODULES], *gate[SORA_ADAPTED_MODULES];
    int count, gates, ranks, elements;
} packed_factors;

static packed_factors factors_of(sora_layer *const *layers, int count)
{
    packed_factors f = { .attributes = { .modules = count } };
    for (int i = 0; i < count; i++) {
        const sora_layer *layer = layers[i];
        f.attributes.outputs[i] = layer->desc.out;
        f.attributes.ranks[i] = layer->down ? layer->rank : 0;
        f.attributes.scales[i] = layer->scale;
        if (!layer->down) continue;
        f.attributes.dropout = layer->dropout;
        f.down[f.count] = layer->down;
        f.up[f.count++] = layer->up;
        if (layer->gate) f.gate[f.gates++] = layer->gate;
        f.ranks += layer->rank;
        f.elements += layer->rank * layer->desc.out;
    }
    return f;
}

sora_tensor *sora_layers_forward(sora_graph *graph, const char *name, sora_layer *const *layers, int count, sora_tensor *x)
{
    sora_param *weights[SORA_ADAPTED_MODULES];
    packed_factors f = factors_of(layers, count);
    int in = layers[0]->desc.in, out = 0;
    for (int i = 0; i < count; i++) {
        weights[i] = layers[i]->weight;
        out += layers[i]->desc.out;
    }
    sora_tensor *weight = sora_graph_joined(graph, weights, count, SORA_SHAPE(out, in));
    if (f.count == 0) return sora_linear(graph, name, x, weight, NULL, false);
    sora_tensor *down = sora_graph_joined(graph, f.down, f.count, SORA_SHAPE(f.ranks, in)),
                *up = sora_graph_joined(graph, f.up, f.count, SORA_SHAPE(f.elements)),
                *gate = f.gates ? sora_graph_joined(graph, f.gate, f.gates, SORA_SHAPE(f.ranks)) : NULL;
    return sora_graph_node(graph, &sora_op_adapted_linear, name, &f.attributes, sizeof f.attributes,
                           (sora_tensor *const[]) { x, weight, NULL, down, up, gate }, 6);
}

/* ---- Without a graph --------------------------------------------------------------------------------------------- */

/* One op on the layers as they are: its attributes and the shapes of its inputs behind x. */
typedef struct bare_call {
    const sora_op *op;
    packed_factors factors;
    sora_linear_attributes linear;
    const void *attributes;
    sora_param *heads[6]; /* first parameter of each input; NULL: absent */
    sora_shape shapes[6];
    int inputs;
} bare_call;

static void make_call(sora_layer *const *layers, int count, bool relu, bare_call *call)
{
    int out = 0;
    for (int i = 0; i < count; i++) out += layers[i]->desc.out;
    *call = (bare_call) { .op = &sora_op_linear, .factors = factors_of(layers, count), .linear = { .relu = relu }, .inputs = 3 };
    const packed_factors *f = &call->factors;
    int in = layers[0]->desc.in;
    call->attributes = &call->linear;
    call->heads[1] = layers[0]->weight;
    call->shapes[1] = SORA_SHAPE(out, in);
    call->heads[2] = layers[0]->bias;
    if (layers[0]->bias) call->shapes[2] = SORA_SHAPE(out);
    if (f->count == 0) return;
    call->op = &sora_op_adapted_linear;
    call->factors.attributes.relu = relu;
    call->attributes = &f->attributes;
    call->inputs = 6;
    call->heads[3] = f->down[0];
    call->shapes[3] = SORA_SHAPE(f->ranks, in);
    call->heads[4] = f->up[0];
    call->shapes[4] = SORA_SHAPE(f->elements);
    call->heads[5] = f->gate[0];
    if (f->gates) call->shapes[5] = SORA_SHAPE(f->ranks);
}

uint64_t sora_layers_run_workspace(sora_layer *const *layers, int count, int64_t rows)
{
    bare_call call;
    make_call(layers, count, false, &call);
    call.shapes[0] = SORA_SHAPE(rows, layers[0]->desc.in);
    sora_op_shape_rule rule = { .attributes = call.attributes,
                                .limits = &sora_context_device(sora_params_context(layers[0]->owner->params))->limits,
                                .input_count = call.inputs,
                                .inputs = call.shapes };
    return call.op->infer(&rule, NULL) == SORA_OK ? rule.forward_workspace : 0;
}

sora_status sora_layers_run(sora_layer *const *layers, int count, const sora_view *x, bool relu, const sora_view *y,
                            const sora_view *workspace, sora_error *error)
{
    bare_call call;
    sora_view inputs[6] = { *x }, saved[SORA_OP_MAX_SAVED] = { 0 };
    make_call(layers, count, relu, &call);
    for (int i = 1; i < call.inputs; i++) {
        if (!call.heads[i]) continue;
        inputs[i] = sora_param_view(call.heads[i], SORA_PART_VALUE);
        inputs[i].shape = call.shapes[i];
        inputs[i].stride = sora_view_inner(&inputs[i]);
    }
    return call.op->forward(&(sora_op_run) { .context = sora_params_context(layers[0]->owner->params),
                                             .name = layers[0]->name,
                                             .attributes = call.attributes,
                                             .input_count = call.inputs,
                                             .inputs = inputs,
                                             .outputs = y,
                                             .saved = saved,
                                             .workspace = *workspace },
                            error);
}
