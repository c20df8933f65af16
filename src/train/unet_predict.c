/* SPDX-License-Identifier: Apache-2.0 */
#include "train/unet_measure.h"

#include <stdlib.h>
#include <string.h>

/* ---- A network on the device for evaluation ---------------------------------------------------------------------- */

static sora_status open_graph(sora_unet *unet, int batch, sora_mask_loss loss, sora_unet_graph *out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_unet_graph_options options = { .graph = { .batch = batch }, .loss = loss };
    *out = (sora_unet_graph) { 0 };
    SORA_TRY(sora_unet_build(unet, &options, out, error));
    SORA_TRY(sora_params_upload(sora_unet_params(unet), 0, error));
    SORA_TRY(sora_graph_allocate(out->graph, error));
cleanup:
    return status;
}

/* Who has the parameters on the device uses them there: they stay as they are. */
static sora_status check_host(const sora_unet *unet, sora_error *error)
{
    if (!sora_params_on_device(sora_unet_params(unet))) return SORA_OK;
    return sora_fail(error, SORA_ERROR_ARGUMENT, "the parameters are on the device already; download them first");
}

static sora_status close_graph(sora_unet *unet, sora_unet_graph *graph, sora_error *error)
{
    sora_graph_destroy(&graph->graph);
    sora_params *params = sora_unet_params(unet);
    return sora_params_on_device(params) ? sora_params_download(params, error) : SORA_OK;
}

/* The first failure counts; closing must happen whatever came before. */
static sora_status close_after(sora_status status, sora_unet *unet, sora_unet_graph *graph, sora_error *error)
{
    sora_status closed = close_graph(unet, graph, status == SORA_OK ? error : NULL);
    return status == SORA_OK ? closed : status;
}

/* ---- Evaluation -------------------------------------------------------------------------------------------------- */

sora_status sora_unet_evaluate(sora_unet *unet, const sora_dataset *dataset, const sora_evaluation_options *options,
                               sora_quality *out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_unet_graph graph = { 0 };
    sora_loader *loader = NULL;
    sora_mask_counts *own = NULL, *counts = options->counts;
    float *probability = NULL;
    int size = sora_unet_config(unet)->size, batch = options->batch ? options->batch : 8;
    size_t images = sora_dataset_count(dataset);
    *out = (sora_quality) { 0 };
    if (check_host(unet, error) != SORA_OK) return SORA_ERROR_ARGUMENT;
    sora_loader_options loading = { .size = size, .batch = batch, .threads = options->threads, .once = true };
    sora_unet_normalisation(unet, loading.mean, loading.deviation);
    if (!counts) {
        SORA_TRY(sora_allocate(images, sizeof *own, "metrics", &own, error));
        counts = own;
    }
    SORA_TRY(sora_allocate((size_t)size * (size_t)size * (size_t)batch, sizeof *probability, "predictions", &probability, error));
    SORA_TRY(sora_loader_create(dataset, &loading, &loader, error));
    SORA_TRY(open_graph(unet, batch, options->loss, &graph, error));
    SORA_TRY(sora_unet_measure(&graph, loader, dataset, size, options->native, probability, counts, out, error));
cleanup:
    status = close_after(status, unet, &graph, error);
    sora_loader_destroy(&loader);
    free(probability);
    free(own);
    return status;
}

/* ---- Prediction -------------------------------------------------------------------------------------------------- */

static sora_status prepare(const sora_unet *unet, const sora_image *image, float *out, sora_error *error)
{
    float mean[3], deviation[3];
    sora_image small = { 0 };
    int size = sora_unet_config(unet)->size;
    sora_status status = sora_image_resize(image, size, size, &small, error);
    if (status != SORA_OK) return status;
    sora_unet_normalisation(unet, mean, deviation);
    size_t pixels = (size_t)size * (size_t)size;
    for (int c = 0; c < 3; c++) {
        float divisor = deviation[c] != 0.0f ? deviation[c] : 1.0f;
        for (size_t i = 0; i < pixels; i++)
            out[(size_t)c * pixels + i] = ((float)small.pixels[3 * i + (size_t)c] / 255.0f - mean[c]) / divisor;
    }
    sora_image_free(&small);
    return SORA_OK;
}

/* Pictures on their way through the network. */
typedef struct batch {
    sora_image *images;
    size_t *indices; /* of each, among the paths */
    float *input;
    int room, count;
} batch;

/* Fills it from *next on. A picture that cannot be read is told of and left out. */
static sora_status read_batch(const sora_unet *unet, const char *const *paths, size_t count, size_t *next, batch *b,
                              const sora_prediction_options *options, sora_error *error)
{
    int size = sora_unet_config(unet)->size;
    size_t pixels = (size_t)size * (size_t)size;
    sora_error why;
    for (b->count = 0; b->count < b->room && *next < count; ++*next) {
        sora_image *image = &b->images[b->count];
        sora_status status = sora_image_read(paths[*next], 3, image, &why);
        if (options->unreadable && (status == SORA_ERROR_INPUT || status == SORA_ERROR_IO)) {
            options->unreadable(options->self, *next, &why);
            continue;
        }
        if (status != SORA_OK && error) *error = why;
        if (status == SORA_OK) status = prepare(unet, image, b->input + (size_t)b->count * 3 * pixels, error);
        if (status != SORA_OK) return status;
        b->indices[b->count++] = *next;
    }
    return SORA_OK;
}

static sora_status predict_batch(const sora_unet_graph *graph, int size, const batch *b, const float *no_mask, float *probability,
                                 const sora_prediction_options *options, sora_error *error)
{
    sora_status status = SORA_OK;
    float *native = NULL;
    size_t pixels = (size_t)size * (size_t)size;
    SORA_TRY(sora_graph_write(graph->graph, graph->image, b->input, b->count, error));
    SORA_TRY(sora_graph_write(graph->graph, graph->mask, no_mask, b->count, error));
    SORA_TRY(sora_graph_forward(graph->graph, b->count, 0, 0, error));
    SORA_TRY(sora_graph_read(graph->graph, graph->probability, probability, error));
    for (int i = 0; i < b->count; i++) {
        const sora_image *image = &b->images[i];
        free(native);
        SORA_TRY(sora_allocate((size_t)image->width * (size_t)image->height, sizeof *native, "prediction", &native, error));
        sora_probability_stretch(probability + (size_t)i * pixels, size, image->width, image->height, native);
        SORA_TRY(options->use(options->self, b->indices[i], image, native, error));
    }
cleanup:
    free(native);
    return status;
}

sora_status sora_unet_predict(sora_unet *unet, const char *const *paths, size_t count, const sora_prediction_options *options,
                              sora_error *error)
{
    sora_status status = SORA_OK;
    sora_unet_graph graph = { 0 };
    float *no_mask = NULL, *probability = NULL;
    batch b = { .room = options->batch ? options->batch : 8 };
    int size = sora_unet_config(unet)->size;
    if ((size_t)b.room > count) b.room = (int)SORA_MAX(count, 1);
    size_t pixels = (size_t)size * (size_t)size * (size_t)b.room, next = 0;
    if (check_host(unet, error) != SORA_OK) return SORA_ERROR_ARGUMENT;
    SORA_TRY(sora_allocate((size_t)b.room, sizeof *b.images, "images", &b.images, error));
    SORA_TRY(sora_allocate((size_t)b.room, sizeof *b.indices, "images", &b.indices, error));
    SORA_TRY(sora_allocate(3 * pixels, sizeof *b.input, "images", &b.input, error));
    SORA_TRY(sora_allocate(pixels, sizeof *no_mask, "masks", &no_mask, error));
    SORA_TRY(sora_allocate(pixels, sizeof *probability, "predictions", &probability, error));
    SORA_TRY(open_graph(unet, b.room, SORA_LOSS_DICE, &graph, error));
    while (next < count) {
        status = read_batch(unet, paths, count, &next, &b, options, error);
        if (status == SORA_OK && b.count > 0) status = predict_batch(&graph, size, &b, no_mask, probability, options, error);
        for (int i = 0; i < b.room; i++) sora_image_free(&b.images[i]);
        if (status != SORA_OK) goto cleanup;
    }
cleanup:
    status = close_after(status, unet, &graph, error);
    free(b.images);
    free(b.indices);
    free(b.input);
    free(no_mask);
    free(probability);
    return status;
}
