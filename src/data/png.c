/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/memory.h"
#include "data/exif.h"
#include "data/image_format.h"

#include <errno.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef struct reader {
    const unsigned char *data;
    size_t bytes, at;
    char message[160];
    jmp_buf jump;
} reader;

static void on_error(png_structp png, png_const_charp message)
{
    reader *r = png_get_error_ptr(png);
    snprintf(r->message, sizeof r->message, "%s", message);
    longjmp(r->jump, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void on_read(png_structp png, png_bytep out, png_size_t bytes)
{
    reader *r = png_get_io_ptr(png);
    if (bytes > r->bytes - r->at) png_error(png, "the file ends too early");
    memcpy(out, r->data + r->at, bytes);
    r->at += bytes;
}

static void set_transforms(png_structp png, png_infop info, int channels)
{
    int type = png_get_color_type(png, info);
    png_set_expand(png);
    png_set_scale_16(png);
    if (type & PNG_COLOR_MASK_ALPHA || png_get_valid(png, info, PNG_INFO_tRNS)) png_set_strip_alpha(png);
    if (channels == 3 && !(type & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(png);
    /* Rec. 601 luma, in libpng's units of 1e-5. */
    if (channels == 1 && type & PNG_COLOR_MASK_COLOR) png_set_rgb_to_gray_fixed(png, PNG_ERROR_ACTION_NONE, 29900, 58700);
    png_set_interlace_handling(png);
}

/* That of the first sound eXIf chunk. Found here and not by libpng, because it may stand behind the picture, where libpng finds
 * it only after all of that was read: the size by the header alone and the picture must agree. */
static int orientation_of(const unsigned char *data, size_t bytes)
{
    for (size_t at = 8; bytes - at >= 12;) { /* length, type, data, checksum */
        const unsigned char *chunk = data + at + 4;
        size_t length = png_get_uint_32(data + at);
        if (length > bytes - at - 12 || memcmp(chunk, "IEND", 4) == 0) break;
        if (memcmp(chunk, "eXIf", 4) == 0 && crc32(0, chunk, (uInt)length + 4) == png_get_uint_32(chunk + 4 + length))
            return sora_exif_orientation(chunk + 4, length);
        at += 12 + length;
    }
    return 1;
}

/* In a function of its own, so that no local of the caller changes between setjmp and longjmp. */
static sora_status decode(reader *r, png_structp png, png_infop info, const char *path, int channels, sora_decoded *out,
                          png_bytep **rows, sora_error *error)
{
    if (setjmp(r->jump)) return sora_fail(error, SORA_ERROR_INPUT, "%s: broken PNG: %s", path, r->message);
    png_set_read_fn(png, r, on_read);
    png_set_user_limits(png, 1 << 28, 1 << 28);
    /* Of chunks, what makes the pixels alone: gamma and profiles would turn luma into linear light, and texts may take gigabytes. */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(png, info);
    uint32_t width = png_get_image_width(png, info), height = png_get_image_height(png, info);
    sora_status status = sora_image_check_size(path, width, height, error);
    if (status != SORA_OK) return status;
    out->width = (int)width;
    out->height = (int)height;
    out->orientation = orientation_of(r->data, r->bytes);
    out->bits = png_get_bit_depth(png, info);
    if (channels == 0) return SORA_OK;
    set_transforms(png, info, channels);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != (size_t)width * (size_t)channels)
        return sora_fail(error, SORA_ERROR_INPUT, "%s: broken PNG: rows of %zu bytes, expected %zu", path,
                         png_get_rowbytes(png, info), (size_t)width * (size_t)channels);
    status = sora_image_create(out->width, out->height, channels, &out->image, error);
    if (status == SORA_OK) status = sora_allocate(height, sizeof **rows, path, rows, error);
    if (status != SORA_OK) return status;
    for (uint32_t y = 0; y < height; y++) (*rows)[y] = out->image.pixels + (size_t)y * width * (size_t)channels;
    png_read_image(png, *rows);
    png_read_end(png, NULL);
    return SORA_OK;
}

sora_status sora_png_decode(const char *path, const unsigned char *data, size_t bytes, int channels, sora_decoded *out,
                            sora_error *error)
{
    reader r = { .data = data, .bytes = bytes };
    png_bytep *rows = NULL;
    *out = (sora_decoded) { .orientation = 1 };
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    sora_status status = info ? decode(&r, png, info, path, channels, out, &rows, error)
                              : sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory", path);
    png_destroy_read_struct(png ? &png : NULL, info ? &info : NULL, NULL);
    free(rows);
    if (status != SORA_OK) sora_image_free(&out->image);
    return status;
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

typedef struct writer {
    char message[160];
    jmp_buf jump;
} writer;

static void on_write_error(png_structp png, png_const_charp message)
{
    writer *w = png_get_error_ptr(png);
    snprintf(w->message, sizeof w->message, "%s", message);
    longjmp(w->jump, 1);
}

static void on_write(png_structp png, png_bytep data, png_size_t bytes)
{
    if (fwrite(data, 1, bytes, png_get_io_ptr(png)) != bytes) png_error(png, strerror(errno));
}

static void on_flush(png_structp png)
{
    (void)png;
}

static sora_status encode(writer *w, png_structp png, png_infop info, const char *path, const sora_image *image, FILE *stream,
                          sora_error *error)
{
    if (setjmp(w->jump)) return sora_fail(error, SORA_ERROR_IO, "%s: cannot write: %s", path, w->message);
    png_set_write_fn(png, stream, on_write, on_flush);
    png_set_compression_level(png, 3);
    png_set_IHDR(png, info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 image->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int y = 0; y < image->height; y++)
        png_write_row(png, image->pixels + (size_t)y * (size_t)image->width * (size_t)image->channels);
    png_write_end(png, info);
    return SORA_OK;
}

static sora_status write_stream(const char *path, const sora_image *image, FILE *stream, sora_error *error)
{
    writer w = { .message = "" };
    if (image->width < 1 || image->height < 1 || (image->channels != 1 && image->channels != 3))
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: an image of %d x %d with %d channels", path, image->width,
                         image->height, image->channels);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w, on_write_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    sora_status status = info ? encode(&w, png, info, path, image, stream, error)
                              : sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory", path);
    png_destroy_write_struct(png ? &png : NULL, info ? &info : NULL);
    return status;
}

sora_status sora_image_write_png(const char *path, const sora_image *image, sora_error *error)
{
    sora_file_writer file;
    sora_status status = sora_file_begin(&file, path, error);
    if (status != SORA_OK) return status;
    status = write_stream(path, image, file.stream, error);
    if (status == SORA_OK) return sora_file_commit(&file, error);
    sora_file_abandon(&file);
    return status;
}
