/* SPDX-License-Identifier: Apache-2.0 */
#include "op/narrow.h"

#include "op/conv.h"
#include "op/gemm.h"
#include "op/range.h"

#include <stdio.h>

/* Rows of a work-item, whole groups of the kernel's. Where there is a G each item has a part of it, which costs as much memory
 * traffic as `rank` of its rows, so these are few. They are the order of sums: they follow from m, never from the device. */
#define GROUP_ROWS 6
#define ROWS_ALONE 24
#define PARTS 8
#define PART_LEAST 128
#define PART_MOST 256
#define TURN_COLUMNS 128
#define OPTIONS 48

static int64_t rows_of_item(int64_t m, bool with_parts)
{
    int64_t rows = with_parts ? SORA_MAX(PART_LEAST, SORA_MIN(PART_MOST, (m + PARTS - 1) / PARTS)) : ROWS_ALONE;
    return (rows + GROUP_ROWS - 1) / GROUP_ROWS * GROUP_ROWS;
}

static int64_t items_of(int64_t m, bool with_parts)
{
    int64_t rows = rows_of_item(m, with_parts);
    return (m + rows - 1) / rows;
}

uint64_t sora_narrow_workspace(const sora_device_limits *limits, int64_t m, int64_t n, int64_t rank)
{
    uint64_t one = (uint64_t)(n * rank);
    if (limits->type == SORA_DEVICE_CPU) return one + (uint64_t)items_of(m, true) * one;
    return one + SORA_MAX(sora_gemm_workspace(limits, m, rank, n, 0), sora_gemm_workspace(limits, rank, n, m, 0));
}

static void program_options(const sora_context *context, char out[OPTIONS])
{
    if (sora_is_cpu(context))
        snprintf(out, OPTIONS, "-D SORA_CPU -D XV=%d", sora_conv_lanes(&sora_context_device(context)->limits));
    else
        snprintf(out, OPTIONS, "-D XV=1");
}

static sora_view take(sora_view *workspace, int64_t elements)
{
    sora_view part = *workspace;
    workspace->offset += (uint64_t)elements;
    return part;
}

static sora_status turn(sora_context *context, const sora_narrow_desc *d, const char *options, const sora_view *out,
                        sora_error *error)
{
    return sora_launch(context,
                       &(sora_launch_desc) { .file = "narrow",
                                             .kernel = "narrow_turn",
                                             .options = options,
                                             .global = { (size_t)((d->n + TURN_COLUMNS - 1) / TURN_COLUMNS) },
                                             .label = d->label,
                                             .arguments = SORA_ARGUMENTS(SORA_VIEW(&d->factor), SORA_VIEW(out), SORA_INT(d->n),
                                                                         SORA_INT(d->rank)) },
                       error);
}

/* Leaves G's parts behind what it takes of the workspace. */
static sora_status run_pass(sora_context *context, const sora_narrow_desc *d, const char *options, const sora_view *factor,
                            const sora_view *parts, sora_error *error)
{
    bool has_t = d->factor.memory, has_s = d->s.memory;
    int64_t products = d->m * d->n * d->rank * (has_t + has_s), ends = d->rank * (d->m + d->n) * (has_t + has_s);
    return sora_launch(
        context,
        &(sora_launch_desc) {
            .file = "narrow",
            .kernel = "narrow_pass",
            .options = options,
            .flops = 2.0 * (double)products,
            .bytes = 4.0 * (double)(d->m * d->n + ends),
            .global = { (size_t)items_of(d->m, has_s) * SORA_APART },
            .label = d->label,
            .arguments = SORA_ARGUMENTS(SORA_VIEW(&d->x), SORA_VIEW(factor), SORA_VIEW(&d->t), SORA_VIEW(&d->s), SORA_VIEW(parts),
                                        SORA_LONG(d->x_leading), SORA_LONG(d->t_leading), SORA_LONG(d->s_leading), SORA_INT(d->m),
                                        SORA_INT(d->n), SORA_INT(d->rank), SORA_INT(rows_of_item(d->m, has_s)),
                                        SORA_FLOAT(d->alpha == 0.0f ? 1.0f : d->alpha), SORA_INT(has_t), SORA_INT(has_s)) },
        error);
}

static sora_status add_parts(sora_context *context, const sora_narrow_desc *d, const char *options, const sora_view *parts,
                             int64_t count, sora_error *error)
{
    sora_launch_desc desc = { .file = "narrow",
                              .kernel = "narrow_total",
                              .options = options,
                              .global = { 1, (size_t)d->rank },
                              .label = d->label,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(parts), SORA_VIEW(&d->row_scale), SORA_VIEW(&d->gradient),
                                                          SORA_INT(count), SORA_INT(d->n), SORA_INT(d->rank),
                                                          SORA_INT(d->row_scale.memory != NULL), SORA_INT(d->accumulate)) };
    if (!sora_is_cpu(context)) {
        desc.local[0] = SORA_RANGE_GPU_GROUP;
        desc.global[0] = (size_t)((d->n + SORA_RANGE_GPU_GROUP - 1) / SORA_RANGE_GPU_GROUP * SORA_RANGE_GPU_GROUP);
    }
    return sora_launch(context, &desc, error);
}

/* As two products; that of S is one part of G. */
static sora_status run_products(sora_context *context, const sora_narrow_desc *d, const sora_view *part,
                                const sora_view *workspace, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_gemm_operand x = { .view = d->x, .leading = d->x_leading };
    if (d->factor.memory)
        SORA_TRY(sora_gemm(context,
                           &(sora_gemm_desc) { .m = d->m,
                                               .n = d->rank,
                                               .k = d->n,
                                               .a = x,
                                               .b = { d->factor, d->turned ? d->rank : d->n, !d->turned },
                                               .alpha = d->alpha,
                                               .c = d->t,
                                               .c_leading = d->t_leading,
                                               .workspace = *workspace,
                                               .label = d->label },
                           error));
    if (d->s.memory)
        SORA_TRY(sora_gemm(context,
                           &(sora_gemm_desc) { .m = d->rank,
                                               .n = d->n,
                                               .k = d->m,
                                               .a = { d->s, d->s_leading, true },
                                               .b = x,
                                               .c = *part,
                                               .c_leading = d->n,
                                               .workspace = *workspace,
                                               .label = d->label },
                           error));
cleanup:
    return status;
}

sora_status sora_narrow(sora_context *context, const sora_narrow_desc *desc, sora_error *error)
{
    sora_status status = SORA_OK;
    char options[OPTIONS];
    sora_view workspace = desc->workspace, factor = desc->factor, parts;
    int64_t size = desc->n * desc->rank, count = sora_is_cpu(context) ? items_of(desc->m, true) : 1;
    program_options(context, options);
    if (sora_is_cpu(context)) {
        if (desc->factor.memory && desc->turned) {
            factor = take(&workspace, size);
            SORA_TRY(turn(context, desc, options, &factor, error));
        }
        parts = take(&workspace, count * size);
        SORA_TRY(run_pass(context, desc, options, &factor, &parts, error));
    } else {
        parts = take(&workspace, size);
        SORA_TRY(run_products(context, desc, &parts, &workspace, error));
    }
    if (desc->s.memory) SORA_TRY(add_parts(context, desc, options, &parts, count, error));
cleanup:
    return status;
}
