/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "base/file.h"
#include "base/utf8.h"
#include "data/mask_metrics.h"
#include "train/comparison.h"
#include "train/unet_measure.h"
#include "train/unet_task.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THUMBNAIL 160 /* pixels of an overlay's longer side */
#define MAX_OVERLAYS 64

typedef struct unet_comparison {
    sora_context *context;
    const sora_run_options *options;
    const sora_comparison_options *asked;
    const sora_watcher *watcher;
    sora_dataset *data, *eval_data;
    sora_unet *unet;
    sora_mask_counts *counts; /* [images], of one row */
    json_t *overlays;         /* the grid */
} unet_comparison;

static sora_status open_data(void *self, uint64_t *hash, sora_error *error)
{
    sora_status status = SORA_OK;
    unet_comparison *c = self;
    if (c->asked->overlays > MAX_OVERLAYS)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "--overlays %d: expected at most %d", c->asked->overlays, MAX_OVERLAYS);
    SORA_TRY(sora_unet_open_data(c->options, &c->data, &c->eval_data, error));
    SORA_TRY(sora_unet_data_hash(c->data, c->eval_data, hash, error));
    SORA_TRY(sora_allocate(sora_dataset_count(c->eval_data), sizeof *c->counts, "metrics", &c->counts, error));
cleanup:
    return status;
}

static size_t count_images(const void *self)
{
    return sora_dataset_count(((const unet_comparison *)self)->eval_data);
}

static sora_status run(void *self, const sora_run_options *options, const sora_run_target *target, sora_run_result *result,
                       sora_error *error)
{
    unet_comparison *c = self;
    return sora_unet_run(c->context, options, target, c->watcher, result, error);
}

static sora_status open_model(void *self, const char *from, sora_error *error)
{
    unet_comparison *c = self;
    return sora_unet_open(c->context, from, &c->unet, error);
}

static void close_model(void *self)
{
    sora_unet_destroy(&((unet_comparison *)self)->unet);
}

static sora_params *params_of(const void *self)
{
    return sora_unet_params(((const unet_comparison *)self)->unet);
}

static sora_layers *layers_of(const void *self)
{
    return sora_unet_layers(((const unet_comparison *)self)->unet);
}

static sora_status evaluate(void *self, double *scores, sora_quality *out, sora_error *error)
{
    unet_comparison *c = self;
    sora_evaluation_options evaluation = { .batch = c->options->batch,
                                           .loss = sora_mask_loss_of(c->options->loss),
                                           .threads = c->options->threads,
                                           .counts = c->counts };
    sora_status status = sora_unet_evaluate(c->unet, c->eval_data, &evaluation, out, error);
    for (size_t i = 0; status == SORA_OK && i < sora_dataset_count(c->eval_data); i++)
        scores[i] = sora_mask_hand_pixels(&c->counts[i]) ? sora_mask_iou(&c->counts[i]) : (double)NAN;
    return status;
}

/* ---- Pictures ---------------------------------------------------------------------------------------------------- */

typedef struct painter {
    const unet_comparison *c;
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
static sora_status paint(const unet_comparison *c, size_t number, const char *column, const sora_image *image,
                         const sora_image *mask, const uint8_t rgb[3], char relative[160], sora_error *error)
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

static size_t overlay_count(const unet_comparison *c)
{
    size_t asked = c->asked->overlays > 0 ? (size_t)c->asked->overlays : 6;
    return SORA_MIN(asked, sora_dataset_count(c->eval_data));
}

static size_t overlay_sample(const unet_comparison *c, size_t number)
{
    return number * sora_dataset_count(c->eval_data) / overlay_count(c);
}

static sora_status begin(void *self, sora_error *error)
{
    unet_comparison *c = self;
    static const uint8_t green[3] = { 46, 204, 113 };
    sora_status status = SORA_OK;
    char *folder = NULL, plain[160], truth[160];
    sora_image image = { 0 }, mask = { 0 };
    SORA_TRY(sora_format(&folder, error, "%s/overlays", c->asked->folder));
    SORA_TRY(sora_folder_create(folder, error));
    for (size_t i = 0; i < overlay_count(c); i++) {
        size_t sample = overlay_sample(c, i);
        sora_sample_info info = sora_dataset_info(c->eval_data, sample);
        if (info.name[sora_utf8_prefix(info.name, strlen(info.name))])
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s: its name is no UTF-8, which compare.json needs; rename it", info.image_path);
        SORA_TRY(sora_dataset_load(c->eval_data, sample, &image, &mask, error));
        SORA_TRY(paint(c, i, "image", &image, NULL, NULL, plain, error));
        SORA_TRY(paint(c, i, "truth", &image, &mask, green, truth, error));
        json_t *overlay = json_pack("{s:s,s:s,s:s,s:[]}", "name", info.name, "image", plain, "truth", truth, "predictions");
        if (json_array_append_new(c->overlays, overlay) != 0)
            SORA_FAIL(error, SORA_ERROR_MEMORY, "no host memory for the overlays");
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
    if (status == SORA_OK && json_array_append_new(predictions, json_pack("{s:s,s:s}", "label", p->label, "file", relative)) != 0)
        status = sora_fail(error, SORA_ERROR_MEMORY, "no host memory for the overlays");
    sora_image_free(&mask);
    return status;
}

static sora_status illustrate(void *self, const char *label, const char *slug, sora_error *error)
{
    unet_comparison *c = self;
    const char *paths[MAX_OVERLAYS];
    size_t count = overlay_count(c);
    painter use = { .c = c, .slug = slug, .label = label };
    for (size_t i = 0; i < count; i++) paths[i] = sora_dataset_info(c->eval_data, overlay_sample(c, i)).image_path;
    return sora_unet_predict(c->unet, paths, count, &(sora_prediction_options) { .use = paint_prediction, .self = &use }, error);
}

static json_t *illustrations(const void *self)
{
    return ((const unet_comparison *)self)->overlays;
}

sora_status sora_unet_compare(sora_context *context, const sora_run_options *options, const sora_comparison_options *asked,
                              const sora_watcher *watcher, sora_comparison_row **rows, size_t *count, sora_error *error)
{
    unet_comparison c = { .context = context, .options = options, .asked = asked, .watcher = watcher, .overlays = json_array() };
    sora_comparison_task task = { .self = &c,
                                  .name = "unet",
                                  .from_missing = "--from RUN is needed: the weights that every method starts from",
                                  .all = SORA_TARGET_ALL,
                                  .all_name = "all",
                                  .examples = "images",
                                  .shown = "overlays",
                                  .measures = { "iou" },
                                  .measure_count = 1,
                                  .open_data = open_data,
                                  .count = count_images,
                                  .begin = begin,
                                  .run = run,
                                  .open_model = open_model,
                                  .params = params_of,
                                  .layers = layers_of,
                                  .close_model = close_model,
                                  .evaluate = evaluate,
                                  .illustrate = illustrate,
                                  .quality = sora_quality_to_json,
                                  .illustrations = illustrations };
    sora_status status = sora_compare(context, options, asked, watcher, &task, rows, count, error);
    free(c.counts);
    json_decref(c.overlays);
    sora_dataset_close(&c.data);
    sora_dataset_close(&c.eval_data);
    return status;
}
