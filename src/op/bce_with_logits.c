/* SPDX-License-Identifier: Apache-2.0 */
#include "op/loss.h"
#include "op/ops.h"

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    return sora_mean_loss_forward(run, "bce_with_logits", error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    return sora_mean_loss_backward(run, "bce_with_logits", error);
}

const sora_op sora_op_bce_with_logits = { .name = "bce_with_logits",
                                          .differentiable = 1,
                                          .uses_inputs = 3,
                                          .infer = sora_mean_loss_infer,
                                          .forward = forward,
                                          .backward = backward };
