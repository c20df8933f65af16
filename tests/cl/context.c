/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/context.h"
#include "base/file.h"
#include "cl/launch.h"
#include "cl/program.h"

#include <dlfcn.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../gpu.h"

#define OK(call) check((call), &error, __LINE__)

static void check(sora_status status, const sora_error *error, int line)
{
    if (status != SORA_OK) fail_msg("line %d: %s", line, error->message);
}

static const char header_text[] = "inline float twice(float x) { return 2.0f * x; }\n";
static const char kernel_text[] =
    "#include \"twice.h\"\n#include \"twice.h\"\n"
    "__kernel void doubled(__global const float *x, ulong x_at, __global float *y, ulong y_at, int n)\n"
    "{\n    int i = get_global_id(0);\n    if (i < n) y[y_at + i] = twice(x[x_at + i]) + OFFSET;\n}\n";

static const char groups_text[] = "__kernel void groups(__global float *y, ulong y_at)\n"
                                  "{\n    for (int i = 0; i < 3; i++) y[y_at + i] = get_local_size(i);\n}\n"
                                  "__kernel void rows(__global float *y, ulong y_at)\n"
                                  "{\n    int row = get_global_id(1) + get_global_id(2);\n"
                                  "    y[y_at + 2 * row + get_global_id(0)] += 1 + row;\n}\n";

typedef struct fixture {
    char folder[64];
    char kernels[96], cache[96];
} fixture;

static int setup(void **state)
{
    static fixture f;
    sora_error error;
    char path[160];
    snprintf(f.folder, sizeof f.folder, "/tmp/soracl-test-XXXXXX");
    if (!mkdtemp(f.folder)) return -1;
    snprintf(f.kernels, sizeof f.kernels, "%s/kernels", f.folder);
    snprintf(f.cache, sizeof f.cache, "%s/cache", f.folder);
    if (sora_folder_create(f.kernels, &error)) return -1;
    snprintf(path, sizeof path, "%s/twice.h", f.kernels);
    if (sora_file_write(path, header_text, strlen(header_text), &error)) return -1;
    snprintf(path, sizeof path, "%s/double.cl", f.kernels);
    if (sora_file_write(path, kernel_text, strlen(kernel_text), &error)) return -1;
    snprintf(path, sizeof path, "%s/groups.cl", f.kernels);
    if (sora_file_write(path, groups_text, strlen(groups_text), &error)) return -1;
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    return sora_folder_remove(((fixture *)*state)->folder, NULL) == SORA_OK ? 0 : -1;
}

static sora_context *open_context(const fixture *f, bool profile)
{
    sora_error error;
    sora_context *context;
    OK(sora_context_create(&(sora_context_options) { .kernels = f->kernels, .cache = f->cache, .profile = profile }, &context,
                           &error));
    return context;
}

static sora_status launch(sora_context *context, const sora_view *x, const sora_view *y, int n, sora_error *error)
{
    return sora_launch(context,
                       &(sora_launch_desc) { .file = "double",
                                             .kernel = "doubled",
                                             .options = "-D OFFSET=0.5f",
                                             .global = { (size_t)n },
                                             .label = "a \"label\"",
                                             .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(y), SORA_INT(n)) },
                       error);
}

static void run_doubled(sora_context *context)
{
    sora_error error;
    sora_buffer buffer;
    float in[5] = { 1, 2, 3, 4, 5 }, out[5];
    OK(sora_buffer_create(context, 64, "test", &buffer, &error));
    sora_view x = sora_view_dense(&buffer, 1, SORA_SHAPE(5)), y = sora_view_dense(&buffer, 7, SORA_SHAPE(5));
    OK(sora_view_write(context, &x, in, &error));
    OK(launch(context, &x, &y, 5, &error));
    OK(sora_view_read(context, &y, out, &error));
    for (int i = 0; i < 5; i++) assert_true(out[i] == 2 * in[i] + 0.5f);
    assert_int_equal(sora_context_memory(context).current, 64);
    sora_buffer_destroy(&buffer);
    assert_int_equal(sora_context_memory(context).current, 0);
    assert_int_equal(sora_context_memory(context).peak, 64);
}

/* A file that does not build without its option, and one that isn't there. */
static void refuse_to_build(sora_context *context)
{
    sora_error error;
    sora_launch_desc desc = { .file = "double", .kernel = "doubled", .options = "", .global = { 1 } };
    assert_int_equal(sora_launch(context, &desc, &error), SORA_ERROR_DEVICE);
    assert_non_null(strstr(error.message, "double.cl does not build"));
    desc.file = "none";
    assert_int_not_equal(sora_launch(context, &desc, &error), SORA_OK);
    assert_non_null(strstr(error.message, "none.cl"));
}

static void test_launch(void **state)
{
    sora_error error;
    sora_context *context = open_context(*state, false);
    run_doubled(context);
    sora_buffer buffer;
    OK(sora_buffer_create(context, 64, "test", &buffer, &error));
    sora_view x = sora_view_dense(&buffer, 0, SORA_SHAPE(5));
    sora_launch_desc desc = { .file = "double",
                              .kernel = "doubled",
                              .options = "-D OFFSET=1.0f",
                              .global = { 5 },
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(&x), SORA_VIEW(&x)) };
    assert_int_equal(sora_launch(context, &desc, &error), SORA_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "takes 5 arguments, the launch gives 4"));
    desc.arguments = SORA_ARGUMENTS(SORA_VIEW(&x), SORA_VIEW(&x), SORA_FLOAT(1));
    assert_int_equal(sora_launch(context, &desc, &error), SORA_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "argument 4 has type int"));
    desc.arguments = SORA_ARGUMENTS(SORA_VIEW(&x), SORA_VIEW(&x), SORA_INT4(5, 0, 0, 0));
    assert_int_equal(sora_launch(context, &desc, &error), SORA_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "not what the launch gives (int4)"));
    desc.kernel = "absent";
    assert_int_equal(sora_launch(context, &desc, &error), SORA_ERROR_DEVICE);
    assert_non_null(strstr(error.message, "has no kernel absent"));
    refuse_to_build(context);
    sora_buffer_destroy(&buffer);
    sora_context_destroy(&context);
    assert_null(context);
}

/* What a driver calls an argument's type, in the place of what ours does. */
static const char *type_told;

cl_int clGetKernelArgInfo(cl_kernel kernel, cl_uint index, cl_kernel_arg_info what, size_t bytes, void *out, size_t *size)
{
    cl_int (*real)(cl_kernel, cl_uint, cl_kernel_arg_info, size_t, void *, size_t *) = dlsym(RTLD_NEXT, "clGetKernelArgInfo");
    if (!type_told || what != CL_KERNEL_ARG_TYPE_NAME) return real(kernel, index, what, bytes, out, size);
    snprintf(out, bytes, "%s", type_told);
    return CL_SUCCESS;
}

/* A driver's own names for types are no reason to refuse a launch. */
static void test_other_type_names(void **state)
{
    sora_context *context = open_context(*state, false);
    type_told = "int32_t";
    run_doubled(context);
    type_told = NULL;
    sora_context_destroy(&context);
}

/* The most that a kernel's code may be launched in, in the place of what the driver says. */
static size_t group_told;

cl_int clGetKernelWorkGroupInfo(cl_kernel kernel, cl_device_id device, cl_kernel_work_group_info what, size_t bytes, void *out,
                                size_t *size)
{
    cl_int (*real)(cl_kernel, cl_device_id, cl_kernel_work_group_info, size_t, void *, size_t *) =
        dlsym(RTLD_NEXT, "clGetKernelWorkGroupInfo");
    if (!group_told) return real(kernel, device, what, bytes, out, size);
    *(size_t *)out = group_told;
    return CL_SUCCESS;
}

/* A kernel that takes less than the device gets less, where the launch doesn't say; else the message does. */
static void test_small_groups(void **state)
{
    const fixture *f = *state;
    sora_error error;
    sora_context *own = open_context(f, false), *context;
    sora_device_limits limits = gpu_limits(own);
    OK(sora_context_create(&(sora_context_options) { .kernels = f->kernels, .cache = f->cache, .limits = &limits }, &context,
                           &error));
    sora_buffer buffer;
    OK(sora_buffer_create(context, 64, "test", &buffer, &error));
    sora_view y = sora_view_dense(&buffer, 0, SORA_SHAPE(3));
    float out[3];
    sora_launch_desc desc = {
        .file = "groups", .kernel = "groups", .options = "", .global = { 640 }, .arguments = SORA_ARGUMENTS(SORA_VIEW(&y))
    };
    group_told = 24;
    OK(sora_launch(context, &desc, &error));
    group_told = 0;
    OK(sora_view_read(context, &y, out, &error));
    assert_int_equal((int)out[0], 16);
    desc.local[0] = 64;
    assert_int_equal(sora_launch(context, &desc, &error), SORA_ERROR_DEVICE);
    assert_non_null(strstr(error.message, "a work-group of 64, its code takes 24"));
    sora_buffer_destroy(&buffer);
    sora_context_destroy(&context);
    sora_context_destroy(&own);
}

/* Where a launch doesn't say: a GPU's work-items by the wave, as far as they divide the launch. */
static void test_groups(void **state)
{
    static const struct {
        size_t global[3], local[3];
    } cases[] = {
        { { 640 }, { 64, 1, 1 } }, { { 96, 6, 2 }, { 32, 2, 1 } }, { { 17, 8, 2 }, { 1, 8, 2 } }, { { 4, 64 }, { 4, 16, 1 } }
    };
    const fixture *f = *state;
    sora_error error;
    sora_context *contexts[2] = { open_context(f, false) };
    sora_device_limits limits = gpu_limits(contexts[0]);
    OK(sora_context_create(&(sora_context_options) { .kernels = f->kernels, .cache = f->cache, .limits = &limits }, &contexts[1],
                           &error));
    for (int gpu = 0; gpu < 2; gpu++) {
        bool cpu = sora_context_device(contexts[gpu])->limits.type == SORA_DEVICE_CPU;
        sora_buffer buffer;
        OK(sora_buffer_create(contexts[gpu], 64, "test", &buffer, &error));
        sora_view y = sora_view_dense(&buffer, 0, SORA_SHAPE(3));
        for (size_t i = 0; i < SORA_COUNT(cases); i++) {
            float out[3];
            sora_launch_desc desc = {
                .file = "groups", .kernel = "groups", .options = "", .arguments = SORA_ARGUMENTS(SORA_VIEW(&y))
            };
            memcpy(desc.global, cases[i].global, sizeof desc.global);
            OK(sora_launch(contexts[gpu], &desc, &error));
            OK(sora_view_read(contexts[gpu], &y, out, &error));
            for (int d = 0; d < 3; d++) assert_int_equal((int)out[d], cpu ? 1 : (int)cases[i].local[d]);
        }
        sora_buffer_destroy(&buffer);
        sora_context_destroy(&contexts[gpu]);
    }
}

/* The most groups of a command in its second and third dimension. */
static size_t widest;

cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t *offset,
                              const size_t *global, const size_t *local, cl_uint count, const cl_event *events, cl_event *event)
{
    cl_int (*real)(cl_command_queue, cl_kernel, cl_uint, const size_t *, const size_t *, const size_t *, cl_uint,
                   const cl_event *, cl_event *) = dlsym(RTLD_NEXT, "clEnqueueNDRangeKernel");
    for (cl_uint i = 1; i < dimensions; i++) widest = SORA_MAX(widest, global[i] / local[i]);
    return real(queue, kernel, dimensions, offset, global, local, count, events, event);
}

/* A launch of more groups than CUDA's devices take comes in parts, on a CPU as one; every work-item comes once. */
static void test_many_groups(void **state)
{
    enum { ROWS = 2 * 65535 + 7 };
    const fixture *f = *state;
    sora_error error;
    sora_context *contexts[2] = { open_context(f, false) };
    sora_device_limits limits = gpu_limits(contexts[0]);
    OK(sora_context_create(
        &(sora_context_options) { .kernels = f->kernels, .cache = f->cache, .limits = &limits, .profile = true }, &contexts[1],
        &error));
    float *out = malloc(2 * ROWS * sizeof *out);
    assert_non_null(out);
    for (int gpu = 0; gpu < 2; gpu++) {
        for (int dimension = 1; dimension < 3; dimension++) {
            sora_buffer buffer;
            OK(sora_buffer_create(contexts[gpu], 2 * ROWS * sizeof *out, "test", &buffer, &error));
            sora_view y = sora_view_dense(&buffer, 0, SORA_SHAPE(2 * ROWS));
            for (int i = 0; i < 2 * ROWS; i++) out[i] = 0.0f;
            OK(sora_view_write(contexts[gpu], &y, out, &error));
            sora_launch_desc desc = { .file = "groups",
                                      .kernel = "rows",
                                      .options = "",
                                      .global = { 2, 1, 1 },
                                      .local = { 2, 1, 1 },
                                      .arguments = SORA_ARGUMENTS(SORA_VIEW(&y)) };
            desc.global[dimension] = ROWS;
            widest = 0;
            OK(sora_launch(contexts[gpu], &desc, &error));
            bool cpu = sora_context_device(contexts[gpu])->limits.type == SORA_DEVICE_CPU;
            assert_int_equal(widest, cpu ? ROWS : 65535);
            OK(sora_view_read(contexts[gpu], &y, out, &error));
            for (int i = 0; i < 2 * ROWS; i++) assert_true(out[i] == (float)(1 + i / 2));
            sora_buffer_destroy(&buffer);
        }
        sora_context_destroy(&contexts[gpu]);
    }
    free(out);
}

/* Memory that a CPU device takes from the host stays while something is under way. */
static void test_large(void **state)
{
    enum { COUNT = (1 << 20) + 3 };
    sora_error error;
    sora_context *context = open_context(*state, false);
    float *in = malloc(COUNT * sizeof *in), *out = calloc(COUNT, sizeof *out);
    assert_true(in && out);
    for (int i = 0; i < COUNT; i++) in[i] = (float)i;
    for (int round = 0; round < 3; round++) {
        sora_buffer buffer;
        cl_event done;
        OK(sora_buffer_create(context, COUNT * sizeof *in, "test", &buffer, &error));
        sora_view x = sora_view_dense(&buffer, 0, SORA_SHAPE(COUNT));
        OK(sora_view_write_async(context, &x, in, NULL, &error));
        OK(launch(context, &x, &x, COUNT, &error));
        OK(sora_view_read_async(context, &x, out, &done, &error));
        sora_buffer_destroy(&buffer);
        assert_int_equal(sora_context_memory(context).current, 0);
        OK(sora_event_wait(context, &done, &error));
        for (int i = 0; i < COUNT; i++) assert_true(out[i] == 2.0f * in[i] + 0.5f);
        memset(out, 0, COUNT * sizeof *out);
    }
    free(in);
    free(out);
    sora_context_destroy(&context);
}

static void test_strided(void **state)
{
    sora_error error;
    sora_context *context = open_context(*state, false);
    sora_buffer buffer;
    float zero[40] = { 0 }, in[6] = { 1, 2, 3, 4, 5, 6 }, out[6], all[40];
    OK(sora_buffer_create(context, sizeof zero, "test", &buffer, &error));
    sora_view whole = sora_view_dense(&buffer, 0, SORA_SHAPE(40));
    for (int offset = 0; offset < 25; offset++) {
        OK(sora_view_write(context, &whole, zero, &error));
        sora_view v = { .memory = buffer.memory, .offset = (uint64_t)offset, .shape = SORA_SHAPE(3, 2), .stride = 6 };
        OK(sora_view_write(context, &v, in, &error));
        OK(sora_view_read(context, &v, out, &error));
        assert_memory_equal(in, out, sizeof in);
        OK(sora_view_read(context, &whole, all, &error));
        for (int i = 0; i < 40; i++) {
            int at = i - offset, row = at / 6, column = at % 6;
            assert_true(all[i] == (at >= 0 && row < 3 && column < 2 ? in[row * 2 + column] : 0.0f));
        }
    }
    sora_buffer_destroy(&buffer);
    sora_context_destroy(&context);
}

/* What is expected is built once, by the context's thread or by the launch that comes before; what can't be built is told by its launch. */
static void test_expected(void **state)
{
    sora_error error;
    sora_context *context = open_context(*state, false);
    OK(sora_program_expect(context, "double", "", &error));
    OK(sora_program_expect(context, "none", "", &error));
    OK(sora_program_expect(context, "double", "-D OFFSET=0.5f", &error));
    run_doubled(context);
    sora_build_account builds = sora_context_builds(context);
    assert_int_equal(builds.compiled + builds.cached + builds.platform, 1);
    refuse_to_build(context);
    sora_context_destroy(&context);
    context = open_context(*state, false);
    OK(sora_program_expect(context, "double", "-D OFFSET=0.5f", &error));
    sora_context_destroy(&context); /* while it is built */
}

/* As on a platform without a cache of its own: the second start compiles nothing, and a broken entry is built again. */
static void test_cache(void **state)
{
    const fixture *f = *state;
    sora_error error;
    OK(sora_folder_remove(f->cache, &error)); /* what other tests left */
    sora_context *context = open_context(f, false);
    context->platform_cache = false;
    run_doubled(context);
    assert_int_equal(sora_context_builds(context).compiled, 1);
    sora_context_destroy(&context);
    context = open_context(f, false);
    context->platform_cache = false;
    run_doubled(context);
    assert_int_equal(sora_context_builds(context).compiled, 0);
    assert_int_equal(sora_context_builds(context).cached, 1);
    sora_context_destroy(&context);

    char **names, path[300];
    size_t count, bytes;
    unsigned char *data;
    OK(sora_folder_list(f->cache, &names, &count, &error));
    assert_int_equal(count, 1);
    snprintf(path, sizeof path, "%s/%s", f->cache, names[0]);
    sora_names_free(names, count);
    OK(sora_file_read(path, 1 << 28, &data, &bytes, &error));
    size_t cuts[] = { 0, 7, 31, 40, bytes / 2, bytes - 1 };
    for (size_t i = 0; i <= SORA_COUNT(cuts); i++) {
        if (i == SORA_COUNT(cuts)) {
            data[bytes - 9] ^= 1;
            OK(sora_file_write(path, data, bytes, &error));
        } else {
            OK(sora_file_write(path, data, cuts[i], &error));
        }
        context = open_context(f, false);
        context->platform_cache = false;
        run_doubled(context);
        assert_int_equal(sora_context_builds(context).compiled, 1);
        sora_context_destroy(&context);
    }
    free(data);
}

static void test_profile(void **state)
{
    const fixture *f = *state;
    sora_error error;
    char path[160];
    sora_context *context = open_context(f, true);
    run_doubled(context);
    snprintf(path, sizeof path, "%s/trace.json", f->folder);
    OK(sora_context_write_profile(context, path, &error));
    sora_context_destroy(&context);
    json_t *trace = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(trace);
    json_t *events = json_object_get(trace, "traceEvents");
    assert_int_equal(json_array_size(events), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(events, 1), "name")), "a \"label\"");
    assert_string_equal(json_string_value(json_object_get(json_array_get(events, 1), "ph")), "X");
    assert_true(json_number_value(json_object_get(json_array_get(events, 1), "dur")) >= 0);
    json_decref(trace);
    context = open_context(f, false);
    assert_int_equal(sora_context_write_profile(context, path, &error), SORA_ERROR_ARGUMENT);
    sora_context_destroy(&context);
}

/* When a launch was queued, started and ended, in the place of what the driver says. */
typedef struct launch_times {
    cl_ulong queued, start, end;
} launch_times;
static const launch_times *told;

cl_int clGetEventProfilingInfo(cl_event event, cl_profiling_info what, size_t bytes, void *out, size_t *size)
{
    cl_int (*real)(cl_event, cl_profiling_info, size_t, void *, size_t *) = dlsym(RTLD_NEXT, "clGetEventProfilingInfo");
    if (!told) return real(event, what, bytes, out, size);
    *(cl_ulong *)out = what == CL_PROFILING_COMMAND_QUEUED  ? told->queued
                       : what == CL_PROFILING_COMMAND_START ? told->start
                                                            : told->end;
    return CL_SUCCESS;
}

/* Times that a driver gives in another order, or not at all, count nothing. */
static void test_profile_of_odd_times(void **state)
{
    static const launch_times all[] = { { 1000, 2000, 5000 }, { 4000, 3000, 2500 }, { 1000, 2000, 0 },
                                        { 1000, 0, 5000 },    { 0, 2000, 5000 },    { 0, 0, 0 } };
    static const double durations[] = { 3, 0, 0, 0, 3, 0 };
    const fixture *f = *state;
    sora_error error;
    char path[160];
    snprintf(path, sizeof path, "%s/trace.json", f->folder);
    for (size_t i = 0; i < SORA_COUNT(all); i++) {
        sora_context *context = open_context(f, true);
        told = &all[i];
        run_doubled(context);
        OK(sora_context_write_profile(context, path, &error));
        told = NULL;
        sora_context_destroy(&context);
        json_t *trace = json_load_file(path, JSON_REJECT_DUPLICATES, NULL), *event, *kernel;
        assert_non_null(trace);
        event = json_array_get(json_object_get(trace, "traceEvents"), 1);
        kernel = json_array_get(json_object_get(json_object_get(trace, "otherData"), "kernels"), 0);
        assert_float_equal(json_number_value(json_object_get(event, "dur")), durations[i], 1e-9);
        assert_float_equal(json_number_value(json_object_get(kernel, "seconds")), 1e-6 * durations[i], 1e-9);
        assert_in_range(json_number_value(json_object_get(event, "ts")), 0, 1);
        assert_in_range(json_number_value(json_object_get(json_object_get(event, "args"), "queued_us")), 0, 1);
        json_decref(trace);
    }
}

static void test_memory_refused(void **state)
{
    sora_error error;
    sora_context *context = open_context(*state, false);
    sora_buffer buffer;
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    assert_int_equal(sora_buffer_create(context, limits->allocation_bytes + 1, "everything", &buffer, &error), SORA_ERROR_MEMORY);
    assert_non_null(strstr(error.message, "everything"));
    assert_null(buffer.memory);
    sora_context_destroy(&context);
}

static void test_calls_of_builtins(void **state)
{
    (void)state;
    assert_true(sora_pocl_calls_builtins(
        "OpenCL 3.0 PoCL 6.0+debian  Linux, None+Asserts, RELOC, SPIR-V, LLVM 18.1.8, SLEEF, DISTRO, POCL_DEBUG"));
    assert_false(sora_pocl_calls_builtins(
        "OpenCL 3.0 PoCL 3.1+debian  Linux, None+Asserts, RELOC, SPIR, LLVM 15.0.6, SLEEF, DISTRO, POCL_DEBUG"));
    assert_false(sora_pocl_calls_builtins("OpenCL 3.1 LINUX"));
    assert_false(sora_pocl_calls_builtins("OpenCL 2.1 AMD-APP, LLVM 19"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_launch),      cmocka_unit_test(test_groups),         cmocka_unit_test(test_expected),
        cmocka_unit_test(test_many_groups), cmocka_unit_test(test_small_groups),   cmocka_unit_test(test_other_type_names),
        cmocka_unit_test(test_strided),     cmocka_unit_test(test_cache),          cmocka_unit_test(test_profile),
        cmocka_unit_test(test_large),       cmocka_unit_test(test_memory_refused), cmocka_unit_test(test_profile_of_odd_times),
        cmocka_unit_test(test_calls_of_builtins),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
