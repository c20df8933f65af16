/* SPDX-License-Identifier: Apache-2.0 */
#include "base/half.h"
#include "graph/params_structure.h"
#include "op/gemm.h"
#include "op/winograd.h"

#include <stdlib.h>

int sora_frozen_panel(const sora_param *param, int64_t columns)
{
    const sora_context *context = param->params->context;
    return param->product && !param->trainable && context ? sora_gemm_panel(&sora_context_device(context)->limits, columns) : 0;
}

sora_dtype sora_frozen_dtype(const sora_param *param)
{
    return !param->trainable && (param->product || param->table) ? param->params->frozen_dtype : SORA_F32;
}

static int64_t elements_in(const sora_param *param, uint64_t words)
{
    return (int64_t)words * (sora_frozen_dtype(param) == SORA_F16 ? 2 : 1);
}

static uint64_t words_of(const sora_param *param, uint64_t elements)
{
    return (uint64_t)sora_params_padded((int64_t)(sora_frozen_dtype(param) == SORA_F16 ? (elements + 1) / 2 : elements));
}

static sora_param *first_beside(sora_param *head)
{
    return head->pack ? sora_param_next_beside(head->params, head, -1) : head;
}

static sora_param *next_beside(sora_param *p)
{
    return p->pack ? sora_param_next_beside(p->params, p, p->place) : NULL;
}

static int64_t rows_beside(const sora_param *head)
{
    int64_t rows = 0;
    for (size_t i = 0; i < head->params->count; i++)
        if (sora_param_beside(head, head->params->items[i])) rows += head->params->items[i]->shape.dim[0];
    return rows;
}

/* Room for the panels of one product's weights for forward, and in *back for the way back, where something trains. */
static uint64_t panels_room(const sora_param *head, uint64_t *back)
{
    int64_t rows = rows_beside(head), columns = head->shape.dim[1];
    uint64_t turned = sora_gemm_panel_elements(sora_frozen_panel(head, columns), columns, rows);
    *back = sora_params_trainable_elements(head->params) > 0 ? words_of(head, turned) : 0;
    return words_of(head, sora_gemm_panel_elements(sora_frozen_panel(head, rows), rows, columns));
}

/* The same of what a convolution's weight is transformed to. */
static uint64_t transformed_room(const sora_param *param, uint64_t *back)
{
    const sora_context *context = param->params->context;
    *back = 0;
    if (!param->convolution || !context) return 0;
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    int64_t outputs = param->shape.dim[0], inputs = param->shape.dim[1];
    if (sora_params_trainable_elements(param->params) > 0) *back = words_of(param, sora_winograd_kept(limits, outputs, inputs));
    return words_of(param, sora_winograd_kept(limits, inputs, outputs));
}

uint64_t sora_frozen_room(const sora_params *params, size_t i)
{
    const sora_param *head = params->items[i];
    uint64_t back, elements = 0;
    if (sora_frozen_panel(head, 1)) {
        uint64_t forward = panels_room(head, &back);
        return forward + back;
    }
    for (size_t j = i; j < (head->pack ? params->count : i + 1); j++)
        if (sora_param_beside(head, params->items[j])) elements += (uint64_t)params->items[j]->elements;
    uint64_t transformed = transformed_room(head, &back);
    return words_of(head, elements) + transformed + back;
}

static void place_panels(sora_param *head, uint64_t offset, const sora_buffer *buffer)
{
    uint64_t back, forward = panels_room(head, &back);
    int64_t rows = rows_beside(head), row = 0;
    for (sora_param *p = first_beside(head); p; p = next_beside(p)) {
        p->offsets[SORA_PART_VALUE] = (uint64_t)elements_in(p, offset);
        p->back = back ? (uint64_t)elements_in(p, offset + forward) : 0;
        p->buffer = buffer;
        p->row = row;
        p->rows = rows;
        row += p->shape.dim[0];
    }
}

void sora_frozen_place(sora_param *head, uint64_t offset, const sora_buffer *buffer)
{
    uint64_t at = (uint64_t)elements_in(head, offset);
    if (sora_frozen_panel(head, 1)) {
        place_panels(head, offset, buffer);
        return;
    }
    for (sora_param *p = first_beside(head); p; p = next_beside(p)) {
        p->offsets[SORA_PART_VALUE] = at;
        p->buffer = buffer;
        at += (uint64_t)p->elements;
    }
    uint64_t back, forward = transformed_room(head, &back);
    at = offset + words_of(head, (uint64_t)head->elements);
    head->transformed[0] = forward ? at : 0;
    head->transformed[1] = back ? at + forward : 0;
}

/* ---- There and back ---------------------------------------------------------------------------------------------- */

/* Host values, by way of `halves` where the view holds such. */
static sora_status write_values(const sora_param *param, const sora_view *view, uint16_t *halves, sora_error *error)
{
    sora_context *context = param->params->context;
    if (view->dtype != SORA_F16) return sora_view_write(context, view, param->host[0], error);
    sora_status status = sora_halves_of(param->host[0], (uint64_t)param->elements, param->name, halves, error);
    return status == SORA_OK ? sora_view_write(context, view, halves, error) : status;
}

/* out[elements of the view], whatever it holds. */
static sora_status read_values(const sora_param *param, const sora_view *view, float *out, sora_error *error)
{
    sora_context *context = param->params->context;
    uint64_t count = (uint64_t)sora_view_elements(view);
    if (view->dtype != SORA_F16) return sora_view_read(context, view, out, error);
    uint16_t *halves = (uint16_t *)out + count;
    sora_status status = sora_view_read(context, view, halves, error);
    if (status == SORA_OK) sora_halves_widen(halves, count, out);
    return status;
}

/* Weights of one product from rows in `staging` into panels. */
static sora_status write_panels(sora_param *head, const sora_buffer *staging, uint16_t *halves, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_context *context = head->params->context;
    int64_t rows = head->rows, columns = head->shape.dim[1];
    sora_view whole = sora_view_dense(staging, 0, SORA_SHAPE(rows, columns));
    whole.dtype = sora_frozen_dtype(head);
    sora_gemm_operand weight = { .view = whole, .leading = columns, .transposed = true };
    for (sora_param *p = first_beside(head); p; p = next_beside(p)) {
        sora_view part = whole;
        part.offset = (uint64_t)(p->row * columns);
        part.shape = p->shape;
        SORA_TRY(write_values(p, &part, halves, error));
    }
    sora_view forward = sora_param_view(head, SORA_PART_VALUE), back = sora_param_back_view(head);
    SORA_TRY(sora_gemm_pack(context, &weight, rows, columns, forward.panel, &forward, head->name, error));
    weight.transposed = false;
    if (back.back) SORA_TRY(sora_gemm_pack(context, &weight, columns, rows, back.panel, &back, head->name, error));
cleanup:
    return status;
}

static sora_status keep_transformed(const sora_param *param, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_view weight = sora_param_view(param, SORA_PART_VALUE);
    for (int back = 0; status == SORA_OK && back < 2; back++) {
        sora_view out = { .memory = weight.memory, .offset = weight.transformed[back] };
        if (out.offset) status = sora_winograd_keep(param->params->context, &weight, back, &out, param->name, error);
    }
    return status;
}

/* One staging buffer serves all panels: a write waits until what was enqueued before is done. */
sora_status sora_frozen_upload(sora_params *params, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_buffer staging = { 0 };
    uint16_t *halves = NULL;
    uint64_t most = 0, largest = 0;
    for (size_t i = 0; i < params->count; i++) {
        const sora_param *p = params->items[i];
        if (sora_frozen_panel(p, 1)) most = SORA_MAX(most, words_of(p, (uint64_t)(p->rows * p->shape.dim[1])));
        if (sora_frozen_dtype(p) == SORA_F16) largest = SORA_MAX(largest, (uint64_t)p->elements);
    }
    if (most > 0) SORA_TRY(sora_buffer_create(params->context, most * sizeof(float), "weights on their way", &staging, error));
    if (largest > 0) SORA_TRY(sora_allocate(largest, sizeof *halves, "weights on their way", &halves, error));
    for (size_t i = 0; i < params->count; i++) {
        sora_param *p = params->items[i];
        sora_view view = sora_param_view(p, SORA_PART_VALUE);
        if (view.panel && sora_params_leads_pack(params, i)) SORA_TRY(write_panels(p, &staging, halves, error));
        if (!view.panel && view.dtype == SORA_F16) SORA_TRY(write_values(p, &view, halves, error));
        SORA_TRY(keep_transformed(p, error));
    }
cleanup:
    free(halves);
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
    view.offset += (uint64_t)(first * panel);
    view.shape = SORA_SHAPE(last - first + 1, panel);
    view.stride = panel;
    status = read_values(param, &view, panels, error);
    for (int64_t i = 0; status == SORA_OK && i < param->shape.dim[0]; i++) {
        int64_t row = param->row + i;
        const float *from = panels + (row / width - first) * panel + row % width;
        for (int64_t j = 0; j < columns; j++) out[i * columns + j] = from[j * width];
    }
    free(panels);
    return status;
}

sora_status sora_frozen_read(const sora_param *param, float *out, sora_error *error)
{
    sora_view view = sora_param_view(param, SORA_PART_VALUE);
    return view.panel ? read_panels(param, out, error) : read_values(param, &view, out, error);
}
