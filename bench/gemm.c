/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "op/gemm.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef HAVE_OPENBLAS
#include <cblas.h>
#endif

/* y = x·Wᵀ as a linear layer has it, or its weights' gradient dyᵀ·x. */
typedef struct product {
    sora_context *context;
    sora_gemm_desc desc, packed; /* packed: B stands in panels, as frozen weights do */
    sora_buffer buffers[5];
    float *a, *b, *c; /* the peer's */
} product;

static sora_status run(sora_context *context, const sora_gemm_desc *desc, int times, sora_error *error)
{
    for (int i = 0; i < times; i++) {
        sora_status status = sora_gemm(context, desc, error);
        if (status != SORA_OK) return status;
    }
    return sora_context_finish(context, error);
}

static sora_status run_ours(void *self, int times, sora_error *error)
{
    const product *p = self;
    return run(p->context, &p->desc, times, error);
}

static sora_status run_packed(void *self, int times, sora_error *error)
{
    const product *p = self;
    return run(p->context, &p->packed, times, error);
}

#ifdef HAVE_OPENBLAS
static sora_status run_openblas(void *self, int times, sora_error *error)
{
    product *p = self;
    (void)error;
    for (int i = 0; i < times; i++)
        cblas_sgemm(CblasRowMajor, p->desc.a.transposed ? CblasTrans : CblasNoTrans,
                    p->desc.b.transposed ? CblasTrans : CblasNoTrans, (int)p->desc.m, (int)p->desc.n, (int)p->desc.k, 1, p->a,
                    (int)p->desc.a.leading, p->b, (int)p->desc.b.leading, 0, p->c, (int)p->desc.n);
    return SORA_OK;
}
#endif

static void close_product(product *p)
{
    for (int i = 0; i < 5; i++) sora_buffer_destroy(&p->buffers[i]);
    free(p->a);
    free(p->b);
    free(p->c);
}

static sora_status open_product(sora_context *context, int64_t m, int64_t n, int64_t k, bool gradient, product *p,
                                sora_error *error)
{
    sora_status status = SORA_OK;
    sora_view a, b, c, scratch = { 0 };
    int64_t room = (int64_t)sora_gemm_workspace(&sora_context_device(context)->limits, n, k);
    *p = (product) { .context = context };
    SORA_TRY(bench_random(context, SORA_SHAPE(m, k), &p->buffers[0], &a, error));
    SORA_TRY(bench_random(context, SORA_SHAPE(n, k), &p->buffers[1], &b, error));
    SORA_TRY(bench_random(context, SORA_SHAPE(m, n), &p->buffers[2], &c, error));
    if (room) SORA_TRY(bench_random(context, SORA_SHAPE(room), &p->buffers[3], &scratch, error));
    SORA_TRY(sora_allocate((size_t)(m * k), sizeof(float), "bench", &p->a, error));
    SORA_TRY(sora_allocate((size_t)(n * k), sizeof(float), "bench", &p->b, error));
    SORA_TRY(sora_allocate((size_t)(m * n), sizeof(float), "bench", &p->c, error));
    SORA_TRY(sora_view_read(context, &a, p->a, error));
    SORA_TRY(sora_view_read(context, &b, p->b, error));
    p->desc = (sora_gemm_desc) { .m = m,
                                 .n = n,
                                 .k = k,
                                 .a = { a, gradient ? m : k, gradient },
                                 .b = { b, gradient ? n : k, !gradient },
                                 .c = c,
                                 .c_leading = n,
                                 .workspace = scratch };
    p->packed = p->desc;
    int panel = gradient ? 0 : sora_gemm_panel(&sora_context_device(context)->limits, n);
    if (panel) {
        sora_view panels;
        int64_t elements = (int64_t)sora_gemm_panel_elements(panel, n, k);
        SORA_TRY(bench_random(context, SORA_SHAPE(elements), &p->buffers[4], &panels, error));
        SORA_TRY(sora_gemm_pack(context, &p->desc.b, n, k, panel, &panels, "bench", error));
        p->packed.b = (sora_gemm_operand) { .view = panels, .panel = panel };
    }
cleanup:
    if (status != SORA_OK) close_product(p);
    return status;
}

sora_status bench_gemm(bench_state *state, sora_error *error)
{
    static const struct {
        int64_t m, n, k;
        bool gradient;
    } shapes[] = { { 512, 512, 512, false },  { 1024, 1024, 1024, false }, { 2048, 2048, 2048, false },
                   { 2016, 512, 512, false }, { 2016, 2048, 512, false },  { 2016, 512, 2048, false },
                   { 4096, 16, 512, false },  { 4096, 512, 16, false },    { 512, 512, 2016, true },
                   { 2048, 512, 2016, true }, { 16, 512, 2016, true } };
    for (size_t s = 0; s < SORA_COUNT(shapes); s++) {
        int64_t m = shapes[s].m, n = shapes[s].n, k = shapes[s].k;
        product p;
        char group[64];
        size_t count = 2;
        sora_status status = open_product(state->context, m, n, k, shapes[s].gradient, &p, error);
        if (status != SORA_OK) return status;
        double flops = 2.0 * (double)(m * n * k);
        bench_item items[3] = { { .name = "B packed", .flops = flops, .run = run_packed, .self = &p },
                                { .name = "packing included", .flops = flops, .run = run_ours, .self = &p } };
#ifdef HAVE_OPENBLAS
        items[2] = (bench_item) { .name = "OpenBLAS", .flops = flops, .run = run_openblas, .self = &p, .busy_after = 0.1 };
        items[0].beside = items[1].beside = items[2].name;
        count = 3;
#endif
        snprintf(group, sizeof group, "product %lld x %lld x %lld%s", (long long)m, (long long)n, (long long)k,
                 shapes[s].gradient ? ", weights' gradient" : "");
        /* What a gradient multiplies is packed for no other product. */
        status = bench_group(state, group, items + shapes[s].gradient, count - shapes[s].gradient, error);
        close_product(&p);
        if (status != SORA_OK) return status;
    }
    return SORA_OK;
}
