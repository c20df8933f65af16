/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "cl/context.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef CL_PLATFORM_NOT_FOUND_KHR
#define CL_PLATFORM_NOT_FOUND_KHR -1001
#endif

static const char nothing_found[] = "no OpenCL device found. Install a driver: pocl-opencl-icd (any CPU), intel-opencl-icd "
                                    "(Intel GPUs), mesa-opencl-icd or ROCm (AMD), "
                                    "nvidia-opencl-icd (NVIDIA); \"soracl devices\" then lists it";

const char *sora_device_type_name(sora_device_type type)
{
    return type == SORA_DEVICE_GPU ? "gpu" : type == SORA_DEVICE_CPU ? "cpu" : "accelerator";
}

/* Facts that a driver doesn't tell stay 0: an absent feature, never a failure. */
static uint64_t number(cl_device_id id, cl_device_info what, size_t bytes)
{
    uint64_t value = 0;
    if (clGetDeviceInfo(id, what, bytes, &value, NULL) != CL_SUCCESS) return 0;
    return value;
}

static void text(cl_device_id id, cl_device_info what, char *out, size_t room)
{
    char *all = NULL;
    size_t bytes = 0;
    out[0] = '\0';
    if (clGetDeviceInfo(id, what, 0, NULL, &bytes) != CL_SUCCESS || bytes == 0 || !(all = calloc(bytes + 1, 1))) return;
    if (clGetDeviceInfo(id, what, bytes, all, NULL) == CL_SUCCESS) snprintf(out, room, "%s", all + strspn(all, " "));
    free(all);
    for (size_t n = strlen(out); n > 0 && isspace((unsigned char)out[n - 1]);) out[--n] = '\0';
}

static void fill_limits(cl_device_id id, sora_device_limits *out)
{
    char found[16384];
    cl_device_type type = (cl_device_type)number(id, CL_DEVICE_TYPE, sizeof(cl_device_type));
    size_t items[3] = { 0 };
    text(id, CL_DEVICE_EXTENSIONS, found, sizeof found);
    clGetDeviceInfo(id, CL_DEVICE_MAX_WORK_ITEM_SIZES, sizeof items, items, NULL);
    *out = (sora_device_limits) {
        .type = type & CL_DEVICE_TYPE_GPU   ? SORA_DEVICE_GPU
                : type & CL_DEVICE_TYPE_CPU ? SORA_DEVICE_CPU
                                            : SORA_DEVICE_ACCELERATOR,
        .compute_units = (uint32_t)number(id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof(cl_uint)),
        .clock_mhz = (uint32_t)number(id, CL_DEVICE_MAX_CLOCK_FREQUENCY, sizeof(cl_uint)),
        .global_bytes = number(id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof(cl_ulong)),
        .allocation_bytes = number(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof(cl_ulong)),
        .local_bytes = number(id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof(cl_ulong)),
        .cache_bytes = number(id, CL_DEVICE_GLOBAL_MEM_CACHE_SIZE, sizeof(cl_ulong)),
        .argument_bytes = number(id, CL_DEVICE_MAX_PARAMETER_SIZE, sizeof(size_t)),
        .work_group = number(id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof(size_t)),
        .work_item = { items[0], items[1], items[2] },
        .float_width = (uint32_t)number(id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, sizeof(cl_uint)),
        .base_align_bytes = (uint32_t)number(id, CL_DEVICE_MEM_BASE_ADDR_ALIGN, sizeof(cl_uint)) / 8,
        .timer_ns = (uint32_t)number(id, CL_DEVICE_PROFILING_TIMER_RESOLUTION, sizeof(size_t)),
        .local_dedicated = number(id, CL_DEVICE_LOCAL_MEM_TYPE, sizeof(cl_device_local_mem_type)) == CL_LOCAL,
        .unified_memory = number(id, CL_DEVICE_HOST_UNIFIED_MEMORY, sizeof(cl_bool)) != 0,
        .fma = number(id, CL_DEVICE_SINGLE_FP_CONFIG, sizeof(cl_device_fp_config)) & CL_FP_FMA,
        .fp16 = strstr(found, "cl_khr_fp16") != NULL,
        .fp64 = strstr(found, "cl_khr_fp64") != NULL,
        .subgroups = strstr(found, "cl_khr_subgroups") != NULL,
    };
}

static void fill_device(cl_platform_id platform, cl_device_id id, int index, sora_device *out)
{
    *out = (sora_device) { .index = index, .platform_id = platform, .device_id = id };
    clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof out->platform, out->platform, NULL);
    out->platform[sizeof out->platform - 1] = '\0';
    text(id, CL_DEVICE_NAME, out->name, sizeof out->name);
    text(id, CL_DEVICE_VENDOR, out->vendor, sizeof out->vendor);
    text(id, CL_DRIVER_VERSION, out->driver, sizeof out->driver);
    text(id, CL_DEVICE_VERSION, out->version, sizeof out->version);
    text(id, CL_DEVICE_OPENCL_C_VERSION, out->c_version, sizeof out->c_version);
    fill_limits(id, &out->limits);
    int major = 0, minor = 0;
    sscanf(out->version, "OpenCL %d.%d", &major, &minor);
    const char *lacks = !number(id, CL_DEVICE_AVAILABLE, sizeof(cl_bool))            ? "not available now"
                        : !number(id, CL_DEVICE_COMPILER_AVAILABLE, sizeof(cl_bool)) ? "no compiler for kernels"
                        : major < 1 || (major == 1 && minor < 2)                     ? "older than OpenCL 1.2"
                        : !number(id, CL_DEVICE_ENDIAN_LITTLE, sizeof(cl_bool))      ? "big-endian"
                        : out->limits.local_bytes < 16384                            ? "less than 16 KiB of local memory"
                                                                                     : "";
    snprintf(out->lacks, sizeof out->lacks, "%s", lacks);
}

sora_status sora_devices_list(sora_device **devices, size_t *count, sora_error *error)
{
    sora_status status = SORA_OK;
    cl_platform_id *platforms = NULL;
    cl_device_id *ids = NULL;
    sora_device *list = NULL;
    size_t used = 0, capacity = 0;
    cl_uint platform_count = 0;
    *devices = NULL;
    *count = 0;

    cl_int code = clGetPlatformIDs(0, NULL, &platform_count);
    if (code == CL_PLATFORM_NOT_FOUND_KHR || platform_count == 0) SORA_FAIL(error, SORA_ERROR_DEVICE, "%s", nothing_found);
    SORA_TRY(sora_cl_check(code, "clGetPlatformIDs", error));
    SORA_TRY(sora_allocate(platform_count, sizeof *platforms, "platforms", &platforms, error));
    SORA_TRY(sora_cl_check(clGetPlatformIDs(platform_count, platforms, NULL), "clGetPlatformIDs", error));
    for (cl_uint p = 0; p < platform_count; p++) {
        cl_uint found = 0;
        /* A platform without devices, or one that is broken, must not hide the others. */
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, 0, NULL, &found) != CL_SUCCESS || found == 0) continue;
        free(ids);
        SORA_TRY(sora_allocate(found, sizeof *ids, "devices", &ids, error));
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, found, ids, NULL) != CL_SUCCESS) continue;
        SORA_TRY(sora_reserve(&list, &capacity, used + found, sizeof *list, error));
        for (cl_uint d = 0; d < found; d++, used++) fill_device(platforms[p], ids[d], (int)used, &list[used]);
    }
    if (used == 0) {
        char name[sizeof list->platform] = "";
        clGetPlatformInfo(platforms[0], CL_PLATFORM_NAME, sizeof name, name, NULL);
        SORA_FAIL(
            error, SORA_ERROR_DEVICE,
            "no OpenCL device found: the driver %s is installed but offers none. PoCL does so where it can't write its cache "
            "(POCL_CACHE_DIR, or pocl in ~/.cache), GPUs' drivers without rights for /dev/dri (group render)",
            name);
    }
    *devices = list;
    *count = used;
    list = NULL;
cleanup:
    free(list);
    free(ids);
    free(platforms);
    return status;
}

static bool contains(const char *whole, const char *part)
{
    return strcasestr(whole, part) != NULL;
}

static double rank_of(const sora_device *device)
{
    static const double by_type[] = { [SORA_DEVICE_CPU] = 1e12, [SORA_DEVICE_GPU] = 3e12, [SORA_DEVICE_ACCELERATOR] = 2e12 };
    return by_type[device->limits.type] + (double)device->limits.compute_units * (device->limits.clock_mhz + 1.0);
}

static sora_status list_failure(const sora_device *devices, size_t count, const char *selector, sora_error *error)
{
    char names[700] = "";
    for (size_t i = 0; i < count; i++) {
        size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%zu %s (%s)", i ? "; " : "", i, devices[i].name,
                 sora_device_type_name(devices[i].limits.type));
    }
    return sora_fail(error, SORA_ERROR_DEVICE, "no device matches \"%.60s\"; there are: %s", selector, names);
}

sora_status sora_device_choose(const sora_device *devices, size_t count, const char *selector, size_t *picked, char reason[256],
                               sora_error *error)
{
    bool any = !selector || !*selector, type_only = false;
    sora_device_type type = SORA_DEVICE_CPU;
    size_t best = count;
    if (!any && strspn(selector, "0123456789") == strlen(selector)) {
        unsigned long index = strtoul(selector, NULL, 10);
        if (index >= count) return list_failure(devices, count, selector, error);
        if (devices[index].lacks[0])
            return sora_fail(error, SORA_ERROR_DEVICE, "device %lu, %s, can't be used: %s", index, devices[index].name,
                             devices[index].lacks);
        *picked = index;
        if (reason) snprintf(reason, 256, "asked for by its index");
        return SORA_OK;
    }
    if (!any && (strcasecmp(selector, "cpu") == 0 || strcasecmp(selector, "gpu") == 0)) {
        type_only = true;
        type = tolower((unsigned char)selector[0]) == 'c' ? SORA_DEVICE_CPU : SORA_DEVICE_GPU;
    }
    const sora_device *unusable = NULL;
    for (size_t i = 0; i < count; i++) {
        const sora_device *d = &devices[i];
        if (type_only && d->limits.type != type) continue;
        if (!any && !type_only && !contains(d->name, selector) && !contains(d->platform, selector)) continue;
        if (d->lacks[0]) {
            unusable = d;
            continue;
        }
        if (best == count || rank_of(d) > rank_of(&devices[best])) best = i;
    }
    if (best == count && unusable)
        return sora_fail(error, SORA_ERROR_DEVICE, "device %d, %s, can't be used: %s", unusable->index, unusable->name,
                         unusable->lacks);
    if (best == count) return list_failure(devices, count, any ? "any" : selector, error);
    *picked = best;
    if (reason && any && count == 1)
        snprintf(reason, 256, "the only device");
    else if (reason)
        snprintf(reason, 256, "%s: a GPU before an accelerator before a CPU, then %u compute units x %u MHz",
                 any         ? "the best of all"
                 : type_only ? "the best of its type"
                             : "asked for by name",
                 devices[best].limits.compute_units, devices[best].limits.clock_mhz);
    return SORA_OK;
}
