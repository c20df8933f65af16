/* SPDX-License-Identifier: Apache-2.0 */
/* In which order T5's texts come, and that a text is corrupted anew each epoch. */
#include "train/t5_batches.h"
#include "../fixture.h"
#include "soracl/t5.h"
#include "soracl/vocabulary.h"

enum { TEXTS = 250, BATCH = 4, WHOLE = TEXTS / BATCH, LONGEST = 64 };

static sora_text_pairs *pairs;
static sora_tokenizer *tokenizer;

/* Every text is longer than the one before. */
static int open_texts(void **state)
{
    static const char *const words[] = { "the", "red", "old", "small", "house", "garden", "walks" };
    char *list[TEXTS];
    sora_error error;
    if (open_folder(state)) return -1;
    FILE *out = fopen(at("texts.csv"), "w");
    fprintf(out, "text,title\n");
    for (int i = 0; i < TEXTS; i++) {
        char *text = list[i] = calloc(1, 600);
        for (int w = 0; (int)strlen(text) < 20 + 2 * i; w++) strcat(strcat(text, words[(i + w * w) % 7]), " ");
        text[20 + 2 * i - 1] = 'e';
        text[20 + 2 * i] = '\0';
        fprintf(out, "%s,%s\n", text, words[i % 7]);
    }
    fclose(out);
    sora_status status = sora_vocabulary_train((const char *const *)list, TEXTS, &(sora_vocabulary_options) { .size = 40 },
                                               at("spiece.model"), &error);
    for (int i = 0; i < TEXTS; i++) free(list[i]);
    if (status == SORA_OK) status = sora_tokenizer_create(at("spiece.model"), &tokenizer, &error);
    if (status == SORA_OK) status = sora_text_open(at("texts.csv"), NULL, &pairs, &error);
    if (status != SORA_OK) print_message("%s\n", error.message);
    return status == SORA_OK ? 0 : -1;
}

static int close_texts(void **state)
{
    sora_text_close(&pairs);
    sora_tokenizer_destroy(&tokenizer);
    return close_folder(state);
}

static sora_t5_batches *open_batches(bool spans, uint64_t seed)
{
    sora_error error;
    sora_t5_batches *batches;
    OK(sora_t5_batches_create(pairs, tokenizer,
                              &(sora_t5_batches_options) { .batch = BATCH,
                                                           .prefix = "",
                                                           .max_source = LONGEST,
                                                           .max_target = LONGEST,
                                                           .shuffle = true,
                                                           .spans = spans,
                                                           .seed = seed },
                              &batches, &error));
    return batches;
}

/* The next epoch's texts in their order, each of them once. */
static void read_epoch(sora_t5_batches *batches, uint32_t order[TEXTS])
{
    sora_error error;
    bool seen[TEXTS] = { false };
    int count = 0;
    for (uint64_t b = 0; b < sora_t5_batches_per_epoch(batches); b++) {
        sora_t5_batch batch;
        OK(sora_t5_batches_next(batches, &batch, &error));
        for (int i = 0; i < batch.count; i++) {
            assert_true(count < TEXTS && batch.samples[i] < TEXTS && !seen[batch.samples[i]]);
            seen[batch.samples[i]] = true;
            order[count++] = batch.samples[i];
        }
    }
    assert_int_equal(count, TEXTS);
}

/* Batches that are longer than the one before them. */
static int rises(const uint32_t order[TEXTS])
{
    int count = 0;
    for (int b = 1; b < WHOLE; b++) count += order[b * BATCH] > order[(b - 1) * BATCH];
    return count;
}

static void test_order(void **state)
{
    (void)state;
    uint32_t first[TEXTS], second[TEXTS], other[TEXTS];
    sora_t5_batches *batches = open_batches(false, 1), *seed2 = open_batches(false, 2);
    read_epoch(batches, first);
    read_epoch(batches, second);
    read_epoch(seed2, other);
    assert_memory_not_equal(first, second, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
    /* Batches of texts of like length, but neither the longest nor the shortest first: half of them are longer than the last. */
    assert_in_range(rises(first), WHOLE / 4, 3 * WHOLE / 4);
    assert_in_range(rises(second), WHOLE / 4, 3 * WHOLE / 4);
    /* The same wherever it begins. */
    sora_t5_batches_seek(batches, sora_t5_batches_per_epoch(batches));
    read_epoch(batches, other);
    assert_memory_equal(second, other, sizeof second);
    sora_t5_batches_destroy(&batches);
    sora_t5_batches_destroy(&seed2);
}

/* The sources of an epoch by text, with zeros behind. */
static void read_sources(sora_t5_batches *batches, int32_t sources[TEXTS][LONGEST])
{
    sora_error error;
    memset(sources, 0, sizeof(int32_t[TEXTS][LONGEST]));
    for (uint64_t b = 0; b < sora_t5_batches_per_epoch(batches); b++) {
        sora_t5_batch batch;
        OK(sora_t5_batches_next(batches, &batch, &error));
        for (int i = 0; i < batch.count; i++)
            memcpy(sources[batch.samples[i]], batch.sources[i], (size_t)batch.source_lengths[i] * sizeof(int32_t));
    }
}

static void test_spans_of_epochs(void **state)
{
    (void)state;
    static int32_t first[TEXTS][LONGEST], second[TEXTS][LONGEST];
    sora_t5_batches *batches = open_batches(true, 1);
    int same = 0;
    read_sources(batches, first);
    read_sources(batches, second);
    for (int i = 0; i < TEXTS; i++) same += memcmp(first[i], second[i], sizeof first[i]) == 0;
    /* A short text has few places for a span. */
    assert_in_range(same, 0, TEXTS / 2);
    sora_t5_batches_destroy(&batches);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_order), cmocka_unit_test(test_spans_of_epochs) };
    return cmocka_run_group_tests(tests, open_texts, close_texts);
}
