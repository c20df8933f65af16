/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "data/dataset_items.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_picture(const char *name)
{
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && dot &&
           (strcasecmp(dot, ".png") == 0 || strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0);
}

static size_t stem_length(const char *name)
{
    return (size_t)(strrchr(name, '.') - name);
}

static bool same_stem(const char *a, const char *b)
{
    size_t length = stem_length(a);
    return length == stem_length(b) && strncmp(a, b, length) == 0;
}

/* The name of `list` with the stem of `name`; NULL if there is none. */
static const char *find_stem(char *const *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (is_picture(list[i]) && same_stem(list[i], name)) return list[i];
    return NULL;
}

/* Of two pictures of one stem the first would be taken for both. */
static sora_status check_stems(const char *folder, char *const *list, size_t count, sora_error *error)
{
    for (size_t i = 1; i < count; i++) {
        const char *earlier = is_picture(list[i]) ? find_stem(list, i, list[i]) : NULL;
        if (earlier)
            return sora_fail(error, SORA_ERROR_INPUT, "%s/%s: beside %s of the same stem; expected one picture of each", folder,
                             list[i], earlier);
    }
    return SORA_OK;
}

static bool is_jpeg(const char *name)
{
    const char *dot = strrchr(name, '.');
    return strcasecmp(dot, ".png") != 0;
}

static sora_status add_pair(sora_dataset *dataset, const char *images, const char *masks, const char *prefix, const char *image,
                            const char *mask, char *(*group_of)(const char *stem), bool labels, bool train, bool test,
                            sora_error *error)
{
    sora_status status = SORA_OK;
    char *stem = NULL, *name = NULL, *group = NULL, *image_path = NULL, *mask_path = NULL;
    sora_item *item;
    SORA_TRY(sora_format(&stem, error, "%.*s", (int)stem_length(image), image));
    SORA_TRY(sora_format(&name, error, "%s%s", prefix, stem));
    SORA_TRY(sora_format(&image_path, error, "%s/%s", images, image));
    SORA_TRY(sora_format(&mask_path, error, "%s/%s", masks, mask));
    group = group_of(name);
    if (!group) SORA_FAIL(error, SORA_ERROR_MEMORY, "%s: no host memory", image_path);
    SORA_TRY(sora_dataset_add(dataset, name, group, image_path, mask_path,
                              labels && !is_jpeg(mask) ? SORA_MASK_LABEL : SORA_MASK_ABOVE_127, &item, error));
    item->train_folder = train;
    item->test_folder = test;
cleanup:
    free(stem);
    free(name);
    free(group);
    free(image_path);
    free(mask_path);
    return status;
}

sora_status sora_pairs_add(sora_dataset *dataset, const char *images, const char *masks, const char *prefix,
                           char *(*group_of)(const char *stem), bool labels, bool train, bool test, sora_error *error)
{
    sora_status status = SORA_OK;
    char **image_names = NULL, **mask_names = NULL;
    size_t image_count = 0, mask_count = 0;
    SORA_TRY(sora_folder_list(images, &image_names, &image_count, error));
    SORA_TRY(sora_folder_list(masks, &mask_names, &mask_count, error));
    SORA_TRY(check_stems(images, image_names, image_count, error));
    SORA_TRY(check_stems(masks, mask_names, mask_count, error));
    for (size_t i = 0; i < image_count; i++) {
        if (!is_picture(image_names[i])) continue;
        const char *mask = find_stem(mask_names, mask_count, image_names[i]);
        if (!mask)
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s/%s: an image without a mask; expected one of the same stem in %s", images,
                      image_names[i], masks);
        SORA_TRY(add_pair(dataset, images, masks, prefix, image_names[i], mask, group_of, labels, train, test, error));
    }
    for (size_t i = 0; i < mask_count; i++)
        if (is_picture(mask_names[i]) && !find_stem(image_names, image_count, mask_names[i]))
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s/%s: a mask without an image; expected one of the same stem in %s", masks,
                      mask_names[i], images);
cleanup:
    sora_names_free(image_names, image_count);
    sora_names_free(mask_names, mask_count);
    return status;
}

static char *group_of_file(const char *stem)
{
    return strdup(stem);
}

sora_status sora_pairs_list(sora_dataset *dataset, const char *folder, sora_error *error)
{
    static const char *const splits[] = { "", "train", "test" };
    sora_status status = SORA_OK;
    char *images = NULL, *masks = NULL, *prefix = NULL;
    bool any = false;
    for (int i = 0; i < 3; i++) {
        const char *slash = i ? "/" : "";
        SORA_TRY(sora_format(&images, error, "%s/%s%simg", folder, splits[i], slash));
        SORA_TRY(sora_format(&masks, error, "%s/%s%smask", folder, splits[i], slash));
        SORA_TRY(sora_format(&prefix, error, "%s%s", splits[i], slash));
        if (sora_path_is_folder(images)) {
            if (!sora_path_is_folder(masks))
                SORA_FAIL(error, SORA_ERROR_INPUT, "%s: there is no such folder beside %s", masks, images);
            SORA_TRY(sora_pairs_add(dataset, images, masks, prefix, group_of_file, false, i == 1, i == 2, error));
            any = true;
        }
        free(images);
        free(masks);
        free(prefix);
        images = masks = prefix = NULL;
        if (any && i == 0) break;
    }
    if (!any)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: expected img and mask in it, or train/img, train/mask, test/img and test/mask",
                  folder);
cleanup:
    free(images);
    free(masks);
    free(prefix);
    return status;
}
