/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_IMAGE_FORMAT_H
#define SORA_DATA_IMAGE_FORMAT_H

#include "base/status.h"
#include "soracl/image.h"

#include <stdbool.h>

#define SORA_IMAGE_MAX_PIXELS ((uint64_t)1 << 28)
#define SORA_IMAGE_MAX_BYTES ((size_t)1 << 30)

/* What a decoder makes of a file in memory: `image` as stored, not turned yet (left zeroed where only the header is wanted). */
typedef struct sora_decoded {
    sora_image image;
    int width, height; /* as stored */
    int orientation;   /* EXIF, 1 to 8 */
    int bits;          /* a sample in the file; 0: 8 */
} sora_decoded;

/* channels: 1 or 3, or 0 for the header alone. `path` is for messages. */
sora_status sora_png_decode(const char *path, const unsigned char *data, size_t bytes, int channels, sora_decoded *out,
                            sora_error *error);
sora_status sora_jpeg_decode(const char *path, const unsigned char *data, size_t bytes, int channels, sora_decoded *out,
                             sora_error *error);

/* A mask as sora_image_read gives it, but for one that has no orientation of its own and fits its image's stored sides, not the
 * upright ones: it was drawn on the stored pixels and turns with the image. channels 0: width and height alone, no pixels.
 * 3: labels, where any value above 0 counts; 16 bits a sample are refused, because 8 of them would not say so.
 * width, height: the image's, upright; its file is looked at only where the mask has these sides the other way round. */
sora_status sora_mask_read(const char *path, const char *image, int width, int height, int channels, sora_image *out,
                           sora_error *error);

/* Writes a JPEG of quality 92 atomically. */
sora_status sora_jpeg_write(const char *path, const sora_image *image, sora_error *error);

/* SORA_ERROR_INPUT where a header promises more than is accepted. */
sora_status sora_image_check_size(const char *path, uint64_t width, uint64_t height, sora_error *error);

#endif
