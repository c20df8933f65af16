/* SPDX-License-Identifier: Apache-2.0 */
#include "op/conv.h"

#include "op/ops.h"
#include "op/range.h"
#include "op/winograd.h"

#include <stdio.h>

#define PART_ROWS 6 /* as kernels/conv2d.cl has it */
#define MOST_ROWS 3 /* that a work-item has sums of at a time: it and all below divide a part */
/* A work-item below this many multiply-adds is not worth its start. */
#define ITEM_WORK 100000
/* Gradients of weights by rows: sums that may stand in memory for each compute unit, in at least so many parts, and pixels of a
 * channel that are taken at a time. */
#define LANE_SUMS (1 << 17)
#define LEAST_PARTS 4
#define BAND 1024

/* Sums that a work-item keeps in registers, each of as many pixels as there are lanes. Those that go by rows need few for
 * all else. */
static int sums_of(const sora_device_limits *limits, bool rows)
{
    bool few = limits->type == SORA_DEVICE_CPU && limits->float_width < 16;
    return (few ? 8 : 16) * (rows ? 3 : 2) / 2;
}

/* Tiles of pixels that stand side by side in a work-item: neighbouring work-items of a GPU have neighbouring pixels instead. */
static int tiles_of(const sora_device_limits *limits, int block)
{
    return limits->type == SORA_DEVICE_CPU ? SORA_MIN(4, sums_of(limits, false) / block) : 1;
}

static int margin_of(const sora_device_limits *limits, int64_t width)
{
    return (int)width + 1 + 4 * sora_lanes(limits);
}

/* Planes whose rows are narrower than a register are padded first: edges are most of the work. */
static bool is_padded(const sora_device_limits *limits, int kernel, const sora_shape *x)
{
    return kernel == 3 && limits->type == SORA_DEVICE_CPU && x->dim[3] < sora_lanes(limits);
}

static uint64_t padded_elements(const sora_device_limits *limits, int kernel, const sora_shape *x)
{
    if (!is_padded(limits, kernel, x)) return 0;
    return (uint64_t)(x->dim[0] * x->dim[1] * (x->dim[2] * x->dim[3] + 2 * margin_of(limits, x->dim[3])));
}

uint64_t sora_conv_workspace(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs)
{
    uint64_t padded = padded_elements(limits, kernel, x);
    return sora_winograd_takes(kernel, x, outputs) ? SORA_MAX(padded, sora_winograd_workspace(limits, x, outputs)) : padded;
}

static void program_options(const sora_context *context, int kernel, int block, int tiles, bool padded, bool back, char out[128])
{
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    snprintf(out, 128, "-D K=%d -D OB=%d -D PB=%d -D XV=%d%s%s%s", kernel, block, tiles, sora_lanes(limits),
             padded ? " -D PADDED" : "", back && kernel > 1 ? " -D FLIP" : "", sora_is_cpu(context) ? " -D SORA_CPU" : "");
}

/* x as the kernels read it: itself, or a padded copy at the start of the workspace. */
typedef struct source {
    sora_view view;
    int64_t stride;
    int plane, margin;
    bool padded;
} source;

static sora_status make_source(sora_context *context, int kernel, const sora_view *x, const sora_view *workspace,
                               const char *label, source *out, sora_error *error)
{
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    int channels = (int)x->shape.dim[1], n = (int)(x->shape.dim[2] * x->shape.dim[3]);
    char options[128];
    *out = (source) { *x, x->stride, n, 0, false };
    if (!is_padded(limits, kernel, &x->shape)) return SORA_OK;
    int margin = margin_of(limits, x->shape.dim[3]), room = n + 2 * margin;
    *out = (source) { *workspace, (int64_t)channels * room, room, margin, true };
    program_options(context, kernel, 1, tiles_of(limits, 1), true, false, options);
    return sora_launch(
        context,
        &(sora_launch_desc) { .file = "conv2d",
                              .kernel = "conv_pad",
                              .options = options,
                              .global = { 1, (size_t)(x->shape.dim[0] * channels) },
                              .label = label,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(&out->view), SORA_LONG(x->stride),
                                                          SORA_INT(channels), SORA_INT(n), SORA_INT(margin)) },
        error);
}

static int block_of(int64_t channels, int most)
{
    int block = 1;
    while (block < channels && block < most) block *= 2;
    return block;
}

static bool has_rows(const sora_device_limits *limits, int kernel, const sora_shape *x)
{
    return kernel == 3 && limits->type == SORA_DEVICE_CPU && x->dim[3] >= sora_lanes(limits);
}

/* Of a part's copy: its rows and two more of every input, with a register of zeros before each and behind the last. */
static size_t line_bytes(const sora_device_limits *limits, const sora_shape *x)
{
    int64_t lanes = sora_lanes(limits);
    return (size_t)(x->dim[1] * (PART_ROWS + 2) * (x->dim[3] + lanes) + lanes) * sizeof(float);
}

static bool takes_rows(const sora_device_limits *limits, int kernel, const sora_shape *x)
{
    return has_rows(limits, kernel, x) && line_bytes(limits, x) <= limits->local_bytes;
}

bool sora_conv_has_statistics(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs)
{
    return takes_rows(limits, kernel, x) && !sora_winograd_pays(limits, kernel, x, outputs);
}

int64_t sora_conv_statistics_parts(const sora_shape *x)
{
    return (x->dim[2] + PART_ROWS - 1) / PART_ROWS;
}

/* Measured: rows are fastest with four channels, padded planes with most sums, whose loads are shared; others with few, as their
 * loop is there twice. */
static sora_conv_variant standard_variant(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs)
{
    bool rows = takes_rows(limits, kernel, x);
    int block = block_of(outputs, rows ? 4 : 8), tiles = tiles_of(limits, block);
    if (rows) return (sora_conv_variant) { block, MOST_ROWS, SORA_CONV_ROWS };
    if (!is_padded(limits, kernel, x)) tiles = SORA_MIN(tiles, SORA_MAX(1, 4 / block));
    return (sora_conv_variant) { block, tiles, SORA_CONV_PLANE };
}

int sora_conv_variants(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs,
                       sora_conv_variant out[SORA_CONV_VARIANTS])
{
    static const sora_conv_variant winograd = { .method = SORA_CONV_WINOGRAD };
    int count = 0;
    bool first = sora_winograd_pays(limits, kernel, x, outputs);
    sora_conv_variant standard = standard_variant(limits, kernel, x, outputs);
    if (first) out[count++] = winograd;
    out[count++] = standard;
    if (!first && sora_winograd_takes(kernel, x, outputs)) out[count++] = winograd;
    bool rows = standard.method == SORA_CONV_ROWS;
    for (int block = block_of(outputs, 8); block >= 1; block /= 2)
        for (int tiles = rows ? MOST_ROWS : 4; tiles >= 1; tiles = rows ? tiles - 1 : tiles / 2) {
            bool fits = limits->type == SORA_DEVICE_CPU ? block * tiles <= sums_of(limits, rows) : tiles == 1;
            if (fits && (block != standard.block || tiles != standard.tiles))
                out[count++] = (sora_conv_variant) { block, tiles, standard.method };
        }
    return count;
}

sora_tuning_variant sora_conv_tuning_variant(const sora_conv_variant *v)
{
    return (sora_tuning_variant) { { v->block, v->tiles, (int)v->method } };
}

/* The default where the one that was measured to be best can't say the statistics that are wanted. */
static sora_conv_variant choose(sora_context *context, const sora_conv_desc *desc)
{
    sora_conv_variant variants[SORA_CONV_VARIANTS];
    const sora_shape *x = &desc->x->shape;
    int64_t outputs = desc->y->shape.dim[1];
    int count = sora_conv_variants(&sora_context_device(context)->limits, desc->kernel, x, outputs, variants);
    sora_tuning_key key = {
        "conv", { desc->kernel, sora_tuning_class(x->dim[0]), x->dim[1], outputs, x->dim[2], x->dim[3], desc->back }
    };
    sora_tuning_variant numbers[SORA_CONV_VARIANTS];
    for (int i = 0; i < count; i++) numbers[i] = sora_conv_tuning_variant(&variants[i]);
    int best = sora_tuning_choose(context, &key, numbers, count);
    return variants[desc->statistics && variants[best].method != SORA_CONV_ROWS ? 0 : best];
}

/* Tiles that one work-item takes: enough work to be worth it, but items for every compute unit. */
static int tiles_per_item(const sora_context *context, int64_t tiles, int64_t others, int64_t work_per_tile)
{
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    if (limits->type != SORA_DEVICE_CPU) return 1;
    int64_t wanted = SORA_MAX(1, ITEM_WORK / SORA_MAX(1, work_per_tile));
    int64_t items = (4 * (int64_t)limits->compute_units + others - 1) / others;
    int64_t most = SORA_MAX(1, tiles / SORA_MAX(1, items));
    return (int)SORA_MIN(wanted, most);
}

/* Of a convolution of x to that many channels, or of its weights' gradient. */
static double flops_of(int kernel, const sora_shape *x, int64_t outputs)
{
    return 2.0 * kernel * kernel * (double)outputs * (double)sora_shape_elements(x);
}

static double bytes_of(int kernel, const sora_shape *x, int64_t outputs)
{
    double inputs = (double)x->dim[1], images = (double)sora_shape_elements(x) * (1.0 + (double)outputs / inputs);
    return 4.0 * (images + inputs * (double)outputs * kernel * kernel);
}

static sora_status conv_rows(sora_context *context, const sora_conv_desc *desc, const sora_conv_variant *variant,
                             const sora_view *bias, sora_error *error)
{
    static const sora_view none = { 0 };
    const sora_view *statistics = desc->statistics ? desc->statistics : &none;
    const sora_shape *in = &desc->x->shape;
    int64_t images = in->dim[0], inputs = in->dim[1], outputs = desc->y->shape.dim[1], parts = sora_conv_statistics_parts(in);
    int per_item = tiles_per_item(context, parts, images, 9 * inputs * outputs * PART_ROWS * in->dim[3]);
    sora_conv_strides strides = sora_conv_strides_of(desc);
    char options[128];
    program_options(context, 3, variant->block, variant->tiles, false, desc->back, options);
    return sora_launch(
        context,
        &(sora_launch_desc) {
            .file = "conv2d",
            .kernel = "conv_rows",
            .options = options,
            .flops = flops_of(3, in, outputs),
            .bytes = bytes_of(3, in, outputs),
            .global = { (size_t)((parts + per_item - 1) / per_item), (size_t)images },
            .local = { 1, 1, 1 },
            .label = desc->label,
            .arguments = SORA_ARGUMENTS(SORA_VIEW(desc->x), SORA_VIEW(&desc->weight), SORA_VIEW(bias), SORA_VIEW(desc->y),
                                        SORA_VIEW(statistics), SORA_LOCAL(line_bytes(&sora_context_device(context)->limits, in)),
                                        SORA_LONG(desc->x->stride), SORA_LONG(desc->y->stride), SORA_LONG(statistics->stride),
                                        SORA_INT(inputs), SORA_INT(outputs), SORA_INT(in->dim[2]), SORA_INT(in->dim[3]),
                                        SORA_LONG(strides.out), SORA_LONG(strides.in), SORA_INT(bias->memory != NULL),
                                        SORA_INT(desc->accumulate), SORA_INT(statistics->memory != NULL), SORA_INT(per_item)) },
        error);
}

sora_status sora_conv(sora_context *context, const sora_conv_desc *desc, sora_error *error)
{
    sora_status status = SORA_OK;
    static const sora_view none = { 0 };
    const sora_view *bias = desc->bias && desc->bias->memory ? desc->bias : &none;
    const sora_shape *in = &desc->x->shape;
    bool cpu = sora_is_cpu(context);
    int lanes = sora_lanes(&sora_context_device(context)->limits);
    int64_t images = in->dim[0], inputs = in->dim[1], outputs = desc->y->shape.dim[1], n = in->dim[2] * in->dim[3];
    char options[128];
    source x;
    sora_conv_strides strides = sora_conv_strides_of(desc);
    sora_conv_variant variant = desc->variant ? *desc->variant : choose(context, desc);
    if (variant.method == SORA_CONV_WINOGRAD) return sora_winograd(context, desc, error);
    if (variant.method == SORA_CONV_ROWS) return conv_rows(context, desc, &variant, bias, error);
    SORA_TRY(make_source(context, desc->kernel, desc->x, &desc->workspace, desc->label, &x, error));
    int block = variant.block, pixels = lanes * variant.tiles;
    int64_t blocks = (outputs + block - 1) / block, tiles = (n + pixels - 1) / pixels;
    int per_item = tiles_per_item(context, tiles, blocks * images, inputs * desc->kernel * desc->kernel * block * pixels);
    size_t items = (size_t)((tiles + per_item - 1) / per_item);
    program_options(context, desc->kernel, block, variant.tiles, x.padded, desc->back, options);
    SORA_TRY(sora_launch(
        context,
        &(sora_launch_desc) {
            .file = "conv2d",
            .kernel = "conv",
            .options = options,
            .flops = flops_of(desc->kernel, in, outputs),
            .bytes = bytes_of(desc->kernel, in, outputs),
            .global = { cpu ? items : (items + 63) / 64 * 64, (size_t)blocks, (size_t)images },
            .local = { cpu ? 1 : 64, 1, 1 },
            .label = desc->label,
            .arguments = SORA_ARGUMENTS(SORA_VIEW(&x.view), SORA_VIEW(&desc->weight), SORA_VIEW(bias), SORA_VIEW(desc->y),
                                        SORA_LONG(x.stride), SORA_INT(x.plane), SORA_INT(x.margin), SORA_LONG(desc->y->stride),
                                        SORA_INT(inputs), SORA_INT(outputs), SORA_INT(in->dim[2]), SORA_INT(in->dim[3]),
                                        SORA_LONG(strides.out), SORA_LONG(strides.in), SORA_INT(bias->memory != NULL),
                                        SORA_INT(desc->accumulate), SORA_INT(per_item)) },
        error));
cleanup:
    return status;
}

/* ---- Gradients of weights and biases ----------------------------------------------------------------------------- */

/* Channels of dy that a work-item has at once: their sums, one for each tap of a row, and operands must fit the registers. */
static int gradient_outputs(int64_t outputs)
{
    return block_of(outputs, 4);
}

/* Elements of the sums of one part that goes by rows, which stay in memory; 0 where they are too many. */
static int64_t row_sums(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs, int block)
{
    int64_t elements = (outputs + block - 1) / block * block * x->dim[1] * 9 * sora_lanes(limits);
    return has_rows(limits, kernel, x) && LEAST_PARTS * elements <= LANE_SUMS ? elements : 0;
}

int sora_conv_gradient_variants(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs,
                                sora_conv_variant out[SORA_CONV_VARIANTS])
{
    static const sora_conv_variant winograd = { .method = SORA_CONV_WINOGRAD };
    int count = 0, most = gradient_outputs(outputs);
    bool first = sora_winograd_pays(limits, kernel, x, outputs);
    if (first) out[count++] = winograd;
    for (int block = most; block >= 1 && 2 * block >= most; block /= 2) {
        if (row_sums(limits, kernel, x, outputs, block)) out[count++] = (sora_conv_variant) { block, 1, SORA_CONV_ROWS };
        out[count++] = (sora_conv_variant) { block, 1, SORA_CONV_PLANE };
    }
    if (!first && sora_winograd_takes(kernel, x, outputs)) out[count++] = winograd;
    return count;
}

static sora_conv_variant choose_gradient(sora_context *context, const sora_conv_gradient_desc *desc)
{
    sora_conv_variant variants[SORA_CONV_VARIANTS];
    sora_tuning_variant numbers[SORA_CONV_VARIANTS];
    const sora_shape *x = &desc->x->shape;
    int64_t outputs = desc->dy->shape.dim[1];
    int count = sora_conv_gradient_variants(&sora_context_device(context)->limits, desc->kernel, x, outputs, variants);
    sora_tuning_key key = { "conv_gradient",
                            { desc->kernel, sora_tuning_class(x->dim[0]), x->dim[1], outputs, x->dim[2], x->dim[3] } };
    for (int i = 0; i < count; i++) numbers[i] = sora_conv_tuning_variant(&variants[i]);
    return variants[sora_tuning_choose(context, &key, numbers, count)];
}

/* Parts of the pixels whose sums are made apart from each other. */
typedef struct parts {
    int64_t count, run; /* tiles in a run, or rows */
    int64_t lanes;      /* elements of sums that rows keep in memory */
} parts;

static parts parts_of(const sora_device_limits *limits, int kernel, const sora_shape *x, int64_t outputs,
                      const sora_conv_variant *variant)
{
    int64_t lanes = sora_lanes(limits), blocks = (outputs + variant->block - 1) / variant->block;
    int64_t units = (int64_t)limits->compute_units, wanted = (limits->type == SORA_DEVICE_CPU ? 16 : 1024) * units;
    int64_t items = x->dim[1] * kernel * blocks;
    bool rows = variant->method == SORA_CONV_ROWS;
    int64_t sums = rows ? row_sums(limits, kernel, x, outputs, variant->block) : 0;
    int64_t all = x->dim[0] * (rows ? x->dim[2] : (x->dim[2] * x->dim[3] + lanes - 1) / lanes);
    int64_t most = rows ? SORA_MIN(wanted, LANE_SUMS * units / sums) : SORA_MIN((wanted + items - 1) / items, 256);
    int64_t count = SORA_MAX(1, SORA_MIN(most, all)); /* never more for fewer images: workspaces are made for the most */
    return (parts) { count, (all + count - 1) / count, count * sums };
}

uint64_t sora_conv_gradient_workspace(const sora_device_limits *limits, int kernel, const sora_shape *x, const sora_shape *dy)
{
    sora_conv_variant variants[SORA_CONV_VARIANTS];
    int64_t outputs = dy->dim[1];
    int count = sora_conv_gradient_variants(limits, kernel, x, outputs, variants);
    uint64_t most = 0;
    for (int i = 0; i < count; i++) {
        if (variants[i].method == SORA_CONV_WINOGRAD) {
            most = SORA_MAX(most, sora_winograd_gradient_workspace(limits, x, outputs));
            continue;
        }
        parts p = parts_of(limits, kernel, x, outputs, &variants[i]);
        uint64_t sums = (uint64_t)(p.lanes + p.count * outputs * x->dim[1] * kernel * kernel);
        most = SORA_MAX(most, padded_elements(limits, kernel, x) + sums);
    }
    return most;
}

static sora_status gradient_of_rows(sora_context *context, const sora_conv_gradient_desc *desc, int block, const parts *p,
                                    sora_view *partial, sora_error *error)
{
    const sora_shape *in = &desc->x->shape;
    int64_t outputs = desc->dy->shape.dim[1];
    sora_view lanes = *partial;
    char options[128];
    program_options(context, desc->kernel, block, 1, false, false, options);
    partial->offset += (uint64_t)p->lanes;
    return sora_launch(
        context,
        &(sora_launch_desc) { .file = "conv2d",
                              .kernel = "conv_gradient_rows",
                              .options = options,
                              .flops = flops_of(desc->kernel, in, outputs),
                              .bytes = bytes_of(desc->kernel, in, outputs),
                              .global = { (size_t)p->count },
                              .label = desc->label,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(desc->x), SORA_VIEW(desc->dy), SORA_VIEW(partial),
                                                          SORA_VIEW(&lanes), SORA_LONG(desc->x->stride),
                                                          SORA_LONG(desc->dy->stride), SORA_INT(in->dim[1]), SORA_INT(outputs),
                                                          SORA_INT(in->dim[2]), SORA_INT(in->dim[3]), SORA_INT(in->dim[0]),
                                                          SORA_INT(p->run), SORA_INT(SORA_MAX(1, BAND / in->dim[3]))) },
        error);
}

static sora_status gradient_of_plane(sora_context *context, const sora_conv_gradient_desc *desc, int block, const parts *p,
                                     sora_view *partial, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_shape *in = &desc->x->shape;
    int64_t inputs = in->dim[1], outputs = desc->dy->shape.dim[1];
    char options[128];
    source x;
    SORA_TRY(make_source(context, desc->kernel, desc->x, &desc->workspace, desc->label, &x, error));
    partial->offset += padded_elements(&sora_context_device(context)->limits, desc->kernel, in);
    program_options(context, desc->kernel, block, 1, x.padded, false, options);
    SORA_TRY(sora_launch(
        context,
        &(sora_launch_desc) {
            .file = "conv2d",
            .kernel = "conv_gradient_parts",
            .options = options,
            .flops = flops_of(desc->kernel, in, outputs),
            .bytes = bytes_of(desc->kernel, in, outputs),
            .global = { (size_t)(inputs * desc->kernel), (size_t)((outputs + block - 1) / block), (size_t)p->count },
            .label = desc->label,
            .arguments = SORA_ARGUMENTS(SORA_VIEW(&x.view), SORA_VIEW(desc->dy), SORA_VIEW(partial), SORA_LONG(x.stride),
                                        SORA_INT(x.plane), SORA_INT(x.margin), SORA_LONG(desc->dy->stride), SORA_INT(inputs),
                                        SORA_INT(outputs), SORA_INT(in->dim[2]), SORA_INT(in->dim[3]), SORA_INT(in->dim[0]),
                                        SORA_INT(p->run)) },
        error));
cleanup:
    return status;
}

sora_status sora_conv_gradient(sora_context *context, const sora_conv_gradient_desc *desc, sora_error *error)
{
    sora_status status = SORA_OK;
    static const sora_view none = { 0 };
    const sora_shape *in = &desc->x->shape;
    int64_t inputs = in->dim[1], outputs = desc->dy->shape.dim[1], n = outputs * inputs * desc->kernel * desc->kernel;
    sora_conv_variant variant = desc->variant ? *desc->variant : choose_gradient(context, desc);
    if (variant.method == SORA_CONV_WINOGRAD) return sora_winograd_gradient(context, desc, error);
    const sora_view *row = desc->row ? desc->row : &none, *column = desc->column ? desc->column : &none;
    parts p = parts_of(&sora_context_device(context)->limits, desc->kernel, in, outputs, &variant);
    sora_view partial = desc->workspace;
    char options[128];
    SORA_TRY((p.lanes ? gradient_of_rows : gradient_of_plane)(context, desc, variant.block, &p, &partial, error));
    program_options(context, desc->kernel, variant.block, 1, false, false, options);
    SORA_TRY(sora_launch(
        context,
        &(sora_launch_desc) { .file = "conv2d",
                              .kernel = "conv_gradient_total",
                              .options = options,
                              .global = { sora_is_cpu(context) ? (size_t)SORA_MAX(1, n / SORA_RANGE_CPU_ELEMENTS) : (size_t)n },
                              .label = desc->label,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(&partial), SORA_VIEW(desc->gradient), SORA_VIEW(row),
                                                          SORA_VIEW(column), SORA_INT(p.count), SORA_INT(inputs), SORA_LONG(n),
                                                          SORA_FLOAT(desc->scale), SORA_INT(row->memory != NULL),
                                                          SORA_INT(column->memory != NULL)) },
        error));
cleanup:
    return status;
}

uint64_t sora_conv_bias_workspace(const sora_shape *dy)
{
    return (uint64_t)(dy->dim[0] * dy->dim[1] * sora_sum_parts(dy->dim[2] * dy->dim[3]));
}

sora_status sora_conv_bias_gradient(sora_context *context, const sora_view *dy, const sora_view *gradient,
                                    const sora_view *workspace, const char *label, sora_error *error)
{
    char options[128];
    int64_t images = dy->shape.dim[0], outputs = dy->shape.dim[1], n = dy->shape.dim[2] * dy->shape.dim[3],
            runs = sora_sum_parts(n);
    program_options(context, 1, 1, tiles_of(&sora_context_device(context)->limits, 1), false, false, options);
    sora_status status =
        sora_launch(context,
                    &(sora_launch_desc) { .file = "conv2d",
                                          .kernel = "conv_bias_parts",
                                          .options = options,
                                          .global = { (size_t)runs, (size_t)outputs, (size_t)images },
                                          .label = label,
                                          .arguments = SORA_ARGUMENTS(SORA_VIEW(dy), SORA_VIEW(workspace), SORA_LONG(dy->stride),
                                                                      SORA_INT(images), SORA_INT(n)) },
                    error);
    if (status != SORA_OK) return status;
    return sora_launch(
        context,
        &(sora_launch_desc) { .file = "conv2d",
                              .kernel = "conv_bias_total",
                              .options = options,
                              .global = { (size_t)outputs },
                              .label = label,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(workspace), SORA_VIEW(gradient), SORA_LONG(images * runs)) },
        error);
}

/* ---- The op ------------------------------------------------------------------------------------------------------ */

static int kernel_of(const void *attributes)
{
    return ((const sora_conv2d_attributes *)attributes)->kernel;
}

sora_status sora_conv_check(const sora_op_shape_rule *rule, int kernel, sora_error *error)
{
    const sora_shape *x = &rule->inputs[0], *w = &rule->inputs[1], *b = &rule->inputs[2];
    char input[80], weight[80];
    sora_shape_text(x, input);
    sora_shape_text(w, weight);
    if (x->rank != 4 || w->rank != 4)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s, weight %s; expected [n, c, h, w] and [o, c, k, k]", input,
                         weight);
    if ((kernel != 1 && kernel != 3) || w->dim[2] != kernel || w->dim[3] != kernel)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "kernel %d, weight %s; expected k = 1 or 3", kernel, weight);
    if (w->dim[1] != x->dim[1])
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s has not the %lld channels of weight %s", input,
                         (long long)w->dim[1], weight);
    if (b->rank && (b->rank != 1 || b->dim[0] != w->dim[0]))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "a bias of %lld for weight %s", (long long)b->dim[0], weight);
    return SORA_OK;
}

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    int kernel = kernel_of(rule->attributes);
    sora_status status = sora_conv_check(rule, kernel, error);
    if (status != SORA_OK) return status;
    const sora_shape *x = &rule->inputs[0];
    sora_shape y = SORA_SHAPE(x->dim[0], rule->inputs[1].dim[0], x->dim[2], x->dim[3]);
    rule->output_count = 1;
    rule->outputs[0] = y;
    if (((const sora_conv2d_attributes *)rule->attributes)->statistics) {
        char text[80];
        if (!sora_conv_has_statistics(rule->limits, kernel, x, y.dim[1]))
            return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s: no statistics come with the way in which it is convolved",
                             sora_shape_text(x, text));
        rule->output_count = 2;
        rule->outputs[1] = SORA_SHAPE(x->dim[0], y.dim[1], sora_conv_statistics_parts(x), 3);
    }
    rule->forward_workspace = sora_conv_workspace(rule->limits, kernel, x, y.dim[1]);
    uint64_t data = sora_conv_workspace(rule->limits, kernel, &y, x->dim[1]),
             weights = sora_conv_gradient_workspace(rule->limits, kernel, x, &y);
    rule->backward_workspace = SORA_MAX(SORA_MAX(data, weights), sora_conv_bias_workspace(&y));
    return SORA_OK;
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    int kernel = kernel_of(run->attributes);
    sora_conv_desc desc = { .kernel = kernel,
                            .x = &run->inputs[0],
                            .weight = run->inputs[1],
                            .bias = &run->inputs[2],
                            .y = &run->outputs[0],
                            .statistics = ((const sora_conv2d_attributes *)run->attributes)->statistics ? &run->outputs[1] : NULL,
                            .workspace = run->workspace,
                            .label = run->name };
    return sora_conv(run->context, &desc, error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    int kernel = kernel_of(run->attributes);
    const sora_view *dy = &run->output_gradients[0], *dx = &run->input_gradients[0], *dw = &run->input_gradients[1],
                    *db = &run->input_gradients[2];
    sora_conv_desc back = { .kernel = kernel,
                            .x = dy,
                            .weight = run->inputs[1],
                            .back = true,
                            .y = dx,
                            .workspace = run->workspace,
                            .label = run->name };
    sora_conv_gradient_desc gradient = { .kernel = kernel,
                                         .x = &run->inputs[0],
                                         .dy = dy,
                                         .gradient = dw,
                                         .scale = 1.0f,
                                         .workspace = run->workspace,
                                         .label = run->name };
    if (dw->memory) SORA_TRY(sora_conv_gradient(run->context, &gradient, error));
    if (run->input_count > 2 && db->memory)
        SORA_TRY(sora_conv_bias_gradient(run->context, dy, db, &run->workspace, run->name, error));
    if (dx->memory) SORA_TRY(sora_conv(run->context, &back, error));
cleanup:
    return status;
}

const sora_op sora_op_conv2d = { .name = "conv2d",
                                 .parameters = 6,
                                 .differentiable = 7,
                                 .uses_inputs = 3,
                                 .gradient_leading = true,
                                 .infer = infer,
                                 .forward = forward,
                                 .backward = backward };
