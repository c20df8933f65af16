/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_ACTIVATION_H
#define SORA_OP_ACTIVATION_H

#include "op/plane.h"

/* Functions of one element whose slope follows from the output: kernel file `file` has forward and backward. */

static inline sora_status sora_activation_infer(sora_op_shape_rule *rule, sora_error *error)
{
    (void)error;
    rule->output_count = 1;
    rule->outputs[0] = rule->inputs[0];
    return SORA_OK;
}

static inline sora_status sora_activation_forward(const sora_op_run *run, const char *file, sora_error *error)
{
    const sora_view *x = &run->inputs[0], *y = &run->outputs[0];
    int64_t n = sora_view_inner(x);
    sora_launch_desc desc = { .file = file,
                              .kernel = "forward",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(y), SORA_LONG(x->stride), SORA_LONG(y->stride),
                                                          SORA_INT(n)) };
    return sora_launch_planes(run->context, desc, n, 1, x->shape.dim[0], 1, error);
}

static inline sora_status sora_activation_backward(const sora_op_run *run, const char *file, sora_error *error)
{
    const sora_view *y = &run->outputs[0], *dy = &run->output_gradients[0], *dx = &run->input_gradients[0];
    int64_t n = sora_view_inner(y);
    sora_launch_desc desc = { .file = file,
                              .kernel = "backward",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(y), SORA_VIEW(dy), SORA_VIEW(dx), SORA_LONG(y->stride),
                                                          SORA_LONG(dy->stride), SORA_LONG(dx->stride), SORA_INT(n)) };
    return sora_launch_planes(run->context, desc, n, 1, y->shape.dim[0], 1, error);
}

#endif
