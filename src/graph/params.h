/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_GRAPH_PARAMS_H
#define SORA_GRAPH_PARAMS_H

#include "cl/buffer.h"
#include "soracl/graph.h"

typedef enum sora_param_part {
    SORA_PART_VALUE = 0,
    SORA_PART_MOMENT1,
    SORA_PART_MOMENT2,
    SORA_PART_GRADIENT,
    SORA_PARTS
} sora_param_part;

/* On the device: the view of one part of a parameter (absent where it has none), and the contiguous range of all trainable
 * parameters of a kind (elements 0 where there are none). */
sora_view sora_param_view(const sora_param *param, sora_param_part part);
sora_view sora_params_group(const sora_params *params, sora_param_kind kind, sora_param_part part);

sora_context *sora_params_context(const sora_params *params);

#endif
