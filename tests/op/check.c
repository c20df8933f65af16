/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Two NaNs that no arithmetic makes: an untouched guard keeps its bits, a poisoned value poisons what reads it. */
#define GUARD_BITS 0x7fc0beefu
#define POISON_BITS 0x7fc0deadu
#define GUARD_ELEMENTS 64
#define UNIT_ROUNDOFF 0x1p-24
#define DIFFERENCE_STEP 1e-5 /* cut-off about 1e-11 of third derivatives of 1, rounding about 1e-11 of outputs of 1 */
#define SEED 0x5eed0123456789abu
#define STEP 7

/* ---- Tensors on the device, with bands around them --------------------------------------------------------------- */

typedef struct tensor {
    char name[32];
    sora_shape shape;
    sora_buffer buffer;
    sora_view view;
    float *data; /* dense, after tensor_read; owned */
} tensor;

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void tensor_free(tensor *t)
{
    sora_buffer_destroy(&t->buffer);
    free(t->data);
    *t = (tensor) { 0 };
}

/* contents NULL: poisoned. Oclgrind would see reads of unwritten memory by itself, but its record of a buffer that the host never
 * wrote ends with the first element. */
static sora_status tensor_create(check_session *session, sora_context *context, const char *name, int index, sora_shape shape,
                                 bool strided, const float *contents, tensor *out, sora_error *error)
{
    sora_status status = SORA_OK;
    float *image = NULL;
    int64_t elements = sora_shape_elements(&shape), rows = shape.dim[0], inner = elements / rows;
    int64_t guard = session->small ? 0 : GUARD_ELEMENTS, gap = strided ? 5 : 0, front = guard + (strided ? 3 : 0);
    int64_t total = front + rows * (inner + gap) + guard;
    snprintf(out->name, sizeof out->name, "%s %d", name, index);
    out->shape = shape;
    SORA_TRY(sora_buffer_create(context, (uint64_t)total * 4, out->name, &out->buffer, error));
    out->view = sora_view_dense(&out->buffer, (uint64_t)front, shape);
    out->view.stride = inner + gap;
    SORA_TRY(sora_allocate((size_t)total, sizeof *image, name, &image, error));
    for (int64_t i = 0; i < total; i++) image[i] = from_bits(GUARD_BITS);
    for (int64_t i = 0; i < elements; i++)
        image[front + i / inner * (inner + gap) + i % inner] = contents ? contents[i] : from_bits(POISON_BITS);
    sora_view whole = sora_view_dense(&out->buffer, 0, SORA_SHAPE(total));
    SORA_TRY(sora_view_write(context, &whole, image, error));
cleanup:
    free(image);
    return status;
}

/* Fills data and checks that everything around it is as it was. */
static sora_status tensor_read(sora_context *context, tensor *t, sora_error *error)
{
    sora_status status = SORA_OK;
    uint32_t *image = NULL;
    int64_t elements = sora_shape_elements(&t->shape), inner = elements / t->shape.dim[0], total = (int64_t)(t->buffer.bytes / 4);
    int64_t front = (int64_t)t->view.offset;
    SORA_TRY(sora_allocate((size_t)total, sizeof *image, t->name, &image, error));
    SORA_TRY(sora_allocate((size_t)elements, sizeof *t->data, t->name, &t->data, error));
    sora_view whole = sora_view_dense(&t->buffer, 0, SORA_SHAPE(total));
    SORA_TRY(sora_view_read(context, &whole, image, error));
    for (int64_t i = 0; i < total; i++) {
        int64_t at = i - front, row = at / t->view.stride, column = at % t->view.stride;
        if (at >= 0 && row < t->shape.dim[0] && column < inner)
            memcpy(&t->data[row * inner + column], &image[i], 4);
        else if (image[i] != GUARD_BITS)
            SORA_FAIL(error, SORA_ERROR_NUMERIC, "%s: element %lld, outside of the tensor, was written", t->name, (long long)at);
    }
cleanup:
    free(image);
    return status;
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------- */

static sora_random_stream stream_of(const check_case *test, const char *role, int index)
{
    return (sora_random_stream) { .seed = SEED,
                                  .purpose = SORA_PURPOSE_TEST,
                                  .stream = sora_hash_name(test->label) ^ sora_hash_name(role),
                                  .sample = (uint32_t)index };
}

static sora_status draw(const check_case *test, const char *role, int index, const check_values *values, sora_shape shape,
                        float **out, sora_error *error)
{
    int64_t elements = sora_shape_elements(&shape);
    sora_status status = sora_allocate((size_t)elements, sizeof **out, role, out, error);
    if (status != SORA_OK) return status;
    sora_random_stream stream = stream_of(test, role, index);
    bool plain = values->low == 0 && values->high == 0;
    float low = plain ? -1 : values->low, high = plain ? 1 : values->high;
    for (int64_t i = 0; i < elements; i++) {
        float value = low + (high - low) * (float)sora_random_uniform(&stream);
        if (values->quantum > 0) value = rintf(value / values->quantum) * values->quantum;
        if (values->special_count > 0 && sora_random_below(&stream, 3) == 0)
            value = values->special[sora_random_below(&stream, (uint32_t)values->special_count)];
        (*out)[i] = value;
    }
    return SORA_OK;
}

/* ---- A case made concrete ---------------------------------------------------------------------------------------- */

typedef struct problem {
    const check_op *op;
    const check_case *test;
    sora_context *context;
    int input_count, output_count;
    sora_op_shape_rule planned;            /* by the full batch: saved and workspace */
    sora_shape full[SORA_OP_MAX_INPUTS];   /* as planned */
    sora_shape inputs[SORA_OP_MAX_INPUTS]; /* of this batch */
    sora_shape outputs[SORA_OP_MAX_OUTPUTS], saved[SORA_OP_MAX_SAVED];
    bool output_batched[SORA_OP_MAX_OUTPUTS];
    float *values[SORA_OP_MAX_INPUTS], *output_gradients[SORA_OP_MAX_OUTPUTS], *starts[SORA_OP_MAX_INPUTS];
    uint32_t stream;
} problem;

static void problem_free(problem *p)
{
    for (int i = 0; i < SORA_OP_MAX_INPUTS; i++) free(p->values[i]), free(p->starts[i]);
    for (int i = 0; i < SORA_OP_MAX_OUTPUTS; i++) free(p->output_gradients[i]);
    *p = (problem) { 0 };
}

static bool has(uint32_t bits, int i)
{
    return bits >> i & 1;
}

static sora_status infer(const problem *p, const sora_shape *inputs, sora_op_shape_rule *rule, sora_error *error)
{
    *rule = (sora_op_shape_rule) { .attributes = p->test->attributes,
                                   .limits = &sora_context_device(p->context)->limits,
                                   .training = !p->test->evaluation,
                                   .input_count = p->input_count,
                                   .inputs = inputs,
                                   .uses_outputs = p->op->op->uses_outputs };
    uint32_t asked = 0;
    for (size_t k = 0; k < SORA_COUNT(p->test->wanted); k++) asked |= p->test->wanted[k];
    for (int i = 0; check_has_backward(p->op, p->test) && i < p->input_count; i++)
        if (inputs[i].rank && (asked == 0 || has(asked, i))) rule->wanted |= p->op->op->differentiable & 1u << i;
    return p->op->op->infer(rule, error);
}

static sora_status problem_shapes(check_session *session, const check_op *op, const check_case *test, bool as_gpu, problem *p,
                                  sora_error *error)
{
    sora_op_shape_rule rule;
    *p = (problem) { .op = op, .test = test, .context = session->contexts[as_gpu], .stream = sora_hash_name(test->label) };
    for (int i = 0; i < SORA_OP_MAX_INPUTS; i++) {
        p->full[i] = p->inputs[i] = test->inputs[i];
        if (test->inputs[i].rank == 0) continue;
        p->input_count = i + 1;
        if (test->batch > 0 && has(op->batched, i))
            p->inputs[i].dim[0] = test->inputs[i].dim[0] * test->batch / test->inputs[0].dim[0];
    }
    sora_status status = infer(p, p->full, &p->planned, error);
    if (status != SORA_OK) return status;
    status = infer(p, p->inputs, &rule, error);
    if (status != SORA_OK) return status;
    p->output_count = rule.output_count;
    memcpy(p->outputs, rule.outputs, sizeof p->outputs);
    memcpy(p->saved, rule.saved, sizeof p->saved);
    for (int i = 0; i < p->output_count; i++) p->output_batched[i] = p->outputs[i].dim[0] % p->inputs[0].dim[0] == 0;
    return SORA_OK;
}

static sora_status problem_create(check_session *session, const check_op *op, const check_case *test, bool as_gpu, problem *p,
                                  sora_error *error)
{
    sora_status status = problem_shapes(session, op, test, as_gpu, p, error);
    check_values plain = { 0 };
    for (int i = 0; status == SORA_OK && i < p->input_count; i++) {
        if (p->inputs[i].rank == 0) continue;
        status = draw(test, "input", i, &test->values[i], p->inputs[i], &p->values[i], error);
        if (status == SORA_OK) status = draw(test, "start", i, &plain, p->inputs[i], &p->starts[i], error);
    }
    for (int i = 0; status == SORA_OK && i < p->output_count; i++)
        status = draw(test, "gradient", i, &plain, p->outputs[i], &p->output_gradients[i], error);
    if (status != SORA_OK) problem_free(p);
    return status;
}

/* ---- Running on the device --------------------------------------------------------------------------------------- */

typedef struct tensors {
    tensor inputs[SORA_OP_MAX_INPUTS], outputs[SORA_OP_MAX_OUTPUTS], saved[SORA_OP_MAX_SAVED], workspace[2];
    tensor output_gradients[SORA_OP_MAX_OUTPUTS], input_gradients[SORA_OP_MAX_INPUTS];
    tensor besides;
    tensor unread; /* NaN: stands for what backward says it doesn't read */
} tensors;

static void tensors_free(tensors *t)
{
    tensor *all = (tensor *)t;
    for (size_t i = 0; i < sizeof *t / sizeof *all; i++) tensor_free(&all[i]);
}

typedef struct placement {
    int output_in;                           /* input in whose memory output 0 stands; −1: none */
    bool gradient_in;                        /* the gradient of input 0 in the gradient of output 0 */
    enum { ALONE, BESIDES, IN_BESIDES } sum; /* of the gradient of input 0 with another, and in whose memory */
} placement;

/* The values of input i as they stand on the device: the bits of integers where the op takes integers. *out is the caller's. */
static sora_status device_values(const problem *p, int i, float **out, sora_error *error)
{
    int64_t elements = sora_shape_elements(&p->inputs[i]);
    sora_status status = sora_allocate((size_t)elements, sizeof **out, "input", out, error);
    if (status != SORA_OK) return status;
    for (int64_t e = 0; e < elements; e++) {
        int32_t whole = (int32_t)p->values[i][e];
        if (has(p->op->integer, i))
            memcpy(&(*out)[e], &whole, sizeof whole);
        else
            (*out)[e] = p->values[i][e];
    }
    return SORA_OK;
}

static sora_status create_forward(check_session *session, const problem *p, tensors *t, sora_error *error)
{
    sora_status status = SORA_OK;
    float *values = NULL;
    for (int i = 0; i < p->input_count; i++) {
        if (!p->inputs[i].rank) continue;
        free(values);
        SORA_TRY(device_values(p, i, &values, error));
        SORA_TRY(tensor_create(session, p->context, "input", i, p->inputs[i], p->test->strided && has(p->op->batched, i), values,
                               &t->inputs[i], error));
    }
    for (int i = 0; i < p->output_count; i++)
        SORA_TRY(tensor_create(session, p->context, "output", i, p->outputs[i], p->test->strided && p->output_batched[i], NULL,
                               &t->outputs[i], error));
    for (int i = 0; i < SORA_OP_MAX_SAVED; i++)
        if (p->saved[i].rank)
            SORA_TRY(tensor_create(session, p->context, "saved", i, p->saved[i], false, NULL, &t->saved[i], error));
    uint64_t sizes[2] = { p->planned.forward_workspace, p->planned.backward_workspace };
    for (int i = 0; i < 2; i++)
        if (sizes[i])
            SORA_TRY(tensor_create(session, p->context, "workspace", i, SORA_SHAPE((int64_t)sizes[i]), false, NULL,
                                   &t->workspace[i], error));
cleanup:
    free(values);
    return status;
}

static sora_status create_backward(check_session *session, const problem *p, uint32_t wanted, tensors *t, sora_error *error)
{
    sora_status status = SORA_OK;
    int64_t largest = 1;
    for (int i = 0; i < p->output_count; i++) {
        SORA_TRY(tensor_create(session, p->context, "output gradient", i, p->outputs[i], p->test->strided && p->output_batched[i],
                               p->output_gradients[i], &t->output_gradients[i], error));
        largest = SORA_MAX(largest, sora_view_elements(&t->outputs[i].view) + 8 * p->outputs[i].dim[0]);
    }
    for (int i = 0; i < p->input_count; i++) {
        if (!p->inputs[i].rank) continue;
        largest = SORA_MAX(largest, sora_view_elements(&t->inputs[i].view) + 8 * p->inputs[i].dim[0]);
        if (has(wanted, i))
            SORA_TRY(tensor_create(session, p->context, "input gradient", i, p->inputs[i],
                                   p->test->strided && has(p->op->batched, i),
                                   has(p->op->op->parameters, i) ? p->starts[i] : NULL, &t->input_gradients[i], error));
    }
    if (p->op->op->gradient_adds)
        SORA_TRY(tensor_create(session, p->context, "besides", 0, p->inputs[0], false, p->starts[0], &t->besides, error));
    SORA_TRY(tensor_create(session, p->context, "unread", 0, SORA_SHAPE(largest), false, NULL, &t->unread, error));
cleanup:
    return status;
}

static sora_view unread_view(const tensors *t, const tensor *of)
{
    sora_view view = of->view;
    view.memory = t->unread.buffer.memory;
    view.offset = t->unread.view.offset;
    return view;
}

static sora_op_run run_base(const problem *p)
{
    return (sora_op_run) { .context = p->context,
                           .name = p->op->op->name,
                           .attributes = p->test->attributes,
                           .training = !p->test->evaluation,
                           .input_count = p->input_count,
                           .seed = SEED,
                           .step = STEP,
                           .stream = p->stream,
                           .first_sample = p->test->first_sample };
}

static sora_status run_forward(const problem *p, const tensors *t, sora_error *error)
{
    sora_view inputs[SORA_OP_MAX_INPUTS], outputs[SORA_OP_MAX_OUTPUTS], saved[SORA_OP_MAX_SAVED];
    for (int i = 0; i < SORA_OP_MAX_INPUTS; i++) inputs[i] = t->inputs[i].view;
    for (int i = 0; i < SORA_OP_MAX_OUTPUTS; i++) outputs[i] = t->outputs[i].view;
    for (int i = 0; i < SORA_OP_MAX_SAVED; i++) saved[i] = t->saved[i].view;
    sora_op_run run = run_base(p);
    run.inputs = inputs, run.outputs = outputs, run.saved = saved, run.workspace = t->workspace[0].view;
    return p->op->op->forward(&run, error);
}

static sora_status run_backward(const problem *p, const tensors *t, bool sum, sora_error *error)
{
    sora_view inputs[SORA_OP_MAX_INPUTS], outputs[SORA_OP_MAX_OUTPUTS], saved[SORA_OP_MAX_SAVED];
    sora_view output_gradients[SORA_OP_MAX_OUTPUTS], input_gradients[SORA_OP_MAX_INPUTS];
    for (int i = 0; i < SORA_OP_MAX_INPUTS; i++) {
        bool read = has(p->op->op->uses_inputs, i) || !t->inputs[i].view.memory;
        inputs[i] = read ? t->inputs[i].view : unread_view(t, &t->inputs[i]);
        input_gradients[i] = t->input_gradients[i].view;
    }
    for (int i = 0; i < SORA_OP_MAX_OUTPUTS; i++) {
        bool read = has(p->planned.uses_outputs, i) || !t->outputs[i].view.memory;
        outputs[i] = read ? t->outputs[i].view : unread_view(t, &t->outputs[i]);
        output_gradients[i] = t->output_gradients[i].view;
    }
    for (int i = 0; i < SORA_OP_MAX_SAVED; i++) saved[i] = t->saved[i].view;
    sora_op_run run = run_base(p);
    run.inputs = inputs, run.outputs = outputs, run.saved = saved, run.workspace = t->workspace[1].view;
    run.output_gradients = output_gradients, run.input_gradients = input_gradients;
    if (sum) run.besides = t->besides.view;
    return p->op->op->backward(&run, error);
}

/* What the device has as integers, as the numbers they are. */
static void widen_integers(const problem *p, tensors *t)
{
    for (int i = 0; i < p->input_count; i++)
        for (int64_t e = 0; has(p->op->integer, i) && t->inputs[i].data && e < sora_shape_elements(&p->inputs[i]); e++) {
            int32_t whole;
            memcpy(&whole, &t->inputs[i].data[e], sizeof whole);
            t->inputs[i].data[e] = (float)whole;
        }
}

/* Forward and, where gradients are wanted, backward; then every tensor read back, with its guards checked. */
static sora_status execute(check_session *session, const problem *p, uint32_t wanted, placement where, tensors *t,
                           sora_error *error)
{
    sora_status status = SORA_OK;
    *t = (tensors) { 0 };
    SORA_TRY(create_forward(session, p, t, error));
    if (where.output_in >= 0) t->outputs[0].view = t->inputs[where.output_in].view;
    SORA_TRY(run_forward(p, t, error));
    if (wanted) {
        SORA_TRY(create_backward(session, p, wanted, t, error));
        if (where.gradient_in) t->input_gradients[0].view = t->output_gradients[0].view;
        if (where.sum == IN_BESIDES) t->input_gradients[0].view = t->besides.view;
        SORA_TRY(run_backward(p, t, where.sum != ALONE, error));
    }
    tensor *all = (tensor *)t;
    for (size_t i = 0; i < sizeof *t / sizeof *all; i++)
        if (all[i].buffer.memory) SORA_TRY(tensor_read(p->context, &all[i], error));
    widen_integers(p, t);
cleanup:
    if (status != SORA_OK) tensors_free(t);
    return status;
}

/* ---- Comparing --------------------------------------------------------------------------------------------------- */

static sora_status compare(const tensor *t, const double *expected, int64_t stride_of_samples, check_tolerance tolerance,
                           double *share, sora_error *error)
{
    int64_t elements = sora_shape_elements(&t->shape);
    for (int64_t i = 0; i < elements; i += stride_of_samples) {
        double got = t->data[i], want = expected[i];
        if (isnan(want) && isnan(got)) continue;
        if (isinf(want) && got == want) continue;
        double off = fabs(got - want), allowed = UNIT_ROUNDOFF * (tolerance.absolute + tolerance.relative * fabs(want)) + FLT_MIN;
        if (!(off <= allowed))
            return sora_fail(error, SORA_ERROR_NUMERIC, "%s: element %lld is %.9g, expected %.9g: off by %.3g, allowed are %.3g",
                             t->name, (long long)i, got, want, off, allowed);
        *share = fmax(*share, off / allowed);
    }
    return SORA_OK;
}

static sora_status compare_bits(const tensor *a, const tensor *b, const char *why, sora_error *error)
{
    int64_t elements = sora_shape_elements(&a->shape);
    for (int64_t i = 0; i < elements; i++)
        if (memcmp(&a->data[i], &b->data[i], 4) != 0)
            return sora_fail(error, SORA_ERROR_NUMERIC, "%s: element %lld is %.9g, and %.9g %s", a->name, (long long)i,
                             a->data[i], b->data[i], why);
    return SORA_OK;
}

/* What both runs wrote on purpose: not the workspace. */
static sora_status compare_runs(const tensors *a, const tensors *b, sora_error *error)
{
    const tensor *x = (const tensor *)a, *y = (const tensor *)b;
    for (size_t i = 0; i < sizeof *a / sizeof *x; i++) {
        bool scratch = (x + i >= a->workspace && x + i < a->workspace + 2) || x + i == &a->unread;
        sora_status status = x[i].data && !scratch ? compare_bits(&x[i], &y[i], "in a second run", error) : SORA_OK;
        if (status != SORA_OK) return status;
    }
    return SORA_OK;
}

/* sum = gradient + besides: two roundings, or one. */
static sora_status compare_sum(const tensor *sum, const tensor *gradient, const float *besides, sora_error *error)
{
    int64_t elements = sora_shape_elements(&gradient->shape);
    for (int64_t i = 0; i < elements; i++) {
        double a = gradient->data[i], b = besides[i], off = fabs(sum->data[i] - (a + b));
        if (!(off <= 2 * UNIT_ROUNDOFF * (fabs(a) + fabs(b))))
            return sora_fail(error, SORA_ERROR_NUMERIC, "%s: element %lld is %.9g, expected %.9g and %.9g", sum->name,
                             (long long)i, sum->data[i], a, b);
    }
    return SORA_OK;
}

static void reference_free(check_reference *r)
{
    for (int i = 0; i < SORA_OP_MAX_INPUTS; i++) free(r->inputs[i]), free(r->input_gradients[i]);
    for (int i = 0; i < SORA_OP_MAX_OUTPUTS; i++) free(r->outputs[i]), free((double *)r->output_gradients[i]);
    *r = (check_reference) { 0 };
}

static sora_status widen(const float *data, sora_shape shape, double **out, sora_error *error)
{
    int64_t elements = sora_shape_elements(&shape);
    sora_status status = sora_allocate((size_t)elements, sizeof **out, "reference", out, error);
    for (int64_t i = 0; status == SORA_OK && data && i < elements; i++) (*out)[i] = data[i];
    return status;
}

static sora_status reference_create(const problem *p, check_reference *r, sora_error *error)
{
    sora_status status = SORA_OK;
    *r = (check_reference) { .attributes = p->test->attributes,
                             .training = !p->test->evaluation,
                             .seed = SEED,
                             .step = STEP,
                             .stream = p->stream,
                             .first_sample = p->test->first_sample };
    memcpy(r->input_shapes, p->inputs, sizeof p->inputs);
    memcpy(r->output_shapes, p->outputs, sizeof p->outputs);
    for (int i = 0; i < p->input_count; i++)
        if (p->inputs[i].rank) SORA_TRY(widen(p->values[i], p->inputs[i], &r->inputs[i], error));
    for (int i = 0; i < p->output_count; i++) {
        double *gradient = NULL;
        SORA_TRY(widen(NULL, p->outputs[i], &r->outputs[i], error));
        SORA_TRY(widen(p->output_gradients[i], p->outputs[i], &gradient, error));
        r->output_gradients[i] = gradient;
    }
cleanup:
    if (status != SORA_OK) reference_free(r);
    return status;
}

/* The reference with state as it was before forward. */
static void evaluate(const problem *p, check_reference *r)
{
    for (int i = 0; i < p->input_count; i++)
        for (int64_t j = 0; has(p->op->state, i) && j < sora_shape_elements(&p->inputs[i]); j++)
            r->inputs[i][j] = p->values[i][j];
    p->op->reference(r);
}

static sora_status compare_forward(const problem *p, const tensors *t, double *share, sora_error *error)
{
    check_reference r;
    sora_status status = reference_create(p, &r, error);
    if (status != SORA_OK) return status;
    evaluate(p, &r);
    for (int i = 0; i < p->output_count; i++)
        SORA_TRY(compare(&t->outputs[i], r.outputs[i], 1, p->op->tolerance(p->test, CHECK_OUTPUT, i), share, error));
    for (int i = 0; i < p->input_count; i++) {
        if (!p->inputs[i].rank) continue;
        check_tolerance unchanged = { 0, 0 };
        bool state = has(p->op->state, i);
        SORA_TRY(
            compare(&t->inputs[i], r.inputs[i], 1, state ? p->op->tolerance(p->test, CHECK_STATE, i) : unchanged, share, error));
    }
cleanup:
    reference_free(&r);
    return status;
}

/* d(Σ dy·y)/dx by central differences. Outputs that don't depend on x cancel exactly. */
static double difference(const problem *p, check_reference *r, double *x, double *scratch[SORA_OP_MAX_OUTPUTS])
{
    double at = *x, sum = 0;
    *x = at + DIFFERENCE_STEP;
    evaluate(p, r);
    for (int o = 0; o < p->output_count; o++)
        memcpy(scratch[o], r->outputs[o], (size_t)sora_shape_elements(&p->outputs[o]) * sizeof(double));
    double above = *x;
    *x = at - DIFFERENCE_STEP;
    evaluate(p, r);
    for (int o = 0; o < p->output_count; o++)
        for (int64_t j = 0; j < sora_shape_elements(&p->outputs[o]); j++)
            sum += r->output_gradients[o][j] * (scratch[o][j] - r->outputs[o][j]);
    sum /= above - *x;
    *x = at;
    return sum;
}

static int64_t sample_stride(const problem *p, int input)
{
    int64_t elements = sora_shape_elements(&p->inputs[input]);
    /* Odd, so that samples wander over rows and columns. */
    return p->test->samples && elements > p->test->samples ? elements / p->test->samples | 1 : 1;
}

/* Gradients of the inputs in `wanted` into r->input_gradients, with what accumulation started from. */
static sora_status expected_gradients(const problem *p, uint32_t wanted, check_reference *r, sora_error *error)
{
    sora_status status = reference_create(p, r, error);
    double *scratch[SORA_OP_MAX_OUTPUTS] = { 0 };
    if (status != SORA_OK) return status;
    for (int i = 0; i < p->input_count; i++)
        if (has(wanted, i)) SORA_TRY(widen(NULL, p->inputs[i], &r->input_gradients[i], error));
    for (int i = 0; i < p->output_count; i++) SORA_TRY(widen(NULL, p->outputs[i], &scratch[i], error));
    if (p->test->exact_gradient) {
        evaluate(p, r);
        p->op->gradient(r);
    }
    for (int i = 0; i < p->input_count; i++) {
        for (int64_t j = 0; has(wanted, i) && j < sora_shape_elements(&p->inputs[i]); j += sample_stride(p, i)) {
            if (!p->test->exact_gradient) r->input_gradients[i][j] = difference(p, r, &r->inputs[i][j], scratch);
            if (has(p->op->op->parameters, i)) r->input_gradients[i][j] += p->starts[i][j];
        }
    }
cleanup:
    for (int i = 0; i < SORA_OP_MAX_OUTPUTS; i++) free(scratch[i]);
    if (status != SORA_OK) reference_free(r);
    return status;
}

/* ---- Checks ------------------------------------------------------------------------------------------------------ */

static const placement apart = { .output_in = -1 };

sora_status check_forward(check_session *session, const check_op *op, const check_case *test, bool as_gpu, double *share,
                          sora_error *error)
{
    problem p;
    tensors first = { 0 }, other = { 0 };
    *share = 0;
    sora_status status = problem_create(session, op, test, as_gpu, &p, error);
    if (status != SORA_OK) return status;
    SORA_TRY(execute(session, &p, 0, apart, &first, error));
    SORA_TRY(compare_forward(&p, &first, share, error));
    if (session->small) goto cleanup;
    SORA_TRY(execute(session, &p, 0, apart, &other, error));
    SORA_TRY(compare_runs(&first, &other, error));
    for (int i = 0; i < p.input_count; i++) {
        if (!has(op->op->in_place, i) || !p.inputs[i].rank) continue;
        tensors_free(&other);
        SORA_TRY(execute(session, &p, 0, (placement) { .output_in = i }, &other, error));
        SORA_TRY(compare_bits(&first.outputs[0], &other.inputs[i], "in place", error));
    }
cleanup:
    tensors_free(&first);
    tensors_free(&other);
    problem_free(&p);
    return status;
}

bool check_has_backward(const check_op *op, const check_case *test)
{
    return op->op->backward && !test->evaluation && !test->forward_only;
}

static uint32_t present(const problem *p)
{
    uint32_t bits = 0;
    for (int i = 0; i < p->input_count; i++)
        if (p->inputs[i].rank && has(p->op->op->differentiable, i)) bits |= 1u << i;
    return bits;
}

/* The k-th set of wanted gradients, 0 after the last. */
static uint32_t wanted_set(const problem *p, int k)
{
    if (p->test->wanted[0]) return k < SORA_COUNT(p->test->wanted) ? p->test->wanted[k] : 0;
    uint32_t all = present(p);
    if (k == 0) return all;
    if ((all & (all - 1)) == 0) return 0;
    for (int i = 0; i < SORA_OP_MAX_INPUTS; i++)
        if (has(all, i) && --k == 0) return 1u << i;
    return 0;
}

static sora_status check_set(check_session *session, const problem *p, uint32_t wanted, const check_reference *r, double *share,
                             sora_error *error)
{
    sora_status status = SORA_OK;
    tensors first = { 0 }, other = { 0 };
    SORA_TRY(execute(session, p, wanted, apart, &first, error));
    for (int i = 0; i < p->input_count; i++)
        if (has(wanted, i))
            SORA_TRY(compare(&first.input_gradients[i], r->input_gradients[i], sample_stride(p, i),
                             p->op->tolerance(p->test, CHECK_GRADIENT, i), share, error));
    if (session->small) goto cleanup;
    SORA_TRY(execute(session, p, wanted, apart, &other, error));
    SORA_TRY(compare_runs(&first, &other, error));
    if (p->op->op->gradient_in_place && has(wanted, 0)) {
        tensors_free(&other);
        SORA_TRY(execute(session, p, wanted, (placement) { .output_in = -1, .gradient_in = true }, &other, error));
        SORA_TRY(compare_bits(&first.input_gradients[0], &other.output_gradients[0], "in place", error));
    }
    for (int sum = BESIDES; p->op->op->gradient_adds && has(wanted, 0) && sum <= IN_BESIDES; sum++) {
        tensors_free(&other);
        SORA_TRY(execute(session, p, wanted, (placement) { .output_in = -1, .sum = sum }, &other, error));
        SORA_TRY(compare_sum(sum == BESIDES ? &other.input_gradients[0] : &other.besides, &first.input_gradients[0], p->starts[0],
                             error));
    }
cleanup:
    if (status != SORA_OK) sora_error_prefix(error, "gradients 0x%x", wanted);
    tensors_free(&first);
    tensors_free(&other);
    return status;
}

sora_status check_backward(check_session *session, const check_op *op, const check_case *test, bool as_gpu, double *share,
                           sora_error *error)
{
    problem p;
    check_reference r;
    *share = 0;
    sora_status status = problem_create(session, op, test, as_gpu, &p, error);
    if (status != SORA_OK) return status;
    status = expected_gradients(&p, present(&p), &r, error);
    for (int k = 0; status == SORA_OK && wanted_set(&p, k); k++)
        status = check_set(session, &p, wanted_set(&p, k), &r, share, error);
    reference_free(&r);
    problem_free(&p);
    return status;
}

sora_status check_refusal(check_session *session, const check_op *op, const check_case *test, sora_error *error)
{
    problem p;
    sora_error refusal = { 0 };
    if (problem_shapes(session, op, test, false, &p, &refusal) == SORA_OK)
        return sora_fail(error, SORA_ERROR_NUMERIC, "the shapes were taken, expected was a refusal with \"%s\"", test->refused);
    if (refusal.status != SORA_ERROR_ARGUMENT || !strstr(refusal.message, test->refused))
        return sora_fail(error, SORA_ERROR_NUMERIC, "refused with \"%s\", expected was \"%s\" in it", refusal.message,
                         test->refused);
    return SORA_OK;
}

sora_status check_support(check_session *session, const check_op *op, const check_case *test, check_memory *out,
                          sora_error *error)
{
    problem p;
    *out = (check_memory) { 0 };
    sora_status status = problem_shapes(session, op, test, false, &p, error);
    if (status != SORA_OK) return status;
    for (int i = 0; i < p.input_count; i++) out->inputs += 4 * (uint64_t)sora_shape_elements(&p.full[i]);
    for (int i = 0; i < p.planned.output_count; i++) out->outputs += 4 * (uint64_t)sora_shape_elements(&p.planned.outputs[i]);
    for (int i = 0; i < SORA_OP_MAX_SAVED; i++) out->saved += 4 * (uint64_t)sora_shape_elements(&p.planned.saved[i]);
    out->forward_workspace = 4 * p.planned.forward_workspace;
    out->backward_workspace = 4 * p.planned.backward_workspace;
    return SORA_OK;
}

/* ---- Timing ------------------------------------------------------------------------------------------------------ */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

sora_status check_time(check_session *session, const check_op *op, const check_case *test, bool backward, double *seconds,
                       sora_error *error)
{
    enum { MOST = 200, LEAST = 5 };
    problem p;
    tensors t = { 0 };
    double taken[MOST];
    int count = 0;
    *seconds = 0;
    sora_status status = problem_create(session, op, test, false, &p, error);
    if (status != SORA_OK) return status;
    SORA_TRY(create_forward(session, &p, &t, error));
    SORA_TRY(run_forward(&p, &t, error));
    if (backward) SORA_TRY(create_backward(session, &p, present(&p), &t, error));
    if (backward) SORA_TRY(run_backward(&p, &t, false, error));
    SORA_TRY(sora_context_finish(p.context, error));
    for (double began = now(); count < MOST && (count < LEAST || now() - began < 0.3); count++) {
        double start = now();
        SORA_TRY(backward ? run_backward(&p, &t, false, error) : run_forward(&p, &t, error));
        SORA_TRY(sora_context_finish(p.context, error));
        taken[count] = now() - start;
    }
    qsort(taken, (size_t)count, sizeof *taken, compare_doubles);
    *seconds = taken[count / 2];
cleanup:
    tensors_free(&t);
    problem_free(&p);
    return status;
}

/* ---- Contexts ---------------------------------------------------------------------------------------------------- */

sora_status check_open(const char *device, bool small, bool as_cpu, check_session *out, sora_error *error)
{
    sora_status status = SORA_OK;
    *out = (check_session) { .small = small };
    SORA_TRY(sora_context_create(&(sora_context_options) { .device = device }, &out->contexts[0], error));
    sora_device_limits gpu = sora_context_device(out->contexts[0])->limits, cpu = gpu;
    if (as_cpu) {
        cpu.type = SORA_DEVICE_CPU;
        cpu.float_width = 8;
        sora_context_destroy(&out->contexts[0]);
        SORA_TRY(sora_context_create(&(sora_context_options) { .device = device, .limits = &cpu }, &out->contexts[0], error));
    }
    gpu.type = SORA_DEVICE_GPU;
    gpu.work_group = SORA_MIN(gpu.work_group, 256);
    gpu.local_bytes = SORA_MIN(gpu.local_bytes, 32 << 10);
    gpu.float_width = 1;
    gpu.compute_units = 8;
    for (int i = 0; i < 3; i++) gpu.work_item[i] = SORA_MIN(gpu.work_item[i], 256);
    SORA_TRY(sora_context_create(&(sora_context_options) { .device = device, .limits = &gpu }, &out->contexts[1], error));
cleanup:
    if (status != SORA_OK) check_close(out);
    return status;
}

void check_close(check_session *session)
{
    for (int i = 0; i < 2; i++) sora_context_destroy(&session->contexts[i]);
}
