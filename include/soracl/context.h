/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_CONTEXT_H
#define SORACL_CONTEXT_H

#include "soracl/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One device in use: OpenCL context, an in-order queue, built programs, memory accounts, profile. One thread at a time. */
typedef struct sora_context sora_context;

typedef struct sora_compile_progress {
    unsigned done, known; /* kernels that ran once; that are known to be needed */
    double seconds_left;  /* as far as can be told */
} sora_compile_progress;

typedef struct sora_context_options {
    const char *device;  /* selector of sora_device_choose; NULL: environment SORACL_DEVICE, then the best */
    const char *kernels; /* folder to read kernels from instead of the embedded ones; NULL: SORACL_KERNELS, then none */
    const char *cache;   /* folder of program binaries; NULL: $XDG_CACHE_HOME/soracl or ~/.cache/soracl; "": none */
    const sora_device_limits *limits; /* pretend these limits (tests of other devices' kernel variants); NULL: the device's own */
    bool profile;                     /* record every launch */
    /* Called by launching calls while kernels are compiled or loaded for longer than a second, every second or two, and with done =
     * known at the end; may be NULL. */
    void (*notify)(void *self, const sora_compile_progress *progress);
    void *self;
} sora_context_options;

SORA_API sora_status sora_context_create(const sora_context_options *options, sora_context **out, sora_error *error);
SORA_API void sora_context_destroy(sora_context **context); /* everything created in it must be gone */

SORA_API const sora_device *sora_context_device(const sora_context *context); /* limits as used; lives with the context */

/* Waits until the device has done all that was enqueued. */
SORA_API sora_status sora_context_finish(sora_context *context, sora_error *error);

typedef struct sora_memory_account {
    uint64_t current, peak; /* bytes in device buffers now, and at most since the last reset */
    uint64_t libraries;     /* of current: scratch of CLBlast's products, which grows when a graph is prepared */
} sora_memory_account;

SORA_API sora_memory_account sora_context_memory(const sora_context *context);
SORA_API void sora_context_reset_peak(sora_context *context);

/* Programs built since the context was created: compiled from source, taken from our cache of binaries, or left to a platform
 * that keeps a cache of its own (PoCL: asking it for a binary compiles every kernel again, reading its own cache does not). */
typedef struct sora_build_account {
    unsigned compiled, cached, platform;
    double seconds;
} sora_build_account;

SORA_API sora_build_account sora_context_builds(sora_context *context);

/* What was enqueued since the context was created. */
typedef struct sora_work_account {
    uint64_t launches;
    double flops; /* of products, convolutions and attention, as really run: a second pass counts twice */
} sora_work_account;

SORA_API sora_work_account sora_context_work(const sora_context *context);

/* Writes the launches recorded so far as a Chrome trace (chrome://tracing, Perfetto), with total time by kernel in it. */
SORA_API sora_status sora_context_write_profile(sora_context *context, const char *path, sora_error *error);

/* Largest resident set of this process in bytes, so far or since the last reset. A reset works on Linux; elsewhere it does
 * nothing. */
SORA_API uint64_t sora_process_bytes_peak(void);
SORA_API void sora_process_reset_peak(void);

#ifdef __cplusplus
}
#endif
#endif
