/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "op/ops.h"

#include <stdio.h>

/* The adapted linear beside the bare one with a frozen weight, whose way back is the gradient of x alone. */
sora_status bench_adapter(bench_state *state, sora_error *error)
{
    static const int64_t shapes[][3] = { { 2016, 512, 512 }, { 2016, 2048, 512 }, { 2016, 512, 2048 } }; /* rows, out, in */
    static const sora_linear_attributes bare_attributes = { 0 };
    static const sora_adapted_attributes adapted_attributes = { .scale = 1 };
    const int64_t r = 16;
    for (size_t s = 0; s < SORA_COUNT(shapes); s++) {
        int64_t m = shapes[s][0], p = shapes[s][1], q = shapes[s][2];
        const sora_shape inputs[] = {
            SORA_SHAPE(m, q), SORA_SHAPE(p, q), { 0 }, SORA_SHAPE(r, q), SORA_SHAPE(p, r), SORA_SHAPE(r)
        };
        bench_op bare = { 0 }, adapted = { 0 };
        sora_status status = SORA_OK;
        char group[80];
        SORA_TRY(bench_op_create(state->context, &sora_op_linear, &bare_attributes, inputs, 3, 1, &bare, error));
        SORA_TRY(bench_op_create(state->context, &sora_op_adapted_linear, &adapted_attributes, inputs, 6, 1 | 8 | 16 | 32,
                                 &adapted, error));
        SORA_TRY(bench_op_freeze(&bare, 1, error));
        SORA_TRY(bench_op_freeze(&adapted, 1, error));
        double flops = 2.0 * (double)(m * p * q), extra = 2.0 * (double)(m * r * (p + q));
        bench_item items[] = {
            { .name = "bare forward", .flops = flops, .run = bench_op_forward, .self = &bare },
            { .name = "adapted forward",
              .flops = flops + extra,
              .beside = "bare forward",
              .run = bench_op_forward,
              .self = &adapted },
            { .name = "bare backward", .flops = flops, .run = bench_op_backward, .self = &bare },
            { .name = "adapted backward",
              .flops = flops + 2 * extra,
              .beside = "bare backward",
              .run = bench_op_backward,
              .self = &adapted },
        };
        snprintf(group, sizeof group, "linear %lld x %lld x %lld, rank %lld", (long long)m, (long long)p, (long long)q,
                 (long long)r);
        SORA_TRY(bench_group(state, group, items, 4, error));
    cleanup:
        bench_op_destroy(&bare);
        bench_op_destroy(&adapted);
        if (status != SORA_OK) return status;
    }
    return SORA_OK;
}
