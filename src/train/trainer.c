/* SPDX-License-Identifier: Apache-2.0 */
#include "train/trainer.h"

#include "adapter/layer.h"
#include "graph/graph.h"
#include "soracl/optimizer.h"
#include "train/checkpoint.h"
#include "train/events.h"
#include "train/optimizer_control.h"
#include "train/run_folder.h"
#include "train/trainer_state.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ξ of the official gate mode where none is given: its published setting. */
#define OFFICIAL_XI 3e-4
/* Gates drawn from N(0, 1) that can move less than this in a whole run are almost never pruned. */
#define SMALL_SHRINK 0.1
/* Each further ξ of a sparsifying schedule takes this share of the first one's steps (the published 50 and 15 epochs). */
#define XI_SHARE 0.3
/* What is left of a run whose numbers are not finite any more, and how another may do better. */
#define STANDS "the last checkpoint stands. Try a lower --lr, a smaller --clip or a longer --warmup"

/* Losses and control of a step, read while the next one runs. */
typedef struct slot {
    float *losses; /* [accumulate] */
    float control[4];
    cl_event done;
    uint32_t step;
} slot;

typedef struct trainer {
    const sora_task *task;
    const sora_run_options *options;
    const char *run;
    const sora_watcher *watcher;
    sora_context *context;
    sora_micro_step last; /* batch that was run */
    sora_optimizer *optimizer;
    sora_optimizer_options optimizer_options;
    sora_events *events;
    sora_trainer_state state;
    slot slots[2];
    /* plan */
    uint32_t first_steps, next_steps, steps; /* of the first ξ, of each further one, of all */
    double xi_list[SORA_XI_MAX];
    int xi_count;
    /* since the last line of events.jsonl */
    double line_start, waited;
    uint32_t line_steps;
    uint64_t items;
    double last_norm;
    double *step_seconds; /* a step's mean between two lines: single steps are enqueued, not timed */
    size_t step_count, step_capacity;
    uint64_t predicted;
} trainer;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void tell(const trainer *t, const char *format, ...) SORA_PRINTF(2, 3);
static void tell(const trainer *t, const char *format, ...)
{
    char text[512];
    va_list arguments;
    if (!t->watcher || !t->watcher->message) return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    t->watcher->message(t->watcher->self, text);
}

/* ---- What is planned --------------------------------------------------------------------------------------------- */

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool has_gates(const trainer *t)
{
    return is(t->options->method, "sora");
}

static sora_schedule_kind schedule_kind(const char *name)
{
    return is(name, "linear")    ? SORA_SCHEDULE_LINEAR
           : is(name, "cosine")  ? SORA_SCHEDULE_COSINE
           : is(name, "plateau") ? SORA_SCHEDULE_PLATEAU
                                 : SORA_SCHEDULE_CONSTANT;
}

static sora_status plan_steps(trainer *t, sora_error *error)
{
    const sora_run_options *o = t->options;
    uint64_t batches = t->task->batches_per_epoch * (uint64_t)o->epochs, accumulate = (uint64_t)o->accumulate;
    uint64_t all = SORA_MAX(1, (batches + accumulate - 1) / accumulate);
    if (o->steps > 0 && all > (uint64_t)o->steps) all = (uint64_t)o->steps;
    t->first_steps = t->steps = (uint32_t)SORA_MIN(all, 2000000000u);
    if (!o->xi_schedule[0]) return SORA_OK;
    if (!has_gates(t)) return sora_fail(error, SORA_ERROR_ARGUMENT, "--xi-schedule needs gates: --method sora");
    sora_status status = sora_xi_list(o->xi_schedule, t->xi_list, &t->xi_count, error);
    if (status != SORA_OK) return status;
    t->next_steps = (uint32_t)SORA_MAX(1.0, XI_SHARE * t->first_steps);
    t->steps += t->next_steps * (uint32_t)(t->xi_count - 1);
    return SORA_OK;
}

/* Epochs that so many steps take: an epoch may end within a step. */
static double epochs_of(const trainer *t, uint32_t steps)
{
    return (double)steps * t->options->accumulate / (double)t->task->batches_per_epoch;
}

/* Which ξ of the schedule a step belongs to, and where in it. */
static int phase_of(const trainer *t, uint32_t step, uint32_t *within)
{
    *within = step;
    if (step < t->first_steps || t->xi_count == 0) return 0;
    *within = (step - t->first_steps) % t->next_steps;
    return 1 + (int)((step - t->first_steps) / t->next_steps);
}

static bool ends_phase(const trainer *t, uint32_t done)
{
    uint32_t within;
    return t->xi_count > 0 && done > 0 && (done == t->steps || phase_of(t, done, &within) != phase_of(t, done - 1, &within));
}

static sora_optimizer_rates rates_of(const trainer *t, uint32_t step)
{
    const sora_run_options *o = t->options;
    uint32_t within, steps;
    int phase = phase_of(t, step, &within);
    steps = phase ? t->next_steps : t->first_steps;
    double gate_lr = o->gate_lr > 0.0 ? o->gate_lr : o->lr;
    /* Only the first ξ starts from nothing and warms up. */
    sora_schedule weights = { schedule_kind(o->schedule), o->lr, steps, phase ? 0 : sora_warmup_steps(o->warmup, steps) };
    sora_schedule gates = { schedule_kind(o->gate_schedule), gate_lr, steps,
                            phase ? 0 : sora_warmup_steps(o->gate_warmup, steps) };
    sora_optimizer_rates rates = { .lr = (float)(sora_schedule_rate(&weights, within) * t->state.plateau.factor),
                                   .gate_lr = (float)sora_schedule_rate(&gates, within) };
    double xi = o->xi > 0.0 ? o->xi : is(o->gate, "official") ? OFFICIAL_XI : o->lambda * (double)rates.gate_lr;
    rates.xi = (float)(t->xi_count ? t->xi_list[phase] : xi);
    return rates;
}

/* λ·Ση_t: what a gate can lose in the whole run. */
static void tell_shrink(const trainer *t)
{
    double sum = 0.0;
    if (!has_gates(t) || is(t->options->gate, "official")) return;
    for (uint32_t step = 0; step < t->steps; step++) sum += (double)rates_of(t, step).xi;
    tell(t, "planned shrink of the gates, lambda x sum of their learning rates: %.3g over %u steps", sum, t->steps);
    bool normal = !is(t->options->init, "ones");
    if (sum > 0.0 && sum < SMALL_SHRINK && normal)
        tell(t,
             "warning: gates start from N(0, 1) and can shrink by %.3g only: hardly one will be pruned; raise --lambda or "
             "--gate-lr",
             sum);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

static uint64_t needed_bytes(const trainer *t, uint64_t arena)
{
    return sora_params_device_bytes(t->task->params, sora_optimizer_moments(&t->optimizer_options)) + arena +
           sora_optimizer_device_bytes(t->task->params, &t->optimizer_options);
}

static sora_status refuse_memory(trainer *t, uint64_t room, sora_error *error)
{
    uint64_t arena;
    double mib = 1048576.0;
    int batch = t->options->batch;
    char needs[48] = "more than one buffer may hold";
    if (t->predicted != UINT64_MAX) snprintf(needs, sizeof needs, "%.1f MiB", (double)t->predicted / mib);
    const char *name = sora_context_device(t->context)->name;
    while (batch > 1) {
        batch /= 2;
        t->task->drop(t->task->self);
        sora_status status = t->task->build(t->task->self, batch, &arena, error);
        if (status != SORA_OK && status != SORA_ERROR_MEMORY) return status;
        if (status == SORA_OK && needed_bytes(t, arena) <= room)
            return sora_fail(
                error, SORA_ERROR_MEMORY,
                "training needs %s, %s has %.1f MiB left; --batch %d would take %.1f MiB (--accumulate %d keeps the step)", needs,
                name, (double)room / mib, batch, (double)needed_bytes(t, arena) / mib,
                (t->options->accumulate * t->options->batch + batch - 1) / batch);
    }
    return sora_fail(error, SORA_ERROR_MEMORY,
                     "training needs %s, %s has %.1f MiB left, and --batch 1 does not fit either; try a smaller --size", needs,
                     name, (double)room / mib);
}

/* Graphs, parameters on the device, optimiser: at the start and after rows were dropped. */
static sora_status set_up(trainer *t, sora_error *error)
{
    sora_status status = SORA_OK;
    uint64_t arena = 0, room = sora_context_device(t->context)->limits.global_bytes - sora_context_memory(t->context).current;
    status = t->task->build(t->task->self, t->options->batch, &arena, error);
    if (status != SORA_OK && status != SORA_ERROR_MEMORY) return status;
    t->predicted = SORA_MAX(t->predicted, status == SORA_OK ? needed_bytes(t, arena) : UINT64_MAX);
    if (status != SORA_OK || t->predicted > room) return refuse_memory(t, room, error);
    SORA_TRY(sora_params_place(t->task->params, sora_optimizer_moments(&t->optimizer_options), error));
    SORA_TRY(t->task->prepare(t->task->self, error));
    t->predicted = SORA_MAX(t->predicted, needed_bytes(t, arena) + sora_context_memory(t->context).libraries);
    SORA_TRY(sora_params_upload(t->task->params, sora_optimizer_moments(&t->optimizer_options), error));
    SORA_TRY(sora_optimizer_create(t->task->params, &t->optimizer_options, &t->optimizer, error));
    sora_optimizer_set_steps(t->optimizer, t->state.optimizer_steps);
cleanup:
    return status;
}

static sora_status tear_down(trainer *t, sora_error *error)
{
    if (t->optimizer) t->state.optimizer_steps = sora_optimizer_steps(t->optimizer);
    sora_optimizer_destroy(&t->optimizer);
    t->task->drop(t->task->self);
    t->last = (sora_micro_step) { 0 };
    return sora_params_on_device(t->task->params) ? sora_params_download(t->task->params, error) : SORA_OK;
}

/* ---- One step ---------------------------------------------------------------------------------------------------- */

/* Runs the failed step again, which is possible because no update happened since, and names what went wrong. */
static sora_status report_nonfinite(trainer *t, uint32_t step, sora_error *error)
{
    sora_status status = SORA_OK;
    char *where = NULL;
    SORA_TRY(sora_context_finish(t->context, error)); /* the next step's batches are read until then */
    SORA_TRY(t->task->seek(t->task->self, (uint64_t)step * (uint64_t)t->options->accumulate, error));
    for (int micro = 0; micro < t->options->accumulate && !where; micro++) {
        SORA_TRY(t->task->micro_step(t->task->self, step, (uint32_t)(micro * t->options->batch), &t->last, error));
        SORA_TRY(sora_graph_find_nonfinite(t->last.graph, &where, error));
    }
    status = sora_fail(error, SORA_ERROR_NUMERIC, "step %u: %s is not finite; " STANDS, step + 1,
                       where ? where : "the norm of the gradient");
cleanup:
    free(where);
    return status;
}

static sora_status collect(trainer *t, slot *s, sora_error *error)
{
    sora_status status = SORA_OK;
    if (!s->done) return SORA_OK;
    SORA_TRY(sora_event_wait(t->context, &s->done, error));
    if (s->control[1] == 0.0f) return report_nonfinite(t, s->step, error);
    for (int i = 0; i < t->options->accumulate; i++) t->state.loss_sum += (double)s->losses[i] / t->options->accumulate;
    t->state.loss_count++;
    t->last_norm = (double)s->control[2];
cleanup:
    return status;
}

static sora_status drain(trainer *t, sora_error *error)
{
    slot *older = &t->slots[t->state.step & 1], *newer = &t->slots[(t->state.step + 1) & 1];
    sora_status status = collect(t, older, error);
    return status == SORA_OK ? collect(t, newer, error) : status;
}

static sora_status step_once(trainer *t, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_task *task = t->task;
    uint32_t step = t->state.step;
    slot *s = &t->slots[step & 1];
    SORA_TRY(collect(t, s, error));
    SORA_TRY(sora_params_zero_gradients(task->params, error));
    for (int micro = 0; micro < t->options->accumulate; micro++) {
        SORA_TRY(task->micro_step(task->self, step, (uint32_t)(micro * t->options->batch), &t->last, error));
        sora_view loss = sora_tensor_view(t->last.graph, t->last.loss);
        SORA_TRY(sora_view_read_async(t->context, &loss, &s->losses[micro], NULL, error));
        t->items += (uint64_t)t->last.items;
        t->waited += t->last.waited_seconds;
    }
    sora_optimizer_rates rates = rates_of(t, step);
    SORA_TRY(sora_optimizer_step(t->optimizer, t->last.graph, t->last.loss, &rates, t->options->accumulate, error));
    sora_view control = sora_optimizer_control(t->optimizer);
    s->step = step;
    SORA_TRY(sora_view_read_async(t->context, &control, s->control, &s->done, error));
    t->state.step++;
cleanup:
    return status;
}

static int slower_first(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_step(trainer *t)
{
    if (t->step_count == 0) return 0.0;
    qsort(t->step_seconds, t->step_count, sizeof *t->step_seconds, slower_first);
    return t->step_seconds[t->step_count / 2];
}

/* ---- Lines, evaluations, checkpoints ----------------------------------------------------------------------------- */

static sora_status count_ranks(const trainer *t, int *kept, int *most, uint64_t *parameters_kept, sora_error *error)
{
    *kept = *most = 0;
    *parameters_kept = 0;
    for (size_t i = 0; i < sora_layers_count(t->task->layers); i++) {
        sora_layer_info info;
        sora_status status = sora_layer_describe(sora_layers_at(t->task->layers, i), &info, error);
        if (status != SORA_OK) return status;
        if (!info.active) continue;
        *kept += info.rank_kept;
        *most += info.rank_max;
        *parameters_kept += info.parameters_kept;
    }
    return SORA_OK;
}

static sora_status write_line(trainer *t, bool *stop, sora_error *error)
{
    sora_status status = sora_reserve(&t->step_seconds, &t->step_capacity, t->step_count + 1, sizeof *t->step_seconds, error);
    if (status != SORA_OK) return status;
    double seconds = now() - t->line_start, loss = t->state.loss_count ? t->state.loss_sum / t->state.loss_count : NAN;
    double epoch = epochs_of(t, t->state.step), rate = seconds > 0.0 ? (double)t->items / seconds : 0.0;
    double waiting = seconds > 0.0 ? SORA_MIN(1.0, t->waited / seconds) : 0.0;
    sora_optimizer_rates rates = rates_of(t, t->state.step - 1);
    double items_left = (double)(t->steps - t->state.step) * t->options->batch * t->options->accumulate;
    sora_progress progress = { .step = t->state.step,
                               .steps = t->steps,
                               .epoch = epoch,
                               .loss = loss,
                               .lr = (double)rates.lr,
                               .gate_lr = (double)rates.gate_lr,
                               .xi = (double)rates.xi,
                               .gradient_norm = t->last_norm,
                               .items_per_second = rate,
                               .seconds_left = rate > 0.0 ? items_left / rate : 0.0,
                               .waiting_share = waiting };
    if (t->line_steps > 0) t->step_seconds[t->step_count++] = seconds / t->line_steps;
    status = sora_events_write(
        t->events,
        json_pack("{s:s,s:I,s:f,s:f,s:f,s:o,s:o,s:f,s:f,s:f}", "event", "step", "step", (json_int_t)t->state.step, "epoch", epoch,
                  "loss", loss, "lr", (double)rates.lr, "gate_lr", has_gates(t) ? json_real((double)rates.gate_lr) : json_null(),
                  "xi", has_gates(t) ? json_real((double)rates.xi) : json_null(), "gradient_norm", t->last_norm,
                  is(t->task->name, "unet") ? "images_per_second" : "texts_per_second", rate, "waiting_share", waiting),
        error);
    t->state.loss_sum = 0.0;
    t->state.loss_count = 0;
    t->items = 0;
    t->line_steps = 0;
    t->waited = 0.0;
    t->line_start = now();
    if (t->watcher && t->watcher->progress && !t->watcher->progress(t->watcher->self, &progress)) *stop = true;
    return status;
}

static json_t *number_or_null(bool present, double value)
{
    return present ? json_integer((json_int_t)value) : json_null();
}

/* The task's evaluation, where it can be written and compared: JSON has no NaN, and nothing is better or worse than one. */
static sora_status measure(const trainer *t, sora_evaluation *out, sora_error *error)
{
    sora_status status = t->task->evaluate(t->task->self, out, error);
    if (status != SORA_OK) return status;
    if (!isfinite(out->loss) || !isfinite(out->score))
        return sora_fail(error, SORA_ERROR_NUMERIC, "step %u: the evaluation's %s is not finite; " STANDS, t->state.step,
                         isfinite(out->loss) ? "score" : "loss");
    return out->fields ? SORA_OK : sora_fail(error, SORA_ERROR_MEMORY, "no host memory for an evaluation's figures");
}

static sora_status evaluate(trainer *t, bool *stop, bool *improved, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_evaluation result = { 0 };
    int kept, most;
    uint64_t parameters;
    double start = now();
    *improved = false;
    SORA_TRY(measure(t, &result, error));
    SORA_TRY(count_ranks(t, &kept, &most, &parameters, error));
    if (result.warning[0]) tell(t, "warning: step %u: %s", t->state.step, result.warning);
    bool adapters = sora_run_has_adapters(t->options);
    const char *kind = ends_phase(t, t->state.step) ? "xi" : "evaluation";
    json_t *line = json_pack("{s:s,s:I,s:f,s:o,s:o,s:o}", "event", kind, "step", (json_int_t)t->state.step, "epoch",
                             epochs_of(t, t->state.step), "rank_kept", number_or_null(adapters, kept), "rank_max",
                             number_or_null(adapters, most), "parameters_kept", number_or_null(adapters, (double)parameters));
    if (ends_phase(t, t->state.step)) json_object_set_new(line, "xi", json_real((double)rates_of(t, t->state.step - 1).xi));
    if (line) json_object_update(line, result.fields);
    SORA_TRY(sora_events_write(t->events, line, error));
    /* Scores may stand still while much is learned: a hand IoU is 0 until the first pixel passes the threshold. */
    *improved = !t->state.has_best || result.score > t->state.best_score ||
                (result.score == t->state.best_score && result.loss < t->state.best_loss);
    if (*improved) {
        t->state.has_best = true;
        t->state.best_score = result.score;
        t->state.best_loss = result.loss;
        t->state.best_step = t->state.step;
        t->state.bad_evaluations = 0;
    } else {
        t->state.bad_evaluations++;
    }
    if (is(t->options->schedule, "plateau") && sora_plateau_update(&t->state.plateau, t->options->lr, result.loss))
        tell(t, "step %u: no better loss for %d evaluations; learning rate times %.3g from here", t->state.step,
             SORA_PLATEAU_PATIENCE, t->state.plateau.factor);
    sora_progress progress = { .step = t->state.step,
                               .steps = t->steps,
                               .epoch = epochs_of(t, t->state.step),
                               .loss = result.loss,
                               .rank_kept = adapters ? kept : 0,
                               .rank_max = adapters ? most : 0,
                               .quality = result.quality };
    if (t->watcher && t->watcher->progress && !t->watcher->progress(t->watcher->self, &progress)) *stop = true;
    /* Evaluation is no training time. */
    t->line_start += now() - start;
cleanup:
    json_decref(result.fields);
    return status;
}

static sora_status save(trainer *t, sora_error *error)
{
    sora_status status = SORA_OK;
    char *folder = NULL;
    double start = now();
    uint32_t phase_ends[SORA_XI_MAX];
    for (int i = 0; i < t->xi_count; i++) phase_ends[i] = t->first_steps + (uint32_t)i * t->next_steps;
    if (t->optimizer) t->state.optimizer_steps = sora_optimizer_steps(t->optimizer);
    t->state.moments = sora_optimizer_moments(&t->optimizer_options);
    SORA_TRY(sora_events_sync(t->events, error));
    SORA_TRY(sora_checkpoint_begin(t->run, t->state.step, &folder, error));
    SORA_TRY(t->task->save(t->task->self, folder, error));
    SORA_TRY(sora_moments_save(t->task->params, t->state.moments, folder, error));
    SORA_TRY(sora_trainer_state_save(&t->state, t->task->layers, folder, error));
    SORA_TRY(sora_checkpoint_commit(t->run, t->state.step, error));
    if (t->state.has_best && t->state.best_step == t->state.step)
        SORA_TRY(sora_checkpoint_set_best(t->run, t->state.step, error));
    SORA_TRY(sora_checkpoint_prune(t->run, t->options->keep, phase_ends, (size_t)t->xi_count, error));
    t->line_start += now() - start;
cleanup:
    if (status != SORA_OK && folder) sora_checkpoint_abandon(t->run, t->state.step);
    if (status == SORA_ERROR_NUMERIC && error) {
        sora_error found = *error;
        sora_fail(error, status, "step %u: %s; " STANDS, t->state.step, found.message);
    }
    free(folder);
    return status;
}

/* ---- Dropping ranks ---------------------------------------------------------------------------------------------- */

/* Counts for how many updates each gate has been 0, as seen every `since` updates; *drop where one reached the limit. */
static sora_status watch_gates(trainer *t, uint32_t since, bool *drop, sora_error *error)
{
    *drop = false;
    for (size_t i = 0; i < t->state.layer_count; i++) {
        sora_layer *layer = t->task->layers->items[i];
        float *gates = NULL;
        if (!layer->gate || !t->state.zero_updates[i]) continue;
        sora_status status = sora_allocate((size_t)layer->rank, sizeof *gates, layer->name, &gates, error);
        if (status == SORA_OK) status = sora_layer_gates(layer, gates, error);
        for (int r = 0; status == SORA_OK && r < layer->rank; r++) {
            uint32_t *zero = &t->state.zero_updates[i][r];
            *zero = gates[r] == 0.0f ? *zero + since : 0;
            *drop |= *zero >= (uint32_t)t->options->drop_after;
        }
        free(gates);
        if (status != SORA_OK) return status;
    }
    return SORA_OK;
}

/* After the last compaction no gate is 0. */
static void forget_history(trainer *t)
{
    for (size_t i = 0; i < t->state.layer_count; i++) {
        const sora_layer *layer = t->task->layers->items[i];
        for (int r = 0; t->state.zero_updates[i] && r < layer->rank; r++) t->state.zero_updates[i][r] = 0;
    }
}

static sora_status drop_rows(trainer *t, sora_error *error)
{
    sora_status status = SORA_OK;
    bool *keep = NULL;
    int dropped = 0;
    SORA_TRY(tear_down(t, error));
    for (size_t i = 0; i < t->state.layer_count; i++) {
        sora_layer *layer = t->task->layers->items[i];
        int rank = layer->rank, left = 0;
        if (!layer->gate || !t->state.zero_updates[i]) continue;
        free(keep);
        SORA_TRY(sora_allocate((size_t)rank, sizeof *keep, layer->name, &keep, error));
        uint32_t *zero = t->state.zero_updates[i];
        for (int r = 0; r < rank; r++) {
            keep[r] = zero[r] < (uint32_t)t->options->drop_after;
            if (keep[r]) zero[left++] = zero[r];
        }
        SORA_TRY(sora_layer_keep_rows(layer, keep, error));
        dropped += rank - left;
    }
    SORA_TRY(set_up(t, error));
    tell(t, "step %u: %d ranks dropped for good", t->state.step, dropped);
cleanup:
    free(keep);
    return status;
}

/* ---- The run ----------------------------------------------------------------------------------------------------- */

/* every 0: where an epoch ends. */
static bool due(const trainer *t, uint32_t done, int every)
{
    return every > 0 ? done % (uint32_t)every == 0 : floor(epochs_of(t, done)) > floor(epochs_of(t, done - 1));
}

/* Dead rows go, and the last checkpoint says that the run is finished: whatever is killed before goes on from an earlier one. */
static sora_status finish(trainer *t, sora_error *error)
{
    sora_status status = SORA_OK;
    SORA_TRY(tear_down(t, error));
    for (size_t i = 0; i < sora_layers_count(t->task->layers); i++)
        SORA_TRY(sora_layer_compact(sora_layers_at(t->task->layers, i), NULL, error));
    t->state.finished = true;
    forget_history(t);
    SORA_TRY(save(t, error));
cleanup:
    return status;
}

/* What follows a step: lines, evaluation, checkpoint, dropped rows, stops. */
static sora_status after_step(trainer *t, bool *stop, sora_error *error)
{
    sora_status status = SORA_OK;
    uint32_t done = t->state.step;
    bool last = done == t->steps, improved = false, drop = false;
    bool line = last || due(t, done, t->options->log_every), phase_end = ends_phase(t, done);
    bool evaluation = last || phase_end || due(t, done, t->options->eval_every);
    bool checkpoint = last || phase_end || due(t, done, t->options->save_every);
    if (t->watcher && t->watcher->stop && t->watcher->stop(t->watcher->self)) *stop = true;
    if (line || evaluation || checkpoint || *stop) SORA_TRY(drain(t, error));
    if (line) SORA_TRY(write_line(t, stop, error));
    if (evaluation) SORA_TRY(evaluate(t, stop, &improved, error));
    if (t->options->patience > 0 && t->state.bad_evaluations >= t->options->patience && !last) {
        tell(t, "step %u: no better evaluation in %d; stopping early", done, t->options->patience);
        t->steps = done;
        last = true;
    }
    if (t->options->drop_after > 0 && has_gates(t) && line && !last) {
        /* The last line before this one may be less than log-every back only at the end, which `last` excludes. */
        SORA_TRY(watch_gates(t, (uint32_t)t->options->log_every, &drop, error));
        if (drop) SORA_TRY(drop_rows(t, error));
        if (drop && sora_params_trainable_elements(t->task->params) == 0) {
            tell(t, "step %u: every rank is 0; nothing is left to train", done);
            t->steps = done;
            last = true;
            if (!evaluation) SORA_TRY(evaluate(t, stop, &improved, error));
        }
    }
    if (last)
        SORA_TRY(finish(t, error));
    else if (checkpoint || improved || *stop)
        SORA_TRY(save(t, error));
cleanup:
    return status;
}

static sora_status train_loop(trainer *t, sora_error *error)
{
    sora_status status = SORA_OK;
    bool stop = false, improved;
    t->line_start = now();
    if (sora_params_trainable_elements(t->task->params) == 0) {
        tell(t, "rank 0 everywhere: there is nothing to train");
        SORA_TRY(evaluate(t, &stop, &improved, error));
        return finish(t, error);
    }
    while (t->state.step < t->steps) {
        SORA_TRY(step_once(t, error));
        t->line_steps++;
        SORA_TRY(after_step(t, &stop, error));
        if (stop && !t->state.finished)
            SORA_FAIL(error, SORA_ERROR_INTERRUPTED, "stopped after step %u of %u; --resume %s goes on from there", t->state.step,
                      t->steps, t->run);
    }
cleanup:
    return status;
}

static sora_status go_on(trainer *t, sora_error *error)
{
    sora_status status = SORA_OK;
    uint32_t *steps = NULL;
    size_t count;
    char *folder = NULL;
    SORA_TRY(sora_checkpoint_list(t->run, &steps, &count, error));
    if (count > 0) {
        SORA_TRY(sora_format(&folder, error, "%s/checkpoint-%u", t->run, steps[count - 1]));
        SORA_TRY(t->task->load(t->task->self, folder, error));
    }
    SORA_TRY(sora_trainer_state_create(t->task->layers, &t->state, error));
    t->state.data_hash = t->task->data_hash;
    if (count == 0) goto cleanup;
    SORA_TRY(sora_trainer_state_load(&t->state, t->task->layers, folder, error));
    if (t->state.step != steps[count - 1])
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s/state.json: is of step %u; expected %u, as the folder is called", folder,
                  t->state.step, steps[count - 1]);
    if (t->state.moments != sora_optimizer_moments(&t->optimizer_options))
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: holds moments of layout %d, this run's optimiser has %d", folder,
                  (int)t->state.moments, (int)sora_optimizer_moments(&t->optimizer_options));
    if (!t->state.finished) SORA_TRY(sora_moments_load(t->task->params, t->state.moments, folder, error));
    /* A kill between a checkpoint and its pointer is made good here. */
    if (t->state.has_best && t->state.best_step == t->state.step)
        SORA_TRY(sora_checkpoint_set_best(t->run, t->state.step, error));
    tell(t, t->state.finished ? "the run is finished already, at step %u" : "going on from step %u", t->state.step);
cleanup:
    if (status == SORA_ERROR_INPUT && count > 1 && error) {
        size_t length = strlen(error->message);
        snprintf(error->message + length, sizeof error->message - length, "; remove checkpoint-%u to go on from checkpoint-%u",
                 steps[count - 1], steps[count - 2]);
    }
    free(folder);
    free(steps);
    return status;
}

/* Another order or other samples would follow than those that the run's steps and results stand for. */
static sora_status check_data(const trainer *t, sora_error *error)
{
    uint64_t now = t->task->data_hash, then = t->state.data_hash;
    if (then == now) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INPUT,
                     "%s: its data changed: hash %016llx when it was saved, %016llx now; go on with what it began with, or "
                     "begin another run",
                     t->run, (unsigned long long)then, (unsigned long long)now);
}

static sora_optimizer_options optimizer_options(const sora_run_options *o)
{
    return (sora_optimizer_options) { .kind = is(o->optimizer, "sgd")         ? SORA_OPTIMIZER_SGD
                                              : is(o->optimizer, "adafactor") ? SORA_OPTIMIZER_ADAFACTOR
                                                                              : SORA_OPTIMIZER_ADAMW,
                                      .scale_parameter = o->scale_parameter,
                                      .weight_decay = (float)o->weight_decay,
                                      .momentum = is(o->optimizer, "sgd") ? (float)o->momentum : 0.0f,
                                      .clip = (float)o->clip,
                                      .gate = is(o->gate, "adam")       ? SORA_GATE_UPDATE_ADAM
                                              : is(o->gate, "official") ? SORA_GATE_UPDATE_OFFICIAL
                                                                        : SORA_GATE_UPDATE_PAPER,
                                      .gate_l1 = (float)o->lambda };
}

/* Ranks may have gone since the run began: its first event has the number. */
static uint64_t trainable_at_first(const trainer *t, const char *events)
{
    json_t *start = t->state.step > 0 ? json_load_file(events, JSON_DISABLE_EOF_CHECK, NULL) : NULL,
           *number = json_object_get(start, "parameters_trainable");
    uint64_t count = number ? (uint64_t)json_integer_value(number) : sora_params_trainable_elements(t->task->params);
    json_decref(start);
    return count;
}

sora_status sora_train(const sora_task *task, const sora_run_options *options, const char *run, bool made_room,
                       const sora_watcher *watcher, sora_run_result *result, sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL;
    trainer t = { .task = task,
                  .options = options,
                  .run = run,
                  .watcher = watcher,
                  .context = task->context,
                  .optimizer_options = optimizer_options(options) };
    *result = (sora_run_result) { .rank_max = -1, .rank_kept = -1 };
    sora_context_reset_peak(t.context);
    sora_process_reset_peak();
    SORA_TRY(plan_steps(&t, error));
    for (int i = 0; i < 2; i++)
        SORA_TRY(sora_allocate((size_t)options->accumulate, sizeof(float), "losses", &t.slots[i].losses, error));
    SORA_TRY(go_on(&t, error));
    SORA_TRY(check_data(&t, error));
    if (sora_run_frozen_dtype(options) == SORA_F16) status = sora_params_set_frozen_dtype(task->params, SORA_F16, error);
    if (status != SORA_OK) {
        sora_error_prefix(error, "--weights fp16");
        goto cleanup;
    }
    SORA_TRY(sora_format(&path, error, "%s/events.jsonl", run));
    result->parameters_trainable = trainable_at_first(&t, path);
    result->finished = !t.state.finished;
    SORA_TRY(set_up(&t, error));
    if (!t.state.finished) {
        SORA_TRY(sora_events_open(path, t.state.step, &t.events, error));
        if (t.state.step == 0) {
            const sora_device *device = sora_context_device(t.context);
            SORA_TRY(sora_events_write(t.events,
                                       json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:I}", "event", "start", "task", task->name,
                                                 "version", SORA_VERSION, "device", device->name, "driver", device->driver,
                                                 "platform", device->platform, "steps", (json_int_t)t.steps,
                                                 "parameters_trainable", (json_int_t)result->parameters_trainable),
                                       error));
            if (made_room) SORA_TRY(sora_run_began(run, error));
            tell_shrink(&t);
        }
        SORA_TRY(task->seek(task->self, (uint64_t)t.state.step * (uint64_t)options->accumulate, error));
        SORA_TRY(train_loop(&t, error));
    } else {
        /* Its last evaluation again, which is the result; events.jsonl has it already. */
        sora_evaluation evaluation = { 0 };
        status = measure(&t, &evaluation, error);
        json_decref(evaluation.fields);
        if (status != SORA_OK) goto cleanup;
    }
    result->steps = t.state.step;
    result->best_step = t.state.best_step;
    result->seconds_per_step = median_step(&t);
    result->device_bytes_predicted = t.predicted;
    result->device_bytes_peak = sora_context_memory(t.context).peak;
    result->process_bytes_peak = sora_process_bytes_peak();
    result->parameters_kept = result->parameters_trainable;
    if (sora_run_has_adapters(t.options))
        SORA_TRY(count_ranks(&t, &result->rank_kept, &result->rank_max, &result->parameters_kept, error));
cleanup:
    /* A step that failed half way has losses on their way that no event tells of. */
    sora_context_finish(t.context, NULL);
    for (int i = 0; i < 2; i++) {
        if (t.slots[i].done) sora_event_wait(t.context, &t.slots[i].done, NULL);
        free(t.slots[i].losses);
    }
    sora_error ignored;
    sora_status down = tear_down(&t, &ignored);
    if (status == SORA_OK && down != SORA_OK) {
        status = down;
        if (error) *error = ignored;
    }
    sora_events_close(&t.events);
    sora_trainer_state_free(&t.state);
    free(t.step_seconds);
    free(path);
    return status;
}
