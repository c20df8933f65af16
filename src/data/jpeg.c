/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "data/exif.h"
#include "data/image_format.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

/* A progressive file may hold endless scans for few bytes. */
#define MAX_SCANS 500

typedef struct failure {
    struct jpeg_error_mgr manager; /* first: libjpeg hands back a pointer to it */
    struct jpeg_progress_mgr progress;
    char message[JMSG_LENGTH_MAX];
    jmp_buf jump;
} failure;

static void on_error(j_common_ptr info)
{
    failure *f = (failure *)info->err;
    info->err->format_message(info, f->message);
    longjmp(f->jump, 1);
}

/* Counts damage; cameras write files with odd but harmless markers. */
static void on_message(j_common_ptr info, int level)
{
    int code = info->err->msg_code;
    bool harmless = code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM || code == JWRN_JFIF_MAJOR || code == JWRN_TOO_MUCH_DATA;
    if (level < 0 && !harmless) info->err->num_warnings++;
}

static void on_progress(j_common_ptr info)
{
    failure *f = (failure *)info->err;
    if (info->is_decompressor && ((j_decompress_ptr)info)->input_scan_number > MAX_SCANS) {
        snprintf(f->message, sizeof f->message, "more than %d scans", MAX_SCANS);
        longjmp(f->jump, 1);
    }
}

static void set_failure(failure *f, struct jpeg_error_mgr **place)
{
    *place = jpeg_std_error(&f->manager);
    f->manager.error_exit = on_error;
    f->manager.emit_message = on_message;
    f->progress.progress_monitor = on_progress;
}

static int orientation_of(const struct jpeg_decompress_struct *jpeg)
{
    for (jpeg_saved_marker_ptr m = jpeg->marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && memcmp(m->data, "Exif\0\0", 6) == 0)
            return sora_exif_orientation(m->data + 6, m->data_length - 6);
    return 1;
}

static sora_status decode(struct jpeg_decompress_struct *jpeg, failure *f, const char *path, const unsigned char *data,
                          size_t bytes, int channels, sora_decoded *out, sora_error *error)
{
    if (setjmp(f->jump)) return sora_fail(error, SORA_ERROR_INPUT, "%s: broken JPEG: %s", path, f->message);
    jpeg_create_decompress(jpeg);
    jpeg->progress = &f->progress;
    jpeg_mem_src(jpeg, data, (unsigned long)bytes);
    jpeg_save_markers(jpeg, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(jpeg, TRUE);
    sora_status status = sora_image_check_size(path, jpeg->image_width, jpeg->image_height, error);
    if (status != SORA_OK) return status;
    out->width = (int)jpeg->image_width;
    out->height = (int)jpeg->image_height;
    out->orientation = orientation_of(jpeg);
    if (channels == 0) return SORA_OK;
    if (jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK)
        return sora_fail(error, SORA_ERROR_INPUT, "%s: a CMYK JPEG; expected grey or RGB", path);
    jpeg->out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(jpeg);
    status = sora_image_create(out->width, out->height, channels, &out->image, error);
    if (status != SORA_OK) return status;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = out->image.pixels + (size_t)jpeg->output_scanline * (size_t)out->width * (size_t)channels;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    if (jpeg->err->num_warnings > 0)
        return sora_fail(error, SORA_ERROR_INPUT, "%s: broken JPEG: its data is damaged or ends too early", path);
    return SORA_OK;
}

sora_status sora_jpeg_decode(const char *path, const unsigned char *data, size_t bytes, int channels, sora_decoded *out,
                             sora_error *error)
{
    struct jpeg_decompress_struct jpeg = { 0 };
    failure f = { .message = "" };
    *out = (sora_decoded) { .orientation = 1 };
    set_failure(&f, &jpeg.err);
    sora_status status = decode(&jpeg, &f, path, data, bytes, channels, out, error);
    jpeg_destroy_decompress(&jpeg);
    if (status != SORA_OK) sora_image_free(&out->image);
    return status;
}

static sora_status encode(struct jpeg_compress_struct *jpeg, failure *f, const char *path, const sora_image *image, FILE *stream,
                          sora_error *error)
{
    if (setjmp(f->jump)) return sora_fail(error, SORA_ERROR_IO, "%s: cannot write: %s", path, f->message);
    jpeg_create_compress(jpeg);
    jpeg_stdio_dest(jpeg, stream);
    jpeg->image_width = (JDIMENSION)image->width;
    jpeg->image_height = (JDIMENSION)image->height;
    jpeg->input_components = image->channels;
    jpeg->in_color_space = image->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, 92, TRUE);
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < jpeg->image_height) {
        JSAMPROW row = image->pixels + (size_t)jpeg->next_scanline * (size_t)image->width * (size_t)image->channels;
        jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
    return SORA_OK;
}

sora_status sora_jpeg_write(const char *path, const sora_image *image, sora_error *error)
{
    struct jpeg_compress_struct jpeg = { 0 };
    failure f = { .message = "" };
    sora_file_writer file;
    sora_status status = sora_file_begin(&file, path, error);
    if (status != SORA_OK) return status;
    set_failure(&f, &jpeg.err);
    status = encode(&jpeg, &f, path, image, file.stream, error);
    jpeg_destroy_compress(&jpeg);
    if (status == SORA_OK) return sora_file_commit(&file, error);
    sora_file_abandon(&file);
    return status;
}
