/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "base/random.h"
#include "op/gemm.h"

#include <stdlib.h>

sora_status bench_random(sora_context *context, sora_shape shape, sora_buffer *buffer, sora_view *view, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_random_stream random = { .seed = 1, .purpose = SORA_PURPOSE_TEST };
    size_t count = (size_t)sora_shape_elements(&shape);
    float *values = NULL;
    SORA_TRY(sora_buffer_create(context, count * sizeof *values, "bench", buffer, error));
    *view = sora_view_dense(buffer, 0, shape);
    SORA_TRY(sora_allocate(count, sizeof *values, "bench", &values, error));
    for (size_t i = 0; i < count; i++) values[i] = (float)(2 * sora_random_uniform(&random) - 1);
    SORA_TRY(sora_view_write(context, view, values, error));
cleanup:
    free(values);
    return status;
}

static sora_status add(bench_op *b, sora_shape shape, sora_view *view, sora_error *error)
{
    if (shape.rank == 0) return SORA_OK;
    return bench_random(b->context, shape, &b->buffers[b->buffer_count++], view, error);
}

sora_status bench_op_create(sora_context *context, const sora_op *op, const void *attributes, const sora_shape *shapes,
                            int input_count, uint32_t gradients, bench_op *out, sora_error *error)
{
    sora_status status = SORA_OK;
    *out = (bench_op) { .context = context, .op = op, .attributes = attributes };
    for (int i = 0; i < input_count; i++) out->shapes[i] = shapes[i];
    out->rule = (sora_op_shape_rule) { .attributes = attributes,
                                       .limits = &sora_context_device(context)->limits,
                                       .training = true,
                                       .input_count = input_count,
                                       .inputs = out->shapes };
    SORA_TRY(op->infer(&out->rule, error));
    for (int i = 0; i < input_count; i++) {
        SORA_TRY(add(out, shapes[i], &out->inputs[i], error));
        if (gradients >> i & 1) SORA_TRY(add(out, shapes[i], &out->input_gradients[i], error));
    }
    for (int i = 0; i < out->rule.output_count; i++) {
        SORA_TRY(add(out, out->rule.outputs[i], &out->outputs[i], error));
        SORA_TRY(add(out, out->rule.outputs[i], &out->output_gradients[i], error));
    }
    for (int i = 0; i < SORA_OP_MAX_SAVED; i++) SORA_TRY(add(out, out->rule.saved[i], &out->saved[i], error));
    int64_t scratch = (int64_t)SORA_MAX(out->rule.forward_workspace, out->rule.backward_workspace);
    if (scratch) SORA_TRY(add(out, SORA_SHAPE(scratch), &out->workspace, error));
cleanup:
    if (status != SORA_OK) bench_op_destroy(out);
    return status;
}

void bench_op_destroy(bench_op *op)
{
    for (size_t i = 0; i < op->buffer_count; i++) sora_buffer_destroy(&op->buffers[i]);
    *op = (bench_op) { 0 };
}

/* W [p, q] of a product as it stands while it is frozen: in panels for each way. */
sora_status bench_op_freeze(bench_op *b, int input, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_device_limits *limits = &sora_context_device(b->context)->limits;
    const sora_view rows = b->inputs[input];
    int64_t p = rows.shape.dim[0], q = rows.shape.dim[1];
    for (int back = 0; back < 2; back++) {
        int64_t n = back ? q : p, k = back ? p : q;
        int panel = sora_gemm_panel(limits, n);
        sora_view panels;
        if (!panel) continue;
        sora_gemm_operand weight = { .view = rows, .leading = q, .transposed = !back };
        SORA_TRY(add(b, SORA_SHAPE((int64_t)sora_gemm_panel_elements(panel, n, k)), &panels, error));
        SORA_TRY(sora_gemm_pack(b->context, &weight, n, k, panel, &panels, "bench", error));
        panels.shape = rows.shape;
        panels.stride = rows.stride;
        panels.panel = panel;
        panels.back = back;
        b->frozen[back] = panels;
        b->frozen_input = input;
    }
cleanup:
    return status;
}

static sora_status run(bench_op *b, bool backward, int times, sora_error *error)
{
    if (b->frozen[backward].memory) b->inputs[b->frozen_input] = b->frozen[backward];
    const sora_op_run call = { .context = b->context,
                               .name = b->op->name,
                               .attributes = b->attributes,
                               .training = true,
                               .input_count = b->rule.input_count,
                               .inputs = b->inputs,
                               .outputs = b->outputs,
                               .saved = b->saved,
                               .workspace = b->workspace,
                               .output_gradients = b->output_gradients,
                               .input_gradients = b->input_gradients,
                               .seed = 1 };
    for (int i = 0; i < times; i++) {
        sora_status status = backward ? b->op->backward(&call, error) : b->op->forward(&call, error);
        if (status != SORA_OK) return status;
    }
    return sora_context_finish(b->context, error);
}

sora_status bench_op_forward(void *self, int times, sora_error *error)
{
    return run(self, false, times, error);
}

sora_status bench_op_backward(void *self, int times, sora_error *error)
{
    return run(self, true, times, error);
}
