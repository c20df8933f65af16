/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_RANGE_H
#define SORA_OP_RANGE_H

#include "base/memory.h"
#include "cl/launch.h"

/* Launches over a range of elements (kernels/range.h): on a CPU few work-items that each take a run of neighbours, on a GPU
 * groups of 64 in which neighbours take neighbours. Nothing that is computed depends on how many there are. */

#define SORA_RANGE_CPU_ELEMENTS 4096 /* fewer are not worth a work-item: PoCL needs about a microsecond for one */
#define SORA_RANGE_GPU_GROUP 64

static inline bool sora_is_cpu(const sora_context *context)
{
    return sora_context_device(context)->limits.type == SORA_DEVICE_CPU;
}

static inline const char *sora_range_options(const sora_context *context)
{
    return sora_is_cpu(context) ? "-D SORA_CPU" : NULL;
}

/* `desc` without sizes and options; elements of each of `rows` rows, the second dimension of the launch. */
static inline sora_status sora_launch_range(sora_context *context, sora_launch_desc desc, int64_t elements, int64_t rows,
                                            sora_error *error)
{
    if (elements <= 0 || rows <= 0) return SORA_OK;
    desc.options = sora_range_options(context);
    desc.global[1] = (size_t)rows;
    if (sora_is_cpu(context)) {
        int64_t most = 4 * (int64_t)sora_context_device(context)->limits.compute_units / rows + 1;
        desc.global[0] = (size_t)SORA_MAX(1, SORA_MIN(most, elements / SORA_RANGE_CPU_ELEMENTS));
    } else {
        int64_t items = SORA_MIN(elements, 1 << 20);
        desc.global[0] = (size_t)((items + SORA_RANGE_GPU_GROUP - 1) / SORA_RANGE_GPU_GROUP * SORA_RANGE_GPU_GROUP);
        desc.local[0] = SORA_RANGE_GPU_GROUP;
    }
    return sora_launch(context, &desc, error);
}

/* Sums in two passes: `parts` partial sums of fixed runs, then one item that adds them in order. */
#define SORA_SUM_RUN 2048
#define SORA_SUM_MAX_PARTS 4096

static inline int64_t sora_sum_parts(int64_t elements)
{
    return SORA_MAX(1, SORA_MIN((elements + SORA_SUM_RUN - 1) / SORA_SUM_RUN, SORA_SUM_MAX_PARTS));
}

#endif
