/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "data/dataset_items.h"

#include <stdlib.h>
#include <string.h>

/* "s2_cheese_01_0023": the subject is what stands before the first underscore. */
static char *subject_of(const char *stem)
{
    return strndup(stem, strcspn(stem, "_"));
}

/* The study's split: subject 2 is for testing. Sets of other subjects are split by group like any other. */
static void split_by_subject(sora_dataset *dataset)
{
    bool has_s2 = false, has_other = false;
    for (size_t i = 0; i < dataset->count; i++) {
        bool s2 = strcasecmp(dataset->items[i].group, "s2") == 0;
        has_s2 |= s2;
        has_other |= !s2;
    }
    for (size_t i = 0; has_s2 && has_other && i < dataset->count; i++) {
        sora_item *item = &dataset->items[i];
        item->test_folder = strcasecmp(item->group, "s2") == 0;
        item->train_folder = !item->test_folder;
    }
}

sora_status sora_gtea_list(sora_dataset *dataset, const char *folder, sora_error *error)
{
    static const char *const places[] = { "GTEA/", "" };
    sora_status status = SORA_OK;
    char *images = NULL, *masks = NULL;
    for (int i = 0; i < 2; i++) {
        free(images);
        free(masks);
        images = masks = NULL;
        SORA_TRY(sora_format(&images, error, "%s/%sImages", folder, places[i]));
        SORA_TRY(sora_format(&masks, error, "%s/%sMasks", folder, places[i]));
        if (!sora_path_is_folder(images) || !sora_path_is_folder(masks)) continue;
        SORA_TRY(sora_pairs_add(dataset, images, masks, "", subject_of, true, false, false, error));
        split_by_subject(dataset);
        dataset->grouped = true;
        goto cleanup;
    }
    SORA_FAIL(error, SORA_ERROR_INPUT, "%s: expected GTEA/Images and GTEA/Masks, or Images and Masks, in it", folder);
cleanup:
    free(images);
    free(masks);
    return status;
}
