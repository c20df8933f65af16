/* SPDX-License-Identifier: Apache-2.0 */
#include "op/narrow.h"

#include "op/gemm.h"
#include "op/range.h"

/* Rows of a work-item, whole groups of the kernel's. On the way back each item has its part of the sums, which costs as
 * much memory traffic as `rank` of its rows, so these are few. They are the order of sums: they follow from m, never from
 * the device. */
#define GROUP_ROWS 6
#define ROWS 24
#define PARTS 8
#define PART_LEAST 128
#define PART_MOST 256

static int64_t rows_of_part(int64_t m)
{
    int64_t rows = SORA_MAX(PART_LEAST, SORA_MIN(PART_MOST, (m + PARTS - 1) / PARTS));
    return (rows + GROUP_ROWS - 1) / GROUP_ROWS * GROUP_ROWS;
}

int64_t sora_narrow_parts(const sora_device_limits *limits, int64_t m)
{
    int64_t rows = rows_of_part(m);
    return limits->type == SORA_DEVICE_CPU ? (m + rows - 1) / rows : 1;
}

uint64_t sora_narrow_workspace(const sora_device_limits *limits, int64_t m, int64_t n, int64_t rank)
{
    return limits->type == SORA_DEVICE_CPU ? 0 : sora_gemm_workspace(limits, m, rank, n);
}

uint64_t sora_narrow_back_workspace(const sora_device_limits *limits, int64_t m, int64_t n, int64_t p, int64_t rank)
{
    if (limits->type == SORA_DEVICE_CPU) return 0;
    uint64_t outer = SORA_MAX(sora_gemm_workspace(limits, m, rank, p), sora_gemm_workspace(limits, rank, p, m));
    return SORA_MAX(outer, sora_gemm_workspace(limits, rank, n, m));
}

typedef struct totals {
    int64_t outputs, ranks, factors; /* p, r and elements of all Uᵢ */
} totals;

static totals totals_of(const sora_narrow_back_desc *d)
{
    totals all = { 0 };
    for (int i = 0; i < d->layer_count; i++) {
        all.outputs += d->layers[i].outputs;
        all.ranks += d->layers[i].rank;
        all.factors += d->layers[i].outputs * d->layers[i].rank;
    }
    return all;
}

static sora_view behind(sora_view view, int64_t elements)
{
    view.offset += (uint64_t)elements;
    return view;
}

/* As products, of which each is the only part. */
static sora_status run_products(sora_context *context, const sora_narrow_back_desc *d, sora_error *error)
{
    sora_status status = SORA_OK;
    totals all = totals_of(d);
    int64_t row = 0, column = 0, factor = 0;
    for (int i = 0; i < d->layer_count; i++) {
        const sora_narrow_layer *l = &d->layers[i];
        const sora_gemm_operand dy = { .view = behind(d->dy, row), .leading = d->dy_leading };
        sora_gemm_desc product = { .workspace = d->workspace, .label = d->label };
        if (l->rank > 0) {
            product.m = d->m;
            product.n = l->rank;
            product.k = l->outputs;
            product.a = dy;
            product.b = (sora_gemm_operand) { .view = behind(d->up, factor), .leading = l->outputs, .transposed = true };
            product.c = behind(d->dt, column);
            product.c_leading = all.ranks;
            SORA_TRY(sora_gemm(context, &product, error));
        }
        if (l->rank > 0 && d->t.memory) {
            product.m = l->rank;
            product.n = l->outputs;
            product.k = d->m;
            product.a = (sora_gemm_operand) { .view = behind(d->t, column), .leading = all.ranks, .transposed = true };
            product.b = dy;
            product.c = behind(d->parts, factor);
            product.c_leading = l->outputs;
            SORA_TRY(sora_gemm(context, &product, error));
        }
        row += l->outputs;
        column += l->rank;
        factor += l->outputs * l->rank;
    }
    if (d->x.memory)
        SORA_TRY(sora_gemm(context,
                           &(sora_gemm_desc) { .m = all.ranks,
                                               .n = d->n,
                                               .k = d->m,
                                               .a = { .view = d->dt, .leading = all.ranks, .transposed = true },
                                               .b = { .view = d->x, .leading = d->x_leading },
                                               .c = behind(d->parts, all.factors),
                                               .c_leading = d->n,
                                               .workspace = d->workspace,
                                               .label = d->label },
                           error));
cleanup:
    return status;
}

static sora_status run_passes(sora_context *context, const sora_narrow_back_desc *d, sora_error *error)
{
    totals all = totals_of(d);
    bool has_t = d->t.memory, has_x = d->x.memory;
    const sora_narrow_layer *l = d->layers;
    int64_t rows = has_t || has_x ? rows_of_part(d->m) : ROWS;
    int64_t products = d->m * (all.factors * (1 + has_t) + all.ranks * d->n * has_x);
    int64_t moved =
        d->m * (all.outputs + d->n * has_x + all.ranks * (1 + has_t)) + all.factors * (1 + has_t) + all.ranks * d->n * has_x;
    return sora_launch(context,
                       &(sora_launch_desc) {
                           .file = "range",
                           .kernel = "narrow_passes",
                           .options = sora_range_options(context),
                           .flops = 2.0 * (double)products,
                           .bytes = 4.0 * (double)moved,
                           .global = { (size_t)((d->m + rows - 1) / rows) * SORA_APART },
                           .label = d->label,
                           .arguments = SORA_ARGUMENTS(
                               SORA_VIEW(&d->dy), SORA_VIEW(&d->up), SORA_VIEW(&d->dt), SORA_VIEW(&d->t), SORA_VIEW(&d->x),
                               SORA_VIEW(&d->parts), SORA_LONG(d->dy_leading), SORA_LONG(d->x_leading), SORA_INT(d->m),
                               SORA_INT(d->n), SORA_INT(rows), SORA_INT(d->layer_count), SORA_INT(l[0].outputs),
                               SORA_INT(l[1].outputs), SORA_INT(l[2].outputs), SORA_INT(l[3].outputs), SORA_INT(l[0].rank),
                               SORA_INT(l[1].rank), SORA_INT(l[2].rank), SORA_INT(l[3].rank), SORA_INT(has_t), SORA_INT(has_x)) },
                       error);
}

sora_status sora_narrow_back(sora_context *context, const sora_narrow_back_desc *d, sora_error *error)
{
    return sora_is_cpu(context) ? run_passes(context, d, error) : run_products(context, d, error);
}

/* The way back of a layer with x for dY and F for U, of which nothing but dT is wanted. */
sora_status sora_narrow(sora_context *context, const sora_narrow_desc *d, sora_error *error)
{
    return sora_narrow_back(context,
                            &(sora_narrow_back_desc) { .m = d->m,
                                                       .layer_count = 1,
                                                       .layers = { { d->n, d->rank } },
                                                       .dy = d->x,
                                                       .dy_leading = d->x_leading,
                                                       .up = d->factor,
                                                       .dt = d->t,
                                                       .workspace = d->workspace,
                                                       .label = d->label },
                            error);
}
