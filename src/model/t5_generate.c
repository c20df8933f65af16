/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter/layer.h"
#include "graph/graph.h"
#include "model/t5.h"
#include "model/t5_search.h"
#include "op/attention_step.h"
#include "op/gemm.h"
#include "op/ops.h"
#include "op/top_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { Q, K, V, O };

/* Encoder graphs for sources of up to a share of the longest, made when first needed. */
#define BUCKETS 8

typedef struct encoder {
    sora_graph *graph;
    sora_tensor *source, *lengths, **kv; /* [decoder layers]: keys and values of the cross-attention */
    int length;
} encoder;

struct sora_t5_generator {
    sora_t5 *t5;
    sora_context *context;
    sora_t5_generator_options options;
    int rows, length;          /* sources · beams; positions: the longest output but its last token, which is never fed */
    encoder encoders[BUCKETS]; /* the last one takes any source */
    sora_buffer memory;
    uint64_t elements;
    bool too_large; /* a view has more elements than an op can count */
    /* On the device: tokens int [rows]; which row's memory holds each position, int [rows, length]; the source of each row, int
     * [rows] */
    sora_view tokens, owner, source_of;
    sora_view line; /* bias of every distance [heads, 2 · length − 1] */
    sora_view x, n, inner, heads, y, logits, workspace;
    sora_view forbidden, likely; /* int [rows, 1 + max_length]; records of sora_top_tokens [rows, ...] */
    sora_view *cache;            /* [decoder layers] of [rows, length, q | k | v] */
    float *host_logits;          /* what is read of them: records, or, to sample, all */
    int32_t *host_owner, *host_next, *host_forbidden;
};

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

static int bucket_length(const sora_t5_generator *g, int bucket)
{
    return (int)SORA_MAX(1, ((int64_t)g->options.source * (bucket + 1) + BUCKETS - 1) / BUCKETS);
}

/* Tokens that a search of so many beams looks at in each. */
static int width_of(const sora_t5_generator *g)
{
    return g->options.beams > 1 ? 2 * g->options.beams : 1;
}

static uint64_t workspace_elements(const sora_t5_generator *g)
{
    const sora_t5 *t5 = g->t5;
    const sora_device_limits *limits = &sora_context_device(g->context)->limits;
    uint64_t most = SORA_MAX(sora_gemm_workspace(limits, t5->config.vocabulary, t5->config.width),
                             sora_top_tokens_workspace(g->rows, t5->config.vocabulary, width_of(g)));
    for (int i = 0; i < t5->decoder.count; i++) {
        const sora_t5_block *b = &t5->decoder.blocks[i];
        sora_layer *const *groups[] = { b->self.qkvo,      &b->self.qkvo[O],   &b->cross.qkvo[Q],
                                        &b->cross.qkvo[O], b->feed_forward.in, &b->feed_forward.out };
        const int counts[] = { 3, 1, 1, 1, t5->config.gated ? 2 : 1, 1 };
        for (size_t k = 0; k < SORA_COUNT(groups); k++) {
            uint64_t one = sora_layers_run_workspace(groups[k], counts[k], g->rows);
            most = SORA_MAX(most, one);
        }
    }
    return most;
}

/* The next `shape` of the memory, which is only counted while there is none. Views start at multiples of 32 elements. */
static sora_view take(sora_t5_generator *g, sora_dtype dtype, sora_shape shape)
{
    sora_view view = g->memory.memory ? sora_view_dense(&g->memory, g->elements, shape) : (sora_view) { .shape = shape };
    int64_t elements = sora_shape_elements(&shape);
    view.dtype = dtype;
    g->too_large |= elements < 0;
    g->elements += ((uint64_t)elements + 31) / 32 * 32;
    return view;
}

static void lay_out(sora_t5_generator *g)
{
    const sora_t5_config *c = &g->t5->config;
    int64_t inner = (int64_t)c->heads * c->head_size, rows = g->rows;
    g->elements = 0;
    g->tokens = take(g, SORA_I32, SORA_SHAPE(rows, 1));
    g->owner = take(g, SORA_I32, SORA_SHAPE(rows, g->length));
    g->source_of = take(g, SORA_I32, SORA_SHAPE(rows));
    g->line = take(g, SORA_F32, SORA_SHAPE(c->heads, 2 * (int64_t)g->length - 1));
    g->x = take(g, SORA_F32, SORA_SHAPE(rows, c->width));
    g->n = take(g, SORA_F32, SORA_SHAPE(rows, c->width));
    g->y = take(g, SORA_F32, SORA_SHAPE(rows, c->width));
    g->heads = take(g, SORA_F32, SORA_SHAPE(rows, inner));
    g->inner = take(g, SORA_F32, SORA_SHAPE(rows, SORA_MAX(inner, 3 * (int64_t)c->inner_width)));
    g->logits = take(g, SORA_F32, SORA_SHAPE(rows, c->vocabulary));
    g->forbidden = take(g, SORA_I32, SORA_SHAPE(rows, 1 + (int64_t)g->options.max_length));
    g->likely = take(g, SORA_F32, SORA_SHAPE(rows, sora_top_tokens_record(width_of(g))));
    for (int i = 0; i < g->t5->decoder.count; i++) g->cache[i] = take(g, SORA_F32, SORA_SHAPE(rows, g->length, 3 * inner));
    g->workspace = take(g, SORA_F32, SORA_SHAPE((int64_t)SORA_MAX(1, workspace_elements(g))));
}

static sora_status open_encoder(sora_t5_generator *g, int bucket, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5 *t5 = g->t5;
    encoder *e = &g->encoders[bucket];
    encoder *largest = &g->encoders[BUCKETS - 1];
    if (e->graph) return SORA_OK;
    e->length = bucket_length(g, bucket);
    sora_graph_options options = { .batch = g->options.batch, .share = e == largest ? g->options.share : largest->graph };
    SORA_TRY(sora_allocate((size_t)t5->decoder.count, sizeof *e->kv, "encoder", &e->kv, error));
    SORA_TRY(sora_graph_create(t5->params, &options, &e->graph, error));
    e->source = sora_graph_input(e->graph, "source", SORA_I32, SORA_SHAPE(options.batch, e->length));
    e->lengths = sora_graph_input(e->graph, "lengths", SORA_I32, SORA_SHAPE(options.batch));
    sora_tensor *memory = sora_t5_encode(e->graph, t5, e->source, e->lengths, false);
    for (int i = 0; i < t5->decoder.count; i++) {
        const sora_t5_attention *cross = &t5->decoder.blocks[i].cross;
        char name[160];
        snprintf(name, sizeof name, "%s.kv", cross->name);
        e->kv[i] = sora_layers_forward(e->graph, name, &cross->qkvo[K], 2, memory);
        sora_graph_output(e->graph, e->kv[i]);
    }
    SORA_TRY(sora_graph_plan(e->graph, NULL, error));
cleanup:
    if (status != SORA_OK) {
        sora_graph_destroy(&e->graph);
        free(e->kv);
        *e = (encoder) { 0 };
    }
    return status;
}

sora_status sora_t5_generator_create(sora_t5 *t5, const sora_t5_generator_options *options, sora_t5_generator **out,
                                     sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5_generator *g = NULL;
    *out = NULL;
    if (options->batch < 1 || options->source < 1 || options->beams < 1 || options->max_length < 2)
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "generation: batch %d, %d source tokens, %d beams, length %d; expected at least 1, 1, 1, 2",
                         options->batch, options->source, options->beams, options->max_length);
    SORA_TRY(sora_allocate(1, sizeof *g, "generator", &g, error));
    g->t5 = t5;
    g->context = sora_params_context(t5->params);
    g->options = *options;
    /* More than these are too large below. */
    g->rows = (int)SORA_MIN((int64_t)options->batch * options->beams, INT32_MAX);
    g->length = options->max_length - 1;
    SORA_TRY(sora_allocate((size_t)t5->decoder.count, sizeof *g->cache, "generator", &g->cache, error));
    lay_out(g);
    if (g->too_large)
        SORA_FAIL(
            error, SORA_ERROR_MEMORY,
            "generation: batch %d, %d beams, length %d: more than %d numbers in one tensor; expected a smaller batch, fewer "
            "beams or a shorter length",
            options->batch, options->beams, options->max_length, INT32_MAX);
    SORA_TRY(sora_allocate((size_t)g->rows * (size_t)g->length, sizeof *g->host_owner, "generator", &g->host_owner, error));
    SORA_TRY(sora_allocate((size_t)g->rows * (size_t)g->length, sizeof *g->host_next, "generator", &g->host_next, error));
    SORA_TRY(sora_allocate((size_t)g->rows * (size_t)(1 + options->max_length), sizeof *g->host_forbidden, "generator",
                           &g->host_forbidden, error));
    int read = SORA_MAX(t5->config.vocabulary, sora_top_tokens_record(width_of(g)));
    SORA_TRY(sora_allocate((size_t)g->rows * (size_t)read, sizeof *g->host_logits, "generator", &g->host_logits, error));
    SORA_TRY(open_encoder(g, BUCKETS - 1, error));
    *out = g;
    g = NULL;
cleanup:
    sora_t5_generator_destroy(&g);
    return status;
}

void sora_t5_generator_destroy(sora_t5_generator **pointer)
{
    sora_t5_generator *g = *pointer;
    if (!g) return;
    for (int i = 0; i < BUCKETS; i++) {
        sora_graph_destroy(&g->encoders[i].graph);
        free(g->encoders[i].kv);
    }
    sora_buffer_destroy(&g->memory);
    free(g->cache);
    free(g->host_owner);
    free(g->host_next);
    free(g->host_forbidden);
    free(g->host_logits);
    free(g);
    *pointer = NULL;
}

void sora_t5_generator_bytes(const sora_t5_generator *g, uint64_t *arena, uint64_t *own)
{
    *arena = sora_graph_stats(g->encoders[BUCKETS - 1].graph).arena_bytes;
    *own = g->elements * sizeof(float);
}

/* ---- Without a graph: one op on views ---------------------------------------------------------------------------- */

static sora_status apply(sora_t5_generator *g, const sora_op *op, const char *name, const void *attributes,
                         const sora_view *inputs, int count, const sora_view *output, sora_error *error)
{
    const sora_view saved[SORA_OP_MAX_SAVED] = { 0 };
    return op->forward(&(sora_op_run) { .context = g->context,
                                        .name = name,
                                        .attributes = attributes,
                                        .input_count = count,
                                        .inputs = inputs,
                                        .outputs = output,
                                        .saved = saved,
                                        .workspace = g->workspace },
                       error);
}

static sora_view value_of(const sora_param *param)
{
    return sora_param_view(param, SORA_PART_VALUE);
}

static sora_status norm(sora_t5_generator *g, const sora_param *weight, int rows, sora_error *error)
{
    sora_view inputs[2] = { g->x, value_of(weight) }, out = g->n;
    inputs[0].shape.dim[0] = out.shape.dim[0] = rows;
    return apply(g, &sora_op_rms_norm, sora_param_name(weight), &(sora_rms_norm_attributes) { g->t5->config.epsilon }, inputs, 2,
                 &out, error);
}

/* A view of `rows` rows of `columns` columns at the front of another. */
static sora_view front(const sora_view *of, int rows, int64_t columns)
{
    sora_view view = *of;
    view.shape = SORA_SHAPE(rows, columns);
    view.stride = columns;
    return view;
}

/* The sublayer's last product, and x += it. */
static sora_status finish(sora_t5_generator *g, sora_layer *last, const sora_view *inner, int rows, sora_error *error)
{
    sora_view y = front(&g->y, rows, g->t5->config.width), sum[2] = { front(&g->x, rows, g->t5->config.width), y };
    sora_status status = sora_layers_run(&last, 1, inner, false, &y, &g->workspace, error);
    return status == SORA_OK ? apply(g, &sora_op_add, "residual", NULL, sum, 2, &sum[0], error) : status;
}

/* Position `at` of every row: q, k and v go where the cache has them. */
static sora_status self_attention(sora_t5_generator *g, int layer, int at, int rows, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_t5_config *c = &g->t5->config;
    const sora_t5_attention *a = &g->t5->decoder.blocks[layer].self;
    int64_t inner = (int64_t)c->heads * c->head_size;
    sora_view n = front(&g->n, rows, c->width), here = front(&g->cache[layer], rows, 3 * inner), k = g->cache[layer], v = k,
              line = g->line, heads = front(&g->heads, rows, inner);
    here.offset += (uint64_t)(at * 3 * inner);
    here.stride = g->length * 3 * inner;
    k.offset += (uint64_t)inner;
    v.offset += (uint64_t)(2 * inner);
    line.offset += (uint64_t)(g->length - 1 - at);
    SORA_TRY(norm(g, a->norm, rows, error));
    SORA_TRY(sora_layers_run(a->qkvo, 3, &n, false, &here, &g->workspace, error));
    SORA_TRY(sora_attention_step(g->context,
                                 &(sora_attention_step_desc) { .rows = rows,
                                                               .heads = c->heads,
                                                               .size = c->head_size,
                                                               .keys = at + 1,
                                                               .q = here,
                                                               .k = k,
                                                               .v = v,
                                                               .key_stride = 3 * inner,
                                                               .sample_stride = here.stride,
                                                               .owner = g->owner,
                                                               .owner_row = g->length,
                                                               .owner_key = 1,
                                                               .line = line,
                                                               .line_stride = 2 * g->length - 1,
                                                               .out = heads,
                                                               .label = a->name },
                                 error));
    SORA_TRY(finish(g, a->qkvo[O], &heads, rows, error));
cleanup:
    return status;
}

static sora_status cross_attention(sora_t5_generator *g, const encoder *e, int layer, int rows, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_t5_config *c = &g->t5->config;
    const sora_t5_attention *a = &g->t5->decoder.blocks[layer].cross;
    int64_t inner = (int64_t)c->heads * c->head_size;
    sora_view n = front(&g->n, rows, c->width), q = front(&g->inner, rows, inner), k = sora_tensor_view(e->graph, e->kv[layer]),
              v = k, heads = front(&g->heads, rows, inner);
    v.offset += (uint64_t)inner;
    SORA_TRY(norm(g, a->norm, rows, error));
    SORA_TRY(sora_layers_run(&a->qkvo[Q], 1, &n, false, &q, &g->workspace, error));
    SORA_TRY(sora_attention_step(g->context,
                                 &(sora_attention_step_desc) { .rows = rows,
                                                               .heads = c->heads,
                                                               .size = c->head_size,
                                                               .keys = e->length,
                                                               .together = g->options.beams,
                                                               .q = q,
                                                               .k = k,
                                                               .v = v,
                                                               .key_stride = 2 * inner,
                                                               .sample_stride = e->length * 2 * inner,
                                                               .owner = g->source_of,
                                                               .owner_row = 1,
                                                               .lengths = sora_tensor_view(e->graph, e->lengths),
                                                               .out = heads,
                                                               .label = a->name },
                                 error));
    SORA_TRY(finish(g, a->qkvo[O], &heads, rows, error));
cleanup:
    return status;
}

static sora_status feed_forward(sora_t5_generator *g, int layer, int rows, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_t5_config *c = &g->t5->config;
    const sora_t5_feed_forward *f = &g->t5->decoder.blocks[layer].feed_forward;
    sora_view n = front(&g->n, rows, c->width), both = front(&g->inner, rows, c->gated ? 2 * c->inner_width : c->inner_width),
              gated = both;
    SORA_TRY(norm(g, f->norm, rows, error));
    SORA_TRY(sora_layers_run(f->in, c->gated ? 2 : 1, &n, !c->gated, &both, &g->workspace, error));
    if (c->gated) {
        gated = front(&g->inner, rows, c->inner_width);
        gated.offset += (uint64_t)(2 * (int64_t)g->rows * c->inner_width);
        SORA_TRY(apply(g, &sora_op_gated_gelu, f->name, NULL, &both, 1, &gated, error));
    }
    SORA_TRY(finish(g, f->out, &gated, rows, error));
cleanup:
    return status;
}

/* From the tokens on the device to the logits of what follows them. */
static sora_status step(sora_t5_generator *g, const encoder *e, int at, int rows, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5 *t5 = g->t5;
    const sora_t5_config *c = &t5->config;
    sora_view ids = g->tokens, x = g->x, logits = front(&g->logits, rows, c->vocabulary);
    ids.shape.dim[0] = x.shape.dim[0] = rows;
    SORA_TRY(
        apply(g, &sora_op_embedding, "decoder.embed_tokens", NULL, (sora_view[]) { ids, value_of(t5->shared) }, 2, &x, error));
    for (int i = 0; i < t5->decoder.count; i++) {
        SORA_TRY(self_attention(g, i, at, rows, error));
        SORA_TRY(cross_attention(g, e, i, rows, error));
        SORA_TRY(feed_forward(g, i, rows, error));
    }
    SORA_TRY(norm(g, t5->decoder.norm, rows, error));
    SORA_TRY(sora_gemm(g->context,
                       &(sora_gemm_desc) { .m = rows,
                                           .n = c->vocabulary,
                                           .k = c->width,
                                           .a = { g->n, c->width, false },
                                           .b = { value_of(t5->head), c->width, true },
                                           .alpha = sora_t5_head_scale(t5),
                                           .c = logits,
                                           .c_leading = c->vocabulary,
                                           .workspace = g->workspace,
                                           .label = "lm_head" },
                       error));
cleanup:
    return status;
}

/* Of the logits on the device what the search wants to see. */
static sora_status look(sora_t5_generator *g, int rows, int width, bool forbids, sora_error *error)
{
    sora_status status = SORA_OK;
    int vocabulary = g->t5->config.vocabulary;
    sora_view logits = front(&g->logits, rows, vocabulary), likely = front(&g->likely, rows, sora_top_tokens_record(width));
    if (width > 0)
        SORA_TRY(sora_top_tokens(g->context,
                                 &(sora_top_tokens_desc) { .rows = rows,
                                                           .vocabulary = vocabulary,
                                                           .count = width,
                                                           .logits = logits,
                                                           .forbidden = forbids ? g->forbidden : (sora_view) { 0 },
                                                           .room = g->options.max_length,
                                                           .workspace = g->workspace,
                                                           .out = likely },
                                 error));
    SORA_TRY(sora_view_read(g->context, width > 0 ? &likely : &logits, g->host_logits, error));
cleanup:
    return status;
}

/* ---- Many sources ------------------------------------------------------------------------------------------------ */

static sora_status make_room(sora_t5_generator *g, sora_error *error)
{
    sora_status status = SORA_OK;
    if (g->memory.memory) return SORA_OK;
    SORA_TRY(sora_graph_allocate(g->encoders[BUCKETS - 1].graph, error));
    SORA_TRY(sora_buffer_create(g->context, g->elements * sizeof(float), "generation", &g->memory, error));
    lay_out(g);
cleanup:
    return status;
}

static sora_status encode(sora_t5_generator *g, const int32_t *const *sources, const int *lengths, int count, encoder **out,
                          sora_error *error)
{
    sora_status status = SORA_OK;
    int longest = 1, bucket = 0;
    int32_t *ids = NULL;
    for (int i = 0; i < count; i++) longest = SORA_MAX(longest, lengths[i]);
    while (bucket_length(g, bucket) < longest) bucket++;
    SORA_TRY(open_encoder(g, bucket, error));
    encoder *e = *out = &g->encoders[bucket];
    SORA_TRY(sora_allocate((size_t)count * (size_t)e->length, sizeof *ids, "sources", &ids, error));
    for (int i = 0; i < count; i++) memcpy(ids + (size_t)i * (size_t)e->length, sources[i], (size_t)lengths[i] * sizeof *ids);
    SORA_TRY(sora_graph_write(e->graph, e->source, ids, count, error));
    SORA_TRY(sora_graph_write(e->graph, e->lengths, lengths, count, error));
    SORA_TRY(sora_graph_forward(e->graph, count, 0, 0, error));
    SORA_TRY(sora_context_finish(g->context, error)); /* ids are read until then */
cleanup:
    free(ids);
    return status;
}

/* Tables that no step changes: the bias of every distance, and which source a row belongs to. */
static sora_status prepare(sora_t5_generator *g, int rows, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_t5_config *c = &g->t5->config;
    sora_view table = value_of(g->t5->decoder.bias), source_of = g->source_of;
    sora_relative_bias_attributes positions = { .queries = g->length, .keys = g->length, .farthest = c->farthest };
    SORA_TRY(apply(g, &sora_op_relative_bias, "decoder.positions", &positions, &table, 1, &g->line, error));
    for (int r = 0; r < rows; r++) g->host_next[r] = r / g->options.beams;
    source_of.shape.dim[0] = rows;
    SORA_TRY(sora_view_write(g->context, &source_of, g->host_next, error));
cleanup:
    return status;
}

/* Rows take over the past of the rows that they go on from. */
static void inherit(sora_t5_generator *g, int first_row, const int *parents, int at)
{
    size_t length = (size_t)g->length;
    for (int b = 0; b < g->options.beams; b++)
        memcpy(g->host_next + (size_t)(first_row + b) * length, g->host_owner + (size_t)(first_row + parents[b]) * length,
               (size_t)(at + 1) * sizeof *g->host_owner);
}

static sora_status feed(sora_t5_generator *g, sora_t5_search *const *searches, int count, int at, bool forbids, sora_error *error)
{
    sora_status status = SORA_OK;
    int beams = g->options.beams, rows = count * beams;
    int32_t *tokens = NULL;
    sora_view ids = g->tokens, owner = g->owner, forbidden = g->forbidden;
    ids.shape.dim[0] = owner.shape.dim[0] = forbidden.shape.dim[0] = rows;
    SORA_TRY(sora_allocate((size_t)rows, sizeof *tokens, "tokens", &tokens, error));
    for (int r = 0; r < rows; r++) {
        int32_t *those = g->host_forbidden + (size_t)r * (size_t)(1 + g->options.max_length);
        tokens[r] = sora_t5_search_tokens(searches[r / beams])[r % beams];
        those[0] = sora_t5_search_forbidden(searches[r / beams], r % beams, those + 1);
        g->host_owner[(size_t)r * (size_t)g->length + (size_t)at] = r;
    }
    SORA_TRY(sora_view_write(g->context, &ids, tokens, error));
    SORA_TRY(sora_view_write(g->context, &owner, g->host_owner, error));
    if (forbids) SORA_TRY(sora_view_write(g->context, &forbidden, g->host_forbidden, error));
cleanup:
    free(tokens);
    return status;
}

/* One search goes on from what was read of its rows, the first of which is `row`. */
static sora_status advance(sora_t5_generator *g, sora_t5_search *search, int row, int *parents, sora_error *error)
{
    sora_status status = SORA_OK;
    int width = sora_t5_search_width(search), beams = g->options.beams;
    size_t record = (size_t)(width > 0 ? sora_top_tokens_record(width) : g->t5->config.vocabulary);
    float *read = g->host_logits + (size_t)row * record;
    sora_t5_likely *likely = NULL;
    for (int b = 0; b < beams; b++) parents[b] = b;
    SORA_TRY(sora_allocate((size_t)beams, sizeof *likely, "beams", &likely, error));
    for (int b = 0; width > 0 && b < beams; b++, read += record)
        likely[b] = (sora_t5_likely) { read[0], read[1], read + 2, (const int32_t *)(read + 2 + width) };
    if (width == 0)
        sora_t5_search_sample(search, read);
    else
        SORA_TRY(sora_t5_search_advance(search, likely, parents, error));
cleanup:
    free(likely);
    return status;
}

static sora_status choose(sora_t5_generator *g, sora_t5_search *const *searches, int first, int count, int at,
                          const sora_t5_stream *stream, bool *going, bool *stopped, sora_error *error)
{
    int beams = g->options.beams, *parents = NULL;
    sora_status status = sora_allocate((size_t)beams, sizeof *parents, "beams", &parents, error);
    *going = false;
    for (int i = 0; status == SORA_OK && i < count; i++) {
        bool done = sora_t5_search_done(searches[i]);
        status = advance(g, searches[i], i * beams, parents, error);
        inherit(g, i * beams, parents, at);
        if (!done && stream && stream->use && beams == 1 &&
            !stream->use(stream->self, first + i, sora_t5_search_tokens(searches[i])[0]))
            *stopped = true;
        *going |= !sora_t5_search_done(searches[i]);
    }
    int32_t *swap = g->host_owner;
    g->host_owner = g->host_next;
    g->host_next = swap;
    free(parents);
    return status;
}

static sora_status generate_batch(sora_t5_generator *g, const int32_t *const *sources, const int *lengths, int first, int count,
                                  const uint32_t *places, const sora_t5_generation *options, const sora_t5_stream *stream,
                                  bool *stopped, sora_t5_output *out, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_t5_config *c = &g->t5->config;
    sora_t5_search **searches = NULL;
    encoder *e;
    int rows = count * g->options.beams;
    bool going = true, forbids = options->no_repeat_ngram > 0 || options->min_length > 1;
    SORA_TRY(sora_allocate((size_t)count, sizeof *searches, "searches", &searches, error));
    for (int i = 0; i < count; i++)
        SORA_TRY(sora_t5_search_create(&(sora_t5_search_desc) { .options = options,
                                                                .vocabulary = c->vocabulary,
                                                                .start = g->t5->start,
                                                                .eos = g->t5->eos,
                                                                .sample = places ? places[first + i] : (uint32_t)(first + i) },
                                       &searches[i], error));
    SORA_TRY(make_room(g, error));
    SORA_TRY(encode(g, sources, lengths, count, &e, error));
    SORA_TRY(prepare(g, rows, error));
    for (int at = 0; going && !*stopped && at < g->length; at++) {
        SORA_TRY(feed(g, searches, count, at, forbids, error));
        SORA_TRY(step(g, e, at, rows, error));
        SORA_TRY(look(g, rows, sora_t5_search_width(searches[0]), forbids, error));
        SORA_TRY(choose(g, searches, first, count, at, stream, &going, stopped, error));
    }
    for (int i = 0; i < count; i++) SORA_TRY(sora_t5_search_result(searches[i], &out[i], error));
cleanup:
    for (int i = 0; searches && i < count; i++) sora_t5_search_destroy(&searches[i]);
    free(searches);
    return status;
}

sora_status sora_t5_generate(sora_t5_generator *g, const int32_t *const *sources, const int *lengths, int count,
                             const uint32_t *places, const sora_t5_generation *options, const sora_t5_stream *stream,
                             sora_t5_output *out, sora_error *error)
{
    sora_status status = SORA_OK;
    bool stopped = false;
    memset(out, 0, (size_t)count * sizeof *out);
    if (options->beams != g->options.beams || options->max_length > g->options.max_length)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "generation: %d beams of up to %d tokens; this generator has %d and %d",
                  options->beams, options->max_length, g->options.beams, g->options.max_length);
    if (!sora_params_on_device(g->t5->params))
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "generation: the parameters are on the host; upload them first");
    for (int i = 0; i < count; i++) {
        if (lengths[i] < 1 || lengths[i] > g->options.source)
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "generation: source %d has %d tokens; expected 1 to %d", i, lengths[i],
                      g->options.source);
        for (int t = 0; t < lengths[i]; t++)
            if (sources[i][t] < 0 || sources[i][t] >= g->t5->config.vocabulary)
                SORA_FAIL(error, SORA_ERROR_ARGUMENT, "generation: source %d has id %d; the model has %d", i, sources[i][t],
                          g->t5->config.vocabulary);
    }
    for (int first = 0; first < count && !stopped; first += g->options.batch)
        SORA_TRY(generate_batch(g, sources + first, lengths + first, first, SORA_MIN(g->options.batch, count - first), places,
                                options, stream, &stopped, out + first, error));
cleanup:
    for (int i = 0; status != SORA_OK && i < count; i++) {
        free(out[i].ids);
        out[i] = (sora_t5_output) { 0 };
    }
    return status;
}
