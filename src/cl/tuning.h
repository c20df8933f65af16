/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_CL_TUNING_H
#define SORA_CL_TUNING_H

#include "soracl/tune.h"

/* Choices by measurement, of one device and driver: an op's variant for a shape. What the numbers mean is the op's. They are read
 * with the context from a file in the cache folder; one that is broken, or another device's, is as good as absent. */

#define SORA_TUNING_NUMBERS 12

typedef struct sora_tuning_key {
    const char *op;
    int64_t shape[SORA_TUNING_NUMBERS];
} sora_tuning_key;

typedef struct sora_tuning_variant {
    int32_t number[SORA_TUNING_NUMBERS];
} sora_tuning_variant;

typedef struct sora_tuning_entry {
    char op[16];
    int64_t shape[SORA_TUNING_NUMBERS];
    sora_tuning_variant variant;
    double seconds, standard; /* as measured: of this variant, of the default */
} sora_tuning_entry;

typedef struct sora_tuning {
    char *path; /* NULL: kept nowhere */
    sora_tuning_entry *entries;
    size_t count, capacity;
    bool listening;
    sora_tuning_entry *asked; /* while listening: each key that was looked up, once */
    size_t asked_count, asked_capacity;
} sora_tuning;

void sora_tuning_open(sora_context *context); /* never fails: without a file there are no choices */
void sora_tuning_close(sora_context *context);

/* The choice for a key; false: none, take the default. */
bool sora_tuning_find(sora_context *context, const sora_tuning_key *key, sora_tuning_variant *out);

/* Which of an op's variants was measured to be best for a key, if it still is one of them; else 0, the default. */
int sora_tuning_choose(sora_context *context, const sora_tuning_key *key, const sora_tuning_variant *variants, int count);

/* Sets or replaces one; the file changes with sora_tuning_save alone. */
sora_status sora_tuning_set(sora_context *context, const sora_tuning_entry *entry, sora_error *error);
/* Takes the choice for the entry's key back, where there is one. */
void sora_tuning_unset(sora_context *context, const sora_tuning_entry *entry);

/* To the file of the cache folder, where another process may have kept other choices meanwhile: of keys that were not `measured`
 * its are taken. */
sora_status sora_tuning_save(sora_context *context, const sora_tuning_entry *measured, size_t count, sora_error *error);

/* x up to 64 as it is, beyond the next power of two: sizes that vary with the batch find the choice of their class. */
int64_t sora_tuning_class(int64_t x);

#endif
