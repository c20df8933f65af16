/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter/layer.h"

#include "base/random.h"
#include "graph/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

sora_status sora_layers_create(sora_params *params, uint64_t seed, sora_layers **out, sora_error *error)
{
    sora_status status = sora_allocate(1, sizeof **out, "layers", out, error);
    if (status == SORA_OK) **out = (sora_layers) { .params = params, .seed = seed };
    return status;
}

static void destroy_layer(sora_layer *layer)
{
    if (!layer) return;
    sora_layer_forget(layer);
    free(layer->name);
    free(layer);
}

void sora_layers_destroy(sora_layers **layers)
{
    if (!layers || !*layers) return;
    for (size_t i = 0; i < (*layers)->count; i++) destroy_layer((*layers)->items[i]);
    free((*layers)->items);
    free(*layers);
    *layers = NULL;
}

size_t sora_layers_count(const sora_layers *layers)
{
    return layers->count;
}

sora_layer *sora_layers_at(const sora_layers *layers, size_t index)
{
    return index < layers->count ? layers->items[index] : NULL;
}

sora_layer *sora_layers_find(const sora_layers *layers, const char *name)
{
    for (size_t i = 0; i < layers->count; i++)
        if (strcmp(layers->items[i]->name, name) == 0) return layers->items[i];
    return NULL;
}

int64_t sora_layer_columns(const sora_layer *layer)
{
    int k = layer->desc.kernel ? layer->desc.kernel : 1;
    return (int64_t)layer->desc.in * k * k;
}

/* PyTorch's default for linear and convolution, weight and bias alike: U(−1/√fan_in, 1/√fan_in). */
static void initialise_uniform(sora_param *param, uint64_t seed, int64_t fan_in)
{
    sora_shape shape = sora_param_shape(param);
    sora_random_stream stream = { .seed = seed, .purpose = SORA_PURPOSE_INIT, .stream = sora_hash_name(sora_param_name(param)) };
    float *value = sora_param_host(param);
    double bound = 1.0 / sqrt((double)fan_in);
    for (int64_t i = 0, n = sora_shape_elements(&shape); i < n; i++)
        value[i] = (float)((2.0 * sora_random_uniform(&stream) - 1.0) * bound);
}

sora_status sora_layers_add(sora_layers *layers, const char *name, const sora_layer_desc *desc, sora_layer **out,
                            sora_error *error)
{
    sora_status status = SORA_OK;
    char *tensor = NULL;
    sora_layer *layer = NULL;
    int k = desc->kernel;
    if (desc->in < 1 || desc->out < 1 || (k != 0 && k != 1 && k != 3))
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "layer %s: %d to %d features, kernel %d; expected at least 1, kernel 0, 1 or 3", name, desc->in,
                         desc->out, k);
    SORA_TRY(sora_allocate(1, sizeof *layer, name, &layer, error));
    layer->owner = layers;
    layer->desc = *desc;
    SORA_TRY(sora_duplicate(name, &layer->name, error));
    SORA_TRY(sora_reserve(&layers->items, &layers->capacity, layers->count + 1, sizeof *layers->items, error));
    SORA_TRY(sora_format(&tensor, error, "%s.weight", name));
    sora_shape shape = k ? SORA_SHAPE(desc->out, desc->in, k, k) : SORA_SHAPE(desc->out, desc->in);
    SORA_TRY(sora_params_add(layers->params, tensor, SORA_PARAM_WEIGHT, shape, &layer->weight, error));
    if (!k) sora_param_set_product(layer->weight);
    if (k == 3) sora_param_set_convolution(layer->weight);
    if (!desc->zero) initialise_uniform(layer->weight, layers->seed, sora_layer_columns(layer));
    if (desc->bias) {
        free(tensor);
        SORA_TRY(sora_format(&tensor, error, "%s.bias", name));
        SORA_TRY(sora_params_add(layers->params, tensor, SORA_PARAM_PLAIN, SORA_SHAPE(desc->out), &layer->bias, error));
        initialise_uniform(layer->bias, layers->seed, sora_layer_columns(layer));
    }
    layers->items[layers->count++] = layer;
    if (out) *out = layer;
    layer = NULL;
cleanup:
    if (layer && layer->weight) sora_params_remove(layers->params, layer->weight, NULL);
    free(tensor);
    destroy_layer(layer);
    return status;
}

sora_tensor *sora_layer_forward(sora_graph *graph, sora_layer *layer, sora_tensor *x, bool relu)
{
    sora_tensor *weight = sora_graph_param(graph, layer->weight);
    sora_tensor *bias = layer->bias ? sora_graph_param(graph, layer->bias) : NULL;
    bool linear = layer->desc.kernel == 0;
    if (!layer->down)
        return linear ? sora_linear(graph, layer->name, x, weight, bias, relu) : sora_conv2d(graph, layer->name, x, weight, bias);
    sora_adapted_tensors adapter = { .down = sora_graph_param(graph, layer->down),
                                     .up = sora_graph_param(graph, layer->up),
                                     .gate = layer->gate ? sora_graph_param(graph, layer->gate) : NULL,
                                     .scale = layer->scale,
                                     .dropout = layer->dropout,
                                     .relu = relu };
    return linear ? sora_adapted_linear(graph, layer->name, x, weight, bias, &adapter)
                  : sora_adapted_conv2d(graph, layer->name, x, weight, bias, &adapter);
}

sora_status sora_layer_require_host(const sora_layer *layer, const char *verb, sora_error *error)
{
    if (!sora_params_on_device(layer->owner->params)) return SORA_OK;
    return sora_fail(error, SORA_ERROR_ARGUMENT,
                     "layer %s: cannot %s while the parameters are on the device; download them first", layer->name, verb);
}

sora_status sora_layers_require_normal(const sora_layers *layers, const char *verb, sora_error *error)
{
    for (size_t i = 0; i < layers->count; i++) {
        const sora_layer *layer = layers->items[i];
        sora_status status = sora_layer_require_host(layer, verb, error);
        if (status != SORA_OK) return status;
        if (layer->active || layer->merged)
            return sora_fail(error, SORA_ERROR_ARGUMENT, "layer %s: is %s; one can %s only where all layers are normal",
                             layer->name, layer->active ? "active" : "merged (and could be unmerged)", verb);
    }
    return SORA_OK;
}

static sora_status count_gates(const sora_layer *layer, int *kept, sora_error *error)
{
    float *gates = NULL;
    sora_status status = SORA_OK;
    *kept = layer->rank;
    if (!layer->gate) return SORA_OK;
    SORA_TRY(sora_allocate((size_t)layer->rank, sizeof *gates, layer->name, &gates, error));
    SORA_TRY(sora_param_read(layer->gate, 0, gates, error));
    *kept = 0;
    for (int i = 0; i < layer->rank; i++) *kept += gates[i] != 0.0f;
cleanup:
    free(gates);
    return status;
}

sora_status sora_layer_describe(const sora_layer *layer, sora_layer_info *out, sora_error *error)
{
    int kept = 0;
    *out = (sora_layer_info) { 0 };
    if (layer->active) {
        sora_status status = count_gates(layer, &kept, error);
        if (status != SORA_OK) return status;
    }
    uint64_t row = (uint64_t)layer->desc.out + (uint64_t)sora_layer_columns(layer) + (layer->kind == SORA_ADAPTER_SORA);
    *out = (sora_layer_info) { .name = layer->name,
                               .in = layer->desc.in,
                               .out = layer->desc.out,
                               .kernel = layer->desc.kernel,
                               .active = layer->active,
                               .merged = layer->merged };
    if (layer->active) {
        out->kind = layer->kind;
        out->rank_max = layer->rank_max;
        out->rank = layer->rank;
        out->rank_kept = kept;
        out->scale = layer->scale;
        out->alpha = layer->alpha;
        out->dropout = layer->dropout;
        out->parameters_trainable = (uint64_t)layer->rank * row;
        out->parameters_kept = (uint64_t)kept * row;
    }
    return SORA_OK;
}

sora_status sora_layer_gates(const sora_layer *layer, float *out, sora_error *error)
{
    if (!layer->gate)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "layer %s has no gates (%s)", layer->name,
                         layer->active ? layer->kind == SORA_ADAPTER_LORA ? "LoRA" : "rank 0" : "no adapter");
    return sora_param_read(layer->gate, 0, out, error);
}
