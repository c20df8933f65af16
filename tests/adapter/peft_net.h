/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TESTS_PEFT_NET_H
#define SORA_TESTS_PEFT_NET_H

#include "../fixture.h"
#include "base/random.h"
#include "soracl/peft.h"

#include <math.h>

/* What both tests of the exchange share: networks of bare layers, and what their adapters add. Sides as in peft_reference.py. */
enum { WIDTH = 12, INNER = 8, HIDDEN = 20, BLOCKS = 2, LARGEST = WIDTH * HIDDEN };

typedef struct net {
    sora_params *params;
    sora_layers *layers;
} net;

static inline void open_net(net *n)
{
    sora_error error;
    OK(sora_params_create(context, &n->params, &error));
    OK(sora_layers_create(n->params, 3, &n->layers, &error));
}

static inline void close_net(net *n)
{
    sora_layers_destroy(&n->layers);
    sora_params_destroy(&n->params);
}

static inline sora_layer *add(net *n, const char *name, int in, int out)
{
    sora_error error;
    sora_layer *layer;
    OK(sora_layers_add(n->layers, name, &(sora_layer_desc) { .in = in, .out = out }, &layer, &error));
    return layer;
}

static inline void add_attention(net *n, const char *stack, int block, int layer, const char *kind)
{
    char name[128];
    for (const char *which = "qkvo"; *which; which++) {
        snprintf(name, sizeof name, "%s.block.%d.layer.%d.%s.%c", stack, block, layer, kind, *which);
        add(n, name, *which == 'o' ? INNER : WIDTH, *which == 'o' ? WIDTH : INNER);
    }
}

/* Module paths of a T5 in miniature: 32 of them. */
static inline void open_t5(net *n)
{
    char name[128];
    open_net(n);
    for (int decoder = 0; decoder < 2; decoder++)
        for (int b = 0; b < BLOCKS; b++) {
            const char *stack = decoder ? "decoder" : "encoder";
            add_attention(n, stack, b, 0, "SelfAttention");
            if (decoder) add_attention(n, stack, b, 1, "EncDecAttention");
            for (const char *which = "io"; *which; which++) {
                snprintf(name, sizeof name, "%s.block.%d.layer.%d.DenseReluDense.w%c", stack, b, 1 + decoder, *which);
                add(n, name, *which == 'o' ? HIDDEN : WIDTH, *which == 'o' ? WIDTH : HIDDEN);
            }
        }
}

static inline sora_layer_info describe(const net *n, size_t index)
{
    sora_error error;
    sora_layer_info info;
    OK(sora_layer_describe(sora_layers_at(n->layers, index), &info, &error));
    return info;
}

/* NAME.SUFFIX on the host; NULL where there is none. */
static inline float *factor(const net *n, const char *name, const char *suffix)
{
    char full[160];
    snprintf(full, sizeof full, "%s.%s", name, suffix);
    sora_param *param = sora_params_find(n->params, full);
    return param ? sora_param_host(param) : NULL;
}

static inline void randomise(float *values, size_t count, uint32_t stream)
{
    sora_random_stream random = { .seed = 8, .purpose = SORA_PURPOSE_TEST, .stream = stream };
    for (size_t i = 0; i < count; i++) values[i] = (float)sora_random_normal(&random);
}

/* Activates layer `index` with random factors that add about as much as there is. */
static inline void activate(net *n, size_t index, sora_adapter_kind kind, int rank, float alpha)
{
    sora_error error;
    sora_layer_info info = describe(n, index);
    OK(sora_layer_activate(sora_layers_at(n->layers, index),
                           &(sora_adapter_options) { .kind = kind, .rank = rank, .alpha = alpha }, &error));
    info = describe(n, index);
    if (info.rank == 0) return;
    randomise(factor(n, info.name, "down"), (size_t)(info.rank * info.in), (uint32_t)(2 * index));
    randomise(factor(n, info.name, "up"), (size_t)(info.rank * info.out), (uint32_t)(2 * index + 1));
    for (int i = 0; i < info.rank * info.out; i++) factor(n, info.name, "up")[i] *= 0.1f;
}

/* What a layer's adapter adds, s · W_u diag(g) W_d, in double precision: out[out · in]. */
static inline void delta(const net *n, const sora_layer_info *info, double *out)
{
    const float *down = factor(n, info->name, "down"), *up = factor(n, info->name, "up"), *gate = factor(n, info->name, "gate");
    memset(out, 0, (size_t)(info->in * info->out) * sizeof *out);
    for (int i = 0; i < info->out && down; i++)
        for (int k = 0; k < info->rank; k++)
            for (int j = 0; j < info->in; j++)
                out[i * info->in + j] +=
                    (double)info->scale * up[i * info->rank + k] * (gate ? gate[k] : 1.0f) * down[k * info->in + j];
}

#endif
