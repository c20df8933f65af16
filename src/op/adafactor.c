/* SPDX-License-Identifier: Apache-2.0 */
#include "op/range.h"
#include "op/update.h"

#include <math.h>
#include <stdlib.h>

/* A relative rate takes values for no smaller than this: Transformers' second epsilon. */
#define LEAST_SIZE 1e-3

/* As in kernels/adafactor.cl, which says what they are. */
#define BLOCK 16
#define CHUNK 256
/* Elements of a run. A mean of R over a matrix that is no larger is taken again where it is needed. */
#define RUN 2048

/* The kernels' struct entry. */
typedef struct sora_adafactor_entry {
    int64_t at, first_at, second_at;
    int64_t matrices, rows, columns, factored;
    int64_t run_rows, runs, run_at;
    int64_t blocks, chunks, tile_at;
    int64_t partial_at, column_at;
    int64_t has_means, mean_at;
} sora_adafactor_entry;

#define ENTRY_ELEMENTS (sizeof(sora_adafactor_entry) / sizeof(float))

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* The entry of the next parameter but for its places; its first units are the totals so far, which grow. */
static sora_adafactor_entry next_entry(const sora_shape *shape, sora_adafactor_sizes *s)
{
    int rank = shape->rank;
    sora_adafactor_entry e = { .matrices = 1,
                               .rows = rank < 2 ? shape->dim[0] : shape->dim[rank - 2],
                               .columns = rank < 2 ? 1 : shape->dim[rank - 1],
                               .factored = rank >= 2,
                               .run_at = s->runs,
                               .tile_at = s->tiles,
                               .partial_at = s->partials,
                               .column_at = s->columns,
                               .mean_at = s->means };
    for (int i = 0; i < rank - 2; i++) e.matrices *= shape->dim[i];
    e.run_rows = SORA_MAX(1, RUN / e.columns);
    e.runs = divide_up(e.matrices * e.rows, e.run_rows);
    e.blocks = divide_up(e.columns, BLOCK);
    e.chunks = divide_up(e.rows, CHUNK);
    e.has_means = e.factored && e.rows * e.columns > RUN;
    s->count++;
    s->elements += e.matrices * e.rows * e.columns;
    s->runs += e.runs;
    if (e.factored) s->tiles += e.matrices * e.blocks * e.chunks;
    if (e.factored && e.chunks > 1) {
        s->partials += e.matrices * e.chunks * e.columns;
        s->columns += e.matrices * e.columns;
    }
    if (e.has_means) s->means += e.matrices;
    return e;
}

void sora_adafactor_count(sora_adafactor_sizes *sizes, const sora_shape *shape)
{
    next_entry(shape, sizes);
}

uint64_t sora_adafactor_bytes(const sora_adafactor_sizes *s)
{
    uint64_t floats = (uint64_t)(s->partials + s->means + 2 * s->runs + 2 * s->count);
    return (uint64_t)s->count * sizeof(sora_adafactor_entry) + floats * sizeof(float);
}

/* The next `elements` of the table's memory. */
static sora_view take(const sora_adafactor_table *table, uint64_t *at, int64_t elements)
{
    sora_view view = sora_view_dense(&table->memory, *at, SORA_SHAPE(elements));
    *at += (uint64_t)elements;
    return view;
}

sora_status sora_adafactor_create(sora_context *context, const sora_adafactor_param *params, size_t count,
                                  sora_adafactor_table *out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_adafactor_entry *entries = NULL;
    uint64_t at = 0;
    *out = (sora_adafactor_table) { 0 };
    if (count == 0) return SORA_OK;
    SORA_TRY(sora_allocate(count, sizeof *entries, "Adafactor's table", &entries, error));
    for (size_t i = 0; i < count; i++) {
        entries[i] = next_entry(&params[i].shape, &out->sizes);
        entries[i].at = (int64_t)params[i].at;
        entries[i].first_at = (int64_t)params[i].first_at;
        entries[i].second_at = (int64_t)params[i].second_at;
    }
    SORA_TRY(sora_buffer_create(context, sora_adafactor_bytes(&out->sizes), "Adafactor's table", &out->memory, error));
    out->entries = take(out, &at, (int64_t)(count * ENTRY_ELEMENTS));
    out->partials = take(out, &at, out->sizes.partials);
    out->means = take(out, &at, out->sizes.means);
    out->squares = take(out, &at, 2 * out->sizes.runs);
    out->scales = take(out, &at, 2 * out->sizes.count);
    SORA_TRY(sora_view_write(context, &out->entries, entries, error));
cleanup:
    free(entries);
    if (status != SORA_OK) sora_adafactor_destroy(out);
    return status;
}

void sora_adafactor_destroy(sora_adafactor_table *table)
{
    sora_buffer_destroy(&table->memory);
    *table = (sora_adafactor_table) { 0 };
}

/* `elements`: on a CPU they, not the units, say how many work-items are worth it. */
static sora_status launch(sora_context *context, const char *kernel, int64_t units, int64_t elements,
                          const sora_argument *arguments, sora_error *error)
{
    if (units == 0) return SORA_OK;
    return sora_launch_range(context, (sora_launch_desc) { .file = "adafactor", .kernel = kernel, .arguments = arguments },
                             sora_is_cpu(context) ? SORA_MAX(elements, units) : units, 1, error);
}

sora_status sora_adafactor(sora_context *context, const sora_update_range *range, const sora_adafactor_table *table,
                           const sora_adafactor_desc *desc, const sora_view *control, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_adafactor_sizes *s = &table->sizes;
    const sora_view *value = &range->value, *gradient = &range->gradient, *first = &range->moment1, *second = &range->moment2;
    double rest = pow((double)desc->step, -(double)desc->decay_rate), lr = (double)desc->lr;
    const sora_argument keep = SORA_FLOAT(1.0 - rest), fresh = SORA_FLOAT(rest), epsilon = SORA_FLOAT(desc->epsilon);
    const sora_argument entries = SORA_VIEW(&table->entries), count = SORA_LONG(s->count), go = SORA_VIEW(control);
    SORA_TRY(launch(
        context, "adafactor_rows", s->runs, s->elements,
        SORA_ARGUMENTS(entries, count, SORA_VIEW(gradient), SORA_VIEW(first), go, keep, fresh, epsilon, SORA_LONG(s->runs)),
        error));
    SORA_TRY(launch(context, "adafactor_tiles", s->tiles, s->elements,
                    SORA_ARGUMENTS(entries, count, SORA_VIEW(gradient), SORA_VIEW(second), SORA_VIEW(&table->partials), go, keep,
                                   fresh, epsilon, SORA_LONG(s->tiles)),
                    error));
    SORA_TRY(launch(context, "adafactor_columns", s->columns, s->elements,
                    SORA_ARGUMENTS(entries, count, SORA_VIEW(second), SORA_VIEW(&table->partials), go, keep, fresh, epsilon,
                                   SORA_LONG(s->columns)),
                    error));
    SORA_TRY(launch(context, "adafactor_means", s->means, s->elements,
                    SORA_ARGUMENTS(entries, count, SORA_VIEW(first), SORA_VIEW(&table->means), SORA_LONG(s->means)), error));
    SORA_TRY(launch(context, "adafactor_squares", s->runs, s->elements,
                    SORA_ARGUMENTS(entries, count, SORA_VIEW(value), SORA_VIEW(gradient), SORA_VIEW(first), SORA_VIEW(second),
                                   SORA_VIEW(&table->means), SORA_VIEW(&table->squares), go, SORA_LONG(s->runs)),
                    error));
    SORA_TRY(launch(context, "adafactor_scales", s->count, s->elements,
                    SORA_ARGUMENTS(entries, count, SORA_VIEW(&table->squares), SORA_VIEW(&table->scales), SORA_FLOAT(desc->limit),
                                   SORA_INT(desc->relative), SORA_FLOAT(LEAST_SIZE), SORA_LONG(s->runs)),
                    error));
    SORA_TRY(launch(context, "adafactor_update", s->runs, s->elements,
                    SORA_ARGUMENTS(entries, count, SORA_VIEW(value), SORA_VIEW(gradient), SORA_VIEW(first), SORA_VIEW(second),
                                   SORA_VIEW(&table->means), SORA_VIEW(&table->scales), go, SORA_FLOAT(lr),
                                   SORA_FLOAT(desc->weight_decay), SORA_LONG(s->runs)),
                    error));
cleanup:
    return status;
}
