/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/random.h"
#include "data/dataset_items.h"
#include "data/image_format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

typedef enum split { SPLIT_ALL, SPLIT_TRAIN, SPLIT_TEST } split;
static const char *const split_names[] = { "all", "train", "test" };

static const struct {
    const char *kind;
    sora_status (*list)(sora_dataset *dataset, const char *folder, sora_error *error);
} kinds[] = { { "egohands", sora_egohands_list }, { "gtea", sora_gtea_list }, { "pairs", sora_pairs_list } };

static void free_item(sora_item *item)
{
    free(item->name);
    free(item->group);
    free(item->image);
    free(item->mask);
    for (int i = 0; i < SORA_HANDS_PER_FRAME; i++) free(item->hands[i].points);
}

sora_status sora_dataset_add(sora_dataset *dataset, const char *name, const char *group, const char *image, const char *mask,
                             sora_mask_kind kind, sora_item **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_item item = { .kind = kind };
    SORA_TRY(sora_reserve(&dataset->items, &dataset->capacity, dataset->count + 1, sizeof item, error));
    SORA_TRY(sora_duplicate(name, &item.name, error));
    SORA_TRY(sora_duplicate(group, &item.group, error));
    SORA_TRY(sora_duplicate(image, &item.image, error));
    if (mask) SORA_TRY(sora_duplicate(mask, &item.mask, error));
    dataset->items[dataset->count] = item;
    if (out) *out = &dataset->items[dataset->count];
    dataset->count++;
    return SORA_OK;
cleanup:
    free_item(&item);
    return status;
}

void sora_dataset_close(sora_dataset **pointer)
{
    sora_dataset *dataset = *pointer;
    if (!dataset) return;
    for (size_t i = 0; i < dataset->count; i++) free_item(&dataset->items[i]);
    free(dataset->items);
    free(dataset->folder);
    free(dataset);
    *pointer = NULL;
}

size_t sora_dataset_count(const sora_dataset *dataset)
{
    return dataset->count;
}

sora_sample_info sora_dataset_info(const sora_dataset *dataset, size_t index)
{
    const sora_item *item = &dataset->items[index];
    return (sora_sample_info) { item->name, item->group, item->image };
}

/* ---- Splits ------------------------------------------------------------------------------------------------------ */

/* Groups in the order of their hashes, the first `share` of them for testing: the same whatever the order on disk. */
static int by_hash(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    uint32_t hx = sora_hash_name(x), hy = sora_hash_name(y);
    return hx != hy ? (hx > hy) - (hx < hy) : strcmp(x, y);
}

static sora_status make_split(sora_dataset *dataset, const char *spec, double share, sora_error *error)
{
    const char **groups = NULL;
    size_t count = 0;
    sora_status status = sora_allocate(dataset->count, sizeof *groups, spec, &groups, error);
    if (status != SORA_OK) return status;
    for (size_t i = 0; i < dataset->count; i++) groups[i] = dataset->items[i].group;
    qsort(groups, dataset->count, sizeof *groups, by_hash);
    for (size_t i = 0; i < dataset->count; i++)
        if (count == 0 || strcmp(groups[count - 1], groups[i]) != 0) groups[count++] = groups[i];
    if (count < 2)
        status = sora_fail(error, SORA_ERROR_INPUT,
                           "%s: all %zu images are of one group, \"%s\"; they can't be split into train and test. Use :all and "
                           "another --eval-data",
                           spec, dataset->count, count ? groups[0] : "");
    size_t tests = SORA_MAX((size_t)1, SORA_MIN(count - 1, (size_t)(share * (double)count + 0.5)));
    for (size_t i = 0; status == SORA_OK && i < dataset->count; i++) {
        const char *group = dataset->items[i].group;
        bool test = by_hash(&group, &groups[tests - 1]) <= 0;
        dataset->items[i].test_folder = test;
        dataset->items[i].train_folder = !test;
    }
    free(groups);
    return status;
}

static void keep_split(sora_dataset *dataset, split wanted)
{
    size_t kept = 0;
    for (size_t i = 0; i < dataset->count; i++) {
        sora_item *item = &dataset->items[i];
        if (wanted == SPLIT_TRAIN ? item->train_folder : item->test_folder)
            dataset->items[kept++] = *item;
        else
            free_item(item);
    }
    dataset->count = kept;
}

static sora_status split_dataset(sora_dataset *dataset, const char *spec, split wanted, double share, sora_error *error)
{
    bool has_folders = false;
    if (wanted == SPLIT_ALL) return SORA_OK;
    for (size_t i = 0; i < dataset->count; i++) has_folders |= dataset->items[i].train_folder || dataset->items[i].test_folder;
    sora_status status = has_folders ? SORA_OK : make_split(dataset, spec, share, error);
    if (status == SORA_OK) keep_split(dataset, wanted);
    return status;
}

/* KIND:DIR[:SPLIT]; a folder's name may have colons of its own. */
static sora_status parse_spec(const char *spec, const char *fallback, size_t *kind, char **folder, split *wanted,
                              sora_error *error)
{
    const char *colon = strchr(spec, ':'), *last;
    const char *text = fallback ? fallback : "all";
    *folder = NULL;
    for (*kind = 0; *kind < SORA_COUNT(kinds); ++*kind)
        if (colon && strlen(kinds[*kind].kind) == (size_t)(colon - spec) &&
            strncmp(spec, kinds[*kind].kind, (size_t)(colon - spec)) == 0)
            break;
    if (*kind == SORA_COUNT(kinds) || !colon[1])
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "data \"%.200s\": expected KIND:DIR[:SPLIT], KIND egohands, gtea or pairs, SPLIT train, test or all",
                         spec);
    last = strrchr(colon + 1, ':');
    for (int i = 0; last && i < 3; i++)
        if (strcmp(last + 1, split_names[i]) == 0) text = split_names[i];
    bool given = last && strcmp(last + 1, text) == 0;
    *wanted = strcmp(text, "train") == 0 ? SPLIT_TRAIN : strcmp(text, "test") == 0 ? SPLIT_TEST : SPLIT_ALL;
    return sora_format(folder, error, "%.*s", given ? (int)(last - colon - 1) : (int)strlen(colon + 1), colon + 1);
}

static sora_status check_sizes(const sora_item *item, sora_error *error)
{
    int width, height;
    sora_image mask = { 0 };
    sora_status status = sora_image_read_size(item->image, &width, &height, error);
    if (status == SORA_OK && item->mask) status = sora_mask_read(item->mask, item->image, width, height, 0, &mask, error);
    if (status == SORA_OK && item->mask && (width != mask.width || height != mask.height))
        status = sora_fail(error, SORA_ERROR_INPUT, "%s: %d x %d, but its image %s is %d x %d", item->mask, mask.width,
                           mask.height, item->image, width, height);
    return status;
}

sora_status sora_dataset_open(const char *spec, const sora_dataset_options *options, sora_dataset **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_dataset *dataset = NULL;
    char *folder = NULL;
    size_t kind;
    split wanted = SPLIT_ALL;
    *out = NULL;
    double share = options && options->test_share > 0.0 ? options->test_share : 0.2;
    SORA_TRY(parse_spec(spec, options ? options->fallback_split : NULL, &kind, &folder, &wanted, error));
    if (!sora_path_is_folder(folder))
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: no such folder%s", folder,
                  strchr(folder, ':') ? "; what may stand behind one is :train, :test or :all" : "");
    SORA_TRY(sora_allocate(1, sizeof *dataset, spec, &dataset, error));
    dataset->folder = realpath(folder, NULL);
    if (!dataset->folder) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: cannot be resolved", folder);
    SORA_TRY(kinds[kind].list(dataset, folder, error));
    if (dataset->count > 0) SORA_TRY(split_dataset(dataset, spec, wanted, share, error));
    if (dataset->count == 0) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: no images (%s)", folder, split_names[wanted]);
    for (size_t i = 0; i < dataset->count; i++) SORA_TRY(check_sizes(&dataset->items[i], error));
    *out = dataset;
    dataset = NULL;
cleanup:
    sora_dataset_close(&dataset);
    free(folder);
    return status;
}

/* ---- Loading ----------------------------------------------------------------------------------------------------- */

static sora_status load_mask(const sora_item *item, const sora_image *image, sora_image *out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_image label = { 0 };
    *out = (sora_image) { 0 };
    if (item->kind == SORA_MASK_POLYGONS) {
        SORA_TRY(sora_image_create(image->width, image->height, 1, out, error));
        for (int i = 0; i < SORA_HANDS_PER_FRAME; i++) SORA_TRY(sora_polygon_fill(out, &item->hands[i], error));
        goto cleanup;
    }
    bool labels = item->kind == SORA_MASK_LABEL;
    SORA_TRY(sora_mask_read(item->mask, item->image, image->width, image->height, labels ? 3 : 1, &label, error));
    if (label.width != image->width || label.height != image->height)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: %d x %d, but its image is %d x %d", item->mask, label.width, label.height,
                  image->width, image->height);
    SORA_TRY(sora_image_create(label.width, label.height, 1, out, error));
    for (size_t i = 0, n = (size_t)label.width * (size_t)label.height; i < n; i++) {
        const uint8_t *p = label.pixels + i * (size_t)label.channels;
        out->pixels[i] = (labels ? p[0] || p[1] || p[2] : p[0] > 127) ? 255 : 0;
    }
cleanup:
    sora_image_free(&label);
    if (status != SORA_OK) sora_image_free(out);
    return status;
}

sora_status sora_dataset_load(const sora_dataset *dataset, size_t index, sora_image *image, sora_image *mask, sora_error *error)
{
    const sora_item *item = &dataset->items[index];
    *mask = (sora_image) { 0 };
    sora_status status = sora_image_read(item->image, 3, image, error);
    if (status == SORA_OK) status = load_mask(item, image, mask, error);
    if (status != SORA_OK) sora_image_free(image);
    return status;
}

static size_t seen_of(const sora_dataset *dataset, size_t limit)
{
    return limit && limit < dataset->count ? limit : dataset->count;
}

sora_status sora_dataset_check_hands(const sora_dataset *dataset, size_t limit, sora_error *error)
{
    size_t seen = seen_of(dataset, limit);
    for (size_t k = 0; k < seen; k++) {
        sora_image image = { 0 }, mask = { 0 };
        sora_status status = sora_dataset_load(dataset, k * dataset->count / seen, &image, &mask, error);
        bool hand = status == SORA_OK && memchr(mask.pixels, 255, (size_t)mask.width * (size_t)mask.height) != NULL;
        sora_image_free(&image);
        sora_image_free(&mask);
        if (status != SORA_OK || hand) return status;
    }
    return sora_fail(error, SORA_ERROR_INPUT,
                     "%s: no hand in any of %zu masks; are they the right ones? A hand is above 127 in pairs' masks and in JPEG "
                     "ones, and not 0 in GTEA's PNG",
                     dataset->folder, seen);
}

sora_status sora_dataset_statistics(const sora_dataset *dataset, int size, size_t limit, float mean[3], float deviation[3],
                                    sora_error *error)
{
    sora_status status = SORA_OK;
    sora_image image = { 0 }, mask = { 0 }, small = { 0 };
    double sum[3] = { 0 }, squares[3] = { 0 }, pixels = 0.0;
    size_t seen = seen_of(dataset, limit);
    for (size_t k = 0; k < seen; k++) {
        SORA_TRY(sora_dataset_load(dataset, k * dataset->count / seen, &image, &mask, error));
        SORA_TRY(sora_image_resize(&image, size, size, &small, error));
        size_t n = (size_t)size * (size_t)size;
        for (size_t i = 0; i < 3 * n; i++) {
            double v = small.pixels[i] / 255.0;
            sum[i % 3] += v;
            squares[i % 3] += v * v;
        }
        pixels += (double)n;
        sora_image_free(&image);
        sora_image_free(&mask);
        sora_image_free(&small);
    }
    for (int c = 0; c < 3; c++) {
        mean[c] = (float)(sum[c] / pixels);
        deviation[c] = (float)sqrt(fmax(squares[c] / pixels - sum[c] / pixels * (sum[c] / pixels), 1e-12));
    }
cleanup:
    sora_image_free(&image);
    sora_image_free(&mask);
    sora_image_free(&small);
    return status;
}

/* ---- What is in a set -------------------------------------------------------------------------------------------- */

static sora_status look_at(const char *path, struct stat *info, sora_error *error)
{
    return stat(path, info) == 0 ? SORA_OK : sora_fail(error, SORA_ERROR_INPUT, "%s: gone", path);
}

static sora_status add_size(const char *path, uint64_t *hash, sora_error *error)
{
    struct stat info;
    if (!path) return SORA_OK;
    sora_status status = look_at(path, &info, error);
    if (status == SORA_OK) *hash = XXH64(&info.st_size, sizeof info.st_size, *hash);
    return status;
}

sora_status sora_dataset_hash(const sora_dataset *dataset, uint64_t seed, uint64_t *out, sora_error *error)
{
    sora_status status = SORA_OK;
    uint64_t hash = seed;
    for (size_t i = 0; i < dataset->count; i++) {
        const sora_item *item = &dataset->items[i];
        hash = XXH64(item->name, strlen(item->name), hash);
        hash = XXH64(item->group, strlen(item->group), hash);
        for (int h = 0; h < SORA_HANDS_PER_FRAME; h++)
            if (item->hands[h].count > 0)
                hash = XXH64(item->hands[h].points, 2 * item->hands[h].count * sizeof *item->hands[h].points, hash);
        SORA_TRY(add_size(item->image, &hash, error));
        SORA_TRY(add_size(item->mask, &hash, error));
    }
    *out = hash;
cleanup:
    return status;
}

/* ---- Two sets ---------------------------------------------------------------------------------------------------- */

typedef struct fingerprint {
    const sora_item *item;
    dev_t device;
    ino_t inode;
    off_t bytes;
    uint64_t hash; /* of the content; 0: not taken yet */
} fingerprint;

static sora_status take_fingerprints(const sora_dataset *dataset, fingerprint **out, sora_error *error)
{
    sora_status status = sora_allocate(dataset->count, sizeof **out, "comparison of sets", out, error);
    for (size_t i = 0; status == SORA_OK && i < dataset->count; i++) {
        struct stat info;
        status = look_at(dataset->items[i].image, &info, error);
        if (status == SORA_OK) (*out)[i] = (fingerprint) { &dataset->items[i], info.st_dev, info.st_ino, info.st_size, 0 };
    }
    return status;
}

static int by_bytes(const void *a, const void *b)
{
    off_t x = ((const fingerprint *)a)->bytes, y = ((const fingerprint *)b)->bytes;
    return (x > y) - (x < y);
}

static sora_status hash_of(fingerprint *f, sora_error *error)
{
    unsigned char *data;
    size_t bytes;
    if (f->hash) return SORA_OK;
    sora_status status = sora_file_read(f->item->image, (size_t)1 << 30, &data, &bytes, error);
    if (status != SORA_OK) return status;
    f->hash = XXH3_64bits(data, bytes) | 1;
    free(data);
    return SORA_OK;
}

static sora_status check_files(const sora_dataset *a, const sora_dataset *b, sora_error *error)
{
    sora_status status = SORA_OK;
    fingerprint *left = NULL, *right = NULL;
    SORA_TRY(take_fingerprints(a, &left, error));
    SORA_TRY(take_fingerprints(b, &right, error));
    qsort(left, a->count, sizeof *left, by_bytes);
    qsort(right, b->count, sizeof *right, by_bytes);
    for (size_t i = 0, first = 0; i < a->count; i++) {
        while (first < b->count && right[first].bytes < left[i].bytes) first++;
        for (size_t j = first; j < b->count && right[j].bytes == left[i].bytes; j++) {
            bool same = left[i].device == right[j].device && left[i].inode == right[j].inode;
            if (!same) {
                SORA_TRY(hash_of(&left[i], error));
                SORA_TRY(hash_of(&right[j], error));
                same = left[i].hash == right[j].hash;
            }
            if (same)
                SORA_FAIL(error, SORA_ERROR_INPUT, "training and evaluation overlap: %s and %s are the same picture",
                          left[i].item->image, right[j].item->image);
        }
    }
cleanup:
    free(left);
    free(right);
    return status;
}

sora_status sora_dataset_check_disjoint(const sora_dataset *a, const sora_dataset *b, sora_error *error)
{
    if (a->grouped && b->grouped && strcmp(a->folder, b->folder) == 0) {
        for (size_t i = 0; i < a->count; i++)
            for (size_t j = 0; j < b->count; j++)
                if (strcmp(a->items[i].group, b->items[j].group) == 0)
                    return sora_fail(error, SORA_ERROR_INPUT, "training and evaluation overlap: \"%s\" is in both",
                                     a->items[i].group);
    }
    return check_files(a, b, error);
}
