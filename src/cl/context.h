/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_CL_CONTEXT_H
#define SORA_CL_CONTEXT_H

#include "base/memory.h"
#include "cl/buffer.h"
#include "cl/clblast_parameters.h"
#include "cl/tuning.h"
#include "soracl/context.h"

#include <CL/cl.h>
#include <pthread.h>

typedef struct sora_program sora_program;
typedef struct sora_profile sora_profile;

struct sora_context {
    sora_device device;
    cl_context handle;
    cl_command_queue queue;
    char *kernels; /* folder, or NULL: the embedded ones */
    char *cache;   /* folder, or NULL: none */
    bool platform_cache;
    void (*notify)(void *self, const sora_compile_progress *progress);
    void *self;
    sora_memory_account memory;
    sora_work_account work;
    sora_tuning tuning;
    sora_clblast_state clblast;
    sora_buffer scratch;   /* of libraries' products (op/gemm.c), as large as the largest needed */
    sora_profile *profile; /* NULL: not recorded */
    /* Programs are found and added by the user's thread and built by it or by `builder`. */
    sora_program **programs;
    size_t program_count, program_capacity;
    sora_build_account builds;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a program's state */
    pthread_t builder;
    bool builder_started, building, closing;
    bool rehearsing; /* launches are taken down, not run */
    unsigned kernels_known, kernels_ready;
    double compile_seconds, told; /* in first launches; when they were last told of */
};

/* The in-order queue, for libraries that enqueue by themselves. */
cl_command_queue sora_context_queue(const sora_context *context);

const char *sora_cl_name(cl_int code); /* "CL_OUT_OF_RESOURCES" */

/* SORA_OK for CL_SUCCESS, SORA_ERROR_MEMORY for memory codes, SORA_ERROR_DEVICE for others; and a failure with the call's name
 * and the code. */
sora_status sora_cl_status(cl_int code);
sora_status sora_cl_check(cl_int code, const char *call, sora_error *error);

#endif
