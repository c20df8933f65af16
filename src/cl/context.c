/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/context.h"

#include "cl/profile.h"
#include "cl/program.h"
#include "cl/program_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#define NAME(code) \
    case code: return #code;

const char *sora_cl_name(cl_int code)
{
    switch (code) {
        NAME(CL_SUCCESS)
        NAME(CL_DEVICE_NOT_AVAILABLE)
        NAME(CL_COMPILER_NOT_AVAILABLE)
        NAME(CL_MEM_OBJECT_ALLOCATION_FAILURE)
        NAME(CL_OUT_OF_RESOURCES)
        NAME(CL_OUT_OF_HOST_MEMORY)
        NAME(CL_BUILD_PROGRAM_FAILURE)
        NAME(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)
        NAME(CL_INVALID_VALUE)
        NAME(CL_INVALID_CONTEXT)
        NAME(CL_INVALID_COMMAND_QUEUE)
        NAME(CL_INVALID_MEM_OBJECT)
        NAME(CL_INVALID_BINARY)
        NAME(CL_INVALID_BUILD_OPTIONS)
        NAME(CL_INVALID_KERNEL_NAME)
        NAME(CL_INVALID_ARG_INDEX)
        NAME(CL_INVALID_ARG_VALUE)
        NAME(CL_INVALID_ARG_SIZE)
        NAME(CL_INVALID_KERNEL_ARGS)
        NAME(CL_INVALID_WORK_DIMENSION)
        NAME(CL_INVALID_WORK_GROUP_SIZE)
        NAME(CL_INVALID_WORK_ITEM_SIZE)
        NAME(CL_INVALID_GLOBAL_WORK_SIZE)
        NAME(CL_INVALID_EVENT)
        NAME(CL_INVALID_OPERATION)
        NAME(CL_INVALID_BUFFER_SIZE)
        NAME(CL_INVALID_DEVICE)
    default: return "an unnamed OpenCL error";
    }
}

sora_status sora_cl_status(cl_int code)
{
    if (code == CL_SUCCESS) return SORA_OK;
    return code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_HOST_MEMORY ? SORA_ERROR_MEMORY : SORA_ERROR_DEVICE;
}

sora_status sora_cl_check(cl_int code, const char *call, sora_error *error)
{
    if (code == CL_SUCCESS) return SORA_OK;
    return sora_fail(error, sora_cl_status(code), "%s: %s (%d)", call, sora_cl_name(code), (int)code);
}

sora_status sora_context_create(const sora_context_options *options, sora_context **out, sora_error *error)
{
    static const sora_context_options standard = { 0 };
    sora_status status = SORA_OK;
    sora_device *devices = NULL;
    sora_context *context = NULL;
    size_t count, picked;
    cl_int code;
    *out = NULL;
    if (!options) options = &standard;

    SORA_TRY(sora_allocate(1, sizeof *context, "context", &context, error));
    if ((status = sora_programs_create(context, error)) != SORA_OK) {
        free(context);
        return status;
    }
    SORA_TRY(sora_devices_list(&devices, &count, error));
    SORA_TRY(
        sora_device_choose(devices, count, options->device ? options->device : getenv("SORACL_DEVICE"), &picked, NULL, error));
    context->device = devices[picked];
    if (options->limits) context->device.limits = *options->limits;
    context->notify = options->notify;
    context->self = options->self;

    const char *kernels = options->kernels ? options->kernels : getenv("SORACL_KERNELS");
    if (kernels && *kernels) SORA_TRY(sora_duplicate(kernels, &context->kernels, error));
    SORA_TRY(sora_program_cache_folder(options->cache, &context->cache, error));
    /* Measured: clGetProgramInfo(CL_PROGRAM_BINARIES) makes PoCL compile every kernel for generic sizes, seconds of work, while a
     * second clBuildProgram of the same source reads its own disk cache. */
    context->platform_cache = strcmp(context->device.platform, "Portable Computing Language") == 0;

    cl_device_id id = context->device.device_id;
    const cl_context_properties properties[] = { CL_CONTEXT_PLATFORM, (cl_context_properties)context->device.platform_id, 0 };
    context->handle = clCreateContext(properties, 1, &id, NULL, NULL, &code);
    SORA_TRY(sora_cl_check(code, "clCreateContext", error));
    context->queue = clCreateCommandQueue(context->handle, id, options->profile ? CL_QUEUE_PROFILING_ENABLE : 0, &code);
    SORA_TRY(sora_cl_check(code, "clCreateCommandQueue", error));
    if (options->profile) SORA_TRY(sora_profile_create(&context->profile, error));
    sora_tuning_open(context);
    *out = context;
    context = NULL;
cleanup:
    free(devices);
    sora_context_destroy(&context);
    return status;
}

void sora_context_destroy(sora_context **pointer)
{
    sora_context *context = *pointer;
    if (!context) return;
    if (context->queue) clFinish(context->queue);
    sora_programs_destroy(context);
    sora_tuning_close(context);
    sora_profile_destroy(&context->profile);
    sora_buffer_destroy(&context->scratch);
    if (context->queue) clReleaseCommandQueue(context->queue);
    if (context->handle) clReleaseContext(context->handle);
    free(context->kernels);
    free(context->cache);
    free(context);
    *pointer = NULL;
}

const sora_device *sora_context_device(const sora_context *context)
{
    return &context->device;
}

cl_command_queue sora_context_queue(const sora_context *context)
{
    return context->queue;
}

sora_status sora_context_finish(sora_context *context, sora_error *error)
{
    return sora_cl_check(clFinish(context->queue), "clFinish", error);
}

sora_memory_account sora_context_memory(const sora_context *context)
{
    sora_memory_account account = context->memory;
    account.libraries = context->scratch.bytes;
    return account;
}

void sora_context_reset_peak(sora_context *context)
{
    context->memory.peak = context->memory.current;
}

sora_build_account sora_context_builds(sora_context *context)
{
    pthread_mutex_lock(&context->lock);
    sora_build_account builds = context->builds;
    pthread_mutex_unlock(&context->lock);
    return builds;
}

sora_work_account sora_context_work(const sora_context *context)
{
    return context->work;
}

uint64_t sora_process_bytes_peak(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %llu kB", &kib) == 1) break;
    if (file) fclose(file);
    if (kib) return kib * 1024;
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

void sora_process_reset_peak(void)
{
#ifdef __GLIBC__
    malloc_trim(0); /* what was freed before would count as what follows */
#endif
    FILE *file = fopen("/proc/self/clear_refs", "we");
    if (!file) return;
    fputs("5", file);
    fclose(file);
}
