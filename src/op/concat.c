/* SPDX-License-Identifier: Apache-2.0 */
#include "op/ops.h"
#include "op/range.h"

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    sora_shape joined = rule->inputs[0];
    char first[80], other[80];
    if (joined.rank != 2 && joined.rank != 4)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "joins [n, c] or [n, c, h, w], not %s", sora_shape_text(&joined, first));
    for (int i = 1; i < rule->input_count; i++) {
        const sora_shape *x = &rule->inputs[i];
        bool fits = x->rank == joined.rank && x->dim[0] == joined.dim[0];
        for (int d = 2; fits && d < x->rank; d++) fits = x->dim[d] == joined.dim[d];
        if (!fits)
            return sora_fail(error, SORA_ERROR_ARGUMENT, "%s and %s differ in more than their channels",
                             sora_shape_text(&rule->inputs[0], first), sora_shape_text(x, other));
        joined.dim[1] += x->dim[1];
    }
    rule->output_count = 1;
    rule->outputs[0] = joined;
    return SORA_OK;
}

/* Between part i of `joined` and `part`; into the part where `split`. */
static sora_status move(const sora_op_run *run, const sora_view *joined, int64_t place, const sora_view *part, bool split,
                        sora_error *error)
{
    int64_t n = sora_view_inner(part);
    const sora_view *x = split ? joined : part, *y = split ? part : joined;
    bool in_place =
        part->memory == joined->memory && part->offset == joined->offset + (uint64_t)place && part->stride == joined->stride;
    if (in_place) return SORA_OK;
    sora_launch_desc desc = { .file = "range",
                              .kernel = "concat_copy",
                              .label = run->name,
                              .arguments =
                                  SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(y), SORA_LONG(x->stride), SORA_LONG(y->stride),
                                                 SORA_LONG(split ? place : 0), SORA_LONG(split ? 0 : place), SORA_LONG(n)) };
    return sora_launch_range(run->context, desc, n, part->shape.dim[0], error);
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    int64_t place = 0;
    for (int i = 0; i < run->input_count; i++) {
        sora_status status = move(run, &run->outputs[0], place, &run->inputs[i], false, error);
        if (status != SORA_OK) return status;
        place += sora_view_inner(&run->inputs[i]);
    }
    return SORA_OK;
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    int64_t place = 0;
    for (int i = 0; i < run->input_count; i++) {
        const sora_view *dx = &run->input_gradients[i];
        sora_status status = dx->memory ? move(run, &run->output_gradients[0], place, dx, true, error) : SORA_OK;
        if (status != SORA_OK) return status;
        place += sora_view_inner(&run->inputs[i]);
    }
    return SORA_OK;
}

const sora_op sora_op_concat = {
    .name = "concat", .differentiable = 0xff, .infer = infer, .forward = forward, .backward = backward
};
