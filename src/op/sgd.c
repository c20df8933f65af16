/* SPDX-License-Identifier: Apache-2.0 */
#include "op/range.h"
#include "op/update.h"

sora_status sora_sgd(sora_context *context, const sora_update_range *range, const sora_sgd_desc *desc, const sora_view *control,
                     sora_error *error)
{
    bool has_moment = desc->momentum != 0.0f;
    if (has_moment && !range->moment1.memory)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "sgd: momentum %g without room for a moment", (double)desc->momentum);
    sora_launch_desc launch = { .file = "range",
                                .kernel = "sgd",
                                .arguments =
                                    SORA_ARGUMENTS(SORA_VIEW(&range->value), SORA_VIEW(&range->gradient),
                                                   SORA_VIEW(&range->moment1), SORA_VIEW(control), SORA_FLOAT(desc->lr),
                                                   SORA_FLOAT(desc->momentum), SORA_FLOAT(desc->weight_decay),
                                                   SORA_INT(has_moment), SORA_INT(desc->step <= 1), SORA_LONG(range->elements)) };
    return sora_launch_range(context, launch, range->elements, 1, error);
}
