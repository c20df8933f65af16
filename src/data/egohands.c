/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "data/dataset_items.h"
#include "data/mat.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_FRAMES 100000
#define MAX_POINTS 100000
static const char *const fields[SORA_HANDS_PER_FRAME] = { "myleft", "myright", "yourleft", "yourright" };

/* ---- polygons.mat ------------------------------------------------------------------------------------------------ */

void sora_polygons_free(sora_polygon *hands, size_t frames)
{
    for (size_t i = 0; hands && i < SORA_HANDS_PER_FRAME * frames; i++) free(hands[i].points);
    free(hands);
}

/* n × 2 numbers, column by column; an empty array of whatever type is a hand that isn't there. */
static sora_status read_points(const char *path, size_t frame, const char *field, const sora_mat_array *array, sora_polygon *out,
                               sora_error *error)
{
    if (!array) return sora_fail(error, SORA_ERROR_INPUT, "%s: frame %zu has no %s", path, frame, field);
    size_t count = array->rows;
    if (count * array->columns == 0) return SORA_OK;
    if (array->kind != SORA_MAT_NUMBERS || array->columns != 2 || count > MAX_POINTS)
        return sora_fail(error, SORA_ERROR_INPUT, "%s: frame %zu: %s is %zu x %zu; expected n x 2 numbers or an empty array",
                         path, frame, field, count, array->columns);
    sora_status status = sora_allocate(2 * count, sizeof(double), path, &out->points, error);
    if (status != SORA_OK) return status;
    out->count = count;
    for (size_t i = 0; i < 2 * count; i++) {
        double value = array->values[i % 2 * count + i / 2];
        if (!isfinite(value) || fabs(value) > 1e6)
            return sora_fail(error, SORA_ERROR_INPUT, "%s: frame %zu: %s: point %zu holds %g", path, frame, field, i / 2, value);
        out->points[i] = value;
    }
    return SORA_OK;
}

static sora_status read_struct(const char *path, const char *name, sora_mat_array *out, size_t *count, sora_error *error)
{
    sora_status status = sora_mat_read(path, name, out, error);
    *count = out->rows * out->columns;
    if (status != SORA_OK || (out->kind == SORA_MAT_STRUCT && *count <= MAX_FRAMES)) return status;
    sora_mat_free(out);
    return sora_fail(error, SORA_ERROR_INPUT, "%s: variable %s is no struct array of at most %d", path, name, MAX_FRAMES);
}

sora_status sora_polygons_read(const char *path, sora_polygon **hands, size_t *frames, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_mat_array array = { 0 };
    size_t count = 0;
    *hands = NULL;
    *frames = 0;
    SORA_TRY(read_struct(path, "polygons", &array, &count, error));
    SORA_TRY(sora_allocate(SORA_HANDS_PER_FRAME * count, sizeof **hands, path, hands, error));
    for (size_t i = 0; i < count; i++)
        for (int h = 0; h < SORA_HANDS_PER_FRAME; h++)
            SORA_TRY(read_points(path, i, fields[h], sora_mat_field(&array, i, fields[h]),
                                 &(*hands)[i * SORA_HANDS_PER_FRAME + (size_t)h], error));
    *frames = count;
cleanup:
    sora_mat_free(&array);
    if (status != SORA_OK) {
        sora_polygons_free(*hands, count);
        *hands = NULL;
    }
    return status;
}

/* ---- The set ----------------------------------------------------------------------------------------------------- */

static bool is_jpeg(const char *name)
{
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && dot && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0);
}

static sora_status add_video(sora_dataset *dataset, const char *labelled, const char *video, sora_error *error)
{
    sora_status status = SORA_OK;
    char *folder = NULL, *path = NULL, *name = NULL, *image = NULL, **names = NULL;
    sora_polygon *hands = NULL;
    size_t frames = 0, name_count = 0, used = 0, pictures = 0;
    SORA_TRY(sora_format(&folder, error, "%s/%s", labelled, video));
    SORA_TRY(sora_format(&path, error, "%s/polygons.mat", folder));
    SORA_TRY(sora_polygons_read(path, &hands, &frames, error));
    SORA_TRY(sora_folder_list(folder, &names, &name_count, error));
    for (size_t i = 0; i < name_count; i++) pictures += is_jpeg(names[i]);
    if (pictures != frames)
        SORA_FAIL(error, SORA_ERROR_INPUT,
                  "%s: %zu frames, but polygons.mat describes %zu: an image without a mask or a mask without an image", folder,
                  pictures, frames);
    for (size_t i = 0; i < name_count; i++) {
        sora_item *item;
        if (!is_jpeg(names[i])) continue;
        SORA_TRY(sora_format(&name, error, "%s/%.*s", video, (int)(strrchr(names[i], '.') - names[i]), names[i]));
        SORA_TRY(sora_format(&image, error, "%s/%s", folder, names[i]));
        SORA_TRY(sora_dataset_add(dataset, name, video, image, NULL, SORA_MASK_POLYGONS, &item, error));
        /* The item takes the points over. */
        memcpy(item->hands, &hands[used * SORA_HANDS_PER_FRAME], sizeof item->hands);
        memset(&hands[used * SORA_HANDS_PER_FRAME], 0, sizeof item->hands);
        used++;
        free(name);
        free(image);
        name = image = NULL;
    }
cleanup:
    sora_polygons_free(hands, frames);
    sora_names_free(names, name_count);
    free(folder);
    free(path);
    free(name);
    free(image);
    return status;
}

/* A name that could lead out of the folder is no video's. */
static bool is_plain_name(const char *name)
{
    return *name && *name != '.' && !strchr(name, '/');
}

static sora_status list_from_metadata(sora_dataset *dataset, const char *path, const char *labelled, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_mat_array videos = { 0 };
    char *folder = NULL;
    size_t count;
    SORA_TRY(read_struct(path, "video", &videos, &count, error));
    for (size_t i = 0; i < count; i++) {
        char id[256];
        const sora_mat_array *text = sora_mat_field(&videos, i, "video_id");
        size_t length = text ? text->rows * text->columns : 0;
        if (!text || text->kind != SORA_MAT_TEXT || text->rows != 1 || length >= sizeof id)
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s: video %zu has no readable video_id", path, i);
        for (size_t c = 0; c < length; c++) id[c] = text->values[c] > 31 && text->values[c] < 127 ? (char)text->values[c] : '/';
        id[length] = '\0';
        if (!is_plain_name(id))
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s: video %zu: \"%.60s\" is no name of a folder", path, i, id);
        free(folder);
        folder = NULL;
        SORA_TRY(sora_format(&folder, error, "%s/%s", labelled, id));
        if (!sora_path_is_folder(folder))
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s: no such folder, though %s names it", folder, path);
        SORA_TRY(add_video(dataset, labelled, id, error));
    }
cleanup:
    sora_mat_free(&videos);
    free(folder);
    return status;
}

static sora_status list_from_folders(sora_dataset *dataset, const char *labelled, sora_error *error)
{
    sora_status status = SORA_OK;
    char **names = NULL, *path = NULL;
    size_t count = 0;
    SORA_TRY(sora_folder_list(labelled, &names, &count, error));
    for (size_t i = 0; i < count; i++) {
        free(path);
        SORA_TRY(sora_format(&path, error, "%s/%s", labelled, names[i]));
        if (is_plain_name(names[i]) && sora_path_is_folder(path)) SORA_TRY(add_video(dataset, labelled, names[i], error));
    }
cleanup:
    sora_names_free(names, count);
    free(path);
    return status;
}

sora_status sora_egohands_list(sora_dataset *dataset, const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    char *labelled = NULL, *metadata = NULL;
    SORA_TRY(sora_format(&labelled, error, "%s/_LABELLED_SAMPLES", folder));
    SORA_TRY(sora_format(&metadata, error, "%s/metadata.mat", folder));
    if (!sora_path_is_folder(labelled)) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: expected _LABELLED_SAMPLES in it", folder);
    SORA_TRY(sora_path_exists(metadata) ? list_from_metadata(dataset, metadata, labelled, error)
                                        : list_from_folders(dataset, labelled, error));
    dataset->grouped = true;
cleanup:
    free(labelled);
    free(metadata);
    return status;
}
