/* SPDX-License-Identifier: Apache-2.0 */
#include "op/conv.h"
#include "op/ops.h"
#include "op/plane.h"

/* OB, CB and BB of the kernels */
#define OUTPUT_BLOCK 2
#define INPUT_BLOCK 4
#define BACK_BLOCK 8
/* A part's pixels of x and dy are read by many work-items, one after the other: they should stay in a near cache. */
#define PART_ELEMENTS 65536

static int64_t part_count(const sora_device_limits *limits, const sora_shape *x, int64_t outputs)
{
    int64_t lanes = sora_lanes(limits), tiles = x->dim[0] * ((x->dim[2] * x->dim[3] + lanes - 1) / lanes);
    int64_t items = outputs * ((x->dim[1] + INPUT_BLOCK - 1) / INPUT_BLOCK);
    int64_t wanted = (limits->type == SORA_DEVICE_CPU ? 16 : 1024) * (int64_t)limits->compute_units;
    int64_t elements = sora_shape_elements(x) / x->dim[1] * (x->dim[1] + 4 * outputs);
    int64_t parts = SORA_MAX((wanted + items - 1) / items, elements / PART_ELEMENTS);
    return SORA_MAX(1, SORA_MIN(parts, SORA_MIN(tiles, 256)));
}

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *x = &rule->inputs[0], *w = &rule->inputs[1], *b = &rule->inputs[2];
    char input[80], weight[80];
    bool fits = x->rank == 4 && w->rank == 4 && w->dim[0] == x->dim[1] && w->dim[2] == 2 && w->dim[3] == 2;
    if (!fits || (b->rank && (b->rank != 1 || b->dim[0] != w->dim[1])))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s, weight %s; expected [n, c, h, w], [c, o, 2, 2] and a bias of o",
                         sora_shape_text(x, input), sora_shape_text(w, weight));
    rule->output_count = 1;
    rule->outputs[0] = SORA_SHAPE(x->dim[0], w->dim[1], 2 * x->dim[2], 2 * x->dim[3]);
    int64_t parts = part_count(rule->limits, x, w->dim[1]) * sora_shape_elements(w);
    rule->backward_workspace = SORA_MAX((uint64_t)parts, sora_conv_bias_workspace(&rule->outputs[0]));
    return SORA_OK;
}

/* Forward and each gradient. */
static double flops_of(const sora_shape *x, int64_t outputs)
{
    return 8.0 * (double)outputs * (double)sora_shape_elements(x);
}

static double bytes_of(const sora_shape *x, int64_t outputs)
{
    double inputs = (double)x->dim[1];
    return 4.0 * ((double)sora_shape_elements(x) * (1.0 + 4.0 * (double)outputs / inputs) + 4.0 * inputs * (double)outputs);
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    static const sora_view none = { 0 };
    const sora_view *x = &run->inputs[0], *y = &run->outputs[0], *bias = run->input_count > 2 ? &run->inputs[2] : &none;
    const sora_shape *in = &x->shape;
    sora_launch_desc desc = { .file = "conv_transpose2d",
                              .kernel = "transpose_forward",
                              .flops = flops_of(&x->shape, y->shape.dim[1]),
                              .bytes = bytes_of(&x->shape, y->shape.dim[1]),
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(&run->inputs[1]), SORA_VIEW(bias), SORA_VIEW(y),
                                                          SORA_LONG(x->stride), SORA_LONG(y->stride), SORA_INT(in->dim[1]),
                                                          SORA_INT(y->shape.dim[1]), SORA_INT(in->dim[2]), SORA_INT(in->dim[3]),
                                                          SORA_INT(bias->memory != NULL)) };
    return sora_launch_planes(run->context, desc, in->dim[2] * in->dim[3], (y->shape.dim[1] + OUTPUT_BLOCK - 1) / OUTPUT_BLOCK,
                              in->dim[0], OUTPUT_BLOCK * in->dim[1], error);
}

static sora_status weight_gradient(const sora_op_run *run, sora_error *error)
{
    const sora_view *x = &run->inputs[0], *dy = &run->output_gradients[0], *dw = &run->input_gradients[1];
    const sora_device_limits *limits = &sora_context_device(run->context)->limits;
    const sora_shape *in = &x->shape;
    int64_t inputs = in->dim[1], outputs = dy->shape.dim[1], lanes = sora_lanes(limits), n = sora_view_elements(dw);
    int64_t tiles = in->dim[0] * ((in->dim[2] * in->dim[3] + lanes - 1) / lanes), parts = part_count(limits, in, outputs),
            per = (tiles + parts - 1) / parts;
    sora_status status = sora_launch(
        run->context,
        &(sora_launch_desc) { .file = "conv_transpose2d",
                              .kernel = "transpose_gradient_parts",
                              .options = sora_range_options(run->context),
                              .flops = flops_of(in, outputs),
                              .bytes = bytes_of(in, outputs),
                              .global = { (size_t)outputs, (size_t)((inputs + INPUT_BLOCK - 1) / INPUT_BLOCK), (size_t)parts },
                              .label = run->name,
                              .arguments =
                                  SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(dy), SORA_VIEW(&run->workspace), SORA_LONG(x->stride),
                                                 SORA_LONG(dy->stride), SORA_INT(inputs), SORA_INT(outputs), SORA_INT(in->dim[2]),
                                                 SORA_INT(in->dim[3]), SORA_INT(in->dim[0]), SORA_INT(per)) },
        error);
    if (status != SORA_OK) return status;
    return sora_launch(
        run->context,
        &(sora_launch_desc) {
            .file = "conv_transpose2d",
            .kernel = "transpose_gradient_total",
            .options = sora_range_options(run->context),
            .global = { sora_is_cpu(run->context) ? (size_t)SORA_MAX(1, n / SORA_RANGE_CPU_ELEMENTS) : (size_t)n },
            .label = run->name,
            .arguments = SORA_ARGUMENTS(SORA_VIEW(&run->workspace), SORA_VIEW(dw), SORA_INT(parts), SORA_LONG(n)) },
        error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_view *dy = &run->output_gradients[0], *dx = &run->input_gradients[0], *dw = &run->input_gradients[1];
    if (dw->memory) SORA_TRY(weight_gradient(run, error));
    if (run->input_count > 2 && run->input_gradients[2].memory)
        SORA_TRY(sora_conv_bias_gradient(run->context, dy, &run->input_gradients[2], &run->workspace, run->name, error));
    if (dx->memory) {
        const sora_shape *in = &dx->shape;
        sora_launch_desc desc = { .file = "conv_transpose2d",
                                  .kernel = "transpose_backward",
                                  .flops = flops_of(in, dy->shape.dim[1]),
                                  .bytes = bytes_of(in, dy->shape.dim[1]),
                                  .label = run->name,
                                  .arguments =
                                      SORA_ARGUMENTS(SORA_VIEW(dy), SORA_VIEW(&run->inputs[1]), SORA_VIEW(dx),
                                                     SORA_LONG(dy->stride), SORA_LONG(dx->stride), SORA_INT(in->dim[1]),
                                                     SORA_INT(dy->shape.dim[1]), SORA_INT(in->dim[2]), SORA_INT(in->dim[3])) };
        SORA_TRY(sora_launch_planes(run->context, desc, in->dim[2] * in->dim[3], (in->dim[1] + BACK_BLOCK - 1) / BACK_BLOCK,
                                    in->dim[0], BACK_BLOCK * dy->shape.dim[1], error));
    }
cleanup:
    return status;
}

const sora_op sora_op_conv_transpose2d = { .name = "conv_transpose2d",
                                           .parameters = 6,
                                           .differentiable = 7,
                                           .uses_inputs = 3,
                                           .infer = infer,
                                           .forward = forward,
                                           .backward = backward };
