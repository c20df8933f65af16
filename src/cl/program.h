/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_CL_PROGRAM_H
#define SORA_CL_PROGRAM_H

#include "cl/context.h"
#include "cl/launch.h"

typedef struct sora_kernel {
    char *name;
    cl_kernel handle;
    cl_uint arguments;
    bool checked; /* the types of a first launch agreed with the source */
} sora_kernel;

struct sora_program {
    char *file, *options;
    cl_program handle;
    sora_kernel *kernels;
    size_t kernel_count, kernel_capacity;
};

/* The kernel of kernels/FILE.cl built with `options` (NULL: none); built at its first use, owned by the context. */
sora_status sora_kernel_find(sora_context *context, const char *file, const char *options, const char *name, sora_kernel **out,
                             sora_error *error);
void sora_programs_destroy(sora_context *context);

/* The text of kernels/FILE.cl with its #include "..." lines replaced, each file once; freed with free(). */
sora_status sora_program_source(const sora_context *context, const char *file, char **out, sora_error *error);

#endif
