/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/optimizer.h"

#include "base/memory.h"
#include "graph/graph.h"
#include "graph/params.h"
#include "op/update.h"
#include "train/optimizer_control.h"

#include <math.h>
#include <stdlib.h>

/* As Transformers has them. */
#define ADAFACTOR_DECAY_RATE 0.8f
#define ADAFACTOR_EPSILON 1e-30f
#define ADAFACTOR_LIMIT 1.0f

struct sora_optimizer {
    sora_params *params;
    sora_context *context;
    sora_optimizer_options options;
    uint32_t steps;
    int64_t gates;
    sora_buffer memory; /* control, then the norm's workspace */
    sora_view control, workspace;
    sora_adafactor_table tables[SORA_PARAM_GROUPS];
};

sora_moment_layout sora_optimizer_moments(const sora_optimizer_options *options)
{
    if (options->kind == SORA_OPTIMIZER_ADAFACTOR) return SORA_MOMENTS_FACTORED;
    if (options->kind == SORA_OPTIMIZER_ADAMW || options->gate != SORA_GATE_UPDATE_PAPER) return SORA_MOMENTS_TWO;
    return options->momentum != 0.0f ? SORA_MOMENTS_ONE : SORA_MOMENTS_NONE;
}

static uint64_t elements_needed(void)
{
    return SORA_CONTROL_ELEMENTS + sora_gradient_norm_workspace();
}

static bool in_group(const sora_param *param, sora_param_kind kind)
{
    return sora_param_trainable(param) && sora_param_kind_of(param) == kind;
}

uint64_t sora_optimizer_device_bytes(const sora_params *params, const sora_optimizer_options *options)
{
    uint64_t bytes = elements_needed() * sizeof(float);
    for (int kind = 0; options->kind == SORA_OPTIMIZER_ADAFACTOR && kind < SORA_PARAM_GATE; kind++) {
        sora_adafactor_sizes sizes = { 0 };
        for (size_t i = 0; i < sora_params_count(params); i++) {
            const sora_param *param = sora_params_at(params, i);
            sora_shape shape = sora_param_shape(param);
            if (in_group(param, (sora_param_kind)kind)) sora_adafactor_count(&sizes, &shape);
        }
        bytes += sora_adafactor_bytes(&sizes);
    }
    return bytes;
}

/* Adafactor's table of one group. */
static sora_status create_table(sora_optimizer *optimizer, sora_param_kind kind, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_params *params = optimizer->params;
    sora_adafactor_param *list = NULL;
    size_t count = 0;
    SORA_TRY(sora_allocate(sora_params_count(params), sizeof *list, "optimiser", &list, error));
    for (size_t i = 0; i < sora_params_count(params); i++) {
        const sora_param *param = sora_params_at(params, i);
        if (in_group(param, kind))
            list[count++] = (sora_adafactor_param) { .at = sora_param_view(param, SORA_PART_VALUE).offset,
                                                     .first_at = sora_param_view(param, SORA_PART_MOMENT1).offset,
                                                     .second_at = sora_param_view(param, SORA_PART_MOMENT2).offset,
                                                     .shape = sora_param_shape(param) };
    }
    SORA_TRY(sora_adafactor_create(optimizer->context, list, count, &optimizer->tables[kind], error));
cleanup:
    free(list);
    return status;
}

static sora_status check_options(const sora_optimizer_options *o, sora_error *error)
{
    bool rates = o->weight_decay >= 0.0f && o->momentum >= 0.0f && o->momentum < 1.0f && o->clip >= 0.0f && o->gate_l1 >= 0.0f;
    bool betas = o->beta1 >= 0.0f && o->beta1 < 1.0f && o->beta2 >= 0.0f && o->beta2 < 1.0f && o->epsilon > 0.0f;
    if (rates && betas) return SORA_OK;
    return sora_fail(
        error, SORA_ERROR_ARGUMENT,
        "optimiser: weight decay %g, momentum %g, betas %g and %g, epsilon %g, clip %g; expected none below 0, momentum and "
        "betas below 1",
        (double)o->weight_decay, (double)o->momentum, (double)o->beta1, (double)o->beta2, (double)o->epsilon, (double)o->clip);
}

sora_status sora_optimizer_create(sora_params *params, const sora_optimizer_options *options, sora_optimizer **out,
                                  sora_error *error)
{
    sora_status status = SORA_OK;
    sora_optimizer *optimizer = NULL;
    *out = NULL;
    SORA_TRY(sora_allocate(1, sizeof *optimizer, "optimiser", &optimizer, error));
    optimizer->params = params;
    optimizer->context = sora_params_context(params);
    optimizer->options = *options;
    sora_optimizer_options *o = &optimizer->options;
    if (o->beta1 == 0.0f) o->beta1 = 0.9f;
    if (o->beta2 == 0.0f) o->beta2 = 0.999f;
    if (o->epsilon == 0.0f) o->epsilon = 1e-8f;
    SORA_TRY(check_options(o, error));
    if (!sora_params_on_device(params))
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "optimiser: the parameters are on the host; upload them first");
    uint64_t elements = elements_needed();
    SORA_TRY(sora_buffer_create(optimizer->context, elements * sizeof(float), "optimiser's control", &optimizer->memory, error));
    optimizer->control = sora_view_dense(&optimizer->memory, 0, SORA_SHAPE(SORA_CONTROL_ELEMENTS));
    optimizer->workspace =
        sora_view_dense(&optimizer->memory, SORA_CONTROL_ELEMENTS, SORA_SHAPE((int64_t)(elements - SORA_CONTROL_ELEMENTS)));
    const float control[SORA_CONTROL_ELEMENTS] = { 1.0f, 1.0f, 0.0f, 0.0f };
    SORA_TRY(sora_view_write(optimizer->context, &optimizer->control, control, error));
    for (size_t i = 0; i < sora_params_count(params); i++) {
        const sora_param *param = sora_params_at(params, i);
        sora_shape shape = sora_param_shape(param);
        if (sora_param_kind_of(param) == SORA_PARAM_GATE && sora_param_trainable(param))
            optimizer->gates += sora_shape_elements(&shape);
    }
    if ((o->kind == SORA_OPTIMIZER_ADAFACTOR) != (sora_params_moments(params) == SORA_MOMENTS_FACTORED))
        SORA_FAIL(error, SORA_ERROR_ARGUMENT,
                  "optimiser: the parameters' moments are %s; Adafactor needs them factored, the others do not",
                  sora_params_moments(params) == SORA_MOMENTS_FACTORED ? "factored" : "not factored");
    if (o->kind == SORA_OPTIMIZER_ADAFACTOR) {
        SORA_TRY(create_table(optimizer, SORA_PARAM_WEIGHT, error));
        SORA_TRY(create_table(optimizer, SORA_PARAM_PLAIN, error));
    }
    *out = optimizer;
    optimizer = NULL;
cleanup:
    sora_optimizer_destroy(&optimizer);
    return status;
}

void sora_optimizer_destroy(sora_optimizer **optimizer)
{
    if (!optimizer || !*optimizer) return;
    for (int kind = 0; kind < SORA_PARAM_GROUPS; kind++) sora_adafactor_destroy(&(*optimizer)->tables[kind]);
    sora_buffer_destroy(&(*optimizer)->memory);
    free(*optimizer);
    *optimizer = NULL;
}

static sora_update_range group_range(const sora_params *params, sora_param_kind kind)
{
    sora_update_range range = { .value = sora_params_group(params, kind, SORA_PART_VALUE),
                                .gradient = sora_params_group(params, kind, SORA_PART_GRADIENT),
                                .moment1 = sora_params_group(params, kind, SORA_PART_MOMENT1),
                                .moment2 = sora_params_group(params, kind, SORA_PART_MOMENT2) };
    range.elements = range.value.memory ? sora_view_elements(&range.value) : 0;
    return range;
}

static sora_status update_plain(sora_optimizer *optimizer, sora_param_kind kind, float lr, sora_error *error)
{
    const sora_optimizer_options *o = &optimizer->options;
    sora_update_range range = group_range(optimizer->params, kind);
    float decay = kind == SORA_PARAM_WEIGHT ? o->weight_decay : 0.0f;
    if (range.elements == 0) return SORA_OK;
    if (o->kind == SORA_OPTIMIZER_SGD)
        return sora_sgd(optimizer->context, &range,
                        &(sora_sgd_desc) { .lr = lr, .momentum = o->momentum, .weight_decay = decay, .step = optimizer->steps },
                        &optimizer->control, error);
    if (o->kind == SORA_OPTIMIZER_ADAFACTOR)
        return sora_adafactor(optimizer->context, &range, &optimizer->tables[kind],
                              &(sora_adafactor_desc) { .lr = lr,
                                                       .relative = o->scale_parameter,
                                                       .weight_decay = decay,
                                                       .decay_rate = ADAFACTOR_DECAY_RATE,
                                                       .epsilon = ADAFACTOR_EPSILON,
                                                       .limit = ADAFACTOR_LIMIT,
                                                       .step = optimizer->steps },
                              &optimizer->control, error);
    return sora_adamw(optimizer->context, &range,
                      &(sora_adamw_desc) { .lr = lr,
                                           .beta1 = o->beta1,
                                           .beta2 = o->beta2,
                                           .epsilon = o->epsilon,
                                           .weight_decay = decay,
                                           .step = optimizer->steps },
                      &optimizer->control, error);
}

static sora_status update_gates(sora_optimizer *optimizer, const sora_optimizer_rates *rates, sora_error *error)
{
    const sora_optimizer_options *o = &optimizer->options;
    sora_update_range range = group_range(optimizer->params, SORA_PARAM_GATE);
    static const sora_gate_mode modes[] = { [SORA_GATE_UPDATE_PAPER] = SORA_GATE_PAPER,
                                            [SORA_GATE_UPDATE_ADAM] = SORA_GATE_ADAM,
                                            [SORA_GATE_UPDATE_OFFICIAL] = SORA_GATE_OFFICIAL };
    if (range.elements == 0) return SORA_OK;
    sora_gate_desc desc = { .mode = modes[o->gate],
                            .lr = rates->gate_lr,
                            .xi = rates->xi,
                            .beta1 = o->beta1,
                            .beta2 = o->beta2,
                            .epsilon = o->epsilon,
                            .l1 = o->gate_l1 / (float)optimizer->gates,
                            .step = optimizer->steps };
    return sora_gate(optimizer->context, &range, &desc, &optimizer->control, error);
}

sora_status sora_optimizer_step(sora_optimizer *optimizer, sora_graph *graph, sora_tensor *loss,
                                const sora_optimizer_rates *rates, int micro_batches, sora_error *error)
{
    sora_status status = SORA_OK;
    if (!(isfinite(rates->lr) && isfinite(rates->gate_lr) && rates->xi >= 0.0f && isfinite(rates->xi)) || micro_batches < 1)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "optimiser: learning rates %g and %g, threshold %g, %d micro-batches",
                         (double)rates->lr, (double)rates->gate_lr, (double)rates->xi, micro_batches);
    sora_view gradients = sora_params_gradients(optimizer->params), loss_view = sora_tensor_view(graph, loss);
    optimizer->steps++;
    SORA_TRY(sora_gradient_norm(optimizer->context, &gradients, &loss_view, optimizer->options.clip, 1.0f / (float)micro_batches,
                                &optimizer->control, &optimizer->workspace, error));
    SORA_TRY(update_plain(optimizer, SORA_PARAM_WEIGHT, rates->lr, error));
    SORA_TRY(update_plain(optimizer, SORA_PARAM_PLAIN, rates->lr, error));
    SORA_TRY(update_gates(optimizer, rates, error));
cleanup:
    return status;
}

uint32_t sora_optimizer_steps(const sora_optimizer *optimizer)
{
    return optimizer->steps;
}

void sora_optimizer_set_steps(sora_optimizer *optimizer, uint32_t steps)
{
    optimizer->steps = steps;
}

sora_view sora_optimizer_control(const sora_optimizer *optimizer)
{
    return optimizer->control;
}

sora_status sora_optimizer_read(sora_optimizer *optimizer, bool *finite, float *norm, sora_error *error)
{
    float control[SORA_CONTROL_ELEMENTS];
    sora_status status = sora_view_read(optimizer->context, &optimizer->control, control, error);
    if (status != SORA_OK) return status;
    *finite = control[1] != 0.0f;
    *norm = control[2];
    return SORA_OK;
}
