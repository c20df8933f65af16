/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/program.h"

#include "base/file.h"
#include "cl/kernel_source.h"
#include "cl/program_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Denormals and signed zeros are of no use to training; NaN and Inf must stay what they are, so no -cl-finite-math-only. */
#define COMMON_OPTIONS "-cl-std=CL1.2 -cl-mad-enable -cl-no-signed-zeros -cl-kernel-arg-info"
#define MAX_INCLUDES 32
#define MAX_SOURCE (4u << 20)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Source ------------------------------------------------------------------------------------------------------ */

typedef struct includes {
    char names[MAX_INCLUDES][64];
    int count;
} includes;

static sora_status read_kernel_file(const sora_context *context, const char *name, char **out, sora_error *error)
{
    char *path = NULL;
    *out = NULL;
    if (context->kernels) {
        size_t bytes;
        sora_status status = sora_format(&path, error, "%s/%s", context->kernels, name);
        if (status == SORA_OK) status = sora_file_read(path, MAX_SOURCE, (unsigned char **)out, &bytes, error);
        free(path);
        return status;
    }
    for (unsigned i = 0; i < sora_kernel_source_count; i++)
        if (strcmp(sora_kernel_sources[i].name, name) == 0) return sora_duplicate(sora_kernel_sources[i].text, out, error);
    return sora_fail(error, SORA_ERROR_ARGUMENT, "no kernel file %s", name);
}

static sora_status append_file(const sora_context *context, const char *name, includes *seen, FILE *out, sora_error *error)
{
    sora_status status = SORA_OK;
    char *text = NULL;
    for (int i = 0; i < seen->count; i++)
        if (strcmp(seen->names[i], name) == 0) return SORA_OK;
    if (seen->count == MAX_INCLUDES)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: more than %d kernel files included", name, MAX_INCLUDES);
    snprintf(seen->names[seen->count++], sizeof seen->names[0], "%s", name);
    SORA_TRY(read_kernel_file(context, name, &text, error));
    fprintf(out, "#line 1 \"%s\"\n", name);
    int number = 1;
    for (char *line = text, *next; line; line = next, number++) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        char other[64];
        if (sscanf(line, "#include \"%63[^\"]\"", other) == 1) {
            SORA_TRY(append_file(context, other, seen, out, error));
            fprintf(out, "#line %d \"%s\"\n", number + 1, name);
        } else {
            fprintf(out, "%s\n", line);
        }
    }
cleanup:
    free(text);
    return status;
}

sora_status sora_program_source(const sora_context *context, const char *file, char **out, sora_error *error)
{
    includes seen = { 0 };
    char name[64];
    size_t bytes;
    *out = NULL;
    snprintf(name, sizeof name, "%s.cl", file);
    FILE *stream = open_memstream(out, &bytes);
    if (!stream) return sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory for its source", name);
    sora_status status = append_file(context, name, &seen, stream, error);
    if (fclose(stream) != 0 && status == SORA_OK)
        status = sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory for its source", name);
    if (status != SORA_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}

/* ---- Building ---------------------------------------------------------------------------------------------------- */

static sora_status build_failure(const sora_context *context, cl_program program, const char *file, cl_int code,
                                 sora_error *error)
{
    size_t bytes = 0;
    char *log = NULL;
    clGetProgramBuildInfo(program, context->device.device_id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes);
    if (bytes && (log = calloc(bytes + 1, 1)))
        clGetProgramBuildInfo(program, context->device.device_id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL);
    sora_fail(error, SORA_ERROR_DEVICE, "kernels/%s.cl does not build on %s: %s: %.600s", file, context->device.name,
              sora_cl_name(code), log ? log : "");
    free(log);
    return SORA_ERROR_DEVICE;
}

static cl_program program_from_binary(const sora_context *context, const unsigned char *binary, size_t bytes, const char *options)
{
    cl_int code, loaded;
    cl_device_id id = context->device.device_id;
    cl_program program = clCreateProgramWithBinary(context->handle, 1, &id, &bytes, &binary, &loaded, &code);
    if (code == CL_SUCCESS && loaded == CL_SUCCESS && clBuildProgram(program, 1, &id, options, NULL, NULL) == CL_SUCCESS)
        return program;
    if (program) clReleaseProgram(program);
    return NULL;
}

static void store_binary(const sora_context *context, cl_program program, const char *source, const char *options)
{
    size_t bytes = 0;
    unsigned char *binary = NULL;
    if (!context->cache || context->platform_cache) return;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) != CL_SUCCESS || bytes == 0) return;
    if (!(binary = malloc(bytes))) return;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) == CL_SUCCESS)
        sora_program_cache_write(context, source, options, binary, bytes);
    free(binary);
}

/* A processor's mad() may be a product and a sum: PoCL's is, and fma() one instruction. On a GPU mad() is the fast one. */
static const char *multiply_add(const sora_device_limits *limits)
{
    return limits->type == SORA_DEVICE_CPU && limits->fma ? "fma" : "mad";
}

bool sora_pocl_calls_builtins(const char *platform_version)
{
    const char *llvm = strstr(platform_version, "LLVM ");
    return strstr(platform_version, "PoCL") && llvm && strtol(llvm + 5, NULL, 10) >= 17;
}

/* Measured on PoCL 6: multiply-adds at a thirtieth of the rate with it, where they are calls. */
static const char *denormals(const sora_context *context)
{
    char version[256] = "";
    clGetPlatformInfo(context->device.platform_id, CL_PLATFORM_VERSION, sizeof version, version, NULL);
    return sora_pocl_calls_builtins(version) ? "" : "-cl-denorms-are-zero";
}

static sora_status build(const sora_context *context, const char *file, const char *options, cl_program *out,
                         sora_build_account *account, sora_error *error)
{
    sora_status status = SORA_OK;
    char *source = NULL, *all = NULL;
    unsigned char *binary = NULL;
    size_t bytes = 0;
    cl_program program = NULL;
    double start = now();
    *account = (sora_build_account) { 0 };
    SORA_TRY(sora_program_source(context, file, &source, error));
    SORA_TRY(sora_format(&all, error, "%s %s -D MAD=%s %s", COMMON_OPTIONS, denormals(context),
                         multiply_add(&context->device.limits), options));
    if (!context->platform_cache) sora_program_cache_read(context, source, all, &binary, &bytes);
    if (binary) program = program_from_binary(context, binary, bytes, all);
    if (program) {
        account->cached++;
    } else {
        cl_int code;
        const char *text = source;
        cl_device_id id = context->device.device_id;
        program = clCreateProgramWithSource(context->handle, 1, &text, NULL, &code);
        SORA_TRY(sora_cl_check(code, "clCreateProgramWithSource", error));
        code = clBuildProgram(program, 1, &id, all, NULL, NULL);
        if (code != CL_SUCCESS) {
            status = build_failure(context, program, file, code, error);
            goto cleanup;
        }
        *(context->platform_cache ? &account->platform : &account->compiled) += 1;
        store_binary(context, program, source, all);
    }
    account->seconds = now() - start;
    *out = program;
    program = NULL;
cleanup:
    if (program) clReleaseProgram(program);
    free(binary);
    free(source);
    free(all);
    return status;
}

/* The lock is held on entry and exit, and free while the program is built. */
static sora_status build_program(sora_context *context, sora_program *program, sora_error *error)
{
    sora_build_account account;
    cl_program handle = NULL;
    program->state = SORA_PROGRAM_BUILDING;
    pthread_mutex_unlock(&context->lock);
    sora_status status = build(context, program->file, program->options, &handle, &account, error);
    pthread_mutex_lock(&context->lock);
    program->handle = handle;
    program->state = status == SORA_OK ? SORA_PROGRAM_BUILT : SORA_PROGRAM_NEW;
    context->builds.compiled += account.compiled;
    context->builds.cached += account.cached;
    context->builds.platform += account.platform;
    context->builds.seconds += account.seconds;
    pthread_cond_broadcast(&context->changed);
    return status;
}

/* ---- The context's programs -------------------------------------------------------------------------------------- */

static sora_status find_program(sora_context *context, const char *file, const char *options, sora_program **out,
                                sora_error *error)
{
    sora_status status = SORA_OK;
    sora_program *fresh = NULL;
    for (size_t i = 0; i < context->program_count; i++) {
        sora_program *p = context->programs[i];
        if (strcmp(p->file, file) == 0 && strcmp(p->options, options) == 0) {
            *out = p;
            return SORA_OK;
        }
    }
    SORA_TRY(sora_allocate(1, sizeof *fresh, "program", &fresh, error));
    SORA_TRY(sora_duplicate(file, &fresh->file, error));
    SORA_TRY(sora_duplicate(options, &fresh->options, error));
    pthread_mutex_lock(&context->lock);
    status = sora_reserve(&context->programs, &context->program_capacity, context->program_count + 1, sizeof fresh, error);
    if (status == SORA_OK) context->programs[context->program_count++] = *out = fresh;
    pthread_mutex_unlock(&context->lock);
cleanup:
    if (status != SORA_OK && fresh) {
        free(fresh->file);
        free(fresh->options);
        free(fresh);
    }
    return status;
}

sora_status sora_kernel_find(sora_context *context, const char *file, const char *options, const char *name, sora_kernel **out,
                             sora_error *error)
{
    sora_status status = SORA_OK;
    sora_kernel *fresh = NULL;
    sora_program *program;
    SORA_TRY(find_program(context, file, options ? options : "", &program, error));
    for (size_t i = 0; i < program->kernel_count; i++) {
        if (strcmp(program->kernels[i]->name, name) == 0) {
            *out = program->kernels[i];
            return SORA_OK;
        }
    }
    SORA_TRY(sora_reserve(&program->kernels, &program->kernel_capacity, program->kernel_count + 1, sizeof fresh, error));
    SORA_TRY(sora_allocate(1, sizeof *fresh, name, &fresh, error));
    fresh->program = program;
    SORA_TRY(sora_duplicate(name, &fresh->name, error));
    program->kernels[program->kernel_count++] = *out = fresh;
    context->kernels_known++;
    return SORA_OK;
cleanup:
    free(fresh);
    return status;
}

sora_status sora_kernel_build(sora_context *context, sora_kernel *kernel, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_program *program = kernel->program;
    cl_int code;
    if (kernel->handle) return SORA_OK;
    pthread_mutex_lock(&context->lock);
    while (program->state == SORA_PROGRAM_BUILDING) pthread_cond_wait(&context->changed, &context->lock);
    if (program->state == SORA_PROGRAM_NEW) status = build_program(context, program, error);
    pthread_mutex_unlock(&context->lock);
    if (status != SORA_OK) return status;
    cl_kernel handle = clCreateKernel(program->handle, kernel->name, &code);
    if (code != CL_SUCCESS)
        SORA_FAIL(error, SORA_ERROR_DEVICE, "kernels/%s.cl has no kernel %s: %s", program->file, kernel->name,
                  sora_cl_name(code));
    SORA_TRY(sora_cl_check(clGetKernelInfo(handle, CL_KERNEL_NUM_ARGS, sizeof kernel->arguments, &kernel->arguments, NULL),
                           "clGetKernelInfo", error));
    if (clGetKernelWorkGroupInfo(handle, context->device.device_id, CL_KERNEL_WORK_GROUP_SIZE, sizeof kernel->work_group,
                                 &kernel->work_group, NULL) != CL_SUCCESS)
        kernel->work_group = SIZE_MAX;
    kernel->handle = handle;
    handle = NULL;
cleanup:
    if (handle) clReleaseKernel(handle);
    return status;
}

/* ---- Ahead of their first launch --------------------------------------------------------------------------------- */

static void *build_ahead(void *self)
{
    sora_context *context = self;
    pthread_mutex_lock(&context->lock);
    for (size_t i = 0; i < context->program_count && !context->closing; i++) {
        sora_program *program = context->programs[i];
        if (program->state != SORA_PROGRAM_NEW || program->tried) continue;
        program->tried = true;
        build_program(context, program, NULL);
    }
    context->building = false;
    pthread_mutex_unlock(&context->lock);
    return NULL;
}

static void join_builder(sora_context *context)
{
    if (context->builder_started) pthread_join(context->builder, NULL);
    context->builder_started = false;
}

void sora_programs_build_ahead(sora_context *context)
{
    pthread_mutex_lock(&context->lock);
    bool busy = context->building;
    context->building = true;
    pthread_mutex_unlock(&context->lock);
    if (busy) return;
    join_builder(context);
    /* Without a thread every program is built at its first launch. */
    context->builder_started = pthread_create(&context->builder, NULL, build_ahead, context) == 0;
}

sora_status sora_program_expect(sora_context *context, const char *file, const char *options, sora_error *error)
{
    sora_program *program;
    sora_status status = find_program(context, file, options, &program, error);
    if (status == SORA_OK) sora_programs_build_ahead(context);
    return status;
}

sora_status sora_programs_create(sora_context *context, sora_error *error)
{
    if (pthread_mutex_init(&context->lock, NULL) != 0 || pthread_cond_init(&context->changed, NULL) != 0)
        return sora_fail(error, SORA_ERROR_MEMORY, "no lock for the programs of a context");
    return SORA_OK;
}

void sora_programs_destroy(sora_context *context)
{
    pthread_mutex_lock(&context->lock);
    context->closing = true;
    pthread_mutex_unlock(&context->lock);
    join_builder(context);
    for (size_t i = 0; i < context->program_count; i++) {
        sora_program *p = context->programs[i];
        for (size_t k = 0; k < p->kernel_count; k++) {
            if (p->kernels[k]->handle) clReleaseKernel(p->kernels[k]->handle);
            free(p->kernels[k]->name);
            free(p->kernels[k]);
        }
        if (p->handle) clReleaseProgram(p->handle);
        free(p->kernels);
        free(p->file);
        free(p->options);
        free(p);
    }
    free(context->programs);
    pthread_mutex_destroy(&context->lock);
    pthread_cond_destroy(&context->changed);
}
