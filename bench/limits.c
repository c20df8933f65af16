/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "cl/context.h"

#include <stdio.h>

#define CHAINS 12
#define ROUNDS 65536
#define COPIED ((int64_t)1 << 24) /* floats */

typedef struct limits {
    sora_context *context;
    sora_buffer from, to;
    sora_view x, y;
    char options[128];
    size_t items;
    int width;
} limits;

static sora_status launch(limits *l, const char *kernel, size_t global, const sora_argument *arguments, int times,
                          sora_error *error)
{
    const sora_launch_desc desc = {
        .file = "limits", .kernel = kernel, .options = l->options, .global = { global }, .arguments = arguments
    };
    for (int i = 0; i < times; i++) {
        sora_status status = sora_launch(l->context, &desc, error);
        if (status != SORA_OK) return status;
    }
    return sora_context_finish(l->context, error);
}

static sora_status run_fma(void *self, int times, sora_error *error)
{
    limits *l = self;
    return launch(l, "fma_rate", l->items,
                  SORA_ARGUMENTS(SORA_VIEW(&l->y), SORA_FLOAT(0.999f), SORA_FLOAT(0.001f), SORA_INT(ROUNDS)), times, error);
}

static sora_status run_copy(void *self, int times, sora_error *error)
{
    limits *l = self;
    return launch(l, "copy_rate", (size_t)(COPIED / l->width), SORA_ARGUMENTS(SORA_VIEW(&l->x), SORA_VIEW(&l->y)), times, error);
}

static sora_status run_nothing(void *self, int times, sora_error *error)
{
    limits *l = self;
    return launch(l, "nothing", 1, SORA_ARGUMENTS(SORA_VIEW(&l->y)), times, error);
}

sora_status bench_limits(bench_state *state, sora_error *error)
{
    sora_status status = SORA_OK;
    limits l = { 0 };
    const sora_device *device = sora_context_device(state->context);
    char index[16];
    /* A context of its own, whose kernels are the bench's. */
    snprintf(index, sizeof index, "%d", device->index);
    SORA_TRY(sora_context_create(&(sora_context_options) { .device = index, .kernels = BENCH_KERNELS }, &l.context, error));
    l.width = device->limits.float_width >= 16 ? 16 : device->limits.float_width >= 8 ? 8 : 4;
    l.items = (size_t)device->limits.compute_units * (device->limits.type == SORA_DEVICE_CPU ? 4 : 2048);
    snprintf(l.options, sizeof l.options, "-D CHAINS=%d -D VECTOR=float%d -D VLOAD=vload%d -D VSTORE=vstore%d", CHAINS, l.width,
             l.width, l.width);
    SORA_TRY(bench_random(l.context, SORA_SHAPE(COPIED), &l.from, &l.x, error));
    SORA_TRY(bench_random(l.context, SORA_SHAPE(COPIED), &l.to, &l.y, error));
    bench_item items[] = {
        { .name = "multiply-adds in registers",
          .flops = 2.0 * CHAINS * l.width * ROUNDS * (double)l.items,
          .run = run_fma,
          .self = &l },
        { .name = "copy of 64 MiB", .bytes = 8.0 * COPIED, .run = run_copy, .self = &l },
        { .name = "launch of an empty kernel", .run = run_nothing, .self = &l },
    };
    SORA_TRY(bench_group(state, "limits", items, 3, error));
    state->flops = items[0].flops / items[0].median;
    state->bandwidth = items[1].bytes / items[1].median;
cleanup:
    sora_buffer_destroy(&l.from);
    sora_buffer_destroy(&l.to);
    if (l.context) sora_context_destroy(&l.context);
    return status;
}
