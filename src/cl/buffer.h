/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_CL_BUFFER_H
#define SORA_CL_BUFFER_H

#include "base/memory.h"
#include "soracl/context.h"
#include "soracl/tensor.h"

#include <CL/cl.h>

/* Device memory, counted in the context's account. */
typedef struct sora_buffer {
    sora_context *context;
    cl_mem memory;
    uint64_t bytes;
} sora_buffer;

/* Uninitialised. `what` names it in the message, which says how much was asked for, how much the device has and is in use. */
sora_status sora_buffer_create(sora_context *context, uint64_t bytes, const char *what, sora_buffer *out, sora_error *error);
void sora_buffer_destroy(sora_buffer *buffer); /* accepts a zeroed struct; zeroes it */

/* Tensors that share a buffer end within so many bytes: 2³¹ elements at most, as libraries (CLBlast) count them in ints. */
static inline uint64_t sora_buffer_most(const sora_device_limits *limits)
{
    return SORA_MIN(limits->allocation_bytes, UINT64_C(1) << 33);
}

/* A tensor's place in device memory. Strides are dense but for the first dimension, so that a slice of channels (N, C of a
 * concatenation) or of columns (q of q|k|v) is a view too. All in elements, which have 4 bytes, and 2 where they are SORA_F16. */
typedef struct sora_view {
    cl_mem memory; /* NULL: absent */
    uint64_t offset;
    sora_dtype dtype;
    sora_shape shape;
    int64_t stride; /* between neighbours of the first dimension */
    int panel;      /* not 0: a weight [p, q] in panels of that many columns (op/gemm.h), of Wᵀ as y = x Wᵀ takes it, */
    bool back;      /* or of W, as dx = dy W does; dense, and no other op can read it */
    uint64_t front; /* of a weight that is `back`: the offset of the panels of Wᵀ, in the same memory */
    uint64_t transformed[2]; /* of a convolution's frozen weight: offsets in the same memory of what it is transformed to
                                (op/winograd.h), forward and for the way back; 0: it is not there */
} sora_view;

/* The whole buffer from `offset` on as a dense tensor of that shape. */
sora_view sora_view_dense(const sora_buffer *buffer, uint64_t offset, sora_shape shape);

/* Elements of one item of the first dimension; elements in all. */
int64_t sora_view_inner(const sora_view *view);
int64_t sora_view_elements(const sora_view *view);
bool sora_view_is_dense(const sora_view *view);

/* Blocking copies between a dense host array (sora_view_elements of the view's dtype) and a view of any stride. They wait for all
 * that was enqueued before; never call them inside a step. */
sora_status sora_view_read(sora_context *context, const sora_view *view, void *out, sora_error *error);
sora_status sora_view_write(sora_context *context, const sora_view *view, const void *data, sora_error *error);

/* Enqueues a copy to a dense view; `data` must stay until *done (may be NULL; release with clReleaseEvent) has completed. */
sora_status sora_view_write_async(sora_context *context, const sora_view *view, const void *data, cl_event *done,
                                  sora_error *error);
sora_status sora_view_read_async(sora_context *context, const sora_view *view, void *out, cl_event *done, sora_error *error);
sora_status sora_event_wait(sora_context *context, cl_event *event,
                            sora_error *error); /* waits, releases, sets NULL; NULL is fine */

#endif
