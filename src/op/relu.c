/* SPDX-License-Identifier: Apache-2.0 */
#include "op/activation.h"
#include "op/ops.h"

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    return sora_activation_forward(run, "relu", error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    return sora_activation_backward(run, "relu", error);
}

const sora_op sora_op_relu = { .name = "relu",
                               .differentiable = 1,
                               .uses_outputs = 1,
                               .in_place = 1,
                               .gradient_in_place = true,
                               .cheap = true,
                               .infer = sora_activation_infer,
                               .forward = forward,
                               .backward = backward };
