/* SPDX-License-Identifier: Apache-2.0 */
#include "op/range.h"
#include "op/update.h"

#include <math.h>

sora_status sora_gate(sora_context *context, const sora_update_range *range, const sora_gate_desc *desc, const sora_view *control,
                      sora_error *error)
{
    double rate = 0.0, root = 0.0;
    if (desc->mode != SORA_GATE_PAPER) {
        if (!range->moment1.memory || !range->moment2.memory)
            return sora_fail(error, SORA_ERROR_ARGUMENT, "gates: this mode needs room for two moments");
        rate = (double)desc->lr / (1.0 - pow((double)desc->beta1, desc->step));
        root = 1.0 / sqrt(1.0 - pow((double)desc->beta2, desc->step));
    }
    sora_launch_desc launch = { .file = "range",
                                .kernel = "gate_update",
                                .arguments =
                                    SORA_ARGUMENTS(SORA_VIEW(&range->value), SORA_VIEW(&range->gradient),
                                                   SORA_VIEW(&range->moment1), SORA_VIEW(&range->moment2), SORA_VIEW(control),
                                                   SORA_INT(desc->mode), SORA_FLOAT(desc->lr), SORA_FLOAT(rate), SORA_FLOAT(root),
                                                   SORA_FLOAT(desc->xi), SORA_FLOAT(desc->beta1), SORA_FLOAT(desc->beta2),
                                                   SORA_FLOAT(desc->epsilon), SORA_FLOAT(desc->l1), SORA_LONG(range->elements)) };
    return sora_launch_range(context, launch, range->elements, 1, error);
}
