/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/program.h"
#include "graph/params_structure.h"
#include "op/gemm.h"
#include "op/range.h"
#include "op/update.h"
#include "op/winograd.h"

#include <stdlib.h>
#include <string.h>

/* Parameters start at multiples of this many elements, a common cache line twice over. The padding is 0 and every update keeps
 * it. */
#define ALIGNMENT 32

int64_t sora_params_padded(int64_t elements)
{
    return (elements + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void sora_params_free_device(sora_params *params)
{
    for (int g = 0; g < SORA_PARAM_GROUPS; g++) {
        for (int i = 0; i < SORA_PART_GRADIENT; i++) sora_buffer_destroy(&params->groups[g].parts[i]);
        params->groups[g] = (sora_param_group) { 0 };
    }
    sora_buffer_destroy(&params->gradients);
    for (size_t i = 0; i < params->frozen_count; i++) sora_buffer_destroy(&params->frozen[i]);
    free(params->frozen);
    params->frozen = NULL;
    params->frozen_count = 0;
    params->placed = params->on_device = false;
}

/* What a part of item i and of all that stand beside it takes in its group. Values, gradients and whole moments lie alike;
 * factored ones have no padding. */
static int64_t room_of(const sora_params *params, size_t i, sora_moment_layout moments, int part)
{
    const sora_param *head = params->items[i];
    bool moment = part == SORA_PART_MOMENT1 || part == SORA_PART_MOMENT2;
    int64_t elements = 0;
    for (size_t j = i; j < (head->pack ? params->count : i + 1); j++)
        if (sora_param_beside(head, params->items[j])) elements += sora_param_part_elements(params->items[j], moments, part);
    return moment && sora_param_is_factored(head, moments) ? elements : sora_params_padded(elements);
}

static void place(sora_param *head, sora_moment_layout moments, int part, uint64_t offset)
{
    sora_param *p = head->pack ? sora_param_next_beside(head->params, head, -1) : head;
    while (p) {
        p->offsets[part] = offset;
        offset += (uint64_t)sora_param_part_elements(p, moments, part);
        p = head->pack ? sora_param_next_beside(head->params, head, p->place) : NULL;
    }
}

static sora_status read_part(const sora_param *param, const sora_view *view, float *out, sora_error *error)
{
    return param->trainable ? sora_view_read(param->params->context, view, out, error) : sora_frozen_read(param, out, error);
}

typedef int64_t extents[SORA_PARAM_GROUPS][SORA_PARTS]; /* elements of every part of every group */

/* Gives every parameter its offsets; elements of each group, and of the frozen buffers in sizes[] (at most params->count). */
static size_t lay_out(const sora_params *params, sora_moment_layout moments, bool assign, extents groups, uint64_t *sizes)
{
    uint64_t limit =
        params->context ? sora_buffer_most(&sora_context_device(params->context)->limits) / sizeof(float) : UINT64_MAX;
    size_t buffers = 0;
    memset(groups, 0, sizeof(extents));
    for (size_t i = 0; i < params->count; i++) {
        sora_param *p = params->items[i];
        if (!sora_params_leads_pack(params, i)) continue;
        for (int part = 0; p->trainable && part < SORA_PARTS; part++) {
            if (assign) place(p, moments, part, (uint64_t)groups[p->kind][part]);
            groups[p->kind][part] += room_of(params, i, moments, part);
        }
        if (p->trainable) continue;
        uint64_t room = sora_frozen_room(params, i);
        if (buffers == 0 || sizes[buffers - 1] + room > limit) sizes[buffers++] = 0;
        if (assign) sora_frozen_place(p, sizes[buffers - 1], &params->frozen[buffers - 1]);
        sizes[buffers - 1] += room;
    }
    return buffers;
}

uint64_t sora_params_device_bytes(const sora_params *params, sora_moment_layout moments)
{
    uint64_t elements = 0;
    for (size_t i = 0; i < params->count; i++) {
        const sora_param *p = params->items[i];
        if (!sora_params_leads_pack(params, i)) continue;
        if (!p->trainable) elements += sora_frozen_room(params, i);
        for (int part = 0; p->trainable && part < SORA_PARTS; part++) elements += (uint64_t)room_of(params, i, moments, part);
    }
    return elements * sizeof(float);
}

static sora_status create_zeros(sora_params *params, int64_t elements, const char *name, sora_buffer *out, sora_error *error)
{
    if (elements == 0) return SORA_OK;
    sora_status status = sora_buffer_create(params->context, (uint64_t)elements * sizeof(float), name, out, error);
    if (status != SORA_OK) return status;
    sora_view all = sora_view_dense(out, 0, SORA_SHAPE(elements));
    return sora_fill(params->context, &all, 0.0f, error);
}

static sora_status create_groups(sora_params *params, extents groups, sora_error *error)
{
    sora_status status = SORA_OK;
    static const char *const names[] = { "trainable weights", "trainable norms and biases", "gates" };
    int64_t gradients = 0;
    for (int g = 0; g < SORA_PARAM_GROUPS; g++) {
        sora_param_group *group = &params->groups[g];
        memcpy(group->elements, groups[g], sizeof group->elements);
        for (int part = 0; part < SORA_PART_GRADIENT; part++)
            SORA_TRY(create_zeros(params, group->elements[part], names[g], &group->parts[part], error));
        group->gradient = (uint64_t)gradients;
        gradients += group->elements[SORA_PART_GRADIENT];
    }
    SORA_TRY(create_zeros(params, gradients, "gradients", &params->gradients, error));
cleanup:
    return status;
}

sora_status sora_params_place(sora_params *params, sora_moment_layout moments, sora_error *error)
{
    sora_status status = SORA_OK;
    extents groups;
    uint64_t *sizes = NULL;
    if (params->placed) return sora_fail(error, SORA_ERROR_ARGUMENT, "parameters have a place on the device already");
    SORA_TRY(sora_allocate(params->count, sizeof *sizes, "parameter layout", &sizes, error));
    size_t buffers = lay_out(params, moments, false, groups, sizes);
    SORA_TRY(sora_allocate(buffers, sizeof *params->frozen, "frozen parameters", &params->frozen, error));
    params->frozen_count = buffers;
    for (size_t i = 0; i < buffers; i++)
        SORA_TRY(sora_buffer_create(params->context, sizes[i] * sizeof(float), "frozen parameters", &params->frozen[i], error));
    SORA_TRY(create_groups(params, groups, error));
    lay_out(params, moments, true, groups, sizes);
    params->placed = true;
    params->placed_moments = moments;
cleanup:
    free(sizes);
    if (status != SORA_OK) sora_params_free_device(params);
    return status;
}

bool sora_params_placed(const sora_params *params)
{
    return params->placed;
}

sora_status sora_params_expect_upload(sora_context *context, sora_dtype frozen, bool convolutions, sora_error *error)
{
    sora_status status = sora_program_expect(context, "range", sora_range_options(context), error);
    if (status == SORA_OK) status = sora_gemm_expect_pack(context, frozen, error);
    return status == SORA_OK && convolutions ? sora_winograd_expect(context, error) : status;
}

sora_status sora_params_upload(sora_params *params, sora_moment_layout moments, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_moment_layout before = params->moments;
    if (params->on_device) return sora_fail(error, SORA_ERROR_ARGUMENT, "parameters are on the device already");
    if (!params->placed) SORA_TRY(sora_params_place(params, moments, error));
    if (moments != params->placed_moments)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "parameters were placed with moments of layout %d, not %d",
                  (int)params->placed_moments, (int)moments);
    params->on_device = true;
    params->moments = moments;
    for (size_t i = 0; i < params->count; i++) {
        sora_param *p = params->items[i];
        for (int part = 0; part < (sora_moments_carry_over(before, moments) ? SORA_PART_GRADIENT : SORA_PART_MOMENT1); part++) {
            sora_view view = sora_param_view(p, (sora_param_part)part);
            if (view.memory && !view.panel && view.dtype == SORA_F32 && p->host[part])
                SORA_TRY(sora_view_write(params->context, &view, p->host[part], error));
        }
    }
    SORA_TRY(sora_frozen_upload(params, error));
    /* Only now that nothing can fail: a failed upload leaves the set as it was. */
    sora_params_drop_host(params, SORA_PART_VALUE);
cleanup:
    if (status != SORA_OK) {
        sora_params_free_device(params);
        params->moments = before;
    }
    return status;
}

sora_status sora_params_download(sora_params *params, sora_error *error)
{
    sora_status status = SORA_OK;
    if (!params->on_device) return sora_fail(error, SORA_ERROR_ARGUMENT, "parameters are on the host already");
    for (size_t i = 0; i < params->count; i++) {
        sora_param *p = params->items[i];
        for (int part = 0; part < SORA_PART_GRADIENT; part++) {
            sora_view view = sora_param_view(p, (sora_param_part)part);
            if (!view.memory) continue;
            SORA_TRY(sora_allocate(sora_param_host_bytes(p, part), 1, p->name, &p->host[part], error));
            SORA_TRY(read_part(p, &view, p->host[part], error));
            p->rounded |= view.dtype == SORA_F16;
        }
    }
    sora_params_free_device(params);
cleanup:
    if (status != SORA_OK) sora_params_drop_host(params, SORA_PART_VALUE);
    return status;
}

bool sora_params_on_device(const sora_params *params)
{
    return params->on_device;
}

/* The buffer and where in it the group's part begins. */
static uint64_t group_part(const sora_params *params, sora_param_kind kind, sora_param_part part, const sora_buffer **buffer)
{
    const sora_param_group *group = &params->groups[kind];
    *buffer = part == SORA_PART_GRADIENT ? &params->gradients : &group->parts[part];
    return part == SORA_PART_GRADIENT ? group->gradient : 0;
}

sora_view sora_param_view(const sora_param *param, sora_param_part part)
{
    const sora_params *params = param->params;
    if (!params->placed) return (sora_view) { 0 };
    const sora_buffer *buffer = part == SORA_PART_VALUE ? param->buffer : NULL;
    uint64_t begin = param->trainable ? group_part(params, param->kind, part, &buffer) : 0;
    sora_shape shape = sora_param_part_shape(param, params->moments, part);
    if (!buffer || !buffer->memory || !shape.rank) return (sora_view) { 0 };
    sora_view view = sora_view_dense(buffer, begin + param->offsets[part], shape);
    view.dtype = sora_frozen_dtype(param);
    view.panel = sora_frozen_panel(param, param->rows);
    if (!param->trainable) memcpy(view.transformed, param->transformed, sizeof view.transformed);
    return view;
}

sora_view sora_param_back_view(const sora_param *param)
{
    sora_view view = sora_param_view(param, SORA_PART_VALUE);
    if (!view.panel || !param->back) return view;
    view.front = view.offset;
    view.offset = param->back;
    view.panel = sora_frozen_panel(param, param->shape.dim[1]);
    view.back = true;
    return view;
}

sora_view sora_params_group(const sora_params *params, sora_param_kind kind, sora_param_part part)
{
    const sora_buffer *buffer;
    int64_t elements = params->groups[kind].elements[part];
    uint64_t begin = group_part(params, kind, part, &buffer);
    return buffer->memory && elements ? sora_view_dense(buffer, begin, SORA_SHAPE(elements)) : (sora_view) { 0 };
}

sora_view sora_params_gradients(const sora_params *params)
{
    const sora_buffer *all = &params->gradients;
    return all->memory ? sora_view_dense(all, 0, SORA_SHAPE((int64_t)(all->bytes / sizeof(float)))) : (sora_view) { 0 };
}

static sora_status locate(const sora_param *param, int what, sora_view *view, float **host, sora_error *error)
{
    static const char *const names[] = { "value", "moment 1", "moment 2", "gradient" };
    *host = NULL;
    if (what < 0 || what >= SORA_PARTS) return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: no part %d", param->name, what);
    *view = sora_param_view(param, (sora_param_part)what);
    if (!param->params->on_device && what < SORA_PART_GRADIENT) *host = param->host[what];
    if (view->memory || *host) return SORA_OK;
    return sora_fail(error, SORA_ERROR_ARGUMENT, "%s has no %s %s", param->name, names[what],
                     param->params->on_device ? "on the device" : "on the host");
}

sora_status sora_param_read(const sora_param *param, int what, float *out, sora_error *error)
{
    sora_view view;
    float *host;
    sora_status status = locate(param, what, &view, &host, error);
    if (status != SORA_OK) return status;
    if (!host) return read_part(param, &view, out, error);
    memcpy(out, host, sora_param_host_bytes(param, what));
    return SORA_OK;
}

sora_status sora_param_write(sora_param *param, int what, const float *data, sora_error *error)
{
    sora_view view;
    float *host;
    sora_status status = locate(param, what, &view, &host, error);
    if (status != SORA_OK) return status;
    if (view.panel || view.dtype == SORA_F16 || view.transformed[0] || view.transformed[1])
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "%s: a frozen weight in panels, as halves or transformed is written on the host only", param->name);
    if (!host) return sora_view_write(param->params->context, &view, data, error);
    memcpy(host, data, sora_param_host_bytes(param, what));
    return SORA_OK;
}

sora_status sora_params_zero_gradients(sora_params *params, sora_error *error)
{
    if (!params->on_device) return sora_fail(error, SORA_ERROR_ARGUMENT, "parameters are on the host: they have no gradients");
    sora_view all = sora_params_gradients(params);
    return all.memory ? sora_fill(params->context, &all, 0.0f, error) : SORA_OK;
}
