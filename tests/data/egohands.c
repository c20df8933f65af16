/* SPDX-License-Identifier: Apache-2.0 */
/* EgoHands' real polygons.mat files, where SORACL_TEST_DATA has them. */
#include "../test.h"
#include "base/file.h"
#include "data/dataset_items.h"

#include <math.h>

static const char *data;

static double outline(const sora_polygon *polygon)
{
    double length = 0;
    for (size_t i = 0; i < polygon->count; i++) {
        const double *a = polygon->points + 2 * i, *b = polygon->points + 2 * ((i + 1) % polygon->count);
        length += hypot(b[0] - a[0], b[1] - a[1]);
    }
    return length;
}

/* All 4,800 frames of EgoHands: points and hands as counted, areas within one row of pixels along each outline. */
static void test_egohands_reference(void **state)
{
    (void)state;
    char path[1024], line[512], video[64] = "", current[64] = "", frame[64];
    FILE *reference;
    sora_error error;
    sora_polygon *hands = NULL;
    size_t frames = 0, index = 0, seen = 0;
    double worst = 0, total = 0, wrong = 0;
    snprintf(path, sizeof path, "%s/egohands/per_frame_reference.csv", data);
    reference = fopen(path, "r");
    assert_non_null(reference);
    assert_non_null(fgets(line, sizeof line, reference));
    while (fgets(line, sizeof line, reference)) {
        int count, points[4], area;
        assert_int_equal(sscanf(line, "%63[^,],%63[^,],%d,%d,%d,%d,%d,%d", video, frame, &count, &points[0], &points[1],
                                &points[2], &points[3], &area),
                         8);
        if (strcmp(video, current) != 0) {
            sora_polygons_free(hands, frames);
            snprintf(path, sizeof path, "%s/egohands/_LABELLED_SAMPLES/%s/polygons.mat", data, video);
            OK(sora_polygons_read(path, &hands, &frames, &error));
            assert_int_equal(frames, 100);
            strcpy(current, video);
            index = 0;
        }
        const sora_polygon *four = hands + 4 * index++;
        sora_image mask;
        double edge = 0;
        int filled = 0, drawn = 0;
        OK(sora_image_create(1280, 720, 1, &mask, &error));
        for (int h = 0; h < 4; h++) {
            assert_int_equal(four[h].count, points[h]);
            drawn += points[h] > 0;
            edge += outline(&four[h]);
            OK(sora_polygon_fill(&mask, &four[h], &error));
        }
        for (int i = 0; i < 1280 * 720; i++) filled += mask.pixels[i] == 255;
        sora_image_free(&mask);
        assert_int_equal(drawn, count);
        if (!(abs(filled - area) <= edge))
            fail_msg("%s %s: %d pixels; expected %d within %.0f", video, frame, filled, area, edge);
        if (edge > 0) worst = fmax(worst, abs(filled - area) / edge);
        wrong += abs(filled - area);
        total += area;
        seen++;
    }
    print_message("# %zu frames; areas off by %.2f %% on average, at most %.2f pixels per pixel of outline\n", seen,
                  100 * wrong / total, worst);
    assert_int_equal(seen, 4800);
    sora_polygons_free(hands, frames);
    fclose(reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_egohands_reference) };
    char path[1024];
    data = getenv("SORACL_TEST_DATA");
    snprintf(path, sizeof path, "%s/egohands", data ? data : "");
    if (!data || !sora_path_is_folder(path)) {
        puts("1..0 # SKIP no EgoHands polygons in the folder SORACL_TEST_DATA");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
