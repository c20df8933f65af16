/* SPDX-License-Identifier: Apache-2.0 */
#include "op/range.h"
#include "op/update.h"

sora_status sora_fill(sora_context *context, const sora_view *view, float value, sora_error *error)
{
    int64_t n = sora_view_elements(view);
    sora_launch_desc desc = { .file = "range",
                              .kernel = "fill",
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(view), SORA_FLOAT(value), SORA_LONG(n)) };
    return sora_launch_range(context, desc, n, 1, error);
}
