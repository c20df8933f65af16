/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_TOP_TOKENS_H
#define SORA_OP_TOP_TOKENS_H

#include "cl/launch.h"

/* The likeliest tokens of each row of logits, for generation, so that the host reads a few numbers instead of all. */
typedef struct sora_top_tokens_desc {
    int rows, vocabulary, count; /* tokens of a row that are wanted, at least 1 */
    sora_view logits;            /* dense [rows, vocabulary] */
    sora_view forbidden;         /* int [rows, 1 + room]: how many, and the tokens that can't be chosen; absent: none */
    int room;
    sora_view workspace; /* of sora_top_tokens_workspace elements */
    sora_view out;       /* dense [rows, sora_top_tokens_record(count)] */
} sora_top_tokens_desc;

/* Elements of a row's record: its largest logit, the sum of e^(logit − that) over all, forbidden ones too, `count` logits in
 * falling order (of equal ones the lower token first), and as int the tokens; −1 where there are fewer. */
static inline int sora_top_tokens_record(int count)
{
    return 2 + 2 * count;
}

uint64_t sora_top_tokens_workspace(int rows, int vocabulary, int count);

sora_status sora_top_tokens(sora_context *context, const sora_top_tokens_desc *desc, sora_error *error);

#endif
