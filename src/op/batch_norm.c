/* SPDX-License-Identifier: Apache-2.0 */
#include "op/ops.h"
#include "op/range.h"

enum { X, GAMMA, BETA, RUNNING_MEAN, RUNNING_VARIANCE };

static const sora_batch_norm_attributes *attributes_of(const void *attributes)
{
    return attributes;
}

static int64_t pixels_of(const sora_shape *x)
{
    return x->dim[2] * x->dim[3];
}

static int64_t runs_of(const sora_shape *x)
{
    return SORA_MIN(sora_sum_parts(pixels_of(x)), 64);
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
    uint64_t channels = (uint64_t)x->dim[1], partial = 2 * (uint64_t)(x->dim[0] * x->dim[1] * runs_of(x));
    rule->output_count = 1;
    rule->outputs[0] = *x;
    if (rule->training) rule->saved[0] = rule->saved[1] = SORA_SHAPE(x->dim[1]);
    rule->forward_workspace = 2 * channels + partial;
    rule->backward_workspace = 2 * channels + partial;
    return SORA_OK;
}

/* (runs of pixels, channels, images), as sora_launch_range does for two dimensions. */
static void pixel_sizes(const sora_context *context, const sora_shape *x, sora_launch_desc *desc)
{
    int64_t n = pixels_of(x);
    desc->options = sora_range_options(context);
    desc->global[1] = (size_t)x->dim[1];
    desc->global[2] = (size_t)x->dim[0];
    if (sora_is_cpu(context)) {
        desc->global[0] = (size_t)SORA_MAX(1, n / (4 * SORA_RANGE_CPU_ELEMENTS));
    } else {
        desc->global[0] = (size_t)((n + SORA_RANGE_GPU_GROUP - 1) / SORA_RANGE_GPU_GROUP * SORA_RANGE_GPU_GROUP);
        desc->local[0] = SORA_RANGE_GPU_GROUP;
    }
}

static sora_view part_of(const sora_view *workspace, uint64_t offset)
{
    sora_view part = *workspace;
    part.offset += offset;
    return part;
}

static sora_status batch_statistics(const sora_op_run *run, const sora_view *mean, const sora_view *deviation,
                                    const sora_view *partial, sora_error *error)
{
    const sora_batch_norm_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X];
    size_t channels = (size_t)x->shape.dim[1], images = (size_t)x->shape.dim[0];
    int64_t n = pixels_of(&x->shape), runs = runs_of(&x->shape);
    const char *options = sora_range_options(run->context);
    sora_status status =
        sora_launch(run->context,
                    &(sora_launch_desc) { .file = "batch_norm",
                                          .kernel = "norm_parts",
                                          .options = options,
                                          .global = { (size_t)runs, channels, images },
                                          .label = run->name,
                                          .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(partial), SORA_LONG(x->stride),
                                                                      SORA_INT(n), SORA_INT(runs)) },
                    error);
    if (status != SORA_OK) return status;
    return sora_launch(
        run->context,
        &(sora_launch_desc) { .file = "batch_norm",
                              .kernel = "norm_statistics",
                              .options = options,
                              .global = { channels },
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(partial), SORA_VIEW(mean), SORA_VIEW(deviation),
                                                          SORA_VIEW(&run->inputs[RUNNING_MEAN]),
                                                          SORA_VIEW(&run->inputs[RUNNING_VARIANCE]), SORA_INT(n), SORA_INT(runs),
                                                          SORA_INT(images), SORA_FLOAT(a->momentum), SORA_FLOAT(a->epsilon)) },
        error);
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

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_batch_norm_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *y = &run->outputs[0];
    uint64_t channels = (uint64_t)x->shape.dim[1];
    sora_view mean = run->training ? run->saved[0] : part_of(&run->workspace, 0);
    sora_view deviation = run->training ? run->saved[1] : part_of(&run->workspace, channels),
              partial = part_of(&run->workspace, 2 * channels);
    if (run->training && !a->frozen)
        SORA_TRY(batch_statistics(run, &mean, &deviation, &partial, error));
    else
        SORA_TRY(frozen_statistics(run, &mean, &deviation, error));
    sora_launch_desc desc = { .file = "batch_norm",
                              .kernel = "norm_apply",
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(y), SORA_VIEW(&mean), SORA_VIEW(&deviation),
                                                          SORA_VIEW(&run->inputs[GAMMA]), SORA_VIEW(&run->inputs[BETA]),
                                                          SORA_LONG(x->stride), SORA_LONG(y->stride),
                                                          SORA_INT(pixels_of(&x->shape)), SORA_INT(a->relu)) };
    pixel_sizes(run->context, &x->shape, &desc);
    SORA_TRY(sora_launch(run->context, &desc, error));
cleanup:
    return status;
}

static sora_status parameter_sums(const sora_op_run *run, const sora_view *total, const sora_view *partial, sora_error *error)
{
    const sora_batch_norm_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *dy = &run->output_gradients[0], *dgamma = &run->input_gradients[GAMMA],
                    *dbeta = &run->input_gradients[BETA];
    size_t channels = (size_t)x->shape.dim[1], images = (size_t)x->shape.dim[0];
    int64_t n = pixels_of(&x->shape), runs = runs_of(&x->shape);
    const char *options = sora_range_options(run->context);
    sora_status status = sora_launch(
        run->context,
        &(sora_launch_desc) { .file = "batch_norm",
                              .kernel = "norm_gradient_parts",
                              .options = options,
                              .global = { (size_t)runs, channels, images },
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(
                                  SORA_VIEW(x), SORA_VIEW(dy), SORA_VIEW(&run->saved[0]), SORA_VIEW(&run->saved[1]),
                                  SORA_VIEW(&run->inputs[GAMMA]), SORA_VIEW(&run->inputs[BETA]), SORA_VIEW(partial),
                                  SORA_LONG(x->stride), SORA_LONG(dy->stride), SORA_INT(n), SORA_INT(runs), SORA_INT(a->relu)) },
        error);
    if (status != SORA_OK) return status;
    return sora_launch(
        run->context,
        &(sora_launch_desc) { .file = "batch_norm",
                              .kernel = "norm_gradient_total",
                              .options = options,
                              .global = { channels },
                              .label = run->name,
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(partial), SORA_VIEW(&run->saved[1]), SORA_VIEW(total),
                                                          SORA_VIEW(dgamma), SORA_VIEW(dbeta), SORA_INT(runs), SORA_INT(images),
                                                          SORA_INT(dgamma->memory != NULL), SORA_INT(dbeta->memory != NULL)) },
        error);
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_batch_norm_attributes *a = attributes_of(run->attributes);
    const sora_view *x = &run->inputs[X], *dy = &run->output_gradients[0], *dx = &run->input_gradients[X];
    int64_t n = pixels_of(&x->shape);
    sora_view total = part_of(&run->workspace, 0), partial = part_of(&run->workspace, 2 * (uint64_t)x->shape.dim[1]);
    bool wanted = run->input_gradients[GAMMA].memory || run->input_gradients[BETA].memory;
    if (!a->frozen || wanted) SORA_TRY(parameter_sums(run, &total, &partial, error));
    if (dx->memory) {
        sora_launch_desc desc = { .file = "batch_norm",
                                  .kernel = "norm_backward",
                                  .label = run->name,
                                  .arguments = SORA_ARGUMENTS(
                                      SORA_VIEW(x), SORA_VIEW(dy), SORA_VIEW(dx), SORA_VIEW(&run->saved[0]),
                                      SORA_VIEW(&run->saved[1]), SORA_VIEW(&run->inputs[GAMMA]), SORA_VIEW(&run->inputs[BETA]),
                                      SORA_VIEW(&total), SORA_LONG(x->stride), SORA_LONG(dy->stride), SORA_LONG(dx->stride),
                                      SORA_INT(n), SORA_FLOAT(x->shape.dim[0] * n), SORA_INT(a->relu), SORA_INT(a->frozen)) };
        pixel_sizes(run->context, &x->shape, &desc);
        SORA_TRY(sora_launch(run->context, &desc, error));
    }
cleanup:
    return status;
}

const sora_op sora_op_batch_norm = { .name = "batch_norm",
                                     .parameters = 1 << GAMMA | 1 << BETA,
                                     .differentiable = 1 << X | 1 << GAMMA | 1 << BETA,
                                     .uses_inputs = 1 << X | 1 << GAMMA | 1 << BETA,
                                     .in_place = 0,
                                     .gradient_in_place = true,
                                     .infer = infer,
                                     .forward = forward,
                                     .backward = backward };
