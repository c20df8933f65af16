/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_CL_KERNEL_SOURCE_H
#define SORA_CL_KERNEL_SOURCE_H

#include <stddef.h>

/* The files of kernels/, embedded by kernels/embed.py, sorted by name. */
typedef struct sora_kernel_source {
    const char *name; /* "relu.cl" */
    const char *text; /* NUL-terminated */
    size_t bytes;     /* without the NUL */
} sora_kernel_source;

extern const sora_kernel_source sora_kernel_sources[];
extern const unsigned sora_kernel_source_count;

#endif
