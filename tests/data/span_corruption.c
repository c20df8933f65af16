/* SPDX-License-Identifier: Apache-2.0 */
/* T5's span corruption: texts come back from source and target, counts are T5's, draws depend on their key alone. */
#include "soracl/span_corruption.h"
#include "../test.h"
#include "soracl/tokenizer.h"

#include <math.h>
#include <stdbool.h>

#define SIZE 1100 /* 1000 pieces and the sentinels */
#define ROOM 8192

static int32_t text[ROOM], source[ROOM], target[ROOM], restored[ROOM];
static size_t source_count, target_count;

static int fill_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROOM; i++) text[i] = (int32_t)(3 + i * 7919 % 997);
    return 0;
}

static sora_span_corruption options_of(size_t max_source, size_t max_target)
{
    return (sora_span_corruption) { .tokenizer_size = SIZE, .max_source = max_source, .max_target = max_target, .seed = 5 };
}

static void corrupt(const sora_span_corruption *options, uint32_t sample, size_t count)
{
    sora_error error;
    memset(source, 0xff, sizeof source);
    memset(target, 0xff, sizeof target);
    OK(sora_span_corrupt(options, sample, text, count, source, &source_count, target, &target_count, &error));
}

/* Puts the target's spans into the source. The form is checked on the way: sentinels count down from size − 1 in both, kept and
 * noise spans are not empty, the source begins with a kept id and its last sentinel stands at the end, eos ends both. Returns the
 * spans. */
static size_t restore(size_t *count)
{
    size_t t = 0, spans = 0;
    *count = 0;
    assert_true(source_count >= 3 && target_count >= 3);
    assert_int_equal(source[source_count - 1], SORA_TOKEN_EOS);
    assert_int_equal(target[target_count - 1], SORA_TOKEN_EOS);
    assert_int_equal(source[source_count], -1); /* nothing behind */
    assert_int_equal(target[target_count], -1);
    for (size_t s = 0; s + 1 < source_count; s++) {
        if (source[s] < SIZE - SORA_TOKENIZER_SENTINELS) {
            restored[(*count)++] = source[s];
            continue;
        }
        assert_int_equal(source[s], SIZE - 1 - (int)spans);
        assert_int_equal(target[t++], source[s]);
        assert_true(s > 0 && source[s - 1] < SIZE - SORA_TOKENIZER_SENTINELS);
        assert_true(target[t] > SORA_TOKEN_EOS && target[t] < SIZE - SORA_TOKENIZER_SENTINELS);
        while (t + 1 < target_count && target[t] < SIZE - SORA_TOKENIZER_SENTINELS) restored[(*count)++] = target[t++];
        spans++;
    }
    assert_int_equal(t + 1, target_count);
    assert_int_equal(source[source_count - 2], SIZE - (int)spans); /* the text ends in noise */
    return spans;
}

/* noise, spans as numpy and T5's code give them: round(float32(n) · float32(0.15)), round(noise / 3), halves to even. */
static void test_counts(void **state)
{
    (void)state;
    static const struct {
        size_t count, noise, spans;
    } cases[] = { { 2, 1, 1 },       { 3, 1, 1 },
                  { 7, 1, 1 },       { 10, 2, 1 },
                  { 20, 3, 1 },      { 30, 4, 1 },
                  { 31, 5, 2 },      { 50, 8, 3 },
                  { 100, 15, 5 },    { 190, 29, 10 } /* single precision; 28 in double */,
                  { 512, 77, 26 },   { 568, 85, 28 },
                  { 1000, 150, 50 }, { 2000, 300, 100 } };
    const sora_span_corruption options = options_of(ROOM, ROOM);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t count, spans;
        corrupt(&options, 0, cases[i].count);
        spans = restore(&count);
        assert_int_equal(spans, cases[i].spans);
        assert_int_equal(source_count, cases[i].count - cases[i].noise + spans + 1);
        assert_int_equal(target_count, cases[i].noise + spans + 1);
    }
}

static void test_restored(void **state)
{
    (void)state;
    const sora_span_corruption options = options_of(ROOM, ROOM);
    for (size_t n = 2; n < 700; n++) {
        size_t count;
        corrupt(&options, (uint32_t)n, n);
        size_t spans = restore(&count), noise = target_count - spans - 1;
        assert_int_equal(count, n);
        assert_memory_equal(restored, text, n * sizeof *text);
        assert_true(n < 4 || fabs((double)noise - 0.15 * (double)n) <= 0.5 + 1e-4);
        assert_true(noise < 5 || fabs((double)spans - (double)noise / 3) <= 0.5);
    }
}

/* Other densities and lengths; where T5's formulas ask for more spans than there are ids, as many as there are. */
static void test_extremes(void **state)
{
    (void)state;
    static const struct {
        double density, mean;
        size_t count, noise, spans;
    } cases[] = { { 0.5, 1, 10, 5, 5 },        { 0.9, 1, 10, 9, 1 },         { 0.999, 3, 10, 9, 1 },  { 1e-9, 1, 10, 1, 1 },
                  { 0.5, 1, 8000, 4000, 100 }, { 0.15, 3, 8000, 1200, 100 }, { 0.3, 1e6, 100, 30, 1 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t count;
        sora_span_corruption options = options_of(ROOM, ROOM);
        options.density = cases[i].density;
        options.mean_length = cases[i].mean;
        corrupt(&options, 1, cases[i].count);
        assert_int_equal(restore(&count), cases[i].spans);
        assert_int_equal(count, cases[i].count);
        assert_int_equal(target_count, cases[i].noise + cases[i].spans + 1);
        assert_memory_equal(restored, text, count * sizeof *text);
    }
}

/* random_spans_helper: 512 source ids take 568 of text and give 114 target ids. A tighter target cuts more. */
static void test_window(void **state)
{
    (void)state;
    static const struct {
        size_t max_source, max_target, window;
    } cases[] = { { 512, 114, 568 }, { 512, 512, 568 }, { 3, 3, 2 }, { 512, 64, 0 }, { 128, 128, 0 }, { 17, 5, 0 } };
    bool moved = false;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const sora_span_corruption options = options_of(cases[i].max_source, cases[i].max_target);
        for (uint32_t sample = 0; sample < 50; sample++) {
            size_t count, start = 0;
            corrupt(&options, sample, 5000);
            restore(&count);
            assert_true(source_count <= cases[i].max_source && target_count <= cases[i].max_target);
            if (cases[i].window) assert_int_equal(count, cases[i].window);
            while (start + count <= 5000 && memcmp(text + start, restored, count * sizeof *text) != 0) start++;
            assert_true(start + count <= 5000); /* a run of the text */
            moved |= start > 500;
            corrupt(&options, sample, count); /* fits as it is */
            size_t again;
            restore(&again);
            assert_int_equal(again, count);
        }
        /* One id more would not fit. */
        sora_span_corruption wide = options_of(ROOM, ROOM);
        size_t count;
        corrupt(&options, 0, 5000);
        restore(&count);
        corrupt(&wide, 0, count + 1);
        assert_true(source_count > cases[i].max_source || target_count > cases[i].max_target);
    }
    assert_true(moved);
}

/* Lengths over many draws: the mean as asked, every length of a span and every place of a cut met. */
static void test_distribution(void **state)
{
    (void)state;
    enum { N = 40, DRAWS = 6000 }; /* 6 of noise in 2 spans: 5 divisions; 34 kept in 2: 33 */
    const sora_span_corruption options = options_of(64, 64);
    int noise[7] = { 0 }, kept[35] = { 0 };
    for (uint32_t sample = 0; sample < DRAWS; sample++) {
        size_t first = 0, length = 1;
        corrupt(&options, sample, N);
        while (source[first] < SIZE - SORA_TOKENIZER_SENTINELS) first++;
        while (target[length] < SIZE - SORA_TOKENIZER_SENTINELS) length++;
        noise[length - 1]++;
        kept[first]++;
    }
    for (int i = 1; i <= 5; i++) assert_in_range(noise[i], DRAWS / 5 - 160, DRAWS / 5 + 160); /* 5 σ = 155 */
    for (int i = 1; i <= 33; i++) assert_in_range(kept[i], DRAWS / 33 - 70, DRAWS / 33 + 70); /* 5 σ = 66 */
    assert_int_equal(noise[0] + noise[6] + kept[0] + kept[34], 0);
}

static void test_key(void **state)
{
    (void)state;
    int32_t first[600];
    sora_span_corruption options = options_of(512, 512);
    corrupt(&options, 7, 300);
    memcpy(first, source, sizeof first);
    corrupt(&options, 8, 300);
    assert_memory_not_equal(first, source, 300 * sizeof *first);
    options.epoch = 1;
    corrupt(&options, 7, 300);
    assert_memory_not_equal(first, source, 300 * sizeof *first);
    options.epoch = 0;
    options.seed = 6;
    corrupt(&options, 7, 300);
    assert_memory_not_equal(first, source, 300 * sizeof *first);
    options.seed = 5;
    corrupt(&options, 7, 300); /* after whatever others */
    assert_memory_equal(first, source, sizeof first);
}

static void test_unusable(void **state)
{
    (void)state;
    sora_error error;
    const sora_span_corruption options = options_of(512, 512);
    static const int32_t texts[][2] = {
        { 3, 0 }, { 3, SORA_TOKEN_EOS }, { SIZE - SORA_TOKENIZER_SENTINELS, 3 }, { 3, SIZE - 1 }
    };
    corrupt(&options, 0, 0);
    assert_true(source_count == 0 && target_count == 0);
    corrupt(&options, 0, 1);
    assert_true(source_count == 0 && target_count == 0);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        OK(sora_span_corrupt(&options, 0, texts[i], 2, source, &source_count, target, &target_count, &error));
        assert_true(source_count == 0 && target_count == 0);
    }
}

static void expect_refused(sora_span_corruption options, const int32_t ids[2], const char *words)
{
    sora_error error;
    FAILS(sora_span_corrupt(&options, 0, ids, 2, source, &source_count, target, &target_count, &error), SORA_ERROR_ARGUMENT,
          words);
    assert_true(source_count == 0 && target_count == 0);
}

static void test_refused(void **state)
{
    (void)state;
    static const double densities[] = { 1, -0.1, 2, NAN, INFINITY }, means[] = { 0.5, -1, NAN, 1e7 };
    sora_span_corruption options = options_of(512, 512);
    expect_refused(options, (const int32_t[]) { 3, -1 }, "id -1 at 1");
    expect_refused(options, (const int32_t[]) { SIZE, 3 }, "id 1100 at 0");
    for (size_t i = 0; i < sizeof densities / sizeof *densities; i++) {
        options.density = densities[i];
        expect_refused(options, text, "noise density");
    }
    options.density = 0;
    for (size_t i = 0; i < sizeof means / sizeof *means; i++) {
        options.mean_length = means[i];
        expect_refused(options, text, "mean span length");
    }
    expect_refused(options_of(2, 512), text, "at most 2 source");
    expect_refused(options_of(512, 2), text, "2 target");
    options = options_of(512, 512);
    options.tokenizer_size = SORA_TOKENIZER_SENTINELS;
    expect_refused(options, text, "tokenizer of 100");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),   cmocka_unit_test(test_restored), cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_window),   cmocka_unit_test(test_key),      cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_unusable), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, fill_text, NULL);
}
