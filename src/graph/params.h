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
/* The value as backward takes it: of a frozen product's weight in panels for the way back where the set keeps those. */
sora_view sora_param_back_view(const sora_param *param);
sora_view sora_params_group(const sora_params *params, sora_param_kind kind, sora_param_part part);
/* The gradients of all kinds as one range; absent where nothing trains. */
sora_view sora_params_gradients(const sora_params *params);

/* Says that a matrix [p, q] is the weight of products: while it is frozen the device has it, where that is faster, in panels only
 * (sora_view), for forward and, if anything of the set trains, for the way back. Reading gives the matrix as ever.
 * A table [v, d] is read by row (embedding) and as a product's weight, and always stands as it is. Of both the set may keep
 * halves: only ops that know SORA_F16 take them. */
void sora_param_set_product(sora_param *param);
/* The same of a [o, c, 3, 3] and convolutions: while it is frozen the device has it transformed, too, where that is faster. */
void sora_param_set_convolution(sora_param *param);
void sora_param_set_table(sora_param *param);
/* True once the value came back from the device as halves. */
bool sora_param_rounded(const sora_param *param);

/* Has the programs that an upload takes, of frozen weights of that type or of convolutions, too, built while weights are still
 * being read. */
sora_status sora_params_expect_upload(sora_context *context, sora_dtype frozen, bool convolutions, sora_error *error);

/* Parameters of one `pack` (not 0) stand in device memory without a gap, in order of `place` (from 0, each its own), so that one
 * product takes them all. They are of one kind, and train together: while one is frozen all are. On the host only. */
void sora_param_set_pack(sora_param *param, int pack, int place);
/* What sora_param_set_trainable said last, whatever the rest of the pack is. */
bool sora_param_asked(const sora_param *param);
/* True where `list` is parameters of one pack, in order; it must hold all of them. */
bool sora_params_joined(sora_param *const *list, int count);

sora_context *sora_params_context(const sora_params *params);
sora_moment_layout sora_params_moments(const sora_params *params);

#endif
