/* SPDX-License-Identifier: Apache-2.0 */
#include "op/gemm.h"

#include "cl/context.h"
#include "cl/program.h"
#include "op/gemm_clblast.h"
#include "op/range.h"

#include <stdio.h>

#define DOT_COLUMNS 3 /* DN of the kernels */
/* Terms up to which gathering C in memory costs more than reading B again; more for few rows. */
#define BLOCK_LEAST 256
#define BLOCK_TRIED 64 /* terms below which it is no choice either */
#define FEW_BLOCK_LEAST 512
/* A work-item below this many multiply-adds is not worth its start. */
#define DOT_WORK 50000
#define TILE_WORK 800000
#define APART_WORK (1 << 22) /* and from so many on they are dealt out one or two at a time (kernels/apart.h) */
/* Floats of B in panels above which they come from far, and blocks of rows below which that way is not worth it. */
#define FAR_PANELS (1 << 16)
#define FAR_RUN 32
/* Rows of C below which inner products of B as it is are faster than B in panels, from which on they are no choice, and below
 * which whole rows of B are not rearranged. */
#define DOT_MOST 64
#define DOT_LIMIT 128
#define PACKED_ROWS 128
#define FEW_BLOCK_ROWS 48 /* of the smallest block, which is for no more */
/* Rows below which, and floats up to which of a panel of B, the next is asked for while one is multiplied: both have to stay
 * near. */
#define ASK_ROWS 64
#define ASK_PANEL 16384
#define FEW_ROWS 16 /* below them a block of fewer rows is no slower */
/* Rows of a work-item that an adapter's passes ride on: the last ones have at least so many, none more than have so many bytes in
 * a unit's near memory. And rows of a unit's share below which passes don't ride: also where B has more floats than stay near. */
#define PASS_LEAST 32
#define PASS_MOST 256
#define PASS_ROW_BYTES 4096
#define PASS_SHARE 64
#define PASS_FAR_SHARE 128
#define PASS_NEAR (1 << 18)

const char *sora_gemm_provider_name(sora_gemm_provider provider)
{
    static const char *const names[] = { "tile", "dot", "block", "clblast", "sparse", "sampled" };
    return names[provider];
}

static int64_t products_of(const sora_gemm_desc *d)
{
    return SORA_MAX(1, d->batch.count);
}

static int64_t panels_of(int panel, int64_t n)
{
    return (n + panel - 1) / panel;
}

/* ---- Variants ---------------------------------------------------------------------------------------------------- */

/* Blocks of C for 32 registers of 16 lanes or 16 of 8: rows by vectors, what was fastest for its width first. */
static const struct {
    int lanes, rows, vectors;
} blocks[] = { { 16, 6, 4 }, { 16, 8, 3 }, { 16, 12, 2 }, { 16, 14, 1 }, { 16, 4, 4 },
               { 8, 6, 2 },  { 8, 10, 1 }, { 8, 4, 3 },   { 8, 4, 2 } };

static int panel_of(int lanes, int64_t n)
{
    return lanes * (int)SORA_MIN(lanes == 16 ? 4 : 2, (n + lanes - 1) / lanes);
}

int sora_gemm_panel(const sora_device_limits *limits, int64_t n)
{
    return limits->type == SORA_DEVICE_CPU ? panel_of(sora_lanes(limits), n) : 0;
}

static sora_gemm_variant block_of(int lanes, int vectors)
{
    size_t i = 0;
    while (blocks[i].lanes != lanes || blocks[i].vectors != vectors) i++;
    return (sora_gemm_variant) { .provider = SORA_GEMM_TILE, .rows = blocks[i].rows, .vectors = vectors };
}

/* For m rows: where they are few, the block in which the fewest are done for nothing. */
static sora_gemm_variant block_for(int lanes, int vectors, int64_t m)
{
    sora_gemm_variant best = block_of(lanes, vectors);
    int64_t done = (m + best.rows - 1) / best.rows * best.rows;
    for (size_t i = 0; i < SORA_COUNT(blocks) && m < FEW_ROWS; i++) {
        int64_t rows = (m + blocks[i].rows - 1) / blocks[i].rows * blocks[i].rows;
        if (blocks[i].lanes != lanes || blocks[i].vectors != vectors || rows >= done) continue;
        best.rows = blocks[i].rows;
        done = rows;
    }
    return best;
}

static bool is_half(const sora_gemm_operand *operand)
{
    return operand->view.dtype == SORA_F16;
}

static bool is_inner(const sora_gemm_desc *d)
{
    return !d->b.panel && !d->a.transposed && d->b.transposed;
}

/* Rows and columns of C that a work-item has, and terms that it has near: the larger, the less often is an operand copied. */
static const int block_sizes[][3] = { { 256, 512, 256 }, { 256, 256, 256 }, { 128, 128, 256 }, { 48, 128, 32 }, { 48, 64, 32 } };

static sora_gemm_variant block_variant(int lanes, int64_t n, const int *size)
{
    sora_gemm_variant v = block_of(lanes, panel_of(lanes, n) / lanes);
    v.provider = SORA_GEMM_BLOCK;
    v.group_rows = size[0];
    v.group_columns = size[1];
    v.group_depth = size[2];
    return v;
}

/* Rows and columns of C and terms of a sparse product's work-item: a block of B that stays in the nearest cache is `terms` of
 * eight vectors; as many as a mask has bits. From SPARSE_LEAST terms on, and where all units have work, it is the default. */
static const int sparse_size[] = { 64, 512, 64 };
#define SPARSE_LEAST 256

/* A's zeros; B as it stands in panels, or rearranged on the way, which it is for so many rows. */
static bool has_zeros_left(const sora_gemm_desc *d)
{
    bool stands = d->b.panel && !d->b.turned;
    return d->a.zeros && (stands || d->m >= PACKED_ROWS) && products_of(d) == 1;
}

/* B's, of a product that is nothing but one. */
static bool has_zeros_right(const sora_gemm_desc *d)
{
    bool plain = !d->k2 && !d->bias.memory && !d->relu && !d->wanted_leading;
    return d->b.zeros && !d->b.panel && !d->b.transposed && !is_half(&d->b) && plain && d->n >= PACKED_ROWS &&
           products_of(d) == 1;
}

static bool is_sparse(const sora_gemm_desc *d)
{
    return has_zeros_left(d) || has_zeros_right(d);
}

/* The product whose A has the zeros: C's transpose is B's transpose times A's. */
static sora_gemm_desc zeros_left(const sora_gemm_desc *d)
{
    sora_gemm_desc turned = *d;
    if (has_zeros_left(d)) return turned;
    turned.m = d->n;
    turned.n = d->m;
    turned.a = d->b;
    turned.a.transposed = true;
    turned.b = d->a;
    turned.b.transposed = !d->a.transposed;
    return turned;
}

static bool is_sparse_first(const sora_device_limits *limits, const sora_gemm_desc *d)
{
    const sora_gemm_desc left = zeros_left(d);
    int64_t items = panels_of(sparse_size[0], left.m) * panels_of(sparse_size[1], left.n);
    return is_sparse(d) && d->k >= SPARSE_LEAST && items >= 2 * (int64_t)limits->compute_units;
}

static sora_gemm_variant sparse_variant(int lanes, const sora_gemm_desc *d)
{
    const sora_gemm_desc left = zeros_left(d);
    int most = panel_of(lanes, left.n), panel = left.b.turned ? 0 : left.b.panel;
    sora_gemm_variant v = block_variant(lanes, panel ? SORA_MIN(most, panel) : most, sparse_size);
    v.provider = SORA_GEMM_SPARSE;
    return v;
}

/* Rows and columns of C of a sampled product's work-item. */
static const int sampled_size[] = { 128, 128, 0 };
#define WIDEST_PANEL 64

/* Where Bᵀ stands in panels, or is brought into them on the way: for so many rows, and into no more than the workspace has. */
static bool is_sampled(const sora_gemm_desc *d)
{
    bool plain = !d->bias.memory && !d->relu && !d->accumulate;
    bool rearranges = !d->b.panel && !is_half(&d->b) && d->m >= PACKED_ROWS && d->k % WIDEST_PANEL == 0;
    return d->wanted_leading && (d->has_bt || rearranges) && !d->a.transposed && plain && products_of(d) == 1;
}

/* The largest that has no more rows than C needs and of which there are enough for all compute units. */
static int block_size_for(const sora_device_limits *limits, const sora_gemm_desc *d)
{
    int i = 0, last = (int)SORA_COUNT(block_sizes) - 1;
    for (; i < last; i++) {
        const int *size = block_sizes[i];
        int lower = i + 1;
        while (lower < last && block_sizes[lower][0] == size[0]) lower++;
        bool too_high = block_sizes[lower][0] < size[0] && d->m <= block_sizes[lower][0];
        if (!too_high && panels_of(size[0], d->m) * panels_of(size[1], d->n) >= 2 * (int64_t)limits->compute_units) break;
    }
    return i;
}

/* Where operands' rows lie far apart. */
static bool is_blocked(const sora_gemm_desc *d)
{
    bool stands = d->b.panel && !d->b.turned, as_rows = !d->b.panel && !d->b.transposed;
    bool few = as_rows && d->m <= FEW_BLOCK_ROWS && d->k >= FEW_BLOCK_LEAST;
    bool apart = d->a.transposed && d->m > FEW_BLOCK_ROWS && (as_rows || stands);
    return products_of(d) == 1 && d->k >= BLOCK_LEAST && (few || apart);
}

static int cpu_variants(const sora_device_limits *limits, const sora_gemm_desc *d, sora_gemm_variant *out)
{
    const sora_gemm_variant dot = { .provider = SORA_GEMM_DOT };
    int lanes = sora_lanes(limits), most = panel_of(lanes, d->n), panel = d->b.turned ? 0 : d->b.panel,
        first = panel ? SORA_MIN(most, panel) : most, count = 0, size = block_size_for(limits, d);
    bool blocked = is_blocked(d);
    sora_gemm_variant sparse = sparse_variant(lanes, d);
    bool sparse_first = is_sparse_first(limits, d);
    if (is_sampled(d)) {
        out[count] = block_variant(lanes, most, sampled_size);
        out[count++].provider = SORA_GEMM_SAMPLED;
    }
    if (sparse_first) out[count++] = sparse;
    if (is_inner(d) && d->m < DOT_MOST) out[count++] = dot;
    if (blocked) out[count++] = block_variant(lanes, first, block_sizes[size]);
    const sora_gemm_variant standard = block_for(lanes, first / lanes, d->m);
    out[count++] = standard;
    for (size_t i = 0; i < SORA_COUNT(blocks); i++) {
        int width = lanes * blocks[i].vectors;
        bool fits = blocks[i].lanes == lanes && width <= (d->n + lanes - 1) / lanes * lanes && (!panel || panel % width == 0) &&
                    (!d->k2 || most % width == 0);
        if (fits && (blocks[i].rows != standard.rows || blocks[i].vectors != standard.vectors))
            out[count++] =
                (sora_gemm_variant) { .provider = SORA_GEMM_TILE, .rows = blocks[i].rows, .vectors = blocks[i].vectors };
    }
    for (int i = 0; d->k >= BLOCK_TRIED && i < (int)SORA_COUNT(block_sizes); i++)
        if ((!blocked || i != size) && block_sizes[i][0] <= SORA_MAX(2 * d->m, FEW_BLOCK_ROWS))
            out[count++] = block_variant(lanes, first, block_sizes[i]);
    if (is_sparse(d) && !sparse_first) out[count++] = sparse;
    if (is_inner(d) && d->m >= DOT_MOST && d->m < DOT_LIMIT) out[count++] = dot;
    return count;
}

/* C of a work-group, terms at a time, C of a work-item; the largest first. */
static const int group_sizes[][5] = {
    { 128, 64, 16, 8, 4 }, { 64, 64, 16, 4, 4 }, { 64, 64, 8, 8, 8 }, { 32, 32, 16, 2, 2 }, { 16, 16, 16, 1, 1 }
};

static bool group_fits(const sora_device_limits *limits, const int *g)
{
    uint64_t items = (uint64_t)(g[0] / g[3] * (g[1] / g[4])), local = (uint64_t)(g[2] * (g[0] + g[1] + 2)) * sizeof(float);
    return items <= limits->work_group && local <= limits->local_bytes;
}

static sora_gemm_variant group_of(const int *g)
{
    return (sora_gemm_variant) { .provider = SORA_GEMM_TILE,
                                 .group_rows = g[0],
                                 .group_columns = g[1],
                                 .group_depth = g[2],
                                 .item_rows = g[3],
                                 .item_columns = g[4] };
}

/* Measured: with its defaults CLBlast is some twenty times slower than the register tiles on a CPU device, and well tuned on
 * GPUs; it takes no halves beside floats. Of ours the default is the largest group that C fills. */
static int gpu_variants(const sora_device_limits *limits, const sora_gemm_desc *d, sora_gemm_variant *out)
{
    int count = 0, standard = -1;
    if (products_of(d) == 1 && !is_half(&d->b) && sora_gemm_clblast_counts(d))
        out[count++] = (sora_gemm_variant) { .provider = SORA_GEMM_CLBLAST };
    for (int i = 0; i < (int)SORA_COUNT(group_sizes); i++) {
        bool filled = standard >= 0 && group_sizes[standard][0] <= d->m && group_sizes[standard][1] <= d->n;
        if (!filled && group_fits(limits, group_sizes[i])) standard = i;
    }
    if (standard >= 0) out[count++] = group_of(group_sizes[standard]);
    for (int i = 0; i < (int)SORA_COUNT(group_sizes); i++)
        if (i != standard && group_fits(limits, group_sizes[i])) out[count++] = group_of(group_sizes[i]);
    return count;
}

int sora_gemm_variants(const sora_device_limits *limits, const sora_gemm_desc *desc, sora_gemm_variant *out)
{
    return limits->type == SORA_DEVICE_CPU ? cpu_variants(limits, desc, out) : gpu_variants(limits, desc, out);
}

sora_tuning_key sora_gemm_tuning_key(const sora_gemm_desc *d)
{
    int forms = d->a.transposed | d->b.transposed << 1 | d->b.turned << 2 | is_half(&d->b) << 4 | has_zeros_left(d) << 5 |
                is_sampled(d) << 6 | has_zeros_right(d) << 7;
    return (sora_tuning_key) { "gemm",
                               { sora_tuning_class(d->m), sora_tuning_class(d->n), sora_tuning_class(d->k),
                                 sora_tuning_class(d->k2), forms, d->b.panel } };
}

sora_tuning_variant sora_gemm_tuning_variant(const sora_gemm_variant *v)
{
    return (sora_tuning_variant) { { (int32_t)v->provider, v->rows, v->vectors, v->group_rows, v->group_columns, v->group_depth,
                                     v->item_rows, v->item_columns, v->parameters } };
}

sora_gemm_variant sora_gemm_variant_of(const sora_tuning_variant *numbers)
{
    const int32_t *n = numbers->number;
    return (sora_gemm_variant) { .provider = (sora_gemm_provider)n[0],
                                 .rows = n[1],
                                 .vectors = n[2],
                                 .group_rows = n[3],
                                 .group_columns = n[4],
                                 .group_depth = n[5],
                                 .item_rows = n[6],
                                 .item_columns = n[7],
                                 .parameters = n[8] };
}

sora_gemm_variant sora_gemm_choose(sora_context *context, const sora_gemm_desc *desc)
{
    sora_gemm_variant variants[SORA_GEMM_VARIANTS];
    int count = sora_gemm_variants(&sora_context_device(context)->limits, desc, variants);
    sora_tuning_key key = sora_gemm_tuning_key(desc);
    sora_tuning_variant numbers[SORA_GEMM_VARIANTS];
    for (int i = 0; i < count; i++) numbers[i] = sora_gemm_tuning_variant(&variants[i]);
    return variants[sora_tuning_choose(context, &key, numbers, count)];
}

/* The length of as few runs as hold n, of at most so many each and of equal lengths. */
static int64_t equal_run(int64_t most, int64_t n)
{
    return panels_of((int)panels_of((int)most, n), n);
}

static int64_t block_run(const sora_gemm_variant *v, int64_t m)
{
    return panels_of(v->rows, equal_run(v->group_rows, m));
}

int64_t sora_gemm_sums_parts(const sora_gemm_variant *variant, int64_t m)
{
    return variant->provider == SORA_GEMM_SAMPLED ? panels_of((int)block_run(variant, m), panels_of(variant->rows, m)) : 0;
}

int64_t sora_gemm_sums_most(int64_t m)
{
    return panels_of(sampled_size[0], m);
}

/* Of a unit two. */
static int64_t pass_shares(const sora_device_limits *limits)
{
    return 2 * (int64_t)limits->compute_units;
}

static int64_t pass_most(const sora_device_limits *limits)
{
    return SORA_MAX(PASS_SHARE, SORA_MIN(PASS_MOST, (int64_t)(limits->local_bytes / PASS_ROW_BYTES)));
}

/* How many work-items passes over m rows ride on; 0 where a share has fewer rows than `least`, and on GPUs. An item has all columns
 * of some rows, whole blocks: a share of those that are left, so that the last ones are short and all units end together (guided
 * self-scheduling: Polychronopoulos & Kuck, IEEE Trans. Comput. C-36, 1987). The kernel finds its rows alike. */
static int64_t pass_items(const sora_device_limits *limits, int64_t least, int block, int64_t m)
{
    int64_t items = 0, shares = pass_shares(limits);
    if (limits->type != SORA_DEVICE_CPU || m < shares * least) return 0;
    for (int64_t top = 0; top < m; items++) {
        int64_t rows = SORA_MAX(PASS_LEAST, SORA_MIN(pass_most(limits), (m - top) / shares));
        top += (rows + block - 1) / block * block;
    }
    return items;
}

int64_t sora_gemm_pass_parts(const sora_device_limits *limits, const sora_gemm_variant *v, const sora_gemm_desc *d)
{
    bool whole = v->provider == SORA_GEMM_TILE || v->provider == SORA_GEMM_SPARSE, stands = d->b.panel && !d->b.turned;
    bool far = v->provider == SORA_GEMM_TILE && d->n * d->k > PASS_NEAR;
    if (!whole || !stands || d->a.transposed || products_of(d) > 1) return 0;
    return pass_items(limits, far ? PASS_FAR_SHARE : PASS_SHARE, v->rows, d->m);
}

int64_t sora_gemm_pass_parts_most(const sora_device_limits *limits, int64_t m)
{
    return pass_items(limits, PASS_SHARE, 1, m);
}

uint64_t sora_gemm_panel_elements(int panel, int64_t n, int64_t k)
{
    return (uint64_t)(panels_of(panel, n) * panel * k);
}

uint64_t sora_gemm_workspace(const sora_device_limits *limits, int64_t n, int64_t k)
{
    if (limits->type != SORA_DEVICE_CPU) return 0;
    /* The last panel of the widest block has fewer columns behind C's last than it has columns. */
    return (uint64_t)((n + 4 * sora_lanes(limits) - 1) * k);
}

/* Element (i, k) of A stands at i * row + k * column; (k, j) of B at k * row + j * column. */
typedef struct steps {
    int64_t row, column;
} steps;

static steps steps_of(const sora_gemm_operand *operand)
{
    return operand->transposed ? (steps) { 1, operand->leading } : (steps) { operand->leading, 1 };
}

/* Where block i of B2 ends, and the last for those that there aren't. */
static int64_t columns_until(const sora_gemm_desc *d, int i)
{
    return i + 1 < d->blocks2.count ? d->blocks2.columns[i] : d->n;
}

static int64_t terms_until(const sora_gemm_desc *d, int i)
{
    return i + 1 < d->blocks2.count ? d->blocks2.terms[i] : d->k2;
}

/* Elements of B2's blocks. */
static int64_t second_elements(const sora_gemm_desc *d)
{
    int64_t sum = 0, column = 0, term = 0;
    for (int i = 0; i < SORA_GEMM_BLOCKS; i++) {
        sum += (columns_until(d, i) - column) * (terms_until(d, i) - term);
        column = columns_until(d, i);
        term = terms_until(d, i);
    }
    return sum;
}

static double flops_of(const sora_gemm_desc *d)
{
    double passes = (d->passes.before ? sora_narrow_flops(d->passes.before) : 0.0) +
                    (d->passes.after ? sora_narrow_flops(d->passes.after) : 0.0);
    return 2.0 * (double)(products_of(d) * d->m) * (double)(d->n * d->k + second_elements(d)) + passes;
}

static double bytes_of(const sora_gemm_desc *d)
{
    const sora_narrow_desc *after = d->passes.after;
    double b =
        (is_half(&d->b) ? 2.0 : 4.0) * (double)(d->n * d->k) + (after ? 4.0 * (double)(d->m * after->layers[0].columns) : 0.0);
    return (double)products_of(d) * (4.0 * (double)(d->m * (d->k + d->k2) + second_elements(d) + d->m * d->n) + b);
}

#define OPTIONS 192

enum { A_BY_COLUMNS = 1, B_ROWS = 2, B_HALF = 4, PACKED_HALF = 8, B_TOGETHER = 16, PASSES = 32 };

/* Returns their length. */
static int program_options(const sora_context *context, const sora_gemm_variant *v, int forms, char out[OPTIONS])
{
    int lanes = sora_lanes(&sora_context_device(context)->limits);
    int written = snprintf(out, OPTIONS, "-D SORA_CPU -D XV=%d -D NV=%d -D MR=%d -D W=%d%s%s%s%s%s%s", lanes, v->vectors, v->rows,
                           lanes * v->vectors, forms & A_BY_COLUMNS ? " -D A_BY_COLUMNS" : "", forms & B_ROWS ? " -D B_ROWS" : "",
                           forms & B_HALF ? " -D B_HALF" : "", forms & PACKED_HALF ? " -D PACKED_HALF" : "",
                           forms & B_TOGETHER ? " -D B_TOGETHER" : "", forms & PASSES ? " -D PASSES" : "");
    if (v->group_rows)
        written +=
            snprintf(out + written, (size_t)(OPTIONS - written), " -D BLOCK_ROWS=%d -D BLOCK_COLUMNS=%d -D BLOCK_TERMS=%d%s",
                     v->group_rows, v->group_columns, v->group_depth,
                     v->provider == SORA_GEMM_SPARSE    ? " -D A_ZEROS"
                     : v->provider == SORA_GEMM_SAMPLED ? " -D SAMPLED"
                                                        : "");
    return written;
}

static sora_status run_dot(sora_context *context, const sora_gemm_desc *d, sora_error *error)
{
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    int64_t rows = sora_lanes(limits) == 16 ? 8 : 4, across = (d->n + DOT_COLUMNS - 1) / DOT_COLUMNS,
            groups = 4 * (int64_t)limits->compute_units;
    /* Where the columns are enough for all units, one item takes all rows of A, and B comes from memory once. */
    int64_t height = across >= groups ? d->m : rows, down = (d->m + height - 1) / height;
    int64_t wanted = DOT_WORK / SORA_MAX(1, height * DOT_COLUMNS * (d->k + d->k2)), most = across * down / groups;
    int64_t tiles = SORA_MAX(1, SORA_MIN(SORA_MIN(wanted, most), across));
    char options[OPTIONS];
    sora_gemm_variant tile = block_of(sora_lanes(limits), 1);
    program_options(context, &tile, is_half(&d->b) ? B_HALF : 0, options);
    return sora_launch(
        context,
        &(sora_launch_desc) {
            .file = "gemm",
            .kernel = "gemm_dot",
            .options = options,
            .flops = flops_of(d),
            .bytes = bytes_of(d),
            .global = { (size_t)((across + tiles - 1) / tiles), (size_t)down },
            .label = d->label,
            .arguments = SORA_ARGUMENTS(SORA_VIEW(&d->a.view), SORA_VIEW(&d->b.view), SORA_VIEW(&d->a2.view),
                                        SORA_VIEW(&d->b2.view), SORA_VIEW(&d->c), SORA_LONG(d->a.leading),
                                        SORA_LONG(d->b.leading), SORA_LONG(d->a2.leading), SORA_INT(d->b2.panel),
                                        SORA_LONG(d->c_leading), SORA_INT(d->m), SORA_INT(d->n), SORA_INT(d->k), SORA_INT(d->k2),
                                        SORA_FLOAT(sora_gemm_alpha(d)), SORA_INT(tiles), SORA_INT(height), SORA_VIEW(&d->bias),
                                        SORA_INT(d->bias.memory != NULL), SORA_INT(d->relu), SORA_INT(d->accumulate)) },
        error);
}

/* In one program with the tiles that read such panels. */
static void pack_options(const sora_context *context, int panel, sora_dtype from, sora_dtype to, char out[OPTIONS])
{
    int lanes = sora_lanes(&sora_context_device(context)->limits);
    sora_gemm_variant tile = block_of(lanes, panel / lanes);
    program_options(context, &tile, B_TOGETHER | (from == SORA_F16 ? B_HALF : 0) | (to == SORA_F16 ? PACKED_HALF : 0), out);
}

sora_status sora_gemm_pack(sora_context *context, const sora_gemm_operand *b, int64_t n, int64_t k, int panel,
                           const sora_view *out, const char *label, sora_error *error)
{
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    int64_t count = panels_of(panel, n);
    int64_t runs = SORA_MAX(1, SORA_MIN(k / 16, 4 * (int64_t)limits->compute_units / count + 1));
    /* Row p of B begins at p / group * next + p % group * s.row: in panels of Bᵀ its rows are columns of those. */
    steps s = b->panel ? (steps) { 1, b->panel } : steps_of(b);
    int64_t group = b->panel ? b->panel : k, next = n * b->panel;
    char options[OPTIONS];
    pack_options(context, panel, b->view.dtype, out->dtype, options);
    return sora_launch(context,
                       &(sora_launch_desc) { .file = "gemm",
                                             .kernel = "gemm_pack",
                                             .options = options,
                                             .global = { (size_t)runs, (size_t)count },
                                             .label = label,
                                             .arguments = SORA_ARGUMENTS(SORA_VIEW(&b->view), SORA_VIEW(out), SORA_LONG(s.row),
                                                                         SORA_LONG(s.column), SORA_INT(group), SORA_LONG(next),
                                                                         SORA_INT(n), SORA_INT(k)) },
                       error);
}

sora_status sora_gemm_expect_pack(sora_context *context, sora_dtype dtype, sora_error *error)
{
    int panel = sora_gemm_panel(&sora_context_device(context)->limits, INT32_MAX);
    char options[OPTIONS];
    if (!panel) return SORA_OK;
    pack_options(context, panel, dtype, dtype, options);
    return sora_program_expect(context, "gemm", options, error);
}

/* B as gemm_tile reads it: panels of `split` tiles' columns, `panel` elements apart, their rows `row` elements. */
typedef struct panels {
    sora_view view;
    int64_t panel, row;
    int split;
} panels;

/* As it stands in panels of some tiles each. */
static panels standing_panels(const sora_gemm_operand *operand, int64_t k, int width)
{
    return (panels) { operand->view, k * operand->panel, operand->panel, operand->panel / width };
}

/* B in panels of `width`: as it stands where it does in wider ones, or where it holds whole ones and too few rows come to make
 * its rearrangement worth it; else a copy in the workspace. */
static sora_status take_panels(sora_context *context, const sora_gemm_desc *d, int width, panels *out, sora_error *error)
{
    const sora_gemm_operand *b = &d->b;
    *out = (panels) { b->view, width, b->leading, 1 };
    if (b->panel && !b->turned) *out = standing_panels(b, d->k, width);
    if (b->panel ? !b->turned : !b->transposed && d->n % width == 0 && d->m < PACKED_ROWS) return SORA_OK;
    *out = (panels) { d->workspace, d->k * width, width, 1 };
    return sora_gemm_pack(context, b, d->n, d->k, width, &out->view, d->label, error);
}

/* Blocks of rows of a work-item: enough to be worth its start and its panel of B, few enough for all units to have some. */
static int64_t tile_run(const sora_device_limits *limits, const sora_gemm_variant *v, const sora_gemm_desc *d, int64_t tiles)
{
    int64_t work = (int64_t)v->rows * v->vectors * sora_lanes(limits) * (d->k + d->k2);
    int64_t most = products_of(d) * tiles / (4 * (int64_t)limits->compute_units);
    int64_t least = d->n * d->k > FAR_PANELS ? FAR_RUN : 1, wanted = SORA_MAX(TILE_WORK / work, least);
    return equal_run(SORA_MAX(1, SORA_MIN(wanted, most)), panels_of(v->rows, d->m));
}

/* Tile, block and sparse. turned: C is stored [n, m]. */
static sora_status run_tiles(sora_context *context, const sora_gemm_desc *d, const sora_gemm_variant *v, bool turned,
                             sora_error *error)
{
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    int width = v->vectors * sora_lanes(limits);
    panels first, second = { .split = 1 };
    char options[OPTIONS];
    bool block = v->group_rows > 0, b_rows = v->provider == SORA_GEMM_BLOCK && !d->b.panel && !d->b.transposed;
    sora_status status = SORA_OK;
    if (b_rows)
        first = (panels) { d->b.view, 0, d->b.leading, 1 };
    else
        status = take_panels(context, d, width, &first, error);
    if (status != SORA_OK) return status;
    if (d->k2) second = standing_panels(&d->b2, d->k2, width);
    static const sora_narrow_desc none = { 0 };
    const sora_narrow_desc *before = d->passes.before ? d->passes.before : &none,
                           *after = d->passes.after ? d->passes.after : &none;
    bool passes = before->m > 0;
    int64_t down = panels_of(v->rows, d->m), across = panels_of(block ? v->group_columns : width, d->n),
            parts = passes ? sora_gemm_pass_parts(limits, v, d) : 0;
    int64_t run = block ? block_run(v, d->m) : tile_run(limits, v, d, across * down);
    bool apart = block || run * v->rows * width * (d->k + d->k2) >= APART_WORK;
    bool asks = first.row == (int64_t)first.split * width && (d->m < ASK_ROWS || d->k * width <= ASK_PANEL);
    bool together = (b_rows || first.row == width) && (d->k2 == 0 || second.row == width);
    int forms = (d->a.transposed ? A_BY_COLUMNS : 0) | (b_rows ? B_ROWS : 0) | (first.view.dtype == SORA_F16 ? B_HALF : 0) |
                (together ? B_TOGETHER : 0) | (passes ? PASSES : 0);
    program_options(context, v, forms, options);
    sora_launch_desc desc = { .file = "gemm",
                              .kernel = block ? "gemm_block" : "gemm_tile",
                              .options = options,
                              .flops = flops_of(d),
                              .bytes = bytes_of(d),
                              .global = { (size_t)(apart ? across * SORA_APART : across), (size_t)panels_of((int)run, down),
                                          (size_t)products_of(d) },
                              .label = d->label };
#define PRODUCT_ARGUMENTS                                                                                                       \
    SORA_VIEW(&d->a.view), SORA_VIEW(&first.view), SORA_VIEW(&d->a2.view), SORA_VIEW(&second.view), SORA_VIEW(&d->c),           \
        SORA_LONG(d->a.leading), SORA_LONG(first.panel), SORA_LONG(first.row), SORA_INT(first.split), SORA_LONG(d->a2.leading), \
        SORA_LONG(second.panel), SORA_LONG(second.row), SORA_INT(second.split), SORA_LONG(d->c_leading), SORA_INT(d->m),        \
        SORA_INT(d->n), SORA_INT(d->k), SORA_INT(d->k2),                                                                        \
        SORA_INT4(columns_until(d, 0), columns_until(d, 1), columns_until(d, 2), d->n),                                         \
        SORA_INT4(terms_until(d, 0), terms_until(d, 1), terms_until(d, 2), d->k2), SORA_INT(run), SORA_INT(asks),               \
        SORA_INT(turned), SORA_FLOAT(sora_gemm_alpha(d)), SORA_VIEW(&d->bias), SORA_INT(d->bias.memory != NULL),                \
        SORA_INT(d->relu), SORA_INT(d->accumulate), SORA_LONG(d->batch.a), SORA_LONG(d->batch.b), SORA_LONG(d->batch.c)
    desc.arguments = SORA_ARGUMENTS(PRODUCT_ARGUMENTS);
    if (!passes) return sora_launch(context, &desc, error);
    desc.global[0] = (size_t)(parts * SORA_APART);
    desc.global[1] = 1;
    desc.arguments = SORA_ARGUMENTS(
        PRODUCT_ARGUMENTS, SORA_VIEW(&before->factor), SORA_VIEW(&before->s), SORA_VIEW(&before->parts), SORA_VIEW(&after->x),
        SORA_VIEW(&after->parts), SORA_LONG(after->x_leading), SORA_INT(after->layers[0].columns),
        SORA_NARROW_LAYERS(before->layer_count, before->layers), SORA_INT(before->s.memory != NULL), SORA_INT(parts),
        SORA_INT(pass_shares(limits)), SORA_INT(PASS_LEAST), SORA_INT(pass_most(limits)));
    return sora_launch(context, &desc, error);
}

static sora_status run_sampled(sora_context *context, const sora_gemm_desc *d, const sora_gemm_variant *v, sora_error *error)
{
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    int width = v->vectors * sora_lanes(limits), panel = sora_gemm_panel(limits, d->k);
    panels second = { .split = 1 };
    if (d->k2) second = standing_panels(&d->b2, d->k2, width);
    int64_t down = panels_of(v->rows, d->m), across = panels_of(v->group_columns, d->n), run = block_run(v, d->m);
    const sora_gemm_sums *sums = &d->sums;
    sora_view bt = d->has_bt ? d->bt : d->workspace;
    const sora_gemm_operand turned = { .view = d->b.view, .leading = d->b.leading, .transposed = !d->b.transposed };
    sora_status status = d->has_bt ? SORA_OK : sora_gemm_pack(context, &turned, d->k, d->n, panel, &bt, d->label, error);
    if (status != SORA_OK) return status;
    char options[OPTIONS];
    int written = program_options(context, v, bt.dtype == SORA_F16 ? B_HALF : 0, options);
    snprintf(options + written, (size_t)(OPTIONS - written), " -D PANEL=%d", panel);
    return sora_launch(
        context,
        &(sora_launch_desc) {
            .file = "gemm",
            .kernel = "gemm_sampled",
            .options = options,
            .flops = flops_of(d),
            .bytes = bytes_of(d),
            .global = { (size_t)(across * SORA_APART), (size_t)panels_of((int)run, down) },
            .label = d->label,
            .arguments = SORA_ARGUMENTS(
                SORA_VIEW(&d->a.view), SORA_VIEW(&bt), SORA_VIEW(&d->a2.view), SORA_VIEW(&second.view), SORA_VIEW(&d->wanted),
                SORA_VIEW(&sums->left), SORA_VIEW(&sums->parts), SORA_VIEW(&d->c), SORA_LONG(d->a.leading),
                SORA_LONG(d->n * panel), SORA_LONG(d->a2.leading), SORA_LONG(second.panel), SORA_LONG(second.row),
                SORA_INT(second.split), SORA_LONG(d->wanted_leading), SORA_INT(sums->rank), SORA_LONG(d->c_leading),
                SORA_INT(d->m), SORA_INT(d->n), SORA_INT(d->k), SORA_INT(d->k2), SORA_INT(run), SORA_FLOAT(sora_gemm_alpha(d))) },
        error);
}

static sora_status run_group(sora_context *context, const sora_gemm_desc *d, const sora_gemm_variant *v, sora_error *error)
{
    steps a = steps_of(&d->a), b = steps_of(&d->b);
    size_t items_across = (size_t)(v->group_columns / v->item_columns), items_down = (size_t)(v->group_rows / v->item_rows);
    size_t across = (size_t)panels_of(v->group_columns, d->n), down = (size_t)panels_of(v->group_rows, d->m);
    char options[OPTIONS];
    snprintf(options, sizeof options, "-D XV=1 -D TM=%d -D TN=%d -D TK=%d -D IM=%d -D IN=%d%s", v->group_rows, v->group_columns,
             v->group_depth, v->item_rows, v->item_columns, is_half(&d->b) ? " -D B_HALF" : "");
    return sora_launch(
        context,
        &(sora_launch_desc) { .file = "gemm",
                              .kernel = "gemm_local",
                              .options = options,
                              .flops = flops_of(d),
                              .bytes = bytes_of(d),
                              .global = { across * items_across, down * items_down, (size_t)products_of(d) },
                              .local = { items_across, items_down, 1 },
                              .label = d->label,
                              .arguments = SORA_ARGUMENTS(
                                  SORA_VIEW(&d->a.view), SORA_VIEW(&d->b.view), SORA_VIEW(&d->a2.view), SORA_VIEW(&d->b2.view),
                                  SORA_VIEW(&d->c), SORA_LONG(a.row), SORA_LONG(a.column), SORA_LONG(b.row), SORA_LONG(b.column),
                                  SORA_LONG(d->a2.leading), SORA_LONG(d->b2.leading), SORA_LONG(d->c_leading), SORA_INT(d->m),
                                  SORA_INT(d->n), SORA_INT(d->k), SORA_INT(d->k2), SORA_FLOAT(sora_gemm_alpha(d)),
                                  SORA_VIEW(&d->bias), SORA_INT(d->bias.memory != NULL), SORA_INT(d->relu),
                                  SORA_INT(d->accumulate), SORA_LONG(d->batch.a), SORA_LONG(d->batch.b), SORA_LONG(d->batch.c)) },
        error);
}

static sora_status run_sparse(sora_context *context, const sora_gemm_desc *d, const sora_gemm_variant *v, sora_error *error)
{
    const sora_gemm_desc left = zeros_left(d);
    return run_tiles(context, &left, v, !has_zeros_left(d), error);
}

static sora_status run_all(sora_context *context, const sora_gemm_desc *d, const sora_gemm_variant *v, sora_error *error)
{
    if (v->provider == SORA_GEMM_CLBLAST) return sora_gemm_clblast(context, d, v, error);
    if (v->provider == SORA_GEMM_DOT) return run_dot(context, d, error);
    if (v->provider == SORA_GEMM_SPARSE) return run_sparse(context, d, v, error);
    return sora_is_cpu(context) ? run_tiles(context, d, v, false, error) : run_group(context, d, v, error);
}

static sora_status mask(sora_context *context, const sora_gemm_desc *d, sora_error *error)
{
    return sora_launch(
        context,
        &(sora_launch_desc) { .file = "gemm",
                              .kernel = "gemm_mask",
                              .options = "-D XV=1",
                              .label = d->label,
                              .global = { sora_is_cpu(context) ? 1 : (size_t)d->n, (size_t)d->m },
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(&d->wanted), SORA_VIEW(&d->c), SORA_LONG(d->wanted_leading),
                                                          SORA_LONG(d->c_leading), SORA_INT(d->n)) },
        error);
}

sora_status sora_gemm(sora_context *context, const sora_gemm_desc *desc, sora_error *error)
{
    if (desc->m < 1 || desc->n < 1 || desc->k < 1 || desc->m > INT32_MAX || desc->n > INT32_MAX || desc->k > INT32_MAX)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: a product of %lld x %lld x %lld", desc->label ? desc->label : "gemm",
                         (long long)desc->m, (long long)desc->n, (long long)desc->k);
    if (desc->batch.count > 1 && (desc->k2 || (sora_is_cpu(context) && (!desc->b.panel || desc->b.turned))))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: %lld products at once; expected one pair of operands, B in panels",
                         desc->label ? desc->label : "gemm", (long long)desc->batch.count);
    if (desc->accumulate && (desc->bias.memory || desc->relu))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: a product that is added to C has no bias and no ReLU",
                         desc->label ? desc->label : "gemm");
    int panel = sora_gemm_panel(&sora_context_device(context)->limits, desc->n);
    if (desc->k2 && desc->b2.panel != panel)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: a second pair's B in panels of %d; expected %d",
                         desc->label ? desc->label : "gemm", desc->b2.panel, panel);
    sora_gemm_variant variant = desc->variant ? *desc->variant : sora_gemm_choose(context, desc);
    if (desc->sums.rank && variant.provider != SORA_GEMM_SAMPLED)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: sums ride on no %s product", desc->label ? desc->label : "gemm",
                         sora_gemm_provider_name(variant.provider));
    if (desc->passes.before && !sora_gemm_pass_parts(&sora_context_device(context)->limits, &variant, desc))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: passes ride on no %s product of %lld rows",
                         desc->label ? desc->label : "gemm", sora_gemm_provider_name(variant.provider), (long long)desc->m);
    if (variant.provider == SORA_GEMM_SAMPLED) return run_sampled(context, desc, &variant, error);
    sora_status status = run_all(context, desc, &variant, error);
    return status == SORA_OK && desc->wanted_leading ? mask(context, desc, error) : status;
}
