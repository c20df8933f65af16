/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_LOSS_H
#define SORA_OP_LOSS_H

#include "op/op.h"

/* The shape rule of a loss: input and target of equal shape, a scalar comes out. */
static inline sora_status sora_loss_check(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *x = &rule->inputs[0], *target = &rule->inputs[1];
    char one[80], other[80];
    bool equal = x->rank == target->rank;
    for (int i = 0; equal && i < x->rank; i++) equal = x->dim[i] == target->dim[i];
    if (!equal)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s and target %s; they must be equal", sora_shape_text(x, one),
                         sora_shape_text(target, other));
    rule->output_count = 1;
    rule->outputs[0] = SORA_SHAPE(1);
    return SORA_OK;
}

#endif
