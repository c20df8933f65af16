/* SPDX-License-Identifier: Apache-2.0 */
#include "op/range.h"

int sora_lanes(const sora_device_limits *limits)
{
    if (limits->type != SORA_DEVICE_CPU) return 1;
    return limits->float_width >= 16 ? 16 : 8;
}

const char *sora_range_options(const sora_context *context)
{
    int lanes = sora_lanes(&sora_context_device(context)->limits);
    return lanes == 16 ? "-D SORA_CPU -D XV=16" : lanes == 8 ? "-D SORA_CPU -D XV=8" : "-D XV=1";
}

sora_status sora_launch_range(sora_context *context, sora_launch_desc desc, int64_t elements, int64_t rows, sora_error *error)
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

sora_status sora_launch_groups(sora_context *context, sora_launch_desc desc, int64_t groups, sora_error *error)
{
    bool cpu = sora_is_cpu(context);
    desc.options = sora_range_options(context);
    desc.global[0] = (size_t)(cpu ? groups : groups * SORA_RANGE_GPU_GROUP);
    desc.local[0] = cpu ? 0 : SORA_RANGE_GPU_GROUP;
    return sora_launch(context, &desc, error);
}
