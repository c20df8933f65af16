/* SPDX-License-Identifier: Apache-2.0 */
#include "op/conv.h"
#include "op/dropout.h"
#include "op/ops.h"
#include "op/range.h"

#include <stdio.h>

enum { QUERIES, KEYS, LINE, LENGTHS };

/* Longer sequences would meet the same random words twice. */
#define MOST_POSITIONS 4096
#define MOST_HEADS 256
/* Work-items that share the queries of a head on the way back: each has a line of gradients of its own. */
#define MOST_RUNS 8

static const sora_attention_attributes *attributes_of(const void *attributes)
{
    return attributes;
}

/* Where q, k and v stand: side by side in one tensor, or q alone and k, v side by side. */
typedef struct operand {
    sora_view view;
    int64_t stride;
} operand;

typedef struct operands {
    operand q, k, v;
    int64_t samples, queries, keys;
} operands;

static operand part_of(const sora_view *tensor, int64_t column)
{
    operand part = { *tensor, tensor->shape.dim[2] };
    part.view.offset += (uint64_t)column;
    return part;
}

static operands operands_of(const sora_attention_attributes *a, const sora_view *first, const sora_view *second)
{
    int64_t inner = (int64_t)a->heads * a->size;
    bool self = second->memory == NULL;
    const sora_view *kv = self ? first : second;
    return (operands) { .q = part_of(first, 0),
                        .k = part_of(kv, self ? inner : 0),
                        .v = part_of(kv, self ? 2 * inner : inner),
                        .samples = first->shape.dim[0],
                        .queries = first->shape.dim[1],
                        .keys = kv->shape.dim[1] };
}

static int rows_of(const sora_device_limits *limits)
{
    return sora_conv_lanes(limits) > 1 ? 8 : 1;
}

/* Columns of a transposed operand: whole blocks of the kernels' COLUMNS. */
static int64_t padded(const sora_device_limits *limits, int64_t count)
{
    int64_t block = 4 * sora_conv_lanes(limits);
    return (count + block - 1) / block * block;
}

static int64_t runs_of(const sora_device_limits *limits, int64_t queries)
{
    int64_t blocks = (queries + rows_of(limits) - 1) / rows_of(limits);
    return SORA_MIN(blocks, MOST_RUNS);
}

static sora_status check_shapes(const sora_op_shape_rule *rule, sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(rule->attributes);
    const sora_shape *q = &rule->inputs[QUERIES], *kv = &rule->inputs[KEYS];
    char one[80], other[80];
    int64_t inner = (int64_t)a->heads * a->size, keys = kv->rank ? kv->dim[1] : q->dim[1];
    if (a->heads < 1 || a->size < 1 || a->heads > MOST_HEADS || !(a->dropout >= 0.0f && a->dropout < 1.0f))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%d heads of %d, dropout %g; expected 1 to %d heads and 0 to below 1",
                         a->heads, a->size, (double)a->dropout, MOST_HEADS);
    bool fits = q->rank == 3 && q->dim[2] == (kv->rank ? inner : 3 * inner);
    if (kv->rank) fits = fits && kv->rank == 3 && kv->dim[0] == q->dim[0] && kv->dim[2] == 2 * inner && !a->causal;
    if (!fits)
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "%s and %s for %d heads of %d; expected [n, t, 3 h d], or [n, t, h d] and, not causal, [n, s, 2 h d]",
                         sora_shape_text(q, one), sora_shape_text(kv, other), a->heads, a->size);
    if (q->dim[1] > MOST_POSITIONS || keys > MOST_POSITIONS)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%lld queries, %lld keys; at most %d", (long long)q->dim[1], (long long)keys,
                         MOST_POSITIONS);
    const sora_shape *line = rule->input_count > LINE ? &rule->inputs[LINE] : &(sora_shape) { 0 };
    if (line->rank && (line->rank != 2 || line->dim[0] != a->heads || line->dim[1] != q->dim[1] + keys - 1))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "bias %s; expected [%d, %lld]", sora_shape_text(line, one), a->heads,
                         (long long)(q->dim[1] + keys - 1));
    return SORA_OK;
}

static sora_status infer(sora_op_shape_rule *rule, sora_error *error)
{
    sora_status status = check_shapes(rule, error);
    if (status != SORA_OK) return status;
    const sora_attention_attributes *a = attributes_of(rule->attributes);
    const sora_shape *q = &rule->inputs[QUERIES], *kv = &rule->inputs[KEYS];
    const sora_device_limits *l = rule->limits;
    int64_t n = q->dim[0], t = q->dim[1], s = kv->rank ? kv->dim[1] : t, inner = (int64_t)a->heads * a->size;
    rule->output_count = 1;
    rule->outputs[0] = SORA_SHAPE(n, t, inner);
    if (rule->training) rule->saved[0] = SORA_SHAPE(n, a->heads, t);
    rule->forward_workspace = (uint64_t)(n * inner * padded(l, s));
    rule->backward_workspace =
        (uint64_t)(2 * n * inner * padded(l, SORA_MAX(t, s)) + n * a->heads * t + n * a->heads * runs_of(l, t) * (t + s - 1));
    return SORA_OK;
}

static void program_options(const sora_op_run *run, char out[96])
{
    const sora_device_limits *limits = &sora_context_device(run->context)->limits;
    int lanes = sora_conv_lanes(limits), rows = rows_of(limits);
    snprintf(out, 96, "-D XV=%d -D DK=%d -D MQ=%d -D RG=%d", lanes, attributes_of(run->attributes)->size, rows,
             lanes == 16 ? 4 : 1);
}

/* `products` of queries x keys x size for each head, of which half falls away where attention is causal. */
static sora_status launch(const sora_op_run *run, const char *kernel, int products, int64_t across, int64_t down,
                          const sora_argument *arguments, sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(run->attributes);
    const sora_shape *q = &run->inputs[QUERIES].shape,
                     *kv = run->input_count > KEYS && run->inputs[KEYS].memory ? &run->inputs[KEYS].shape : q;
    double rows = (double)(q->dim[0] * a->heads * a->size), pairs = (double)(q->dim[1] * kv->dim[1]) * (a->causal ? 0.5 : 1.0);
    char options[96];
    program_options(run, options);
    return sora_launch(
        run->context,
        &(sora_launch_desc) { .file = "attention",
                              .kernel = kernel,
                              .options = options,
                              .global = { (size_t)across, (size_t)down },
                              .flops = 2.0 * products * rows * pairs,
                              .bytes = products ? 4.0 * rows * (double)(products * q->dim[1] + 2 * kv->dim[1]) : 0.0,
                              .label = run->name,
                              .arguments = arguments },
        error);
}

/* count rows of every head, transposed, into `out`. */
static sora_status transpose(const sora_op_run *run, const operand *from, int64_t samples, int64_t count, const sora_view *out,
                             sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(run->attributes);
    const sora_device_limits *limits = &sora_context_device(run->context)->limits;
    int64_t columns = padded(limits, count);
    return launch(run, "attention_transpose", 0, columns / sora_conv_lanes(limits), samples * a->heads,
                  SORA_ARGUMENTS(SORA_VIEW(&from->view), SORA_VIEW(out), SORA_LONG(from->stride), SORA_INT(a->heads),
                                 SORA_INT(count), SORA_INT(columns)),
                  error);
}

static sora_view behind(const sora_view *view, int64_t elements)
{
    sora_view next = *view;
    next.offset += (uint64_t)elements;
    return next;
}

static sora_dropout_key key_of(const sora_op_run *run)
{
    float probability = run->training ? attributes_of(run->attributes)->dropout : 0.0f;
    return sora_dropout_key_of(run, probability);
}

static const sora_view *optional(const sora_op_run *run, int input)
{
    static const sora_view none = { 0 };
    return run->input_count > input ? &run->inputs[input] : &none;
}

static sora_status forward(const sora_op_run *run, sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(run->attributes);
    const sora_device_limits *limits = &sora_context_device(run->context)->limits;
    const sora_view *line = optional(run, LINE), *lengths = optional(run, LENGTHS), *logs = &run->saved[0];
    operands o = operands_of(a, &run->inputs[QUERIES], optional(run, KEYS));
    sora_dropout_key key = key_of(run);
    sora_status status = transpose(run, &o.k, o.samples, o.keys, &run->workspace, error);
    if (status != SORA_OK) return status;
    return launch(run, "attention_forward", 2, (o.queries + rows_of(limits) - 1) / rows_of(limits), o.samples * a->heads,
                  SORA_ARGUMENTS(SORA_VIEW(&o.q.view), SORA_VIEW(&run->workspace), SORA_VIEW(&o.v.view), SORA_VIEW(line),
                                 SORA_VIEW(lengths), SORA_VIEW(&run->outputs[0]), SORA_VIEW(logs), SORA_LONG(o.q.stride),
                                 SORA_LONG(o.v.stride), SORA_INT(a->heads), SORA_INT(o.queries), SORA_INT(o.keys),
                                 SORA_INT(padded(limits, o.keys)), SORA_INT(a->causal), SORA_INT(line->memory != NULL),
                                 SORA_INT(lengths->memory != NULL), SORA_INT(logs->memory != NULL), SORA_UINT(key.low),
                                 SORA_UINT(key.high), SORA_UINT(run->step), SORA_UINT(run->stream), SORA_UINT(run->first_sample),
                                 SORA_UINT(key.threshold), SORA_FLOAT(key.factor)),
                  error);
}

typedef struct backward_scratch {
    sora_view first, second; /* transposed operands */
    sora_view delta, shares;
} backward_scratch;

static sora_status query_gradient(const sora_op_run *run, const operands *o, const operands *d, const backward_scratch *s,
                                  sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(run->attributes);
    const sora_device_limits *limits = &sora_context_device(run->context)->limits;
    const sora_view *line = optional(run, LINE), *lengths = optional(run, LENGTHS), *dy = &run->output_gradients[0];
    const sora_view *dline = run->input_count > LINE ? &run->input_gradients[LINE] : &(sora_view) { 0 };
    int64_t blocks = (o->queries + rows_of(limits) - 1) / rows_of(limits), runs = runs_of(limits, o->queries);
    sora_dropout_key key = key_of(run);
    sora_status status = SORA_OK;
    SORA_TRY(transpose(run, &o->k, o->samples, o->keys, &s->first, error));
    SORA_TRY(transpose(run, &o->v, o->samples, o->keys, &s->second, error));
    SORA_TRY(launch(run, "attention_query_gradient", 3, runs, o->samples * a->heads,
                    SORA_ARGUMENTS(SORA_VIEW(&o->q.view), SORA_VIEW(&o->k.view), SORA_VIEW(dy), SORA_VIEW(&s->first),
                                   SORA_VIEW(&s->second), SORA_VIEW(line), SORA_VIEW(lengths), SORA_VIEW(&run->saved[0]),
                                   SORA_VIEW(&s->delta), SORA_VIEW(&d->q.view), SORA_VIEW(&s->shares), SORA_LONG(o->q.stride),
                                   SORA_LONG(o->k.stride), SORA_INT(a->heads), SORA_INT(o->queries), SORA_INT(o->keys),
                                   SORA_INT(padded(limits, o->keys)), SORA_INT(a->causal), SORA_INT(line->memory != NULL),
                                   SORA_INT(lengths->memory != NULL), SORA_INT(d->q.view.memory != NULL),
                                   SORA_INT(dline->memory != NULL), SORA_INT((blocks + runs - 1) / runs), SORA_UINT(key.low),
                                   SORA_UINT(key.high), SORA_UINT(run->step), SORA_UINT(run->stream),
                                   SORA_UINT(run->first_sample), SORA_UINT(key.threshold), SORA_FLOAT(key.factor)),
                    error));
    if (dline->memory)
        SORA_TRY(launch(run, "attention_line_total", 0, dline->shape.dim[1], a->heads,
                        SORA_ARGUMENTS(SORA_VIEW(&s->shares), SORA_VIEW(dline), SORA_INT(a->heads), SORA_INT(o->samples),
                                       SORA_INT(runs), SORA_INT(dline->shape.dim[1])),
                        error));
cleanup:
    return status;
}

static sora_status key_gradient(const sora_op_run *run, const operands *o, const operands *d, const backward_scratch *s,
                                sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(run->attributes);
    const sora_device_limits *limits = &sora_context_device(run->context)->limits;
    const sora_view *line = optional(run, LINE), *lengths = optional(run, LENGTHS), *dy = &run->output_gradients[0];
    operand arriving = { *dy, dy->shape.dim[2] };
    sora_dropout_key key = key_of(run);
    sora_status status = SORA_OK;
    SORA_TRY(transpose(run, &o->q, o->samples, o->queries, &s->first, error));
    SORA_TRY(transpose(run, &arriving, o->samples, o->queries, &s->second, error));
    SORA_TRY(launch(run, "attention_key_gradient", 4, (o->keys + rows_of(limits) - 1) / rows_of(limits), o->samples * a->heads,
                    SORA_ARGUMENTS(SORA_VIEW(&o->q.view), SORA_VIEW(&o->k.view), SORA_VIEW(&o->v.view), SORA_VIEW(dy),
                                   SORA_VIEW(&s->first), SORA_VIEW(&s->second), SORA_VIEW(line), SORA_VIEW(lengths),
                                   SORA_VIEW(&run->saved[0]), SORA_VIEW(&s->delta), SORA_VIEW(&d->k.view), SORA_VIEW(&d->v.view),
                                   SORA_LONG(o->q.stride), SORA_LONG(o->k.stride), SORA_INT(a->heads), SORA_INT(o->queries),
                                   SORA_INT(o->keys), SORA_INT(padded(limits, o->queries)), SORA_INT(a->causal),
                                   SORA_INT(line->memory != NULL), SORA_INT(lengths->memory != NULL), SORA_UINT(key.low),
                                   SORA_UINT(key.high), SORA_UINT(run->step), SORA_UINT(run->stream),
                                   SORA_UINT(run->first_sample), SORA_UINT(key.threshold), SORA_FLOAT(key.factor)),
                    error));
cleanup:
    return status;
}

static sora_status backward(const sora_op_run *run, sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(run->attributes);
    const sora_device_limits *limits = &sora_context_device(run->context)->limits;
    const sora_view *kv = optional(run, KEYS), *dkv = run->input_count > KEYS ? &run->input_gradients[KEYS] : &(sora_view) { 0 };
    operands o = operands_of(a, &run->inputs[QUERIES], kv), d = operands_of(a, &run->input_gradients[QUERIES], dkv);
    int64_t part = o.samples * a->heads * a->size * padded(limits, SORA_MAX(o.queries, o.keys));
    backward_scratch s = { .first = run->workspace };
    s.second = behind(&s.first, part);
    s.delta = behind(&s.second, part);
    s.shares = behind(&s.delta, o.samples * a->heads * o.queries);
    bool wants_queries = run->input_gradients[QUERIES].memory || (run->input_count > LINE && run->input_gradients[LINE].memory);
    sora_status status = SORA_OK;
    SORA_TRY(launch(run, "attention_delta", 0, o.queries, o.samples * a->heads,
                    SORA_ARGUMENTS(SORA_VIEW(&run->outputs[0]), SORA_VIEW(&run->output_gradients[0]), SORA_VIEW(&s.delta),
                                   SORA_INT(a->heads), SORA_INT(o.queries)),
                    error));
    if (wants_queries) SORA_TRY(query_gradient(run, &o, &d, &s, error));
    if (kv->memory ? dkv->memory != NULL : run->input_gradients[QUERIES].memory != NULL)
        SORA_TRY(key_gradient(run, &o, &d, &s, error));
cleanup:
    return status;
}

const sora_op sora_op_attention = { .name = "attention",
                                    .differentiable = 1 << QUERIES | 1 << KEYS | 1 << LINE,
                                    .uses_inputs = 0xf,
                                    .uses_outputs = 1,
                                    .random = true,
                                    .infer = infer,
                                    .forward = forward,
                                    .backward = backward };
