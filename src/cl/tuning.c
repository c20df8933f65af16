/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/tuning.h"

#include "base/file.h"
#include "cl/context.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define FORMAT "soracl-tuning-1"
#define LARGEST (16u << 20)
#define MOST_ENTRIES 100000

int64_t sora_tuning_class(int64_t x)
{
    int64_t up = 64;
    if (x <= up) return x;
    while (up < x) up *= 2;
    return up;
}

static int compare_keys(const char *op, const int64_t *shape, const sora_tuning_entry *entry)
{
    int order = strcmp(op, entry->op);
    for (int i = 0; order == 0 && i < SORA_TUNING_NUMBERS; i++)
        order = (shape[i] > entry->shape[i]) - (shape[i] < entry->shape[i]);
    return order;
}

/* Entries are in order: where the key is, or would be. */
static size_t place_of(const sora_tuning_entry *entries, size_t count, const char *op, const int64_t *shape, bool *there)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_keys(op, shape, &entries[middle]) > 0)
            low = middle + 1;
        else
            high = middle;
    }
    *there = low < count && compare_keys(op, shape, &entries[low]) == 0;
    return low;
}

static sora_status insert(sora_tuning_entry **entries, size_t *count, size_t *capacity, const sora_tuning_entry *entry,
                          sora_error *error)
{
    bool there;
    size_t at = place_of(*entries, *count, entry->op, entry->shape, &there);
    if (!there) {
        sora_status status = sora_reserve(entries, capacity, *count + 1, sizeof **entries, error);
        if (status != SORA_OK) return status;
        memmove(*entries + at + 1, *entries + at, (*count - at) * sizeof **entries);
        ++*count;
    }
    (*entries)[at] = *entry;
    return SORA_OK;
}

sora_status sora_tuning_set(sora_context *context, const sora_tuning_entry *entry, sora_error *error)
{
    sora_tuning *t = &context->tuning;
    return insert(&t->entries, &t->count, &t->capacity, entry, error);
}

void sora_tuning_unset(sora_context *context, const sora_tuning_entry *entry)
{
    sora_tuning *t = &context->tuning;
    bool there;
    size_t at = place_of(t->entries, t->count, entry->op, entry->shape, &there);
    if (there) memmove(t->entries + at, t->entries + at + 1, (--t->count - at) * sizeof *t->entries);
}

bool sora_tuning_find(sora_context *context, const sora_tuning_key *key, sora_tuning_variant *out)
{
    sora_tuning *t = &context->tuning;
    bool there = false;
    if (t->listening) {
        sora_tuning_entry asked = { 0 };
        snprintf(asked.op, sizeof asked.op, "%s", key->op);
        memcpy(asked.shape, key->shape, sizeof asked.shape);
        /* Without memory for it a shape is not tuned. */
        insert(&t->asked, &t->asked_count, &t->asked_capacity, &asked, NULL);
    }
    size_t at = t->count ? place_of(t->entries, t->count, key->op, key->shape, &there) : 0;
    if (there) *out = t->entries[at].variant;
    return there;
}

int sora_tuning_choose(sora_context *context, const sora_tuning_key *key, const sora_tuning_variant *variants, int count)
{
    sora_tuning_variant best;
    if (!sora_tuning_find(context, key, &best)) return 0;
    for (int i = 0; i < count; i++)
        if (memcmp(&variants[i], &best, sizeof best) == 0) return i;
    return 0;
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

static json_t *entry_json(const sora_tuning_entry *e)
{
    json_t *shape = json_array(), *variant = json_array();
    for (int i = 0; i < SORA_TUNING_NUMBERS; i++) {
        json_array_append_new(shape, json_integer(e->shape[i]));
        json_array_append_new(variant, json_integer(e->variant.number[i]));
    }
    return json_pack("{s:s,s:o,s:o,s:f,s:f}", "op", e->op, "shape", shape, "variant", variant, "seconds", e->seconds, "standard",
                     e->standard);
}

sora_status sora_tune_save(const sora_context *context, const char *path, sora_error *error)
{
    const sora_device *d = &context->device;
    json_t *list = json_array();
    for (size_t i = 0; i < context->tuning.count; i++) json_array_append_new(list, entry_json(&context->tuning.entries[i]));
    json_t *root = json_pack("{s:s,s:s,s:s,s:s,s:s,s:o}", "format", FORMAT, "device", d->name, "platform", d->platform, "driver",
                             d->driver, "version", d->version, "choices", list);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    sora_status status =
        text ? sora_file_write(path, text, strlen(text), error) : sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory", path);
    free(text);
    json_decref(root);
    return status;
}

static sora_status read_numbers(const json_t *list, int64_t *out)
{
    if (!json_is_array(list) || json_array_size(list) != SORA_TUNING_NUMBERS) return SORA_ERROR_INPUT;
    for (size_t i = 0; i < SORA_TUNING_NUMBERS; i++) {
        const json_t *one = json_array_get(list, i);
        if (!json_is_integer(one) || json_integer_value(one) < 0 || json_integer_value(one) > INT32_MAX) return SORA_ERROR_INPUT;
        out[i] = json_integer_value(one);
    }
    return SORA_OK;
}

static sora_status read_entry(const json_t *object, sora_tuning_entry *out)
{
    const char *op = json_string_value(json_object_get(object, "op"));
    const json_t *seconds = json_object_get(object, "seconds"), *standard = json_object_get(object, "standard");
    int64_t variant[SORA_TUNING_NUMBERS];
    *out = (sora_tuning_entry) { .seconds = json_number_value(seconds), .standard = json_number_value(standard) };
    if (!op || strlen(op) >= sizeof out->op || !json_is_number(seconds) || !json_is_number(standard)) return SORA_ERROR_INPUT;
    snprintf(out->op, sizeof out->op, "%s", op);
    if (read_numbers(json_object_get(object, "shape"), out->shape) != SORA_OK) return SORA_ERROR_INPUT;
    if (read_numbers(json_object_get(object, "variant"), variant) != SORA_OK) return SORA_ERROR_INPUT;
    for (int i = 0; i < SORA_TUNING_NUMBERS; i++) out->variant.number[i] = (int32_t)variant[i];
    return SORA_OK;
}

static bool says(const json_t *root, const char *key, const char *expected)
{
    const char *text = json_string_value(json_object_get(root, key));
    return text && strcmp(text, expected) == 0;
}

/* out: entries alone, the caller's. */
static sora_status read_choices(const sora_context *context, const char *path, sora_tuning *out, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_device *d = &context->device;
    unsigned char *text = NULL;
    size_t bytes;
    json_t *root = NULL;
    json_error_t problem;
    sora_tuning read = { 0 };
    SORA_TRY(sora_file_read(path, LARGEST, &text, &bytes, error));
    root = json_loadb((const char *)text, bytes, JSON_REJECT_DUPLICATES, &problem);
    if (!root) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: line %d: %s", path, problem.line, problem.text);
    if (!says(root, "format", FORMAT)) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: not choices of variants (" FORMAT ")", path);
    if (!says(root, "device", d->name) || !says(root, "platform", d->platform) || !says(root, "driver", d->driver) ||
        !says(root, "version", d->version))
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: choices of another device or driver, not of %s with driver %s", path, d->name,
                  d->driver);
    const json_t *list = json_object_get(root, "choices");
    if (!json_is_array(list) || json_array_size(list) > MOST_ENTRIES)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: no list of choices", path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        sora_tuning_entry entry;
        if (read_entry(json_array_get(list, i), &entry) != SORA_OK)
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s: choice %zu is none: op, shape and variant of %d numbers, seconds, standard",
                      path, i, SORA_TUNING_NUMBERS);
        SORA_TRY(insert(&read.entries, &read.count, &read.capacity, &entry, error));
    }
    *out = read;
    read.entries = NULL;
cleanup:
    free(read.entries);
    json_decref(root);
    free(text);
    return status;
}

sora_status sora_tune_load(sora_context *context, const char *path, sora_error *error)
{
    sora_tuning read, *t = &context->tuning;
    sora_status status = read_choices(context, path, &read, error);
    if (status != SORA_OK) return status;
    free(t->entries);
    t->entries = read.entries;
    t->count = read.count;
    t->capacity = read.capacity;
    return SORA_OK;
}

sora_status sora_tuning_save(sora_context *context, const sora_tuning_entry *measured, size_t count, sora_error *error)
{
    sora_tuning others = { 0 };
    sora_status status = SORA_OK;
    if (sora_path_exists(context->tuning.path)) read_choices(context, context->tuning.path, &others, NULL);
    for (size_t i = 0; i < others.count && status == SORA_OK; i++) {
        bool ours = false;
        for (size_t j = 0; j < count && !ours; j++)
            ours = compare_keys(measured[j].op, measured[j].shape, &others.entries[i]) == 0;
        if (!ours) status = sora_tuning_set(context, &others.entries[i], error);
    }
    free(others.entries);
    return status == SORA_OK ? sora_tune_save(context, context->tuning.path, error) : status;
}

void sora_tuning_open(sora_context *context)
{
    const sora_device *d = &context->device;
    char *key = NULL;
    if (!context->cache || sora_format(&key, NULL, "%s\n%s\n%s\n%s", d->platform, d->name, d->driver, d->version) != SORA_OK)
        return;
    sora_format(&context->tuning.path, NULL, "%s/tuning-%016llx.json", context->cache,
                (unsigned long long)XXH3_64bits(key, strlen(key)));
    free(key);
    if (context->tuning.path && sora_path_exists(context->tuning.path)) sora_tune_load(context, context->tuning.path, NULL);
}

void sora_tuning_close(sora_context *context)
{
    free(context->tuning.path);
    free(context->tuning.entries);
    free(context->tuning.asked);
    context->tuning = (sora_tuning) { 0 };
}

sora_status sora_tune_begin(sora_context *context, sora_error *error)
{
    if (context->tuning.listening) return sora_fail(error, SORA_ERROR_ARGUMENT, "shapes are being taken down already");
    context->tuning.listening = true;
    context->tuning.asked_count = 0;
    return SORA_OK;
}

void sora_tune_end(sora_context *context)
{
    context->tuning.listening = false;
}

size_t sora_tune_choices(const sora_context *context)
{
    return context->tuning.count;
}

const char *sora_tune_path(const sora_context *context)
{
    return context->tuning.path;
}

void sora_tune_forget(sora_context *context)
{
    context->tuning.count = 0;
}
