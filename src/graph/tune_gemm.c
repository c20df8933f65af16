/* SPDX-License-Identifier: Apache-2.0 */
#include "base/half.h"
#include "base/random.h"
#include "cl/context.h"
#include "graph/tune.h"
#include "op/gemm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECKED 96

enum { A, B, A2, B2, WANTED, C, PANELS, PANELS2, PANELS_TURNED, SCRATCH, OPERANDS };

typedef struct product {
    sora_context *context;
    sora_gemm_desc desc;
    sora_tune_operand operands[OPERANDS];
} product;

/* shape: as sora_gemm_tuning_key makes it. Views have no memory yet. */
static sora_gemm_desc desc_of(const int64_t *shape)
{
    int64_t m = shape[0], n = shape[1], k = shape[2], k2 = shape[3], forms = shape[4];
    sora_gemm_desc d = { .m = m, .n = n, .k = k, .k2 = k2, .c_leading = n, .label = "tune" };
    bool a = forms & 1, b = forms & 2;
    d.a = (sora_gemm_operand) { .leading = a ? m : k, .transposed = a, .zeros = forms & 32 };
    d.b = (sora_gemm_operand) {
        .leading = b ? k : n, .transposed = b, .panel = (int)shape[5], .turned = forms & 4, .zeros = forms & 128
    };
    d.b.view.dtype = forms & 16 ? SORA_F16 : SORA_F32;
    d.wanted_leading = forms & 64 ? n : 0;
    d.has_bt = d.wanted_leading && d.b.panel;
    d.a2 = (sora_gemm_operand) { .leading = k2 };
    d.b2 = (sora_gemm_operand) { .leading = n };
    return d;
}

static void describe(const int64_t *shape, char text[96])
{
    sora_gemm_desc d = desc_of(shape);
    char second[32] = "";
    if (d.k2) snprintf(second, sizeof second, " + %lld", (long long)d.k2);
    const char *zeros = d.a.zeros ? ", A behind a ReLU" : d.b.zeros ? ", B behind a ReLU" : "";
    snprintf(text, 96, "gemm %lld x %lld x %lld%s%s%s%s%s%s", (long long)d.m, (long long)d.n, (long long)d.k, second,
             d.a.transposed ? ", A by columns" : "", zeros, d.wanted_leading ? ", C in part" : "",
             d.b.panel && d.b.turned ? ", B's transpose in panels"
             : d.b.panel             ? ", B in panels"
             : d.b.transposed        ? ", B by columns"
                                     : "",
             d.b.view.dtype == SORA_F16 ? ", halves" : "");
}

static int variants(const sora_device_limits *limits, const int64_t *shape, sora_tuning_variant out[SORA_TUNE_VARIANTS])
{
    sora_gemm_desc d = desc_of(shape);
    sora_gemm_variant list[SORA_GEMM_VARIANTS];
    int count = sora_gemm_variants(limits, &d, list);
    for (int i = 0; i < count; i++) out[i] = sora_gemm_tuning_variant(&list[i]);
    return count;
}

static void name(const sora_tuning_variant *variant, char text[48])
{
    sora_gemm_variant v = sora_gemm_variant_of(variant);
    const char *provider = sora_gemm_provider_name(v.provider);
    if (v.provider == SORA_GEMM_SAMPLED)
        snprintf(text, 48, "%s %d x %d", provider, v.group_rows, v.group_columns);
    else if (v.group_rows)
        snprintf(text, 48, "%s %d x %d by %d, %d x %d", provider, v.group_rows, v.group_columns, v.group_depth,
                 v.rows ? v.rows : v.item_rows, v.rows ? v.vectors : v.item_columns);
    else if (v.rows)
        snprintf(text, 48, "%s %d x %d", provider, v.rows, v.vectors);
    else
        snprintf(text, 48, "%s", provider);
}

static double flops(const int64_t *shape)
{
    return 2.0 * (double)shape[0] * (double)shape[1] * (double)(shape[2] + shape[3]);
}

static void release(void *self)
{
    product *p = self;
    if (!p) return;
    sora_tune_release(p->operands, OPERANDS);
    free(p);
}

static sora_status draw(product *p, int which, int64_t elements, sora_view *view, sora_error *error)
{
    sora_status status = sora_tune_draw(p->context, which, SORA_SHAPE(elements), &p->operands[which], error);
    *view = p->operands[which].view;
    return status;
}

/* Leaves of numbers in -1 to 1 a quarter, as a trained network's ReLU does. */
static sora_status pass_relu(product *p, sora_tune_operand *operand, int64_t elements, sora_error *error)
{
    float *v = operand->host;
    for (int64_t i = 0; i < elements; i++) v[i] = v[i] < 0.5f ? 0.0f : v[i];
    return sora_view_write(p->context, &operand->view, v, error);
}

/* B, which stands as floats, as halves in the same memory, and on the host as it is then. */
static sora_status narrow(product *p, int64_t elements, sora_error *error)
{
    sora_view *b = &p->desc.b.view;
    uint16_t *halves;
    sora_status status = sora_allocate((size_t)elements, sizeof *halves, "operand", &halves, error);
    if (status != SORA_OK) return status;
    b->dtype = SORA_F16;
    status = sora_halves_of(p->operands[B].host, (uint64_t)elements, "operand", halves, error);
    if (status == SORA_OK) status = sora_view_write(p->context, b, halves, error);
    if (status == SORA_OK) sora_halves_widen(halves, (uint64_t)elements, p->operands[B].host);
    free(halves);
    return status;
}

/* A B of n columns and k rows as it is on the host into panels, which `out` has. */
static sora_status bring_into_panels(product *p, sora_gemm_operand *b, int64_t n, int64_t k, int panel, sora_tune_operand *out,
                                     sora_error *error)
{
    sora_gemm_operand from = *b;
    sora_status status = sora_tune_scratch(p->context, sora_gemm_panel_elements(panel, n, k), out, error);
    if (status != SORA_OK) return status;
    from.transposed ^= from.turned;
    from.panel = 0;
    from.turned = false;
    b->view = out->view;
    b->view.dtype = from.view.dtype;
    b->panel = panel;
    return sora_gemm_pack(p->context, &from, n, k, panel, &b->view, "tune", error);
}

static sora_status prepare(sora_context *context, const int64_t *shape, void **self, sora_error *error)
{
    sora_status status = SORA_OK;
    product *p = NULL;
    SORA_TRY(sora_allocate(1, sizeof *p, "tuning", &p, error));
    *self = p;
    p->context = context;
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    p->desc = desc_of(shape);
    sora_gemm_desc *d = &p->desc;
    SORA_TRY(draw(p, A, d->m * d->k, &d->a.view, error));
    if (d->a.zeros) SORA_TRY(pass_relu(p, &p->operands[A], d->m * d->k, error));
    bool half = d->b.view.dtype == SORA_F16;
    SORA_TRY(draw(p, B, d->k * d->n, &d->b.view, error));
    if (d->b.zeros) SORA_TRY(pass_relu(p, &p->operands[B], d->k * d->n, error));
    if (half) SORA_TRY(narrow(p, d->k * d->n, error));
    if (d->k2) SORA_TRY(draw(p, A2, d->m * d->k2, &d->a2.view, error));
    if (d->k2) SORA_TRY(draw(p, B2, d->k2 * d->n, &d->b2.view, error));
    SORA_TRY(draw(p, C, d->m * d->n, &d->c, error));
    int64_t columns = d->b.turned ? d->k : d->n, rows = d->b.turned ? d->n : d->k;
    int panel2 = sora_gemm_panel(limits, d->n);
    if (d->wanted_leading) {
        SORA_TRY(draw(p, WANTED, d->m * d->n, &d->wanted, error));
        SORA_TRY(pass_relu(p, &p->operands[WANTED], d->m * d->n, error));
    }
    if (d->has_bt) {
        sora_gemm_operand turned = d->b;
        turned.turned = true;
        SORA_TRY(bring_into_panels(p, &turned, d->k, d->n, sora_gemm_panel(limits, d->k), &p->operands[PANELS_TURNED], error));
        d->bt = turned.view;
    }
    if (d->b.panel) SORA_TRY(bring_into_panels(p, &d->b, columns, rows, d->b.panel, &p->operands[PANELS], error));
    if (d->k2 && panel2) SORA_TRY(bring_into_panels(p, &d->b2, d->n, d->k2, panel2, &p->operands[PANELS2], error));
    uint64_t room = sora_gemm_workspace(limits, d->b.zeros ? SORA_MAX(d->m, d->n) : d->n, d->k);
    SORA_TRY(sora_tune_scratch(context, room, &p->operands[SCRATCH], error));
    d->workspace = p->operands[SCRATCH].view;
cleanup:
    return status;
}

static sora_status launch(void *self, const sora_tuning_variant *variant, sora_error *error)
{
    product *p = self;
    sora_gemm_variant v = sora_gemm_variant_of(variant);
    sora_gemm_desc desc = p->desc;
    desc.variant = &v;
    return sora_gemm(p->context, &desc, error);
}

static double term(const float *data, const sora_gemm_operand *operand, int64_t row, int64_t column)
{
    return (double)data[operand->transposed ? column * operand->leading + row : row * operand->leading + column];
}

static sora_status check(void *self, bool *right, sora_error *error)
{
    product *p = self;
    const sora_gemm_desc *d = &p->desc;
    sora_random_stream random = { .seed = 2, .purpose = SORA_PURPOSE_TEST };
    sora_status status = sora_view_read(p->context, &d->c, p->operands[C].host, error);
    *right = true;
    for (int e = 0; status == SORA_OK && e < CHECKED; e++) {
        int64_t i = (int64_t)(sora_random_uniform(&random) * (double)d->m),
                j = (int64_t)(sora_random_uniform(&random) * (double)d->n);
        double sum = 0.0;
        if (e == 0) i = d->m - 1, j = d->n - 1; /* the corner, which is where tiles end */
        for (int64_t l = 0; l < d->k; l++) sum += term(p->operands[A].host, &d->a, i, l) * term(p->operands[B].host, &d->b, l, j);
        for (int64_t l = 0; l < d->k2; l++)
            sum += term(p->operands[A2].host, &d->a2, i, l) * term(p->operands[B2].host, &d->b2, l, j);
        double got = (double)p->operands[C].host[i * d->n + j];
        if (d->wanted_leading && p->operands[WANTED].host[i * d->n + j] == 0.0f) sum = 0.0;
        /* Each of k sums rounds by at most half an ulp of a partial sum, which is below k. */
        double bound = (double)(d->k + d->k2 + 8) * ldexp(1.0, -23);
        *right &= fabs(got - sum) <= bound;
    }
    return status;
}

const sora_tunable sora_tunable_gemm = { "gemm", describe, variants, name, flops, prepare, launch, check, release, false };
