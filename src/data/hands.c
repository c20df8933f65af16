/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/memory.h"
#include "data/dataset_items.h"
#include "data/hands_scene.h"
#include "data/image_format.h"
#include "data/mat.h"

#include <matio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_PER_VIDEO 10
#define SUBJECTS 4
#define ACTIVITIES 7
static const char *const fields[SORA_HANDS_PER_FRAME] = { "myleft", "myright", "yourleft", "yourright" };
static const char *const activity_names[ACTIVITIES] = { "cheese", "coffee", "cofhoney", "hotdog", "pealate", "peanut", "tea" };

/* ---- Outlines ---------------------------------------------------------------------------------------------------- */

static bool owned(const sora_paint *p, int x, int y, uint8_t owner)
{
    return x >= 0 && y >= 0 && x < p->width && y < p->height && p->owner[(size_t)y * (size_t)p->width + (size_t)x] == owner;
}

/* Follows the outline of the region that (x, y) is the first pixel of, clockwise (Moore's neighbours, Jacob's criterion). */
static sora_status trace(const sora_paint *p, uint8_t owner, int x, int y, sora_polygon *out, sora_error *error)
{
    static const int step[8][2] = { { 1, 0 }, { 1, 1 }, { 0, 1 }, { -1, 1 }, { -1, 0 }, { -1, -1 }, { 0, -1 }, { 1, -1 } };
    size_t capacity = 0, most = 4 * (size_t)p->width * (size_t)p->height;
    int start_x = x, start_y = y, way = 0, start_way = -1;
    *out = (sora_polygon) { 0 };
    for (size_t turn = 0; turn < most; turn++) {
        int next = -1;
        for (int i = 0; i < 8 && next < 0; i++) {
            int d = (way + 6 + i) % 8;
            if (owned(p, x + step[d][0], y + step[d][1], owner)) next = d;
        }
        sora_status status = sora_reserve(&out->points, &capacity, 2 * (out->count + 1), sizeof(double), error);
        if (status != SORA_OK) return status;
        out->points[2 * out->count] = x;
        out->points[2 * out->count + 1] = y;
        out->count++;
        if (next < 0) return SORA_OK;
        if (x == start_x && y == start_y) {
            if (start_way == next) return SORA_OK;
            if (start_way < 0) start_way = next;
        }
        way = next;
        x += step[way][0];
        y += step[way][1];
    }
    return SORA_OK;
}

static double area_of(const sora_polygon *polygon)
{
    double sum = 0.0;
    for (size_t i = 0; i < polygon->count; i++) {
        const double *a = polygon->points + 2 * i, *b = polygon->points + 2 * ((i + 1) % polygon->count);
        sum += a[0] * b[1] - b[0] * a[1];
    }
    return sum < 0 ? -sum / 2 : sum / 2;
}

/* The outline of the owner's largest region; none where it is a few pixels only. */
static sora_status outline(const sora_paint *p, uint8_t owner, sora_polygon *out, sora_error *error)
{
    *out = (sora_polygon) { 0 };
    for (int y = 0; y < p->height; y++)
        for (int x = 0; x < p->width; x++) {
            sora_polygon found;
            bool starts = owned(p, x, y, owner) && !owned(p, x - 1, y, owner) && !owned(p, x, y - 1, owner) &&
                          !owned(p, x - 1, y - 1, owner) && !owned(p, x + 1, y - 1, owner);
            if (!starts) continue;
            sora_status status = trace(p, owner, x, y, &found, error);
            if (status != SORA_OK) {
                free(found.points);
                return status;
            }
            bool larger = area_of(&found) > area_of(out);
            free(larger ? out->points : found.points);
            if (larger) *out = found;
        }
    if (area_of(out) < 12.0) {
        free(out->points);
        *out = (sora_polygon) { 0 };
    }
    return SORA_OK;
}

/* ---- EgoHands ---------------------------------------------------------------------------------------------------- */

/* Whether a struct array was read as it was to be written: as many numbers or letters in every field. */
static bool is_whole(const sora_mat_array *read, matvar_t *var)
{
    size_t fields_each = Mat_VarGetNumberOfFields(var), count = var->dims[0] * var->dims[1] * fields_each;
    if (read->rows * read->columns * read->field_count != count) return false;
    for (size_t i = 0; i < count; i++) {
        const matvar_t *item = Mat_VarGetStructFieldByIndex(var, i % fields_each, i / fields_each);
        if (!item || read->items[i].rows * read->items[i].columns != item->dims[0] * item->dims[1]) return false;
    }
    return true;
}

static sora_status write_mat(const char *path, matvar_t *var, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_mat_array written = { 0 };
    sora_file_writer writer; /* matio opens its temporary by name and writes; it is synced and renamed as any other file */
    SORA_TRY(sora_file_begin(&writer, path, error));
    /* The header's text is given, because matio's own holds the time. */
    mat_t *file = Mat_CreateVer(writer.temporary, "MATLAB 5.0 MAT-file, written by soracl", MAT_FT_MAT5);
    bool wrote = file && var && Mat_VarWrite(file, var, MAT_COMPRESSION_NONE) == 0;
    if (file && Mat_Close(file) != 0) wrote = false;
    if (!wrote) SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot write: matio could not", path);
    /* matio does not look at each write, so that on a full disk the file is short, and what is missing may be taken for empty. */
    if (sora_mat_read(writer.temporary, var->name, &written, NULL) != SORA_OK || !is_whole(&written, var))
        SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot write: read back, it is not what was written; is the disk full?", path);
    SORA_TRY(sora_file_commit(&writer, error));
cleanup:
    sora_mat_free(&written);
    sora_file_abandon(&writer);
    return status;
}

static sora_status write_polygons(const char *path, const sora_polygon *hands, size_t frames, sora_error *error)
{
    size_t dims[2] = { 1, frames };
    matvar_t *var = Mat_VarCreateStruct("polygons", 2, dims, (const char **)fields, SORA_HANDS_PER_FRAME);
    if (!var) return sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory", path);
    for (size_t i = 0; i < frames; i++)
        for (int h = 0; h < SORA_HANDS_PER_FRAME; h++) {
            const sora_polygon *polygon = &hands[i * SORA_HANDS_PER_FRAME + (size_t)h];
            size_t shape[2] = { polygon->count, polygon->count ? 2 : 0 };
            double *columns = malloc((2 * polygon->count + 1) * sizeof *columns);
            for (size_t k = 0; columns && k < polygon->count; k++) {
                columns[k] = polygon->points[2 * k];
                columns[polygon->count + k] = polygon->points[2 * k + 1];
            }
            matvar_t *points = columns ? Mat_VarCreate(NULL, MAT_C_DOUBLE, MAT_T_DOUBLE, 2, shape, columns, 0) : NULL;
            free(columns);
            if (!points) {
                Mat_VarFree(var);
                return sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory", path);
            }
            Mat_VarSetStructFieldByName(var, fields[h], i, points);
        }
    sora_status status = write_mat(path, var, error);
    Mat_VarFree(var);
    return status;
}

static matvar_t *text_variable(const char *text)
{
    size_t dims[2] = { 1, strlen(text) };
    return Mat_VarCreate(NULL, MAT_C_CHAR, MAT_T_UTF8, 2, dims, (void *)text, 0);
}

static void video_name(uint32_t video, char name[64])
{
    static const char *const games[] = { "CARDS", "CHESS", "JENGA", "PUZZLE" }, *const places[] = { "COURTYARD", "LIVINGROOM",
                                                                                                    "OFFICE" };
    snprintf(name, 64, "%s_%s_%c_%c%u", games[video % 4], places[video / 4 % 3], 'A' + (char)(video % 5), 'F' + (char)(video % 7),
             video);
}

static sora_status write_metadata(const char *folder, size_t videos, sora_error *error)
{
    static const char *const names[] = { "video_id",   "partner_video_id", "ego_viewer_id",
                                         "partner_id", "location_id",      "activity_id" };
    sora_status status = SORA_OK;
    char *path = NULL, name[64], part[4][64];
    size_t dims[2] = { 1, videos };
    matvar_t *var = Mat_VarCreateStruct("video", 2, dims, (const char **)names, SORA_COUNT(names));
    if (!var) SORA_FAIL(error, SORA_ERROR_MEMORY, "%s: no host memory", folder);
    for (size_t i = 0; i < videos; i++) {
        video_name((uint32_t)i, name);
        if (sscanf(name, "%63[^_]_%63[^_]_%63[^_]_%63s", part[0], part[1], part[2], part[3]) != 4) continue;
        const char *values[] = { name, name, part[2], part[3], part[1], part[0] };
        for (size_t f = 0; f < SORA_COUNT(names); f++) Mat_VarSetStructFieldByName(var, names[f], i, text_variable(values[f]));
    }
    SORA_TRY(sora_format(&path, error, "%s/metadata.mat", folder));
    SORA_TRY(write_mat(path, var, error));
cleanup:
    if (var) Mat_VarFree(var);
    free(path);
    return status;
}

typedef struct drawing {
    const char *folder;
    const sora_hands_options *options;
    sora_paint paint;
    int done, total;
} drawing;

static sora_status report(drawing *d, sora_error *error)
{
    d->done++;
    if (!d->options->progress || d->options->progress(d->options->self, d->done, d->total)) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INTERRUPTED, "%s: stopped after %d of %d images", d->folder, d->done, d->total);
}

static sora_status draw_video(drawing *d, uint32_t video, int frames, sora_error *error)
{
    sora_status status = SORA_OK;
    char name[64], *folder = NULL, *path = NULL;
    sora_polygon *hands = NULL;
    sora_image image = { 0 };
    video_name(video, name);
    SORA_TRY(sora_allocate((size_t)frames * SORA_HANDS_PER_FRAME, sizeof *hands, name, &hands, error));
    SORA_TRY(sora_format(&folder, error, "%s/_LABELLED_SAMPLES/%s", d->folder, name));
    SORA_TRY(sora_folder_create(folder, error));
    for (int f = 0; f < frames; f++) {
        SORA_TRY(sora_scene_table(&d->paint, d->options->seed, video, (uint32_t)f, &image, error));
        for (int h = 0; h < SORA_HANDS_PER_FRAME; h++)
            SORA_TRY(outline(&d->paint, (uint8_t)(h + 1), &hands[f * SORA_HANDS_PER_FRAME + h], error));
        SORA_TRY(sora_format(&path, error, "%s/frame_%04d.jpg", folder, 11 + 27 * f));
        SORA_TRY(sora_jpeg_write(path, &image, error));
        sora_image_free(&image);
        free(path);
        path = NULL;
        SORA_TRY(report(d, error));
    }
    SORA_TRY(sora_format(&path, error, "%s/polygons.mat", folder));
    SORA_TRY(write_polygons(path, hands, (size_t)frames, error));
cleanup:
    sora_image_free(&image);
    sora_polygons_free(hands, (size_t)frames);
    free(folder);
    free(path);
    return status;
}

static sora_status draw_egohands(drawing *d, sora_error *error)
{
    sora_status status = SORA_OK;
    uint32_t videos = 0;
    for (int left = d->total; left > 0; left -= FRAMES_PER_VIDEO) {
        /* Two videos at least, so that there is something to split. */
        int frames = SORA_MIN(left, d->total >= 2 * FRAMES_PER_VIDEO ? FRAMES_PER_VIDEO : (d->total + 1) / 2);
        SORA_TRY(draw_video(d, videos++, frames, error));
        if (frames < FRAMES_PER_VIDEO) left += FRAMES_PER_VIDEO - frames;
    }
    SORA_TRY(write_metadata(d->folder, videos, error));
cleanup:
    return status;
}

/* ---- GTEA -------------------------------------------------------------------------------------------------------- */

/* Labels as colours: left, right, and where one is seen over the other. */
static sora_status label_image(const sora_paint *p, sora_image *out, sora_error *error)
{
    static const uint8_t colours[4][3] = { { 0, 0, 0 }, { 128, 0, 0 }, { 0, 128, 0 }, { 128, 128, 0 } };
    sora_status status = sora_image_create(p->width, p->height, 3, out, error);
    if (status != SORA_OK) return status;
    for (size_t i = 0, n = (size_t)p->width * (size_t)p->height; i < n; i++)
        memcpy(out->pixels + 3 * i, colours[p->owner[i] && p->crossed[i] ? 3 : p->owner[i] % 3], 3);
    return SORA_OK;
}

static sora_status draw_gtea(drawing *d, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_image image = { 0 }, label = { 0 };
    char *images = NULL, *masks = NULL, *path = NULL;
    SORA_TRY(sora_format(&images, error, "%s/GTEA/Images", d->folder));
    SORA_TRY(sora_format(&masks, error, "%s/GTEA/Masks", d->folder));
    SORA_TRY(sora_folder_create(images, error));
    SORA_TRY(sora_folder_create(masks, error));
    for (int i = 0; i < d->total; i++) {
        uint32_t subject = (uint32_t)(i % SUBJECTS), activity = (uint32_t)(i / SUBJECTS % ACTIVITIES),
                 frame = (uint32_t)(i / (SUBJECTS * ACTIVITIES));
        SORA_TRY(sora_scene_kitchen(&d->paint, d->options->seed, subject, activity, frame, &image, error));
        SORA_TRY(label_image(&d->paint, &label, error));
        SORA_TRY(
            sora_format(&path, error, "%s/s%u_%s_%010u.jpg", images, subject + 1, activity_names[activity], 20 + 40 * frame));
        SORA_TRY(sora_jpeg_write(path, &image, error));
        free(path);
        path = NULL;
        SORA_TRY(sora_format(&path, error, "%s/s%u_%s_%010u.png", masks, subject + 1, activity_names[activity], 20 + 40 * frame));
        SORA_TRY(sora_image_write_png(path, &label, error));
        free(path);
        path = NULL;
        sora_image_free(&image);
        sora_image_free(&label);
        SORA_TRY(report(d, error));
    }
cleanup:
    sora_image_free(&image);
    sora_image_free(&label);
    free(images);
    free(masks);
    free(path);
    return status;
}

sora_status sora_hands_draw(const char *folder, const sora_hands_options *options, sora_error *error)
{
    sora_status status = SORA_OK;
    drawing d = { .folder = folder, .options = options, .total = options->images > 0 ? options->images : 120 };
    bool egohands = strcmp(options->layout, "egohands") == 0;
    int width = options->width > 0 ? options->width : 320, height = options->height > 0 ? options->height : 180;
    char **names = NULL;
    size_t count = 0;
    if (!egohands && strcmp(options->layout, "gtea") != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "layout \"%.40s\"; expected egohands or gtea", options->layout);
    if (d.total < 2) return sora_fail(error, SORA_ERROR_ARGUMENT, "%d images; expected at least 2", d.total);
    SORA_TRY(sora_folder_create(folder, error));
    SORA_TRY(sora_folder_list(folder, &names, &count, error));
    if (count > 0) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "%s: not empty; pictures are drawn into a folder of their own", folder);
    SORA_TRY(sora_paint_create(width, height, &d.paint, error));
    SORA_TRY(egohands ? draw_egohands(&d, error) : draw_gtea(&d, error));
cleanup:
    sora_names_free(names, count);
    sora_paint_free(&d.paint);
    return status;
}
