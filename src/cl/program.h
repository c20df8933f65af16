/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_CL_PROGRAM_H
#define SORA_CL_PROGRAM_H

#include "cl/context.h"
#include "cl/launch.h"

typedef struct sora_kernel {
    sora_program *program;
    char *name;
    cl_kernel handle; /* NULL until its first launch */
    cl_uint arguments;
    size_t work_group; /* the largest that its code may be launched in: registers may leave less than the device takes */
    bool checked;      /* the types of a first launch agreed with the source */
} sora_kernel;

typedef enum sora_program_state {
    SORA_PROGRAM_NEW = 0, /* also after a failure ahead of time: its launch tries again and reports */
    SORA_PROGRAM_BUILDING,
    SORA_PROGRAM_BUILT,
} sora_program_state;

struct sora_program {
    char *file, *options;
    sora_program_state state; /* guarded by the context's lock, as the list itself */
    bool tried;               /* ahead of time */
    cl_program handle;
    sora_kernel **kernels;
    size_t kernel_count, kernel_capacity;
};

sora_status sora_programs_create(sora_context *context, sora_error *error);
void sora_programs_destroy(sora_context *context);

/* The kernel of kernels/FILE.cl built with `options` (NULL: none), owned by the context; nothing is built yet. */
sora_status sora_kernel_find(sora_context *context, const char *file, const char *options, const char *name, sora_kernel **out,
                             sora_error *error);
/* Builds its program where no one did, or waits for the thread that does. */
sora_status sora_kernel_build(sora_context *context, sora_kernel *kernel, sora_error *error);

/* Has those that no one built yet built by a thread of the context's own. */
void sora_programs_build_ahead(sora_context *context);
/* The same, and this one among them, of which no launch is known yet. */
sora_status sora_program_expect(sora_context *context, const char *file, const char *options, sora_error *error);

/* The text of kernels/FILE.cl with its #include "..." lines replaced, each file once; freed with free(). */
sora_status sora_program_source(const sora_context *context, const char *file, char **out, sora_error *error);

/* Whether -cl-denorms-are-zero would make a call of every fma() and vload8() on a platform of that CL_PLATFORM_VERSION: PoCL's built-in
 * functions keep denormals, and LLVM 17 and later inlines no function into one that treats them otherwise. */
bool sora_pocl_calls_builtins(const char *platform_version);

#endif
