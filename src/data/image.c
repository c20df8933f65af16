/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/image.h"

#include "base/file.h"
#include "base/memory.h"
#include "data/image_format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

sora_status sora_image_check_size(const char *path, uint64_t width, uint64_t height, sora_error *error)
{
    if (width > 0 && height > 0 && width <= SORA_IMAGE_MAX_PIXELS && height <= SORA_IMAGE_MAX_PIXELS / width) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INPUT, "%s: %llu x %llu pixels; expected at least one and at most 2^28", path,
                     (unsigned long long)width, (unsigned long long)height);
}

sora_status sora_image_create(int width, int height, int channels, sora_image *out, sora_error *error)
{
    *out = (sora_image) { 0 };
    if (width < 1 || height < 1 || (channels != 1 && channels != 3) || (uint64_t)width * (uint64_t)height > SORA_IMAGE_MAX_PIXELS)
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "an image of %d x %d with %d channels; expected at most 2^28 pixels, 1 or 3 channels", width, height,
                         channels);
    sora_status status = sora_allocate((size_t)width * (size_t)height, (size_t)channels, "image", &out->pixels, error);
    if (status == SORA_OK) *out = (sora_image) { width, height, channels, out->pixels };
    return status;
}

void sora_image_free(sora_image *image)
{
    free(image->pixels);
    *image = (sora_image) { 0 };
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static bool turns_sides(int orientation)
{
    return orientation >= 5;
}

/* Where pixel (x, y) of the upright picture stands in the stored one (EXIF 2.3, tag 0x0112). */
static void stored_place(int orientation, int width, int height, int x, int y, int *sx, int *sy)
{
    bool mirror_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    int u = turns_sides(orientation) ? y : x, v = turns_sides(orientation) ? x : y;
    *sx = mirror_x ? width - 1 - u : u;
    *sy = mirror_y ? height - 1 - v : v;
}

static sora_status turn_upright(sora_image *image, int orientation, sora_error *error)
{
    sora_image upright;
    if (orientation == 1) return SORA_OK;
    int width = image->width, height = image->height, c = image->channels;
    bool turned = turns_sides(orientation);
    sora_status status = sora_image_create(turned ? height : width, turned ? width : height, c, &upright, error);
    if (status != SORA_OK) return status;
    for (int y = 0; y < upright.height; y++)
        for (int x = 0; x < upright.width; x++) {
            int sx, sy;
            stored_place(orientation, width, height, x, y, &sx, &sy);
            memcpy(upright.pixels + ((size_t)y * (size_t)upright.width + (size_t)x) * (size_t)c,
                   image->pixels + ((size_t)sy * (size_t)width + (size_t)sx) * (size_t)c, (size_t)c);
        }
    sora_image_free(image);
    *image = upright;
    return SORA_OK;
}

static sora_status decode(const char *path, int channels, sora_decoded *out, sora_error *error)
{
    static const unsigned char png[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' }, jpeg[3] = { 0xff, 0xd8, 0xff };
    unsigned char *data = NULL;
    size_t bytes;
    *out = (sora_decoded) { 0 };
    sora_status status = sora_file_read(path, SORA_IMAGE_MAX_BYTES, &data, &bytes, error);
    if (status != SORA_OK) return status;
    if (bytes >= sizeof png && memcmp(data, png, sizeof png) == 0)
        status = sora_png_decode(path, data, bytes, channels, out, error);
    else if (bytes >= sizeof jpeg && memcmp(data, jpeg, sizeof jpeg) == 0)
        status = sora_jpeg_decode(path, data, bytes, channels, out, error);
    else
        status = sora_fail(error, SORA_ERROR_INPUT, "%s: neither PNG nor JPEG by its first bytes", path);
    free(data);
    return status;
}

sora_status sora_image_read(const char *path, int channels, sora_image *out, sora_error *error)
{
    sora_decoded decoded;
    *out = (sora_image) { 0 };
    if (channels != 1 && channels != 3)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: %d channels asked for; expected 1 or 3", path, channels);
    sora_status status = decode(path, channels, &decoded, error);
    if (status == SORA_OK) status = turn_upright(&decoded.image, decoded.orientation, error);
    if (status == SORA_OK)
        *out = decoded.image;
    else
        sora_image_free(&decoded.image);
    return status;
}

sora_status sora_mask_read(const char *path, const char *image, int width, int height, int channels, sora_image *out,
                           sora_error *error)
{
    sora_decoded mask = { 0 }, like;
    *out = (sora_image) { 0 };
    sora_status status = decode(path, channels, &mask, error);
    int orientation = mask.orientation;
    if (status == SORA_OK && channels == 3 && mask.bits == 16)
        status = sora_fail(
            error, SORA_ERROR_INPUT,
            "%s: a mask of labels with 16 bits a sample, expected at most 8: of 16, labels of 1 to 128 would become 0; write "
            "it with 8",
            path);
    if (status == SORA_OK && orientation == 1 && width != height && mask.width == height && mask.height == width) {
        status = decode(image, 0, &like, error);
        if (status == SORA_OK && turns_sides(like.orientation)) orientation = like.orientation;
    }
    if (status == SORA_OK && channels) status = turn_upright(&mask.image, orientation, error);
    if (status != SORA_OK) {
        sora_image_free(&mask.image);
        return status;
    }
    *out = mask.image;
    out->width = turns_sides(orientation) ? mask.height : mask.width;
    out->height = turns_sides(orientation) ? mask.width : mask.height;
    return SORA_OK;
}

sora_status sora_image_read_size(const char *path, int *width, int *height, sora_error *error)
{
    sora_decoded decoded;
    *width = *height = 0;
    sora_status status = decode(path, 0, &decoded, error);
    if (status != SORA_OK) return status;
    bool turned = turns_sides(decoded.orientation);
    *width = turned ? decoded.height : decoded.width;
    *height = turned ? decoded.width : decoded.height;
    return SORA_OK;
}

/* ---- Sizes ------------------------------------------------------------------------------------------------------- */

/* One output coordinate as a weighted run of input ones. */
typedef struct run {
    int first, count;
    float *weights;
} run;

static void free_runs(run *runs, int count)
{
    for (int i = 0; runs && i < count; i++) free(runs[i].weights);
    free(runs);
}

/* Area average where it shrinks, bilinear where it grows. */
static sora_status make_runs(int from, int to, run **out, sora_error *error)
{
    double scale = (double)from / to;
    sora_status status = sora_allocate((size_t)to, sizeof **out, "resize", out, error);
    for (int i = 0; status == SORA_OK && i < to; i++) {
        double low = i * scale, high = (i + 1) * scale;
        if (scale < 1.0) {
            double centre = fmax(0.0, fmin(from - 1.0, (i + 0.5) * scale - 0.5));
            low = floor(centre);
            run r = { (int)low, low + 1 < from ? 2 : 1, NULL };
            status = sora_allocate(2, sizeof(float), "resize", &r.weights, error);
            if (status != SORA_OK) break;
            r.weights[1] = (float)(centre - low);
            r.weights[0] = r.count == 2 ? 1.0f - r.weights[1] : 1.0f;
            (*out)[i] = r;
            continue;
        }
        int first = (int)floor(low), last = SORA_MIN(from, (int)ceil(high - 1e-9));
        run r = { first, SORA_MAX(1, last - first), NULL };
        status = sora_allocate((size_t)r.count, sizeof(float), "resize", &r.weights, error);
        if (status != SORA_OK) break;
        for (int k = 0; k < r.count; k++) r.weights[k] = (float)((fmin(high, first + k + 1.0) - fmax(low, first + k)) / scale);
        (*out)[i] = r;
    }
    return status;
}

static void scale_row(const uint8_t *pixels, const run *across, int width, size_t channels, float *out)
{
    for (int x = 0; x < width; x++)
        for (size_t k = 0; k < channels; k++) {
            const uint8_t *in = pixels + (size_t)across[x].first * channels + k;
            float sum = 0.0f;
            for (int i = 0; i < across[x].count; i++) sum += across[x].weights[i] * (float)in[(size_t)i * channels];
            out[(size_t)x * channels + k] = sum;
        }
}

/* Rows are scaled across once each, in order, and the last two are kept: a line of the output adds up one after the other, and the
 * next line begins with one of the last two or behind them. */
sora_status sora_image_resize(const sora_image *image, int width, int height, sora_image *out, sora_error *error)
{
    sora_status status = SORA_OK;
    run *across = NULL, *down = NULL;
    float *rows = NULL;
    int scaled = 0;
    size_t c = (size_t)image->channels, row = (size_t)width * c;
    *out = (sora_image) { 0 };
    SORA_TRY(sora_image_create(width, height, image->channels, out, error));
    SORA_TRY(make_runs(image->width, width, &across, error));
    SORA_TRY(make_runs(image->height, height, &down, error));
    SORA_TRY(sora_allocate(3 * row, sizeof *rows, "resize", &rows, error));
    float *sums = rows + 2 * row;
    for (int y = 0; y < height; y++) {
        memset(sums, 0, row * sizeof *sums);
        for (int i = 0; i < down[y].count; i++) {
            int from = down[y].first + i;
            float *line = rows + (size_t)(from % 2) * row;
            if (from >= scaled) scale_row(image->pixels + (size_t)from * (size_t)image->width * c, across, width, c, line);
            scaled = SORA_MAX(scaled, from + 1);
            for (size_t x = 0; x < row; x++) sums[x] += down[y].weights[i] * line[x];
        }
        for (size_t x = 0; x < row; x++) out->pixels[(size_t)y * row + x] = (uint8_t)fmaxf(0.0f, fminf(255.0f, sums[x] + 0.5f));
    }
cleanup:
    free_runs(across, width);
    free_runs(down, height);
    free(rows);
    if (status != SORA_OK) sora_image_free(out);
    return status;
}

sora_status sora_image_resize_nearest(const sora_image *image, int width, int height, sora_image *out, sora_error *error)
{
    size_t c = (size_t)image->channels;
    sora_status status = sora_image_create(width, height, image->channels, out, error);
    if (status != SORA_OK) return status;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            size_t sx = (size_t)((x + 0.5) * image->width / width), sy = (size_t)((y + 0.5) * image->height / height);
            memcpy(out->pixels + ((size_t)y * (size_t)width + (size_t)x) * c,
                   image->pixels + (sy * (size_t)image->width + sx) * c, c);
        }
    return SORA_OK;
}

static bool is_hand(const sora_image *mask, int x, int y)
{
    return x >= 0 && y >= 0 && x < mask->width && y < mask->height &&
           mask->pixels[(size_t)y * (size_t)mask->width + (size_t)x] > 127;
}

sora_status sora_image_overlay(sora_image *image, const sora_image *mask, const uint8_t rgb[3], double opacity, sora_error *error)
{
    if (image->channels != 3 || mask->channels != 1 || image->width != mask->width || image->height != mask->height ||
        !(opacity >= 0.0 && opacity <= 1.0))
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "overlay: image %d x %d x %d, mask %d x %d x %d, opacity %g; expected RGB and grey of one size",
                         image->width, image->height, image->channels, mask->width, mask->height, mask->channels, opacity);
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width; x++) {
            if (!is_hand(mask, x, y)) continue;
            bool inside =
                is_hand(mask, x - 1, y) && is_hand(mask, x + 1, y) && is_hand(mask, x, y - 1) && is_hand(mask, x, y + 1);
            double share = inside ? opacity : 1.0;
            uint8_t *pixel = image->pixels + ((size_t)y * (size_t)image->width + (size_t)x) * 3;
            for (int k = 0; k < 3; k++) pixel[k] = (uint8_t)(pixel[k] + share * (rgb[k] - pixel[k]) + 0.5);
        }
    return SORA_OK;
}
