/* SPDX-License-Identifier: Apache-2.0 */
#include "op/top_tokens.h"

#include "base/memory.h"
#include "op/range.h"

#define MOST_PARTS 16 /* of the kernel */
#define PART 2048

static int parts_of(int vocabulary)
{
    return SORA_MAX(1, SORA_MIN(vocabulary / PART, MOST_PARTS));
}

uint64_t sora_top_tokens_workspace(int rows, int vocabulary, int count)
{
    return (uint64_t)rows * (uint64_t)parts_of(vocabulary) * (uint64_t)sora_top_tokens_record(count);
}

sora_status sora_top_tokens(sora_context *context, const sora_top_tokens_desc *d, sora_error *error)
{
    int parts = parts_of(d->vocabulary);
    const char *options = sora_range_options(context);
    sora_status status = sora_launch(
        context,
        &(sora_launch_desc) { .file = "top_tokens",
                              .kernel = "top_tokens_part",
                              .options = options,
                              .global = { (size_t)parts, (size_t)d->rows },
                              .arguments = SORA_ARGUMENTS(SORA_VIEW(&d->logits), SORA_VIEW(&d->forbidden),
                                                          SORA_VIEW(&d->workspace), SORA_INT(d->vocabulary), SORA_INT(d->count),
                                                          SORA_INT(d->room), SORA_INT(d->forbidden.memory != NULL)) },
        error);
    if (status != SORA_OK) return status;
    return sora_launch(context,
                       &(sora_launch_desc) { .file = "top_tokens",
                                             .kernel = "top_tokens_merge",
                                             .options = options,
                                             .global = { (size_t)d->rows },
                                             .arguments = SORA_ARGUMENTS(SORA_VIEW(&d->workspace), SORA_VIEW(&d->out),
                                                                         SORA_INT(parts), SORA_INT(d->count)) },
                       error);
}
