/* SPDX-License-Identifier: Apache-2.0 */
#include "op/loss.h"
#include "op/ops.h"

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    return sora_mean_loss_forward(run, "mse_loss", error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    return sora_mean_loss_backward(run, "mse_loss", error);
}

const sora_op sora_op_mse_loss = { .name = "mse_loss",
                                   .differentiable = 1,
                                   .uses_inputs = 3,
                                   .infer = sora_mean_loss_infer,
                                   .forward = forward,
                                   .backward = backward };
