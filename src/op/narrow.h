/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_NARROW_H
#define SORA_OP_NARROW_H

#include "cl/launch.h"

/* What an adapter does with an activation X [m, n], for a rank that is small beside m and n, in one pass over X:
 *   T [m, rank] = α · X Fᵀ      and      G [rank, n] (+)= row_scale ⊙ (Sᵀ X)
 * Either may be left out. */
typedef struct sora_narrow_desc {
    int64_t m, n, rank; /* each ≥ 1 */
    sora_view x;        /* of views only memory and offset are used */
    int64_t x_leading;  /* elements between rows */
    sora_view factor;   /* F; memory NULL: no T */
    bool turned;        /* F is stored [n, rank], not [rank, n]; both dense */
    float alpha;        /* 0 counts as 1 */
    sora_view t;
    int64_t t_leading;
    sora_view s; /* memory NULL: no G */
    int64_t s_leading;
    sora_view row_scale; /* [rank]; memory NULL: ones */
    sora_view gradient;  /* G, dense */
    bool accumulate;     /* G += instead of G = */
    sora_view workspace; /* of at least sora_narrow_workspace elements */
    const char *label;
} sora_narrow_desc;

/* Scratch in elements; monotone in the sizes. */
uint64_t sora_narrow_workspace(const sora_device_limits *limits, int64_t m, int64_t n, int64_t rank);

/* Enqueues it. Deterministic: sums have an order that follows from the sizes alone on a CPU; on a GPU they are two products
 * (op/gemm.h). */
sora_status sora_narrow(sora_context *context, const sora_narrow_desc *desc, sora_error *error);

#endif
