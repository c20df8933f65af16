/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/train.h"

#include "base/file.h"
#include "data/bootstrap.h"
#include "data/mask_metrics.h"
#include "train/run_options.h"
#include "train/unet_files.h"
#include "train/unet_measure.h"
#include "train/unet_task.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESAMPLES 2000
#define MAX_ITEMS 32
#define THUMBNAIL 160 /* pixels of an overlay's longer side */

typedef struct comparison {
    sora_context *context;
    const sora_run_options *options;
    const sora_comparison_options *asked;
    const sora_watcher *watcher;
    sora_dataset *data, *eval_data;
    sora_comparison_row *rows;
    size_t count, capacity;
    sora_mask_counts **counts; /* [count][images] */
    json_t *json, *overlays;   /* rows as written; the grid */
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

/* ---- What rows there are
 * ----------------------------------------------------------------------------------------------------------- */

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

static sora_status add_row(comparison *c, const char *method, const char *target, const char *rank, uint64_t seed,
                           const char *lambda, bool several_lambdas, sora_error *error)
{
    sora_comparison_row row = { .seed = seed, .rank = rank ? atoi(rank) : 0, .lambda = lambda ? atof(lambda) : 0.0 };
    sora_status status = sora_reserve(&c->rows, &c->capacity, c->count + 1, sizeof row, error);
    if (status != SORA_OK) return status;
    snprintf(row.method, sizeof row.method, "%s", method);
    snprintf(row.target, sizeof row.target, "%s", target ? target : "");
    const char *name = is(method, "none") ? "no fine-tuning" : is(method, "full") ? "full" : is(method, "lora") ? "LoRA" : "SoRA";
    int at = snprintf(row.label, sizeof row.label, "%s", name);
    if (target)
        at += snprintf(row.label + at, sizeof row.label - (size_t)at, " %.40s", is(target, SORA_TARGET_ALL) ? "all" : target);
    if (target) at += snprintf(row.label + at, sizeof row.label - (size_t)at, " r%d", row.rank);
    if (several_lambdas) snprintf(row.label + at, sizeof row.label - (size_t)at, " \u03bb %s", lambda);
    c->rows[c->count++] = row;
    return SORA_OK;
}

static sora_status plan_rows(comparison *c, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_run_options *o = c->options;
    const sora_comparison_options *a = c->asked;
    list methods, targets, ranks, lambdas, seeds;
    char rank[16], lambda[32], seed[32];
    snprintf(rank, sizeof rank, "%d", o->rank);
    snprintf(lambda, sizeof lambda, "%.9g", o->lambda);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)o->seed);
    SORA_TRY(split("methods", a->methods ? a->methods : "full,lora,sora", ", ", &methods, error));
    SORA_TRY(split("target", a->targets ? a->targets : o->target, " ", &targets, error));
    SORA_TRY(split("rank", a->ranks ? a->ranks : rank, ", ", &ranks, error));
    SORA_TRY(split("lambda", a->lambdas ? a->lambdas : lambda, ", ", &lambdas, error));
    SORA_TRY(split("seeds", a->seeds ? a->seeds : seed, ", ", &seeds, error));
    if (ranks.count != targets.count && ranks.count != 1)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "--rank: %d values for %d targets; expected one, or one for each", ranks.count,
                  targets.count);
    SORA_TRY(add_row(c, "none", NULL, NULL, strtoull(seeds.items[0], NULL, 10), NULL, false, error));
    for (int s = 0; s < seeds.count; s++)
        for (int m = 0; m < methods.count; m++) {
            const char *method = methods.items[m];
            uint64_t number = strtoull(seeds.items[s], NULL, 10);
            if (!is(method, "full") && !is(method, "lora") && !is(method, "sora"))
                SORA_FAIL(error, SORA_ERROR_ARGUMENT, "--methods: \"%.40s\"; expected full, lora, sora", method);
            if (is(method, "full")) {
                SORA_TRY(add_row(c, method, NULL, NULL, number, NULL, false, error));
                continue;
            }
            for (int t = 0; t < targets.count; t++)
                for (int l = 0; l < (is(method, "sora") ? lambdas.count : 1); l++)
                    SORA_TRY(add_row(c, method, targets.items[t], ranks.items[ranks.count == 1 ? 0 : t], number,
                                     is(method, "sora") ? lambdas.items[l] : NULL, is(method, "sora") && lambdas.count > 1,
                                     error));
        }
cleanup:
    return status;
}

/* A folder's name from a label: letters, digits, dots; λ as "l". */
static void slug_of(const sora_comparison_row *row, char *out, size_t room)
{
    size_t at = 0;
    const char *label = is(row->method, "none") ? "none" : row->label;
    for (const unsigned char *p = (const unsigned char *)label; *p && at + 24 < room; p++) {
        if (isalnum(*p) || *p == '.')
            out[at++] = (char)tolower(*p);
        else if (*p == 0xce && p[1] == 0xbb) {
            out[at++] = 'l';
            p++;
        } else if (at > 0 && out[at - 1] != '-')
            out[at++] = '-';
    }
    snprintf(out + at, room - at, "-s%llu", (unsigned long long)row->seed);
}

/* ---- One row
 * -------------------------------------------------------------------------------------------------------------------------- */

static sora_run_options options_of(const comparison *c, const sora_comparison_row *row)
{
    sora_run_options o = *c->options;
    snprintf(o.method, sizeof o.method, "%s", row->method);
    if (row->target[0]) {
        snprintf(o.target, sizeof o.target, "%s", row->target);
        o.rank = row->rank;
    }
    if (is(row->method, "sora"))
        o.lambda = row->lambda;
    else
        o.xi_schedule[0] = '\0';
    o.seed = row->seed;
    return o;
}

static json_t *or_null(bool present, json_t *value)
{
    if (present) return value;
    json_decref(value);
    return json_null();
}

static json_t *modules_json(sora_unet *unet, double *alpha)
{
    json_t *modules = json_array();
    sora_layers *layers = sora_unet_layers(unet);
    for (size_t i = 0; i < sora_layers_count(layers); i++) {
        sora_layer_info info;
        if (sora_layer_describe(sora_layers_at(layers, i), &info, NULL) != SORA_OK || !info.active) continue;
        *alpha = (double)info.alpha;
        json_array_append_new(
            modules, json_pack("{s:s,s:i,s:i}", "name", info.name, "rank_max", info.rank_max, "rank_kept", info.rank_kept));
    }
    return modules;
}

static json_t *row_json(const comparison *c, const sora_comparison_row *row, const char *folder, sora_unet *unet)
{
    const sora_run_result *r = &row->result;
    sora_run_options o = options_of(c, row);
    bool adapters = row->target[0] != '\0', gates = is(row->method, "sora"), trained = !is(row->method, "none");
    double alpha = 0.0;
    json_t *modules = modules_json(unet, &alpha);
    json_t *json = json_object();
    json_object_set_new(json, "label", json_string(row->label));
    json_object_set_new(json, "folder", or_null(trained, json_string(folder)));
    json_object_set_new(json, "method", json_string(row->method));
    json_object_set_new(json, "seed", json_integer((json_int_t)row->seed));
    json_object_set_new(json, "target", or_null(adapters, json_string(row->target)));
    json_object_set_new(json, "alpha", or_null(adapters, json_real(alpha)));
    json_object_set_new(json, "lambda", or_null(gates, json_real(row->lambda)));
    json_object_set_new(json, "xi", or_null(gates && o.xi > 0.0, json_real(o.xi)));
    json_object_set_new(json, "gate", or_null(gates, json_string(o.gate)));
    json_object_set_new(json, "bn", or_null(adapters, json_string(o.bn)));
    json_object_set_new(json, "rank_max", or_null(adapters, json_integer(r->rank_max)));
    json_object_set_new(json, "rank_kept", or_null(adapters, json_integer(r->rank_kept)));
    json_object_set_new(json, "modules", or_null(adapters, modules));
    json_object_set_new(json, "parameters_trainable", json_integer((json_int_t)r->parameters_trainable));
    json_object_set_new(json, "parameters_kept", json_integer((json_int_t)r->parameters_kept));
    json_object_set_new(json, "steps", json_integer(r->steps));
    json_object_set_new(json, "seconds_per_step", or_null(trained, json_real(r->seconds_per_step)));
    json_object_set_new(json, "device_bytes_predicted", or_null(trained, json_integer((json_int_t)r->device_bytes_predicted)));
    json_object_set_new(json, "device_bytes_peak", json_integer((json_int_t)r->device_bytes_peak));
    json_object_set_new(json, "process_bytes_peak", json_integer((json_int_t)r->process_bytes_peak));
    json_object_set_new(json, "quality", sora_quality_to_json(&r->quality));
    return json;
}

/* Figures of a row that an earlier call finished, from its result.json. */
static bool recall_row(const char *path, const json_t *options, sora_run_result *result)
{
    json_t *root = json_load_file(path, 0, NULL), *row = json_object_get(root, "row");
    json_int_t predicted, peak, process, trainable, kept, steps;
    double seconds;
    bool same = json_equal(json_object_get(root, "options"), options) &&
                json_unpack(row, "{s:I,s:I,s:I,s:I,s:I,s:I,s:F}", "device_bytes_predicted", &predicted, "device_bytes_peak",
                            &peak, "process_bytes_peak", &process, "parameters_trainable", &trainable, "parameters_kept", &kept,
                            "steps", &steps, "seconds_per_step", &seconds) == 0;
    if (same) {
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
    }
    json_decref(root);
    return same;
}

static sora_status write_json(const char *path, const json_t *json, sora_error *error)
{
    char *text = json ? json_dumps(json, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    sora_status status =
        text ? sora_file_write(path, text, strlen(text), error) : sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory", path);
    free(text);
    return status;
}

/* What the row's result depends on: its options, and the weights it starts from. */
static json_t *options_json(const comparison *c, const sora_comparison_row *row)
{
    sora_run_options o = options_of(c, row);
    return sora_run_options_to_json(&o);
}

static sora_status train_row(comparison *c, sora_comparison_row *row, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    char *path = NULL, *config = NULL;
    json_t *options = options_json(c, row);
    SORA_TRY(sora_format(&path, error, "%s/result.json", folder));
    SORA_TRY(sora_format(&config, error, "%s/config.json", folder));
    if (recall_row(path, options, &row->result)) {
        tell(c, "%s, seed %llu: taken over from an earlier call", row->label, (unsigned long long)row->seed);
        goto cleanup;
    }
    /* A row that was stopped on the way goes on; sora_unet_run takes its options from its own folder. */
    sora_run_options o = options_of(c, row);
    sora_run_target target = { .folder = folder, .resume = sora_path_exists(config), .overwrite = false };
    SORA_TRY(sora_unet_run(c->context, &o, &target, c->watcher, &row->result, error));
cleanup:
    json_decref(options);
    free(path);
    free(config);
    return status;
}

/* ---- Pictures
 * -------------------------------------------------------------------------------------------------------------------------- */

typedef struct painter {
    const comparison *c;
    const char *slug, *label;
} painter;

static sora_status shrink(const sora_image *image, bool nearest, sora_image *out, sora_error *error)
{
    int longer = SORA_MAX(image->width, image->height), width = image->width, height = image->height;
    if (longer > THUMBNAIL) {
        width = SORA_MAX(1, width * THUMBNAIL / longer);
        height = SORA_MAX(1, height * THUMBNAIL / longer);
    }
    return nearest ? sora_image_resize_nearest(image, width, height, out, error)
                   : sora_image_resize(image, width, height, out, error);
}

/* image with mask painted over it (mask NULL: plain), small, to overlays/NAME.COLUMN.png; *relative is its path in the folder. */
static sora_status paint(const comparison *c, size_t number, const char *column, const sora_image *image, const sora_image *mask,
                         const uint8_t rgb[3], char relative[160], sora_error *error)
{
    sora_status status = SORA_OK;
    sora_image small = { 0 }, small_mask = { 0 };
    char *path = NULL;
    snprintf(relative, 160, "overlays/%zu.%.100s.png", number + 1, column);
    SORA_TRY(shrink(image, false, &small, error));
    if (mask) {
        SORA_TRY(shrink(mask, true, &small_mask, error));
        SORA_TRY(sora_image_overlay(&small, &small_mask, rgb, 0.5, error));
    }
    SORA_TRY(sora_format(&path, error, "%s/%s", c->asked->folder, relative));
    SORA_TRY(sora_image_write_png(path, &small, error));
cleanup:
    sora_image_free(&small);
    sora_image_free(&small_mask);
    free(path);
    return status;
}

static size_t overlay_count(const comparison *c)
{
    size_t asked = c->asked->overlays > 0 ? (size_t)c->asked->overlays : 6;
    return SORA_MIN(asked, sora_dataset_count(c->eval_data));
}

static size_t overlay_sample(const comparison *c, size_t number)
{
    return number * sora_dataset_count(c->eval_data) / overlay_count(c);
}

static sora_status paint_truth(comparison *c, sora_error *error)
{
    static const uint8_t green[3] = { 46, 204, 113 };
    sora_status status = SORA_OK;
    char *folder = NULL, plain[160], truth[160];
    sora_image image = { 0 }, mask = { 0 };
    SORA_TRY(sora_format(&folder, error, "%s/overlays", c->asked->folder));
    SORA_TRY(sora_folder_create(folder, error));
    for (size_t i = 0; i < overlay_count(c); i++) {
        size_t sample = overlay_sample(c, i);
        SORA_TRY(sora_dataset_load(c->eval_data, sample, &image, &mask, error));
        SORA_TRY(paint(c, i, "image", &image, NULL, NULL, plain, error));
        SORA_TRY(paint(c, i, "truth", &image, &mask, green, truth, error));
        json_array_append_new(c->overlays, json_pack("{s:s,s:s,s:s,s:[]}", "name", sora_dataset_info(c->eval_data, sample).name,
                                                     "image", plain, "truth", truth, "predictions"));
        sora_image_free(&image);
        sora_image_free(&mask);
    }
cleanup:
    sora_image_free(&image);
    sora_image_free(&mask);
    free(folder);
    return status;
}

static sora_status paint_prediction(void *self, size_t number, const sora_image *image, const float *probability,
                                    sora_error *error)
{
    static const uint8_t red[3] = { 235, 64, 52 };
    const painter *p = self;
    sora_image mask;
    char relative[160];
    sora_status status = sora_image_create(image->width, image->height, 1, &mask, error);
    if (status != SORA_OK) return status;
    for (size_t i = 0, n = (size_t)image->width * (size_t)image->height; i < n; i++)
        mask.pixels[i] = probability[i] >= 0.5f ? 255 : 0;
    status = paint(p->c, number, p->slug, image, &mask, red, relative, error);
    json_t *predictions = json_object_get(json_array_get(p->c->overlays, number), "predictions");
    if (status == SORA_OK) json_array_append_new(predictions, json_pack("{s:s,s:s}", "label", p->label, "file", relative));
    sora_image_free(&mask);
    return status;
}

/* The grid shows the first seed only. */
static sora_status paint_row(comparison *c, const sora_comparison_row *row, const char *slug, sora_unet *unet, sora_error *error)
{
    const char *paths[64];
    size_t count = SORA_MIN(overlay_count(c), SORA_COUNT(paths));
    painter self = { .c = c, .slug = slug, .label = row->label };
    if (row->seed != c->rows[0].seed) return SORA_OK;
    for (size_t i = 0; i < count; i++) paths[i] = sora_dataset_info(c->eval_data, overlay_sample(c, i)).image_path;
    return sora_unet_predict(unet, paths, count, &(sora_prediction_options) { .use = paint_prediction, .self = &self }, error);
}

/* ---- All rows
 * --------------------------------------------------------------------------------------------------------------------------- */

static sora_status run_row(comparison *c, size_t index, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_comparison_row *row = &c->rows[index];
    char slug[200], *folder = NULL, *from = NULL, *path = NULL;
    sora_unet *unet = NULL;
    bool trained = !is(row->method, "none");
    slug_of(row, slug, sizeof slug);
    SORA_TRY(sora_format(&folder, error, "%s/%s", c->asked->folder, slug));
    tell(c, "%zu of %zu: %s%s", index + 1, c->count, row->label, trained ? "" : ", evaluated as it is");
    if (trained)
        SORA_TRY(train_row(c, row, folder, error));
    else {
        row->result = (sora_run_result) { .rank_max = -1, .rank_kept = -1 };
        sora_context_reset_peak(c->context);
        sora_process_reset_peak();
    }
    SORA_TRY(trained ? sora_format(&from, error, "%s:last", folder) : sora_duplicate(c->options->from, &from, error));
    SORA_TRY(sora_unet_open(c->context, from, &unet, error));
    sora_evaluation_options evaluation = { .batch = c->options->batch,
                                           .loss = sora_mask_loss_of(c->options->loss),
                                           .threads = c->options->threads,
                                           .counts = c->counts[index] };
    SORA_TRY(sora_unet_evaluate(unet, c->eval_data, &evaluation, &row->result.quality, error));
    if (!trained) {
        row->result.device_bytes_peak = sora_context_memory(c->context).peak;
        row->result.process_bytes_peak = sora_process_bytes_peak();
    }
    SORA_TRY(paint_row(c, row, slug, unet, error));
    json_t *json = row_json(c, row, slug, unet);
    json_array_append_new(c->json, json);
    if (trained) {
        json_t *result = json_pack("{s:O,s:o}", "row", json, "options", options_json(c, row));
        SORA_TRY(sora_format(&path, error, "%s/result.json", folder));
        status = write_json(path, result, error);
        json_decref(result);
    }
cleanup:
    sora_unet_destroy(&unet);
    free(folder);
    free(from);
    free(path);
    return status;
}

/* Per-image difference of rows a and b, averaged over the seeds that both have; rows of other labels are left alone. */
static sora_status difference(const comparison *c, const char *a, const char *b, json_t *out, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t images = sora_dataset_count(c->eval_data), used = 0;
    int *seeds = NULL;
    double *values = NULL, mean, low, high;
    SORA_TRY(sora_allocate(images, sizeof *values, "differences", &values, error));
    SORA_TRY(sora_allocate(images, sizeof *seeds, "differences", &seeds, error));
    for (size_t i = 0; i < c->count; i++)
        for (size_t j = 0; j < c->count; j++) {
            bool pair = is(c->rows[i].label, a) && is(c->rows[j].label, b) &&
                        (c->rows[i].seed == c->rows[j].seed || is(c->rows[j].method, "none"));
            for (size_t k = 0; pair && k < images; k++) {
                if (sora_mask_hand_pixels(&c->counts[i][k]) == 0 && sora_mask_hand_pixels(&c->counts[j][k]) == 0) continue;
                values[k] += sora_mask_iou(&c->counts[i][k]) - sora_mask_iou(&c->counts[j][k]);
                seeds[k]++;
            }
        }
    for (size_t k = 0; k < images; k++)
        if (seeds[k]) values[used++] = values[k] / seeds[k];
    SORA_TRY(sora_bootstrap_mean(values, used, RESAMPLES, c->options->seed, &mean, &low, &high, error));
    json_array_append_new(out, json_pack("{s:s,s:s,s:f,s:f,s:f,s:I}", "a", a, "b", b, "difference", mean, "low", low, "high",
                                         high, "images", (json_int_t)used));
cleanup:
    free(values);
    free(seeds);
    return status;
}

/* Every method against none, adapters against full, SoRA against LoRA of the same target. */
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
            bool against_lora = is(row->method, "sora") && is(other->method, "lora") && is(row->target, other->target);
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
    root = json_pack("{s:s,s:{s:s,s:s,s:s,s:s},s:s,s:I,s:s,s:s,s:s,s:O,s:O,s:O}", "task", "unet", "device", "name", d->name,
                     "platform", d->platform, "driver", d->driver, "type", sora_device_type_name(d->limits.type), "version",
                     SORA_VERSION, "seed", (json_int_t)c->rows[0].seed, "from", c->options->from, "data", c->options->data,
                     "eval_data", c->options->eval_data, "runs", c->json, "bootstrap", bootstrap, "overlays", c->overlays);
    SORA_TRY(sora_format(&path, error, "%s/compare.json", c->asked->folder));
    SORA_TRY(write_json(path, root, error));
    SORA_TRY(sora_report_write(c->asked->folder, error));
cleanup:
    json_decref(bootstrap);
    json_decref(root);
    free(path);
    return status;
}

/* A folder may hold an earlier comparison, to be gone on with, or nothing. */
static sora_status open_folder(const comparison *c, sora_error *error)
{
    sora_status status = SORA_OK;
    char *base = NULL;
    if (c->asked->overwrite && sora_path_exists(c->asked->folder)) {
        SORA_TRY(sora_format(&base, error, "%s/compare.json", c->asked->folder));
        if (!sora_path_exists(base))
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: holds no finished comparison; --overwrite does not remove other things",
                      c->asked->folder);
        SORA_TRY(sora_folder_remove(c->asked->folder, error));
    }
    SORA_TRY(sora_folder_create(c->asked->folder, error));
cleanup:
    free(base);
    return status;
}

sora_status sora_unet_compare(sora_context *context, const sora_run_options *options, const sora_comparison_options *asked,
                              const sora_watcher *watcher, sora_comparison_row **rows, size_t *count, sora_error *error)
{
    sora_status status = SORA_OK;
    comparison c = { .context = context, .options = options, .asked = asked, .watcher = watcher };
    *rows = NULL;
    *count = 0;
    if (!options->from[0])
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "--from RUN is needed: the weights that every method starts from");
    SORA_TRY(plan_rows(&c, error));
    SORA_TRY(sora_unet_open_data(options, &c.data, &c.eval_data, error));
    SORA_TRY(open_folder(&c, error));
    c.json = json_array();
    c.overlays = json_array();
    SORA_TRY(sora_allocate(c.count, sizeof *c.counts, "metrics", &c.counts, error));
    for (size_t i = 0; i < c.count; i++)
        SORA_TRY(sora_allocate(sora_dataset_count(c.eval_data), sizeof **c.counts, "metrics", &c.counts[i], error));
    SORA_TRY(paint_truth(&c, error));
    for (size_t i = 0; i < c.count; i++) SORA_TRY(run_row(&c, i, error));
    SORA_TRY(write_results(&c, error));
    *rows = c.rows;
    *count = c.count;
    c.rows = NULL;
cleanup:
    for (size_t i = 0; c.counts && i < c.count; i++) free(c.counts[i]);
    free(c.counts);
    free(c.rows);
    json_decref(c.json);
    json_decref(c.overlays);
    sora_dataset_close(&c.data);
    sora_dataset_close(&c.eval_data);
    return status;
}
