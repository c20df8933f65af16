/* SPDX-License-Identifier: Apache-2.0 */
#include "train/unet_measure.h"

#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void sora_probability_stretch(const float *in, int size, int width, int height, float *out)
{
    for (int y = 0; y < height; y++) {
        float v = SORA_MAX(0.0f, SORA_MIN((float)size - 1.0f, ((float)y + 0.5f) * (float)size / (float)height - 0.5f));
        int y0 = (int)v, y1 = SORA_MIN(y0 + 1, size - 1);
        float fy = v - (float)y0;
        for (int x = 0; x < width; x++) {
            float u = SORA_MAX(0.0f, SORA_MIN((float)size - 1.0f, ((float)x + 0.5f) * (float)size / (float)width - 0.5f));
            int x0 = (int)u, x1 = SORA_MIN(x0 + 1, size - 1);
            float fx = u - (float)x0;
            float top = in[y0 * size + x0] + fx * (in[y0 * size + x1] - in[y0 * size + x0]);
            float bottom = in[y1 * size + x0] + fx * (in[y1 * size + x1] - in[y1 * size + x0]);
            out[(size_t)y * (size_t)width + (size_t)x] = top + fy * (bottom - top);
        }
    }
}

/* The counts of one image again, at its own size. */
static sora_status count_native(const sora_dataset *dataset, size_t index, const float *probability, int size,
                                sora_mask_counts *out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_image image = { 0 }, mask = { 0 };
    float *predicted = NULL, *truth = NULL;
    SORA_TRY(sora_dataset_load(dataset, index, &image, &mask, error));
    size_t pixels = (size_t)mask.width * (size_t)mask.height;
    SORA_TRY(sora_allocate(pixels, sizeof *predicted, "prediction", &predicted, error));
    SORA_TRY(sora_allocate(pixels, sizeof *truth, "mask", &truth, error));
    sora_probability_stretch(probability, size, mask.width, mask.height, predicted);
    for (size_t i = 0; i < pixels; i++) truth[i] = mask.pixels[i] > 127 ? 1.0f : 0.0f;
    *out = sora_mask_count(predicted, truth, pixels, 0.5f);
cleanup:
    free(predicted);
    free(truth);
    sora_image_free(&image);
    sora_image_free(&mask);
    return status;
}

sora_status sora_unet_measure(const sora_unet_graph *graph, sora_loader *loader, const sora_dataset *dataset, int size,
                              bool native, float *probability, sora_mask_counts *counts, sora_quality *out, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t images = sora_dataset_count(dataset), pixels = (size_t)size * (size_t)size;
    double start = now(), loss_sum = 0.0;
    for (size_t done = 0; done < images;) {
        sora_batch batch;
        float loss;
        SORA_TRY(sora_loader_next(loader, &batch, error));
        if (batch.count == 0 || (size_t)batch.count > images - done || batch.samples[0] != done)
            SORA_FAIL(error, SORA_ERROR_ARGUMENT, "evaluation: batch of %d at image %zu of %zu is out of order", batch.count,
                      done, images);
        SORA_TRY(sora_graph_write(graph->graph, graph->image, batch.images, batch.count, error));
        SORA_TRY(sora_graph_write(graph->graph, graph->mask, batch.masks, batch.count, error));
        SORA_TRY(sora_graph_forward(graph->graph, batch.count, 0, 0, error));
        SORA_TRY(sora_graph_read(graph->graph, graph->probability, probability, error));
        SORA_TRY(sora_graph_read(graph->graph, graph->loss, &loss, error));
        for (int i = 0; i < batch.count; i++, done++) {
            const float *map = probability + (size_t)i * pixels;
            if (native)
                SORA_TRY(count_native(dataset, done, map, size, &counts[done], error));
            else
                counts[done] = sora_mask_count(map, batch.masks + (size_t)i * pixels, pixels, 0.5f);
        }
        loss_sum += (double)loss * batch.count;
    }
    *out =
        (sora_quality) { .task = SORA_TASK_UNET, .mask = sora_mask_summary(counts, images), .loss = loss_sum / (double)images, .seconds = now() - start };
cleanup:
    return status;
}
