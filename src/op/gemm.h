/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_GEMM_H
#define SORA_OP_GEMM_H

#include "cl/launch.h"

/* Products in fp32 behind one interface; a provider does them. Everything is row-major.
 *   C[m, n] (+)= α · Σ_j scale-columns(A_j)[m, k_j] · B_j[k_j, n]   + bias[n], then ReLU
 * The second operand pair rides on the same accumulators (the adapter's up product). */

typedef enum sora_gemm_provider {
    SORA_GEMM_AUTO = 0, /* by device type, or by what was measured */
    SORA_GEMM_TILE,     /* ours */
    SORA_GEMM_CLBLAST,
} sora_gemm_provider;

typedef struct sora_gemm_operand {
    sora_view view;  /* only memory and offset are used */
    int64_t leading; /* elements between rows as stored */
    bool transposed; /* A: stored [k, m]; B: stored [n, k] */
} sora_gemm_operand;

typedef struct sora_gemm_desc {
    sora_gemm_provider provider;
    int64_t m, n, k;
    sora_gemm_operand a, b;
    float alpha; /* 0 counts as 1 */
    int64_t k2;  /* 0: no second pair */
    sora_gemm_operand a2, b2;
    float alpha2;           /* of the second pair; 0 counts as 1 */
    sora_view gate2;        /* [k2] factor of A2's columns; memory NULL: ones */
    sora_view column_scale; /* [n] factor of C's columns before bias; NULL: ones */
    sora_view bias;         /* [n]; NULL: none */
    bool relu;
    bool accumulate; /* C += instead of C = */
    sora_view c;
    int64_t c_leading;
    sora_view workspace; /* of at least sora_gemm_workspace elements */
    const char *label;
} sora_gemm_desc;

/* Scratch in elements that an m x n x k product with a second pair of k2 may need; monotone in the sizes. */
uint64_t sora_gemm_workspace(const sora_device_limits *limits, sora_gemm_provider provider, int64_t m, int64_t n, int64_t k,
                             int64_t k2);

/* Enqueues the product. Deterministic: fixed order of sums for given sizes, provider and device. Any m, n, k ≥ 1. */
sora_status sora_gemm(sora_context *context, const sora_gemm_desc *desc, sora_error *error);

const char *sora_gemm_provider_name(sora_gemm_provider provider);

#endif
