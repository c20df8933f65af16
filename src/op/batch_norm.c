/* SPDX-License-Identifier: Apache-2.0 */
#include "op/ops.h"
#include "op/plane.h"

enum { X, GAMMA, BETA, RUNNING_MEAN, RUNNING_VARIANCE, STATISTICS };

static const sora_batch_norm_attributes *attributes_of(const void *attributes)
{
    return attributes;
}

static int64_t pixels_of(const sora_shape *x)
{
    return x->dim[2] * x->dim[3];
}

/* Bytes of that many tensors like x, a pooled one being a quarter. */
static double bytes_of(const sora_view *x, double tensors)
{
    return 4.0 * (double)sora_view_elements(x) * tensors;
}

/* Sums over a channel's pixels are of parts of fixed size: runs of a plane, or planes of a group of images. */
typedef struct parts {
    int64_t runs, group, groups;
} parts;

static parts parts_of(const sora_shape *x)
{
    parts p = { .runs = SORA_MIN(sora_sum_parts(pixels_of(x)), 64), .group = SORA_MAX(1, SORA_SUM_RUN / pixels_of(x)) };
    p.groups = (x->dim[0] + p.group - 1) / p.group;
    return p;
}

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    const sora_shape *x = &rule->inputs[X];
    char text[80], other[80];
    if (x->rank != 4) return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s; expected [n, c, h, w]", sora_shape_text(x, text));
    for (int i = GAMMA; i <= RUNNING_VARIANCE; i++) {
        const sora_shape *p = &rule->inputs[i];
        if (p->rank != 1 || p->dim[0] != x->dim[1])
            return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s takes %lld values for each of its four parameters, not %s",
                             sora_shape_text(x, text), (long long)x->dim[1], sora_shape_text(p, other));
    }
    const sora_shape *s = &rule->inputs[STATISTICS];
    if (s->rank && (s->rank != 4 || s->dim[0] != x->dim[0] || s->dim[1] != x->dim[1] || s->dim[3] != 3))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s with statistics %s; expected [n, c, parts, 3]",
                         sora_shape_text(x, text), sora_shape_text(s, other));
    bool pool = attributes_of(rule->attributes)->pool;
    if (pool && (x->dim[2] % 2 || x->dim[3] % 2))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "input %s; expected even h and w to pool", sora_shape_text(x, text));
    parts p = parts_of(x);
    uint64_t channels = (uint64_t)x->dim[1], partial = channels * (uint64_t)(p.runs * p.groups);
    rule->output_count = pool ? 2 : 1;
    rule->outputs[0] = *x;
    if (pool) rule->outputs[1] = SORA_SHAPE(x->dim[0], x->dim[1], x->dim[2] / 2, x->dim[3] / 2);
    if (rule->training) rule->saved[0] = rule->saved[1] = SORA_SHAPE(x->dim[1]);
    rule->forward_workspace = 2 * channels + 3 * partial;
    rule->backward_workspace = 2 * channels + 2 * partial;
    return SORA_OK;
}

static sora_view part_of(const sora_view *workspace, uint64_t offset)
{
    sora_view part = *workspace;
    part.offset += offset;
    return part;
}

static sora_status statistics_of_parts(const sora_op_run *run, const parts *p, const sora_view *partial, sora_error *error)
{
    const sora_view *x = &run->inputs[X];
    const sora_launch_desc desc = { .file = "batch_norm",
                                    .kernel = "norm_parts",
                                    .global = { 0, (size_t)x->shape.dim[1], (size_t)p->groups },
                                    .label = run->name,
                                    .bytes = bytes_of(x, 1),
                                    .arguments =
                                        SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(partial), SORA_LONG(x->stride),
                                                       SORA_INT(x->shape.dim[1]), SORA_INT(pixels_of(&x->shape)),
                                                       SORA_INT(p->runs), SORA_INT(x->shape.dim[0]), SORA_INT(p->group)) };
    return sora_launch_groups(run->context, desc, p->runs, error);
}

/* From those of parts that came with x, else of our own. */
static sora_status batch_statistics(const sora_op_run *run, const sora_view *mean, const sora_view *deviation,
                                    const sora_view *scratch, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_batch_norm_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *partial = scratch;
    int64_t n = pixels_of(&x->shape), images = x->shape.dim[0];
    parts p = parts_of(&x->shape);
    int64_t stride = 3 * x->shape.dim[1] * p.runs;
    if (run->input_count > STATISTICS) {
        partial = &run->inputs[STATISTICS];
        p = (parts) { .runs = partial->shape.dim[2], .groups = images };
        stride = partial->stride;
    } else {
        SORA_TRY(statistics_of_parts(run, &p, partial, error));
    }
    SORA_TRY(sora_launch(run->context,
                         &(sora_launch_desc) {
                             .file = "batch_norm",
                             .kernel = "norm_statistics",
                             .options = sora_range_options(run->context),
                             .global = { (size_t)x->shape.dim[1] },
                             .label = run->name,
                             .arguments = SORA_ARGUMENTS(
                                 SORA_VIEW(partial), SORA_VIEW(mean), SORA_VIEW(deviation), SORA_VIEW(&run->inputs[RUNNING_MEAN]),
                                 SORA_VIEW(&run->inputs[RUNNING_VARIANCE]), SORA_LONG(stride), SORA_INT(p.runs),
                                 SORA_INT(p.groups), SORA_FLOAT(images * n), SORA_FLOAT(a->momentum), SORA_FLOAT(a->epsilon)) },
                         error));
cleanup:
    return status;
}

static sora_status frozen_statistics(const sora_op_run *run, const sora_view *mean, const sora_view *deviation, sora_error *error)
{
    return sora_launch(run->context,
                       &(sora_launch_desc) { .file = "batch_norm",
                                             .kernel = "norm_frozen",
                                             .options = sora_range_options(run->context),
                                             .global = { (size_t)run->inputs[X].shape.dim[1] },
                                             .label = run->name,
                                             .arguments = SORA_ARGUMENTS(SORA_VIEW(&run->inputs[RUNNING_MEAN]),
                                                                         SORA_VIEW(&run->inputs[RUNNING_VARIANCE]),
                                                                         SORA_VIEW(mean), SORA_VIEW(deviation),
                                                                         SORA_FLOAT(attributes_of(run->attributes)->epsilon)) },
                       error);
}

/* Views of what both ways of normalising read. */
#define NORM_VIEWS(mean, deviation) \
    SORA_VIEW(mean), SORA_VIEW(deviation), SORA_VIEW(&run->inputs[GAMMA]), SORA_VIEW(&run->inputs[BETA])

static sora_status normalise(const sora_op_run *run, const sora_view *mean, const sora_view *deviation, sora_error *error)
{
    const sora_view *x = &run->inputs[X], *y = &run->outputs[0];
    int64_t n = pixels_of(&x->shape);
    sora_launch_desc desc = { .file = "batch_norm",
                              .kernel = "norm_apply",
                              .label = run->name,
                              .bytes = bytes_of(x, 2),
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(y), NORM_VIEWS(mean, deviation),
                                                          SORA_LONG(x->stride), SORA_LONG(y->stride), SORA_INT(n),
                                                          SORA_INT(attributes_of(run->attributes)->relu)) };
    return sora_launch_planes(run->context, desc, n, x->shape.dim[1], x->shape.dim[0], 1, error);
}

static sora_status normalise_and_pool(const sora_op_run *run, const sora_view *mean, const sora_view *deviation,
                                      sora_error *error)
{
    const sora_view *x = &run->inputs[X], *y = &run->outputs[0], *pooled = &run->outputs[1];
    int64_t n = pixels_of(&pooled->shape);
    sora_launch_desc desc = { .file = "batch_norm",
                              .kernel = "norm_pool",
                              .label = run->name,
                              .bytes = bytes_of(x, 2.25),
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(y), SORA_VIEW(pooled),
                                                          NORM_VIEWS(mean, deviation), SORA_LONG(x->stride), SORA_LONG(y->stride),
                                                          SORA_LONG(pooled->stride), SORA_INT(n), SORA_INT(pooled->shape.dim[3]),
                                                          SORA_INT(attributes_of(run->attributes)->relu)) };
    return sora_launch_planes(run->context, desc, n, x->shape.dim[1], x->shape.dim[0], 4, error);
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_batch_norm_attributes *a = attributes_of(run->attributes);
    uint64_t channels = (uint64_t)run->inputs[X].shape.dim[1];
    sora_view mean = run->training ? run->saved[0] : part_of(&run->workspace, 0);
    sora_view deviation = run->training ? run->saved[1] : part_of(&run->workspace, channels),
              partial = part_of(&run->workspace, 2 * channels);
    if (run->training && !run->again && !a->frozen)
        SORA_TRY(batch_statistics(run, &mean, &deviation, &partial, error));
    else if (!run->again)
        SORA_TRY(frozen_statistics(run, &mean, &deviation, error));
    SORA_TRY(a->pool ? normalise_and_pool(run, &mean, &deviation, error) : normalise(run, &mean, &deviation, error));
cleanup:
    return status;
}

static sora_status gradient_parts(const sora_op_run *run, const parts *p, const sora_view *partial, sora_error *error)
{
    const sora_batch_norm_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *dy = &run->output_gradients[0], *pooled = &run->output_gradients[1];
    const sora_view *mean = &run->saved[0], *deviation = &run->saved[1];
    sora_launch_desc desc = { .file = "batch_norm",
                              .global = { 0, (size_t)x->shape.dim[1], (size_t)p->groups },
                              .label = run->name };
    if (pooled->memory) {
        desc.kernel = "norm_pool_gradient_parts";
        desc.bytes = bytes_of(x, dy->memory ? 2.25 : 1.25);
        desc.arguments =
            SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(dy), SORA_VIEW(pooled), NORM_VIEWS(mean, deviation), SORA_VIEW(partial),
                           SORA_LONG(x->stride), SORA_LONG(dy->stride), SORA_LONG(pooled->stride), SORA_INT(x->shape.dim[1]),
                           SORA_INT(pixels_of(&pooled->shape)), SORA_INT(pooled->shape.dim[3]), SORA_INT(p->runs),
                           SORA_INT(x->shape.dim[0]), SORA_INT(p->group), SORA_INT(a->relu), SORA_INT(dy->memory != NULL));
        return sora_launch_groups(run->context, desc, p->runs, error);
    }
    desc.kernel = "norm_gradient_parts";
    desc.bytes = bytes_of(x, 2);
    desc.arguments =
        SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(dy), NORM_VIEWS(mean, deviation), SORA_VIEW(partial), SORA_LONG(x->stride),
                       SORA_LONG(dy->stride), SORA_INT(x->shape.dim[1]), SORA_INT(pixels_of(&x->shape)), SORA_INT(p->runs),
                       SORA_INT(x->shape.dim[0]), SORA_INT(p->group), SORA_INT(a->relu));
    return sora_launch_groups(run->context, desc, p->runs, error);
}

static sora_status parameter_sums(const sora_op_run *run, const sora_view *total, const sora_view *partial, sora_error *error)
{
    const sora_view *dgamma = &run->input_gradients[GAMMA], *dbeta = &run->input_gradients[BETA];
    parts p = parts_of(&run->inputs[X].shape);
    sora_status status = gradient_parts(run, &p, partial, error);
    if (status != SORA_OK) return status;
    return sora_launch(run->context,
                       &(sora_launch_desc) {
                           .file = "batch_norm",
                           .kernel = "norm_gradient_total",
                           .options = sora_range_options(run->context),
                           .global = { (size_t)run->inputs[X].shape.dim[1] },
                           .label = run->name,
                           .arguments = SORA_ARGUMENTS(SORA_VIEW(partial), SORA_VIEW(&run->saved[1]), SORA_VIEW(total),
                                                       SORA_VIEW(dgamma), SORA_VIEW(dbeta), SORA_INT(p.runs), SORA_INT(p.groups),
                                                       SORA_INT(dgamma->memory != NULL), SORA_INT(dbeta->memory != NULL)) },
                       error);
}

static sora_status input_gradient(const sora_op_run *run, const sora_view *total, sora_error *error)
{
    const sora_batch_norm_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *dy = &run->output_gradients[0], *pooled = &run->output_gradients[1],
                    *dx = &run->input_gradients[X], *mean = &run->saved[0], *deviation = &run->saved[1];
    int64_t channels = x->shape.dim[1], images = x->shape.dim[0], n = pixels_of(&x->shape);
    sora_launch_desc desc = { .file = "batch_norm", .label = run->name };
    if (pooled->memory) {
        desc.kernel = "norm_pool_backward";
        desc.bytes = bytes_of(x, dy->memory ? 3.25 : 2.25);
        desc.arguments =
            SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(dy), SORA_VIEW(pooled), SORA_VIEW(dx), NORM_VIEWS(mean, deviation),
                           SORA_VIEW(total), SORA_LONG(x->stride), SORA_LONG(dy->stride), SORA_LONG(pooled->stride),
                           SORA_LONG(dx->stride), SORA_INT(n / 4), SORA_INT(pooled->shape.dim[3]), SORA_FLOAT(images * n),
                           SORA_INT(a->relu), SORA_INT(a->frozen), SORA_INT(dy->memory != NULL));
        return sora_launch_planes(run->context, desc, n / 4, channels, images, 4, error);
    }
    desc.kernel = "norm_backward";
    desc.bytes = bytes_of(x, 3);
    desc.arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(dy), SORA_VIEW(dx), NORM_VIEWS(mean, deviation), SORA_VIEW(total),
                                    SORA_LONG(x->stride), SORA_LONG(dy->stride), SORA_LONG(dx->stride), SORA_INT(n),
                                    SORA_FLOAT(images * n), SORA_INT(a->relu), SORA_INT(a->frozen));
    return sora_launch_planes(run->context, desc, n, channels, images, 1, error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_view total = part_of(&run->workspace, 0), partial = part_of(&run->workspace, 2 * (uint64_t)run->inputs[X].shape.dim[1]);
    bool wanted = run->input_gradients[GAMMA].memory || run->input_gradients[BETA].memory;
    if (!attributes_of(run->attributes)->frozen || wanted) SORA_TRY(parameter_sums(run, &total, &partial, error));
    if (run->input_gradients[X].memory) SORA_TRY(input_gradient(run, &total, error));
cleanup:
    return status;
}

const sora_op sora_op_batch_norm = { .name = "batch_norm",
                                     .parameters = 1 << GAMMA | 1 << BETA,
                                     .differentiable = 1 << X | 1 << GAMMA | 1 << BETA,
                                     /* statistics: to have all inputs where y is made again */
                                     .uses_inputs = 1 << X | 1 << GAMMA | 1 << BETA | 1 << STATISTICS,
                                     .in_place = 1 << X,
                                     .gradient_in_place = true,
                                     .cheap = true,
                                     .infer = infer,
                                     .forward = forward,
                                     .backward = backward };
