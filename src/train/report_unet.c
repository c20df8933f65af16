/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/memory.h"
#include "train/report.h"

#include <stdlib.h>
#include <string.h>

#define MAX_FILE ((size_t)64 << 20)

static void write_start(const sora_report *r)
{
    const sora_report_entry *none = sora_report_best(r, "none");
    if (none) fprintf(r->out, "As it was pre-trained the network reaches a hand IoU of %.3f on these images. ", none->values[0]);
}

static void write_base64(FILE *out, const unsigned char *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes; i += 3) {
        unsigned value =
            (unsigned)data[i] << 16 | (i + 1 < bytes ? (unsigned)data[i + 1] << 8 : 0) | (i + 2 < bytes ? data[i + 2] : 0);
        fputc(digits[value >> 18], out);
        fputc(digits[value >> 12 & 63], out);
        fputc(i + 1 < bytes ? digits[value >> 6 & 63] : '=', out);
        fputc(i + 2 < bytes ? digits[value & 63] : '=', out);
    }
}

static sora_status write_picture(const sora_report *r, const char *relative, const char *name, sora_error *error)
{
    char *path = NULL;
    unsigned char *data = NULL;
    size_t bytes;
    if (!sora_report_is_inside(relative))
        return sora_fail(error, SORA_ERROR_INPUT, "%s/compare.json: \"%.80s\" is no picture in this folder", r->folder, relative);
    sora_status status = sora_format(&path, error, "%s/%s", r->folder, relative);
    if (status == SORA_OK) status = sora_file_read(path, MAX_FILE, &data, &bytes, error);
    if (status == SORA_OK) {
        fputs("<img alt=\"", r->out);
        sora_html_escape(r->out, name);
        fputs("\" src=\"data:image/png;base64,", r->out);
        write_base64(r->out, data, bytes);
        fputs("\">\n", r->out);
    }
    free(path);
    free(data);
    return status;
}

static sora_status write_shown(const sora_report *r, sora_error *error)
{
    size_t index, k;
    json_t *row, *prediction, *list = json_object_get(r->root, "overlays"),
                              *first = json_object_get(json_array_get(list, 0), "predictions");
    if (!json_is_array(list) || json_array_size(list) == 0) return SORA_OK;
    size_t columns = 2 + json_array_size(first);
    fprintf(r->out,
            "<h2>Pictures</h2><div class=\"scroll pad\"><div class=\"grid-images\" "
            "style=\"grid-template-columns:repeat(%zu,150px)\"><div>image</div><div>truth</div>",
            columns);
    json_array_foreach(first, k, prediction)
    {
        fputs("<div>", r->out);
        sora_html_escape(r->out, sora_report_text(prediction, "label"));
        fputs("</div>", r->out);
    }
    json_array_foreach(list, index, row)
    {
        json_t *predictions = json_object_get(row, "predictions");
        sora_status status = write_picture(r, sora_report_text(row, "image"), sora_report_text(row, "name"), error);
        if (status == SORA_OK) status = write_picture(r, sora_report_text(row, "truth"), "truth", error);
        for (k = 0; status == SORA_OK && k + 2 < columns; k++) {
            prediction = json_array_get(predictions, k);
            status = write_picture(r, sora_report_text(prediction, "file"), sora_report_text(prediction, "label"), error);
        }
        if (status != SORA_OK) return status;
    }
    fputs("</div></div>\n", r->out);
    return SORA_OK;
}

const sora_report_task sora_report_unet = {
    .name = "unet",
    .columns = { { "iou_per_image", "hand IoU", 4 }, { "dice", "Dice", 4 } },
    .column_count = 2,
    .lead_digits = 3,
    .examples = "images",
    .measure = "hand IoU",
    .quality_title = "Hand IoU on the evaluation set",
    .table_note = "Hand IoU is the mean over the evaluation images that show a hand in truth or prediction, at the network's "
                  "size, at the end of training.",
    .difference_note = "Bootstrap over the evaluation images, each image's difference averaged over seeds first. Coloured: the "
                       "interval leaves 0 out.",
    .setting_note = "Every method starts from the same weights and sees the same batches in the same order for the same number "
                    "of steps. Time per step is the median, evaluations left out. Device memory is what was allocated on the "
                    "device, process memory the largest resident set while the row ran.",
    .write_start = write_start,
    .write_shown = write_shown
};
