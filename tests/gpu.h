/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TESTS_GPU_H
#define SORA_TESTS_GPU_H

#include "soracl/context.h"

/* The limits of a GPU over a context's device: kernels for GPUs run on a CPU with them, too. */
static inline sora_device_limits gpu_limits(const sora_context *own)
{
    sora_device_limits limits = sora_context_device(own)->limits;
    limits.type = SORA_DEVICE_GPU;
    limits.local_dedicated = true;
    limits.local_bytes = 32 * 1024;
    limits.work_group = 256;
    limits.float_width = 1;
    return limits;
}

/* contexts[2]: the default device as it is, and with a GPU's limits; 0 or, as cmocka wants it, -1. */
static inline int open_with_gpu(sora_context **contexts)
{
    if (sora_context_create(&(sora_context_options) { 0 }, &contexts[0], NULL)) return -1;
    sora_device_limits limits = gpu_limits(contexts[0]);
    return sora_context_create(&(sora_context_options) { .limits = &limits }, &contexts[1], NULL) ? -1 : 0;
}

/* The same the other way: what a CPU of eight lanes runs, on any device. */
static inline sora_status open_as_cpu(const sora_context *own, sora_context **out, sora_error *error)
{
    sora_device_limits limits = sora_context_device(own)->limits;
    limits.type = SORA_DEVICE_CPU;
    limits.float_width = 8;
    return sora_context_create(&(sora_context_options) { .limits = &limits }, out, error);
}

static inline int close_with_gpu(sora_context **contexts)
{
    for (int i = 0; i < 2; i++) sora_context_destroy(&contexts[i]);
    return 0;
}

#endif
