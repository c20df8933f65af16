/* SPDX-License-Identifier: Apache-2.0 */
/* What a model's folder says in JSON: taken, or refused by name. */
#include "../fixture.h"
#include "model/t5.h"

static void write_json(const char *name, const char *text)
{
    sora_error error;
    OK(sora_file_write(at(name), text, strlen(text), &error));
}

static sora_status read_config(const char *text, sora_t5_config *config, sora_error *error)
{
    json_t *json;
    write_json("config.json", text);
    sora_status status = sora_t5_config_read(folder, config, &json, error);
    json_decref(json);
    return status;
}

/* mT5 has T5's keys, and computes other logits. */
static void test_model_types(void **state)
{
    (void)state;
    static const char format[] = "{\"model_type\": \"%s\", \"vocab_size\": 200, \"d_model\": 32, \"d_kv\": 16, \"d_ff\": 64, "
                                 "\"num_layers\": 2, \"num_heads\": 2}";
    sora_error error;
    sora_t5_config config;
    char text[256];
    snprintf(text, sizeof text, format, "t5");
    OK(read_config(text, &config, &error));
    assert_int_equal(config.decoder_layers, 2);
    snprintf(text, sizeof text, format, "mt5");
    FAILS(read_config(text, &config, &error), SORA_ERROR_INPUT, "config.json: model_type is \"mt5\"; this program has t5");
}

static sora_status read_generation(const char *text, sora_t5_generation *options, sora_error *error)
{
    write_json("generation_config.json", text);
    sora_t5_generation_default(options);
    return sora_t5_generation_read(folder, options, error);
}

/* What changes the output is taken or refused; what is turned off, or is of no weight to it, passes. */
static void test_generation(void **state)
{
    (void)state;
    sora_error error;
    sora_t5_generation got;
    static const char *const refused[][2] = {
        { "{\"repetition_penalty\": 1.2}", "generation_config.json: \"repetition_penalty\": 1.2: not supported" },
        { "{\"suppress_tokens\": [3, 4]}", "\"suppress_tokens\": [3,4]" },
        { "{\"encoder_no_repeat_ngram_size\": 3}", "\"encoder_no_repeat_ngram_size\": 3" },
        { "{\"forced_bos_token_id\": 0}", "\"forced_bos_token_id\": 0" },
        { "{\"forced_eos_token_id\": 1}", "\"forced_eos_token_id\": 1" },
        { "{\"bad_words_ids\": [[5]]}", "\"bad_words_ids\": [[5]]" },
        { "{\"num_beam_groups\": 2}", "\"num_beam_groups\": 2" },
        { "{\"penalty_alpha\": 0.6, \"top_k\": 4}", "\"penalty_alpha\": 0.6" },
        { "{\"renormalize_logits\": true}", "\"renormalize_logits\": true" },
        { "{\"early_stopping\": \"soon\"}", "\"early_stopping\" is neither true, false nor \"never\"" },
    };
    for (size_t i = 0; i < SORA_COUNT(refused); i++)
        FAILS(read_generation(refused[i][0], &got, &error), SORA_ERROR_INPUT, refused[i][1]);
    /* As Transformers writes them all out. */
    OK(read_generation(
        "{\"repetition_penalty\": 1.0, \"encoder_repetition_penalty\": 1.0, \"encoder_no_repeat_ngram_size\": 0, "
        "\"num_beam_groups\": 1, \"diversity_penalty\": 0.0, \"num_return_sequences\": 1, \"penalty_alpha\": null, "
        "\"guidance_scale\": null, \"typical_p\": 1.0, \"epsilon_cutoff\": 0.0, \"eta_cutoff\": 0.0, "
        "\"bad_words_ids\": null, \"suppress_tokens\": [], \"renormalize_logits\": false, \"use_cache\": true, "
        "\"do_sample\": true, \"top_k\": 7}",
        &got, &error));
    assert_true(got.sample && got.top_k == 7);
    OK(read_generation("{\"_from_model_config\": true, \"decoder_start_token_id\": 0, \"eos_token_id\": 1, \"pad_token_id\": 0, "
                       "\"early_stopping\": true, \"length_penalty\": 2.0, \"max_length\": 200, \"min_length\": 30, "
                       "\"no_repeat_ngram_size\": 3, \"num_beams\": 4, \"prefix\": \"summarize: \", "
                       "\"transformers_version\": \"4.27.0.dev0\"}",
                       &got, &error));
    assert_true(got.beams == 4 && got.max_length == 200 && got.min_length == 30 && got.no_repeat_ngram == 3 && !got.sample);
}

#define CONFIG(more)                                                                                                 \
    "{\"model_type\": \"t5\", \"vocab_size\": 200, \"d_model\": 32, \"d_kv\": 16, \"d_ff\": 64, \"num_layers\": 2, " \
    "\"num_heads\": 2" more "}"

static void ends_are(int start, int eos)
{
    sora_error error;
    sora_t5_config config;
    json_t *json;
    int got[2];
    OK(sora_t5_config_read(folder, &config, &json, &error));
    json_decref(json);
    OK(sora_t5_config_read_ends(folder, &config, &got[0], &got[1], &error));
    assert_int_equal(got[0], start);
    assert_int_equal(got[1], eos);
}

/* As Transformers has it: generation_config.json's ids before config.json's, which training's labels go by. */
static void test_ends(void **state)
{
    (void)state;
    sora_error error;
    sora_t5_config config = { .vocabulary = 0 };
    int start, eos;
    OK(read_config(CONFIG(", \"decoder_start_token_id\": 3, \"eos_token_id\": 4"), &config, &error));
    remove(at("generation_config.json"));
    ends_are(3, 4);
    write_json("generation_config.json", "{\"eos_token_id\": [5]}");
    ends_are(3, 5);
    write_json("generation_config.json", "{\"decoder_start_token_id\": 6, \"eos_token_id\": 7, \"pad_token_id\": 8}");
    ends_are(6, 7);
    write_json("generation_config.json", "{\"bos_token_id\": 9}");
    ends_are(9, 4);
    write_json("generation_config.json", "{\"eos_token_id\": [1, 5]}");
    FAILS(sora_t5_config_read_ends(folder, &config, &start, &eos, &error), SORA_ERROR_INPUT,
          "generation_config.json: \"eos_token_id\" has 2 ids; expected one");
    write_json("generation_config.json", "{\"eos_token_id\": 200}");
    FAILS(sora_t5_config_read_ends(folder, &config, &start, &eos, &error), SORA_ERROR_INPUT,
          "generation_config.json: eos_token_id is 200; expected 0 to 199");
}

/* Older models have settings in config.json itself; Transformers takes them where there is no other file. */
static void test_generation_of_config(void **state)
{
    (void)state;
    sora_error error;
    sora_t5_config config;
    sora_t5_generation got;
    OK(read_config(
        CONFIG(", \"num_beams\": 3, \"max_length\": 40, \"task_specific_params\": {\"summarization\": {\"max_length\": 50}}"),
        &config, &error));
    OK(read_generation("{\"min_length\": 2}", &got, &error));
    assert_true(got.beams == 1 && got.max_length == 50 && got.min_length == 2);
    remove(at("generation_config.json"));
    sora_t5_generation_default(&got);
    OK(sora_t5_generation_read(folder, &got, &error));
    assert_true(got.beams == 3 && got.max_length == 50);
    OK(read_config(CONFIG(""), &config, &error));
    sora_t5_generation_default(&got);
    OK(sora_t5_generation_read(folder, &got, &error));
    assert_true(got.beams == 1 && got.max_length == 21);
    OK(read_config(CONFIG(", \"repetition_penalty\": 2.5"), &config, &error));
    FAILS(sora_t5_generation_read(folder, &got, &error), SORA_ERROR_INPUT,
          "config.json: \"repetition_penalty\": 2.5: not supported");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_types),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_generation_of_config),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
