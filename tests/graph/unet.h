/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TESTS_GRAPH_UNET_H
#define SORA_TESTS_GRAPH_UNET_H

#include "../fixture.h"
#include "base/memory.h"
#include "base/random.h"
#include "graph/structure.h"
#include "op/conv.h"
#include "op/ops.h"
#include "soracl/unet.h"

/* One step of a whole network: what it gives, its gradients and running statistics. */

enum { BATCH = 3, MOST = 600000 };

typedef struct network {
    const char *label;
    sora_unet_options unet;
    sora_unet_graph_options graph;
    const char *target; /* NULL: everything trains */
    float dropout;      /* in the adapters' branches */
    int count;          /* images of the batch; 0: all */
    int saved_nodes;    /* launched layers, forward and backward, that the fused one has less */
    int counting;       /* convolutions with the statistics for the norm behind them, on a CPU with registers of 8 */
} network;

typedef struct result {
    sora_graph_statistics statistics;
    int counting;
    int64_t count, at[200]; /* values of one after the other, and where each begins */
    float values[MOST];
} result;

/* A seed for which no value stands so near to 0 that sums in another order make a ReLU or a maximum decide otherwise: that changes
 * small gradients by a hundredth, rounding by less than a ten-thousandth. */
static inline void fill(float *out, int64_t n, uint32_t stream, bool mask)
{
    sora_random_stream random = { .seed = 8, .purpose = SORA_PURPOSE_TEST, .stream = stream };
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)(2 * sora_random_uniform(&random) - 1);
        if (mask) out[i] = out[i] > 0.5f;
    }
}

static inline float *take(result *r, int *parts, int64_t n)
{
    r->at[(*parts)++] = r->count;
    r->count += n;
    assert_true(r->count <= MOST && *parts < (int)SORA_COUNT(r->at));
    return r->values + r->at[*parts - 1];
}

/* One step in buffers of their own or, `in_arena`, as training has it; returns the number of tensors in *out. */
static inline int run(const network *n, bool unfused, bool recompute, bool in_arena, result *out)
{
    sora_error error;
    sora_unet *unet;
    sora_unet_graph graph;
    sora_unet_graph_options options = n->graph;
    int count = n->count ? n->count : BATCH, parts = 0;
    OK(sora_unet_create(context, &n->unet, &unet, &error));
    sora_params *params = sora_unet_params(unet);
    if (n->target)
        OK(sora_adapt(sora_unet_layers(unet), n->target, &(sora_adapter_options) { .rank = 3, .dropout = n->dropout }, NULL,
                      &error));
    for (size_t i = 0; i < sora_params_count(params); i++) {
        sora_param *p = sora_params_at(params, i);
        sora_shape shape = sora_param_shape(p);
        if (n->target && sora_param_trainable(p)) fill(sora_param_host(p), sora_shape_elements(&shape), (uint32_t)i, false);
    }
    OK(sora_params_upload(params, SORA_MOMENTS_NONE, &error));
    options.graph = (sora_graph_options) { .training = true,
                                           .batch = BATCH,
                                           .policy = in_arena ? SORA_PLAN_ARENA : SORA_PLAN_SEPARATE,
                                           .unfused = unfused,
                                           .recompute = recompute };
    OK(sora_unet_build(unet, &options, &graph, &error));
    int64_t pixels = (int64_t)BATCH * n->unet.size * n->unet.size;
    float *image = test_malloc((size_t)(3 * pixels) * sizeof *image), *mask = test_malloc((size_t)pixels * sizeof *mask);
    fill(image, 3 * pixels, 1, false);
    fill(mask, pixels, 2, true);
    OK(sora_graph_write(graph.graph, graph.image, image, count, &error));
    OK(sora_graph_write(graph.graph, graph.mask, mask, count, &error));
    OK(sora_graph_forward(graph.graph, count, 1, 0, &error));
    OK(sora_params_zero_gradients(params, &error));
    OK(sora_graph_backward(graph.graph, &error));
    if (!in_arena) OK(sora_graph_check_guards(graph.graph, &error));
    out->count = 0;
    OK(sora_graph_read(graph.graph, graph.loss, take(out, &parts, 1), &error));
    OK(sora_graph_read(graph.graph, graph.probability, take(out, &parts, pixels / BATCH * count), &error));
    for (size_t i = 0; i < sora_params_count(params); i++) {
        sora_param *p = sora_params_at(params, i);
        sora_shape shape = sora_param_shape(p);
        bool state = sora_param_kind_of(p) == SORA_PARAM_STATE;
        if (state || sora_param_trainable(p))
            OK(sora_param_read(p, state ? 0 : 3, take(out, &parts, sora_shape_elements(&shape)), &error));
    }
    out->at[parts] = out->count;
    out->counting = 0;
    for (size_t i = 0; i < graph.graph->node_count; i++) {
        const sora_node *node = &graph.graph->nodes[i];
        out->counting += node->kind == SORA_NODE_FORWARD && node->op == &sora_op_conv2d &&
                         ((const sora_conv2d_attributes *)node->attributes)->statistics;
    }
    out->statistics = sora_graph_stats(graph.graph);
    test_free(image);
    test_free(mask);
    sora_graph_destroy(&graph.graph);
    sora_unet_destroy(&unet);
    return parts;
}

#endif
