/* SPDX-License-Identifier: Apache-2.0 */
#include "op/attention_step.h"

#include "op/conv.h"

#include <stdio.h>

sora_status sora_attention_step(sora_context *context, const sora_attention_step_desc *d, sora_error *error)
{
    char options[64];
    snprintf(options, sizeof options, "-D XV=%d -D DK=%d", sora_conv_lanes(&sora_context_device(context)->limits), d->size);
    return sora_launch(context,
                       &(sora_launch_desc) {
                           .file = "attention_step",
                           .kernel = "attention_step",
                           .options = options,
                           .global = { (size_t)d->rows, (size_t)d->heads },
                           .label = d->label,
                           .arguments = SORA_ARGUMENTS(
                               SORA_VIEW(&d->q), SORA_VIEW(&d->k), SORA_VIEW(&d->v), SORA_VIEW(&d->owner), SORA_VIEW(&d->lengths),
                               SORA_VIEW(&d->line), SORA_VIEW(&d->out), SORA_LONG(d->q.stride), SORA_LONG(d->key_stride),
                               SORA_LONG(d->sample_stride), SORA_INT(d->owner_row), SORA_INT(d->owner_key), SORA_INT(d->keys),
                               SORA_INT(d->line_stride), SORA_INT(d->lengths.memory != NULL), SORA_INT(d->line.memory != NULL)) },
                       error);
}
