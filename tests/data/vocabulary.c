/* SPDX-License-Identifier: Apache-2.0 */
/* Training of vocabularies: what comes out, equal bytes, silence, and texts on which SentencePiece must not be let loose. */
#include "soracl/vocabulary.h"
#include "../fixture.h"
#include "soracl/tokenizer.h"

#include <unistd.h>

#define LINES 400

static char *lines[LINES];

/* Sentences of a small language: every line another one. */
static int make_lines(void **state)
{
    static const char *const nouns[] = { "package", "library", "mailer", "compiler", "archive", "daemon", "editor" };
    static const char *const verbs[] = { "converts", "sends", "compiles", "reads", "lists", "edits" };
    for (int i = 0; i < LINES; i++)
        if (asprintf(&lines[i], "This %s %s the %s number %d and files of the %ss.", nouns[i % 7], verbs[i % 6], nouns[i / 7 % 7],
                     i, nouns[i / 49 % 7]) < 0)
            return -1;
    return open_folder(state);
}

static int free_lines(void **state)
{
    for (int i = 0; i < LINES; i++) free(lines[i]);
    return close_folder(state);
}

static sora_status train(const char *const *text, size_t count, int size, double coverage, const char *name, sora_error *error)
{
    return sora_vocabulary_train(text, count, &(sora_vocabulary_options) { .size = size, .coverage = coverage }, at(name), error);
}

static void expect_same_files(const char *a, const char *b)
{
    sora_error error;
    unsigned char *first, *second;
    size_t bytes, others;
    OK(sora_file_read(at(a), 1 << 24, &first, &bytes, &error));
    OK(sora_file_read(at(b), 1 << 24, &second, &others, &error));
    assert_int_equal(bytes, others);
    assert_memory_equal(first, second, bytes);
    free(first);
    free(second);
}

static void test_model(void **state)
{
    (void)state;
    sora_error error;
    sora_tokenizer *tokenizer;
    int32_t *ids;
    char *text;
    size_t count;
    static const char sentence[] = "The  mailer lists\tthe ﬁles of <extra_id_3> archive 7.";
    OK(train((const char *const *)lines, LINES, 120, 0, "a.model", &error));
    OK(train((const char *const *)lines, LINES, 120, 0, "b.model", &error));
    expect_same_files("a.model", "b.model");
    OK(sora_tokenizer_create(at("a.model"), &tokenizer, &error)); /* checks pad, eos and unknown */
    assert_int_equal(sora_tokenizer_size(tokenizer), 120 + SORA_TOKENIZER_SENTINELS);
    OK(sora_tokenizer_encode(tokenizer, sentence, strlen(sentence), &ids, &count, &error));
    OK(sora_tokenizer_decode(tokenizer, ids, count, &text, &error));
    assert_string_equal(text, "The mailer lists the files of <extra_id_3> archive 7."); /* NFKC, and one space for many */
    free(text);
    free(ids);
    OK(sora_tokenizer_encode(tokenizer, "\xe6\xbc\xa2", 3, &ids, &count, &error)); /* no byte fallback */
    assert_int_equal(ids[count - 1], SORA_TOKEN_UNKNOWN);
    free(ids);
    sora_tokenizer_destroy(&tokenizer);
}

/* A long line is not skipped but cut where words end; words too long are. */
static void test_long_line(void **state)
{
    (void)state;
    sora_error error;
    sora_tokenizer *tokenizer;
    int32_t *ids;
    size_t bytes = 0, used = 0, count;
    for (int i = 0; i < LINES; i++) bytes += strlen(lines[i]) + 1;
    assert_true(bytes > 3 * 4192);
    char *all = calloc(bytes + 1, 1), *word = calloc(1 << 20, 1);
    for (int i = 0; i < LINES; i++) used += (size_t)sprintf(all + used, "%s%s", i ? " " : "", lines[i]);
    memset(word, 'x', (1 << 20) - 1); /* left out */
    OK(train((const char *const[]) { word, all, word }, 3, 120, 0, "long.model", &error));
    OK(sora_tokenizer_create(at("long.model"), &tokenizer, &error));
    OK(sora_tokenizer_encode(tokenizer, lines[LINES - 1], strlen(lines[LINES - 1]), &ids, &count, &error));
    for (size_t i = 0; i < count; i++) assert_int_not_equal(ids[i], SORA_TOKEN_UNKNOWN);
    assert_in_range(count, 1, 40); /* words, not letters */
    free(ids);
    sora_tokenizer_destroy(&tokenizer);
    FAILS(train((const char *const[]) { word }, 1, 120, 0, "word.model", &error), SORA_ERROR_INPUT, "no text");
    free(all);
    free(word);
}

static void test_refused(void **state)
{
    (void)state;
    sora_error error;
    const char *const *good = (const char *const *)lines;
    FAILS(train(good, LINES, 3, 0, "x.model", &error), SORA_ERROR_ARGUMENT, "3 pieces");
    FAILS(train(good, LINES, 1000001, 0, "x.model", &error), SORA_ERROR_ARGUMENT, "1000001");
    FAILS(train(good, LINES, 120, 0.5, "x.model", &error), SORA_ERROR_ARGUMENT, "0.98 to 1");
    FAILS(train(good, LINES, 20, 0, "x.model", &error), SORA_ERROR_INPUT, "Vocabulary size is smaller than required_chars");
    FAILS(train(NULL, 0, 120, 0, "x.model", &error), SORA_ERROR_INPUT, "no text");
    FAILS(train((const char *const[]) { "good", "b\xff" }, 2, 120, 0, "x.model", &error), SORA_ERROR_INPUT,
          "line 2: byte 1 (0xff)");
    FAILS(train(good, LINES, 120, 0, "none/x.model", &error), SORA_ERROR_IO, "none/x.model");
    assert_false(sora_path_exists(at("x.model")));
    FAILS(sora_vocabulary_check("a\0b", 3, &error), SORA_ERROR_INPUT, "NUL at byte 1");
    static const char word[] = "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x99\x82";
    OK(sora_vocabulary_check(word, strlen(word), &error));
    static const char *const broken[] = {
        "\x80", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80"
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        FAILS(sora_vocabulary_check(broken[i], strlen(broken[i]), &error), SORA_ERROR_INPUT, "byte 0");
}

/* Texts of which normalisation leaves nothing, or next to nothing: an error or a tiny model, never the end of the program. */
static void test_odd_texts(void **state)
{
    (void)state;
    sora_error error;
    static const char *const blank[] = {
        "", " ", "\t", "\x01\x02", "\xc2\xa0", "\xe3\x80\x80", "\xe2\x80\x8b\xef\xbb\xbf", "\xe2\x96\x85 word"
    };
    for (size_t i = 0; i < sizeof blank / sizeof *blank; i++)
        FAILS(train(&blank[i], 1, 50, 0, "x.model", &error), SORA_ERROR_INPUT, "no text");
    static const char *const tiny[] = { "a",
                                        "aa",
                                        "aaaaaaaaaaaaaaaa",
                                        "<pad>",
                                        "</s> <unk>",
                                        "<pad><pad>",
                                        ". .",
                                        "a\tb",
                                        "\n\n1",
                                        "\xc3\xbc",
                                        "\xf0\x9f\x99\x82",
                                        "\xe6\xbc\xa2\xe5\xad\x97",
                                        "\xef\xb7\xba",
                                        "e\xcc\x81" };
    for (size_t i = 0; i < sizeof tiny / sizeof *tiny; i++)
        for (int copies = 1; copies <= 3; copies++) {
            const char *text[] = { tiny[i], tiny[i], tiny[i] };
            memset(&error, 0, sizeof error);
            sora_status status = train(text, (size_t)copies, 50, 1, "tiny.model", &error);
            assert_true(status == SORA_OK || status == SORA_ERROR_INPUT);
        }
    OK(train(tiny, sizeof tiny / sizeof *tiny, 200, 1, "tiny.model", &error));
}

/* Fewer pieces than asked for where the text has no more; nothing is printed on the way. */
static void test_small_and_silent(void **state)
{
    (void)state;
    sora_error error;
    sora_tokenizer *tokenizer;
    int kept = dup(2);
    assert_non_null(freopen(at("printed"), "w", stderr));
    OK(train((const char *const *)lines, 20, 30000, 0, "small.model", &error));
    train((const char *const *)lines, 20, 10, 0, "small.model", &error);
    fflush(stderr);
    dup2(kept, 2);
    close(kept);
    unsigned char *printed;
    size_t bytes;
    OK(sora_file_read(at("printed"), 1 << 20, &printed, &bytes, &error));
    assert_int_equal(bytes, 0);
    free(printed);
    OK(sora_tokenizer_create(at("small.model"), &tokenizer, &error));
    assert_in_range(sora_tokenizer_size(tokenizer), 120, 400);
    sora_tokenizer_destroy(&tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),     cmocka_unit_test(test_long_line),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_odd_texts), cmocka_unit_test(test_small_and_silent),
    };
    return cmocka_run_group_tests(tests, make_lines, free_lines);
}
