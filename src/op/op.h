/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_OP_H
#define SORA_OP_OP_H

#include "base/memory.h"
#include "base/random.h"
#include "cl/launch.h"

/* An op declares its shape rule, what it keeps for backward, and its launches; it knows nothing of graphs. One op is
 * src/op/NAME.c beside kernels/NAME.cl beside tests/op/NAME.c, and exports `extern const sora_op sora_op_NAME` in op/ops.h
 * together with its attributes. src/graph wires ops; tests/op runs them bare.
 *
 * The gradient rule, said once: gradients of parameters accumulate (+=), gradients of activations are written (=).
 * Which inputs are parameters is fixed by the op (`parameters`). Only the gradients that are asked for are computed.
 *
 * Every tensor that carries the batch has it in its first dimension (or a multiple of it), and that dimension may be smaller in
 * a launch than when shapes were inferred; views may have a larger stride in the first dimension than dense ones, unless the op
 * says that it takes tensors of that rank `dense`. */

#define SORA_OP_MAX_INPUTS 8
#define SORA_OP_MAX_OUTPUTS 2
#define SORA_OP_MAX_SAVED 3

/* For the shape rule: in, then out. */
typedef struct sora_op_shape_rule {
    const void *attributes;
    const sora_device_limits *limits;
    bool training;
    uint32_t wanted; /* bit i: backward will be asked for the gradient of input i */
    int input_count;
    const sora_shape *inputs; /* rank 0: an optional input that is absent */
    /* results */
    int output_count;
    sora_shape outputs[SORA_OP_MAX_OUTPUTS];
    sora_shape saved[SORA_OP_MAX_SAVED]; /* kept from forward to backward (float or int); rank 0: none; only where training */
    uint32_t uses_outputs;               /* the op's, of which the rule may take away what these attributes don't need */
    uint64_t forward_workspace,
        backward_workspace; /* in elements of 4 bytes, scratch of one launch sequence, for the largest batch */
} sora_op_shape_rule;

/* For forward and backward. Views' shapes hold the real sizes of this batch. */
typedef struct sora_op_run {
    sora_context *context;
    const char *name; /* the node's: for labels and messages */
    const void *attributes;
    bool training;
    bool again; /* forward ran already, and gives its outputs once more: `saved` and state stand */
    int input_count;
    const sora_view *inputs;  /* memory NULL: absent */
    const sora_view *outputs; /* in backward: valid only where the rule's uses_outputs says so */
    const sora_view *saved;
    sora_view workspace;
    /* backward only */
    const sora_view *output_gradients; /* memory NULL: no gradient flows through that output */
    const sora_view *input_gradients;  /* memory NULL: not wanted */
    sora_view besides;                 /* to add to the gradient of input 0; memory NULL: nothing */
    /* random numbers: counter = (step, stream, sample, element / 4) */
    uint64_t seed;
    uint32_t step;
    uint32_t stream;       /* sora_hash_name(name of the node) */
    uint32_t first_sample; /* of this batch within the step: gradient accumulation draws the same numbers as one large batch */
} sora_op_run;

typedef struct sora_op {
    const char *name;
    uint32_t parameters;     /* bit i: input i is a parameter (its gradient accumulates) */
    uint32_t differentiable; /* bit i: a gradient for input i can be asked for */
    uint32_t uses_inputs;    /* bit i: backward reads input i */
    uint32_t uses_outputs;   /* bit i: backward reads output i (with some attributes: the shape rule says) */
    uint32_t passes;         /* bit i: the gradient of input i is that of output 0 as it is, and need not be asked for */
    uint32_t in_place;       /* bit i: output 0 may stand in input i's memory (same shape and strides) */
    uint32_t dense;          /* bit r: inputs, outputs and their gradients of rank r have no gaps between items */
    bool gradient_leading;   /* the gradient of input 0 may have its leading channels (dimension 1) alone: no more is wanted */
    bool gradient_in_place;  /* the gradient of input 0 may stand in the memory of the gradient of output 0 */
    bool gradient_adds;      /* the gradient of input 0 may have another added to it, and stand in that one's memory */
    bool cheap;              /* forward is a pass over memory: what it gives may be made again instead of kept (`again`) */
    bool random;             /* uses seed, step, stream, sample */
    sora_status (*infer)(sora_op_shape_rule *rule, sora_error *error);
    sora_status (*forward)(const sora_op_run *run, sora_error *error);
    sora_status (*backward)(const sora_op_run *run, sora_error *error); /* NULL: not differentiable */
} sora_op;

#endif
