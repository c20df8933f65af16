/* SPDX-License-Identifier: Apache-2.0 */
#include "op/range.h"
#include "op/update.h"

#define MAX_RANGES 4

uint64_t sora_gradient_norm_workspace(const sora_device_limits *limits)
{
    (void)limits;
    return MAX_RANGES * SORA_SUM_MAX_PARTS;
}

sora_status sora_gradient_norm(sora_context *context, const sora_view *gradients, int count, const sora_view *loss, float clip,
                               float gradient_scale, const sora_view *control, const sora_view *workspace, sora_error *error)
{
    int64_t place = 0;
    const char *options = sora_range_options(context);
    if (count > MAX_RANGES) return sora_fail(error, SORA_ERROR_ARGUMENT, "%d ranges of gradients, at most %d", count, MAX_RANGES);
    for (int i = 0; i < count; i++) {
        int64_t n = sora_view_elements(&gradients[i]), parts = sora_sum_parts(n);
        sora_status status =
            sora_launch(context,
                        &(sora_launch_desc) { .file = "range",
                                              .kernel = "norm_squares",
                                              .options = options,
                                              .global = { (size_t)parts },
                                              .arguments = SORA_ARGUMENTS(SORA_VIEW(&gradients[i]), SORA_VIEW(workspace),
                                                                          SORA_LONG(n), SORA_LONG(parts), SORA_LONG(place)) },
                        error);
        if (status != SORA_OK) return status;
        place += parts;
    }
    return sora_launch(
        context,
        &(sora_launch_desc) { .file = "range",
                              .kernel = "norm_control",
                              .options = options,
                              .global = { 1 },
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(workspace), SORA_VIEW(loss), SORA_VIEW(control),
                                                          SORA_LONG(place), SORA_FLOAT(clip), SORA_FLOAT(gradient_scale)) },
        error);
}
