/* SPDX-License-Identifier: Apache-2.0 */
#include "op/attention.h"

#include "op/dropout.h"
#include "op/range.h"

#include <stdio.h>
#include <string.h>

enum { QUERIES, KEYS, LINE, LENGTHS };

/* Longer sequences would meet the same random words twice. */
#define MOST_POSITIONS 4096
#define MOST_HEADS 256
#define MOST_SIZE 256 /* a CPU's work-item has several blocks of rows on its stack */
/* Blocks of queries (forward) or keys (back) that a CPU's work-item keeps while those of the other side pass. */
#define RUN 3

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

static bool in_blocks(const sora_op_run *run)
{
    return sora_lanes(&sora_context_device(run->context)->limits) > 1;
}

static sora_status check_shapes(const sora_op_shape_rule *rule, sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(rule->attributes);
    const sora_shape *q = &rule->inputs[QUERIES], *kv = &rule->inputs[KEYS];
    char one[80], other[80];
    int64_t inner = (int64_t)a->heads * a->size, keys = kv->rank ? kv->dim[1] : q->dim[1];
    if (a->heads < 1 || a->size < 1 || a->heads > MOST_HEADS || a->size > MOST_SIZE || !(a->dropout >= 0.0f && a->dropout < 1.0f))
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "%d heads of %d, dropout %g; expected 1 to %d heads of at most %d and 0 to below 1", a->heads, a->size,
                         (double)a->dropout, MOST_HEADS, MOST_SIZE);
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
    int64_t n = q->dim[0], t = q->dim[1], s = kv->rank ? kv->dim[1] : t, inner = (int64_t)a->heads * a->size;
    rule->output_count = 1;
    rule->outputs[0] = SORA_SHAPE(n, t, inner);
    if (rule->training) rule->saved[0] = SORA_SHAPE(n, a->heads, t);
    rule->backward_workspace = (uint64_t)(n * a->heads * (2 * t + s - 1));
    return SORA_OK;
}

int sora_attention_variants(const sora_device_limits *limits, bool back, sora_attention_variant out[SORA_ATTENTION_VARIANTS])
{
    /* Measured: { 4, 32, 64 } is a tenth faster where blocks of 48 queries are not full (T5's decoder, 2 % of a step), which does not
     * pay for another program: a seventh of what a first start compiles. */
    static const sora_attention_variant blocks[] = { { 6, 48, 96 }, { 4, 32, 64 }, { 6, 96, 96 }, { 4, 32, 32 } },
                                        wide[] = { { 8, 64, 64 } }, gpu[] = { { .keys = 8 }, { .keys = 4 }, { .keys = 16 } };
    int lanes = sora_lanes(limits), count;
    const sora_attention_variant *list;
    if (lanes == 1) {
        list = gpu;
        count = back ? 1 : SORA_COUNT(gpu);
    } else if (lanes == 16) {
        list = wide;
        count = SORA_COUNT(wide);
    } else {
        list = blocks;
        count = SORA_COUNT(blocks);
    }
    memcpy(out, list, (size_t)count * sizeof *out);
    return count;
}

sora_tuning_variant sora_attention_tuning_variant(const sora_attention_variant *v)
{
    return (sora_tuning_variant) { { v->tile, v->queries, v->keys } };
}

static sora_attention_variant choose(const sora_op_run *run, bool back)
{
    const sora_attention_attributes *a = attributes_of(run->attributes);
    sora_attention_variant variants[SORA_ATTENTION_VARIANTS];
    bool self = run->input_count <= KEYS || run->inputs[KEYS].memory == NULL;
    int64_t queries = run->inputs[QUERIES].shape.dim[1], keys = self ? queries : run->inputs[KEYS].shape.dim[1];
    int count = sora_attention_variants(&sora_context_device(run->context)->limits, back, variants);
    sora_tuning_key key = { "attention",
                            { a->heads, a->size, sora_tuning_class(queries), sora_tuning_class(keys), self, a->causal, back } };
    sora_tuning_variant numbers[SORA_ATTENTION_VARIANTS];
    for (int i = 0; i < count; i++) numbers[i] = sora_attention_tuning_variant(&variants[i]);
    return variants[sora_tuning_choose(run->context, &key, numbers, count)];
}

/* `products` of queries x keys x size for each head, of which half falls away where attention is causal. */
static sora_status launch(const sora_op_run *run, const sora_attention_variant *variant, const char *kernel, int products,
                          int64_t across, int64_t down, const sora_argument *arguments, sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(run->attributes);
    const sora_shape *q = &run->inputs[QUERIES].shape,
                     *kv = run->input_count > KEYS && run->inputs[KEYS].memory ? &run->inputs[KEYS].shape : q;
    double rows = (double)(q->dim[0] * a->heads * a->size), pairs = (double)(q->dim[1] * kv->dim[1]) * (a->causal ? 0.5 : 1.0);
    char options[128];
    snprintf(options, sizeof options, "-D XV=%d -D DK=%d -D TILE=%d -D BLOCK_QUERIES=%d -D BLOCK_KEYS=%d -D RUN=%d",
             sora_lanes(&sora_context_device(run->context)->limits), a->size, variant->tile, variant->queries, variant->keys,
             RUN);
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

static sora_status forward(const sora_op_run *run, const sora_attention_variant *variant, sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(run->attributes);
    const sora_view *line = optional(run, LINE), *lengths = optional(run, LENGTHS), *logs = &run->saved[0];
    operands o = operands_of(a, &run->inputs[QUERIES], optional(run, KEYS));
    sora_dropout_key key = key_of(run);
    int64_t stay = in_blocks(run) ? RUN * variant->queries : 1, items = (o.queries + stay - 1) / stay;
    return launch(run, variant, "attention_forward", 2, in_blocks(run) ? items * SORA_APART : items, o.samples * a->heads,
                  SORA_ARGUMENTS(SORA_VIEW(&o.q.view), SORA_VIEW(&o.k.view), SORA_VIEW(&o.v.view), SORA_VIEW(line),
                                 SORA_VIEW(lengths), SORA_VIEW(&run->outputs[0]), SORA_VIEW(logs), SORA_LONG(o.q.stride),
                                 SORA_LONG(o.k.stride), SORA_INT(a->heads), SORA_INT(o.queries), SORA_INT(o.keys),
                                 SORA_INT(a->causal), SORA_INT(line->memory != NULL), SORA_INT(lengths->memory != NULL),
                                 SORA_INT(logs->memory != NULL), SORA_UINT(key.low), SORA_UINT(key.high), SORA_UINT(run->step),
                                 SORA_UINT(run->stream), SORA_UINT(run->first_sample), SORA_UINT(key.threshold),
                                 SORA_FLOAT(key.factor)),
                  error);
}

/* What backward reads and writes. */
typedef struct gradient {
    const sora_attention_variant *variant;
    operands of; /* q, k, v */
    const sora_view *line, *lengths, *dy, *logs;
    sora_view dq, dk, dv, dline; /* memory NULL: not wanted */
    sora_view delta, shares;     /* scratch: a number a row; the line's gradient by sample */
    sora_dropout_key key;
} gradient;

static sora_status launch_gradient(const sora_op_run *run, const gradient *g, const char *kernel, int products, int64_t across,
                                   int64_t down, sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(run->attributes);
    const operands *o = &g->of;
    return launch(run, g->variant, kernel, products, across, down,
                  SORA_ARGUMENTS(SORA_VIEW(&o->q.view), SORA_VIEW(&o->k.view), SORA_VIEW(&o->v.view), SORA_VIEW(g->dy),
                                 SORA_VIEW(g->line), SORA_VIEW(g->lengths), SORA_VIEW(g->logs), SORA_VIEW(&g->delta),
                                 SORA_VIEW(&g->dq), SORA_VIEW(&g->dk), SORA_VIEW(&g->dv), SORA_VIEW(&g->shares),
                                 SORA_LONG(o->q.stride), SORA_LONG(o->k.stride), SORA_INT(a->heads), SORA_INT(o->queries),
                                 SORA_INT(o->keys), SORA_INT(a->causal), SORA_INT(g->line->memory != NULL),
                                 SORA_INT(g->lengths->memory != NULL), SORA_INT(g->dq.memory != NULL),
                                 SORA_INT(g->dk.memory != NULL), SORA_INT(g->dline.memory != NULL), SORA_UINT(g->key.low),
                                 SORA_UINT(g->key.high), SORA_UINT(run->step), SORA_UINT(run->stream),
                                 SORA_UINT(run->first_sample), SORA_UINT(g->key.threshold), SORA_FLOAT(g->key.factor)),
                  error);
}

/* A CPU's core: all of a head at once. A GPU's: rows of queries, rows of keys and distances for themselves. */
static sora_status launch_gradients(const sora_op_run *run, const gradient *g, sora_error *error)
{
    sora_status status = SORA_OK;
    const operands *o = &g->of;
    int64_t heads = o->samples * attributes_of(run->attributes)->heads;
    if (in_blocks(run)) return launch_gradient(run, g, "attention_backward", 5, SORA_APART, heads, error);
    if (g->dq.memory) SORA_TRY(launch_gradient(run, g, "attention_query_gradient", 3, o->queries, heads, error));
    if (g->dk.memory) SORA_TRY(launch_gradient(run, g, "attention_key_gradient", 4, o->keys, heads, error));
    if (g->dline.memory) SORA_TRY(launch_gradient(run, g, "attention_line_share", 2, o->queries + o->keys - 1, heads, error));
cleanup:
    return status;
}

static sora_status backward(const sora_op_run *run, const sora_attention_variant *variant, sora_error *error)
{
    const sora_attention_attributes *a = attributes_of(run->attributes);
    const sora_view none = { 0 }, *kv = optional(run, KEYS), *dkv = run->input_count > KEYS ? &run->input_gradients[KEYS] : &none;
    gradient g = { .variant = variant,
                   .of = operands_of(a, &run->inputs[QUERIES], kv),
                   .line = optional(run, LINE),
                   .lengths = optional(run, LENGTHS),
                   .dy = &run->output_gradients[0],
                   .logs = &run->saved[0],
                   .dline = run->input_count > LINE ? run->input_gradients[LINE] : none,
                   .delta = run->workspace,
                   .shares = run->workspace,
                   .key = key_of(run) };
    const operands *o = &g.of;
    operands d = operands_of(a, &run->input_gradients[QUERIES], dkv);
    g.dq = d.q.view;
    if (kv->memory ? dkv->memory != NULL : g.dq.memory != NULL) g.dk = d.k.view, g.dv = d.v.view;
    g.shares.offset += (uint64_t)(o->samples * a->heads * o->queries);
    sora_status status = SORA_OK;
    SORA_TRY(launch(run, variant, "attention_delta", 0, o->queries, o->samples * a->heads,
                    SORA_ARGUMENTS(SORA_VIEW(&run->outputs[0]), SORA_VIEW(g.dy), SORA_VIEW(&g.delta), SORA_INT(a->heads),
                                   SORA_INT(o->queries)),
                    error));
    SORA_TRY(launch_gradients(run, &g, error));
    if (g.dline.memory)
        SORA_TRY(launch(run, variant, "attention_line_total", 0, g.dline.shape.dim[1], a->heads,
                        SORA_ARGUMENTS(SORA_VIEW(&g.shares), SORA_VIEW(&g.dline), SORA_INT(a->heads), SORA_INT(o->samples),
                                       SORA_INT(g.dline.shape.dim[1])),
                        error));
cleanup:
    return status;
}

sora_status sora_attention_run(const sora_op_run *run, bool back, const sora_attention_variant *variant, sora_error *error)
{
    return back ? backward(run, variant, error) : forward(run, variant, error);
}

static sora_status run_forward(const sora_op_run *run, sora_error *error)
{
    sora_attention_variant variant = choose(run, false);
    return forward(run, &variant, error);
}

static sora_status run_backward(const sora_op_run *run, sora_error *error)
{
    sora_attention_variant variant = choose(run, true);
    return backward(run, &variant, error);
}

const sora_op sora_op_attention = { .name = "attention",
                                    .differentiable = 1 << QUERIES | 1 << KEYS | 1 << LINE,
                                    .uses_inputs = 0xf,
                                    .uses_outputs = 1,
                                    .random = true,
                                    .dense = ~0u,
                                    .infer = infer,
                                    .forward = run_forward,
                                    .backward = run_backward };
