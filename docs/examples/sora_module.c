/* SPDX-License-Identifier: Apache-2.0
 * A SoRA module's life in a small network: activate, train, compact, deactivate.
 *   cc sora_module.c $(pkg-config --cflags --libs soracl) -lm -o sora_module && ./sora_module */
#include <math.h>
#include <soracl/optimizer.h>
#include <soracl/layer.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 64, IN = 24, HIDDEN = 48, OUT = 8, STEPS = 400 };
static sora_error error;

static void try(sora_status status)
{
    if (status == SORA_OK) return;
    fprintf(stderr, "sora_module: %s\n", error.message);
    exit(1);
}

/* y = second(relu(first(x))); trains for so many steps, leaves the last outputs in y and returns the last loss. */
static float run(sora_params *params, sora_layers *layers, const float *x, const float *target, int steps, float *y)
{
    const sora_optimizer_options options = { 0 }; /* AdamW */
    const sora_optimizer_rates rates = { .lr = 0.01f, .gate_lr = 0.01f, .xi = 0.2f * 0.01f }; /* ξ = λ · learning rate */
    sora_optimizer *optimizer;
    sora_graph *graph;
    float loss;
    try(sora_params_upload(params, sora_optimizer_moments(&options), &error));
    try(sora_optimizer_create(params, &options, &optimizer, &error));
    try(sora_graph_create(params, &(sora_graph_options) { .training = true, .batch = BATCH }, &graph, &error));
    sora_tensor *in = sora_graph_input(graph, "x", SORA_F32, SORA_SHAPE(BATCH, IN));
    sora_tensor *truth = sora_graph_input(graph, "target", SORA_F32, SORA_SHAPE(BATCH, OUT));
    sora_tensor *out = sora_layer_forward(graph, sora_layers_at(layers, 0), in, true);
    out = sora_layer_forward(graph, sora_layers_at(layers, 1), out, false);
    sora_tensor *distance = sora_mse_loss(graph, "loss", out, truth);
    sora_graph_output(graph, out);
    try(sora_graph_plan(graph, distance, &error));
    for (int step = 0; step <= steps; step++) {
        try(sora_graph_write(graph, in, x, BATCH, &error));
        try(sora_graph_write(graph, truth, target, BATCH, &error));
        try(sora_graph_forward(graph, BATCH, step, 0, &error));
        if (step == steps) break;
        try(sora_params_zero_gradients(params, &error));
        try(sora_graph_backward(graph, &error));
        try(sora_optimizer_step(optimizer, graph, distance, &rates, 1, &error));
    }
    try(sora_graph_read(graph, out, y, &error));
    try(sora_graph_read(graph, distance, &loss, &error));
    sora_graph_destroy(&graph);
    sora_optimizer_destroy(&optimizer);
    try(sora_params_download(params, &error));
    return loss;
}

int main(void)
{
    static float x[BATCH * IN], target[BATCH * OUT], active[BATCH * OUT], merged[BATCH * OUT];
    sora_context *context;
    sora_params *params;
    sora_layers *layers;
    sora_layer *first;
    float largest = 0;
    int kept;
    for (int i = 0; i < BATCH * IN; i++) x[i] = sinf(0.01f * i * i);
    for (int i = 0; i < BATCH * OUT; i++) target[i] = x[i / OUT * IN + i % OUT] * x[i / OUT * IN + 9];
    try(sora_context_create(&(sora_context_options) { 0 }, &context, &error));
    try(sora_params_create(context, &params, &error));
    try(sora_layers_create(params, 1, &layers, &error));
    try(sora_layers_add(layers, "first", &(sora_layer_desc) { .in = IN, .out = HIDDEN, .bias = true }, &first, &error));
    try(sora_layers_add(layers, "second", &(sora_layer_desc) { .in = HIDDEN, .out = OUT, .bias = true }, NULL, &error));
    try(sora_layer_activate(first, &(sora_adapter_options) { .rank = 16 }, &error));
    float start = run(params, layers, x, target, 0, active), end = run(params, layers, x, target, STEPS, active);
    try(sora_layer_compact(first, &kept, &error));
    try(sora_layer_deactivate(first, NULL, &error));
    run(params, layers, x, target, 0, merged);
    for (int i = 0; i < BATCH * OUT; i++) largest = fmaxf(largest, fabsf(merged[i] - active[i]));
    printf("loss %.4f -> %.4f, rank 16 -> %d, outputs moved by %.0e when merged\n", start, end, kept, largest);
    sora_layers_destroy(&layers), sora_params_destroy(&params), sora_context_destroy(&context);
    return end < start && largest < 1e-4f ? 0 : 1;
}
