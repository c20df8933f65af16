/* SPDX-License-Identifier: Apache-2.0 */
/* What needs a model but no real data: sources longer than they look. */
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
    expect_source("a library", 16);
    expect_source("", 16);
    free(text);
    sora_error error;
    int32_t *ids;
    int count;
    memset(invalid, 0x80, sizeof invalid);
    FAILS(sora_tokenizer_source(tokenizer, "", invalid, sizeof invalid, 4, &ids, &count, &error), SORA_ERROR_INPUT, "no UTF-8");
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
    };
    return cmocka_run_group_tests(tests, open_mini, close_mini);
}
