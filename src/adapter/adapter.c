/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter/layer.h"

#include "base/random.h"
#include "graph/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void remove_factors(sora_layer *layer)
{
    sora_params *params = layer->owner->params;
    if (layer->down) sora_params_remove(params, layer->down, NULL);
    if (layer->up) sora_params_remove(params, layer->up, NULL);
    if (layer->gate) sora_params_remove(params, layer->gate, NULL);
    layer->down = layer->up = layer->gate = NULL;
}

void sora_layer_drop_adapter(sora_layer *layer)
{
    if (!layer->active) return;
    remove_factors(layer);
    layer->active = false;
    layer->rank = 0;
    sora_param_set_trainable(layer->weight, layer->weight_trained);
    if (layer->bias) sora_param_set_trainable(layer->bias, layer->bias_trained);
}

static sora_status add_param(sora_layer *layer, const char *suffix, sora_param_kind kind, sora_shape shape, sora_param **out,
                             sora_error *error)
{
    char *name = NULL;
    sora_status status = sora_format(&name, error, "%s.%s", layer->name, suffix);
    if (status == SORA_OK) status = sora_params_add(layer->owner->params, name, kind, shape, out, error);
    free(name);
    return status;
}

/* Adds zeroed W_d, W_u and g of the layer's rank (none at rank 0). */
static sora_status add_factors(sora_layer *layer, sora_error *error)
{
    sora_status status = SORA_OK;
    int r = layer->rank, k = layer->desc.kernel;
    if (r == 0) return SORA_OK;
    sora_shape down = k ? SORA_SHAPE(r, layer->desc.in, k, k) : SORA_SHAPE(r, layer->desc.in);
    SORA_TRY(add_param(layer, "down", SORA_PARAM_WEIGHT, down, &layer->down, error));
    sora_layer_pack_param(layer, layer->down, SORA_PACK_DOWN);
    SORA_TRY(add_param(layer, "up", SORA_PARAM_WEIGHT, SORA_SHAPE(layer->desc.out, r), &layer->up, error));
    sora_layer_pack_param(layer, layer->up, SORA_PACK_UP);
    if (layer->kind == SORA_ADAPTER_LORA) goto cleanup;
    SORA_TRY(add_param(layer, "gate", SORA_PARAM_GATE, SORA_SHAPE(r), &layer->gate, error));
    sora_layer_pack_param(layer, layer->gate, SORA_PACK_GATE);
cleanup:
    return status;
}

sora_status sora_layer_activate_pruned(sora_layer *layer, sora_adapter_kind kind, int rank_max, int rank, float alpha,
                                       float scale, float dropout, sora_error *error)
{
    sora_status status = sora_layer_require_host(layer, "activate an adapter", error);
    if (status != SORA_OK) return status;
    if (layer->active) return sora_fail(error, SORA_ERROR_ARGUMENT, "layer %s: has an active adapter already", layer->name);
    for (size_t i = 0; layer->pack && i < layer->owner->count; i++) {
        const sora_layer *other = layer->owner->items[i];
        if (other->pack == layer->pack && other->active && (other->kind != kind || other->dropout != dropout))
            return sora_fail(
                error, SORA_ERROR_ARGUMENT,
                "layer %s: shares its product with %s, whose adapter is of another kind or dropout; expected the same",
                layer->name, other->name);
    }
    int64_t limit = SORA_MIN((int64_t)layer->desc.out, sora_layer_columns(layer));
    if (rank < 0 || rank > rank_max || rank_max > limit)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "layer %s: rank %d of at most %d; expected 0 to %lld", layer->name, rank,
                         rank_max, (long long)limit);
    if (!isfinite(alpha) || !isfinite(scale) || !(dropout >= 0.0f && dropout < 1.0f))
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "layer %s: alpha %g, scale %g, dropout %g; expected finite values, dropout in [0, 1)", layer->name,
                         (double)alpha, (double)scale, (double)dropout);
    const sora_layer before = *layer;
    layer->weight_trained = sora_param_asked(layer->weight);
    layer->bias_trained = layer->bias && sora_param_trainable(layer->bias);
    layer->kind = kind;
    layer->rank_max = rank_max;
    layer->rank = rank;
    layer->alpha = alpha;
    layer->scale = scale;
    layer->dropout = dropout;
    layer->active = true;
    status = add_factors(layer, error);
    if (status != SORA_OK) {
        sora_layer_drop_adapter(layer);
        *layer = before;
        return status;
    }
    sora_param_set_trainable(layer->weight, false);
    if (layer->bias) sora_param_set_trainable(layer->bias, false);
    return SORA_OK;
}

sora_status sora_layer_activate_kept(sora_layer *layer, const sora_adapter_options *options, sora_error *error)
{
    if (options->rank < 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "layer %s: rank %d; expected 0 or more", layer->name, options->rank);
    int64_t q = sora_layer_columns(layer);
    int rank = (int)SORA_MIN((int64_t)options->rank, SORA_MIN((int64_t)layer->desc.out, q));
    float alpha = options->alpha;
    if (alpha == 0.0f) alpha = options->init == SORA_INIT_PAPER ? 16.0f : (float)rank;
    float scale = rank ? alpha / (float)rank : 1.0f;
    sora_status status = sora_layer_activate_pruned(layer, options->kind, rank, rank, alpha, scale, options->dropout, error);
    if (status != SORA_OK || rank == 0) return status;
    uint64_t seed = layer->owner->seed;
    sora_random_stream stream = { .seed = seed,
                                  .purpose = SORA_PURPOSE_INIT,
                                  .stream = sora_hash_name(sora_param_name(layer->down)) };
    float *down = sora_param_host(layer->down);
    double bound = 1.0 / sqrt((double)q); /* Kaiming uniform with a = √5: √(6 / ((1 + 5) · q)) */
    for (int64_t i = 0; i < rank * q; i++)
        down[i] = (float)(options->init == SORA_INIT_NORMAL ? sora_random_normal(&stream)
                                                            : (2.0 * sora_random_uniform(&stream) - 1.0) * bound);
    if (layer->gate) {
        sora_random_stream gates = { .seed = seed,
                                     .purpose = SORA_PURPOSE_INIT,
                                     .stream = sora_hash_name(sora_param_name(layer->gate)) };
        float *gate = sora_param_host(layer->gate);
        for (int i = 0; i < rank; i++) gate[i] = options->init == SORA_INIT_ONES ? 1.0f : (float)sora_random_normal(&gates);
    }
    return SORA_OK;
}

sora_status sora_layer_activate(sora_layer *layer, const sora_adapter_options *options, sora_error *error)
{
    sora_status status = sora_layer_activate_kept(layer, options, error);
    if (status == SORA_OK) sora_layer_forget(layer);
    return status;
}

sora_status sora_layer_copy_param(sora_param *param, float **out, sora_error *error)
{
    *out = NULL;
    if (!param) return SORA_OK;
    sora_shape shape = sora_param_shape(param);
    size_t n = (size_t)sora_shape_elements(&shape);
    sora_status status = sora_allocate(n, sizeof **out, sora_param_name(param), out, error);
    if (status == SORA_OK) memcpy(*out, sora_param_host(param), n * sizeof **out);
    return status;
}

static void free_undo(sora_layer_undo *undo)
{
    free(undo->weight);
    free(undo->down);
    free(undo->up);
    free(undo->gate);
    *undo = (sora_layer_undo) { 0 };
}

sora_status sora_layer_deactivate(sora_layer *layer, double *change, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_layer_undo undo = { 0 };
    float *merged = NULL;
    double *row = NULL, largest = 0.0;
    int64_t p = layer->desc.out, q = sora_layer_columns(layer);
    int r = layer->rank;
    SORA_TRY(sora_layer_require_host(layer, "merge", error));
    if (!layer->active) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "layer %s: has no active adapter to merge", layer->name);
    if (layer->desc.fixed)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT,
                  "layer %s: its weight is shared with another module, which a merge would change too", layer->name);
    if (sora_param_rounded(layer->weight))
        SORA_FAIL(error, SORA_ERROR_ARGUMENT,
                  "layer %s: its weight was rounded to fp16 on the device; merge the adapter into weights that are loaded again",
                  layer->name);
    SORA_TRY(sora_layer_copy_param(layer->weight, &undo.weight, error));
    SORA_TRY(sora_layer_copy_param(layer->down, &undo.down, error));
    SORA_TRY(sora_layer_copy_param(layer->up, &undo.up, error));
    SORA_TRY(sora_layer_copy_param(layer->gate, &undo.gate, error));
    SORA_TRY(sora_layer_copy_param(layer->weight, &merged, error));
    SORA_TRY(sora_allocate((size_t)q, sizeof *row, layer->name, &row, error));
    for (int64_t i = 0; i < p && r; i++) {
        memset(row, 0, (size_t)q * sizeof *row);
        for (int k = 0; k < r; k++) {
            double factor = (double)layer->scale * undo.up[i * r + k] * (undo.gate ? undo.gate[k] : 1.0f);
            for (int64_t j = 0; j < q; j++) row[j] += factor * undo.down[k * q + j];
        }
        for (int64_t j = 0; j < q; j++) {
            merged[i * q + j] = (float)(merged[i * q + j] + row[j]);
            if (!isfinite(merged[i * q + j]))
                SORA_FAIL(error, SORA_ERROR_NUMERIC, "layer %s: merging gives %g at row %lld, column %lld; the adapter stays",
                          layer->name, (double)merged[i * q + j], (long long)i, (long long)j);
            largest = fmax(largest, fabs(row[j]));
        }
    }
    memcpy(sora_param_host(layer->weight), merged, (size_t)(p * q) * sizeof *merged);
    int rank = layer->rank;
    sora_layer_drop_adapter(layer);
    layer->rank = rank;
    layer->merged = true;
    layer->undo = undo;
    undo = (sora_layer_undo) { 0 };
    if (change) *change = largest;
cleanup:
    free(row);
    free(merged);
    free_undo(&undo);
    return status;
}

sora_status sora_layer_unmerge(sora_layer *layer, sora_error *error)
{
    sora_status status = SORA_OK;
    int64_t p = layer->desc.out, q = sora_layer_columns(layer);
    const sora_layer_undo *undo = &layer->undo;
    int rank = layer->rank;
    if (!layer->merged) return sora_fail(error, SORA_ERROR_ARGUMENT, "layer %s: nothing to unmerge", layer->name);
    SORA_TRY(sora_layer_require_host(layer, "unmerge", error));
    SORA_TRY(
        sora_layer_activate_pruned(layer, layer->kind, layer->rank_max, rank, layer->alpha, layer->scale, layer->dropout, error));
    memcpy(sora_param_host(layer->weight), undo->weight, (size_t)(p * q) * sizeof(float));
    if (layer->down) memcpy(sora_param_host(layer->down), undo->down, (size_t)(rank * q) * sizeof(float));
    if (layer->up) memcpy(sora_param_host(layer->up), undo->up, (size_t)(p * rank) * sizeof(float));
    if (layer->gate) memcpy(sora_param_host(layer->gate), undo->gate, (size_t)rank * sizeof(float));
    sora_layer_forget(layer);
cleanup:
    return status;
}

void sora_layer_forget(sora_layer *layer)
{
    free_undo(&layer->undo);
    layer->merged = false;
}

sora_status sora_layer_keep_rows(sora_layer *layer, const bool *keep, sora_error *error)
{
    sora_status status = SORA_OK;
    int *list = NULL, count = 0;
    SORA_TRY(sora_layer_require_host(layer, "compact", error));
    SORA_TRY(sora_allocate((size_t)layer->rank, sizeof *list, layer->name, &list, error));
    for (int i = 0; i < layer->rank; i++)
        if (keep[i]) list[count++] = i;
    if (count == layer->rank) goto cleanup;
    if (count > 0) {
        sora_param_select(layer->down, 0, list, count);
        sora_param_select(layer->up, 1, list, count);
        sora_param_select(layer->gate, 0, list, count);
    } else {
        remove_factors(layer);
    }
    layer->rank = count;
cleanup:
    free(list);
    return status;
}

sora_status sora_layer_compact(sora_layer *layer, int *kept, sora_error *error)
{
    sora_status status = SORA_OK;
    bool *keep = NULL;
    SORA_TRY(sora_layer_require_host(layer, "compact", error));
    if (layer->gate) {
        SORA_TRY(sora_allocate((size_t)layer->rank, sizeof *keep, layer->name, &keep, error));
        const float *gate = sora_param_host(layer->gate);
        for (int i = 0; i < layer->rank; i++) keep[i] = gate[i] != 0.0f;
        SORA_TRY(sora_layer_keep_rows(layer, keep, error));
    }
    if (kept) *kept = layer->rank;
cleanup:
    free(keep);
    return status;
}
