/* SPDX-License-Identifier: Apache-2.0 */
#include "op/ops.h"
#include "op/range.h"

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *x = &rule->inputs[0];
    char text[80];
    if (x->rank < 2 || x->dim[x->rank - 1] % 2 != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s; expected [..., 2 f], activation and gate side by side",
                         sora_shape_text(x, text));
    rule->output_count = 1;
    rule->outputs[0] = *x;
    rule->outputs[0].dim[x->rank - 1] /= 2;
    return SORA_OK;
}

static int64_t width_of(const sora_op_run *run)
{
    const sora_shape *x = &run->inputs[0].shape;
    return x->dim[x->rank - 1] / 2;
}

static sora_status launch(const sora_op_run *run, const char *kernel, const sora_argument *arguments, sora_error *error)
{
    int64_t width = width_of(run);
    sora_launch_desc desc = { .file = "range", .kernel = kernel, .label = run->name, .arguments = arguments };
    return sora_launch_range(run->context, desc, width, sora_view_elements(&run->inputs[0]) / (2 * width), error);
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    return launch(run, "gated_gelu_forward",
                  SORA_ARGUMENTS(SORA_VIEW(&run->inputs[0]), SORA_VIEW(&run->outputs[0]), SORA_LONG(width_of(run))), error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    return launch(run, "gated_gelu_backward",
                  SORA_ARGUMENTS(SORA_VIEW(&run->inputs[0]), SORA_VIEW(&run->output_gradients[0]),
                                 SORA_VIEW(&run->input_gradients[0]), SORA_LONG(width_of(run))),
                  error);
}

const sora_op sora_op_gated_gelu = { .name = "gated_gelu",
                                     .differentiable = 1,
                                     .uses_inputs = 1,
                                     .cheap = true,
                                     .dense = ~0u,
                                     .infer = infer,
                                     .forward = forward,
                                     .backward = backward };
