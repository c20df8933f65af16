/* SPDX-License-Identifier: Apache-2.0 */
#include "op/narrow.h"

#include "op/gemm.h"
#include "op/range.h"

/* Rows of a work-item, whole groups of the kernel's. Where P is wanted each item has its part, which costs as much memory
 * traffic as `rank` of its rows, so these are few. They are the order of sums: they follow from m, never from the device. */
#define GROUP_ROWS 6
#define T_ROWS 24 /* where T alone is made */
#define PARTS 8
#define PART_LEAST 128
#define PART_MOST 256
/* On a GPU a P has few numbers, and one product of few groups would go through all rows of it: parts of so many rows are products
 * side by side. */
#define GPU_PARTS 16
#define GPU_PART_LEAST 64

static int64_t rounded_up(int64_t group, int64_t rows)
{
    return (rows + group - 1) / group * group;
}

static int64_t rows_of_part(int64_t m)
{
    return rounded_up(GROUP_ROWS, SORA_MAX(PART_LEAST, SORA_MIN(PART_MOST, (m + PARTS - 1) / PARTS)));
}

int64_t sora_narrow_parts(const sora_device_limits *limits, int64_t m)
{
    int64_t rows = rows_of_part(m);
    return limits->type == SORA_DEVICE_CPU ? (m + rows - 1) / rows : 1;
}

uint64_t sora_narrow_workspace(const sora_device_limits *limits, int64_t m, int64_t columns, int64_t rank)
{
    return limits->type == SORA_DEVICE_CPU
               ? 0
               : (uint64_t)(SORA_MIN(GPU_PARTS, (m + GPU_PART_LEAST - 1) / GPU_PART_LEAST) * columns * rank);
}

static int64_t rank_of(const sora_narrow_desc *d)
{
    int64_t rank = 0;
    for (int i = 0; i < d->layer_count; i++) rank += d->layers[i].rank;
    return rank;
}

static sora_view behind(sora_view view, int64_t elements)
{
    view.offset += (uint64_t)elements;
    return view;
}

/* P of a layer, A and B being its S and X. */
static sora_status sum_over_rows(sora_context *context, const sora_narrow_desc *d, const sora_narrow_layer *l,
                                 const sora_gemm_operand *a, const sora_gemm_operand *b, const sora_view *out, sora_error *error)
{
    sora_status status = SORA_OK;
    int64_t rows = SORA_MAX(GPU_PART_LEAST, rounded_up(GPU_PART_LEAST / 4, (d->m + GPU_PARTS - 1) / GPU_PARTS));
    int64_t size = l->rank * l->columns, whole = d->m / rows, rest = d->m - whole * rows, parts = whole + (rest > 0);
    const sora_view *to = parts > 1 ? &d->workspace : out;
    sora_gemm_desc product = { .m = l->rank,
                               .n = l->columns,
                               .k = rows,
                               .batch = { whole, rows * a->leading, rows * b->leading, size },
                               .a = *a,
                               .b = *b,
                               .c = *to,
                               .c_leading = l->columns,
                               .label = d->label };
    if (whole) SORA_TRY(sora_gemm(context, &product, error));
    if (rest) {
        product.k = rest;
        product.batch = (sora_gemm_batch) { 0 };
        product.a.view = behind(a->view, whole * rows * a->leading);
        product.b.view = behind(b->view, whole * rows * b->leading);
        product.c = behind(*to, whole * size);
        SORA_TRY(sora_gemm(context, &product, error));
    }
    if (parts > 1) {
        const sora_launch_desc total = { .file = "range",
                                         .kernel = "narrow_total",
                                         .label = d->label,
                                         .arguments =
                                             SORA_ARGUMENTS(SORA_VIEW(to), SORA_VIEW(out), SORA_LONG(size), SORA_INT(parts)) };
        SORA_TRY(sora_launch_range(context, total, size, 1, error));
    }
cleanup:
    return status;
}

/* As products, each P being the only part. */
static sora_status run_products(sora_context *context, const sora_narrow_desc *d, sora_error *error)
{
    sora_status status = SORA_OK;
    int64_t rank = rank_of(d), column = 0, at = 0, factor = 0;
    for (int i = 0; i < d->layer_count; i++) {
        const sora_narrow_layer *l = &d->layers[i];
        const sora_gemm_operand x = { .view = behind(d->x, column), .leading = d->x_leading };
        sora_gemm_desc product = { .label = d->label };
        if (l->rank > 0 && d->t.memory) {
            product.m = d->m;
            product.n = l->rank;
            product.k = l->columns;
            product.a = x;
            product.b = (sora_gemm_operand) { .view = behind(d->factor, factor), .leading = l->columns, .transposed = true };
            product.c = behind(d->t, at);
            product.c_leading = rank;
            SORA_TRY(sora_gemm(context, &product, error));
        }
        if (l->rank > 0 && d->s.memory) {
            const sora_gemm_operand s = { .view = behind(d->s, at), .leading = rank, .transposed = true };
            const sora_view out = behind(d->parts, factor);
            SORA_TRY(sum_over_rows(context, d, l, &s, &x, &out, error));
        }
        column += l->columns;
        at += l->rank;
        factor += l->columns * l->rank;
    }
cleanup:
    return status;
}

static int64_t factor_elements(const sora_narrow_desc *d)
{
    int64_t elements = 0;
    for (int i = 0; i < d->layer_count; i++) elements += d->layers[i].columns * d->layers[i].rank;
    return elements;
}

double sora_narrow_flops(const sora_narrow_desc *d)
{
    return 2.0 * (double)(d->m * factor_elements(d) * ((d->t.memory != NULL) + (d->s.memory != NULL)));
}

static sora_status run_passes(sora_context *context, const sora_narrow_desc *d, sora_error *error)
{
    bool has_t = d->t.memory, has_s = d->s.memory;
    int64_t rows = has_s ? rows_of_part(d->m) : T_ROWS, columns = 0, factors = factor_elements(d), rank = rank_of(d);
    for (int i = 0; i < d->layer_count; i++) columns += d->layers[i].columns;
    return sora_launch(
        context,
        &(sora_launch_desc) {
            .file = "range",
            .kernel = "narrow_passes",
            .options = sora_range_options(context),
            .flops = sora_narrow_flops(d),
            .bytes = 4.0 * (double)(d->m * (columns + rank * (has_t + has_s)) + factors * (has_t + has_s)),
            .global = { (size_t)((d->m + rows - 1) / rows) * SORA_APART },
            .label = d->label,
            .arguments = SORA_ARGUMENTS(SORA_VIEW(&d->x), SORA_VIEW(&d->factor), SORA_VIEW(&d->t), SORA_VIEW(&d->s),
                                        SORA_VIEW(&d->parts), SORA_LONG(d->x_leading), SORA_INT(d->m), SORA_INT(rows),
                                        SORA_NARROW_LAYERS(d->layer_count, d->layers), SORA_INT(has_t), SORA_INT(has_s)) },
        error);
}

sora_status sora_narrow(sora_context *context, const sora_narrow_desc *d, sora_error *error)
{
    return sora_is_cpu(context) ? run_passes(context, d, error) : run_products(context, d, error);
}
