/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_GEMM_H
#define SORA_OP_GEMM_H

#include "cl/launch.h"
#include "cl/tuning.h"
#include "op/narrow.h"

/* Products in fp32 behind one interface; a provider does them. Everything is row-major.
 *   C[m, n] (+)= α (A[m, k] · B[k, n] + A₂[m, k₂] · B₂[k₂, n]) + bias[n], then ReLU
 * The second operand pair rides on the same accumulators (the adapter's up product). */

typedef enum sora_gemm_provider {
    SORA_GEMM_TILE = 0, /* ours: a tile of C in registers */
    SORA_GEMM_DOT,      /* ours, on a CPU, for few rows: inner products that read B, stored [n, k], once */
    SORA_GEMM_BLOCK,    /* ours, on a CPU: k in blocks that stay near, copied where an operand's rows lie far apart */
    SORA_GEMM_CLBLAST,
    SORA_GEMM_SPARSE,  /* block, without the terms that are 0 in A, or in B: then it makes C's transpose */
    SORA_GEMM_SAMPLED, /* ours, on a CPU: inner products of what is wanted alone */
} sora_gemm_provider;

/* One way to do a product. */
typedef struct sora_gemm_variant {
    sora_gemm_provider provider;
    int rows, vectors;                          /* tile on a CPU: C in registers, vectors of the device's width */
    int group_rows, group_columns, group_depth; /* C of a work-group (block, sparse: of an item, at most), terms it has near */
    int item_rows, item_columns;                /* tile on a GPU: C of a work-item */
    int parameters; /* CLBlast: 1 + the set of parameters to put; 0: the one that was chosen for the device */
} sora_gemm_variant;
#define SORA_GEMM_VARIANTS 32

typedef struct sora_gemm_operand {
    sora_view view;  /* only memory, offset and dtype are used; SORA_F16: B of the first pair is halves */
    int64_t leading; /* elements between rows as stored */
    bool transposed; /* A: stored [k, m]; B: stored [n, k]; the second pair never */
    int panel;       /* not 0: B stands in panels of that many columns (sora_gemm_pack), or, of the first pair, */
    bool turned;     /* Bᵀ does, and is packed again; leading and transposed don't matter then */
    bool zeros;      /* many of its numbers are 0, as behind a ReLU; says how fast a variant is, not what it makes */
} sora_gemm_operand;

/* Products of equal sizes in one launch, each one's operands so many elements behind the last's. One pair of operands, and B
 * stands in panels where the device has them. */
typedef struct sora_gemm_batch {
    int64_t count; /* 0 counts as 1 */
    int64_t a, b, c;
} sora_gemm_batch;

/* B2 is 0 but in blocks along its diagonal, which end before so many columns and terms, in ascending order; the last one ends
 * with B2 and isn't named. What lies outside may be left out. */
#define SORA_GEMM_BLOCKS 4
typedef struct sora_gemm_blocks {
    int count; /* 0 counts as 1 */
    int64_t columns[SORA_GEMM_BLOCKS - 1], terms[SORA_GEMM_BLOCKS - 1];
} sora_gemm_blocks;

/* Sums over rows that ride where `wanted` is read anyway: parts, to be added up, of Sᵀ · wanted [rank, n]. */
typedef struct sora_gemm_sums {
    int64_t rank;    /* 0: none */
    sora_view left;  /* S [m, rank], dense */
    sora_view parts; /* sora_gemm_sums_parts of [rank, n] */
} sora_gemm_sums;

/* An adapter's passes (op/narrow.h), made where the product has rows near anyway. */
typedef struct sora_gemm_passes {
    const sora_narrow_desc *before; /* over A, whose T is A₂, dense; NULL: none */
    const sora_narrow_desc *after;  /* over rows of one layer, whose S is A₂; no T. NULL: none */
} sora_gemm_passes;

typedef struct sora_gemm_desc {
    const sora_gemm_variant *variant; /* one of sora_gemm_variants; NULL: the one that was measured to be best, or the default */
    int64_t m, n, k;
    sora_gemm_operand a, b;
    float alpha;              /* 0 counts as 1 */
    int64_t k2;               /* 0: no second pair */
    sora_gemm_operand a2, b2; /* B2 in panels of sora_gemm_panel's width, where the device has them */
    sora_gemm_blocks blocks2;
    sora_view bias; /* [n]; NULL: none */
    bool relu;
    bool accumulate;        /* C += instead of C =; then no bias and no ReLU */
    sora_view wanted;       /* [m, n]: where it is 0 C is 0, too */
    int64_t wanted_leading; /* 0: all of C is wanted */
    sora_gemm_sums sums;
    sora_view bt; /* B's transpose, in panels of sora_gemm_panel's width besides */
    bool has_bt;
    sora_view c;
    int64_t c_leading;
    sora_gemm_batch batch;
    sora_gemm_passes passes;
    sora_view workspace; /* of at least sora_gemm_workspace elements */
    const char *label;
} sora_gemm_desc;

static inline float sora_gemm_alpha(const sora_gemm_desc *desc)
{
    return desc->alpha == 0.0f ? 1.0f : desc->alpha;
}

/* The ways in which the device can do this product (of which sizes and operands' forms are looked at), the default first:
 * out[SORA_GEMM_VARIANTS]; returns how many. */
int sora_gemm_variants(const sora_device_limits *limits, const sora_gemm_desc *desc, sora_gemm_variant *out);

/* What a choice by measurement is kept under, and a variant as its numbers. */
sora_tuning_key sora_gemm_tuning_key(const sora_gemm_desc *desc);
sora_tuning_variant sora_gemm_tuning_variant(const sora_gemm_variant *variant);
sora_gemm_variant sora_gemm_variant_of(const sora_tuning_variant *numbers);

/* The variant that was measured to be best, if it is still one of the device's; else the default. */
sora_gemm_variant sora_gemm_choose(sora_context *context, const sora_gemm_desc *desc);

/* Scratch in elements that products of n columns and k terms may need in any of their variants; monotone. Where B stands in panels
 * k counts as 0, where it has zeros n is the larger of rows and columns. Where CLBlast copies operands it takes the context's
 * scratch besides. */
uint64_t sora_gemm_workspace(const sora_device_limits *limits, int64_t n, int64_t k);

/* The parts of `sums` that this variant of a product makes for m rows: 0 where it doesn't read `wanted` as it goes along. The most
 * that any makes; monotone. */
int64_t sora_gemm_sums_parts(const sora_gemm_variant *variant, int64_t m);
int64_t sora_gemm_sums_most(int64_t m);

/* The parts of sums that such passes make, if they may ride on this variant of the product on this device: 0 where none can, or where
 * they would leave units without work. The most that any makes of m rows; monotone. */
int64_t sora_gemm_pass_parts(const sora_device_limits *limits, const sora_gemm_variant *variant, const sora_gemm_desc *desc);
int64_t sora_gemm_pass_parts_most(const sora_device_limits *limits, int64_t m);

/* The columns of a panel in which a B of n columns that stays is best kept on this device; 0: as it is. */
int sora_gemm_panel(const sora_device_limits *limits, int64_t n);

/* Elements of a B [k, n] in panels, which stand one after the other as [k, panel], with zeros behind the last column. */
uint64_t sora_gemm_panel_elements(int panel, int64_t n, int64_t k);

/* Enqueues the copy of B (of n columns and k rows) into panels. Each of B and out may be halves. */
sora_status sora_gemm_pack(sora_context *context, const sora_gemm_operand *b, int64_t n, int64_t k, int panel,
                           const sora_view *out, const char *label, sora_error *error);

/* Has the program that packs wide weights, which stay what they are, built meanwhile. */
sora_status sora_gemm_expect_pack(sora_context *context, sora_dtype dtype, sora_error *error);

/* Enqueues the product. Deterministic: fixed order of sums for given sizes, provider and device. Any m, n, k ≥ 1. */
sora_status sora_gemm(sora_context *context, const sora_gemm_desc *desc, sora_error *error);

const char *sora_gemm_provider_name(sora_gemm_provider provider);

#endif
