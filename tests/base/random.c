/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"
#include "../test.h"

/* Random123's known answer for key 0 and counter 0; purpose 0 leaves the key as the seed has it. */
static void test_known_answer(void **state)
{
    (void)state;
    static const uint32_t expected[4] = { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 };
    uint32_t words[4];
    sora_philox(0, (sora_purpose)0, (const uint32_t[4]) { 0 }, words);
    assert_memory_equal(words, expected, sizeof words);
}

/* A stream gives the words of its counters in their order, wherever it begins, and a copy goes on as the stream does. */
static void test_stream(void **state)
{
    (void)state;
    uint32_t words[16];
    for (uint32_t block = 0; block < 4; block++)
        sora_philox(7, SORA_PURPOSE_TEST, (const uint32_t[4]) { 1, 2, 3, block }, words + 4 * block);
    for (uint32_t first = 0; first < 9; first++) {
        sora_random_stream stream = {
            .seed = 7, .purpose = SORA_PURPOSE_TEST, .step = 1, .stream = 2, .sample = 3, .element = first
        };
        for (uint32_t i = first; i < 12; i++) {
            sora_random_stream copy = stream;
            assert_int_equal(sora_random_u32(&stream), words[i]);
            assert_int_equal(sora_random_u32(&copy), words[i]);
            assert_int_equal(sora_random_u32(&copy), words[i + 1]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_known_answer), cmocka_unit_test(test_stream) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
