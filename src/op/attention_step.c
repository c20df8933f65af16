/* SPDX-License-Identifier: Apache-2.0 */
#include "op/attention_step.h"

#include "base/memory.h"
#include "op/range.h"

#include <stdio.h>

sora_status sora_attention_step(sora_context *context, const sora_attention_step_desc *d, sora_error *error)
{
    char options[64];
    const sora_device_limits *limits = &sora_context_device(context)->limits;
    int together = SORA_MAX(1, d->together), rows = together > 1 && limits->type == SORA_DEVICE_CPU ? 4 : 1;
    if (d->rows % together != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: %d rows in runs of %d", d->label, d->rows, together);
    snprintf(options, sizeof options, "-D XV=%d -D DK=%d -D ROWS=%d", sora_lanes(limits), d->size, rows);
    return sora_launch(
        context,
        &(sora_launch_desc) { .file = "attention_step",
                              .kernel = "attention_step",
                              .options = options,
                              .global = { (size_t)d->heads, (size_t)(d->rows / together) },
                              .label = d->label,
                              .arguments = SORA_ARGUMENTS(
                                  SORA_VIEW(&d->q), SORA_VIEW(&d->k), SORA_VIEW(&d->v), SORA_VIEW(&d->owner),
                                  SORA_VIEW(&d->lengths), SORA_VIEW(&d->line), SORA_VIEW(&d->out), SORA_LONG(d->q.stride),
                                  SORA_LONG(d->key_stride), SORA_LONG(d->sample_stride), SORA_INT(d->owner_row),
                                  SORA_INT(d->owner_key), SORA_INT(d->keys), SORA_INT(d->line_stride),
                                  SORA_INT(d->lengths.memory != NULL), SORA_INT(d->line.memory != NULL), SORA_INT(together)) },
        error);
}
