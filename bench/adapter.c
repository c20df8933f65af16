/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "op/ops.h"

#include <stdio.h>

enum { RANK = 16, COMPACTED = RANK / 4 };

/* A frozen weight [p, q], bare (rank 0; its way back is the gradient of x alone) or adapted. */
static sora_status open_linear(bench_state *state, int64_t m, int64_t p, int64_t q, int64_t rank, bench_op *out,
                               sora_error *error)
{
    static const sora_linear_attributes bare = { 0 };
    static const sora_adapted_attributes adapted = { .scale = 1 };
    const sora_shape inputs[] = { SORA_SHAPE(m, q),    SORA_SHAPE(p, q),    { 0 },
                                  SORA_SHAPE(rank, q), SORA_SHAPE(p, rank), SORA_SHAPE(rank) };
    sora_status status =
        rank ? bench_op_create(state->context, &sora_op_adapted_linear, &adapted, inputs, 6, 1 | 8 | 16 | 32, out, error)
             : bench_op_create(state->context, &sora_op_linear, &bare, inputs, 3, 1, out, error);
    return status == SORA_OK ? bench_op_freeze(out, 1, error) : status;
}

/* The adapted linear beside the bare one, before and after compaction to a quarter of the rank. */
sora_status bench_adapter(bench_state *state, sora_error *error)
{
    static const int64_t shapes[][3] = { { 2016, 512, 512 }, { 2016, 2048, 512 }, { 2016, 512, 2048 } }; /* rows, out, in */
    for (size_t s = 0; s < SORA_COUNT(shapes); s++) {
        int64_t m = shapes[s][0], p = shapes[s][1], q = shapes[s][2];
        bench_op bare = { 0 }, adapted = { 0 }, compacted = { 0 };
        sora_status status = SORA_OK;
        char group[80];
        SORA_TRY(open_linear(state, m, p, q, 0, &bare, error));
        SORA_TRY(open_linear(state, m, p, q, RANK, &adapted, error));
        SORA_TRY(open_linear(state, m, p, q, COMPACTED, &compacted, error));
        double flops = 2.0 * (double)(m * p * q), extra = 2.0 * (double)(m * RANK * (p + q));
        const char *forward = "bare forward", *backward = "bare backward";
        bench_item items[] = {
            { .name = "bare forward", .flops = flops, .run = bench_op_forward, .self = &bare },
            { .name = "adapted forward", .flops = flops + extra, .beside = forward, .run = bench_op_forward, .self = &adapted },
            { .name = "compacted forward",
              .flops = flops + extra / 4,
              .beside = forward,
              .run = bench_op_forward,
              .self = &compacted },
            { .name = "bare backward", .flops = flops, .run = bench_op_backward, .self = &bare },
            { .name = "adapted backward",
              .flops = flops + 2 * extra,
              .beside = backward,
              .run = bench_op_backward,
              .self = &adapted },
            { .name = "compacted backward",
              .flops = flops + extra / 2,
              .beside = backward,
              .run = bench_op_backward,
              .self = &compacted },
        };
        snprintf(group, sizeof group, "linear %lld x %lld x %lld, rank %d", (long long)m, (long long)p, (long long)q, RANK);
        SORA_TRY(bench_group(state, group, items, SORA_COUNT(items), error));
    cleanup:
        bench_op_destroy(&bare);
        bench_op_destroy(&adapted);
        bench_op_destroy(&compacted);
        if (status != SORA_OK) return status;
    }
    return SORA_OK;
}
