/* SPDX-License-Identifier: Apache-2.0 */
#include "train/comparison.h"

#include "adapter/layer.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "data/bootstrap.h"
#include "graph/params_file.h"
#include "train/run_folder.h"
#include "train/run_options.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RESAMPLES 2000
#define MAX_ITEMS 32
#define SLUG_ROOM 200

typedef struct comparison {
    sora_context *context;
    const sora_run_options *options;
    const sora_comparison_options *asked;
    const sora_watcher *watcher;
    const sora_comparison_task *task;
    sora_comparison_row *rows;
    size_t count, capacity;
    size_t examples;
    char weights[17]; /* hash of what every row starts from, known once it was opened */
    char data[17];    /* and of what it trains on */
    double **scores;  /* [count][measures · examples] */
    json_t *json;     /* rows as written */
} comparison;

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static void tell(const comparison *c, const char *format, ...) SORA_PRINTF(2, 3);
static void tell(const comparison *c, const char *format, ...)
{
    char text[512];
    va_list arguments;
    if (!c->watcher || !c->watcher->message) return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    c->watcher->message(c->watcher->self, text);
}

/* ---- What rows there are ----------------------------------------------------------------------------------------- */

typedef struct list {
    char items[MAX_ITEMS][256];
    int count;
} list;

static sora_status split(const char *what, const char *text, const char *separators, list *out, sora_error *error)
{
    out->count = 0;
    for (const char *at = text; *at;) {
        at += strspn(at, separators);
        size_t length = strcspn(at, separators);
        if (length == 0) break;
        if (out->count == MAX_ITEMS || length >= sizeof out->items[0])
            return sora_fail(error, SORA_ERROR_ARGUMENT, "--%s \"%.80s\": too many items, or one is too long", what, text);
        snprintf(out->items[out->count++], sizeof out->items[0], "%.*s", (int)length, at);
        at += length;
    }
    return out->count ? SORA_OK : sora_fail(error, SORA_ERROR_ARGUMENT, "--%s: the list is empty", what);
}

/* Items of a list are values of an option, read as the option itself is. */
static sora_status check_values(const comparison *c, const char *option, const list *values, sora_error *error)
{
    sora_run_options o = *c->options;
    sora_status status = SORA_OK;
    for (int i = 0; i < values->count && status == SORA_OK; i++)
        status = sora_run_options_set(&o, option, values->items[i], error);
    return status;
}

static sora_run_options with_value(const comparison *c, const char *option, const char *value)
{
    sora_run_options o = *c->options;
    sora_run_options_set(&o, option, value, NULL);
    return o;
}

static void append(char *label, size_t room, const char *format, ...) SORA_PRINTF(3, 4);
static void append(char *label, size_t room, const char *format, ...)
{
    size_t at = strlen(label);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(label + at, room - at, format, arguments);
    va_end(arguments);
}

static void name_row(const comparison *c, sora_comparison_row *row, const char *lambda)
{
    size_t room = sizeof row->label;
    const char *method = row->method;
    const char *target = is(row->target, c->task->all) ? c->task->all_name : row->target;
    const char *name = is(method, "none")   ? "no fine-tuning"
                       : is(method, "copy") ? c->task->baseline
                       : is(method, "full") ? "full"
                       : is(method, "lora") ? "LoRA"
                                            : "SoRA";
    snprintf(row->label, room, "%s", name);
    if (row->target[0] && *target)
        append(row->label, room, " %.*s", (int)sora_utf8_prefix(target, SORA_MIN(strlen(target), 40)), target);
    if (row->target[0]) append(row->label, room, " r%d", row->rank);
    if (lambda) append(row->label, room, " \u03bb %.24s", lambda);
    if (row->schedule) append(row->label, room, " schedule");
}

/* A folder's name from a label: letters, digits, dots; λ as "l". */
static void slug_of(const sora_comparison_row *row, char out[SLUG_ROOM])
{
    size_t at = 0;
    const char *label = is(row->method, "none") ? "none" : row->label;
    for (const unsigned char *p = (const unsigned char *)label; *p && at + 24 < SLUG_ROOM; p++) {
        if (isalnum(*p) || *p == '.')
            out[at++] = (char)tolower(*p);
        else if (*p == 0xce && p[1] == 0xbb) {
            out[at++] = 'l';
            p++;
        } else if (at > 0 && out[at - 1] != '-')
            out[at++] = '-';
    }
    snprintf(out + at, SLUG_ROOM - at, "-s%llu", (unsigned long long)row->seed);
}

static bool is_same(const sora_comparison_row *a, const sora_comparison_row *b)
{
    return is(a->method, b->method) && is(a->target, b->target) && a->seed == b->seed && a->rank == b->rank &&
           a->lambda == b->lambda && a->schedule == b->schedule;
}

static bool is_taken(const comparison *c, const sora_comparison_row *row)
{
    char own[SLUG_ROOM], other[SLUG_ROOM];
    slug_of(row, own);
    for (size_t i = 0; i < c->count; i++) {
        slug_of(&c->rows[i], other);
        if (is(own, other) && !is_same(row, &c->rows[i])) return true;
    }
    return false;
}

/* lambda: named in the label, where there are several; NULL: not. */
static sora_status add_row(comparison *c, sora_comparison_row row, const char *method, const char *target, const char *lambda,
                           sora_error *error)
{
    sora_status status = sora_reserve(&c->rows, &c->capacity, c->count + 1, sizeof row, error);
    if (status != SORA_OK) return status;
    snprintf(row.method, sizeof row.method, "%s", method);
    snprintf(row.target, sizeof row.target, "%s", target ? target : "");
    name_row(c, &row, lambda);
    for (size_t i = 0; i < c->count; i++)
        if (is_same(&row, &c->rows[i]))
            return sora_fail(error, SORA_ERROR_ARGUMENT,
                             "row \"%s\", seed %llu, would be there twice; leave out what a list of --methods, --target, --rank, "
                             "--lambda or --seeds repeats",
                             row.label, (unsigned long long)row.seed);
    /* A label has a target's beginning, a folder's name no punctuation: of rows that are alike in that, the later get a number, for
     * which name_row's longest label leaves room. */
    size_t length = strlen(row.label);
    for (int number = 2; is_taken(c, &row); number++) snprintf(row.label + length, sizeof row.label - length, " #%d", number);
    c->rows[c->count++] = row;
    return SORA_OK;
}

typedef struct lists {
    list methods, targets, ranks, lambdas, seeds;
} lists;

static sora_status read_lists(const comparison *c, lists *l, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_run_options *o = c->options;
    const sora_comparison_options *a = c->asked;
    char rank[16], lambda[32], seed[32];
    snprintf(rank, sizeof rank, "%d", o->rank);
    snprintf(lambda, sizeof lambda, "%.9g", o->lambda);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)o->seed);
    SORA_TRY(split("methods", a->methods ? a->methods : "full,lora,sora", ", ", &l->methods, error));
    SORA_TRY(split("target", a->targets ? a->targets : o->target, " ", &l->targets, error));
    SORA_TRY(split("rank", a->ranks ? a->ranks : rank, ", ", &l->ranks, error));
    SORA_TRY(split("lambda", a->lambdas ? a->lambdas : lambda, ", ", &l->lambdas, error));
    SORA_TRY(split("seeds", a->seeds ? a->seeds : seed, ", ", &l->seeds, error));
    SORA_TRY(check_values(c, "rank", &l->ranks, error));
    SORA_TRY(check_values(c, "lambda", &l->lambdas, error));
    SORA_TRY(check_values(c, "seed", &l->seeds, error));
    if (!c->task->ranks_are_rows && l->ranks.count != l->targets.count && l->ranks.count != 1)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "--rank: %d values for %d targets; expected one, or one for each", l->ranks.count,
                  l->targets.count);
    for (int m = 0; m < l->methods.count; m++) {
        const char *method = l->methods.items[m];
        if (!is(method, "full") && !is(method, "lora") && !is(method, "sora"))
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "--methods: \"%.40s\"; expected full, lora, sora", method);
    }
cleanup:
    return status;
}

/* Rows of one method with one target and rank: SoRA has one for each lambda, and the schedule's. */
static sora_status plan_adapters(comparison *c, const lists *l, const char *method, const char *target, const char *rank,
                                 uint64_t seed, sora_error *error)
{
    sora_status status = SORA_OK;
    bool sora = is(method, "sora");
    sora_comparison_row row = { .seed = seed, .rank = with_value(c, "rank", rank).rank };
    for (int i = 0; i < (sora ? l->lambdas.count : 1); i++) {
        const char *lambda = l->lambdas.items[i];
        row.lambda = sora ? with_value(c, "lambda", lambda).lambda : 0.0;
        SORA_TRY(add_row(c, row, method, target, sora && l->lambdas.count > 1 ? lambda : NULL, error));
    }
    if (sora && c->task->schedule_is_row && c->options->xi_schedule[0]) {
        row.lambda = 0.0;
        row.schedule = true;
        SORA_TRY(add_row(c, row, method, target, NULL, error));
    }
cleanup:
    return status;
}

static sora_status plan_method(comparison *c, const lists *l, const char *method, uint64_t seed, sora_error *error)
{
    sora_status status = SORA_OK;
    if (is(method, "full")) return add_row(c, (sora_comparison_row) { .seed = seed }, method, NULL, NULL, error);
    for (int t = 0; t < l->targets.count; t++)
        for (int r = 0; r < l->ranks.count; r++) {
            bool own = c->task->ranks_are_rows || l->ranks.count == 1 || r == t;
            if (own) SORA_TRY(plan_adapters(c, l, method, l->targets.items[t], l->ranks.items[r], seed, error));
        }
cleanup:
    return status;
}

static sora_status plan_rows(comparison *c, sora_error *error)
{
    sora_status status = SORA_OK;
    lists *l = NULL;
    SORA_TRY(sora_allocate(1, sizeof *l, "rows", &l, error));
    SORA_TRY(read_lists(c, l, error));
    sora_comparison_row first = { .seed = with_value(c, "seed", l->seeds.items[0]).seed };
    SORA_TRY(add_row(c, first, "none", NULL, NULL, error));
    if (c->task->baseline) SORA_TRY(add_row(c, first, "copy", NULL, NULL, error));
    for (int s = 0; s < l->seeds.count; s++)
        for (int m = 0; m < l->methods.count; m++)
            SORA_TRY(plan_method(c, l, l->methods.items[m], with_value(c, "seed", l->seeds.items[s]).seed, error));
cleanup:
    free(l);
    return status;
}

static bool is_trained(const sora_comparison_row *row)
{
    return !is(row->method, "none") && !is(row->method, "copy");
}

/* ---- One row ----------------------------------------------------------------------------------------------------- */

static sora_run_options options_of(const comparison *c, const sora_comparison_row *row)
{
    sora_run_options o = *c->options;
    snprintf(o.method, sizeof o.method, "%s", row->method);
    if (row->target[0]) {
        snprintf(o.target, sizeof o.target, "%s", row->target);
        o.rank = row->rank;
    }
    bool gates = is(row->method, "sora");
    if (gates && !row->schedule) o.lambda = row->lambda;
    if (!gates || (c->task->schedule_is_row && !row->schedule)) o.xi_schedule[0] = '\0';
    if (is(row->method, "full")) snprintf(o.weights, sizeof o.weights, "fp32"); /* nothing is frozen */
    if (is(row->method, "full") && c->asked->full_lr > 0.0) o.lr = c->asked->full_lr;
    o.seed = row->seed;
    return o;
}

static json_t *or_null(bool present, json_t *value)
{
    if (present) return value;
    json_decref(value);
    return json_null();
}

static json_t *modules_json(const comparison *c, const sora_comparison_row *row, double *alpha)
{
    json_t *modules = json_array();
    sora_layers *layers = row->target[0] ? c->task->layers(c->task->self) : NULL;
    for (size_t i = 0; layers && i < sora_layers_count(layers); i++) {
        sora_layer_info info;
        if (sora_layer_describe(sora_layers_at(layers, i), &info, NULL) != SORA_OK || !info.active) continue;
        *alpha = (double)info.alpha;
        json_array_append_new(
            modules, json_pack("{s:s,s:i,s:i}", "name", info.name, "rank_max", info.rank_max, "rank_kept", info.rank_kept));
    }
    return modules;
}

static json_t *row_json(const comparison *c, const sora_comparison_row *row, const char *folder)
{
    const sora_run_result *r = &row->result;
    sora_run_options o = options_of(c, row);
    bool adapters = row->target[0] != '\0', gates = is(row->method, "sora"), trained = is_trained(row),
         model = !is(row->method, "copy");
    double alpha = 0.0;
    json_t *modules = modules_json(c, row, &alpha);
    json_t *json = json_object();
    json_object_set_new(json, "label", json_string(row->label));
    json_object_set_new(json, "folder", or_null(trained, json_string(folder)));
    json_object_set_new(json, "method", json_string(row->method));
    json_object_set_new(json, "seed", json_integer((json_int_t)row->seed));
    json_object_set_new(json, "target", or_null(adapters, json_string(row->target)));
    json_object_set_new(json, "alpha", or_null(adapters, json_real(alpha)));
    json_object_set_new(json, "lambda", or_null(gates && !row->schedule, json_real(row->lambda)));
    json_object_set_new(json, "xi", or_null(gates && o.xi > 0.0, json_real(o.xi)));
    if (c->task->schedule_is_row) json_object_set_new(json, "xi_schedule", or_null(row->schedule, json_string(o.xi_schedule)));
    json_object_set_new(json, "gate", or_null(gates, json_string(o.gate)));
    json_object_set_new(json, "bn", or_null(adapters && o.bn[0], json_string(o.bn)));
    json_object_set_new(json, "rank_max", or_null(adapters, json_integer(r->rank_max)));
    json_object_set_new(json, "rank_kept", or_null(adapters, json_integer(r->rank_kept)));
    json_object_set_new(json, "modules", or_null(adapters, modules));
    json_object_set_new(json, "parameters_trainable", json_integer((json_int_t)r->parameters_trainable));
    json_object_set_new(json, "parameters_kept", json_integer((json_int_t)r->parameters_kept));
    json_object_set_new(json, "steps", json_integer(r->steps));
    json_object_set_new(json, "seconds_per_step", or_null(trained, json_real(r->seconds_per_step)));
    json_object_set_new(json, "device_bytes_predicted", or_null(trained, json_integer((json_int_t)r->device_bytes_predicted)));
    json_object_set_new(json, "device_bytes_peak", or_null(model, json_integer((json_int_t)r->device_bytes_peak)));
    json_object_set_new(json, "process_bytes_peak", or_null(model, json_integer((json_int_t)r->process_bytes_peak)));
    json_object_set_new(json, "quality", c->task->quality(&r->quality));
    return json;
}

/* Figures of a row that an earlier call finished, from its result.json. */
static bool recall_row(const json_t *root, sora_run_result *result)
{
    json_t *row = json_object_get(root, "row");
    json_int_t predicted, peak, process, trainable, kept, steps;
    double seconds;
    if (json_unpack(row, "{s:I,s:I,s:I,s:I,s:I,s:I,s:F}", "device_bytes_predicted", &predicted, "device_bytes_peak", &peak,
                    "process_bytes_peak", &process, "parameters_trainable", &trainable, "parameters_kept", &kept, "steps", &steps,
                    "seconds_per_step", &seconds) != 0)
        return false;
    json_t *rank_max = json_object_get(row, "rank_max"), *rank_kept = json_object_get(row, "rank_kept");
    *result = (sora_run_result) { .steps = (uint32_t)steps,
                                  .seconds_per_step = seconds,
                                  .device_bytes_predicted = (uint64_t)predicted,
                                  .device_bytes_peak = (uint64_t)peak,
                                  .process_bytes_peak = (uint64_t)process,
                                  .parameters_trainable = (uint64_t)trainable,
                                  .parameters_kept = (uint64_t)kept,
                                  .rank_max = json_is_integer(rank_max) ? (int)json_integer_value(rank_max) : -1,
                                  .rank_kept = json_is_integer(rank_kept) ? (int)json_integer_value(rank_kept) : -1 };
    return true;
}

/* What recall_row reads. */
static json_t *figures_json(const sora_run_result *r)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:o,s:o}", "device_bytes_predicted", (json_int_t)r->device_bytes_predicted,
                     "device_bytes_peak", (json_int_t)r->device_bytes_peak, "process_bytes_peak",
                     (json_int_t)r->process_bytes_peak, "parameters_trainable", (json_int_t)r->parameters_trainable,
                     "parameters_kept", (json_int_t)r->parameters_kept, "steps", (json_int_t)r->steps, "seconds_per_step",
                     r->seconds_per_step, "rank_max", or_null(r->rank_max >= 0, json_integer(r->rank_max)), "rank_kept",
                     or_null(r->rank_max >= 0, json_integer(r->rank_kept)));
}

static sora_status write_json(const char *path, const json_t *json, int digits, sora_error *error)
{
    char *text = json ? json_dumps(json, JSON_INDENT(1) | (size_t)JSON_REAL_PRECISION(digits)) : NULL;
    sora_status status =
        text ? sora_file_write(path, text, strlen(text), error) : sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory", path);
    free(text);
    return status;
}

/* What the row's result depends on: its options, and the weights it starts from. */
static json_t *options_json(const comparison *c, const sora_comparison_row *row)
{
    sora_run_options o = options_of(c, row);
    json_t *json = sora_run_options_to_json(&o);
    /* "weights" is an option, --weights. */
    if (json) json_object_set_new(json, "start_weights", json_string(c->weights));
    return json;
}

/* result.json of the row's folder; row NULL: it is not finished yet. Doubles are written exactly: they are compared again. */
static sora_status write_result(const comparison *c, const sora_comparison_row *row, const char *folder, json_t *finished,
                                sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL;
    json_t *result = json_pack("{s:o,s:s,s:O*}", "options", options_json(c, row), "data", c->data, "row", finished);
    SORA_TRY(sora_format(&path, error, "%s/result.json", folder));
    SORA_TRY(write_json(path, result, 17, error));
cleanup:
    json_decref(result);
    free(path);
    return status;
}

/* The first option that is not what it was, as "lr 0.01, now 0.02". */
static void name_change(const json_t *then, json_t *now, char *out, size_t room)
{
    const char *name;
    json_t *value;
    out[0] = '\0';
    json_object_foreach(now, name, value)
    {
        const json_t *earlier = json_object_get(then, name);
        if (json_equal(earlier, value)) continue;
        char *before = earlier ? json_dumps(earlier, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) : NULL;
        char *after = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        snprintf(out, room, "%s %.80s, now %.80s", name, before ? before : "not there", after ? after : "");
        free(before);
        free(after);
        return;
    }
}

static sora_status train_row(comparison *c, sora_comparison_row *row, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL, *config = NULL, change[256];
    json_t *options = options_json(c, row), *root = NULL, *figures = NULL;
    SORA_TRY(sora_format(&path, error, "%s/result.json", folder));
    SORA_TRY(sora_format(&config, error, "%s/config.json", folder));
    root = json_load_file(path, 0, NULL);
    bool begun = sora_path_exists(config);
    name_change(json_object_get(root, "options"), options, change, sizeof change);
    if (begun && root && change[0])
        SORA_FAIL(error, SORA_ERROR_ARGUMENT,
                  "%s: was trained with other options or from other weights: %s; choose another --out", folder, change);
    const char *data = json_string_value(json_object_get(root, "data")); /* older comparisons have none */
    if (begun && data && !is(data, c->data))
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: was trained on other data (hash %s, now %s); choose another --out", folder,
                  data, c->data);
    if (begun && recall_row(root, &row->result)) {
        tell(c, "%s, seed %llu: taken over from an earlier call", row->label, (unsigned long long)row->seed);
        goto cleanup;
    }
    SORA_TRY(sora_folder_create(folder, error));
    SORA_TRY(write_result(c, row, folder, NULL, error));
    /* A row that was stopped on the way goes on; a resumed run takes its options from its own folder. */
    sora_run_options o = options_of(c, row);
    sora_run_target target = { .folder = folder, .resume = begun, .overwrite = false };
    SORA_TRY(c->task->run(c->task->self, &o, &target, &row->result, error));
    /* Time and memory are measured once: a stop during the evaluation must not lose them. */
    figures = figures_json(&row->result);
    SORA_TRY(write_result(c, row, folder, figures, error));
cleanup:
    json_decref(figures);
    json_decref(options);
    json_decref(root);
    free(path);
    free(config);
    return status;
}

/* ---- All rows ---------------------------------------------------------------------------------------------------- */

/* Before the first row is measured: a later one must not fail for its target after hours. */
static sora_status check_targets(const comparison *c, sora_error *error)
{
    const sora_comparison_task *task = c->task;
    sora_status status = SORA_OK;
    for (size_t i = 0; i < c->count && status == SORA_OK; i++) {
        const char *target = c->rows[i].target;
        if (target[0] && task->check_target) status = task->check_target(task->self, target, error);
        if (target[0] && status == SORA_OK) status = sora_adapt_check(task->layers(task->self), target, error);
    }
    return status;
}

/* The trained row, or what a row without training is measured on; then its model, where it has one, is open. */
static sora_status open_row(comparison *c, sora_comparison_row *row, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    char *from = NULL;
    uint64_t hash;
    bool trained = is_trained(row);
    if (trained)
        SORA_TRY(train_row(c, row, folder, error));
    else {
        row->result = (sora_run_result) { .rank_max = -1, .rank_kept = -1 };
        sora_context_reset_peak(c->context);
        sora_process_reset_peak();
    }
    if (is(row->method, "copy")) goto cleanup;
    SORA_TRY(trained ? sora_format(&from, error, "%s:last", folder) : sora_duplicate(c->options->from, &from, error));
    SORA_TRY(c->task->open_model(c->task->self, from, error));
    sora_params_freeze(c->task->params(c->task->self));
    if (trained) goto cleanup;
    SORA_TRY(check_targets(c, error));
    SORA_TRY(sora_params_hash(c->task->params(c->task->self), &hash, error));
    snprintf(c->weights, sizeof c->weights, "%016llx", (unsigned long long)hash);
cleanup:
    free(from);
    return status;
}

static sora_status run_row(comparison *c, size_t index, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_comparison_task *task = c->task;
    sora_comparison_row *row = &c->rows[index];
    char slug[SLUG_ROOM], *folder = NULL;
    slug_of(row, slug);
    SORA_TRY(sora_format(&folder, error, "%s/%s", c->asked->folder, slug));
    tell(c, "%zu of %zu: %s%s", index + 1, c->count, row->label, is(row->method, "none") ? ", evaluated as it is" : "");
    SORA_TRY(open_row(c, row, folder, error));
    SORA_TRY(task->evaluate(task->self, c->scores[index], &row->result.quality, error));
    if (is(row->method, "none")) {
        row->result.device_bytes_peak = sora_context_memory(c->context).peak;
        row->result.process_bytes_peak = sora_process_bytes_peak();
    }
    if (row->seed == c->rows[0].seed) SORA_TRY(task->illustrate(task->self, row->label, slug, error));
    json_t *json = row_json(c, row, slug);
    json_array_append_new(c->json, json);
    if (is_trained(row)) SORA_TRY(write_result(c, row, folder, json, error));
cleanup:
    task->close_model(task->self);
    free(folder);
    return status;
}

/* Adds the differences of two rows in one measure; an example that neither has anything to score in is left alone. */
static void add_difference(const comparison *c, const double *a, const double *b, double *values, int *seeds)
{
    for (size_t k = 0; k < c->examples; k++) {
        if (isnan(a[k]) && isnan(b[k])) continue;
        values[k] += (isnan(a[k]) ? 0.0 : a[k]) - (isnan(b[k]) ? 0.0 : b[k]);
        seeds[k]++;
    }
}

/* Difference of the rows a and b in each example, averaged over the seeds that both have; rows of other labels are left alone. */
static size_t paired(const comparison *c, const char *a, const char *b, size_t measure, double *values, int *seeds)
{
    size_t used = 0, at = measure * c->examples;
    memset(values, 0, c->examples * sizeof *values);
    memset(seeds, 0, c->examples * sizeof *seeds);
    for (size_t i = 0; i < c->count; i++)
        for (size_t j = 0; j < c->count; j++)
            if (is(c->rows[i].label, a) && is(c->rows[j].label, b) &&
                (c->rows[i].seed == c->rows[j].seed || is(c->rows[j].method, "none")))
                add_difference(c, c->scores[i] + at, c->scores[j] + at, values, seeds);
    for (size_t k = 0; k < c->examples; k++)
        if (seeds[k]) values[used++] = values[k] / seeds[k];
    return used;
}

static sora_status difference(const comparison *c, const char *a, const char *b, json_t *out, sora_error *error)
{
    sora_status status = SORA_OK;
    int *seeds = NULL;
    double *values = NULL, mean, low, high;
    SORA_TRY(sora_allocate(c->examples, sizeof *values, "differences", &values, error));
    SORA_TRY(sora_allocate(c->examples, sizeof *seeds, "differences", &seeds, error));
    size_t used = paired(c, a, b, 0, values, seeds);
    SORA_TRY(sora_bootstrap_mean(values, used, RESAMPLES, c->options->seed, &mean, &low, &high, error));
    json_t *json = json_pack("{s:s,s:s,s:f,s:f,s:f,s:I}", "a", a, "b", b, "difference", mean, "low", low, "high", high,
                             c->task->examples, (json_int_t)used);
    for (size_t m = 1; m < c->task->measure_count; m++) {
        double sum = 0.0;
        used = paired(c, a, b, m, values, seeds);
        for (size_t k = 0; k < used; k++) sum += values[k];
        json_object_set_new(json, c->task->measures[m], json_real(used ? sum / (double)used : 0.0));
    }
    json_array_append_new(out, json);
cleanup:
    free(values);
    free(seeds);
    return status;
}

/* Every method against none, adapters against full, SoRA against LoRA of the same target and rank. */
static sora_status differences(const comparison *c, json_t *out, sora_error *error)
{
    for (size_t i = 1; i < c->count; i++) {
        const sora_comparison_row *row = &c->rows[i];
        if (row->seed != c->rows[0].seed) continue;
        sora_status status = difference(c, row->label, c->rows[0].label, out, error);
        for (size_t j = 1; status == SORA_OK && j < c->count; j++) {
            const sora_comparison_row *other = &c->rows[j];
            if (other->seed != row->seed || j == i) continue;
            bool against_full = row->target[0] && is(other->method, "full");
            bool against_lora = is(row->method, "sora") && is(other->method, "lora") && is(row->target, other->target) &&
                                row->rank == other->rank;
            if (against_full || against_lora) status = difference(c, row->label, other->label, out, error);
        }
        if (status != SORA_OK) return status;
    }
    return SORA_OK;
}

static sora_status write_results(const comparison *c, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_device *d = sora_context_device(c->context);
    json_t *bootstrap = json_array(), *root = NULL;
    char *path = NULL;
    SORA_TRY(differences(c, bootstrap, error));
    root = json_pack("{s:s,s:{s:s,s:s,s:s,s:s},s:s,s:I,s:s,s:s,s:s,s:O,s:O,s:O}", "task", c->task->name, "device", "name",
                     d->name, "platform", d->platform, "driver", d->driver, "type", sora_device_type_name(d->limits.type),
                     "version", SORA_VERSION, "seed", (json_int_t)c->rows[0].seed, "from", c->options->from, "data",
                     c->options->data, "eval_data", c->options->eval_data, "runs", c->json, "bootstrap", bootstrap,
                     c->task->shown, c->task->illustrations(c->task->self));
    if (root && c->asked->test) json_object_set_new(root, "test", json_string(c->asked->test));
    SORA_TRY(sora_format(&path, error, "%s/compare.json", c->asked->folder));
    SORA_TRY(write_json(path, root, 9, error));
    SORA_TRY(sora_report_write(c->asked->folder, error));
cleanup:
    json_decref(bootstrap);
    json_decref(root);
    free(path);
    return status;
}

/* A folder may hold an earlier comparison, to be gone on with, or nothing. */
static sora_status open_folder(const comparison *c, int *lock, bool *made_room, sora_error *error)
{
    sora_status status = SORA_OK;
    char *base = NULL;
    if (c->asked->overwrite && sora_path_exists(c->asked->folder)) {
        SORA_TRY(sora_format(&base, error, "%s/compare.json", c->asked->folder));
        if (!sora_path_exists(base))
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: holds no finished comparison; --overwrite does not remove other things",
                      c->asked->folder);
        if (sora_run_inside(c->options->from, c->asked->folder))
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: --%s %s lies in the comparison that --overwrite would remove",
                      c->asked->folder, c->options->task == SORA_TASK_T5 ? "model" : "from", c->options->from);
        SORA_TRY(sora_run_set_aside(c->asked->folder, error));
        *made_room = true;
    }
    SORA_TRY(sora_folder_create(c->asked->folder, error));
    SORA_TRY(sora_run_lock(c->asked->folder, lock, error));
    if (!*made_room) sora_run_tell_aside(c->asked->folder, c->watcher);
cleanup:
    free(base);
    return status;
}

sora_status sora_compare(sora_context *context, const sora_run_options *options, const sora_comparison_options *asked,
                         const sora_watcher *watcher, const sora_comparison_task *task, sora_comparison_row **rows, size_t *count,
                         sora_error *error)
{
    sora_status status = SORA_OK;
    comparison c = { .context = context, .options = options, .asked = asked, .watcher = watcher, .task = task };
    int lock = -1;
    bool made_room = false;
    uint64_t hash;
    *rows = NULL;
    *count = 0;
    if (!options->from[0]) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s", task->from_missing);
    if (options->task == SORA_TASK_T5 && options->adapter[0])
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "--adapter %s: a comparison's rows start with adapters of their own; leave it out",
                  options->adapter);
    SORA_TRY(plan_rows(&c, error));
    SORA_TRY(task->open_data(task->self, &hash, error));
    snprintf(c.data, sizeof c.data, "%016llx", (unsigned long long)hash);
    c.examples = task->count(task->self);
    SORA_TRY(open_folder(&c, &lock, &made_room, error));
    c.json = json_array();
    SORA_TRY(sora_allocate(c.count, sizeof *c.scores, "scores", &c.scores, error));
    for (size_t i = 0; i < c.count; i++)
        SORA_TRY(sora_allocate(task->measure_count * c.examples, sizeof **c.scores, "scores", &c.scores[i], error));
    SORA_TRY(task->begin(task->self, error));
    for (size_t i = 0; i < c.count; i++) {
        SORA_TRY(run_row(&c, i, error));
        if (made_room) SORA_TRY(sora_run_began(asked->folder, error));
        made_room = false;
    }
    SORA_TRY(write_results(&c, error));
    *rows = c.rows;
    *count = c.count;
    c.rows = NULL;
cleanup:
    if (made_room) sora_run_take_back(asked->folder);
    if (lock >= 0) close(lock);
    for (size_t i = 0; c.scores && i < c.count; i++) free(c.scores[i]);
    free(c.scores);
    free(c.rows);
    json_decref(c.json);
    return status;
}
