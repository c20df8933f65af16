/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_PLANE_H
#define SORA_OP_PLANE_H

#include "op/op.h"
#include "op/range.h"

/* Launches of kernels that take the pixels of planes in vectors (kernels/vector.h), or one by one on a GPU: work-items are
 * (runs of pixels, channels, images), and EACH of kernels/range.h counts vectors. */

/* `desc` without sizes and options. `work`: about as many operations as an element of SORA_RANGE_CPU_ELEMENTS takes, for each
 * pixel. */
static inline sora_status sora_launch_planes(sora_context *context, sora_launch_desc desc, int64_t pixels, int64_t channels,
                                             int64_t images, int64_t work, sora_error *error)
{
    desc.options = sora_range_options(context);
    desc.global[1] = (size_t)channels;
    desc.global[2] = (size_t)images;
    if (sora_is_cpu(context)) {
        desc.global[0] = (size_t)SORA_MAX(1, SORA_MIN(pixels * work / (4 * SORA_RANGE_CPU_ELEMENTS), pixels / 64));
    } else {
        desc.global[0] = (size_t)((pixels + SORA_RANGE_GPU_GROUP - 1) / SORA_RANGE_GPU_GROUP * SORA_RANGE_GPU_GROUP);
        desc.local[0] = SORA_RANGE_GPU_GROUP;
    }
    return sora_launch(context, &desc, error);
}

#endif
