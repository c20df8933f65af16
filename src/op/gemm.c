/* SPDX-License-Identifier: Apache-2.0 */
#include "op/gemm.h"

#include "cl/context.h"
#include "cl/profile.h"
#include "op/conv.h"
#include "op/range.h"

#include <clblast_c.h>
#include <stdio.h>

#define DOT_ROWS 4 /* DM, DN and TS of the kernels */
#define DOT_COLUMNS 4
#define LOCAL_TILE 16
/* A work-item below this many multiply-adds is not worth its start. */
#define DOT_WORK 50000
#define TILE_WORK 200000
/* Rows of C below which inner products of B as it is are faster than B in panels, and below which whole rows of B are not
 * rearranged. */
#define DOT_MOST 32
#define PACKED_ROWS 128

const char *sora_gemm_provider_name(sora_gemm_provider provider)
{
    return provider == SORA_GEMM_TILE ? "tile" : provider == SORA_GEMM_CLBLAST ? "clblast" : "auto";
}

/* Measured: with its defaults CLBlast is some twenty times slower than the register tiles on a CPU device, and well tuned on
 * GPUs. */
static sora_gemm_provider automatic(const sora_device_limits *limits)
{
    return limits->type == SORA_DEVICE_CPU ? SORA_GEMM_TILE : SORA_GEMM_CLBLAST;
}

/* A block of C in registers: rows by vectors of `lanes` columns, for 32 registers of 16 lanes or 16 of 8. */
typedef struct block {
    int lanes, vectors, rows;
} block;

static block block_of(const sora_device_limits *limits, int64_t n)
{
    static const int rows_of[5] = { 0, 14, 12, 8, 6 };
    int lanes = sora_conv_lanes(limits), vectors = (int)SORA_MIN(lanes == 16 ? 4 : 2, (n + lanes - 1) / lanes);
    return (block) { lanes, vectors, lanes == 16 ? rows_of[vectors] : vectors == 1 ? 10 : 6 };
}

static int64_t panels_of(const block *b, int64_t n)
{
    int64_t width = (int64_t)b->lanes * b->vectors;
    return (n + width - 1) / width;
}

uint64_t sora_gemm_workspace(const sora_device_limits *limits, sora_gemm_provider provider, int64_t m, int64_t n, int64_t k,
                             int64_t k2)
{
    if (provider == SORA_GEMM_AUTO) provider = automatic(limits);
    if (provider == SORA_GEMM_CLBLAST) return (uint64_t)(m * n + m * k2);
    block b = block_of(limits, n);
    return limits->type == SORA_DEVICE_CPU ? (uint64_t)(panels_of(&b, n) * b.lanes * b.vectors * (k + k2)) : 0;
}

static float or_one(float alpha)
{
    return alpha == 0.0f ? 1.0f : alpha;
}

/* Element (i, k) of A stands at i * row + k * column; (k, j) of B at k * row + j * column. */
typedef struct steps {
    int64_t row, column;
} steps;

static steps steps_of(const sora_gemm_operand *operand)
{
    return operand->transposed ? (steps) { 1, operand->leading } : (steps) { operand->leading, 1 };
}

static void program_options(const block *b, bool by_columns, char out[96])
{
    snprintf(out, 96, "-D SORA_CPU -D XV=%d -D NV=%d -D MR=%d -D W=%d%s", b->lanes, b->vectors, b->rows, b->lanes * b->vectors,
             by_columns ? " -D A_BY_COLUMNS" : "");
}

static sora_status run_dot(sora_context *context, const sora_gemm_desc *d, sora_error *error)
{
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    int64_t down = (d->m + DOT_ROWS - 1) / DOT_ROWS, across = (d->n + DOT_COLUMNS - 1) / DOT_COLUMNS;
    int64_t wanted = DOT_WORK / SORA_MAX(1, DOT_ROWS * DOT_COLUMNS * (d->k + d->k2)),
            most = across * down / (4 * (int64_t)limits->compute_units);
    int64_t tiles = SORA_MAX(1, SORA_MIN(SORA_MIN(wanted, most), across));
    char options[96];
    block b = block_of(limits, d->n);
    program_options(&b, false, options);
    return sora_launch(
        context,
        &(sora_launch_desc) { .file = "gemm",
                              .kernel = "gemm_dot",
                              .options = options,
                              .global = { (size_t)((across + tiles - 1) / tiles), (size_t)down },
                              .label = d->label,
                              .arguments = SORA_ARGUMENTS(
                                  SORA_VIEW(&d->a.view), SORA_VIEW(&d->b.view), SORA_VIEW(&d->a2.view), SORA_VIEW(&d->b2.view),
                                  SORA_VIEW(&d->gate2), SORA_VIEW(&d->c), SORA_LONG(d->a.leading), SORA_LONG(d->b.leading),
                                  SORA_LONG(d->a2.leading), SORA_LONG(d->b2.leading), SORA_LONG(d->c_leading), SORA_INT(d->m),
                                  SORA_INT(d->n), SORA_INT(d->k), SORA_INT(d->k2), SORA_FLOAT(or_one(d->alpha)),
                                  SORA_FLOAT(or_one(d->alpha2)), SORA_INT(d->gate2.memory != NULL), SORA_INT(tiles),
                                  SORA_VIEW(&d->column_scale), SORA_VIEW(&d->bias), SORA_INT(d->column_scale.memory != NULL),
                                  SORA_INT(d->bias.memory != NULL), SORA_INT(d->relu), SORA_INT(d->accumulate)) },
        error);
}

/* B as gemm_tile reads it: in panels, or as it is. */
typedef struct panels {
    sora_view view;
    int64_t panel, row;
} panels;

/* One operand into panels at workspace->offset, which moves on; or none where it can be read as it is: it holds whole panels,
 * nothing is to be multiplied into it, and too few rows come to make its rearrangement worth it. */
static sora_status pack(sora_context *context, const sora_gemm_desc *d, const sora_gemm_operand *operand, int64_t k, float alpha,
                        const sora_view *gate, const block *b, sora_view *workspace, panels *out, sora_error *error)
{
    int64_t width = (int64_t)b->lanes * b->vectors, count = panels_of(b, d->n);
    steps s = steps_of(operand);
    char options[96];
    *out = (panels) { operand->view, width, operand->leading };
    if (k == 0 || (!operand->transposed && d->n % width == 0 && alpha == 1.0f && !gate->memory && d->m < PACKED_ROWS))
        return SORA_OK;
    *out = (panels) { *workspace, k * width, width };
    workspace->offset += (uint64_t)(count * k * width);
    program_options(b, false, options);
    int64_t runs = SORA_MAX(1, SORA_MIN(k / 16, 4 * (int64_t)sora_context_device(context)->limits.compute_units / count + 1));
    return sora_launch(
        context,
        &(sora_launch_desc) { .file = "gemm",
                              .kernel = "gemm_pack",
                              .options = options,
                              .global = { (size_t)runs, (size_t)count },
                              .label = d->label,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(&operand->view), SORA_VIEW(gate), SORA_VIEW(&out->view),
                                                          SORA_LONG(s.row), SORA_LONG(s.column), SORA_INT(d->n), SORA_INT(k),
                                                          SORA_FLOAT(alpha), SORA_INT(gate->memory != NULL)) },
        error);
}

static sora_status run_tile(sora_context *context, const sora_gemm_desc *d, sora_error *error)
{
    static const sora_view none = { 0 };
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    block b = block_of(limits, d->n);
    sora_view workspace = d->workspace;
    panels first, second;
    char options[96];
    sora_status status = pack(context, d, &d->b, d->k, or_one(d->alpha), &none, &b, &workspace, &first, error);
    if (status == SORA_OK) status = pack(context, d, &d->b2, d->k2, or_one(d->alpha2), &d->gate2, &b, &workspace, &second, error);
    if (status != SORA_OK) return status;
    int64_t blocks = (d->m + b.rows - 1) / b.rows, across = panels_of(&b, d->n);
    int64_t wanted = TILE_WORK / SORA_MAX(1, (int64_t)b.rows * b.lanes * b.vectors * (d->k + d->k2)),
            most = across * blocks / (4 * (int64_t)limits->compute_units);
    int64_t run = SORA_MAX(1, SORA_MIN(SORA_MIN(wanted, most), blocks));
    program_options(&b, d->a.transposed, options);
    return sora_launch(context,
                       &(sora_launch_desc) {
                           .file = "gemm",
                           .kernel = "gemm_tile",
                           .options = options,
                           .global = { (size_t)((blocks + run - 1) / run), (size_t)across },
                           .label = d->label,
                           .arguments = SORA_ARGUMENTS(
                               SORA_VIEW(&d->a.view), SORA_VIEW(&first.view), SORA_VIEW(&d->a2.view), SORA_VIEW(&second.view),
                               SORA_VIEW(&d->c), SORA_LONG(d->a.leading), SORA_LONG(first.panel), SORA_LONG(first.row),
                               SORA_LONG(d->a2.leading), SORA_LONG(second.panel), SORA_LONG(second.row), SORA_LONG(d->c_leading),
                               SORA_INT(d->m), SORA_INT(d->n), SORA_INT(d->k), SORA_INT(d->k2), SORA_INT(run),
                               SORA_VIEW(&d->column_scale), SORA_VIEW(&d->bias), SORA_INT(d->column_scale.memory != NULL),
                               SORA_INT(d->bias.memory != NULL), SORA_INT(d->relu), SORA_INT(d->accumulate)) },
                       error);
}

static sora_status run_gpu(sora_context *context, const sora_gemm_desc *d, sora_error *error)
{
    steps a = steps_of(&d->a), a2 = steps_of(&d->a2), b = steps_of(&d->b), b2 = steps_of(&d->b2);
    size_t across = (size_t)(d->n + LOCAL_TILE - 1) / LOCAL_TILE * LOCAL_TILE,
           down = (size_t)(d->m + LOCAL_TILE - 1) / LOCAL_TILE * LOCAL_TILE;
    return sora_launch(
        context,
        &(sora_launch_desc) { .file = "gemm",
                              .kernel = "gemm_local",
                              .options = "-D XV=1",
                              .global = { across, down },
                              .local = { LOCAL_TILE, LOCAL_TILE },
                              .label = d->label,
                              .arguments = SORA_ARGUMENTS(
                                  SORA_VIEW(&d->a.view), SORA_VIEW(&d->b.view), SORA_VIEW(&d->a2.view), SORA_VIEW(&d->b2.view),
                                  SORA_VIEW(&d->gate2), SORA_VIEW(&d->c), SORA_LONG(a.row), SORA_LONG(a.column), SORA_LONG(b.row),
                                  SORA_LONG(b.column), SORA_LONG(a2.row), SORA_LONG(a2.column), SORA_LONG(b2.row),
                                  SORA_LONG(b2.column), SORA_LONG(d->c_leading), SORA_INT(d->m), SORA_INT(d->n), SORA_INT(d->k),
                                  SORA_INT(d->k2), SORA_FLOAT(or_one(d->alpha)), SORA_FLOAT(or_one(d->alpha2)),
                                  SORA_INT(d->gate2.memory != NULL), SORA_VIEW(&d->column_scale), SORA_VIEW(&d->bias),
                                  SORA_INT(d->column_scale.memory != NULL), SORA_INT(d->bias.memory != NULL), SORA_INT(d->relu),
                                  SORA_INT(d->accumulate)) },
        error);
}

/* ---- CLBlast
 * -------------------------------------------------------------------------------------------------------------------- */

static sora_status library_product(sora_context *context, const sora_gemm_desc *d, int64_t k, const sora_gemm_operand *a,
                                   const sora_gemm_operand *b, float alpha, float beta, const sora_view *c, int64_t c_leading,
                                   sora_error *error)
{
    cl_command_queue queue = sora_context_queue(context);
    cl_event event = NULL;
    CLBlastStatusCode code =
        CLBlastSgemm(CLBlastLayoutRowMajor, a->transposed ? CLBlastTransposeYes : CLBlastTransposeNo,
                     b->transposed ? CLBlastTransposeYes : CLBlastTransposeNo, (size_t)d->m, (size_t)d->n, (size_t)k, alpha,
                     a->view.memory, a->view.offset, (size_t)a->leading, b->view.memory, b->view.offset, (size_t)b->leading, beta,
                     c->memory, c->offset, (size_t)c_leading, &queue, context->profile ? &event : NULL);
    if (code != CLBlastSuccess)
        return sora_fail(error, SORA_ERROR_DEVICE, "CLBlast's product of %lld x %lld x %lld failed: status %d", (long long)d->m,
                         (long long)d->n, (long long)k, (int)code);
    return event ? sora_profile_add(context->profile, event, "CLBlastSgemm", d->label ? d->label : "gemm", error) : SORA_OK;
}

/* Workspace: the product [m, n] where an epilogue follows, then A2 with its gate [m, k2]. */
static sora_status run_clblast(sora_context *context, const sora_gemm_desc *d, sora_error *error)
{
    sora_status status = SORA_OK;
    bool epilogue = d->column_scale.memory || d->bias.memory || d->relu;
    sora_view product = epilogue ? d->workspace : d->c, gated = d->workspace;
    int64_t leading = epilogue ? d->n : d->c_leading;
    gated.offset += (uint64_t)(d->m * d->n);
    SORA_TRY(library_product(context, d, d->k, &d->a, &d->b, or_one(d->alpha), !epilogue && d->accumulate ? 1.0f : 0.0f, &product,
                             leading, error));
    if (d->k2 > 0) {
        steps a2 = steps_of(&d->a2);
        sora_launch_desc gate = { .file = "gemm",
                                  .kernel = "gemm_gate_columns",
                                  .options = "-D XV=1",
                                  .label = d->label,
                                  .global = { 1 },
                                  .arguments = SORA_ARGUMENTS(SORA_VIEW(&d->a2.view), SORA_VIEW(&d->gate2), SORA_VIEW(&gated),
                                                              SORA_LONG(a2.row), SORA_LONG(a2.column), SORA_INT(d->m),
                                                              SORA_INT(d->k2), SORA_INT(d->gate2.memory != NULL)) };
        sora_gemm_operand left = { .view = gated, .leading = d->k2 };
        gate.global[0] = (size_t)SORA_MIN(d->m * d->k2, 65536);
        SORA_TRY(sora_launch(context, &gate, error));
        SORA_TRY(library_product(context, d, d->k2, &left, &d->b2, or_one(d->alpha2), 1.0f, &product, leading, error));
    }
    if (epilogue) {
        sora_launch_desc last = { .file = "gemm",
                                  .kernel = "gemm_epilogue",
                                  .options = "-D XV=1",
                                  .label = d->label,
                                  .global = { 1 },
                                  .arguments = SORA_ARGUMENTS(SORA_VIEW(&product), SORA_VIEW(&d->c), SORA_LONG(d->c_leading),
                                                              SORA_INT(d->m), SORA_INT(d->n), SORA_VIEW(&d->column_scale),
                                                              SORA_VIEW(&d->bias), SORA_INT(d->column_scale.memory != NULL),
                                                              SORA_INT(d->bias.memory != NULL), SORA_INT(d->relu),
                                                              SORA_INT(d->accumulate)) };
        last.global[0] = (size_t)SORA_MIN(d->m * d->n, 65536);
        SORA_TRY(sora_launch(context, &last, error));
    }
cleanup:
    return status;
}

sora_status sora_gemm(sora_context *context, const sora_gemm_desc *desc, sora_error *error)
{
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    sora_gemm_provider provider = desc->provider == SORA_GEMM_AUTO ? automatic(limits) : desc->provider;
    if (desc->m < 1 || desc->n < 1 || desc->k < 1 || desc->m > INT32_MAX || desc->n > INT32_MAX || desc->k > INT32_MAX)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: a product of %lld x %lld x %lld", desc->label ? desc->label : "gemm",
                         (long long)desc->m, (long long)desc->n, (long long)desc->k);
    if (provider == SORA_GEMM_CLBLAST) return run_clblast(context, desc, error);
    if (!sora_is_cpu(context)) return run_gpu(context, desc, error);
    bool rows = !desc->a.transposed && desc->b.transposed && (desc->k2 == 0 || (!desc->a2.transposed && desc->b2.transposed));
    if (rows && desc->m < DOT_MOST) return run_dot(context, desc, error);
    /* No layer here has pairs whose left operands differ in kind. */
    bool alike = desc->k2 == 0 || desc->a.transposed == desc->a2.transposed;
    return alike ? run_tile(context, desc, error) : run_gpu(context, desc, error);
}
