/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_ATTENTION_STEP_H
#define SORA_OP_ATTENTION_STEP_H

#include "cl/launch.h"

/* Attention of one query a row, for generation: rows [rows, heads · size] against keys and values that were stored before. Key j
 * of row r is that of sample owner[r · owner_row + j · owner_key]; of each sample `lengths` count (absent: all `keys`). */
typedef struct sora_attention_step_desc {
    int rows, heads, size, keys;
    int together;   /* neighbouring rows that have the same owners: their keys are read once; 0 counts as 1 */
    sora_view q;    /* stride: between rows */
    sora_view k, v; /* key 0 of sample 0 */
    int64_t key_stride, sample_stride;
    sora_view owner; /* int */
    int owner_row, owner_key;
    sora_view lengths; /* int [samples], or absent */
    sora_view line;    /* bias of key 0 of head 0, or absent */
    int line_stride;   /* between heads */
    sora_view out;     /* dense */
    const char *label;
} sora_attention_step_desc;

sora_status sora_attention_step(sora_context *context, const sora_attention_step_desc *desc, sora_error *error);

#endif
