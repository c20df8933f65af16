/* SPDX-License-Identifier: Apache-2.0 */
#include "op/range.h"
#include "op/update.h"

uint64_t sora_gradient_norm_workspace(void)
{
    return SORA_SUM_MAX_PARTS;
}

sora_status sora_gradient_norm(sora_context *context, const sora_view *gradients, const sora_view *loss, float clip,
                               float gradient_scale, const sora_view *control, const sora_view *workspace, sora_error *error)
{
    int64_t n = gradients->memory ? sora_view_elements(gradients) : 0, parts = n ? sora_sum_parts(n) : 0;
    const sora_launch_desc squares = { .file = "range",
                                       .kernel = "norm_squares",
                                       .arguments = SORA_ARGUMENTS(SORA_VIEW(gradients), SORA_VIEW(workspace), SORA_LONG(n),
                                                                   SORA_LONG(parts)) };
    const sora_launch_desc factor = { .file = "range",
                                      .kernel = "norm_control",
                                      .arguments =
                                          SORA_ARGUMENTS(SORA_VIEW(workspace), SORA_VIEW(loss), SORA_VIEW(control),
                                                         SORA_LONG(parts), SORA_FLOAT(clip), SORA_FLOAT(gradient_scale)) };
    sora_status status = sora_launch_groups(context, squares, parts, error);
    return status == SORA_OK ? sora_launch_groups(context, factor, 1, error) : status;
}
