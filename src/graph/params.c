/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/params.h"

#include "base/memory.h"
#include "op/gemm.h"
#include "op/update.h"

#include <stdlib.h>
#include <string.h>

/* Parameters start at multiples of this many elements, a common cache line twice over. The padding is 0 and every update keeps
 * it. */
#define ALIGNMENT 32

struct sora_param {
    sora_params *params;
    char *name;
    sora_param_kind kind;
    sora_shape shape;
    int64_t elements;
    bool asked;                      /* to be trained; */
    bool trainable;                  /* and all of its pack are: one product's weights are trained together or not at all */
    int pack, place;                 /* parameters of one pack stand side by side, in order of place; 0: alone */
    float *host[SORA_PART_GRADIENT]; /* value and moments while on the host */
    const sora_buffer *buffer;       /* of the value while frozen on the device */
    uint64_t offsets[SORA_PARTS];    /* in its group's parts; the first one in `buffer` while frozen */
    bool product;                    /* in panels while frozen: */
    uint64_t back;                   /* where those for the way back are in `buffer`; 0: there are none */
    int64_t row, rows;               /* of all that stand beside it: its first, how many */
};

typedef struct param_group {
    sora_buffer parts[SORA_PARTS];
    int64_t elements[SORA_PARTS];
} param_group;

typedef int64_t extents[SORA_PARAM_GROUPS][SORA_PARTS]; /* elements of every part of every group */

struct sora_params {
    sora_context *context;
    sora_param **items;
    size_t count, capacity;
    bool placed;    /* device memory is taken; */
    bool on_device; /* and holds the values */
    sora_moment_layout moments, placed_moments;
    param_group groups[SORA_PARAM_GROUPS];
    sora_buffer *frozen; /* frozen parameters and state, in as few buffers as the largest allocation allows */
    size_t frozen_count;
};

static int64_t padded(int64_t elements)
{
    return (elements + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

sora_status sora_params_create(sora_context *context, sora_params **out, sora_error *error)
{
    sora_status status = sora_allocate(1, sizeof **out, "parameter set", out, error);
    if (status != SORA_OK) return status;
    (*out)->context = context;
    (*out)->moments = SORA_MOMENTS_TWO;
    return SORA_OK;
}

static void free_param(sora_param *param)
{
    for (int i = 0; i < SORA_PART_GRADIENT; i++) free(param->host[i]);
    free(param->name);
    free(param);
}

static void free_device(sora_params *params)
{
    for (int g = 0; g < SORA_PARAM_GROUPS; g++) {
        for (int i = 0; i < SORA_PARTS; i++) sora_buffer_destroy(&params->groups[g].parts[i]);
        params->groups[g] = (param_group) { 0 };
    }
    for (size_t i = 0; i < params->frozen_count; i++) sora_buffer_destroy(&params->frozen[i]);
    free(params->frozen);
    params->frozen = NULL;
    params->frozen_count = 0;
    params->placed = params->on_device = false;
}

void sora_params_destroy(sora_params **pointer)
{
    sora_params *params = *pointer;
    if (!params) return;
    free_device(params);
    for (size_t i = 0; i < params->count; i++) free_param(params->items[i]);
    free(params->items);
    free(params);
    *pointer = NULL;
}

static sora_status require_host(const sora_params *params, const char *name, const char *verb, sora_error *error)
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
    SORA_TRY(require_host(params, name, "added", error));
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
    sora_status status = require_host(params, param->name, "removed", error);
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

static bool is_factored(const sora_param *param, sora_moment_layout layout)
{
    return layout == SORA_MOMENTS_FACTORED && param->kind != SORA_PARAM_GATE;
}

sora_shape sora_param_moment_shape(const sora_param *param, sora_moment_layout layout, int which)
{
    sora_shape shape = param->shape;
    int rank = shape.rank, whole = SORA_MIN((int)layout, 2); /* gates have two where others have factors */
    if (is_factored(param, layout)) whole = rank < 2;
    if (which != 1 && which != 2) return (sora_shape) { 0 };
    if (which <= whole) return shape;
    if (!is_factored(param, layout) || rank < 2) return (sora_shape) { 0 };
    if (which == 2) shape.dim[rank - 2] = shape.dim[rank - 1];
    shape.dim[rank - 1] = 0;
    shape.rank = rank - 1;
    return shape;
}

/* Shape of a value, moment or gradient. */
static sora_shape part_shape(const sora_param *param, sora_moment_layout layout, int part)
{
    bool moment = part == SORA_PART_MOMENT1 || part == SORA_PART_MOMENT2;
    return moment ? sora_param_moment_shape(param, layout, part) : param->shape;
}

/* 0 where there is no such part. */
static int64_t part_elements(const sora_param *param, sora_moment_layout layout, int part)
{
    sora_shape shape = part_shape(param, layout, part);
    int64_t elements = shape.rank > 0;
    for (int i = 0; i < shape.rank; i++) elements *= shape.dim[i];
    return elements;
}

/* Bytes of it on the host. */
static size_t host_bytes(const sora_param *param, int part)
{
    return (size_t)part_elements(param, param->params->moments, part) * sizeof(float);
}

sora_status sora_param_host_moment(sora_param *param, int which, float **out, sora_error *error)
{
    sora_status status = require_host(param->params, param->name, "read", error);
    *out = NULL;
    if (status == SORA_OK && sora_param_moment_shape(param, param->params->moments, which).rank == 0)
        status = sora_fail(error, SORA_ERROR_ARGUMENT, "%s: no moment %d", param->name, which);
    if (status == SORA_OK && !param->host[which])
        status = sora_allocate(host_bytes(param, which), 1, param->name, &param->host[which], error);
    if (status == SORA_OK) *out = param->host[which];
    return status;
}

static void drop_host(sora_params *params, int first_part)
{
    for (size_t i = 0; i < params->count; i++)
        for (int part = first_part; part < SORA_PART_GRADIENT; part++) {
            free(params->items[i]->host[part]);
            params->items[i]->host[part] = NULL;
        }
}

/* Whether moments of one layout are still good in the other. */
static bool carries_over(sora_moment_layout a, sora_moment_layout b)
{
    return (a == SORA_MOMENTS_FACTORED) == (b == SORA_MOMENTS_FACTORED);
}

sora_status sora_params_set_moments(sora_params *params, sora_moment_layout layout, sora_error *error)
{
    if (params->on_device) return sora_fail(error, SORA_ERROR_ARGUMENT, "moments: the parameters are on the device");
    if (!carries_over(params->moments, layout)) drop_host(params, SORA_PART_MOMENT1);
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
    bool factored = is_factored(param, layout) && param->shape.rank > 1 && axis >= param->shape.rank - 2;
    if (factored) select_factored(param, axis, list, count);
    for (int part = SORA_PART_MOMENT1; !factored && part <= SORA_PART_MOMENT2; part++) {
        sora_shape shape = sora_param_moment_shape(param, layout, part);
        if (shape.rank > 0) select_part(param->host[part], &shape, axis, list, count);
    }
    param->shape.dim[axis] = count;
    param->elements = part_elements(param, layout, SORA_PART_VALUE);
}

/* ---- On the device --------------------------------------------------------------------------------------------------------- */

/* Whether both stand in one run of memory. */
static bool beside(const sora_param *a, const sora_param *b)
{
    return a == b || (a->pack != 0 && a->pack == b->pack);
}

static bool is_first_of_pack(const sora_params *params, size_t i)
{
    for (size_t j = 0; params->items[i]->pack && j < i; j++)
        if (beside(params->items[i], params->items[j])) return false;
    return true;
}

/* What a part of item i and of all that stand beside it takes in its group. Values, gradients and whole moments lie alike;
 * factored ones have no padding. */
static int64_t room_of(const sora_params *params, size_t i, sora_moment_layout moments, int part)
{
    const sora_param *head = params->items[i];
    bool moment = part == SORA_PART_MOMENT1 || part == SORA_PART_MOMENT2;
    int64_t elements = 0;
    for (size_t j = i; j < (head->pack ? params->count : i + 1); j++)
        if (beside(head, params->items[j])) elements += part_elements(params->items[j], moments, part);
    return moment && is_factored(head, moments) ? elements : padded(elements);
}

static sora_param *next_beside(const sora_params *params, const sora_param *head, int after)
{
    sora_param *next = NULL;
    for (size_t j = 0; j < params->count; j++) {
        sora_param *p = params->items[j];
        if (beside(head, p) && p->place > after && (!next || p->place < next->place)) next = p;
    }
    return next;
}

static void place(sora_param *head, sora_moment_layout moments, int part, uint64_t offset, const sora_buffer *buffer)
{
    sora_param *p = head->pack ? next_beside(head->params, head, -1) : head;
    while (p) {
        p->offsets[part] = offset;
        p->buffer = buffer;
        offset += (uint64_t)part_elements(p, moments, part);
        p = head->pack ? next_beside(head->params, head, p->place) : NULL;
    }
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

bool sora_params_joined(sora_param *const *list, int count)
{
    for (int i = 1; i < count; i++)
        if (!beside(list[0], list[i]) || list[i]->place <= list[i - 1]->place) return false;
    return count > 0;
}

/* ---- Frozen weights of products, in panels ----------------------------------------------------------------------------------
 */

/* Columns of a panel of `columns` in all; 0: the parameter stands as it is. */
static int panel_of(const sora_param *param, int64_t columns)
{
    const sora_context *context = param->params->context;
    return param->product && !param->trainable && context ? sora_gemm_panel(&sora_context_device(context)->limits, columns) : 0;
}

static int64_t rows_beside(const sora_param *head)
{
    int64_t rows = 0;
    for (size_t i = 0; i < head->params->count; i++)
        if (beside(head, head->params->items[i])) rows += head->params->items[i]->shape.dim[0];
    return rows;
}

/* Room for the panels of one product's weights for forward, and in *back for the way back. */
static uint64_t panels_room(const sora_param *head, sora_moment_layout moments, uint64_t *back)
{
    int64_t rows = rows_beside(head), columns = head->shape.dim[1];
    uint64_t turned = sora_gemm_panel_elements(panel_of(head, columns), columns, rows);
    *back = moments == SORA_MOMENTS_NONE ? 0 : (uint64_t)padded((int64_t)turned);
    return (uint64_t)padded((int64_t)sora_gemm_panel_elements(panel_of(head, rows), rows, columns));
}

/* What a frozen parameter and all that stand beside it take. */
static uint64_t frozen_room(const sora_params *params, size_t i, sora_moment_layout moments)
{
    uint64_t back;
    if (!panel_of(params->items[i], 1)) return (uint64_t)room_of(params, i, moments, SORA_PART_VALUE);
    uint64_t forward = panels_room(params->items[i], moments, &back);
    return forward + back;
}

static void place_panels(sora_param *head, sora_moment_layout moments, uint64_t offset, const sora_buffer *buffer)
{
    uint64_t back, forward = panels_room(head, moments, &back);
    int64_t rows = rows_beside(head), row = 0;
    sora_param *p = head->pack ? next_beside(head->params, head, -1) : head;
    while (p) {
        p->offsets[SORA_PART_VALUE] = offset;
        p->back = back ? offset + forward : 0;
        p->buffer = buffer;
        p->row = row;
        p->rows = rows;
        row += p->shape.dim[0];
        p = head->pack ? next_beside(head->params, head, p->place) : NULL;
    }
}

/* Weights of one product, whose values are on the host, from rows in `staging` into panels. */
static sora_status write_panels(sora_param *head, const sora_buffer *staging, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_context *context = head->params->context;
    const sora_view none = { 0 };
    int64_t rows = head->rows, columns = head->shape.dim[1];
    sora_gemm_operand weight = { .view = sora_view_dense(staging, 0, SORA_SHAPE(rows, columns)),
                                 .leading = columns,
                                 .transposed = true };
    for (size_t i = 0; i < head->params->count; i++) {
        const sora_param *p = head->params->items[i];
        if (!beside(head, p)) continue;
        sora_view part = sora_view_dense(staging, (uint64_t)(p->row * columns), p->shape);
        SORA_TRY(sora_view_write(context, &part, p->host[0], error));
    }
    sora_view forward = sora_param_view(head, SORA_PART_VALUE), back = sora_param_back_view(head);
    SORA_TRY(sora_gemm_pack(context, &weight, rows, columns, forward.panel, 1.0f, &none, &forward, head->name, error));
    weight.transposed = false;
    if (back.back) SORA_TRY(sora_gemm_pack(context, &weight, columns, rows, back.panel, 1.0f, &none, &back, head->name, error));
cleanup:
    return status;
}

/* All that are frozen. One staging buffer serves them: a write waits until what was enqueued before is done. */
static sora_status upload_panels(sora_params *params, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_buffer staging = { 0 };
    int64_t most = 0;
    for (size_t i = 0; i < params->count; i++)
        if (panel_of(params->items[i], 1)) most = SORA_MAX(most, params->items[i]->rows * params->items[i]->shape.dim[1]);
    if (most > 0)
        SORA_TRY(sora_buffer_create(params->context, (uint64_t)most * sizeof(float), "weights on their way", &staging, error));
    for (size_t i = 0; i < params->count; i++)
        if (panel_of(params->items[i], 1) && is_first_of_pack(params, i))
            SORA_TRY(write_panels(params->items[i], &staging, error));
cleanup:
    sora_buffer_destroy(&staging);
    return status;
}

/* Row by row out of the panels that hold columns row .. row + p of Wᵀ. */
static sora_status read_panels(const sora_param *param, float *out, sora_error *error)
{
    sora_view view = sora_param_view(param, SORA_PART_VALUE);
    int64_t width = view.panel, columns = param->shape.dim[1], first = param->row / width,
            last = (param->row + param->shape.dim[0] - 1) / width, panel = columns * width;
    float *panels;
    sora_status status = sora_allocate((size_t)((last - first + 1) * panel), sizeof *panels, param->name, &panels, error);
    if (status != SORA_OK) return status;
    view = sora_view_dense(param->buffer, view.offset + (uint64_t)(first * panel), SORA_SHAPE(last - first + 1, panel));
    status = sora_view_read(param->params->context, &view, panels, error);
    for (int64_t i = 0; status == SORA_OK && i < param->shape.dim[0]; i++) {
        int64_t row = param->row + i;
        const float *from = panels + (row / width - first) * panel + row % width;
        for (int64_t j = 0; j < columns; j++) out[i * columns + j] = from[j * width];
    }
    free(panels);
    return status;
}

static sora_status read_part(const sora_param *param, sora_param_part part, const sora_view *view, float *out, sora_error *error)
{
    return view->panel && part == SORA_PART_VALUE ? read_panels(param, out, error)
                                                  : sora_view_read(param->params->context, view, out, error);
}

/* Gives every parameter its offsets; elements of each group, and of the frozen buffers in sizes[] (at most params->count). */
static size_t lay_out(const sora_params *params, sora_moment_layout moments, bool assign, extents groups, uint64_t *sizes)
{
    uint64_t limit = params->context ? sora_context_device(params->context)->limits.allocation_bytes / sizeof(float) : UINT64_MAX;
    size_t buffers = 0;
    memset(groups, 0, sizeof(extents));
    for (size_t i = 0; i < params->count; i++) {
        sora_param *p = params->items[i];
        if (!is_first_of_pack(params, i)) continue;
        for (int part = 0; p->trainable && part < SORA_PARTS; part++) {
            if (assign) place(p, moments, part, (uint64_t)groups[p->kind][part], NULL);
            groups[p->kind][part] += room_of(params, i, moments, part);
        }
        if (p->trainable) continue;
        uint64_t room = frozen_room(params, i, moments);
        if (buffers == 0 || sizes[buffers - 1] + room > limit) sizes[buffers++] = 0;
        if (assign && panel_of(p, 1)) place_panels(p, moments, sizes[buffers - 1], &params->frozen[buffers - 1]);
        if (assign && !panel_of(p, 1)) place(p, moments, SORA_PART_VALUE, sizes[buffers - 1], &params->frozen[buffers - 1]);
        sizes[buffers - 1] += room;
    }
    return buffers;
}

uint64_t sora_params_device_bytes(const sora_params *params, sora_moment_layout moments)
{
    uint64_t elements = 0;
    for (size_t i = 0; i < params->count; i++) {
        const sora_param *p = params->items[i];
        if (!is_first_of_pack(params, i)) continue;
        if (!p->trainable) elements += frozen_room(params, i, moments);
        for (int part = 0; p->trainable && part < SORA_PARTS; part++) elements += (uint64_t)room_of(params, i, moments, part);
    }
    return elements * sizeof(float);
}

static sora_status create_group(sora_params *params, int g, const int64_t elements[SORA_PARTS], sora_error *error)
{
    sora_status status = SORA_OK;
    static const char *const names[] = { "trainable weights", "trainable norms and biases", "gates" };
    param_group *group = &params->groups[g];
    for (int part = 0; part < SORA_PARTS; part++) {
        group->elements[part] = elements[part];
        if (elements[part] == 0) continue;
        SORA_TRY(
            sora_buffer_create(params->context, (uint64_t)elements[part] * sizeof(float), names[g], &group->parts[part], error));
        sora_view all = sora_view_dense(&group->parts[part], 0, SORA_SHAPE(elements[part]));
        SORA_TRY(sora_fill(params->context, &all, 0.0f, error));
    }
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
    for (int g = 0; g < SORA_PARAM_GROUPS; g++) SORA_TRY(create_group(params, g, groups[g], error));
    lay_out(params, moments, true, groups, sizes);
    params->placed = true;
    params->placed_moments = moments;
cleanup:
    free(sizes);
    if (status != SORA_OK) free_device(params);
    return status;
}

bool sora_params_placed(const sora_params *params)
{
    return params->placed;
}

sora_status sora_params_upload(sora_params *params, sora_moment_layout moments, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_moment_layout before = params->moments;
    if (params->on_device) return sora_fail(error, SORA_ERROR_ARGUMENT, "parameters are on the device already");
    if (!params->placed) SORA_TRY(sora_params_place(params, moments, error));
    if (moments != params->placed_moments)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "parameters were placed with moments of layout %d, not %d", (int)params->placed_moments,
                  (int)moments);
    params->on_device = true;
    params->moments = moments;
    for (size_t i = 0; i < params->count; i++) {
        sora_param *p = params->items[i];
        for (int part = 0; part < (carries_over(before, moments) ? SORA_PART_GRADIENT : SORA_PART_MOMENT1); part++) {
            sora_view view = sora_param_view(p, (sora_param_part)part);
            if (view.memory && !view.panel && p->host[part])
                SORA_TRY(sora_view_write(params->context, &view, p->host[part], error));
        }
    }
    SORA_TRY(upload_panels(params, error));
    /* Only now that nothing can fail: a failed upload leaves the set as it was. */
    drop_host(params, SORA_PART_VALUE);
cleanup:
    if (status != SORA_OK) {
        free_device(params);
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
            SORA_TRY(sora_allocate(host_bytes(p, part), 1, p->name, &p->host[part], error));
            SORA_TRY(read_part(p, (sora_param_part)part, &view, p->host[part], error));
        }
    }
    free_device(params);
cleanup:
    if (status != SORA_OK) drop_host(params, SORA_PART_VALUE);
    return status;
}

bool sora_params_on_device(const sora_params *params)
{
    return params->on_device;
}

sora_view sora_param_view(const sora_param *param, sora_param_part part)
{
    const sora_params *params = param->params;
    if (!params->placed) return (sora_view) { 0 };
    const sora_buffer *buffer = param->trainable          ? &params->groups[param->kind].parts[part]
                                : part == SORA_PART_VALUE ? param->buffer
                                                          : NULL;
    sora_shape shape = part_shape(param, params->moments, part);
    if (!buffer || !buffer->memory || !shape.rank) return (sora_view) { 0 };
    sora_view view = sora_view_dense(buffer, param->offsets[part], shape);
    view.panel = panel_of(param, param->rows);
    return view;
}

sora_view sora_param_back_view(const sora_param *param)
{
    sora_view view = sora_param_view(param, SORA_PART_VALUE);
    if (!view.panel || !param->back) return view;
    view.offset = param->back;
    view.panel = panel_of(param, param->shape.dim[1]);
    view.back = true;
    return view;
}

sora_view sora_params_group(const sora_params *params, sora_param_kind kind, sora_param_part part)
{
    const param_group *group = &params->groups[kind];
    return group->parts[part].memory ? sora_view_dense(&group->parts[part], 0, SORA_SHAPE(group->elements[part]))
                                     : (sora_view) { 0 };
}

sora_context *sora_params_context(const sora_params *params)
{
    return params->context;
}

sora_moment_layout sora_params_moments(const sora_params *params)
{
    return params->moments;
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
    if (!host) return read_part(param, (sora_param_part)what, &view, out, error);
    memcpy(out, host, host_bytes(param, what));
    return SORA_OK;
}

sora_status sora_param_write(sora_param *param, int what, const float *data, sora_error *error)
{
    sora_view view;
    float *host;
    sora_status status = locate(param, what, &view, &host, error);
    if (status != SORA_OK) return status;
    if (view.panel)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: the frozen weight of a product is written on the host only",
                         param->name);
    if (!host) return sora_view_write(param->params->context, &view, data, error);
    memcpy(host, data, host_bytes(param, what));
    return SORA_OK;
}

uint64_t sora_params_trainable_elements(const sora_params *params)
{
    uint64_t elements = 0;
    for (size_t i = 0; i < params->count; i++)
        if (params->items[i]->trainable) elements += (uint64_t)params->items[i]->elements;
    return elements;
}

sora_status sora_params_zero_gradients(sora_params *params, sora_error *error)
{
    if (!params->on_device) return sora_fail(error, SORA_ERROR_ARGUMENT, "parameters are on the host: they have no gradients");
    for (int g = 0; g < SORA_PARAM_GROUPS; g++) {
        sora_view view = sora_params_group(params, (sora_param_kind)g, SORA_PART_GRADIENT);
        sora_status status = view.memory ? sora_fill(params->context, &view, 0.0f, error) : SORA_OK;
        if (status != SORA_OK) return status;
    }
    return SORA_OK;
}
