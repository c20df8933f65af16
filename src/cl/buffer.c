/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/buffer.h"

#include "cl/context.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MIB (1024.0 * 1024.0)
#define HUGE_PAGE ((size_t)2 << 20)

static sora_status refuse(const sora_context *context, uint64_t bytes, const char *what, const char *why, sora_error *error)
{
    return sora_fail(error, SORA_ERROR_MEMORY,
                     "%s: %.1f MiB asked for, %s; %s has %.1f MiB, largest allocation %.1f MiB, %.1f MiB in use here", what,
                     (double)bytes / MIB, why, context->device.name, (double)context->device.limits.global_bytes / MIB,
                     (double)context->device.limits.allocation_bytes / MIB, (double)context->memory.current / MIB);
}

static void CL_CALLBACK free_pages(cl_mem memory, void *pages)
{
    (void)memory;
    free(pages);
}

/* A CPU device's buffer in huge pages, where the system has them for who asks: rows of activations lie on many small ones, more
 * than a processor remembers the places of. NULL: there is none, and the driver's own memory does as well. */
static cl_mem create_in_pages(const sora_context *context, size_t bytes)
{
    if (context->device.limits.type != SORA_DEVICE_CPU || !context->device.limits.unified_memory || bytes < HUGE_PAGE)
        return NULL;
    size_t whole = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *pages = aligned_alloc(HUGE_PAGE, whole);
    if (!pages) return NULL;
#ifdef MADV_HUGEPAGE
    madvise(pages, whole, MADV_HUGEPAGE);
#endif
    cl_mem memory = clCreateBuffer(context->handle, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, bytes, pages, NULL);
    /* What is under way keeps the buffer, and so its pages. */
    if (memory && clSetMemObjectDestructorCallback(memory, free_pages, pages) == CL_SUCCESS) return memory;
    if (memory) clReleaseMemObject(memory);
    free(pages);
    return NULL;
}

sora_status sora_buffer_create(sora_context *context, uint64_t bytes, const char *what, sora_buffer *out, sora_error *error)
{
    *out = (sora_buffer) { 0 };
    if (bytes == 0) bytes = sizeof(float);
    if (bytes > context->device.limits.allocation_bytes)
        return refuse(context, bytes, what, "more than one allocation may have", error);
    if (context->memory.current + bytes > context->device.limits.global_bytes)
        return refuse(context, bytes, what, "more than is left", error);
    cl_int code = CL_SUCCESS;
    cl_mem memory = create_in_pages(context, bytes);
    if (!memory) memory = clCreateBuffer(context->handle, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (code != CL_SUCCESS) return refuse(context, bytes, what, sora_cl_name(code), error);
    *out = (sora_buffer) { context, memory, bytes };
    context->memory.current += bytes;
    context->memory.peak = SORA_MAX(context->memory.peak, context->memory.current);
    return SORA_OK;
}

void sora_buffer_destroy(sora_buffer *buffer)
{
    if (!buffer->memory) return;
    clReleaseMemObject(buffer->memory);
    buffer->context->memory.current -= buffer->bytes;
    *buffer = (sora_buffer) { 0 };
}

sora_view sora_view_dense(const sora_buffer *buffer, uint64_t offset, sora_shape shape)
{
    sora_view view = { .memory = buffer->memory, .offset = offset, .shape = shape };
    view.stride = sora_view_inner(&view);
    return view;
}

int64_t sora_view_inner(const sora_view *view)
{
    int64_t inner = view->shape.rank > 0;
    for (int i = 1; i < view->shape.rank; i++) inner *= view->shape.dim[i];
    return inner;
}

int64_t sora_view_elements(const sora_view *view)
{
    return view->shape.rank ? view->shape.dim[0] * sora_view_inner(view) : 0;
}

bool sora_view_is_dense(const sora_view *view)
{
    return view->stride == sora_view_inner(view) || (view->shape.rank && view->shape.dim[0] == 1);
}

static sora_status transfer(sora_context *context, const sora_view *view, void *host, bool write, bool blocking, cl_event *done,
                            sora_error *error)
{
    cl_int code;
    size_t bytes = view->dtype == SORA_F16 ? 2 : 4, row = (size_t)sora_view_inner(view) * bytes,
           rows = view->shape.rank ? (size_t)view->shape.dim[0] : 0;
    if (done) *done = NULL;
    if (rows == 0) return SORA_OK;
    if (sora_view_is_dense(view)) {
        code = write ? clEnqueueWriteBuffer(context->queue, view->memory, blocking, view->offset * bytes, row * rows, host, 0,
                                            NULL, done)
                     : clEnqueueReadBuffer(context->queue, view->memory, blocking, view->offset * bytes, row * rows, host, 0,
                                           NULL, done);
    } else {
        size_t pitch = (size_t)view->stride * bytes, base = view->offset * bytes;
        size_t origin[3] = { 0, 0, 0 }, region[3] = { row, rows, 1 };
        /* A rectangle's pitch must divide nothing but must cover the row; its origin takes the offset's place within the
         * pitch. */
        origin[0] = base % pitch;
        origin[1] = base / pitch;
        size_t host_origin[3] = { 0, 0, 0 };
        if (origin[0] + row <= pitch) {
            code = write ? clEnqueueWriteBufferRect(context->queue, view->memory, blocking, origin, host_origin, region, pitch, 0,
                                                    row, 0, host, 0, NULL, done)
                         : clEnqueueReadBufferRect(context->queue, view->memory, blocking, origin, host_origin, region, pitch, 0,
                                                   row, 0, host, 0, NULL, done);
        } else {
            code = CL_SUCCESS;
            for (size_t i = 0; i < rows && code == CL_SUCCESS; i++) {
                cl_event *last = i + 1 == rows ? done : NULL;
                char *at = (char *)host + i * row;
                code =
                    write ? clEnqueueWriteBuffer(context->queue, view->memory, blocking, base + i * pitch, row, at, 0, NULL, last)
                          : clEnqueueReadBuffer(context->queue, view->memory, blocking, base + i * pitch, row, at, 0, NULL, last);
            }
        }
    }
    return sora_cl_check(code, write ? "writing a buffer" : "reading a buffer", error);
}

sora_status sora_view_read(sora_context *context, const sora_view *view, void *out, sora_error *error)
{
    return transfer(context, view, out, false, true, NULL, error);
}

sora_status sora_view_write(sora_context *context, const sora_view *view, const void *data, sora_error *error)
{
    return transfer(context, view, (void *)data, true, true, NULL, error);
}

sora_status sora_view_write_async(sora_context *context, const sora_view *view, const void *data, cl_event *done,
                                  sora_error *error)
{
    return transfer(context, view, (void *)data, true, false, done, error);
}

sora_status sora_view_read_async(sora_context *context, const sora_view *view, void *out, cl_event *done, sora_error *error)
{
    return transfer(context, view, out, false, false, done, error);
}

sora_status sora_event_wait(sora_context *context, cl_event *event, sora_error *error)
{
    if (!*event) return SORA_OK;
    clFlush(context->queue);
    cl_int code = clWaitForEvents(1, event);
    clReleaseEvent(*event);
    *event = NULL;
    return sora_cl_check(code, "clWaitForEvents", error);
}
