/* SPDX-License-Identifier: Apache-2.0 */
#include "op/ops.h"
#include "op/plane.h"

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *x = &rule->inputs[0];
    char text[80];
    if (x->rank != 4 || x->dim[2] < 2 || x->dim[3] < 2)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s; expected [n, c, h, w] with h and w of at least 2",
                         sora_shape_text(x, text));
    rule->output_count = 1;
    rule->outputs[0] = SORA_SHAPE(x->dim[0], x->dim[1], x->dim[2] / 2, x->dim[3] / 2);
    return SORA_OK;
}

/* `tensors` like x that are read and written; the pooled one is a quarter. */
static sora_status launch(const sora_op_run *run, sora_launch_desc desc, const sora_shape *y, double tensors, sora_error *error)
{
    desc.file = "max_pool2d";
    desc.label = run->name;
    desc.bytes = 4.0 * (double)sora_view_elements(&run->inputs[0]) * tensors;
    return sora_launch_planes(run->context, desc, y->dim[2] * y->dim[3], y->dim[1], y->dim[0], 4, error);
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    const sora_view *x = &run->inputs[0], *y = &run->outputs[0];
    sora_launch_desc desc = { .kernel = "pool_forward",
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(y), SORA_LONG(x->stride), SORA_LONG(y->stride),
                                                          SORA_INT(x->shape.dim[2]), SORA_INT(x->shape.dim[3])) };
    return launch(run, desc, &y->shape, 1.25, error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    const sora_view *x = &run->inputs[0], *dy = &run->output_gradients[0], *dx = &run->input_gradients[0];
    sora_launch_desc desc = { .kernel = "pool_backward",
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(dy), SORA_VIEW(dx), SORA_LONG(x->stride),
                                                          SORA_LONG(dy->stride), SORA_LONG(dx->stride), SORA_INT(x->shape.dim[2]),
                                                          SORA_INT(x->shape.dim[3])) };
    return launch(run, desc, &dy->shape, 2.25, error);
}

const sora_op sora_op_max_pool2d = { .name = "max_pool2d",
                                     .differentiable = 1,
                                     .uses_inputs = 1,
                                     .cheap = true,
                                     .infer = infer,
                                     .forward = forward,
                                     .backward = backward };
