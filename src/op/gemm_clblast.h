/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_GEMM_CLBLAST_H
#define SORA_OP_GEMM_CLBLAST_H

#include "op/gemm.h"

/* The products (op/gemm.h) that a library does. */

/* What the choice of CLBlast's parameters is kept under: one for a device. Its variants are sets, by their number. */
sora_tuning_key sora_gemm_clblast_key(void);

/* Whether its places and leadings, which are ints, reach all of this product's operands. */
bool sora_gemm_clblast_counts(const sora_gemm_desc *desc);

/* Enqueues the product and what is left to do then. variant: one of CLBlast's. */
sora_status sora_gemm_clblast(sora_context *context, const sora_gemm_desc *desc, const sora_gemm_variant *variant,
                              sora_error *error);

#endif
