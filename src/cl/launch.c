/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/launch.h"

#include "cl/profile.h"
#include "cl/program.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* First launches that took longer than this altogether are told of, and so often. */
#define SLOW_SECONDS 1.0
#define TELL_SECONDS 2.0
#define MOST_GROUPS 65535

static const char *const type_names[] = {
    [SORA_ARGUMENT_INT] = "int",       [SORA_ARGUMENT_UINT] = "uint",   [SORA_ARGUMENT_LONG] = "long",
    [SORA_ARGUMENT_ULONG] = "ulong",   [SORA_ARGUMENT_FLOAT] = "float", [SORA_ARGUMENT_INT4] = "int4",
    [SORA_ARGUMENT_FLOAT4] = "float4",
};

/* A name that is none of ours is the driver's own for what may be right. */
static bool is_type(const char *type, sora_argument_kind kind)
{
    for (size_t i = 0; i < SORA_COUNT(type_names); i++)
        if (type_names[i] && strcmp(type, type_names[i]) == 0) return i == kind;
    return true;
}

/* Where the driver tells the types of arguments, a launch with another is refused. */
static sora_status check_type(const sora_launch_desc *desc, cl_kernel kernel, cl_uint index, sora_argument_kind kind,
                              sora_error *error)
{
    cl_kernel_arg_address_qualifier space;
    char type[64];
    bool ok;
    if (kind == SORA_ARGUMENT_VIEW || kind == SORA_ARGUMENT_LOCAL) {
        if (clGetKernelArgInfo(kernel, index, CL_KERNEL_ARG_ADDRESS_QUALIFIER, sizeof space, &space, NULL) != CL_SUCCESS)
            return SORA_OK;
        bool global = space == CL_KERNEL_ARG_ADDRESS_GLOBAL || space == CL_KERNEL_ARG_ADDRESS_CONSTANT;
        ok = kind == SORA_ARGUMENT_VIEW ? global : space == CL_KERNEL_ARG_ADDRESS_LOCAL;
        snprintf(type, sizeof type, "another address space");
    } else {
        if (clGetKernelArgInfo(kernel, index, CL_KERNEL_ARG_TYPE_NAME, sizeof type, type, NULL) != CL_SUCCESS) return SORA_OK;
        ok = is_type(type, kind);
    }
    if (ok) return SORA_OK;
    return sora_fail(error, SORA_ERROR_ARGUMENT, "kernel %s: argument %u has type %s, not what the launch gives (%s)",
                     desc->kernel, index, type,
                     kind == SORA_ARGUMENT_VIEW    ? "a view"
                     : kind == SORA_ARGUMENT_LOCAL ? "local memory"
                                                   : type_names[kind]);
}

static cl_int set_argument(cl_kernel kernel, cl_uint *index, const sora_argument *a)
{
    cl_ulong offset;
    cl_int code;
    switch (a->kind) {
    case SORA_ARGUMENT_VIEW:
        offset = a->value.view ? a->value.view->offset : 0;
        code = clSetKernelArg(kernel, (*index)++, sizeof(cl_mem),
                              a->value.view && a->value.view->memory ? &a->value.view->memory : NULL);
        return code != CL_SUCCESS ? code : clSetKernelArg(kernel, (*index)++, sizeof offset, &offset);
    case SORA_ARGUMENT_LOCAL: return clSetKernelArg(kernel, (*index)++, a->value.local_bytes, NULL);
    case SORA_ARGUMENT_LONG:
    case SORA_ARGUMENT_ULONG: return clSetKernelArg(kernel, (*index)++, 8, &a->value.ul);
    case SORA_ARGUMENT_INT4:
    case SORA_ARGUMENT_FLOAT4: return clSetKernelArg(kernel, (*index)++, 16, a->value.i4);
    default: return clSetKernelArg(kernel, (*index)++, 4, &a->value.u);
    }
}

static sora_status set_arguments(const sora_launch_desc *desc, sora_kernel *kernel, sora_error *error)
{
    cl_uint index = 0, given = 0;
    for (const sora_argument *a = desc->arguments; a->kind != SORA_ARGUMENT_NONE; a++)
        given += a->kind == SORA_ARGUMENT_VIEW ? 2 : 1;
    if (given != kernel->arguments)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "kernel %s takes %u arguments, the launch gives %u", desc->kernel,
                         kernel->arguments, given);
    for (const sora_argument *a = desc->arguments; a->kind != SORA_ARGUMENT_NONE; a++) {
        cl_uint at = index;
        sora_status status = kernel->checked ? SORA_OK : check_type(desc, kernel->handle, at, a->kind, error);
        if (status != SORA_OK) return status;
        cl_int code = set_argument(kernel->handle, &index, a);
        if (code != CL_SUCCESS)
            return sora_fail(error, SORA_ERROR_DEVICE, "kernel %s: argument %u: %s", desc->kernel, at, sora_cl_name(code));
    }
    kernel->checked = true;
    return SORA_OK;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A platform with a cache of its own compiles a kernel when it first runs, in a thread of its own, so only waiting for that run shows
 * what it took. */
static sora_status end_first(sora_context *context, double start, sora_error *error)
{
    sora_status status = sora_context_finish(context, error);
    double end = now();
    context->kernels_ready++;
    context->compile_seconds += end - start;
    bool last = context->kernels_ready == context->kernels_known;
    if (context->compile_seconds < SLOW_SECONDS || (last ? context->told == 0.0 : end - context->told < TELL_SECONDS))
        return status;
    context->told = last ? 0.0 : end;
    const sora_compile_progress progress = { .done = context->kernels_ready,
                                             .known = context->kernels_known,
                                             .seconds_left = context->compile_seconds / context->kernels_ready *
                                                             (context->kernels_known - context->kernels_ready) };
    context->notify(context->self, &progress);
    return status;
}

void sora_launches_rehearse(sora_context *context)
{
    context->rehearsing = true;
}

void sora_launches_rehearsed(sora_context *context)
{
    context->rehearsing = false;
    sora_programs_build_ahead(context);
}

/* What the launch says; where it says nothing, single work-items on a CPU, and on a GPU, which would leave the other lanes of each
 * empty, powers of two that divide the launch, up to a wave of 64. */
static void choose_groups(const sora_device_limits *limits, size_t most, const sora_launch_desc *desc, const size_t *global,
                          size_t *local)
{
    size_t left = desc->local[0] || limits->type == SORA_DEVICE_CPU ? 1 : 64;
    while (left > most) left /= 2;
    for (int i = 0; i < 3; i++) {
        local[i] = desc->local[i] ? desc->local[i] : left;
        while (!desc->local[i] && (global[i] % local[i] != 0 || local[i] > limits->work_item[i])) local[i] /= 2;
        left /= SORA_MIN(left, local[i]);
    }
}

/* Groups in one command, which is all of them but in the second and third dimension of a large launch. */
static sora_status enqueue_part(sora_context *context, const sora_launch_desc *desc, cl_kernel kernel, const size_t *from,
                                const size_t *global, const size_t *local, double share, sora_error *error)
{
    cl_event event = NULL;
    cl_int code =
        clEnqueueNDRangeKernel(context->queue, kernel, 3, from, global, local, 0, NULL, context->profile ? &event : NULL);
    if (code != CL_SUCCESS)
        return sora_fail(error, sora_cl_status(code), "kernel %s (%s): %s (%d)", desc->kernel,
                         desc->label ? desc->label : desc->file, sora_cl_name(code), (int)code);
    if (!context->profile) return SORA_OK;
    return sora_profile_add(context->profile, event, desc->kernel, desc->label ? desc->label : desc->kernel, share * desc->flops,
                            share * desc->bytes, error);
}

/* CUDA's devices take no more groups than MOST_GROUPS in these two dimensions, and OpenCL has no question for that: what is more
 * comes in commands behind. Ids go on from one to the next; sizes and groups' numbers in these dimensions would not, so kernels
 * don't ask for those (tests/structure.py). */
static sora_status enqueue(sora_context *context, const sora_launch_desc *desc, cl_kernel kernel, const size_t *global,
                           const size_t *local, sora_error *error)
{
    size_t most[3] = { global[0], global[1], global[2] };
    for (int i = 1; i < 3 && context->device.limits.type != SORA_DEVICE_CPU; i++)
        most[i] = SORA_MIN(global[i], MOST_GROUPS * local[i]);
    for (size_t z = 0; z < global[2]; z += most[2])
        for (size_t y = 0; y < global[1]; y += most[1]) {
            const size_t from[3] = { 0, y, z };
            const size_t part[3] = { global[0], SORA_MIN(most[1], global[1] - y), SORA_MIN(most[2], global[2] - z) };
            double share = (double)part[1] * (double)part[2] / ((double)global[1] * (double)global[2]);
            sora_status status = enqueue_part(context, desc, kernel, y || z ? from : NULL, part, local, share, error);
            if (status != SORA_OK) return status;
        }
    return SORA_OK;
}

sora_status sora_launch(sora_context *context, const sora_launch_desc *desc, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_kernel *kernel;
    size_t global[3], local[3], group = 1;
    if (desc->global[0] == 0) return SORA_OK;
    for (int i = 0; i < 3; i++) global[i] = desc->global[i] ? desc->global[i] : 1;
    choose_groups(&context->device.limits, context->device.limits.work_group, desc, global, local);
    for (int i = 0; i < 3; i++) {
        group *= local[i];
        if (global[i] % local[i] != 0 || local[i] > context->device.limits.work_item[i])
            return sora_fail(error, SORA_ERROR_ARGUMENT, "kernel %s: %zu work-items in groups of %zu in dimension %d",
                             desc->kernel, global[i], local[i], i);
    }
    if (group > context->device.limits.work_group)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "kernel %s: a work-group of %zu, the device takes %llu", desc->kernel, group,
                         (unsigned long long)context->device.limits.work_group);
    SORA_TRY(sora_kernel_find(context, desc->file, desc->options, desc->kernel, &kernel, error));
    if (context->rehearsing) return SORA_OK;
    bool first = !kernel->checked && context->notify;
    if (first) SORA_TRY(sora_context_finish(context, error));
    double start = first ? now() : 0;
    SORA_TRY(sora_kernel_build(context, kernel, error));
    if (group > kernel->work_group) {
        choose_groups(&context->device.limits, kernel->work_group, desc, global, local);
        group = local[0] * local[1] * local[2];
    }
    if (group > kernel->work_group)
        SORA_FAIL(error, SORA_ERROR_DEVICE, "kernel %s: a work-group of %zu, its code takes %zu on %s", desc->kernel, group,
                  kernel->work_group, context->device.name);
    SORA_TRY(set_arguments(desc, kernel, error));
    SORA_TRY(enqueue(context, desc, kernel->handle, global, local, error));
    if (first) SORA_TRY(end_first(context, start, error));
    context->work.launches++;
    context->work.flops += desc->flops;
cleanup:
    return status;
}
