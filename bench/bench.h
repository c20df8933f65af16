/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_BENCH_BENCH_H
#define SORA_BENCH_BENCH_H

#include "op/op.h"

#include <jansson.h>

/* Things that are timed beside each other: rounds go over all of them in turn, so that whatever the machine does meanwhile meets
 * each alike; only ratios within one group count. */
typedef struct bench_item {
    char name[96];
    double flops, bytes; /* of one run; 0: not known */
    const char *beside;  /* name of the item whose time ours is compared with; NULL: none */
    sora_status (*run)(void *self, int times, sora_error *error); /* and wait until done */
    /* Where memory happens to lie lets equal items differ by half a percent: every few rounds all leave theirs and take other,
     * each time another one first. NULL: they stay where they are */
    sora_status (*place)(void *self, sora_error *error);
    void (*leave)(void *self);
    void *self;
    double busy_after; /* seconds for which the next one isn't timed: this one's own threads spin on for a while */
    /* results, seconds of one run */
    double median, least, most;
    double ratio;                 /* of the other's time to ours (above 1 we are faster), the median of the rounds' own */
    double ratio_low, ratio_high; /* where that median lies with a confidence of 95 %; up to 7 rounds: all of them */
    size_t rounds;
} bench_item;

typedef struct bench_state {
    sora_context *context;
    double flops;        /* a second: the device's measured limit; 0 before */
    double seconds;      /* for a group */
    double enough;       /* that part up and down, within which a ratio has to be known before they are over */
    const char *network; /* whose steps run, and how many behind two that warm up */
    int steps;
    json_t *json; /* gets "group": [ ... ] */
} bench_state;

/* Measures, prints a table and adds to the JSON, with the seconds of each round as "times": at least 5 rounds of at least 40 ms an
 * item, more while `seconds` last, until every ratio is known. */
sora_status bench_group(bench_state *state, const char *group, bench_item *items, size_t count, sora_error *error);

sora_status bench_gemm(bench_state *state, sora_error *error);
sora_status bench_conv(bench_state *state, sora_error *error);
sora_status bench_adapter(bench_state *state, sora_error *error);
sora_status bench_lora(bench_state *state, sora_error *error);
sora_status bench_plan(bench_state *state, sora_error *error);
sora_status bench_step(bench_state *state, sora_error *error);

/* ---- An op with tensors of random numbers (op.c) ----------------------------------------------------------------- */

typedef struct bench_op {
    sora_context *context;
    const sora_op *op;
    const void *attributes;
    sora_op_shape_rule rule;
    sora_shape shapes[SORA_OP_MAX_INPUTS];
    sora_buffer buffers[2 * SORA_OP_MAX_INPUTS + 2 * SORA_OP_MAX_OUTPUTS + SORA_OP_MAX_SAVED + 3];
    size_t buffer_count;
    sora_view inputs[SORA_OP_MAX_INPUTS], input_gradients[SORA_OP_MAX_INPUTS];
    sora_view outputs[SORA_OP_MAX_OUTPUTS], output_gradients[SORA_OP_MAX_OUTPUTS];
    sora_view saved[SORA_OP_MAX_SAVED], workspace;
    sora_view frozen[2]; /* an input in panels, forward and back */
    int frozen_input;
} bench_op;

/* shapes[input_count], rank 0 for an absent input; gradients: bit i for input i. */
sora_status bench_op_create(sora_context *context, const sora_op *op, const void *attributes, const sora_shape *shapes,
                            int input_count, uint32_t gradients, bench_op *out, sora_error *error);
/* A weight as it stands while frozen. */
sora_status bench_op_freeze(bench_op *op, int input, sora_error *error);
void bench_op_destroy(bench_op *op); /* accepts a zeroed one */
sora_status bench_op_forward(void *self, int times, sora_error *error);
sora_status bench_op_backward(void *self, int times, sora_error *error);

/* A buffer of uniform random numbers in −1..1 as a dense view. */
sora_status bench_random(sora_context *context, sora_shape shape, sora_buffer *buffer, sora_view *view, sora_error *error);

#endif
