/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_DROPOUT_H
#define SORA_OP_DROPOUT_H

#include "op/op.h"

/* Arguments of kernels/dropout.cl from a run and a probability. A kept share of exactly (65536 − threshold) / 65536 makes the
 * factor. */
typedef struct sora_dropout_key {
    uint32_t low, high, threshold;
    float factor;
} sora_dropout_key;

static inline sora_dropout_key sora_dropout_key_of(const sora_op_run *run, float probability)
{
    uint32_t threshold = (uint32_t)(probability * 65536.0f + 0.5f);
    if (threshold > 65535u) threshold = 65535u;
    return (sora_dropout_key) { (uint32_t)run->seed, (uint32_t)(run->seed >> 32) ^ ((uint32_t)SORA_PURPOSE_DROPOUT * 0x9e3779b9u),
                                threshold, 65536.0f / (float)(65536u - threshold) };
}

/* y = x ⊙ keep · factor between dense or strided views of equal shape (op dropout); y may stand in x's memory. accumulate: y +=
 * it. */
sora_status sora_dropout_apply(const sora_op_run *run, float probability, const sora_view *x, const sora_view *y, bool accumulate,
                               sora_error *error);

#endif
