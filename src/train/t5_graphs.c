/* SPDX-License-Identifier: Apache-2.0 */
#include "train/t5_graphs.h"

#include <stdlib.h>
#include <string.h>

#define IGNORED (-100)

/* Bucket i of n for sequences of up to (i + 1) / n of the longest. */
static int bucket_length(int longest, int bucket, int count)
{
    return SORA_MAX(1, (longest * (bucket + 1) + count - 1) / count);
}

static int bucket_of(int length, int longest, int count)
{
    int bucket = 0;
    while (bucket < count - 1 && bucket_length(longest, bucket, count) < length) bucket++;
    return bucket;
}

sora_t5_graph *sora_t5_graphs_longest(sora_t5_graphs *graphs)
{
    return &graphs->items[SORA_T5_SOURCE_BUCKETS - 1][SORA_T5_TARGET_BUCKETS - 1];
}

static sora_status open_one(sora_t5_graphs *g, int s, int t, sora_error *error)
{
    sora_t5_graph *graph = &g->items[s][t], *longest = sora_t5_graphs_longest(g);
    if (graph->graph) return SORA_OK;
    sora_t5_graph_options options = { .graph = g->options,
                                      .source = bucket_length(g->source, s, SORA_T5_SOURCE_BUCKETS),
                                      .target = bucket_length(g->target, t, SORA_T5_TARGET_BUCKETS),
                                      .smoothing = g->smoothing };
    if (graph != longest) options.graph.share = longest->graph;
    return sora_t5_build(g->t5, &options, graph, error);
}

sora_status sora_t5_graphs_open(sora_t5_graphs *graphs, sora_error *error)
{
    return open_one(graphs, SORA_T5_SOURCE_BUCKETS - 1, SORA_T5_TARGET_BUCKETS - 1, error);
}

void sora_t5_graphs_close(sora_t5_graphs *graphs)
{
    /* The last one owns the memory. */
    for (int s = 0; s < SORA_T5_SOURCE_BUCKETS; s++)
        for (int t = 0; t < SORA_T5_TARGET_BUCKETS; t++) sora_graph_destroy(&graphs->items[s][t].graph);
}

sora_status sora_t5_staging_create(int batch, int source, int target, sora_t5_staging *out, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t n = (size_t)batch;
    *out = (sora_t5_staging) { 0 };
    SORA_TRY(sora_allocate(n * (size_t)source, sizeof *out->source, "batch", &out->source, error));
    SORA_TRY(sora_allocate(n * (size_t)target, sizeof *out->decoder, "batch", &out->decoder, error));
    SORA_TRY(sora_allocate(n * (size_t)target, sizeof *out->labels, "batch", &out->labels, error));
    SORA_TRY(sora_allocate(n, sizeof *out->lengths, "batch", &out->lengths, error));
cleanup:
    if (status != SORA_OK) sora_t5_staging_free(out);
    return status;
}

void sora_t5_staging_free(sora_t5_staging *staging)
{
    free(staging->source);
    free(staging->decoder);
    free(staging->labels);
    free(staging->lengths);
    *staging = (sora_t5_staging) { 0 };
}

/* Padding is pad for sources and decoder, and ignored for labels; the decoder's input is the labels behind the start token. */
static void pad(const sora_t5_graphs *g, const sora_t5_batch *batch, int source, int target, sora_t5_staging *out,
                uint64_t *tokens)
{
    const sora_t5_config *c = sora_t5_describe(g->t5);
    for (int i = 0; i < batch->count; i++) {
        int32_t *ids = out->source + i * source, *decoder = out->decoder + i * target, *labels = out->labels + i * target;
        out->lengths[i] = batch->source_lengths[i];
        for (int t = 0; t < source; t++) ids[t] = t < batch->source_lengths[i] ? batch->sources[i][t] : c->pad;
        for (int t = 0; t < target; t++) {
            bool inside = t < batch->target_lengths[i];
            labels[t] = inside ? batch->targets[i][t] : IGNORED;
            decoder[t] = t == 0 ? c->start : t <= batch->target_lengths[i] ? batch->targets[i][t - 1] : c->pad;
            if (tokens) *tokens += inside;
        }
    }
}

sora_status sora_t5_graphs_run(sora_t5_graphs *g, const sora_t5_batch *batch, sora_t5_staging *staging, uint32_t step,
                               uint32_t first_sample, sora_t5_graph **out, uint64_t *tokens, sora_error *error)
{
    sora_status status = SORA_OK;
    int s = bucket_of(batch->source_longest, g->source, SORA_T5_SOURCE_BUCKETS),
        t = bucket_of(batch->target_longest, g->target, SORA_T5_TARGET_BUCKETS);
    SORA_TRY(open_one(g, s, t, error));
    sora_t5_graph *graph = *out = &g->items[s][t];
    if (tokens) *tokens = 0;
    pad(g, batch, bucket_length(g->source, s, SORA_T5_SOURCE_BUCKETS), bucket_length(g->target, t, SORA_T5_TARGET_BUCKETS),
        staging, tokens);
    SORA_TRY(sora_graph_write(graph->graph, graph->source, staging->source, batch->count, error));
    SORA_TRY(sora_graph_write(graph->graph, graph->lengths, staging->lengths, batch->count, error));
    SORA_TRY(sora_graph_write(graph->graph, graph->decoder, staging->decoder, batch->count, error));
    SORA_TRY(sora_graph_write(graph->graph, graph->labels, staging->labels, batch->count, error));
    SORA_TRY(sora_graph_forward(graph->graph, batch->count, step, first_sample, error));
cleanup:
    return status;
}
