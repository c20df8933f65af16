/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "op/ops.h"

#include <stdio.h>

/* 3 × 3 convolutions as unet-fc (first) and unet have them: images, side, channels in and out. */
static const struct {
    int64_t n, side, in, out;
} shapes[] = { { 8, 256, 3, 4 },    { 8, 256, 8, 4 },    { 8, 128, 8, 8 },    { 8, 64, 16, 16 },
               { 8, 32, 32, 32 },   { 8, 16, 64, 64 },   { 8, 8, 64, 64 },    { 4, 128, 64, 64 },
               { 4, 64, 128, 128 }, { 4, 32, 256, 256 }, { 4, 128, 128, 64 }, { 8, 16, 512, 512 } };

sora_status bench_conv(bench_state *state, sora_error *error)
{
    static const sora_conv2d_attributes attributes = { .kernel = 3 };
    for (size_t s = 0; s < SORA_COUNT(shapes); s++) {
        int64_t n = shapes[s].n, side = shapes[s].side, in = shapes[s].in, out = shapes[s].out;
        const sora_shape inputs[] = { SORA_SHAPE(n, in, side, side), SORA_SHAPE(out, in, 3, 3), { 0 } };
        bench_op data = { 0 }, weights = { 0 };
        sora_status status = SORA_OK;
        char group[80];
        SORA_TRY(bench_op_create(state->context, &sora_op_conv2d, &attributes, inputs, 3, 1, &data, error));
        SORA_TRY(bench_op_create(state->context, &sora_op_conv2d, &attributes, inputs, 3, 2, &weights, error));
        double flops = 18.0 * (double)(n * in * out * side * side);
        double bytes = 4.0 * (double)(n * (in + out) * side * side);
        bench_item items[] = {
            { .name = "forward", .flops = flops, .bytes = bytes, .run = bench_op_forward, .self = &data },
            { .name = "backward, data", .flops = flops, .bytes = bytes, .run = bench_op_backward, .self = &data },
            { .name = "backward, weights", .flops = flops, .bytes = bytes, .run = bench_op_backward, .self = &weights },
        };
        snprintf(group, sizeof group, "convolution %lld x %lld x %lld, %lld to %lld", (long long)n, (long long)side,
                 (long long)side, (long long)in, (long long)out);
        SORA_TRY(bench_group(state, group, items, 3, error));
    cleanup:
        bench_op_destroy(&data);
        bench_op_destroy(&weights);
        if (status != SORA_OK) return status;
    }
    return SORA_OK;
}
