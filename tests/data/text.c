/* SPDX-License-Identifier: Apache-2.0 */
/* Text pairs: both forms, and everything that is refused. */
#include "soracl/text.h"
#include "base/utf8.h"
#include "../fixture.h"

static sora_error error;

static const char *put_bytes(const char *name, const char *bytes, size_t count)
{
    const char *path = at(name);
    OK(sora_file_write(path, bytes, count, &error));
    return path;
}

static const char *put(const char *name, const char *text)
{
    return put_bytes(name, text, strlen(text));
}

static sora_text_pairs *open_text(const char *path, const sora_text_options *options)
{
    sora_text_pairs *pairs;
    OK(sora_text_open(path, options, &pairs, &error));
    return pairs;
}

static void refuse(const char *path, const sora_text_options *options, const char *words)
{
    sora_text_pairs *pairs = (sora_text_pairs *)1;
    FAILS(sora_text_open(path, options, &pairs, &error), SORA_ERROR_INPUT, words);
    assert_null(pairs);
}

static void expect(const sora_text_pairs *pairs, size_t index, const char *source, const char *target, size_t line)
{
    assert_true(index < sora_text_count(pairs));
    sora_text_pair pair = sora_text_at(pairs, index);
    assert_string_equal(pair.source, source);
    assert_string_equal(pair.target, target);
    assert_int_equal(pair.source_bytes, strlen(source));
    assert_int_equal(pair.target_bytes, strlen(target));
    assert_int_equal(pair.line, line);
}

static void test_csv(void **state)
{
    (void)state;
    sora_text_pairs *pairs = open_text(put("a.csv", "title,text,url\n"
                                                    "one, first ,u\n"
                                                    "\"two, \"\"quoted\"\"\",\"lines\n\nof \"\"text\"\"\n\",\n"
                                                    "\n"
                                                    ",no title,\n"
                                                    "no text,,u\n"
                                                    "blank,\" \n\",u\n"
                                                    "three,last,u"),
                                       NULL);
    assert_int_equal(sora_text_count(pairs), 3);
    assert_int_equal(sora_text_skipped(pairs), 3);
    expect(pairs, 0, " first ", "one", 2);
    expect(pairs, 1, "lines\n\nof \"text\"\n", "two, \"quoted\"", 3);
    expect(pairs, 2, "last", "three", 12);
    sora_text_close(&pairs);
    assert_null(pairs);
    sora_text_close(&pairs);
}

static void test_csv_line_ends(void **state)
{
    (void)state;
    sora_text_pairs *pairs = open_text(put("b.CSV", "\xef\xbb\xbftext,title\r\n\"a\r\nb\",\xc3\xa9t\xc3\xa9\r\n\r\nc,d\r\n"),
                                       &(sora_text_options) { 0 });
    assert_int_equal(sora_text_count(pairs), 2);
    expect(pairs, 0, "a\r\nb", "\xc3\xa9t\xc3\xa9", 2);
    expect(pairs, 1, "c", "d", 5);
    sora_text_close(&pairs);
    pairs = open_text(put("mark.csv", "\xef\xbb\xbf\"text\",\"title\"\n\xef\xbb\xbf"
                                      "a,b\n"),
                      NULL); /* a mark is only left out where the file begins */
    expect(pairs, 0,
           "\xef\xbb\xbf"
           "a",
           "b", 2);
    sora_text_close(&pairs);
}

static void test_columns(void **state)
{
    (void)state;
    const char *path = put("c.csv", "body,head,text\nb1,h1,t1\nb2,,t2\n");
    sora_text_pairs *pairs = open_text(path, &(sora_text_options) { .source_column = "body", .target_column = "head" });
    assert_int_equal(sora_text_count(pairs), 1);
    expect(pairs, 0, "b1", "h1", 2);
    sora_text_close(&pairs);
    pairs = open_text(path, &(sora_text_options) { .source_column = "body", .target_column = "head", .target_optional = true });
    assert_int_equal(sora_text_count(pairs), 2);
    expect(pairs, 1, "b2", "", 3);
    sora_text_close(&pairs);
    pairs = open_text(path, &(sora_text_options) { .target_optional = true }); /* no "title" at all */
    expect(pairs, 0, "t1", "", 2);
    sora_text_close(&pairs);
    pairs = open_text(path, &(sora_text_options) { .source_column = "body", .target_column = "body" });
    expect(pairs, 0, "b1", "b1", 2);
    sora_text_close(&pairs);
    refuse(path, NULL, "no column \"title\"; the columns are body, head, text");
    refuse(path, &(sora_text_options) { .source_column = "Body", .target_optional = true }, "no column \"Body\"");
    refuse(put("twice.csv", "text,title,text\na,b,c\n"), NULL, "two columns \"text\"");
}

static void test_lengths(void **state)
{
    (void)state;
    /* Code points, not bytes: three of two bytes each are short of four. */
    const char *path = put("d.csv", "text,title\nabcd,ab\n\xc3\xa9\xc3\xa9\xc3\xa9,ab\nabcd,a\nefgh,cd\nijkl,ef\n");
    sora_text_pairs *pairs = open_text(path, &(sora_text_options) { .min_source = 4, .min_target = 2 });
    assert_int_equal(sora_text_count(pairs), 3);
    assert_int_equal(sora_text_skipped(pairs), 2);
    expect(pairs, 1, "efgh", "cd", 5);
    sora_text_close(&pairs);
    pairs = open_text(path, &(sora_text_options) { .min_source = 4, .min_target = 2, .limit = 2 });
    assert_int_equal(sora_text_count(pairs), 2);
    sora_text_close(&pairs);
    pairs = open_text(path, &(sora_text_options) { .min_source = 4, .min_target = 2, .target_optional = true });
    assert_int_equal(sora_text_count(pairs), 4);
    sora_text_close(&pairs);
    refuse(path, &(sora_text_options) { .min_source = 5 }, "no usable pair in 5 rows: 0 empty, 5 too short");
    refuse(put("none.csv", "text,title\n,a\nb,\n"), NULL, "no usable pair in 2 rows: 2 empty, 0 too short");
    refuse(put("header.csv", "text,title\n"), NULL, "no usable pair in 0 rows");
}

static void test_csv_broken(void **state)
{
    (void)state;
    refuse(put("e.csv", ""), NULL, "expected a header line");
    refuse(put("e.csv", "\n\n"), NULL, "expected a header line");
    refuse(put("e.csv", "text,title\na,b\nc,\"d\ne,f\ng,h\n"), NULL, "line 3: a quote opens here");
    refuse(put("e.csv", "text,title\n\"a\nb\",\"c\nd"), NULL, "line 3: a quote opens here");
    refuse(put("e.csv", "text,title\na,\"b"), NULL, "line 2: a quote opens here");
    refuse(put("e.csv", "text,title\n\"a\n\n\nb"), NULL, "line 2: a quote opens here");
    refuse(put("e.csv", "\"text,title\na,b\n"), NULL, "line 1: a quote opens here");
    refuse(put("e.csv", "text,title\n\"a\n\",b\nc,d,e\n"), NULL, "line 4: 3 fields; the header has 2");
    refuse(put("e.csv", "text,title\na\n"), NULL, "line 2: 1 fields; the header has 2");
    refuse(put("e.csv", "text,title\na,b\nc \"d\",e\n"), NULL, "line 3: a quote inside a field");
    refuse(put("e.csv", "text,title\n\"a\"b,c\n"), NULL, "line 2: a quote inside a field");
    refuse(put("e.csv", "text,title\na,b\n\"x\n\xff\",c\n"), NULL, "line 3: the source is no UTF-8 at its byte 2");
    refuse(put("e.csv", "text,title\na,\xed\xa0\x80\n"), NULL, "line 2: the target is no UTF-8 at its byte 0");
    refuse(put("e.csv", "text,title,\xff\na,b,c\n"), NULL, "line 1: the header is no UTF-8");
    refuse(put_bytes("e.csv", "text,title\na\0b,c\n", 17), NULL, "line 2: the source has a NUL at its byte 1");
    refuse(put_bytes("e.csv", "te\0xt,title\na,b\n", 16), NULL, "line 1: the header");
}

static void test_files(void **state)
{
    (void)state;
    sora_text_pairs *pairs;
    refuse(at("missing.csv"), NULL, "cannot open");
    refuse(put("a.txt", "text"), NULL, "expected a file of texts, .csv, .jsonl or .json");
    refuse(put("plain", "text"), NULL, ".csv, .jsonl or .json");
    refuse("/no.csv/plain", NULL, ".csv, .jsonl or .json");
    OK(sora_folder_create(at("folder.csv"), &error));
    refuse(at("folder.csv"), NULL, "a folder");
    assert_int_equal(sora_text_open(at("missing.csv"), NULL, &pairs, NULL), SORA_ERROR_INPUT); /* no error to fill */
}

static void test_json(void **state)
{
    (void)state;
    const char *path =
        put("a.jsonl", "{\"text\": \"a\\nb \\u00e9 \\ud83d\\ude00\", \"title\": \"t\", \"more\": [1, {}]}\r\n"
                       "\n"
                       "{\"source\": [\"One.\", \"Two.\"], \"target\": [\"first\", \"second\"], \"title\": \"no\"}\n"
                       "{\"text\": null, \"title\": \"t\"}\n"
                       "{\"source\": [], \"target\": [\"t\"]}\n"
                       "{\"source\": [\"s\"], \"target\": []}\n"
                       "{\"source\": \"plain\", \"target\": \"too\"}");
    sora_text_pairs *pairs = open_text(path, NULL);
    assert_int_equal(sora_text_count(pairs), 3);
    assert_int_equal(sora_text_skipped(pairs), 3);
    expect(pairs, 0, "a\nb \xc3\xa9 \xf0\x9f\x98\x80", "t", 1);
    expect(pairs, 1, "One. Two.", "first", 3);
    expect(pairs, 2, "plain", "too", 7);
    sora_text_close(&pairs);
    path = put("b.json", "\xef\xbb\xbf{\"text\": \"a\", \"b\": \"c\"}\n{\"text\": \"d\"}\n");
    pairs = open_text(path, &(sora_text_options) { .target_column = "b", .target_optional = true });
    expect(pairs, 0, "a", "c", 1);
    expect(pairs, 1, "d", "", 2);
    sora_text_close(&pairs);
    pairs = open_text(path, &(sora_text_options) { .target_column = "b", .limit = 1 });
    assert_int_equal(sora_text_count(pairs), 1);
    sora_text_close(&pairs);
    refuse(path, &(sora_text_options) { .target_column = "b" }, "line 2: no \"b\"; its keys are text");
}

static void test_json_broken(void **state)
{
    (void)state;
    refuse(put("c.jsonl", "{\"text\": \"a\", \"title\": \"b\"}\n{\"text\": \"a\"\n"), NULL, "line 2: ");
    refuse(put("c.jsonl", "[\n{\"text\": \"a\", \"title\": \"b\"}\n]\n"), NULL, "line 1: ");
    refuse(put("c.jsonl", "[]\n"), NULL, "line 1: a list; expected one JSON object a line");
    refuse(put("c.jsonl", "{\"text\": \"a\", \"title\": \"b\"} {}\n"), NULL, "line 1: ");
    refuse(put("c.jsonl", "\n{\"text\": \"a\", \"text\": \"b\"}\n"), NULL, "line 2: duplicate object key");
    refuse(put("c.jsonl", "{\"text\": 3, \"title\": \"b\"}\n"), NULL, "line 1: \"text\" is or holds a number");
    refuse(put("c.jsonl", "{\"text\": [\"a\", null], \"title\": \"b\"}\n"), NULL, "line 1: \"text\" is or holds null");
    refuse(put("c.jsonl", "{\"head\": \"a\", \"title\": \"b\"}\n"), NULL, "line 1: no \"text\"; its keys are head, title");
    refuse(put("c.jsonl", "{}\n"), NULL, "line 1: no \"text\"; its keys are ");
    refuse(put("c.jsonl", "{\"text\": \"a\\u0000b\", \"title\": \"c\"}\n"), NULL, "line 1: ");
    refuse(put_bytes("c.jsonl", "{\"text\": \"a\0\", \"title\": \"c\"}\n", 29), NULL, "line 1: ");
    refuse(put("c.jsonl", "{\"text\": \"\xc0\x80\", \"title\": \"c\"}\n"), NULL, "line 1: ");
    refuse(put("c.jsonl", "{\"text\": \"\\ud800\", \"title\": \"c\"}\n"), NULL, "line 1: ");
    refuse(put("c.jsonl", ""), NULL, "no usable pair in 0 rows");
}

/* A text of 1 MB in one line and one in many, between small ones; and a quote that is never closed. */
static void test_large(void **state)
{
    (void)state;
    size_t megabyte = 1 << 20;
    char *text = malloc(megabyte + 1);
    assert_non_null(text);
    for (size_t i = 0; i < megabyte; i++) text[i] = i % 1000 == 999 ? '\n' : (char)('a' + i % 26);
    text[megabyte] = '\0';
    FILE *out = fopen(at("large.csv"), "wb");
    assert_non_null(out);
    fprintf(out, "text,title\nsmall,1\n\"%s\",2\n", text);
    for (size_t i = 0; i < megabyte; i++) fputc(text[i] == '\n' ? ' ' : text[i], out);
    fprintf(out, ",3\nsmall,4\n");
    assert_int_equal(fclose(out), 0);
    sora_text_pairs *pairs = open_text(at("large.csv"), NULL);
    assert_int_equal(sora_text_count(pairs), 4);
    expect(pairs, 1, text, "2", 3);
    assert_int_equal(sora_text_at(pairs, 2).source_bytes, megabyte);
    expect(pairs, 3, "small", "4", 5 + megabyte / 1000);
    sora_text_close(&pairs);
    out = fopen(at("endless.csv"), "wb");
    fprintf(out, "text,title\na,\"b\n");
    for (size_t i = 0; i < 65; i++) fwrite(text, 1, megabyte, out);
    assert_int_equal(fclose(out), 0);
    refuse(at("endless.csv"), NULL, "line 2: a field of more than 67108864 bytes begins here");
    free(text);
}

static void test_long_line(void **state)
{
    (void)state;
    FILE *out = fopen(at("line.jsonl"), "wb"); /* a hole: nothing but NULs */
    assert_non_null(out);
    assert_int_equal(fseek(out, 65 << 20, SEEK_SET), 0);
    fputc('\n', out);
    assert_int_equal(fclose(out), 0);
    refuse(at("line.jsonl"), NULL, "line 1 has more than 67108864 bytes");
}

/* Equal pairs have one hash, whatever file they stand in; where a text ends and in which order they come counts. */
static void test_hash(void **state)
{
    (void)state;
    sora_text_pairs *sets[] = { open_text(put("x.csv", "text,title\na,b\nab,c\n"), NULL),
                                open_text(put("y.csv", "text,title\nab,c\na,b\n"), NULL),
                                open_text(put("z.csv", "text,title\na,b\na,bc\n"), NULL),
                                open_text(put("w.csv", "title,text\nb,a\n"), NULL) };
    sora_text_pairs *same =
        open_text(put("x.jsonl", "{\"text\": \"a\", \"title\": \"b\"}\n{\"text\": \"ab\", \"title\": \"c\"}\n"), NULL);
    uint64_t hash = sora_text_hash(sets[0], 5);
    assert_true(hash == sora_text_hash(same, 5) && hash != sora_text_hash(same, 6));
    for (int i = 1; i < 4; i++) assert_true(hash != sora_text_hash(sets[i], 5));
    for (int i = 0; i < 4; i++) sora_text_close(&sets[i]);
    sora_text_close(&same);
}

static void test_disjoint(void **state)
{
    (void)state;
    sora_text_pairs *a = open_text(put("x.csv", "text,title\na,b\nab,c\ne,f\ng,h\n"), NULL);
    sora_text_pairs *b = open_text(put("y.csv", "text,title\na,bc\na,c\n\"e\",\"F\"\n"), NULL);
    sora_text_pairs *c =
        open_text(put("z.jsonl", "{\"text\": \"g\", \"title\": \"h\"}\n{\"text\": \"e\", \"title\": \"f\"}\n"), NULL);
    OK(sora_text_check_disjoint(a, b, &error));
    OK(sora_text_check_disjoint(b, c, &error));
    FAILS(sora_text_check_disjoint(a, c, &error), SORA_ERROR_INPUT, "line 4 of ");
    assert_non_null(strstr(error.message, "line 2 of "));
    FAILS(sora_text_check_disjoint(c, a, &error), SORA_ERROR_INPUT, "line 1 of ");
    FAILS(sora_text_check_disjoint(a, a, &error), SORA_ERROR_INPUT, "the same pair");
    sora_text_close(&a);
    sora_text_close(&b);
    sora_text_close(&c);
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t valid, count;
    } cases[] = {
        { "", 0, 0 },
        { "abc", 3, 3 },
        { "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 19, 7 },
        { "a\xc1\xbf", 1, 1 },        /* overlong */
        { "\xe0\x9f\xbf", 0, 0 },     /* overlong */
        { "\xf0\x8f\xbf\xbf", 0, 0 }, /* overlong */
        { "\xf4\x90\x80\x80", 0, 0 }, /* above U+10FFFF */
        { "\xf8\x88\x80\x80\x80", 0, 0 },
        { "ab\x80", 2, 2 },                   /* nothing to continue */
        { "ab\xe2\x82", 2, 2 },               /* cut off */
        { "\xed\x9f\xbf\xed\xbf\xbf", 3, 1 }, /* the last before the surrogates, and one of them */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t valid = 99, count = sora_utf8_count(cases[i].text, strlen(cases[i].text), &valid);
        if (valid != cases[i].valid || count != cases[i].count) fail_msg("case %zu: %zu valid, %zu code points", i, valid, count);
    }
    size_t valid;
    assert_int_equal(sora_utf8_count("a\0b", 3, &valid), 1);
    assert_int_equal(valid, 1);
}

/* Any cut of a good file is read or refused, never worse. */
static void test_cut(void **state)
{
    (void)state;
    static const char *const files[][2] = {
        { "cut.csv", "\xef\xbb\xbftext,title\r\n\"a\r\n\"\"b\xc3\xa9\",c\r\nd,\"e\nf\"\r\n" },
        { "cut.jsonl",
          "\xef\xbb\xbf{\"text\": \"a\xc3\xa9\", \"title\": \"b\\u00e9\"}\r\n{\"source\": [\"c\"], \"target\": [\"d\"]}\r\n" }
    };
    for (int i = 0; i < 2; i++)
        for (size_t bytes = 0; bytes < strlen(files[i][1]); bytes++) {
            sora_text_pairs *pairs;
            const char *path = put_bytes(files[i][0], files[i][1], bytes);
            if (sora_text_open(path, NULL, &pairs, &error) == SORA_OK)
                sora_text_close(&pairs);
            else
                assert_int_equal(error.status, SORA_ERROR_INPUT);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv),       cmocka_unit_test(test_csv_line_ends), cmocka_unit_test(test_columns),
        cmocka_unit_test(test_lengths),   cmocka_unit_test(test_csv_broken),    cmocka_unit_test(test_files),
        cmocka_unit_test(test_json),      cmocka_unit_test(test_json_broken),   cmocka_unit_test(test_large),
        cmocka_unit_test(test_long_line), cmocka_unit_test(test_hash),          cmocka_unit_test(test_disjoint),
        cmocka_unit_test(test_utf8),      cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
