/* SPDX-License-Identifier: Apache-2.0 */
/* Sets on disk, their batches and metrics. */
#include "soracl/dataset.h"
#include "../fixture.h"
#include "base/file.h"
#include "base/memory.h"
#include "data/dataset_items.h"
#include "data/mask_metrics.h"

#include <math.h>
#include <signal.h>

static const char *spec(const char *kind, const char *name)
{
    static char text[200];
    snprintf(text, sizeof text, "%s:%s/%s", kind, folder, name);
    return text;
}

static void write_image(const char *path, int width, int height, int channels, int value)
{
    sora_error error;
    sora_image image;
    OK(sora_image_create(width, height, channels, &image, &error));
    for (int i = 0; i < width * height * channels; i++) image.pixels[i] = (uint8_t)(value < 0 ? i * 37 : value);
    OK(sora_image_write_png(path, &image, &error));
    sora_image_free(&image);
}

/* NAME/img and NAME/mask with that many pairs of 16 × 12; masks are white on the left half. */
static void make_pairs(const char *name, int count, int tint)
{
    sora_error error;
    char text[64];
    snprintf(text, sizeof text, "%s/img", name);
    OK(sora_folder_create(at(text), &error));
    snprintf(text, sizeof text, "%s/mask", name);
    OK(sora_folder_create(at(text), &error));
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%s/img/p%02d.png", name, i);
        write_image(at(text), 16, 12, 3, tint + 3 * i);
        snprintf(text, sizeof text, "%s/mask/p%02d.png", name, i);
        sora_image mask;
        OK(sora_image_create(16, 12, 1, &mask, &error));
        for (int p = 0; p < 16 * 12; p++) mask.pixels[p] = p % 16 < 8 ? 255 : 0;
        OK(sora_image_write_png(at(text), &mask, &error));
        sora_image_free(&mask);
    }
}

static sora_status try_open(const char *text, sora_error *error)
{
    sora_dataset *dataset;
    sora_status status = sora_dataset_open(text, NULL, &dataset, error);
    if (!status) sora_dataset_close(&dataset);
    return status;
}

static void test_specs_and_broken_sets(void **state)
{
    (void)state;
    sora_error error;
    FAILS(try_open("nonsense", &error), SORA_ERROR_ARGUMENT, "egohands, gtea or pairs");
    FAILS(try_open("video:/tmp", &error), SORA_ERROR_ARGUMENT, "KIND:DIR");
    FAILS(try_open("pairs:", &error), SORA_ERROR_ARGUMENT, "KIND:DIR");
    FAILS(try_open(spec("pairs", "absent"), &error), SORA_ERROR_INPUT, "absent");
    make_pairs("lonely", 3, 10);
    remove(at("lonely/mask/p01.png"));
    FAILS(try_open(spec("pairs", "lonely"), &error), SORA_ERROR_INPUT, "p01");
    make_pairs("lonely", 3, 10);
    remove(at("lonely/img/p02.png"));
    FAILS(try_open(spec("pairs", "lonely"), &error), SORA_ERROR_INPUT, "p02");
    make_pairs("uneven", 3, 10);
    write_image(at("uneven/mask/p00.png"), 16, 13, 1, 255);
    FAILS(try_open(spec("pairs", "uneven"), &error), SORA_ERROR_INPUT, "16 x 13");
    make_pairs("empty", 3, 10);
    for (int i = 0; i < 3; i++) {
        char text[32];
        snprintf(text, sizeof text, "empty/mask/p%02d.png", i);
        write_image(at(text), 16, 12, 1, 0);
    }
    sora_dataset *dataset;
    OK(sora_dataset_open(spec("pairs", "empty"), NULL, &dataset, &error));
    FAILS(sora_dataset_check_hands(dataset, 0, &error), SORA_ERROR_INPUT, "no hand");
    sora_dataset_close(&dataset);
}

static uint64_t hash_of(const char *set, const char *split)
{
    sora_error error;
    sora_dataset *dataset;
    char text[220];
    uint64_t hash;
    snprintf(text, sizeof text, "%s:%s", spec("pairs", set), split);
    OK(sora_dataset_open(text, NULL, &dataset, &error));
    OK(sora_dataset_hash(dataset, 5, &hash, &error));
    sora_dataset_close(&dataset);
    return hash;
}

/* A set's hash is that of a copy elsewhere, and another once a picture or a mask is another file, or is missing. */
static void test_hash(void **state)
{
    (void)state;
    sora_error error;
    sora_dataset *dataset;
    uint64_t hash, other;
    make_pairs("hashed", 6, 1);
    make_pairs("hashed2", 6, 1);
    hash = hash_of("hashed", "all");
    assert_true(hash == hash_of("hashed2", "all") && hash != hash_of("hashed", "train"));
    OK(sora_dataset_open(spec("pairs", "hashed2"), NULL, &dataset, &error));
    OK(sora_dataset_hash(dataset, 6, &other, &error));
    assert_true(hash != other);
    static const char *const files[] = { "hashed2/mask/p02.png", "hashed2/img/p01.png" };
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(at(files[i]), "ab");
        assert_non_null(file);
        fputc('x', file);
        assert_int_equal(fclose(file), 0);
        assert_true(hash != (other = hash_of("hashed2", "all")));
        hash = other;
    }
    assert_int_equal(remove(at("hashed2/img/p01.png")), 0);
    FAILS(sora_dataset_hash(dataset, 5, &hash, &error), SORA_ERROR_INPUT, "p01.png: gone");
    sora_dataset_close(&dataset);
}

static void test_splits_are_disjoint(void **state)
{
    (void)state;
    sora_error error;
    sora_dataset *train, *test, *all, *other;
    char text[220];
    make_pairs("splits", 20, 1);
    make_pairs("copied", 1, 1); /* the same bytes as splits/img/p00.png */
    OK(sora_dataset_open(spec("pairs", "splits"), NULL, &all, &error));
    snprintf(text, sizeof text, "%s:train", spec("pairs", "splits"));
    OK(sora_dataset_open(text, NULL, &train, &error));
    snprintf(text, sizeof text, "%s:test", spec("pairs", "splits"));
    OK(sora_dataset_open(text, NULL, &test, &error));
    OK(sora_dataset_open(spec("pairs", "copied"), NULL, &other, &error));
    assert_int_equal(sora_dataset_count(all), 20);
    assert_int_equal(sora_dataset_count(train) + sora_dataset_count(test), 20);
    assert_true(sora_dataset_count(test) >= 1 && sora_dataset_count(train) >= 10);
    OK(sora_dataset_check_disjoint(train, test, &error));
    FAILS(sora_dataset_check_disjoint(all, test, &error), SORA_ERROR_INPUT, "p");
    FAILS(sora_dataset_check_disjoint(all, other, &error), SORA_ERROR_INPUT, "p00");
    sora_dataset_close(&train);
    sora_dataset_close(&test);
    sora_dataset_close(&all);
    sora_dataset_close(&other);
}

/* ---- Drawn sets -------------------------------------------------------------------------------------------------- */

/* Both layouts are read back by their own readers: as many images, hands in them, and equal bytes for equal seeds. */
static void test_drawn_sets(void **state)
{
    (void)state;
    const char *layouts[] = { "egohands", "gtea" };
    for (int i = 0; i < 2; i++) {
        sora_error error;
        sora_dataset *dataset, *again, *other;
        char text[220];
        for (int copy = 0; copy < 3; copy++) {
            snprintf(text, sizeof text, "%s%d", layouts[i], copy);
            OK(sora_hands_draw(at(text),
                               &(sora_hands_options) {
                                   .layout = layouts[i], .images = 12, .width = 96, .height = 54, .seed = copy == 2 ? 8 : 7 },
                               &error));
        }
        snprintf(text, sizeof text, "%s:%s/%s0", layouts[i], folder, layouts[i]);
        OK(sora_dataset_open(text, NULL, &dataset, &error));
        snprintf(text, sizeof text, "%s:%s/%s1", layouts[i], folder, layouts[i]);
        OK(sora_dataset_open(text, NULL, &again, &error));
        snprintf(text, sizeof text, "%s:%s/%s2", layouts[i], folder, layouts[i]);
        OK(sora_dataset_open(text, NULL, &other, &error));
        assert_int_equal(sora_dataset_count(dataset), 12);
        uint64_t hand = 0, pixels = 0, unequal = 0;
        for (size_t k = 0; k < 12; k++) {
            sora_image image, mask, image2, mask2;
            OK(sora_dataset_load(dataset, k, &image, &mask, &error));
            OK(sora_dataset_load(again, k, &image2, &mask2, &error));
            size_t n = (size_t)image.width * image.height;
            assert_memory_equal(image.pixels, image2.pixels, 3 * n);
            assert_memory_equal(mask.pixels, mask2.pixels, n);
            for (size_t p = 0; p < n; p++) hand += mask.pixels[p] == 255;
            pixels += n;
            sora_image_free(&image2);
            sora_image_free(&mask2);
            OK(sora_dataset_load(other, k, &image2, &mask2, &error));
            unequal += memcmp(image.pixels, image2.pixels, 3 * n) != 0;
            sora_image_free(&image);
            sora_image_free(&mask);
            sora_image_free(&image2);
            sora_image_free(&mask2);
        }
        double share = (double)hand / (double)pixels;
        print_message("# %s: %.1f %% hand\n", layouts[i], 100 * share);
        assert_true(share > 0.02 && share < 0.4);
        assert_int_equal(unequal, 12);
        sora_dataset_close(&dataset);
        sora_dataset_close(&again);
        sora_dataset_close(&other);
    }
}

/* ---- Polygons ---------------------------------------------------------------------------------------------------- */

static void test_polygons(void **state)
{
    (void)state;
    sora_error error;
    sora_image mask;
    double square[] = { 2, 1, 5, 1, 5, 3, 2, 3 }, outside[] = { -10, -10, 30, -10, 30, 30, -10, 30 },
           nan[] = { 1, NAN, 2, 2, 3, 1 };
    int count = 0;
    OK(sora_image_create(8, 6, 1, &mask, &error));
    OK(sora_polygon_fill(&mask, &(sora_polygon) { square, 4 }, &error));
    for (int y = 0; y < 6; y++)
        for (int x = 0; x < 8; x++) assert_int_equal(mask.pixels[y * 8 + x] == 255, x >= 2 && x <= 5 && y >= 1 && y <= 3);
    OK(sora_polygon_fill(&mask, &(sora_polygon) { NULL, 0 }, &error));
    sora_status status = sora_polygon_fill(&mask, &(sora_polygon) { nan, 3 }, &error);
    assert_true(status == SORA_OK || status == SORA_ERROR_INPUT);
    OK(sora_polygon_fill(&mask, &(sora_polygon) { outside, 4 }, &error));
    for (int i = 0; i < 48; i++) count += mask.pixels[i] == 255;
    assert_int_equal(count, 48);
    sora_image_free(&mask);
}

/* Every prefix of a polygons.mat and every byte of it changed: hands or a message. */
static void test_broken_polygon_files(void **state)
{
    (void)state;
    sora_error error;
    char **videos, path[256];
    unsigned char *bytes;
    size_t count, video_count, frames, refused = 0;
    sora_polygon *hands;
    OK(sora_hands_draw(at("broken"), &(sora_hands_options) { .layout = "egohands", .images = 4, .width = 32, .height = 18 },
                       &error));
    OK(sora_folder_list(at("broken/_LABELLED_SAMPLES"), &videos, &video_count, &error));
    snprintf(path, sizeof path, "%s/%s/polygons.mat", at("broken/_LABELLED_SAMPLES"), videos[0]);
    sora_names_free(videos, video_count);
    OK(sora_file_read(path, 1 << 24, &bytes, &count, &error));
    for (size_t i = 0; i < count; i += i < 2000 ? 1 : 41) {
        for (int cut = 0; cut < 2; cut++) {
            unsigned char kept = bytes[i];
            bytes[i] ^= (unsigned char)(1 + i % 255);
            OK(sora_file_write(at("polygons.mat"), bytes, cut ? i : count, &error));
            bytes[i] = kept;
            sora_status status = sora_polygons_read(at("polygons.mat"), &hands, &frames, &error);
            if (status != SORA_OK && status != SORA_ERROR_INPUT && status != SORA_ERROR_MEMORY) fail_msg("%s", error.message);
            refused += status != SORA_OK;
            if (status == SORA_OK) sora_polygons_free(hands, frames);
        }
    }
    print_message("# %zu broken files refused\n", refused);
    free(bytes);
}

/* On a disk that takes a part of polygons.mat, drawing fails, and leaves no file of that name. A limit on file sizes stands for
 * the disk. */
static void test_drawn_polygons_are_whole(void **state)
{
    (void)state;
    sora_error error;
    char **names, whole[256], text[512];
    unsigned char *bytes;
    size_t count, largest = 0;
    struct rlimit before, limit;
    const sora_hands_options options = { .layout = "egohands", .images = 4, .width = 32, .height = 32, .seed = 1 };
    OK(sora_hands_draw(at("whole"), &options, &error));
    snprintf(whole, sizeof whole, "%s", at("whole/_LABELLED_SAMPLES"));
    OK(sora_folder_list(whole, &names, &count, &error));
    for (size_t i = 0, size; i < count; i++) {
        snprintf(text, sizeof text, "%s/%s/polygons.mat", whole, names[i]);
        OK(sora_file_read(text, 1 << 20, &bytes, &size, &error));
        largest = SORA_MAX(largest, size);
        free(bytes);
    }
    sora_names_free(names, count);
    assert_in_range(largest, 1500, 1 << 20); /* larger than any of the images */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = largest - 100;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    memset(&error, 0, sizeof error);
    sora_status status = sora_hands_draw(at("full"), &options, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, SORA_ERROR_IO);
    char *end = strstr(error.message, "polygons.mat: cannot write");
    assert_non_null(end);
    snprintf(text, sizeof text, "%.*s", (int)(end - 1 - error.message), error.message);
    OK(sora_folder_list(text, &names, &count, &error));
    assert_int_equal(count, 2); /* the images */
    sora_names_free(names, count);
}

/* ---- Batches ----------------------------------------------------------------------------------------------------- */

enum { SIZE = 24 };

/* A digest of so many batches: every sample, pixel and mask in order. */
static uint64_t digest(const sora_dataset *dataset, int threads, uint64_t start, int batches, uint64_t seed)
{
    sora_error error;
    sora_loader *loader;
    sora_batch batch;
    uint64_t hash = 1469598103934665603u;
    OK(sora_loader_create(dataset,
                          &(sora_loader_options) { .size = SIZE,
                                                   .batch = 3,
                                                   .shuffle = true,
                                                   .augment = true,
                                                   .seed = seed,
                                                   .threads = threads,
                                                   .mean = { 0.5f, 0.5f, 0.5f },
                                                   .deviation = { 0.2f, 0.2f, 0.2f },
                                                   .start_batch = start },
                          &loader, &error));
    assert_int_equal(sora_loader_batches_per_epoch(loader), 4); /* 10 images: 3 3 3 1 */
    for (int b = 0; b < batches; b++) {
        OK(sora_loader_next(loader, &batch, &error));
        assert_int_equal(batch.index, start + (uint64_t)b);
        assert_int_equal(batch.count, batch.index % 4 == 3 ? 1 : 3);
        assert_int_equal(batch.epoch, batch.index / 4);
        const unsigned char *parts[] = { (const void *)batch.images, (const void *)batch.masks, (const void *)batch.samples };
        const size_t bytes[] = { 3 * SIZE * SIZE * 4, SIZE * SIZE * 4, 4 };
        for (int p = 0; p < 3; p++)
            for (size_t i = 0; i < bytes[p] * (size_t)batch.count; i++) hash = (hash ^ parts[p][i]) * 1099511628211u;
        for (int i = 0; i < SIZE * SIZE * batch.count; i++) assert_true(batch.masks[i] == 0 || batch.masks[i] == 1);
    }
    sora_loader_destroy(&loader);
    return hash;
}

static void test_loader(void **state)
{
    (void)state;
    sora_error error;
    sora_dataset *dataset;
    make_pairs("loader", 10, 30);
    OK(sora_dataset_open(spec("pairs", "loader"), NULL, &dataset, &error));
    uint64_t one = digest(dataset, 1, 0, 9, 5);
    assert_true(one == digest(dataset, 4, 0, 9, 5));  /* threads change nothing */
    assert_true(one == digest(dataset, 11, 0, 9, 5)); /* more threads than images */
    assert_true(one != digest(dataset, 1, 0, 9, 6));
    assert_true(digest(dataset, 2, 5, 3, 5) == digest(dataset, 1, 5, 3, 5));

    /* Every sample once an epoch, and the start in the middle is the rest of what began before it. */
    sora_loader *loader, *late;
    sora_batch batch, behind;
    const sora_loader_options options = { .size = SIZE, .batch = 3, .shuffle = true, .seed = 9 };
    sora_loader_options later = options;
    later.start_batch = 2;
    OK(sora_loader_create(dataset, &options, &loader, &error));
    OK(sora_loader_create(dataset, &later, &late, &error));
    int seen[10] = { 0 };
    for (int b = 0; b < 8; b++) {
        OK(sora_loader_next(loader, &batch, &error));
        for (int i = 0; i < batch.count; i++) seen[batch.samples[i]]++;
        if (b < 2) continue;
        OK(sora_loader_next(late, &behind, &error));
        assert_int_equal(behind.index, b);
        assert_memory_equal(behind.samples, batch.samples, (size_t)batch.count * sizeof *batch.samples);
        assert_memory_equal(behind.images, batch.images, (size_t)batch.count * 3 * SIZE * SIZE * sizeof(float));
    }
    for (int i = 0; i < 10; i++) assert_int_equal(seen[i], 2);
    sora_loader_destroy(&loader);
    sora_loader_destroy(&late);
    sora_dataset_close(&dataset);
}

/* An image that breaks after the set was opened is an error of the batch that needs it, not a hang. */
static void test_loader_meets_a_broken_image(void **state)
{
    (void)state;
    sora_error error;
    sora_dataset *dataset;
    sora_loader *loader;
    sora_batch batch;
    sora_status status = SORA_OK;
    make_pairs("breaking", 6, 20);
    OK(sora_dataset_open(spec("pairs", "breaking"), NULL, &dataset, &error));
    OK(sora_file_write(at("breaking/img/p03.png"), "broken", 6, &error));
    OK(sora_loader_create(dataset, &(sora_loader_options) { .size = SIZE, .batch = 2, .threads = 3 }, &loader, &error));
    for (int b = 0; b < 3 && !status; b++) status = sora_loader_next(loader, &batch, &error);
    assert_int_equal(status, SORA_ERROR_INPUT);
    assert_non_null(strstr(error.message, "p03"));
    sora_loader_destroy(&loader);
    sora_dataset_close(&dataset);
}

/* ---- Metrics ----------------------------------------------------------------------------------------------------- */

/* Image 1: TP 2, FP 1, FN 1 of 8; image 2: empty in both; image 3: hand missed whole. By hand: per image (2/4 + 0) / 2; pooled
 * 2 / 6; background (4 + 8 + 6) / (18 + 4); dice 4/8; precision 2/3, recall 2/5. */
static void test_metrics(void **state)
{
    (void)state;
    const float p[8] = { 0.9f, 0.5f, 0.8f, 0.1f, 0.49f, 0, 0, 0 }, t[8] = { 1, 1, 0, 1, 0, 0, 0, 0 };
    const float none[8] = { 0 }, missed[8] = { 0, 0, 0, 0, 0, 0, 1, 1 };
    sora_mask_counts counts[3] = { sora_mask_count(p, t, 8, 0.5f), sora_mask_count(none, none, 8, 0.5f),
                                   sora_mask_count(none, missed, 8, 0.5f) };
    sora_mask_metrics m = sora_mask_summary(counts, 3);
    assert_true(counts[0].true_positive == 2 && counts[0].false_positive == 1 && counts[0].false_negative == 1);
    assert_true(m.images == 3 && m.images_scored == 2);
    assert_true(fabs(m.iou_per_image - 0.25) < 1e-12);
    assert_true(fabs(m.iou_pooled - 2.0 / 6) < 1e-12);
    assert_true(fabs(m.miou_two_class - (2.0 / 6 + 18.0 / 22) / 2) < 1e-12);
    assert_true(fabs(m.dice - 0.5) < 1e-12);
    assert_true(fabs(m.precision - 2.0 / 3) < 1e-12 && fabs(m.recall - 0.4) < 1e-12);
    assert_true(fabs(m.positive_share - 3.0 / 24) < 1e-12);
    m = sora_mask_summary(counts + 1, 1);
    assert_true(m.iou_per_image == 0 && m.images_scored == 0 && m.dice == 0);
}

static void test_bootstrap(void **state)
{
    (void)state;
    sora_error error;
    sora_mask_counts a[40], b[40];
    double difference, low, high, low2, high2;
    for (int i = 0; i < 40; i++) {
        a[i] = (sora_mask_counts) { .true_positive = (uint64_t)(60 + i % 7), .false_positive = 20, .true_negative = 100 };
        b[i] = (sora_mask_counts) { .true_positive = (uint64_t)(40 + i % 5), .false_positive = 40, .true_negative = 100 };
    }
    OK(sora_mask_bootstrap(a, b, 40, 2000, 1, &difference, &low, &high, &error));
    double mean = 0, square = 0;
    for (int i = 0; i < 40; i++) {
        double d = sora_mask_iou(&a[i]) - sora_mask_iou(&b[i]);
        mean += d / 40;
        square += d * d / 40;
    }
    double half = 1.96 * sqrt((square - mean * mean) / 40);
    assert_true(fabs(difference - mean) < 1e-12);
    assert_true(fabs(low - (mean - half)) < 0.3 * half && fabs(high - (mean + half)) < 0.3 * half);
    OK(sora_mask_bootstrap(a, b, 40, 2000, 1, &difference, &low2, &high2, &error));
    assert_true(low == low2 && high == high2);
    OK(sora_mask_bootstrap(a, a, 40, 100, 1, &difference, &low, &high, &error));
    assert_true(difference == 0 && low == 0 && high == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_specs_and_broken_sets),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_splits_are_disjoint),
        cmocka_unit_test(test_drawn_sets),
        cmocka_unit_test(test_polygons),
        cmocka_unit_test(test_broken_polygon_files),
        cmocka_unit_test(test_drawn_polygons_are_whole),
        cmocka_unit_test(test_loader),
        cmocka_unit_test(test_loader_meets_a_broken_image),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_bootstrap),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
