/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_UPDATE_H
#define SORA_OP_UPDATE_H

#include "cl/launch.h"

/* Updates of flat ranges of parameters: value, gradient and moments are dense, of equal length (Adafactor's moments are not). No
 * op here reads anything on the host: the clip factor and the finite flag live in `control` on the device:
 *   control[0]  gradient factor = 1 / micro-batches · min(1, clip / norm)
 *   control[1]  1 while everything was finite; once 0 it stays 0 and no update happens any more
 *   control[2]  norm of the (averaged) gradient of this step */
#define SORA_CONTROL_ELEMENTS 4

typedef struct sora_update_range {
    sora_view value, gradient, moment1, moment2; /* moments: absent where the rule needs none */
    int64_t elements;
} sora_update_range;

/* control from the gradients (absent: none) and the loss (a scalar that must be finite): two passes in fixed order.
 * clip 0: none. gradient_scale: 1 / micro-batches. workspace: sora_gradient_norm_workspace() elements. (op gradient_norm) */
uint64_t sora_gradient_norm_workspace(void);
sora_status sora_gradient_norm(sora_context *context, const sora_view *gradients, const sora_view *loss, float clip,
                               float gradient_scale, const sora_view *control, const sora_view *workspace, sora_error *error);

/* AdamW (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2), decoupled decay, bias correction with step ≥ 1. (op adamw) */
typedef struct sora_adamw_desc {
    float lr, beta1, beta2, epsilon, weight_decay;
    uint32_t step;
} sora_adamw_desc;
sora_status sora_adamw(sora_context *context, const sora_update_range *range, const sora_adamw_desc *desc,
                       const sora_view *control, sora_error *error);

/* Adafactor (Shazeer & Stern, arXiv 1804.04235, algorithms 4 and 5) as Transformers computes it without first moment, parameter
 * scale and relative step. A parameter [..., p, q] is so many matrices [p, q], whose second moments are factored into moment1
 * [..., p] and moment2 [..., q]; a vector has moment1 of its own shape. No launch is for one parameter alone: a table on the
 * device says where each lies. (op adafactor) */
typedef struct sora_adafactor_param {
    uint64_t at, first_at, second_at; /* in the range's value and gradient, moment1, moment2 */
    sora_shape shape;
} sora_adafactor_param;
typedef struct sora_adafactor_sizes {
    int64_t count, elements;                       /* parameters, their elements */
    int64_t runs, tiles, columns, partials, means; /* units of the passes, and what they leave for the next */
} sora_adafactor_sizes;
typedef struct sora_adafactor_table {
    sora_buffer memory;
    sora_adafactor_sizes sizes;
    sora_view entries, partials, means, squares, scales;
} sora_adafactor_table;
void sora_adafactor_count(sora_adafactor_sizes *sizes, const sora_shape *shape); /* with one more parameter; zeroed at first */
uint64_t sora_adafactor_bytes(const sora_adafactor_sizes *sizes);                /* of the table */
sora_status sora_adafactor_create(sora_context *context, const sora_adafactor_param *params, size_t count,
                                  sora_adafactor_table *out, sora_error *error);
void sora_adafactor_destroy(sora_adafactor_table *table); /* accepts a zeroed one */

typedef struct sora_adafactor_desc {
    float lr, weight_decay;
    float decay_rate; /* the new share of a moment is step^-decay_rate */
    float epsilon;    /* added to squared gradients */
    float limit;      /* largest root mean square of a parameter's update before the learning rate */
    uint32_t step;    /* from 1 */
    bool relative;    /* lr times the root mean square of the parameter's values, at least 1e-3 (section 8 of the paper) */
} sora_adafactor_desc;
sora_status sora_adafactor(sora_context *context, const sora_update_range *range, const sora_adafactor_table *table,
                           const sora_adafactor_desc *desc, const sora_view *control, sora_error *error);

/* SGD as PyTorch's: d = grad + decay·w; m = momentum·m + d (first step: m = d); w −= lr·m. moment1 only. (op sgd) */
typedef struct sora_sgd_desc {
    float lr, momentum, weight_decay;
    uint32_t step;
} sora_sgd_desc;
sora_status sora_sgd(sora_context *context, const sora_update_range *range, const sora_sgd_desc *desc, const sora_view *control,
                     sora_error *error);

/* The gate's update with the proximal step fused (arXiv 2311.11696, eqs. 5 to 9; modes as shared facts name them):
 *   paper     g ← T_ξ(g − lr·∇)                                  soft threshold T_ξ
 *   adam      g ← T_ξ(Adam step)
 *   official  g ← Adam step of ∇ + λ₁·sign(g)/N; then shrink by ξ and zero what is below ξ after shrinking (|x| < 2ξ → 0)
 * (op gate) */
typedef enum sora_gate_mode { SORA_GATE_PAPER = 0, SORA_GATE_ADAM, SORA_GATE_OFFICIAL } sora_gate_mode;
typedef struct sora_gate_desc {
    sora_gate_mode mode;
    float lr, xi;                /* xi: the threshold itself (lr·λ where the mode says so is the caller's product) */
    float beta1, beta2, epsilon; /* adam, official */
    float l1;                    /* official: λ₁ / number of gates */
    uint32_t step;
} sora_gate_desc;
sora_status sora_gate(sora_context *context, const sora_update_range *range, const sora_gate_desc *desc, const sora_view *control,
                      sora_error *error);

/* Every element of a dense view becomes `value` (clEnqueueFillBuffer fails on some drivers above 2^31 bytes). (op fill) */
sora_status sora_fill(sora_context *context, const sora_view *view, float value, sora_error *error);

/* y = x between views of equal shape and any first stride. (op copy) */
sora_status sora_copy(sora_context *context, const sora_view *x, const sora_view *y, sora_error *error);

#endif
