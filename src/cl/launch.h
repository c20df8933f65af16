/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_CL_LAUNCH_H
#define SORA_CL_LAUNCH_H

#include "cl/buffer.h"

typedef enum sora_argument_kind {
    SORA_ARGUMENT_NONE = 0, /* ends the list */
    SORA_ARGUMENT_VIEW,     /* two kernel arguments: __global T *x, ulong x_at (offset in elements) */
    SORA_ARGUMENT_INT,
    SORA_ARGUMENT_UINT,
    SORA_ARGUMENT_LONG,
    SORA_ARGUMENT_ULONG,
    SORA_ARGUMENT_FLOAT,
    SORA_ARGUMENT_INT4, /* four at once are one argument, and drivers have work with each */
    SORA_ARGUMENT_FLOAT4,
    SORA_ARGUMENT_LOCAL, /* __local T *, bytes */
} sora_argument_kind;

typedef struct sora_argument {
    sora_argument_kind kind;
    union {
        const sora_view *view;
        int32_t i;
        uint32_t u;
        int64_t l;
        uint64_t ul;
        float f;
        int32_t i4[4];
        float f4[4];
        size_t local_bytes;
    } value;
} sora_argument;

#define SORA_VIEW(x)        \
    {                       \
        SORA_ARGUMENT_VIEW, \
        {                   \
            .view = (x)     \
        }                   \
    }
#define SORA_INT(x)           \
    {                         \
        SORA_ARGUMENT_INT,    \
        {                     \
            .i = (int32_t)(x) \
        }                     \
    }
#define SORA_UINT(x)           \
    {                          \
        SORA_ARGUMENT_UINT,    \
        {                      \
            .u = (uint32_t)(x) \
        }                      \
    }
#define SORA_LONG(x)          \
    {                         \
        SORA_ARGUMENT_LONG,   \
        {                     \
            .l = (int64_t)(x) \
        }                     \
    }
#define SORA_ULONG(x)           \
    {                           \
        SORA_ARGUMENT_ULONG,    \
        {                       \
            .ul = (uint64_t)(x) \
        }                       \
    }
#define SORA_FLOAT(x)        \
    {                        \
        SORA_ARGUMENT_FLOAT, \
        {                    \
            .f = (float)(x)  \
        }                    \
    }
#define SORA_INT4(x, y, z, w)                                               \
    {                                                                       \
        SORA_ARGUMENT_INT4,                                                 \
        {                                                                   \
            .i4 = {(int32_t)(x), (int32_t)(y), (int32_t)(z), (int32_t)(w) } \
        }                                                                   \
    }
#define SORA_FLOAT4(x, y, z, w)         \
    {                                   \
        SORA_ARGUMENT_FLOAT4,           \
        {                               \
            .f4 = {(x), (y), (z), (w) } \
        }                               \
    }
#define SORA_LOCAL(bytes)          \
    {                              \
        SORA_ARGUMENT_LOCAL,       \
        {                          \
            .local_bytes = (bytes) \
        }                          \
    }
#define SORA_ARGUMENTS(...) ((const sora_argument[]) { __VA_ARGS__, { SORA_ARGUMENT_NONE, { .i = 0 } } })

/* One launch:
 *   sora_launch(context, &(sora_launch_desc){ .file = "relu", .kernel = "relu_forward", .global = { n }, .label = run->name,
 *               .arguments = SORA_ARGUMENTS(SORA_VIEW(x), SORA_VIEW(y), SORA_INT(n)) }, error)
 * Programs are built on first use from kernels/FILE.cl with `options` and kept by (file, options); kernels by name. The number of
 * arguments is checked, and their types where the driver tells them. An absent view (memory NULL) passes NULL and 0.
 * Never blocks. A global size of 0 launches nothing. */
typedef struct sora_launch_desc {
    const char *file, *kernel;
    const char *options; /* "-D TILE=8"; NULL: none. Only for tiles, dtypes and epilogues: never for sizes of a batch */
    size_t global[3];    /* in work-items; 0 in y, z counts as 1. Must be multiples of local where local is given. Where a GPU may
                            not take so many groups in y or z, it is several commands */
    size_t local[3];   /* 0, 0, 0: single work-items on a CPU, up to 64 that divide `global` on a GPU; never left to the driver */
    const char *label; /* in the profile: the op's or node's name; NULL: the kernel's */
    double flops,
        bytes; /* of products and convolutions: multiplications and additions; of those and of passes over images: bytes, each operand once */
    const sora_argument *arguments;
} sora_launch_desc;

sora_status sora_launch(sora_context *context, const sora_launch_desc *desc, sora_error *error);

/* Between the two nothing is launched: what would have been is taken down, and then built by a thread of its own, so that the first
 * launches find programs ready and can say how many are still to come. */
void sora_launches_rehearse(sora_context *context);
void sora_launches_rehearsed(sora_context *context);

#endif
