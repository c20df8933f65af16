/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_NARROW_H
#define SORA_OP_NARROW_H

#include "op/ops.h"

/* What adapters do with activations, for ranks that are small beside the layers' sizes: one pass over each of them. Everything is
 * row-major; of views only memory and offset are used. */

/* T [m, rank] = X [m, n] · Fᵀ [n, rank] */
typedef struct sora_narrow_desc {
    int64_t m, n, rank; /* each ≥ 1 */
    sora_view x;
    int64_t x_leading; /* elements between rows */
    sora_view factor;  /* F, dense */
    sora_view t;       /* dense */
    sora_view workspace;
    const char *label;
} sora_narrow_desc;

/* One of some layers of the same x: its outputs and ranks stand behind those of the layers before. */
typedef struct sora_narrow_layer {
    int64_t outputs, rank; /* ≥ 1, ≥ 0 */
} sora_narrow_layer;

/* The way back through the adapters of some layers, p outputs and r ranks in all: for each layer i, with its columns of dY [m, p],
 * dT [m, r] and T [m, r],
 *   dTᵢ = dYᵢ · Uᵢᵀ    Pᵢ [rᵢ, pᵢ] = Tᵢᵀ · dYᵢ    and Q [r, n] = dTᵀ · X
 * P and Q are left as parts to be added up, each P₀, P₁, …, Q. */
typedef struct sora_narrow_back_desc {
    int64_t m, n;
    int layer_count;
    sora_narrow_layer layers[SORA_ADAPTED_MODULES];
    sora_view dy;
    int64_t dy_leading;
    sora_view up; /* Uᵢ [rᵢ, pᵢ], dense, one behind the other */
    sora_view dt; /* dense */
    sora_view t;  /* dense; memory NULL: no P */
    sora_view x;  /* memory NULL: no Q */
    int64_t x_leading;
    sora_view parts; /* of sora_narrow_parts times that many elements */
    sora_view workspace;
    const char *label;
} sora_narrow_back_desc;

/* Scratch in elements of either, the layers' outputs and ranks together being p and rank; monotone in the sizes. */
uint64_t sora_narrow_workspace(const sora_device_limits *limits, int64_t m, int64_t n, int64_t rank);
uint64_t sora_narrow_back_workspace(const sora_device_limits *limits, int64_t m, int64_t n, int64_t p, int64_t rank);

/* How many parts there are; follows from m alone on a CPU, 1 on a GPU. */
int64_t sora_narrow_parts(const sora_device_limits *limits, int64_t m);

/* Enqueue it. Deterministic: sums have an order that follows from the sizes alone on a CPU; on a GPU they are products
 * (op/gemm.h). */
sora_status sora_narrow(sora_context *context, const sora_narrow_desc *desc, sora_error *error);
sora_status sora_narrow_back(sora_context *context, const sora_narrow_back_desc *desc, sora_error *error);

#endif
