/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_NARROW_H
#define SORA_OP_NARROW_H

#include "op/ops.h"

/* What adapters do with activations, for ranks that are small beside the layers' sizes: one pass over such an activation. */

/* One of some layers of the same activation: its columns and ranks stand behind those of the layers before. */
typedef struct sora_narrow_layer {
    int64_t columns, rank; /* ≥ 1, ≥ 0 */
} sora_narrow_layer;

/* For each layer i, with its columns of X [m, n], of T [m, r] and of S [m, r], n and r being those of all layers,
 *   Tᵢ = Xᵢ · Fᵢᵀ    Pᵢ [rᵢ, nᵢ] = Sᵢᵀ · Xᵢ
 * Everything is row-major; of views only memory and offset are used. P is left as parts to be added up. */
typedef struct sora_narrow_desc {
    int64_t m;
    int layer_count;
    sora_narrow_layer layers[SORA_ADAPTED_MODULES];
    sora_view x;
    int64_t x_leading; /* elements between rows */
    sora_view factor;  /* Fᵢ [rᵢ, nᵢ], dense, one behind the other */
    sora_view t;       /* dense; memory NULL: no T, and F isn't read */
    sora_view s;       /* dense; memory NULL: no P */
    sora_view parts;   /* sora_narrow_parts of P₀, P₁, … */
    sora_view workspace;
    const char *label;
} sora_narrow_desc;

/* Sizes of as many layers as kernels take, as arguments: int layers, int4 columns, int4 ranks. */
#define SORA_NARROW_LAYERS(count, of)                                                               \
    SORA_INT(count), SORA_INT4((of)[0].columns, (of)[1].columns, (of)[2].columns, (of)[3].columns), \
        SORA_INT4((of)[0].rank, (of)[1].rank, (of)[2].rank, (of)[3].rank)

/* Scratch in elements, of one of such layers; those of the largest are enough for all. Monotone in the sizes. */
uint64_t sora_narrow_workspace(const sora_device_limits *limits, int64_t m, int64_t columns, int64_t rank);

/* How many parts there are; follows from m alone on a CPU, 1 on a GPU. */
int64_t sora_narrow_parts(const sora_device_limits *limits, int64_t m);

/* Multiplications and additions. */
double sora_narrow_flops(const sora_narrow_desc *desc);

/* Enqueues it. Deterministic: sums have an order that follows from the sizes alone on a CPU; on a GPU they are
 * products (op/gemm.h), of parts of the rows that follow from m. */
sora_status sora_narrow(sora_context *context, const sora_narrow_desc *desc, sora_error *error);

#endif
