/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_RANGE_H
#define SORA_OP_RANGE_H

#include "base/memory.h"
#include "cl/launch.h"

/* Launches over a range of elements (kernels/range.h): on a CPU few work-items that each take a run of neighbours, on a GPU
 * groups of 64 in which neighbours take neighbours. Nothing that is computed depends on how many there are. Kernels of most of
 * these ops are one program, "range" (kernels/range.cl). */

#define SORA_RANGE_CPU_ELEMENTS 4096 /* fewer are not worth a work-item: PoCL needs about a microsecond for one */
#define SORA_RANGE_GPU_GROUP 64

static inline bool sora_is_cpu(const sora_context *context)
{
    return sora_context_device(context)->limits.type == SORA_DEVICE_CPU;
}

/* Floats in one register: the device's width, 1 on a GPU. */
int sora_lanes(const sora_device_limits *limits);

/* Of the program "range", and of other files whose kernels take a range of vectors. */
const char *sora_range_options(const sora_context *context);

/* `desc` without sizes and options; elements of each of `rows` rows, the second dimension of the launch. */
sora_status sora_launch_range(sora_context *context, sora_launch_desc desc, int64_t elements, int64_t rows, sora_error *error);

/* `desc` without options and the size of its first dimension, in which are `groups` work-items, or on a GPU groups of those
 * (kernels/group.h). */
sora_status sora_launch_groups(sora_context *context, sora_launch_desc desc, int64_t groups, sora_error *error);

/* Work-items in the first dimension of a launch for each that has work, where those are long and few (kernels/apart.h). */
#define SORA_APART 32

/* Sums in two passes: `parts` partial sums of fixed runs, then one item that adds them in order. */
#define SORA_SUM_RUN 2048
#define SORA_SUM_MAX_PARTS 4096

static inline int64_t sora_sum_parts(int64_t elements)
{
    return SORA_MAX(1, SORA_MIN((elements + SORA_SUM_RUN - 1) / SORA_SUM_RUN, SORA_SUM_MAX_PARTS));
}

#endif
