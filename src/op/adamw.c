/* SPDX-License-Identifier: Apache-2.0 */
#include "op/range.h"
#include "op/update.h"

#include <math.h>

sora_status sora_adamw(sora_context *context, const sora_update_range *range, const sora_adamw_desc *desc,
                       const sora_view *control, sora_error *error)
{
    double lr = (double)desc->lr;
    double rate = lr / (1.0 - pow((double)desc->beta1, desc->step)),
           root = 1.0 / sqrt(1.0 - pow((double)desc->beta2, desc->step));
    sora_launch_desc launch = { .file = "range",
                                .kernel = "adamw",
                                .arguments = SORA_ARGUMENTS(
                                    SORA_VIEW(&range->value), SORA_VIEW(&range->gradient), SORA_VIEW(&range->moment1),
                                    SORA_VIEW(&range->moment2), SORA_VIEW(control), SORA_FLOAT(rate), SORA_FLOAT(root),
                                    SORA_FLOAT(1.0 - lr * (double)desc->weight_decay), SORA_FLOAT(desc->beta1),
                                    SORA_FLOAT(desc->beta2), SORA_FLOAT(desc->epsilon), SORA_LONG(range->elements)) };
    return sora_launch_range(context, launch, range->elements, 1, error);
}
