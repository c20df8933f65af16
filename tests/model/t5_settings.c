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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_types),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
