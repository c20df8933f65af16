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
