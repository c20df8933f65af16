/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter/layer.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Levenshtein distance, cut off at 63 characters: enough to tell which names are near. */
static int distance(const char *a, const char *b)
{
    int previous[64], n = (int)strnlen(a, 63), m = (int)strnlen(b, 63);
    for (int j = 0; j <= m; j++) previous[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = previous[0];
        previous[0] = i;
        for (int j = 1; j <= m; j++) {
            int replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = previous[j];
            previous[j] = SORA_MIN(replaced, SORA_MIN(previous[j], previous[j - 1]) + 1);
        }
    }
    return previous[m];
}

static sora_status no_match(const sora_layers *layers, const char *target, sora_error *error)
{
    char near[256] = "";
    const char *shown[3] = { NULL };
    for (size_t k = 0; k < SORA_COUNT(shown) && k < layers->count; k++) {
        const char *best = NULL;
        for (size_t i = 0; i < layers->count; i++) {
            const char *name = layers->items[i]->name;
            bool taken = (k > 0 && name == shown[0]) || (k > 1 && name == shown[1]);
            if (!taken && (!best || distance(name, target) < distance(best, target))) best = name;
        }
        shown[k] = best;
        size_t used = strlen(near);
        snprintf(near + used, sizeof near - used, "%s%s", k ? ", " : "", best);
    }
    return sora_fail(error, SORA_ERROR_ARGUMENT, "target \"%s\" matches none of the %zu adaptable layers; nearest: %s", target,
                     layers->count, near);
}

/* *list is the caller's. */
static sora_status match(const sora_layers *layers, const char *target, sora_layer ***list, size_t *count, sora_error *error)
{
    sora_status status = SORA_OK;
    char *whole = NULL;
    regex_t pattern;
    bool compiled = false;
    if (!target) target = "bottleneck";
    SORA_TRY(sora_format(&whole, error, "^(%s)$", target));
    int code = regcomp(&pattern, whole, REG_EXTENDED | REG_NOSUB);
    if (code != 0) {
        char reason[128];
        regerror(code, &pattern, reason, sizeof reason);
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "target \"%s\" is no regular expression: %s", target, reason);
    }
    compiled = true;
    SORA_TRY(sora_allocate(layers->count, sizeof **list, "target", list, error));
    for (size_t i = 0; i < layers->count; i++)
        if (regexec(&pattern, layers->items[i]->name, 0, NULL, 0) == 0) (*list)[(*count)++] = layers->items[i];
    if (*count == 0) status = no_match(layers, target, error);
cleanup:
    if (compiled) regfree(&pattern);
    free(whole);
    return status;
}

sora_status sora_adapt_check(const sora_layers *layers, const char *target, sora_error *error)
{
    sora_layer **list = NULL;
    size_t matched = 0;
    sora_status status = match(layers, target, &list, &matched, error);
    free(list);
    return status;
}

sora_status sora_adapt(sora_layers *layers, const char *target, const sora_adapter_options *options, int *wasteful,
                       sora_error *error)
{
    sora_layer **list = NULL, *before = NULL;
    size_t matched = 0, done = 0;
    sora_status status = match(layers, target, &list, &matched, error);
    if (status != SORA_OK) goto cleanup;
    SORA_TRY(sora_allocate(matched, sizeof *before, "target", &before, error));
    for (; done < matched; done++) {
        before[done] = *list[done];
        SORA_TRY(sora_layer_activate_kept(list[done], options, error));
    }
    for (size_t i = 0; i < matched; i++) sora_layer_forget(list[i]);
    for (size_t i = 0; i < sora_params_count(layers->params); i++) {
        sora_param *param = sora_params_at(layers->params, i);
        bool ours = false;
        for (size_t k = 0; k < matched && !ours; k++)
            ours = param == list[k]->down || param == list[k]->up || param == list[k]->gate;
        if (!ours) sora_param_set_trainable(param, false);
    }
    if (wasteful) {
        *wasteful = 0;
        for (size_t i = 0; i < matched; i++) {
            int64_t p = list[i]->desc.out, q = sora_layer_columns(list[i]);
            *wasteful += list[i]->rank * (p + q + 1) >= p * q;
        }
    }
cleanup:
    while (status != SORA_OK && done-- > 0) {
        sora_layer_drop_adapter(list[done]);
        *list[done] = before[done];
    }
    free(before);
    free(list);
    return status;
}
