/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_DEVICE_H
#define SORACL_DEVICE_H

#include "soracl/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sora_device_type { SORA_DEVICE_CPU = 1, SORA_DEVICE_GPU, SORA_DEVICE_ACCELERATOR } sora_device_type;

/* What a device can do, as data: kernel variants follow from these fields, never from a vendor's name. 0 or false: absent. */
typedef struct sora_device_limits {
    sora_device_type type;
    uint32_t compute_units;
    uint32_t clock_mhz;
    uint64_t global_bytes;      /* memory of the device */
    uint64_t allocation_bytes;  /* largest single allocation */
    uint64_t local_bytes;       /* local memory of a work-group */
    uint64_t cache_bytes;       /* of global memory */
    uint64_t argument_bytes;    /* of one kernel */
    uint64_t work_group;        /* largest work-group */
    uint64_t work_item[3];      /* largest work-group in each dimension */
    uint32_t float_width;       /* native vector width of float */
    uint32_t base_align_bytes;  /* of sub-buffers */
    uint32_t timer_ns;          /* resolution of the profiling timer */
    bool local_dedicated;       /* local memory is memory of its own, not global memory */
    bool unified_memory;        /* host and device share memory */
    bool fma;                   /* fma() in single precision */
    bool fp16, fp64, subgroups; /* extensions cl_khr_fp16, cl_khr_fp64, cl_khr_subgroups or OpenCL 3 features */
} sora_device_limits;

typedef struct sora_device {
    int index; /* in the list */
    char name[256], platform[256], vendor[256];
    char driver[128];    /* CL_DRIVER_VERSION */
    char version[128];   /* CL_DEVICE_VERSION, "OpenCL 3.0 ..." */
    char c_version[128]; /* CL_DEVICE_OPENCL_C_VERSION */
    sora_device_limits limits;
    char lacks[128];               /* what training needs and the device has not; "" for a usable one */
    void *platform_id, *device_id; /* cl_platform_id, cl_device_id */
} sora_device;

/* Every device of every platform, in the loader's order: *devices is the caller's (free()). No platform or no device is
 * SORA_ERROR_DEVICE with what to install. Thread-safe. */
SORA_API sora_status sora_devices_list(sora_device **devices, size_t *count, sora_error *error);

/* Picks by `selector`: an index, part of a name (case-insensitive, name or platform), "cpu" or "gpu"; NULL or "": a GPU before
 * an accelerator before a CPU, then more compute units × clock, and never one that lacks what training needs.
 * `reason` (may be NULL) gets one sentence why. SORA_ERROR_DEVICE lists the devices there are. */
SORA_API sora_status sora_device_choose(const sora_device *devices, size_t count, const char *selector, size_t *picked,
                                        char reason[256], sora_error *error);

/* "cpu", "gpu" or "accelerator". */
SORA_API const char *sora_device_type_name(sora_device_type type);

#ifdef __cplusplus
}
#endif
#endif
