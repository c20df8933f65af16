/* SPDX-License-Identifier: Apache-2.0 */
/* What needs a model but no real data: sources longer than they look, and models that would lead the library astray. */
#include "soracl/tokenizer.h"
#include "../fixture.h"

static sora_tokenizer *tokenizer;

/* The source of a text in `most` ids is what all of it would have: the first most - 1, then the end. */
static void expect_source(const char *text, int most)
{
    sora_error error;
    int32_t *ids, *all;
    int count;
    size_t found;
    OK(sora_tokenizer_source(tokenizer, "summarize: ", text, strlen(text), most, &ids, &count, &error));
    char *whole;
    assert_true(asprintf(&whole, "summarize: %s", text) > 0);
    OK(sora_tokenizer_encode(tokenizer, whole, strlen(whole), &all, &found, &error));
    assert_int_equal(count, (found < (size_t)most ? found : (size_t)most - 1) + 1);
    assert_memory_equal(ids, all, (size_t)(count - 1) * sizeof *ids);
    assert_int_equal(ids[count - 1], SORA_TOKEN_EOS);
    free(ids);
    free(all);
    free(whole);
}

static void test_source(void **state)
{
    (void)state;
    char *text = malloc(40000), invalid[3000];
    assert_non_null(text);
    memset(text, ' ', 39000); /* any number of spaces is none, or one */
    strcpy(text + 39000, "a library for the mailer");
    expect_source(text, 16);
    expect_source(text, 9);
    for (int i = 0; i < 13000; i++) memcpy(text + 3 * i, "\xe6\xbc\xa2", 3); /* any number of unknown characters is one <unk> */
    expect_source(text, 16);
    for (int i = 0; i < 19500; i++) memcpy(text + 2 * i, "a ", 2); /* a cut is enough */
    expect_source(text, 16);
    for (int zeros = 1023; zeros < 1030; zeros++) { /* within a word a cut may change the first tokens */
        memset(text, '0', 1030);
        strcpy(text + zeros, " of them");
        expect_source(text, 16);
    }
    memset(text, '0', 39000);
    text[3000] = '\0';
    expect_source(text, 16);
    expect_source("a library", 16);
    expect_source("", 16);
    free(text);
    sora_error error;
    int32_t *ids;
    int count;
    memset(invalid, 0x80, sizeof invalid);
    FAILS(sora_tokenizer_source(tokenizer, "", invalid, sizeof invalid, 4, &ids, &count, &error), SORA_ERROR_INPUT, "no UTF-8");
    FAILS(sora_tokenizer_source(tokenizer, "", "a", 1, 0, &ids, &count, &error), SORA_ERROR_ARGUMENT, "at most 0 ids");
}

/* What Transformers writes beside a fine-tuned model has no spiece.model: said so, with what helps. */
static void test_absent(void **state)
{
    (void)state;
    sora_error error;
    sora_tokenizer *none;
    OK(sora_folder_create(at("saved"), &error));
    FAILS(sora_tokenizer_create(at("saved"), &none, &error), SORA_ERROR_INPUT, "saved/spiece.model: cannot open");
    OK(sora_file_write(at("saved/tokenizer.json"), "{}", 2, &error));
    FAILS(sora_tokenizer_create(at("saved"), &none, &error), SORA_ERROR_INPUT, "copy the spiece.model");
}

/* Each changes a sound model, whose table of normalisation is the bytes of a trie, the trie, texts. libsentencepiece 0.1.97 loads
 * them all, and with the right text follows most of them out of its arrays. */
static void test_hostile_models(void **state)
{
    (void)state;
    enum { SIZE, LEAF, OFFSET, ROOT, TEXTS, LOOP, PIECES, CASES, TABLE = 237561 };
    static const char name[] = "nmt_nfkc\x12\xf9\xbf\x0e"; /* then the table */
    sora_error error;
    sora_tokenizer *other;
    unsigned char *bytes;
    size_t count;
    char path[256];
    static uint32_t trie[1 << 16];
    snprintf(path, sizeof path, "%s/spiece.model", getenv("SORACL_TEST_T5_MINI"));
    for (int i = 0; i < CASES; i++) {
        OK(sora_file_read(path, 1 << 24, &bytes, &count, &error));
        unsigned char *map = memmem(bytes, count, name, sizeof name - 1);
        assert_non_null(map);
        map += sizeof name - 1;
        uint32_t size;
        memcpy(&size, map, 4);
        assert_in_range(size, 4, sizeof trie);
        memcpy(trie, map + 4, size);
        uint32_t base = trie[0] >> 10, a = base ^ 0xe3; /* where characters like U+3042 begin */
        assert_int_equal(trie[a] & 0xff, 0xe3);
        switch (i) {
        case LEAF:
            for (uint32_t k = 1; k < size / 4; k++)
                if (trie[k] >> 31) trie[k] |= 0x7fffff00;
            break;
        case OFFSET: trie[a] |= 0x7ffffc00; break;
        case ROOT: trie[0] = 0xfffffc00; break;
        case LOOP: trie[a] = (trie[a] & 0xff) | (a ^ base) << 10; break; /* below it is what is beside it: for ever */
        }
        memcpy(map + 4, trie, size);
        if (i == SIZE) memcpy(map, &(uint32_t) { TABLE - 1 }, 4);
        if (i == TEXTS) map[TABLE - 1] = 'x';
        if (i == PIECES) { /* 65 letters, of type 4 */
            bytes = realloc(bytes, count + 80);
            assert_non_null(bytes);
            memcpy(bytes + count, "\x0a\x45\x0a\x41", 4);
            memset(bytes + count + 4, 'q', 65);
            memcpy(bytes + count + 69, "\x18\x04", 2);
            count += 71;
        }
        OK(sora_file_write(at("hostile.model"), bytes, count, &error));
        FAILS(sora_tokenizer_create(at("hostile.model"), &other, &error), SORA_ERROR_INPUT, "precompiled_charsmap");
        free(bytes);
    }
}

static int open_mini(void **state)
{
    return open_folder(state) || sora_tokenizer_create(getenv("SORACL_TEST_T5_MINI"), &tokenizer, NULL) ? -1 : 0;
}

static int close_mini(void **state)
{
    sora_tokenizer_destroy(&tokenizer);
    return close_folder(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_source),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_hostile_models),
    };
    return cmocka_run_group_tests(tests, open_mini, close_mini);
}
