/* SPDX-License-Identifier: Apache-2.0 */
#include "train/trainer_state.h"

#include "base/file.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char format[] = "soracl-checkpoint-1";

sora_status sora_trainer_state_create(const sora_layers *layers, sora_trainer_state *out, sora_error *error)
{
    sora_status status = SORA_OK;
    *out = (sora_trainer_state) { .plateau = sora_plateau_start(), .layer_count = layers->count };
    SORA_TRY(sora_allocate(layers->count, sizeof *out->zero_updates, "gates' history", &out->zero_updates, error));
    for (size_t i = 0; i < layers->count; i++)
        if (layers->items[i]->gate)
            SORA_TRY(sora_allocate((size_t)layers->items[i]->rank, sizeof **out->zero_updates, "gates' history",
                                   &out->zero_updates[i], error));
cleanup:
    if (status != SORA_OK) sora_trainer_state_free(out);
    return status;
}

void sora_trainer_state_free(sora_trainer_state *state)
{
    for (size_t i = 0; state->zero_updates && i < state->layer_count; i++) free(state->zero_updates[i]);
    free(state->zero_updates);
    *state = (sora_trainer_state) { 0 };
}

/* JSON has no infinity. */
static json_t *finite_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *history_to_json(const sora_trainer_state *state, const sora_layers *layers)
{
    json_t *all = json_object();
    for (size_t i = 0; i < state->layer_count; i++) {
        const sora_layer *layer = layers->items[i];
        if (!layer->gate || !state->zero_updates[i]) continue;
        json_t *rows = json_array();
        for (int r = 0; r < layer->rank; r++) json_array_append_new(rows, json_integer(state->zero_updates[i][r]));
        json_object_set_new(all, layer->name, rows);
    }
    return all;
}

sora_status sora_trainer_state_save(const sora_trainer_state *state, const sora_layers *layers, const char *folder,
                                    sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL, *text = NULL, data[17];
    snprintf(data, sizeof data, "%016llx", (unsigned long long)state->data_hash);
    json_t *best = state->has_best ? json_pack("{s:I,s:f,s:o}", "step", (json_int_t)state->best_step, "score", state->best_score,
                                               "loss", finite_or_null(state->best_loss))
                                   : json_null();
    json_t *root = json_pack("{s:s,s:s,s:I,s:I,s:i,s:b,s:{s:f,s:o,s:i},s:o,s:i,s:f,s:I,s:o}", "format", format, "data", data,
                             "step", (json_int_t)state->step, "optimizer_steps", (json_int_t)state->optimizer_steps, "moments",
                             (int)state->moments, "finished", state->finished, "plateau", "factor", state->plateau.factor, "best",
                             finite_or_null(state->plateau.best), "bad", state->plateau.bad, "best", best, "bad_evaluations",
                             state->bad_evaluations, "loss_sum", state->loss_sum, "loss_count", (json_int_t)state->loss_count,
                             "zero_updates", history_to_json(state, layers));
    text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
    if (!text) SORA_FAIL(error, SORA_ERROR_MEMORY, "%s: no host memory for state.json", folder);
    SORA_TRY(sora_format(&path, error, "%s/state.json", folder));
    SORA_TRY(sora_file_write(path, text, strlen(text), error));
cleanup:
    json_decref(root);
    free(path);
    free(text);
    return status;
}

static sora_status history_from_json(sora_trainer_state *state, const sora_layers *layers, json_t *all, const char *path,
                                     sora_error *error)
{
    for (size_t i = 0; i < state->layer_count; i++) {
        const sora_layer *layer = layers->items[i];
        if (!layer->gate) continue;
        json_t *rows = json_object_get(all, layer->name);
        if (!json_is_array(rows) || json_array_size(rows) != (size_t)layer->rank)
            return sora_fail(error, SORA_ERROR_INPUT, "%s: zero_updates of %s: %zu rows, expected %d", path, layer->name,
                             json_array_size(rows), layer->rank);
        for (int r = 0; r < layer->rank; r++)
            state->zero_updates[i][r] = (uint32_t)json_integer_value(json_array_get(rows, (size_t)r));
    }
    return SORA_OK;
}

sora_status sora_trainer_state_load(sora_trainer_state *state, const sora_layers *layers, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL;
    unsigned char *text = NULL;
    size_t bytes;
    json_t *root = NULL;
    json_error_t problem;
    const char *found = "", *data = NULL;
    json_int_t step, optimizer_steps, loss_count;
    json_t *plateau_best, *best, *best_loss, *history;
    int finished, moments;
    SORA_TRY(sora_format(&path, error, "%s/state.json", folder));
    SORA_TRY(sora_file_read(path, 64u << 20, &text, &bytes, error));
    root = json_loadb((char *)text, bytes, JSON_REJECT_DUPLICATES, &problem);
    if (!root) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: line %d: %s", path, problem.line, problem.text);
    if (json_unpack_ex(root, &problem, 0, "{s:s,s?s,s:I,s:I,s:i,s:b,s:{s:F,s:o,s:i},s:o,s:i,s:F,s:I,s:o}", "format", &found,
                       "data", &data, "step", &step, "optimizer_steps", &optimizer_steps, "moments", &moments, "finished",
                       &finished, "plateau", "factor", &state->plateau.factor, "best", &plateau_best, "bad", &state->plateau.bad,
                       "best", &best, "bad_evaluations", &state->bad_evaluations, "loss_sum", &state->loss_sum, "loss_count",
                       &loss_count, "zero_updates", &history) != 0)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: %s", path, problem.text);
    if (strcmp(found, format) != 0)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: format \"%.40s\", expected \"%s\"", path, found, format);
    if (step < 0 || step > UINT32_MAX || optimizer_steps < 0 || optimizer_steps > UINT32_MAX || loss_count < 0 ||
        loss_count > UINT32_MAX || moments < SORA_MOMENTS_NONE || moments > SORA_MOMENTS_FACTORED)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: a count is out of range", path);
    if (data) state->data_hash = strtoull(data, NULL, 16);
    state->step = (uint32_t)step;
    state->optimizer_steps = (uint32_t)optimizer_steps;
    state->loss_count = (uint32_t)loss_count;
    state->moments = (sora_moment_layout)moments;
    state->finished = finished;
    state->plateau.best = json_is_number(plateau_best) ? json_number_value(plateau_best) : INFINITY;
    state->has_best = json_is_object(best);
    state->best_score = json_number_value(json_object_get(best, "score"));
    best_loss = json_object_get(best, "loss");
    state->best_loss = json_is_number(best_loss) ? json_number_value(best_loss) : -INFINITY;
    state->best_step = (uint32_t)json_integer_value(json_object_get(best, "step"));
    SORA_TRY(history_from_json(state, layers, history, path, error));
cleanup:
    json_decref(root);
    free(text);
    free(path);
    return status;
}
