/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/params_structure.h"

#include <stdlib.h>
#include <string.h>

sora_status sora_params_create(sora_context *context, sora_params **out, sora_error *error)
{
    sora_status status = sora_allocate(1, sizeof **out, "parameter set", out, error);
    if (status != SORA_OK) return status;
    (*out)->context = context;
    (*out)->moments = SORA_MOMENTS_TWO;
    return SORA_OK;
}

static void drop_host(sora_param *param, int first_part)
{
    if (first_part == SORA_PART_VALUE && param->borrowed) param->host[SORA_PART_VALUE] = NULL;
    if (first_part == SORA_PART_VALUE) param->borrowed = false;
    for (int part = first_part; part < SORA_PART_GRADIENT; part++) {
        free(param->host[part]);
        param->host[part] = NULL;
    }
}

static void free_param(sora_param *param)
{
    drop_host(param, SORA_PART_VALUE);
    free(param->name);
    free(param);
}

void sora_params_destroy(sora_params **pointer)
{
    sora_params *params = *pointer;
    if (!params) return;
    sora_params_free_device(params);
    for (size_t i = 0; i < params->count; i++) free_param(params->items[i]);
    sora_weights_close(&params->weights);
    free(params->items);
    free(params);
    *pointer = NULL;
}

sora_status sora_params_require_host(const sora_params *params, const char *name, const char *verb, sora_error *error)
{
    if (!params->on_device) return SORA_OK;
    return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: parameters are on the device; download them before one is %s", name, verb);
}

sora_status sora_params_add(sora_params *params, const char *name, sora_param_kind kind, sora_shape shape, sora_param **out,
                            sora_error *error)
{
    sora_status status = SORA_OK;
    sora_param *param = NULL;
    char text[80];
    if (out) *out = NULL;
    SORA_TRY(sora_params_require_host(params, name, "added", error));
    if (!*name) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "a parameter needs a name");
    if (sora_params_find(params, name)) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: there is a parameter of that name", name);
    int64_t elements = sora_shape_elements(&shape);
    if (elements <= 0)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: shape %s has no elements or too many", name, sora_shape_text(&shape, text));
    SORA_TRY(sora_reserve(&params->items, &params->capacity, params->count + 1, sizeof *params->items, error));
    SORA_TRY(sora_allocate(1, sizeof *param, name, &param, error));
    param->params = params;
    param->kind = kind;
    param->shape = shape;
    param->elements = elements;
    param->asked = param->trainable = kind != SORA_PARAM_STATE;
    SORA_TRY(sora_duplicate(name, &param->name, error));
    SORA_TRY(sora_allocate((size_t)elements, sizeof(float), name, &param->host[0], error));
    params->items[params->count++] = param;
    if (out) *out = param;
    param = NULL;
cleanup:
    if (param) free_param(param);
    return status;
}

sora_status sora_params_remove(sora_params *params, sora_param *param, sora_error *error)
{
    sora_status status = sora_params_require_host(params, param->name, "removed", error);
    if (status != SORA_OK) return status;
    size_t at = 0;
    while (at < params->count && params->items[at] != param) at++;
    if (at == params->count) return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: not in this set", param->name);
    memmove(&params->items[at], &params->items[at + 1], (params->count - at - 1) * sizeof *params->items);
    params->count--;
    free_param(param);
    return SORA_OK;
}

size_t sora_params_count(const sora_params *params)
{
    return params->count;
}

sora_param *sora_params_at(const sora_params *params, size_t index)
{
    return params->items[index];
}

sora_param *sora_params_find(const sora_params *params, const char *name)
{
    for (size_t i = 0; i < params->count; i++)
        if (strcmp(params->items[i]->name, name) == 0) return params->items[i];
    return NULL;
}

const char *sora_param_name(const sora_param *param)
{
    return param->name;
}

sora_shape sora_param_shape(const sora_param *param)
{
    return param->shape;
}

sora_param_kind sora_param_kind_of(const sora_param *param)
{
    return param->kind;
}

bool sora_param_trainable(const sora_param *param)
{
    return param->trainable;
}

bool sora_param_asked(const sora_param *param)
{
    return param->asked;
}

/* After a change of one of them. */
static void settle_pack(sora_params *params, int pack)
{
    bool all = true;
    for (size_t i = 0; i < params->count; i++)
        if (params->items[i]->pack == pack) all &= params->items[i]->asked;
    for (size_t i = 0; i < params->count; i++)
        if (params->items[i]->pack == pack) params->items[i]->trainable = all;
}

void sora_param_set_trainable(sora_param *param, bool trainable)
{
    if (param->params->on_device || param->kind == SORA_PARAM_STATE) return;
    param->asked = param->trainable = trainable;
    if (param->pack) settle_pack(param->params, param->pack);
}

void sora_params_freeze(sora_params *params)
{
    for (size_t i = 0; i < params->count; i++) sora_param_set_trainable(params->items[i], false);
}

float *sora_param_host(sora_param *param)
{
    return param->host[0];
}

bool sora_param_is_factored(const sora_param *param, sora_moment_layout layout)
{
    return layout == SORA_MOMENTS_FACTORED && param->kind != SORA_PARAM_GATE;
}

sora_shape sora_param_moment_shape(const sora_param *param, sora_moment_layout layout, int which)
{
    sora_shape shape = param->shape;
    int rank = shape.rank, whole = SORA_MIN((int)layout, 2); /* gates have two where others have factors */
    if (sora_param_is_factored(param, layout)) whole = rank < 2;
    if (which != 1 && which != 2) return (sora_shape) { 0 };
    if (which <= whole) return shape;
    if (!sora_param_is_factored(param, layout) || rank < 2) return (sora_shape) { 0 };
    if (which == 2) shape.dim[rank - 2] = shape.dim[rank - 1];
    shape.dim[rank - 1] = 0;
    shape.rank = rank - 1;
    return shape;
}

/* Shape of a value, moment or gradient. */
sora_shape sora_param_part_shape(const sora_param *param, sora_moment_layout layout, int part)
{
    bool moment = part == SORA_PART_MOMENT1 || part == SORA_PART_MOMENT2;
    return moment ? sora_param_moment_shape(param, layout, part) : param->shape;
}

/* 0 where there is no such part. */
int64_t sora_param_part_elements(const sora_param *param, sora_moment_layout layout, int part)
{
    sora_shape shape = sora_param_part_shape(param, layout, part);
    int64_t elements = shape.rank > 0;
    for (int i = 0; i < shape.rank; i++) elements *= shape.dim[i];
    return elements;
}

/* Bytes of it on the host. */
size_t sora_param_host_bytes(const sora_param *param, int part)
{
    return (size_t)sora_param_part_elements(param, param->params->moments, part) * sizeof(float);
}

sora_status sora_param_host_moment(sora_param *param, int which, float **out, sora_error *error)
{
    sora_status status = sora_params_require_host(param->params, param->name, "read", error);
    *out = NULL;
    if (status == SORA_OK && sora_param_moment_shape(param, param->params->moments, which).rank == 0)
        status = sora_fail(error, SORA_ERROR_ARGUMENT, "%s: no moment %d", param->name, which);
    if (status == SORA_OK && !param->host[which])
        status = sora_allocate(sora_param_host_bytes(param, which), 1, param->name, &param->host[which], error);
    if (status == SORA_OK) *out = param->host[which];
    return status;
}

void sora_params_drop_host(sora_params *params, int first_part)
{
    for (size_t i = 0; i < params->count; i++) drop_host(params->items[i], first_part);
    if (first_part == SORA_PART_VALUE) sora_weights_close(&params->weights);
}

/* Whether moments of one layout are still good in the other. */
bool sora_moments_carry_over(sora_moment_layout a, sora_moment_layout b)
{
    return (a == SORA_MOMENTS_FACTORED) == (b == SORA_MOMENTS_FACTORED);
}

sora_status sora_params_set_moments(sora_params *params, sora_moment_layout layout, sora_error *error)
{
    if (params->on_device) return sora_fail(error, SORA_ERROR_ARGUMENT, "moments: the parameters are on the device");
    if (!sora_moments_carry_over(params->moments, layout)) sora_params_drop_host(params, SORA_PART_MOMENT1);
    params->moments = layout;
    return SORA_OK;
}

static void select_part(float *data, const sora_shape *shape, int axis, const int *list, int count)
{
    int64_t outer = 1, inner = 1, old = shape->dim[axis];
    for (int i = 0; i < axis; i++) outer *= shape->dim[i];
    for (int i = axis + 1; i < shape->rank; i++) inner *= shape->dim[i];
    for (int64_t o = 0; data && o < outer; o++)
        for (int i = 0; i < count; i++)
            memmove(data + (o * count + i) * inner, data + (o * old + list[i]) * inner, (size_t)inner * sizeof *data);
}

static double mean_of(const float *data, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)data[i];
    return n ? sum / (double)n : 0.0;
}

/* Factored moments stand for V = rows · columns / mean(rows). When some rows (or columns) go, the other factor is the mean over
 * those that stay, so that V of these is what it was. Axis: the last but one or the last of the parameter. */
static void select_factored(sora_param *param, int axis, const int *list, int count)
{
    int rank = param->shape.rank, chosen = axis == rank - 2 ? SORA_PART_MOMENT1 : SORA_PART_MOMENT2;
    sora_shape shape = sora_param_moment_shape(param, SORA_MOMENTS_FACTORED, chosen);
    float *kept = param->host[chosen], *other = param->host[SORA_PART_MOMENT1 + SORA_PART_MOMENT2 - chosen];
    int64_t matrices = 1, old = shape.dim[rank - 2], across = param->shape.dim[axis == rank - 2 ? rank - 1 : rank - 2];
    if (!kept) return;
    for (int i = 0; i < rank - 2; i++) matrices *= shape.dim[i];
    for (int64_t m = 0; m < matrices; m++) {
        double before = mean_of(kept + m * old, old), sum = 0.0;
        for (int i = 0; i < count; i++) sum += (double)kept[m * old + list[i]];
        for (int64_t j = 0; other && count > 0 && before > 0.0 && j < across; j++)
            other[m * across + j] = (float)((double)other[m * across + j] * (sum / count / before));
    }
    select_part(kept, &shape, rank - 2, list, count);
}

void sora_param_select(sora_param *param, int axis, const int *list, int count)
{
    sora_moment_layout layout = param->params->moments;
    select_part(param->host[0], &param->shape, axis, list, count);
    bool factored = sora_param_is_factored(param, layout) && param->shape.rank > 1 && axis >= param->shape.rank - 2;
    if (factored) select_factored(param, axis, list, count);
    for (int part = SORA_PART_MOMENT1; !factored && part <= SORA_PART_MOMENT2; part++) {
        sora_shape shape = sora_param_moment_shape(param, layout, part);
        if (shape.rank > 0) select_part(param->host[part], &shape, axis, list, count);
    }
    param->shape.dim[axis] = count;
    param->elements = sora_param_part_elements(param, layout, SORA_PART_VALUE);
}

void sora_param_set_pack(sora_param *param, int pack, int place)
{
    if (param->params->on_device) return;
    param->pack = pack;
    param->place = place;
    settle_pack(param->params, pack);
}

void sora_param_set_product(sora_param *param)
{
    param->product = true;
}

void sora_param_set_convolution(sora_param *param)
{
    param->convolution = true;
}

void sora_param_set_table(sora_param *param)
{
    param->table = true;
}

bool sora_param_rounded(const sora_param *param)
{
    return param->rounded;
}

sora_status sora_params_set_frozen_dtype(sora_params *params, sora_dtype dtype, sora_error *error)
{
    if (dtype != SORA_F32 && dtype != SORA_F16)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "frozen weights of dtype %d; expected fp32 or fp16", (int)dtype);
    if (params->placed)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "frozen weights: the parameters have a place on the device already");
    bool any = dtype == SORA_F32;
    for (size_t i = 0; !any && i < params->count; i++) {
        const sora_param *p = params->items[i];
        any = !p->trainable && (p->product || p->table);
    }
    if (!any) return sora_fail(error, SORA_ERROR_ARGUMENT, "no linear layer or embedding of this network has frozen weights");
    params->frozen_dtype = dtype;
    return SORA_OK;
}

bool sora_params_joined(sora_param *const *list, int count)
{
    for (int i = 1; i < count; i++)
        if (!sora_param_beside(list[0], list[i]) || list[i]->place <= list[i - 1]->place) return false;
    return count > 0;
}

/* Whether both stand in one run of memory. */
bool sora_param_beside(const sora_param *a, const sora_param *b)
{
    return a == b || (a->pack != 0 && a->pack == b->pack);
}

bool sora_params_leads_pack(const sora_params *params, size_t i)
{
    for (size_t j = 0; params->items[i]->pack && j < i; j++)
        if (sora_param_beside(params->items[i], params->items[j])) return false;
    return true;
}
sora_param *sora_param_next_beside(const sora_params *params, const sora_param *head, int after)
{
    sora_param *next = NULL;
    for (size_t j = 0; j < params->count; j++) {
        sora_param *p = params->items[j];
        if (sora_param_beside(head, p) && p->place > after && (!next || p->place < next->place)) next = p;
    }
    return next;
}

sora_context *sora_params_context(const sora_params *params)
{
    return params->context;
}

sora_moment_layout sora_params_moments(const sora_params *params)
{
    return params->moments;
}

uint64_t sora_params_trainable_elements(const sora_params *params)
{
    uint64_t elements = 0;
    for (size_t i = 0; i < params->count; i++)
        if (params->items[i]->trainable) elements += (uint64_t)params->items[i]->elements;
    return elements;
}
