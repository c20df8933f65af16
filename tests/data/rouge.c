/* SPDX-License-Identifier: Apache-2.0 */
/* ROUGE against the package rouge_score (rouge_reference.py), and its intervals. */
#include "soracl/rouge.h"
#include "../test.h"
#include "base/file.h"

#include <jansson.h>
#include <math.h>

#define MEGABYTE 1000000
#define EXAMPLES 1000

static json_t *fixture;

static void expect_close(double got, double expected, double tolerance, const char *what)
{
    if (!(fabs(got - expected) <= tolerance)) fail_msg("%s: %.9g; expected %.9g within %.2g", what, got, expected, tolerance);
}

static void expect_rouge(sora_rouge got, sora_rouge expected, double tolerance, const char *where)
{
    bool close = fabs(got.rouge1 - expected.rouge1) <= tolerance && fabs(got.rouge2 - expected.rouge2) <= tolerance &&
                 fabs(got.rougeL - expected.rougeL) <= tolerance && fabs(got.rougeLsum - expected.rougeLsum) <= tolerance;
    if (!close)
        fail_msg("%s: %.8f %.8f %.8f %.8f; expected %.8f %.8f %.8f %.8f", where, got.rouge1, got.rouge2, got.rougeL,
                 got.rougeLsum, expected.rouge1, expected.rouge2, expected.rougeL, expected.rougeLsum);
}

static sora_rouge rouge_of(json_t *numbers)
{
    assert_int_equal(json_array_size(numbers), 4);
    return (sora_rouge) { json_number_value(json_array_get(numbers, 0)), json_number_value(json_array_get(numbers, 1)),
                          json_number_value(json_array_get(numbers, 2)), json_number_value(json_array_get(numbers, 3)) };
}

static sora_rouge score(const char *reference, const char *prediction)
{
    sora_error error;
    sora_rouge got;
    OK(sora_rouge_score(reference, prediction, &got, &error));
    return got;
}

/* ---- Against the package ----------------------------------------------------------------------------------------- */

static void test_pairs(void **state)
{
    (void)state;
    size_t index;
    json_t *one;
    json_t *pairs = json_object_get(fixture, "pairs");
    assert_true(json_array_size(pairs) >= 80);
    json_array_foreach(pairs, index, one)
    {
        const char *reference = json_string_value(json_array_get(one, 0)),
                   *prediction = json_string_value(json_array_get(one, 1));
        sora_rouge expected = rouge_of(json_array_get(one, 2)), got = score(reference, prediction),
                   swapped = score(prediction, reference);
        expect_rouge(got, expected, 1e-6, reference);
        swapped.rougeLsum = expected.rougeLsum; /* the only one whose F1 tells the sides apart */
        expect_rouge(swapped, expected, 1e-6, prediction);
    }
}

/* The lines of a file of SORACL_TEST_DATA's folder rouge. The bytes which they point into are the caller's (free()). */
static unsigned char *read_lines(const char *name, char *lines[EXAMPLES])
{
    sora_error error;
    char path[1024];
    size_t size;
    unsigned char *bytes;
    snprintf(path, sizeof path, "%s/rouge/%s", getenv("SORACL_TEST_DATA"), name);
    OK(sora_file_read(path, 1 << 24, &bytes, &size, &error));
    char *at = (char *)bytes;
    for (size_t i = 0; i < EXAMPLES; i++) {
        lines[i] = at;
        at = strchr(at, '\n');
        assert_non_null(at);
        *at++ = 0;
    }
    return bytes;
}

/* " . " becomes " .\n" from left to right, as Python's replace does. */
static void break_sentences(char *text)
{
    for (char *at = text; (at = strstr(at, " . ")); at += 3) at[2] = '\n';
}

/* The file's middles and ours are medians of 1000 means whose deviation s is a 3.92th of the interval. A median of n normal
 * numbers deviates by 1.2533 s / √n, a difference of two by √2 more; four times that is 0.0572 of the interval. */
static void expect_published(const char *name, double low, double middle, double high)
{
    json_error_t where;
    char path[1024];
    snprintf(path, sizeof path, "%s/rouge/expected_bootstrap_results.json", getenv("SORACL_TEST_DATA"));
    json_t *expected = json_load_file(path, 0, &where);
    expect_close(100 * middle, json_number_value(json_object_get(expected, name)), 0.0572 * 100 * (high - low), name);
    json_decref(expected);
}

static void test_large(void **state)
{
    (void)state;
    sora_error error;
    sora_rouge large[EXAMPLES];
    sora_rouge_interval v;
    char *references[EXAMPLES], *predictions[EXAMPLES];
    unsigned char *reference_bytes = read_lines("target_large.txt", references);
    unsigned char *prediction_bytes = read_lines("prediction_large.txt", predictions);
    json_t *expected = json_object_get(fixture, "large");
    double sums[4] = { 0 };
    assert_int_equal(json_array_size(expected), EXAMPLES);
    for (size_t i = 0; i < EXAMPLES; i++) {
        large[i] = score(references[i], predictions[i]);
        break_sentences(references[i]);
        break_sentences(predictions[i]);
        large[i].rougeLsum = score(references[i], predictions[i]).rougeLsum;
        expect_rouge(large[i], rouge_of(json_array_get(expected, i)), 1e-6, references[i]);
        sums[0] += large[i].rouge1, sums[1] += large[i].rouge2, sums[2] += large[i].rougeL, sums[3] += large[i].rougeLsum;
    }
    expect_close(100 * sums[0] / EXAMPLES, 38.5525, 1e-4, "ROUGE-1");
    expect_close(100 * sums[1] / EXAMPLES, 22.1449, 1e-4, "ROUGE-2");
    expect_close(100 * sums[2] / EXAMPLES, 38.3231, 1e-4, "ROUGE-L");
    expect_close(100 * sums[3] / EXAMPLES, 38.3265, 1e-4, "ROUGE-Lsum");
    OK(sora_rouge_summary(large, EXAMPLES, 1000, 7, &v, &error));
    expect_published("rouge1", v.low.rouge1, v.middle.rouge1, v.high.rouge1);
    expect_published("rouge2", v.low.rouge2, v.middle.rouge2, v.high.rouge2);
    expect_published("rougeLsum", v.low.rougeLsum, v.middle.rougeLsum, v.high.rougeLsum);
    free(reference_bytes);
    free(prediction_bytes);
}

/* ---- Intervals --------------------------------------------------------------------------------------------------- */

/* Two groups of scores that differ by `spread`; the measures differ so that a mix-up shows. */
static void fill(sora_rouge *scores, size_t count, double spread)
{
    for (size_t i = 0; i < count; i++) {
        double s = 0.5 + (i % 2 ? 0.5 : -0.5) * spread;
        scores[i] = (sora_rouge) { s, s / 2, s / 4, s / 8 };
    }
}

static bool inside(sora_rouge a, sora_rouge b)
{
    return a.rouge1 <= b.rouge1 && a.rouge2 <= b.rouge2 && a.rougeL <= b.rougeL && a.rougeLsum <= b.rougeLsum;
}

static void test_interval(void **state)
{
    (void)state;
    sora_error error;
    sora_rouge scores[100];
    sora_rouge_interval wide, again, narrow, equal;
    fill(scores, 100, 0.4);
    OK(sora_rouge_summary(scores, 100, 1000, 3, &wide, &error));
    OK(sora_rouge_summary(scores, 100, 1000, 3, &again, &error));
    assert_memory_equal(&wide, &again, sizeof wide);
    OK(sora_rouge_summary(scores, 100, 1000, 4, &again, &error));
    assert_memory_not_equal(&wide, &again, sizeof wide);
    expect_rouge(wide.mean, (sora_rouge) { 0.5, 0.25, 0.125, 0.0625 }, 1e-12, "mean");
    assert_true(inside(wide.low, wide.mean) && inside(wide.mean, wide.high) && inside(wide.low, wide.middle) &&
                inside(wide.middle, wide.high));
    /* The mean of 100 scores that deviate by 0.2 deviates by 0.02; a percentile 2.5 of 1000 such means by about 0.0017. */
    expect_close(wide.low.rouge1, 0.5 - 1.96 * 0.02, 0.007, "low");
    expect_close(wide.high.rouge1, 0.5 + 1.96 * 0.02, 0.007, "high");
    fill(scores, 100, 0.1);
    OK(sora_rouge_summary(scores, 100, 1000, 3, &narrow, &error));
    expect_close((narrow.high.rouge2 - narrow.low.rouge2) * 4, wide.high.rouge2 - wide.low.rouge2, 1e-9, "a quarter as wide");
    fill(scores, 100, 0);
    OK(sora_rouge_summary(scores, 100, 10, 3, &equal, &error));
    assert_true(inside(equal.high, equal.low) && inside(equal.mean, equal.low) && inside(equal.high, equal.mean));
}

/* Two resamples: percentiles lie between both means, 2.5 % and 97.5 % of the way. */
static void test_percentiles(void **state)
{
    (void)state;
    sora_error error;
    sora_rouge scores[50];
    sora_rouge_interval v;
    fill(scores, 50, 1);
    OK(sora_rouge_summary(scores, 50, 2, 1, &v, &error));
    double quarter = (v.middle.rouge1 - v.low.rouge1) / 0.475;
    assert_true(quarter > 0);
    expect_close(v.high.rouge1, v.low.rouge1 + 0.95 * quarter, 1e-12, "percentile 97.5");
    OK(sora_rouge_summary(scores, 50, 1, 1, &v, &error));
    assert_true(v.low.rouge1 == v.high.rouge1 && v.low.rouge1 == v.middle.rouge1);
    OK(sora_rouge_summary(NULL, 0, 5, 1, &v, &error));
    assert_true(v.high.rouge1 == 0 && v.mean.rouge1 == 0);
}

static void test_paired(void **state)
{
    (void)state;
    sora_error error;
    double a[40], b[40], difference, low, high, again[3];
    for (size_t i = 0; i < 40; i++) {
        b[i] = (double)i / 40;
        a[i] = b[i] + 0.125 + (i % 2 ? 0.01 : -0.01);
    }
    OK(sora_rouge_bootstrap(a, b, 40, 1000, 5, &difference, &low, &high, &error));
    expect_close(difference, 0.125, 1e-12, "difference");
    /* Pairing: only ± 0.01 varies, not the much wider scores. 1.96 · 0.01 / √40 = 0.0031. */
    assert_true(low < 0.125 && high > 0.125 && high - low < 0.01);
    OK(sora_rouge_bootstrap(a, b, 40, 1000, 5, &again[0], &again[1], &again[2], &error));
    assert_true(again[0] == difference && again[1] == low && again[2] == high);
    OK(sora_rouge_bootstrap(b, a, 40, 1000, 5, &again[0], &again[1], &again[2], &error));
    expect_close(again[0], -difference, 1e-12, "swapped");
    OK(sora_rouge_bootstrap(a, a, 40, 100, 5, &difference, &low, &high, &error));
    assert_true(difference == 0 && low == 0 && high == 0);
}

/* ---- Hostile input ----------------------------------------------------------------------------------------------- */

static void test_refused(void **state)
{
    (void)state;
    sora_error error;
    sora_rouge got, bad[2] = { { 0.5, 0.5, 0.5, 0.5 }, { 0.5, 0.5, 0.5, NAN } };
    sora_rouge_interval v;
    double a[2] = { 1, INFINITY }, difference, low, high;
    FAILS(sora_rouge_score(NULL, "a", &got, &error), SORA_ERROR_ARGUMENT, "reference is NULL");
    FAILS(sora_rouge_score("a", NULL, &got, &error), SORA_ERROR_ARGUMENT, "prediction is NULL");
    assert_true(got.rouge1 == 0 && got.rougeLsum == 0);
    FAILS(sora_rouge_summary(bad, 2, 10, 1, &v, &error), SORA_ERROR_ARGUMENT, "score 1 is");
    assert_true(v.mean.rouge1 == 0 && v.high.rouge1 == 0);
    FAILS(sora_rouge_summary(bad, 1, 0, 1, &v, &error), SORA_ERROR_ARGUMENT, "0 resamples");
    FAILS(sora_rouge_summary(bad, 1, -5, 1, &v, &error), SORA_ERROR_ARGUMENT, "-5 resamples");
    FAILS(sora_rouge_summary(NULL, 1, 10, 1, &v, &error), SORA_ERROR_ARGUMENT, "NULL");
    FAILS(sora_rouge_bootstrap(a, a, 2, 10, 1, &difference, &low, &high, &error), SORA_ERROR_ARGUMENT, "score 1 is");
    FAILS(sora_rouge_bootstrap(a, NULL, 2, 10, 1, &difference, &low, &high, &error), SORA_ERROR_ARGUMENT, "NULL");
    FAILS(sora_rouge_bootstrap(a, a, 1, 0, 1, &difference, &low, &high, &error), SORA_ERROR_ARGUMENT, "0 resamples");
    assert_int_equal(sora_rouge_score(NULL, NULL, &got, NULL), SORA_ERROR_ARGUMENT);
}

/* Broken UTF-8 separates words, at the end of a text too. */
static void test_broken_text(void **state)
{
    (void)state;
    const sora_rouge same = { 1, 1, 1, 1 };
    expect_rouge(score("one two", "one\xff\xfetwo\xe2"), same, 0, "stray bytes");
    expect_rouge(score("one two", "one\xe2\x84two\xe2\x84"), same, 0, "cut KELVIN SIGN");
    expect_rouge(score("one two", "one\xc4two\xc4"), same, 0, "cut I WITH DOT ABOVE");
    expect_rouge(score("one twok", "one\x80two\xe2\x84\xaa"), same, 0, "KELVIN SIGN at the end");
}

/* `count` words of 9 letters, each from the number that `number` gives; every `line` words end a line (0: never). */
static char *build(size_t count, size_t line, size_t (*number)(size_t index))
{
    char *text = malloc(count * 10 + 1);
    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        snprintf(text + 10 * i, 11, "w%08zu%c", number(i) % 100000000, line && i % line == line - 1 ? '\n' : ' ');
    return text;
}

static size_t rising(size_t i)
{
    return i;
}

static size_t falling(size_t i)
{
    return MEGABYTE / 10 - 1 - i;
}

static size_t swapped_pairs(size_t i)
{
    return i ^ 1;
}

static size_t parity(size_t i)
{
    return i % 2;
}

static void expect_megabytes(size_t lines, size_t (*a)(size_t), size_t (*b)(size_t), sora_rouge expected, const char *what)
{
    char *reference = build(MEGABYTE / 10, lines, a), *prediction = build(MEGABYTE / 10, lines, b);
    expect_rouge(score(reference, prediction), expected, 1e-12, what);
    free(reference);
    free(prediction);
}

static void test_megabyte(void **state)
{
    (void)state;
    const double words = MEGABYTE / 10;
    expect_megabytes(0, rising, rising, (sora_rouge) { 1, 1, 1, 1 }, "equal");
    expect_megabytes(0, rising, falling, (sora_rouge) { 1, 0, 1 / words, 1 / words }, "reversed");
    expect_megabytes(0, rising, swapped_pairs, (sora_rouge) { 1, 0, 0.5, 0.5 }, "swapped pairs");
    expect_megabytes(0, parity, parity, (sora_rouge) { 1, 1, 1, 1 }, "two words");
    expect_megabytes(1, parity, parity, (sora_rouge) { 1, 1, 1, 1 }, "a word a line");
    char *noise = malloc(MEGABYTE + 1);
    assert_non_null(noise);
    for (size_t i = 0; i < MEGABYTE; i++) noise[i] = (char)(1 + (i * 7919 + i / 251) % 255);
    noise[MEGABYTE] = 0;
    sora_rouge got = score(noise, "a few words");
    assert_true(got.rouge1 >= 0 && got.rouge1 < 0.01);
    memset(noise, 'a', MEGABYTE);
    expect_rouge(score(noise, noise), (sora_rouge) { 1, 0, 1, 1 }, 0, "one long word");
    memset(noise, '\n', MEGABYTE);
    expect_rouge(score(noise, noise), (sora_rouge) { 0 }, 0, "empty lines");
    free(noise);
}

static bool has_examples(void)
{
    char path[1024];
    const char *data = getenv("SORACL_TEST_DATA");
    snprintf(path, sizeof path, "%s/rouge", data ? data : "");
    return data && sora_path_is_folder(path);
}

static void skipped(void **state)
{
    (void)state;
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),       cmocka_unit_test(test_large),    cmocka_unit_test(test_interval),
        cmocka_unit_test(test_percentiles), cmocka_unit_test(test_paired),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_broken_text), cmocka_unit_test(test_megabyte),
    };
    json_error_t where;
    fixture = json_load_file(REFERENCE, 0, &where);
    if (!fixture) return 1;
    if (!has_examples()) /* cmocka's own TAP for a skipped test says "not ok" and no reason */
        tests[1] = (struct CMUnitTest) { .name = "test_large # SKIP no folder rouge in the folder SORACL_TEST_DATA",
                                         .test_func = skipped };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(fixture);
    return failed;
}
