/* SPDX-License-Identifier: Apache-2.0 */
/* T5's real tokenizer, where SORACL_TEST_DATA has it: expected ids, sentinels, and models that are broken. */
#include "soracl/tokenizer.h"
#include "../test.h"
#include "base/file.h"

#include <jansson.h>

static char model[1024];
static sora_tokenizer *tokenizer;

static void expect_ids(const char *text, const int32_t *expected, size_t count)
{
    sora_error error;
    int32_t *ids;
    size_t got;
    OK(sora_tokenizer_encode(tokenizer, text, strlen(text), &ids, &got, &error));
    bool equal = got == count && (count == 0 || memcmp(ids, expected, count * sizeof *ids) == 0);
    if (!equal) fail_msg("\"%s\": %zu ids, the first %d; expected %zu", text, got, got ? ids[0] : -1, count);
    free(ids);
}

/* Every case: [text, ids with eos, decoded]. */
static void test_expected_ids(void **state)
{
    (void)state;
    char path[1024];
    json_error_t where;
    size_t index;
    json_t *one;
    snprintf(path, sizeof path, "%.*s/tokenizer_cases.json", (int)(strrchr(model, '/') - model), model);
    json_t *cases = json_load_file(path, 0, &where);
    assert_true(json_array_size(cases) > 1000);
    json_array_foreach(cases, index, one)
    {
        int32_t ids[1024];
        size_t count = json_array_size(json_array_get(one, 1));
        assert_in_range(count, 1, 1024);
        for (size_t i = 0; i < count; i++) ids[i] = (int32_t)json_integer_value(json_array_get(json_array_get(one, 1), i));
        assert_int_equal(ids[count - 1], SORA_TOKEN_EOS);
        expect_ids(json_string_value(json_array_get(one, 0)), ids, count - 1);
    }
    json_decref(cases);
}

static void test_special_tokens(void **state)
{
    (void)state;
    expect_ids("", NULL, 0);
    expect_ids("The <extra_id_0> walks in <extra_id_1> park", (const int32_t[]) { 37, 32099, 10681, 16, 32098, 2447 }, 6);
    expect_ids("<extra_id_99>", (const int32_t[]) { 32000 }, 1);
    expect_ids("<extra_id_0><extra_id_7>", (const int32_t[]) { 32099, 32092 }, 2);
    expect_ids("</s><pad>", (const int32_t[]) { 1, 0 }, 2);
    const char *plain[] = { "<extra_id_>", "<extra_id_100>", "<extra_id_07>", "<extra_id_5", "<extra_id_-1>", "<" };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) { /* none of these is a special token */
        sora_error error;
        int32_t *ids;
        size_t count;
        OK(sora_tokenizer_encode(tokenizer, plain[i], strlen(plain[i]), &ids, &count, &error));
        for (size_t k = 0; k < count; k++) assert_true(ids[k] < 32000 && ids[k] != SORA_TOKEN_EOS && ids[k] != SORA_TOKEN_PAD);
        free(ids);
    }
}

static void test_decode(void **state)
{
    (void)state;
    sora_error error;
    char *text;
    assert_int_equal(sora_tokenizer_size(tokenizer), 32100);
    OK(sora_tokenizer_decode(tokenizer, (const int32_t[]) { 0, 37, 12832, 49, 0, 1, 37 }, 7, &text, &error));
    assert_string_equal(text, "The Wanderer");
    free(text);
    OK(sora_tokenizer_decode(tokenizer, (const int32_t[]) { 37, 32099, 10681, 16, 32098, 2447 }, 6, &text, &error));
    assert_string_equal(text, "The <extra_id_0> walks in <extra_id_1> park");
    free(text);
    OK(sora_tokenizer_decode(tokenizer, NULL, 0, &text, &error));
    assert_string_equal(text, "");
    free(text);
    FAILS(sora_tokenizer_decode(tokenizer, (const int32_t[]) { 37, 32100 }, 2, &text, &error), SORA_ERROR_INPUT, "32100");
    OK(sora_tokenizer_decode_generated(tokenizer, (const int32_t[]) { 32099, 37, 32100, 12832, 2, 32127, 49, 0, 32000, 1 }, 10,
                                       &text, &error));
    assert_string_equal(text, "The Wanderer");
    free(text);
    FAILS(sora_tokenizer_decode(tokenizer, (const int32_t[]) { -1 }, 1, &text, &error), SORA_ERROR_INPUT, "-1");
}

static void test_broken(void **state)
{
    (void)state;
    sora_error error;
    sora_tokenizer *other;
    unsigned char *bytes;
    size_t count;
    int32_t *ids;
    char folder[] = "/tmp/soracl-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/spiece.model", folder);
    FAILS(sora_tokenizer_create(folder, &other, &error), SORA_ERROR_INPUT, "spiece.model");
    OK(sora_file_write(path, "no model", 8, &error));
    FAILS(sora_tokenizer_create(folder, &other, &error), SORA_ERROR_INPUT, "no SentencePiece model");
    OK(sora_file_write(path, "", 0, &error));
    FAILS(sora_tokenizer_create(folder, &other, &error), SORA_ERROR_INPUT, "spiece.model");
    OK(sora_file_read(model, 1 << 24, &bytes, &count, &error));
    for (size_t cut = 1; cut < count; cut += count / 9) {
        OK(sora_file_write(path, bytes, cut, &error));
        if (sora_tokenizer_create(folder, &other, &error) == SORA_OK) sora_tokenizer_destroy(&other);
    }
    free(bytes);
    FAILS(sora_tokenizer_encode(tokenizer, "a\0b", 3, &ids, &count, &error), SORA_ERROR_INPUT, "NUL at byte 1");
    FAILS(sora_tokenizer_encode(tokenizer, "gr\xfc\xdf", 4, &ids, &count, &error), SORA_ERROR_INPUT, "byte 2 (0xfc)");
    OK(sora_folder_remove(folder, &error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expected_ids),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_broken),
    };
    const char *data = getenv("SORACL_TEST_DATA");
    snprintf(model, sizeof model, "%s/t5/spiece.model", data ? data : "");
    if (!data || !sora_path_exists(model)) {
        puts("1..0 # SKIP no t5/spiece.model in the folder SORACL_TEST_DATA");
        return 0;
    }
    if (sora_tokenizer_create(model, &tokenizer, NULL)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sora_tokenizer_destroy(&tokenizer);
    return failed;
}
