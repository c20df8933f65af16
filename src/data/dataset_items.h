/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_DATASET_ITEMS_H
#define SORA_DATA_DATASET_ITEMS_H

#include "base/memory.h"
#include "data/polygon.h"
#include "soracl/dataset.h"

#define SORA_HANDS_PER_FRAME 4

typedef enum sora_mask_kind {
    SORA_MASK_ABOVE_127, /* grey */
    SORA_MASK_LABEL,     /* any colour but black */
    SORA_MASK_POLYGONS,
} sora_mask_kind;

typedef struct sora_item {
    char *name, *group, *image, *mask; /* mask NULL: polygons */
    sora_mask_kind kind;
    sora_polygon hands[SORA_HANDS_PER_FRAME];
    bool test_folder, train_folder; /* stands in a folder of that split */
} sora_item;

struct sora_dataset {
    char *folder; /* resolved */
    bool grouped; /* groups are videos or subjects, which mean the same in every set of this folder */
    sora_item *items;
    size_t count, capacity;
};

/* Adds an item whose strings are copied; *out (may be NULL) points to it until the next one is added. */
sora_status sora_dataset_add(sora_dataset *dataset, const char *name, const char *group, const char *image, const char *mask,
                             sora_mask_kind kind, sora_item **out, sora_error *error);

/* One reader for each kind; they list everything, splits are made after. */
sora_status sora_egohands_list(sora_dataset *dataset, const char *folder, sora_error *error);
sora_status sora_gtea_list(sora_dataset *dataset, const char *folder, sora_error *error);
sora_status sora_pairs_list(sora_dataset *dataset, const char *folder, sora_error *error);

/* Adds every image of a folder with the mask of equal stem; either without the other is refused by name. group_of makes the group
 * of a stem (the caller's, free()). */
sora_status sora_pairs_add(sora_dataset *dataset, const char *images, const char *masks, const char *prefix,
                           char *(*group_of)(const char *stem), bool labels, bool train, bool test, sora_error *error);

/* The hands of every frame of a polygons.mat: *frames[4 · count], the caller's with the points (sora_polygons_free). */
sora_status sora_polygons_read(const char *path, sora_polygon **hands, size_t *frames, sora_error *error);
void sora_polygons_free(sora_polygon *hands, size_t frames);

#endif
