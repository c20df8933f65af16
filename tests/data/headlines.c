/* SPDX-License-Identifier: Apache-2.0 */
/* Headlines from invented lists: what is written, who stays together, what stays out, and lists that are broken. */
#include "soracl/headlines.h"
#include "base/random.h"
#include "soracl/text.h"
#include "../fixture.h"

#include <zlib.h>

#define HELPER "/usr/lib/apt/apt-helper"
#define PACKAGES "lists/host_dists_x_main_binary-all_Packages"
#define TRANSLATION "lists/host_dists_x_main_i18n_Translation-en"

static sora_error error;
static sora_headlines_result result;

static const char *long_line =
    "This line is as long as a description must be to be taken, and it says nothing at all but that it is "
    "longer than one hundred and fifty characters, which is what the rule asks for.";

static void put(const char *name, const char *text)
{
    OK(sora_file_write(at(name), text, strlen(text), &error));
}

/* An empty folder `lists`. */
static void clear_lists(void)
{
    OK(sora_folder_remove(at("lists"), &error));
    OK(sora_folder_create(at("lists"), &error));
}

static sora_status write_to(const char *name, const char *const *exclude, size_t count)
{
    return sora_headlines_write(at(name),
                                &(sora_headlines_options) { .lists = at("lists"), .exclude = exclude, .exclude_count = count },
                                &result, &error);
}

static char *read_text(const char *name)
{
    unsigned char *bytes;
    size_t count;
    OK(sora_file_read(at(name), 1 << 24, &bytes, &count, &error));
    return (char *)bytes;
}

/* A name that the split's hash puts into train (0), dev (1) or test (2). */
static const char *source_on(int side, int which)
{
    static char names[8][32];
    static int next;
    char *name = names[next++ % 8];
    for (int i = 0;; i++) {
        snprintf(name, sizeof names[0], "source%d", i);
        uint32_t place = sora_hash_name(name) % 100;
        if ((place < 90 ? 0 : place < 95 ? 1 : 2) == side && which-- == 0) return name;
    }
}

static void add_package(FILE *packages, FILE *translation, const char *name, const char *source, const char *title,
                        const char *first)
{
    fprintf(packages, "Package: %s\nSource: %s\nVersion: 1\n\n", name, source);
    fprintf(translation, "Package: %s\nDescription-md5: 0\nDescription-en: %s\n %s\n %s\n\n", name, title, first, long_line);
}

static void test_form(void **state)
{
    (void)state;
    char text[4096], *written, *dev, *test;
    clear_lists();
    put(PACKAGES, "Package: b\nDepends: c,\n d\n\nPackage: a\nSource: b (1.2-3)\n\n\n\nPackage: short\n");
    snprintf(text, sizeof text,
             "\xef\xbb\xbfPackage: b\r\nDescription-md5: 1\r\ndescription-en:  say \"hi\", you  \r\n .\n  %s\n .\n   * indented "
             "\xc3\xa9\n . \n .\n\n"
             "Package: a\nDescription-md5: 2\nDescription-en: plain title\n one line\n %s\n\n"
             "Package: short\nDescription-en: short\n too short\n\n"
             "Package: alien\nDescription-en: of another architecture\n %s\n\n"
             "Package: a\nDescription-en: plain title\n one line\n %s",
             long_line, long_line, long_line, long_line);
    put(TRANSLATION, text);
    put("lists/host_dists_x_InRelease", "not \xff read");
    put("lists/host_dists_x_main_i18n_Translation-de", "not \xff read");
    OK(write_to("out", NULL, 0));
    assert_int_equal(result.described, 4);
    assert_int_equal(result.too_short, 1);
    assert_int_equal(result.without_source, 1);
    assert_int_equal(result.train + result.dev + result.test, 2);
    snprintf(text, sizeof text,
             "title,text,url,authors,timestamp,tags\r\nplain title,\"one line\n%s\",,,,a\r\n\"say \"\"hi\"\", you\",\"%s\n\n* "
             "indented "
             "\xc3\xa9\",,,,b\r\n",
             long_line, long_line);
    written = read_text("out/train.csv");
    dev = read_text("out/dev.csv");
    test = read_text("out/test.csv");
    assert_string_equal(sora_hash_name("b") % 100 < 90 ? written : sora_hash_name("b") % 100 < 95 ? dev : test, text);
    free(written);
    free(dev);
    free(test);
}

/* Forty sources of five packages each: every source is in one file only, by its hash. */
static void test_split(void **state)
{
    (void)state;
    static const char *const files[] = { "out/train.csv", "out/dev.csv", "out/test.csv" };
    size_t seen = 0;
    clear_lists();
    FILE *packages = fopen(at(PACKAGES), "wb"), *translation = fopen(at(TRANSLATION), "wb");
    for (int i = 0; i < 40; i++)
        for (int k = 0; k < 5; k++) {
            char name[40], source[32], title[64];
            snprintf(source, sizeof source, "%s", source_on(i % 3, i / 3));
            snprintf(name, sizeof name, "%s-%d", source, k);
            snprintf(title, sizeof title, "title of %s", k < 4 ? name : source);
            add_package(packages, translation, name, source, title, name);
        }
    fclose(packages);
    fclose(translation);
    OK(write_to("out", NULL, 0));
    assert_int_equal(result.train, 14 * 5);
    assert_int_equal(result.dev, 13 * 5);
    assert_int_equal(result.test, 13 * 5);
    for (int side = 0; side < 3; side++) {
        sora_text_pairs *pairs;
        OK(sora_text_open(at(files[side]), &(sora_text_options) { .source_column = "tags" }, &pairs, &error));
        for (size_t i = 0; i < sora_text_count(pairs); i++) {
            char source[64];
            const char *name = sora_text_at(pairs, i).source;
            snprintf(source, sizeof source, "%.*s", (int)(strchr(name, '-') - name), name);
            uint32_t place = sora_hash_name(source) % 100;
            assert_int_equal(place < 90 ? 0 : place < 95 ? 1 : 2, side);
            if (i) assert_true(strcmp(sora_text_at(pairs, i - 1).source, name) < 0);
            seen++;
        }
        sora_text_close(&pairs);
    }
    assert_int_equal(seen, 200);
}

static void test_repetitions(void **state)
{
    (void)state;
    clear_lists();
    FILE *packages = fopen(at(PACKAGES), "wb"), *translation = fopen(at(TRANSLATION), "wb");
    const char *train = source_on(0, 0), *dev = source_on(1, 0), *test = source_on(2, 0);
    add_package(packages, translation, "b", train, "title", "text");
    add_package(packages, translation, "a", train, "title", "text");           /* a sibling's: the first by name is kept */
    add_package(packages, translation, "c", train, "title", "another text");   /* not the same */
    add_package(packages, translation, "d", source_on(0, 1), "title", "text"); /* no sibling's */
    add_package(packages, translation, "e", dev, "a title of dev", "dev's text");
    add_package(packages, translation, "f", test, "a title of test", "test's text");
    add_package(packages, translation, "g", train, "a title of dev", "1"); /* left out: its title is dev's */
    add_package(packages, translation, "h", train, "2", "test's text");    /* left out: its text is test's */
    fclose(packages);
    fclose(translation);
    OK(write_to("out", NULL, 0));
    assert_int_equal(result.described, 8);
    assert_int_equal(result.repeated, 1);
    assert_int_equal(result.also_held, 2);
    assert_int_equal(result.train, 3);
    assert_int_equal(result.dev, 1);
    assert_int_equal(result.test, 1);
    char *text = read_text("out/train.csv");
    assert_non_null(strstr(text, ",a\r\n"));
    assert_null(strstr(text, ",b\r\n"));
    free(text);
}

static void test_exclude(void **state)
{
    (void)state;
    char first[256], second[256];
    const char *files[] = { first, second };
    clear_lists();
    snprintf(first, sizeof first, "%s", at("first.csv"));
    snprintf(second, sizeof second, "%s", at("second.csv"));
    FILE *packages = fopen(at(PACKAGES), "wb"), *translation = fopen(at(TRANSLATION), "wb");
    add_package(packages, translation, "a", source_on(0, 0), "by title", "1");
    add_package(packages, translation, "b", source_on(0, 1), "a sibling of tagged", "2");
    add_package(packages, translation, "tagged", source_on(0, 1), "by tag", "3");
    add_package(packages, translation, "c", source_on(0, 2), "kept", "4");
    add_package(packages, translation, "d", source_on(1, 0), "dev, by title", "5");
    add_package(packages, translation, "e", source_on(0, 3), "by text", "6");
    fclose(packages);
    fclose(translation);
    char text[1024];
    snprintf(text, sizeof text,
             "title,text,url,authors,timestamp,tags\r\nby title,x,,,,unknown\r\n\"dev, by "
             "title\",y,,,,unknown\r\nz,\"6\n%s\",,,,none\r\n",
             long_line);
    put("first.csv", text);
    put("second.csv", "tags,title,text\ntagged,nothing of ours,z\n");
    OK(write_to("out", files, 2));
    assert_int_equal(result.excluded, 4);
    assert_int_equal(result.train, 1);
    assert_int_equal(result.dev, 1); /* dev isn't touched */
    OK(write_to("out", files, 1));
    assert_int_equal(result.excluded, 2);
    put("first.csv", "title,text\na,b\n");
    FAILS(write_to("out", files, 1), SORA_ERROR_INPUT, "no column \"tags\"");
    OK(sora_folder_remove(first, &error));
    FAILS(write_to("out", files, 1), SORA_ERROR_INPUT, "cannot open");
}

static void test_same_bytes(void **state)
{
    (void)state;
    static const char *const names[] = { "train.csv", "dev.csv", "test.csv" };
    test_split(state);
    OK(write_to("again", NULL, 0));
    OK(write_to("again", NULL, 0)); /* over what is there */
    /* The same in two lists, which come in another order, with overlaps. */
    char *packages = read_text(PACKAGES), *translation = read_text(TRANSLATION);
    char *middle = strstr(translation + strlen(translation) / 2, "\n\nPackage") + 2;
    put("lists/z_Packages", packages);
    put("lists/z_Translation-en", translation);
    put("lists/a_Translation-en", middle);
    put(PACKAGES, "");
    put(TRANSLATION, "\n");
    OK(write_to("other", NULL, 0));
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "out/%s", names[i]);
        char *a = read_text(name);
        snprintf(name, sizeof name, "again/%s", names[i]);
        char *b = read_text(name);
        snprintf(name, sizeof name, "other/%s", names[i]);
        char *c = read_text(name);
        assert_string_equal(a, b);
        assert_string_equal(a, c);
        free(a);
        free(b);
        free(c);
    }
    free(packages);
    free(translation);
}

static void refuse(const char *packages, const char *translation, const char *words)
{
    put(PACKAGES, packages);
    put(TRANSLATION, translation);
    FAILS(write_to("refused", NULL, 0), SORA_ERROR_INPUT, words);
    assert_false(sora_path_exists(at("refused")));
}

static void test_broken(void **state)
{
    (void)state;
    static const char good[] = "Package: a\nDescription-en: t\n x\n";
    clear_lists();
    refuse("Package: a\n", "", "of 0 descriptions none is usable");
    refuse("Package: a\n", good, "1 too short");
    refuse("Package: b\n", good, "1 without a source package");
    refuse("Package: a\n\nSource: b\n", good, "line 3: a record without Package");
    refuse("Package:\n", good, "line 1: a record without Package");
    refuse("Package: a\nPackage: b\n", good, "line 2: a second Package");
    refuse("Package: a\nno field\n", good, "line 2: no field");
    refuse("Package: a\n: x\n", good, "line 2: no field");
    refuse("<html>not: this</html> no: field\n", good, "line 1: ");
    refuse(" Package: a\n", good, "line 1: a continuation line without its field");
    refuse("Package: a\n\n x\n", good, "line 3: a continuation line without its field");
    refuse("Package: a\n", "Package: a\n\n", "line 1: a record without Description-en");
    refuse("Package: a\n", "Description-en: t\n x\n", "line 1: a record without Package");
    refuse("Package: a\n", "Package: a\nDescription-en:\n", "line 1: a record without Description-en");
    refuse("Package: a\n", "Package: a\nDescription-en: t\n \xff\n", "line 3: no UTF-8 at byte 1");
    put(PACKAGES, "Package: a\n");
    OK(sora_file_write(at(TRANSLATION), "Package: a\nDescription-en: \0t\n", 29, &error));
    FAILS(write_to("refused", NULL, 0), SORA_ERROR_INPUT, "line 2: a NUL");
    char *overlong = malloc((5 << 20) + 1);
    assert_non_null(overlong);
    memset(overlong, 'x', 5 << 20);
    overlong[5 << 20] = '\0';
    refuse("Package: a\n", overlong, "line 1 has more than 4194304 bytes");
    free(overlong);
}

static void test_nothing_there(void **state)
{
    (void)state;
    clear_lists();
    FAILS(write_to("refused", NULL, 0), SORA_ERROR_INPUT, "apt-get -o Acquire::Languages=en update");
    put(PACKAGES, "Package: a\n");
    FAILS(write_to("refused", NULL, 0), SORA_ERROR_INPUT, "no descriptions");
    assert_non_null(strstr(error.message, "apt-get -o Acquire::Languages=en update"));
    clear_lists();
    put(TRANSLATION, "");
    FAILS(write_to("refused", NULL, 0), SORA_ERROR_INPUT, "no package lists");
    OK(sora_folder_remove(at("lists"), &error));
    FAILS(write_to("refused", NULL, 0), SORA_ERROR_INPUT, "no such folder");
    clear_lists();
    OK(sora_folder_create(at(PACKAGES), &error)); /* a folder where a list should be */
    FAILS(write_to("refused", NULL, 0), SORA_ERROR_IO, "cannot read");
    put("file", "");
    clear_lists();
    FILE *packages = fopen(at(PACKAGES), "wb"), *translation = fopen(at(TRANSLATION), "wb");
    add_package(packages, translation, "a", "a", "title", "text");
    fclose(packages);
    fclose(translation);
    FAILS(write_to("file", NULL, 0), SORA_ERROR_IO, "file");
}

/* Compressed lists go through apt's helper: the same bytes where it is, a reason where it isn't. */
static void test_compressed(void **state)
{
    (void)state;
    test_split(state);
    char *translation = read_text(TRANSLATION), *expected = read_text("out/train.csv");
    OK(sora_folder_remove(at(TRANSLATION), &error));
    gzFile packed = gzopen(at(TRANSLATION ".gz"), "wb");
    assert_int_equal(gzwrite(packed, translation, (unsigned)strlen(translation)), strlen(translation));
    assert_int_equal(gzclose(packed), Z_OK);
    if (sora_path_exists(HELPER)) {
        OK(write_to("packed", NULL, 0));
        char *written = read_text("packed/train.csv");
        assert_string_equal(written, expected);
        free(written);
        put(TRANSLATION ".gz", "this was never packed by anyone");
        FAILS(write_to("refused", NULL, 0), SORA_ERROR_INPUT, "Translation-en.gz");
        put(TRANSLATION ".gz", "\x1f\x8b\x08\x01 and here it ends");
        FAILS(write_to("refused", NULL, 0), SORA_ERROR_INPUT, "Translation-en.gz");
    } else {
        FAILS(write_to("packed", NULL, 0), SORA_ERROR_INPUT, HELPER);
    }
    free(translation);
    free(expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),          cmocka_unit_test(test_split),      cmocka_unit_test(test_repetitions),
        cmocka_unit_test(test_exclude),       cmocka_unit_test(test_broken),     cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_nothing_there), cmocka_unit_test(test_compressed),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
