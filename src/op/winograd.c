/* SPDX-License-Identifier: Apache-2.0 */
#include "op/winograd.h"

#include "cl/program.h"
#include "op/gemm.h"
#include "op/ops.h"
#include "op/range.h"

#include <stdio.h>

#define TILE 4 /* as kernels/winograd.cl has it */
#define MATRICES 36
#define CHANNELS 8 /* that a work-item of a CPU transforms at a time: rows of as many are turned in registers */
#define RUN 8      /* tiles of a work-item, along a row */
/* Measured: with fewer of either side direct ways are as fast, with smaller errors; with fewer still they are faster everywhere. */
#define LEAST_CHANNELS 16
#define FEWEST_CHANNELS 8
#define LEAST_PIXELS 64
/* Elements of transformed weights above which they are made anew in every step. */
#define KEPT_MOST (1 << 20)
/* Elements of transformed images that are made and used before the next: what a near cache holds, or as many as the weights. */
#define CHUNK (1 << 20)
#define APART 31 /* elements at most that keep a matrix apart from the next */

/* Numbers of each matrix, of inputs or outputs of a run of tiles, with which all 36 stay in a near cache; and channels of which
 * that holds enough tiles. */
#define NEAR 768
#define NEAR_CHANNELS 64
#define UNIT_ITEMS 4 /* work-items for each compute unit, for each to have some */
/* The same for gradients of weights, where each work-item has its own sums. */
#define GRADIENT_CHANNELS 32
/* Lanes of the widest registers: a work-item that has all near takes as many channels at once, and rows and panels near by are whole ones.
 * So many planes a power of two apart share a set of the nearest cache: to no more outputs than that, fewer at once are faster. */
#define WIDEST 16

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static int channels_at_once(const sora_device_limits *limits)
{
    return limits->type == SORA_DEVICE_CPU ? CHANNELS : 1;
}

static int near_at_once(const sora_context *context, int64_t outputs)
{
    return outputs > WIDEST ? sora_lanes(&sora_context_device(context)->limits) : CHANNELS;
}

/* 36 matrices of some rows, in panels of columns or (panels of one width with the matrix) row-major. Odd multiples of a cache
 * line apart, so that those of one tile don't share a set of the cache. */
typedef struct matrices {
    int64_t row; /* elements between rows: a panel's width */
    int64_t matrix;
} matrices;

static matrices matrices_of(int64_t rows, int64_t columns, int64_t panel)
{
    return (matrices) { panel, round_up(rows * round_up(columns, panel), 16) | 16 };
}

static uint64_t elements_of(const matrices *m)
{
    return (uint64_t)(MATRICES * m->matrix);
}

/* A convolution's matrices: x by tiles, the right side of the product (weights, or dy by tiles), and the result. */
typedef struct plan {
    int64_t tiles, room; /* all, and most that are transformed at a time */
    matrices left, right, result;
    int64_t near;  /* tiles that a work-item does all of; 0: none, each step is a launch */
    int64_t parts; /* results, of work-items' tiles, to be added up */
    bool panels;   /* the right side is in panels, as gemm likes it */
} plan;

static int64_t near_of(const sora_device_limits *limits, int64_t tiles, int64_t channels, int64_t most)
{
    return channels <= most ? SORA_MAX(1, SORA_MIN(NEAR / channels, tiles / (UNIT_ITEMS * (int64_t)limits->compute_units))) : 0;
}

/* The right side of a product: weights, whose rows are input channels, or dy by tiles. */
static matrices right_of(const sora_device_limits *limits, int64_t rows, int64_t outputs)
{
    int64_t along = round_up(outputs, channels_at_once(limits)), panel = sora_gemm_panel(limits, outputs);
    return matrices_of(rows, along, panel ? panel : along);
}

/* Elements of images that are transformed at a time. */
static int64_t budget_of(int64_t across, int64_t along)
{
    return SORA_MAX(CHUNK, MATRICES * across * along);
}

static plan plan_of(const sora_device_limits *limits, const sora_shape *x, int64_t outputs, bool gradient)
{
    int64_t inputs = x->dim[1], lanes = channels_at_once(limits), panel = sora_gemm_panel(limits, outputs);
    int64_t across = round_up(inputs, lanes), along = round_up(outputs, lanes), near = round_up(inputs, WIDEST);
    plan p = { .tiles = x->dim[0] * ((x->dim[2] + TILE - 1) / TILE) * ((x->dim[3] + TILE - 1) / TILE), .panels = panel > 0 };
    int64_t columns = gradient ? round_up(outputs, WIDEST) : panel ? round_up(outputs, panel) : along;
    if (panel) p.near = near_of(limits, p.tiles, SORA_MAX(near, columns), gradient ? GRADIENT_CHANNELS : NEAR_CHANNELS);
    p.parts = gradient && p.near ? SORA_MIN(p.tiles, UNIT_ITEMS * (int64_t)limits->compute_units) : 1;
    p.room = SORA_MIN(p.tiles, SORA_MAX(1, budget_of(across, along) / (MATRICES * (across + along))));
    /* What a work-item has near takes no room. */
    if (!p.near) p.left = matrices_of(p.room, across, across);
    if (!p.near || !gradient) p.right = right_of(limits, gradient ? p.room : inputs, outputs);
    if (!p.near)
        p.result = matrices_of(gradient ? inputs : p.room, along, along);
    else if (gradient)
        p.result = matrices_of(near, columns, columns);
    return p;
}

/* Tiles at a time, in parts of equal sizes. */
static int64_t step_of(const plan *p)
{
    int64_t parts = (p->tiles + p->room - 1) / p->room;
    return (p->tiles + parts - 1) / parts;
}

static bool has_channels(const sora_device_limits *limits, int64_t inputs, int64_t outputs)
{
    return limits->type == SORA_DEVICE_CPU && SORA_MIN(inputs, outputs) >= LEAST_CHANNELS;
}

bool sora_winograd_takes(int kernel, const sora_shape *x, int64_t outputs)
{
    bool counted = SORA_MAX(x->dim[1], outputs) * x->dim[2] * x->dim[3] <= INT32_MAX;
    return kernel == 3 && SORA_MIN(x->dim[1], outputs) >= FEWEST_CHANNELS && counted;
}

bool sora_winograd_pays(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs)
{
    bool takes = sora_winograd_takes(kernel, x, outputs);
    return takes && has_channels(limits, x->dim[1], outputs) && x->dim[2] * x->dim[3] >= LEAST_PIXELS;
}

/* For the first of the outputs as well, of which more tiles fit the budget and may leave less of it: so all of it counts. */
uint64_t sora_winograd_workspace(const sora_device_limits *limits, const sora_shape *x, int64_t outputs)
{
    plan p = plan_of(limits, x, outputs, false);
    int64_t across = p.left.row, along = p.result.row;
    int64_t images = SORA_MIN(MATRICES * p.tiles * (across + along), budget_of(across, along)) + 2 * MATRICES * APART;
    return elements_of(&p.right) + (p.near ? 0 : (uint64_t)images);
}

uint64_t sora_winograd_gradient_workspace(const sora_device_limits *limits, const sora_shape *x, int64_t outputs)
{
    plan p = plan_of(limits, x, outputs, true);
    return elements_of(&p.left) + elements_of(&p.right) + (uint64_t)p.parts * elements_of(&p.result);
}

/* The next part of the workspace. */
static sora_view take(sora_view *workspace, const matrices *m)
{
    sora_view view = *workspace;
    workspace->offset += elements_of(m);
    return view;
}

#define OPTIONS 48

static void program_options(const sora_context *context, bool border, char out[OPTIONS])
{
    snprintf(out, OPTIONS, "-D XV=%d -D BORDER=%d", channels_at_once(&sora_context_device(context)->limits), border);
}

sora_status sora_winograd_expect(sora_context *context, sora_error *error)
{
    char options[OPTIONS];
    if (!sora_is_cpu(context)) return SORA_OK;
    program_options(context, true, options);
    return sora_program_expect(context, "winograd", options, error);
}

static sora_status launch(sora_context *context, sora_launch_desc desc, bool border, sora_error *error)
{
    char options[OPTIONS];
    program_options(context, border, options);
    desc.file = "winograd";
    desc.options = options;
    return sora_launch(context, &desc, error);
}

static size_t groups_of(const sora_context *context, int64_t channels)
{
    int64_t lanes = channels_at_once(&sora_context_device(context)->limits);
    return (size_t)((channels + lanes - 1) / lanes);
}

static int run_of(const sora_context *context)
{
    return sora_is_cpu(context) ? RUN : 1;
}

/* Tiles first .. first + count - 1 of x (with their border) or of dy. */
static sora_status transform_image(sora_context *context, const sora_view *x, bool border, int64_t first, int64_t count,
                                   const sora_view *out, const matrices *m, const char *label, sora_error *error)
{
    const int64_t *size = x->shape.dim;
    int run = run_of(context);
    sora_launch_desc desc = { .kernel = "winograd_image",
                              .global = { groups_of(context, size[1]), (size_t)((count + run - 1) / run) },
                              .label = label,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(out), SORA_LONG(x->stride), SORA_INT(size[1]),
                                                          SORA_INT(size[2]), SORA_INT(size[3]), SORA_INT(first), SORA_INT(count),
                                                          SORA_LONG(m->matrix), SORA_INT(m->row), SORA_INT(run)) };
    return launch(context, desc, border, error);
}

static sora_status transform_weights(sora_context *context, const sora_conv_desc *d, int64_t inputs, int64_t outputs,
                                     const sora_view *out, sora_error *error)
{
    matrices m = right_of(&sora_context_device(context)->limits, inputs, outputs);
    sora_conv_strides strides = sora_conv_strides_of(d);
    sora_launch_desc desc = { .kernel = "winograd_weights",
                              .global = { groups_of(context, outputs), (size_t)inputs },
                              .label = d->label,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(&d->weight), SORA_VIEW(out), SORA_LONG(strides.out),
                                                          SORA_LONG(strides.in), SORA_INT(inputs), SORA_INT(outputs),
                                                          SORA_INT(d->back), SORA_LONG(m.matrix), SORA_INT(m.row)) };
    return launch(context, desc, true, error);
}

uint64_t sora_winograd_kept(const sora_device_limits *limits, int64_t inputs, int64_t outputs)
{
    matrices m = right_of(limits, inputs, outputs);
    return has_channels(limits, inputs, outputs) && elements_of(&m) <= KEPT_MOST ? elements_of(&m) : 0;
}

sora_status sora_winograd_keep(sora_context *context, const sora_view *weight, bool back, const sora_view *out, const char *label,
                               sora_error *error)
{
    int64_t outputs = weight->shape.dim[0], inputs = weight->shape.dim[1];
    sora_conv_desc desc = { .kernel = 3, .weight = *weight, .back = back, .label = label };
    return transform_weights(context, &desc, back ? outputs : inputs, back ? inputs : outputs, out, error);
}

static const sora_view *bias_of(const sora_conv_desc *d)
{
    static const sora_view none = { 0 };
    return d->bias && d->bias->memory ? d->bias : &none;
}

static sora_status transform_result(sora_context *context, const sora_conv_desc *d, int64_t first, int64_t count,
                                    const sora_view *from, const matrices *m, sora_error *error)
{
    const sora_view *bias = bias_of(d);
    const int64_t *size = d->y->shape.dim;
    int run = run_of(context);
    sora_launch_desc desc = { .kernel = "winograd_result",
                              .global = { groups_of(context, size[1]), (size_t)((count + run - 1) / run) },
                              .label = d->label,
                              .arguments = SORA_ARGUMENTS(
                                  SORA_VIEW(from), SORA_VIEW(bias), SORA_VIEW(d->y), SORA_LONG(d->y->stride), SORA_INT(size[1]),
                                  SORA_INT(size[2]), SORA_INT(size[3]), SORA_INT(first), SORA_INT(count), SORA_LONG(m->matrix),
                                  SORA_INT(m->row), SORA_INT(bias->memory != NULL), SORA_INT(d->accumulate), SORA_INT(run)) };
    return launch(context, desc, true, error);
}

static sora_gemm_desc products(const plan *p, const sora_view *left, const sora_view *right, const sora_view *result,
                               const char *label)
{
    return (sora_gemm_desc) { .a = { .view = *left, .leading = p->left.row },
                              .b = { .view = *right, .leading = p->right.row, .panel = p->panels ? (int)p->right.row : 0 },
                              .c = *result,
                              .c_leading = p->result.row,
                              .batch = { .count = MATRICES, .a = p->left.matrix, .b = p->right.matrix, .c = p->result.matrix },
                              .label = label };
}

/* A work-item does all of its tiles: images are transformed, multiplied and transformed back in one launch. */
static sora_status run_near(sora_context *context, const sora_conv_desc *d, const plan *p, const sora_view *weights,
                            sora_error *error)
{
    const sora_view *bias = bias_of(d);
    const int64_t *size = d->x->shape.dim;
    int64_t outputs = d->y->shape.dim[1], images = sora_shape_elements(&d->x->shape) + sora_shape_elements(&d->y->shape);
    char options[64];
    snprintf(options, sizeof options, "-D XV=%d -D BORDER=1 -D W=%d -D NEAR=%d", near_at_once(context, outputs),
             (int)p->right.row, NEAR);
    sora_launch_desc desc = { .file = "winograd",
                              .kernel = "winograd_near",
                              .options = options,
                              .global = { (size_t)((p->tiles + p->near - 1) / p->near * SORA_APART) },
                              .flops = 2.0 * MATRICES * (double)(p->tiles * size[1] * outputs),
                              .bytes = 4.0 * (double)images,
                              .label = d->label,
                              .arguments = SORA_ARGUMENTS(
                                  SORA_VIEW(d->x), SORA_VIEW(weights), SORA_VIEW(bias), SORA_VIEW(d->y), SORA_LONG(d->x->stride),
                                  SORA_LONG(d->y->stride), SORA_LONG(p->right.matrix), SORA_INT(size[1]), SORA_INT(outputs),
                                  SORA_INT(size[2]), SORA_INT(size[3]), SORA_INT(p->tiles), SORA_INT(p->near),
                                  SORA_INT(bias->memory != NULL), SORA_INT(d->accumulate)) };
    return sora_launch(context, &desc, error);
}

/* What was kept is of all outputs, of which y may have the first alone (gradient_leading). In wider panels than y needs it would
 * be more work than to transform it anew. */
static bool find_kept(const sora_context *context, const sora_conv_desc *d, matrices *m, sora_view *out)
{
    const sora_view *w = &d->weight;
    if (!w->transformed[d->back]) return false;
    matrices all = right_of(&sora_context_device(context)->limits, w->shape.dim[!d->back], w->shape.dim[d->back]);
    if (all.row != m->row) return false;
    *out = (sora_view) { .memory = w->memory, .offset = w->transformed[d->back] };
    *m = all;
    return true;
}

sora_status sora_winograd(sora_context *context, const sora_conv_desc *d, sora_error *error)
{
    sora_status status = SORA_OK;
    int64_t inputs = d->x->shape.dim[1], outputs = d->y->shape.dim[1];
    plan p = plan_of(&sora_context_device(context)->limits, &d->x->shape, outputs, false);
    sora_view rest = d->workspace, right = take(&rest, &p.right), left = take(&rest, &p.left), result = take(&rest, &p.result);
    bool kept = find_kept(context, d, &p.right, &right);
    sora_gemm_desc product = products(&p, &left, &right, &result, d->label);
    product.n = outputs;
    product.k = inputs;
    if (!kept) SORA_TRY(transform_weights(context, d, inputs, outputs, &right, error));
    if (p.near) SORA_TRY(run_near(context, d, &p, &right, error));
    for (int64_t first = 0, step = step_of(&p); !p.near && first < p.tiles; first += step) {
        product.m = SORA_MIN(step, p.tiles - first);
        SORA_TRY(transform_image(context, d->x, true, first, product.m, &left, &p.left, d->label, error));
        SORA_TRY(sora_gemm(context, &product, error));
        SORA_TRY(transform_result(context, d, first, product.m, &result, &p.result, error));
    }
cleanup:
    return status;
}

/* The same of a part of the tiles each, with sums of its own. */
static sora_status run_near_gradient(sora_context *context, const sora_conv_gradient_desc *d, const plan *p, int64_t part,
                                     const sora_view *result, sora_error *error)
{
    const int64_t *size = d->x->shape.dim;
    int64_t outputs = d->dy->shape.dim[1], images = sora_shape_elements(&d->x->shape) + sora_shape_elements(&d->dy->shape);
    char options[64];
    snprintf(options, sizeof options, "-D XV=%d -D BORDER=1 -D W=%d -D NEAR=%d",
             sora_lanes(&sora_context_device(context)->limits), WIDEST, NEAR);
    sora_launch_desc desc = { .file = "winograd",
                              .kernel = "winograd_near_gradient",
                              .options = options,
                              .global = { (size_t)((p->tiles + part - 1) / part * SORA_APART) },
                              .flops = 2.0 * MATRICES * (double)(p->tiles * size[1] * outputs),
                              .bytes = 4.0 * (double)images,
                              .label = d->label,
                              .arguments = SORA_ARGUMENTS(
                                  SORA_VIEW(d->x), SORA_VIEW(d->dy), SORA_VIEW(result), SORA_LONG(d->x->stride),
                                  SORA_LONG(d->dy->stride), SORA_LONG(p->result.matrix), SORA_INT(size[1]), SORA_INT(outputs),
                                  SORA_INT(size[2]), SORA_INT(size[3]), SORA_INT(p->tiles), SORA_INT(part), SORA_INT(p->near)) };
    return sora_launch(context, &desc, error);
}

sora_status sora_winograd_gradient(sora_context *context, const sora_conv_gradient_desc *d, sora_error *error)
{
    sora_status status = SORA_OK;
    static const sora_view none = { 0 };
    const sora_view *row = d->row ? d->row : &none, *column = d->column ? d->column : &none;
    int64_t inputs = d->x->shape.dim[1], outputs = d->dy->shape.dim[1];
    plan p = plan_of(&sora_context_device(context)->limits, &d->x->shape, outputs, true);
    sora_view rest = d->workspace, result = take(&rest, &p.result), left = take(&rest, &p.left), right = take(&rest, &p.right);
    sora_gemm_desc product = products(&p, &left, &right, &result, d->label);
    int64_t part = (p.tiles + p.parts - 1) / p.parts, parts = (p.tiles + part - 1) / part;
    product.m = inputs;
    product.n = outputs;
    product.a.transposed = true;
    if (p.near) SORA_TRY(run_near_gradient(context, d, &p, part, &result, error));
    for (int64_t first = 0, step = step_of(&p); !p.near && first < p.tiles; first += step) {
        product.k = SORA_MIN(step, p.tiles - first);
        product.accumulate = first > 0;
        SORA_TRY(transform_image(context, d->x, true, first, product.k, &left, &p.left, d->label, error));
        SORA_TRY(transform_image(context, d->dy, false, first, product.k, &right, &p.right, d->label, error));
        SORA_TRY(sora_gemm(context, &product, error));
    }
    SORA_TRY(launch(context,
                    (sora_launch_desc) {
                        .kernel = "winograd_weights_gradient",
                        .global = { groups_of(context, outputs), (size_t)inputs },
                        .label = d->label,
                        .arguments = SORA_ARGUMENTS(SORA_VIEW(&result), SORA_VIEW(d->gradient), SORA_VIEW(row), SORA_VIEW(column),
                                                    SORA_INT(inputs), SORA_INT(outputs), SORA_LONG(p.result.matrix),
                                                    SORA_INT(p.result.row), SORA_INT(parts), SORA_FLOAT(d->scale),
                                                    SORA_INT(row->memory != NULL), SORA_INT(column->memory != NULL)) },
                    true, error));
cleanup:
    return status;
}
