/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_OPTIMIZER_H
#define SORACL_OPTIMIZER_H

#include "soracl/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Updates a parameter set on the device: one launch for weights, one for norms and biases, one for gates (Adafactor: seven, seven
 * and one), however many parameters there are. Nothing here waits for
 * the device; once a loss or gradient was not finite no further update happens (sora_optimizer_read says so). */
typedef struct sora_optimizer sora_optimizer;

typedef enum sora_optimizer_kind {
    SORA_OPTIMIZER_ADAMW = 0,
    SORA_OPTIMIZER_SGD,
    SORA_OPTIMIZER_ADAFACTOR, /* arXiv 1804.04235 as T5 is fine-tuned with it: β₂ = 1 − t^−0.8, update's RMS at most 1, no
                                 momentum, the learning rate as given (1e-3 is usual); p + q numbers for a matrix [p, q] */
} sora_optimizer_kind;

/* How gates are updated (arXiv 2311.11696, eqs. 5 to 9; docs/sora.md has the three side by side). */
typedef enum sora_gate_update {
    SORA_GATE_UPDATE_PAPER = 0, /* gradient step, then soft threshold at ξ */
    SORA_GATE_UPDATE_ADAM,      /* Adam's step, then soft threshold at ξ */
    SORA_GATE_UPDATE_OFFICIAL,  /* Adam's step with λ₁·sign(g)/N, then the published code's operator: |g| < 2ξ → 0 */
} sora_gate_update;

typedef struct sora_optimizer_options {
    sora_optimizer_kind kind;
    bool scale_parameter;        /* adafactor: the rate is relative to the size of each parameter (T5's own) */
    float weight_decay;          /* on weights, not on norms, biases and gates */
    float momentum;              /* sgd; 0 is none */
    float beta1, beta2, epsilon; /* adamw, gates; 0: 0.9, 0.999, 1e-8 */
    float clip;                  /* largest global norm of the gradient; 0: none */
    sora_gate_update gate;
    float gate_l1; /* official: λ₁ */
} sora_optimizer_options;

/* Moments that sora_params_upload must take for these options. */
SORA_API sora_moment_layout sora_optimizer_moments(const sora_optimizer_options *options);

/* The set must be on the device and stay there while the optimiser lives. */
SORA_API sora_status sora_optimizer_create(sora_params *params, const sora_optimizer_options *options, sora_optimizer **out,
                                           sora_error *error);
SORA_API void sora_optimizer_destroy(sora_optimizer **optimizer);
/* What one takes beside the set's own memory. */
SORA_API uint64_t sora_optimizer_device_bytes(const sora_params *params, const sora_optimizer_options *options);

typedef struct sora_optimizer_rates {
    float lr;
    float gate_lr;
    float xi; /* threshold of this step: λ · gate_lr, or as given */
} sora_optimizer_rates;

/* One update from the gradients accumulated over `micro_batches` backward passes; `loss` is the last one's. Enqueues only. */
SORA_API sora_status sora_optimizer_step(sora_optimizer *optimizer, sora_graph *graph, sora_tensor *loss,
                                         const sora_optimizer_rates *rates, int micro_batches, sora_error *error);

/* Number of updates so far (bias correction); set on resume. */
SORA_API uint32_t sora_optimizer_steps(const sora_optimizer *optimizer);
SORA_API void sora_optimizer_set_steps(sora_optimizer *optimizer, uint32_t steps);

/* Waits for the device. *finite: false since a loss or gradient was not; *norm: of the last gradient, before clipping. */
SORA_API sora_status sora_optimizer_read(sora_optimizer *optimizer, bool *finite, float *norm, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
