/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/context.h"
#include "graph/tune.h"
#include "op/gemm_clblast.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* CLBlast keeps one set of parameters for a device, so it is chosen once, for the largest products that were taken down
 * together. */
#define MOST_PRODUCTS 3

typedef struct products {
    int count;
    void *list[MOST_PRODUCTS]; /* of sora_tunable_gemm */
} products;

static void describe(const int64_t *shape, char text[96])
{
    (void)shape;
    snprintf(text, 96, "CLBlast's parameters, for the largest products");
}

static int variants(const sora_device_limits *limits, const int64_t *shape, sora_tuning_variant out[SORA_TUNE_VARIANTS])
{
    (void)limits;
    (void)shape;
    for (int i = 0; i < SORA_CLBLAST_SETS; i++) out[i] = (sora_tuning_variant) { { i } };
    return SORA_CLBLAST_SETS;
}

static void name(const sora_tuning_variant *variant, char text[48])
{
    snprintf(text, 48, "%s", sora_clblast_set_name(variant->number[0]));
}

/* Before all products: they are measured with the set that was chosen. */
static double flops(const int64_t *shape)
{
    (void)shape;
    return INFINITY;
}

static bool takes(sora_context *context, const sora_tuning_entry *asked)
{
    sora_tuning_variant list[SORA_TUNE_VARIANTS];
    bool found = false;
    if (strcmp(asked->op, sora_tunable_gemm.op) != 0) return false;
    int count = sora_tunable_gemm.variants(&sora_context_device(context)->limits, asked->shape, list);
    for (int i = 0; i < count; i++) found |= list[i].number[0] == SORA_GEMM_CLBLAST;
    return found;
}

static void release(void *self)
{
    products *p = self;
    if (!p) return;
    for (int i = 0; i < p->count; i++) sora_tunable_gemm.release(p->list[i]);
    free(p);
}

/* What was taken down is in order of work. */
static sora_status prepare(sora_context *context, const int64_t *shape, void **self, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_tuning *tuning = &context->tuning;
    products *p = NULL;
    (void)shape;
    SORA_TRY(sora_allocate(1, sizeof *p, "tuning", &p, error));
    *self = p;
    for (size_t i = 0; i < tuning->asked_count && p->count < MOST_PRODUCTS; i++)
        if (takes(context, &tuning->asked[i])) {
            p->count++;
            SORA_TRY(sora_tunable_gemm.prepare(context, tuning->asked[i].shape, &p->list[p->count - 1], error));
        }
cleanup:
    return status;
}

static sora_status launch(void *self, const sora_tuning_variant *variant, sora_error *error)
{
    const products *p = self;
    const sora_gemm_variant way = { .provider = SORA_GEMM_CLBLAST, .parameters = variant->number[0] + 1 };
    const sora_tuning_variant numbers = sora_gemm_tuning_variant(&way);
    sora_status status = SORA_OK;
    for (int i = 0; status == SORA_OK && i < p->count; i++) status = sora_tunable_gemm.launch(p->list[i], &numbers, error);
    return status;
}

static sora_status check(void *self, bool *right, sora_error *error)
{
    const products *p = self;
    sora_status status = SORA_OK;
    *right = true;
    for (int i = 0; status == SORA_OK && i < p->count; i++) {
        bool one = false;
        status = sora_tunable_gemm.check(p->list[i], &one, error);
        *right &= one;
    }
    return status;
}

const sora_tunable sora_tunable_clblast = { "clblast", describe, variants, name,    flops,
                                            prepare,   launch,   check,    release, .apart = true };
