/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TESTS_CHECK_H
#define SORA_TESTS_CHECK_H

#include "op/ops.h"

/* One list of cases for every op: sora-check runs them against a double-precision reference, times them, or says what the device
 * takes. tests/op/NAME.c exports `const check_op check_NAME`; tests/op/meson.build lists the names.
 *
 * The harness gives every tensor a buffer of its own with guard bands, fills outputs, workspace, saved tensors and gradients of
 * activations with NaN, runs each case twice (equal to the bit), compares outputs and state with the reference, and gradients
 * with central differences of the reference. Gradients of parameters start from random numbers, because they accumulate. What an
 * op says it doesn't read in backward is NaN there. Workspace has exactly the size that the shape rule gave for the full batch.
 */

typedef struct check_values {
    float low, high;      /* uniform between them; both 0: −1 to 1 */
    float quantum;        /* above 0: multiples of it only (ties, zeros, targets of 0 and 1) */
    const float *special; /* a third of the elements takes one of these instead */
    int special_count;
} check_values;

typedef struct check_case {
    const char *label;
    sora_shape inputs[SORA_OP_MAX_INPUTS]; /* rank 0: absent */
    check_values values[SORA_OP_MAX_INPUTS];
    const void *attributes;
    bool evaluation;     /* instead of training; forward only */
    bool forward_only;   /* no gradients */
    bool exact_gradient; /* gradients from check_op.gradient: differences mean nothing at kinks */
    int64_t batch;       /* first dimension of the launch; 0: as planned in `inputs` */
    uint32_t first_sample;
    bool strided;        /* tensors that carry the batch are views with gaps between items, at odd offsets */
    uint32_t wanted[6];  /* sets of gradients (bit i: input i), ended by 0; none: all that exist, then each alone */
    int samples;         /* elements of each gradient that are compared; 0: all */
    bool as_gpu;         /* again with limits as a GPU has them */
    bool small;          /* quick enough for Oclgrind */
    bool perf;           /* timed in mode perf and run nowhere else */
    const char *refused; /* the shape rule must fail with this in its message */
} check_case;

/* What the reference sees: dense arrays in double precision, shapes of this batch. Absent inputs are NULL. */
typedef struct check_reference {
    const void *attributes;
    bool training;
    sora_shape input_shapes[SORA_OP_MAX_INPUTS], output_shapes[SORA_OP_MAX_OUTPUTS];
    double *inputs[SORA_OP_MAX_INPUTS]; /* state may be written */
    double *outputs[SORA_OP_MAX_OUTPUTS];
    /* for exact gradients only */
    const double *output_gradients[SORA_OP_MAX_OUTPUTS];
    double *input_gradients[SORA_OP_MAX_INPUTS]; /* written (without the start of accumulation); NULL: not wanted */
    uint64_t seed;
    uint32_t step, stream, first_sample;
} check_reference;

typedef enum check_kind { CHECK_OUTPUT, CHECK_STATE, CHECK_GRADIENT } check_kind;

/* |got − expected| ≤ 2⁻²⁴ · (absolute + relative · |expected|). NaN must meet NaN, infinities their sign. */
typedef struct check_tolerance {
    double absolute, relative;
} check_tolerance;

/* Arithmetic and least traffic of one run, for rates. */
typedef struct check_work {
    double flops, bytes;
} check_work;

typedef struct check_op {
    const sora_op *op;
    uint32_t batched; /* bit i: input i has the batch in its first dimension */
    uint32_t state;   /* bit i: forward writes input i */
    uint32_t integer; /* bit i: input i holds whole numbers, 4-byte integers on the device */
    const check_case *cases;
    size_t case_count;
    void (*reference)(const check_reference *r);
    void (*gradient)(const check_reference *r); /* NULL where no case is exact */
    /* Derived in a comment beside it; index: of the output or input. */
    check_tolerance (*tolerance)(const check_case *test, check_kind kind, int index);
    check_work (*work)(const check_case *test, bool backward); /* NULL where no case is timed */
} check_op;

/* A sum of `terms` products of magnitude 1 in 16 lanes and a tree: each term passes terms / 16 + 5 additions and a product or
 * two, and each rounds by at most the partial sum it is in. */
static inline check_tolerance check_sum_tolerance(double terms)
{
    return (check_tolerance) { terms * (terms / 16 + 8), 8 };
}

/* Elements of input i. */
static inline double check_elements(const check_case *test, int i)
{
    return (double)sora_shape_elements(&test->inputs[i]);
}

/* How the cases run: one context as the device is (as_cpu: with a CPU's limits, whatever it is), one with a GPU's limits. Limits,
 * filled by check_open. */
typedef struct check_session {
    sora_context *contexts[2];
    bool small; /* no guard bands: Oclgrind sees what is outside of a buffer */
} check_session;

sora_status check_open(const char *device, bool small, bool as_cpu, check_session *out, sora_error *error);
void check_close(check_session *session);

/* Each gives SORA_OK or a failure whose message says where; *share is the largest error as a share of its tolerance. */
sora_status check_forward(check_session *session, const check_op *op, const check_case *test, bool as_gpu, double *share,
                          sora_error *error);
sora_status check_backward(check_session *session, const check_op *op, const check_case *test, bool as_gpu, double *share,
                           sora_error *error);
sora_status check_refusal(check_session *session, const check_op *op, const check_case *test, sora_error *error);

/* True where the case has gradients to check. */
bool check_has_backward(const check_op *op, const check_case *test);

/* Device memory of the case in bytes by role; fails where the shape rule refuses it. */
typedef struct check_memory {
    uint64_t inputs, outputs, saved, forward_workspace, backward_workspace;
} check_memory;
sora_status check_support(check_session *session, const check_op *op, const check_case *test, check_memory *out,
                          sora_error *error);

/* Median seconds of one forward or backward (with every gradient) over about a third of a second. */
sora_status check_time(check_session *session, const check_op *op, const check_case *test, bool backward, double *seconds,
                       sora_error *error);

#endif
