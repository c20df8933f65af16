/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_IMAGE_H
#define SORACL_IMAGE_H

#include "soracl/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An 8-bit image in memory: rows from the top, pixels interleaved, no padding: pixels[(y * width + x) * channels + c].
 * `pixels` belongs to the struct: sora_image_free. All functions here are thread-safe for different objects. */
typedef struct sora_image {
    int width, height;
    int channels; /* 1 grey, 3 RGB */
    uint8_t *pixels;
} sora_image;

/* Reads a PNG or JPEG file (told apart by its first bytes, never by its name) and turns it upright by its EXIF orientation
 * (JPEG APP1; PNG eXIf). `channels` asks for 1 (Rec. 601 luma of a colour file) or 3. 16 bits are scaled to 8, palettes
 * expanded, alpha dropped (the colour under it stays). Accepts at most 2^28 pixels and 1 GiB files.
 * SORA_ERROR_INPUT names path, what was found and what was expected; *out is zeroed on failure. */
SORA_API sora_status sora_image_read(const char *path, int channels, sora_image *out, sora_error *error);

/* Width and height as sora_image_read would give them (orientation applied), from the header alone. */
SORA_API sora_status sora_image_read_size(const char *path, int *width, int *height, sora_error *error);

/* Writes an 8-bit PNG atomically (temporary beside it, sync, rename). */
SORA_API sora_status sora_image_write_png(const char *path, const sora_image *image, sora_error *error);

SORA_API sora_status sora_image_create(int width, int height, int channels, sora_image *out, sora_error *error); /* zeroed */
SORA_API void sora_image_free(sora_image *image); /* accepts a zeroed struct; zeroes it */

/* Stretches to width × height: by area average where it shrinks and bilinear where it grows (pixel centres at half integers),
 * so that a reduced photograph does not alias. */
SORA_API sora_status sora_image_resize(const sora_image *image, int width, int height, sora_image *out, sora_error *error);
/* The same by nearest neighbour (masks keep their values): source x = floor((x + 0.5) * width_in / width_out). */
SORA_API sora_status sora_image_resize_nearest(const sora_image *image, int width, int height, sora_image *out,
                                               sora_error *error);

/* Paints `mask` (1 channel, same size; > 127 is hand) over an RGB image with an opacity in 0..1 and a one-pixel contour. */
SORA_API sora_status sora_image_overlay(sora_image *image, const sora_image *mask, const uint8_t rgb[3], double opacity,
                                        sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
