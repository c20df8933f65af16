/* SPDX-License-Identifier: Apache-2.0 */
#include "train/run_options.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(member) .offset = offsetof(sora_run_options, member), .size = sizeof(((sora_run_options *)0)->member)
#define TEXT(key, member, part, whose, standard, choices, text)                                                             \
    {                                                                                                                \
        .name = key, .group = part, .tasks = whose, .type = SORA_OPTION_TEXT, .fallback = standard, .values = choices, .help = text, \
        FIELD(member)                                                                                                \
    }
#define WHOLE(key, member, part, whose, standard, low, high, text)                                                             \
    {                                                                                                                   \
        .name = key, .group = part, .tasks = whose, .type = SORA_OPTION_INTEGER, .fallback = standard, .minimum = low, .maximum = high, \
        .help = text, FIELD(member)                                                                                     \
    }
#define REAL(key, member, part, whose, standard, low, high, text)                                                             \
    {                                                                                                                  \
        .name = key, .group = part, .tasks = whose, .type = SORA_OPTION_NUMBER, .fallback = standard, .minimum = low, .maximum = high, \
        .help = text, FIELD(member)                                                                                    \
    }
#define SWITCH(key, member, part, whose, standard, text)                                                                 \
    {                                                                                                             \
        .name = key, .group = part, .tasks = whose, .type = SORA_OPTION_SWITCH, .fallback = standard, .help = text, FIELD(member) \
    }

#define UNET SORA_TASK_UNET
#define T5 SORA_TASK_T5
#define BOTH (SORA_TASK_UNET | SORA_TASK_T5)

static const sora_option table[] = {
    TEXT("data", data, "Data", UNET, "", NULL, "training set, KIND:DIR[:SPLIT]; kinds egohands, gtea, pairs"),
    TEXT("eval-data", eval_data, "Data", UNET, "", NULL, "evaluation set; default: the test split of --data"),
    SWITCH("augment", augment, "Data", UNET, "on", "flips, rotations, colour jitter (--no-augment turns it off)"),
    WHOLE("threads", threads, "Data", UNET, "2", 1, 64, "threads that decode images ahead of training"),
    TEXT("from", from, "Network", UNET, "", NULL, "run or weights file to start from"),
    TEXT("model", model, "Network", UNET, "unet-fc", "unet-fc|unet", "network, where there is no --from"),
    TEXT("weights", weights, "Network", BOTH, "fp32", "fp32|fp16", "frozen weights of linear layers and embeddings are kept so on the device"),
    WHOLE("size", size, "Network", UNET, "256", 1, 4096, "images are stretched to size x size; with --from to what its network takes"),
    WHOLE("width", width, "Network", UNET, "0", 0, 1024, "unet, where there is no --from: channels of the first level (0: 64)"),
    WHOLE("depth", depth, "Network", UNET, "0", 0, 6, "unet, where there is no --from: levels below the first (0: 4)"),
    REAL("dropout", dropout, "Network", UNET, "0", 0, 0.99, "after the bottleneck; with adapters: on x in their branch"),
    TEXT("loss", loss, "Training", UNET, "dice", "dice|bce|dice-bce", "training loss"),
    WHOLE("batch", batch, "Training", BOTH, "8", 1, 4096, "images or texts in a batch"),
    WHOLE("epochs", epochs, "Training", UNET, "30", 1, 100000, "passes over the training set"),
    WHOLE("steps", steps, "Training", BOTH, "0", 0, 2000000000, "limit on optimiser steps (0: none)"),
    WHOLE("accumulate", accumulate, "Training", BOTH, "1", 1, 4096, "batches whose gradients make one step"),
    TEXT("optimizer", optimizer, "Training", UNET, "adamw", "adamw|sgd|adafactor", "rule for weights"),
    REAL("lr", lr, "Training", UNET, "0.01", 0, 1000, "highest learning rate"),
    SWITCH("recompute", recompute, "Training", BOTH, "off", "make cheap activations again on the way back instead of keeping them: less memory, the same bits"),
    REAL("weight-decay", weight_decay, "Training", BOTH, "0.01", 0, 100, "on weights only: not on gates, norms and biases"),
    REAL("momentum", momentum, "Training", BOTH, "0.9", 0, 0.9999, "of sgd"),
    TEXT("schedule", schedule, "Training", UNET, "cosine", "constant|linear|cosine|plateau", "of the learning rate"),
    REAL("warmup", warmup, "Training", BOTH, "0.06", 0, 1e9, "linear rise: below 1 a share of the run, else steps"),
    REAL("clip", clip, "Training", BOTH, "1", 0, 1e9, "largest norm of the gradient (0: none)"),
    { .name = "seed",
      .group = "Training",
      .tasks = BOTH,
      .type = SORA_OPTION_UNSIGNED,
      .fallback = "1",
      .maximum = 9007199254740992.0,
      .help = "of initial weights, order, augmentation and dropout",
      FIELD(seed) },
    WHOLE("log-every", log_every, "Training", BOTH, "10", 1, 1000000, "steps between lines of events.jsonl"),
    WHOLE("eval-every", eval_every, "Training", BOTH, "0", 0, 2000000000, "steps between evaluations (0: each epoch)"),
    WHOLE("save-every", save_every, "Training", BOTH, "0", 0, 2000000000, "steps between checkpoints (0: each epoch)"),
    WHOLE("keep", keep, "Training", BOTH, "2", 1, 1000000, "checkpoints kept beside the best"),
    WHOLE("patience", patience, "Training", BOTH, "0", 0, 1000000, "evaluations without a better one before stopping (0: never)"),
    TEXT("method", method, "Adapter", UNET, "full", "full|lora|sora", "what is trained"),
    WHOLE("rank", rank, "Adapter", UNET, "40", 0, 1000000, "largest rank of each adapter"),
    REAL("alpha", alpha, "Adapter", BOTH, "0", 0, 1e9, "scale s = alpha / rank (0: as --init says)"),
    TEXT("target", target, "Adapter", UNET, "bottleneck.*", NULL, "regular expression over the names of layers"),
    TEXT("init", init, "Adapter", BOTH, "paper", "paper|ones|normal",
         "initial adapters (paper: alpha 16, gates N(0,1); others: scale 1)"),
    REAL("lambda", lambda, "Adapter", BOTH, "0.1", 0, 1e9, "sparsity: threshold xi = gate learning rate x lambda"),
    REAL("xi", xi, "Adapter", BOTH, "0", 0, 1e9, "threshold itself (0: from --lambda)"),
    TEXT("gate", gate, "Adapter", BOTH, "paper", "paper|adam|official", "how gates are updated"),
    REAL("gate-lr", gate_lr, "Adapter", BOTH, "0", 0, 1000, "highest learning rate of gates (0: as --lr)"),
    REAL("gate-warmup", gate_warmup, "Adapter", BOTH, "0", 0, 1e9, "as --warmup, for gates"),
    TEXT("gate-schedule", gate_schedule, "Adapter", BOTH, "constant", "constant|linear|cosine", "of the gates' learning rate"),
    TEXT("bn", bn, "Adapter", UNET, "batch", "batch|frozen", "batch norm while adapters train: batch or running statistics"),
    WHOLE("drop-after", drop_after, "Adapter", BOTH, "0", 0, 2000000000,
          "drop a rank for good after so many updates at 0 (0: at the end)"),
    TEXT("xi-schedule", xi_schedule, "Adapter", BOTH, "", NULL,
         "thresholds one after the other, SPACING:A:B:COUNT, as linear:0:7e-4:7"),
    TEXT("train", data, "Data", T5, "", NULL, "training texts: .csv (text, title), .jsonl (the same, or SciTLDR's form)"),
    TEXT("dev", eval_data, "Data", T5, "", NULL, "texts to evaluate on; default: the loss of 64 texts of --train"),
    TEXT("source-column", source_column, "Data", T5, "", NULL, "column of the text (default: as the file's form has it)"),
    TEXT("target-column", target_column, "Data", T5, "", NULL, "column of the summary"),
    TEXT("prefix", prefix, "Data", T5, "summarize: ", NULL, "put before each text"),
    WHOLE("max-source", max_source, "Data", T5, "512", 2, 4096, "tokens of a text, eos counted; longer ones are cut"),
    WHOLE("max-target", max_target, "Data", T5, "64", 2, 4096, "tokens of a summary, eos counted"),
    WHOLE("min-source-characters", min_source_characters, "Data", T5, "0", 0, 1000000, "leave out shorter texts"),
    WHOLE("min-target-characters", min_target_characters, "Data", T5, "0", 0, 1000000, "leave out pairs with shorter summaries"),
    TEXT("model", from, "Network", T5, "", NULL, "folder with config.json, model.safetensors and spiece.model, or a run"),
    TEXT("objective", objective, "Network", T5, "pairs", "pairs|spans", "summaries, or T5's span corruption of the texts"),
    REAL("dropout", network_dropout, "Network", T5, "-1", -1, 0.99, "of the whole network (-1: as config.json says)"),
    REAL("label-smoothing", smoothing, "Training", T5, "0", 0, 0.99, "share of each label that all classes get"),
    WHOLE("epochs", epochs, "Training", T5, "1", 1, 100000, "passes over the training texts"),
    TEXT("optimizer", optimizer, "Training", T5, "adamw", "adamw|sgd|adafactor", "rule for weights"),
    REAL("lr", lr, "Training", T5, "0.001", 0, 1000, "highest learning rate"),
    TEXT("schedule", schedule, "Training", T5, "linear", "constant|linear|cosine|plateau", "of the learning rate"),
    SWITCH("scale-parameter", scale_parameter, "Training", T5, "off", "adafactor: learning rates relative to each parameter's size, as T5's own"),
    WHOLE("eval-examples", eval_examples, "Training", T5, "0", 0, 2000000000, "texts of --dev whose loss an evaluation takes (0: all)"),
    WHOLE("eval-generate", eval_generate, "Training", T5, "64", 0, 2000000000, "of those, texts that it summarises for ROUGE"),
    TEXT("method", method, "Adapter", T5, "sora", "full|lora|sora", "what is trained"),
    WHOLE("rank", rank, "Adapter", T5, "8", 0, 1000000, "largest rank of each adapter"),
    TEXT("adapter", adapter, "Adapter", T5, "", NULL, "run or PEFT folder whose adapters are the start (--method as theirs)"),
    REAL("adapter-dropout", dropout, "Adapter", T5, "0", 0, 0.99, "on x in the adapters' branch"),
    TEXT("target", target, "Adapter", T5, SORA_TARGET_T5, NULL, "regular expression over the names of layers"),
};

const sora_option *sora_run_option_table(size_t *count)
{
    *count = SORA_COUNT(table);
    return table;
}

static const sora_option *find_option(sora_task_kind task, const char *name)
{
    for (size_t i = 0; i < SORA_COUNT(table); i++)
        if ((table[i].tasks & task) && strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

/* Whether `value` is one of "a|b|c". */
static bool is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);
    for (const char *at = choices; length > 0; at++) {
        size_t span = strcspn(at, "|");
        if (span == length && strncmp(at, value, span) == 0) return true;
        at += span;
        if (*at == '\0') return false;
    }
    return false;
}

static sora_status set_number(void *field, const sora_option *option, const char *value, sora_error *error)
{
    char *end;
    errno = 0;
    double number = strtod(value, &end);
    if (*value == '\0' || *end != '\0' || !isfinite(number))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "--%s: \"%.80s\" is no number", option->name, value);
    if (option->type != SORA_OPTION_NUMBER && number != floor(number))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "--%s: %s is no whole number", option->name, value);
    if (number < option->minimum || number > option->maximum)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "--%s: %s; expected %.16g to %.16g", option->name, value, option->minimum,
                         option->maximum);
    if (option->type == SORA_OPTION_INTEGER)
        *(int *)field = (int)number;
    else if (option->type == SORA_OPTION_UNSIGNED)
        *(uint64_t *)field = (uint64_t)number;
    else
        *(double *)field = number;
    return SORA_OK;
}

sora_status sora_run_options_set(sora_run_options *options, const char *name, const char *value, sora_error *error)
{
    const sora_option *option = find_option(options->task, name);
    if (!option) return sora_fail(error, SORA_ERROR_ARGUMENT, "unknown option --%.80s", name);
    char *field = (char *)options + option->offset;
    switch (option->type) {
    case SORA_OPTION_TEXT:
        if (option->values && !is_choice(option->values, value))
            return sora_fail(error, SORA_ERROR_ARGUMENT, "--%s: \"%.80s\"; expected %s", name, value, option->values);
        if (strlen(value) >= option->size)
            return sora_fail(error, SORA_ERROR_ARGUMENT, "--%s: %zu characters, at most %zu", name, strlen(value),
                             option->size - 1);
        if (sora_utf8_prefix(value, strlen(value)) != strlen(value))
            return sora_fail(error, SORA_ERROR_ARGUMENT, "--%s: no UTF-8, as a run's config.json has to be", name);
        memset(field, 0, option->size);
        memcpy(field, value, strlen(value));
        return SORA_OK;
    case SORA_OPTION_SWITCH:
        if (!is_choice("on|off", value))
            return sora_fail(error, SORA_ERROR_ARGUMENT, "--%s: \"%.80s\"; expected on or off", name, value);
        *(bool *)field = strcmp(value, "on") == 0;
        return SORA_OK;
    case SORA_OPTION_INTEGER:
    case SORA_OPTION_UNSIGNED:
    case SORA_OPTION_NUMBER: break;
    }
    return set_number(field, option, value, error);
}

void sora_run_options_default(sora_run_options *options, sora_task_kind task)
{
    memset(options, 0, sizeof *options);
    options->task = task;
    for (size_t i = 0; i < SORA_COUNT(table); i++) {
        const sora_option *option = &table[i];
        /* Empty texts stay zeroed; a choice is never empty. */
        if ((option->tasks & task) && *option->fallback) sora_run_options_set(options, option->name, option->fallback, NULL);
    }
}

void sora_run_options_text(const sora_run_options *options, const sora_option *option, char *text, size_t bytes)
{
    const char *field = (const char *)options + option->offset;
    switch (option->type) {
    case SORA_OPTION_TEXT: snprintf(text, bytes, "%s", field); break;
    case SORA_OPTION_SWITCH: snprintf(text, bytes, "%s", *(const bool *)field ? "on" : "off"); break;
    case SORA_OPTION_INTEGER: snprintf(text, bytes, "%d", *(const int *)field); break;
    case SORA_OPTION_UNSIGNED: snprintf(text, bytes, "%llu", (unsigned long long)*(const uint64_t *)field); break;
    case SORA_OPTION_NUMBER: {
        /* The shortest of the forms that reads back exactly. */
        double value = *(const double *)field;
        for (int digits = 6; digits <= 17; digits++) {
            snprintf(text, bytes, "%.*g", digits, value);
            if (strtod(text, NULL) == value) break;
        }
        break;
    }
    }
}

json_t *sora_run_options_to_json(const sora_run_options *options)
{
    json_t *object = json_object();
    for (size_t i = 0; object && i < SORA_COUNT(table); i++) {
        const sora_option *option = &table[i];
        const char *field = (const char *)options + option->offset;
        json_t *value = NULL;
        if (!(option->tasks & options->task)) continue;
        switch (option->type) {
        case SORA_OPTION_TEXT: value = json_string(field); break;
        case SORA_OPTION_SWITCH: value = json_boolean(*(const bool *)field); break;
        case SORA_OPTION_INTEGER: value = json_integer(*(const int *)field); break;
        case SORA_OPTION_UNSIGNED: value = json_integer((json_int_t) * (const uint64_t *)field); break;
        case SORA_OPTION_NUMBER: value = json_real(*(const double *)field); break;
        }
        if (json_object_set_new(object, option->name, value) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static sora_status from_json(const json_t *object, const char *path, sora_run_options *options, sora_error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        char text[1100];
        if (json_is_string(value))
            snprintf(text, sizeof text, "%s", json_string_value(value));
        else if (json_is_boolean(value))
            snprintf(text, sizeof text, "%s", json_is_true(value) ? "on" : "off");
        else if (json_is_integer(value))
            snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
        else if (json_is_real(value))
            snprintf(text, sizeof text, "%.17g", json_real_value(value));
        else
            return sora_fail(error, SORA_ERROR_INPUT, "%s: option \"%.80s\" is neither text, number nor boolean", path, name);
        if (sora_run_options_set(options, name, text, error) != SORA_OK) {
            sora_error_prefix(error, "%s", path);
            return SORA_ERROR_INPUT;
        }
    }
    return SORA_OK;
}

/* own: the file's task counts, and what the file hasn't is as by default; else it must be the options' task, and what it hasn't stays. */
static sora_status read_options(const char *path, bool own, sora_run_options *options, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_run_options read;
    unsigned char *text = NULL;
    size_t bytes;
    json_t *root = NULL;
    json_error_t reason;
    SORA_TRY(sora_file_read(path, 1 << 20, &text, &bytes, error));
    root = json_loadb((const char *)text, bytes, JSON_REJECT_DUPLICATES, &reason);
    if (!root) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: line %d: %s", path, reason.line, reason.text);
    const json_t *section = json_object_get(root, "options");
    if (!json_is_object(section))
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: has no object \"options\": not a run's config.json", path);
    const char *name = json_string_value(json_object_get(root, "task"));
    sora_task_kind task = name && strcmp(name, "t5") == 0 ? SORA_TASK_T5 : SORA_TASK_UNET;
    if (own)
        sora_run_options_default(&read, task);
    else
        read = *options;
    if (read.task != task)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: is of another task; this command takes options of %s", path,
                  read.task == SORA_TASK_T5 ? "T5" : "U-Net");
    SORA_TRY(from_json(section, path, &read, error));
    *options = read;
cleanup:
    json_decref(root);
    free(text);
    return status;
}

sora_status sora_run_options_read(const char *path, sora_run_options *options, sora_error *error)
{
    return read_options(path, true, options, error);
}

sora_status sora_run_options_merge(const char *path, sora_run_options *options, sora_error *error)
{
    return read_options(path, false, options, error);
}
