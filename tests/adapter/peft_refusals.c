/* SPDX-License-Identifier: Apache-2.0 */
/* What the exchange with PEFT refuses, by name, leaving every layer as it was; and the patterns and keys that it takes. */
#include "peft_net.h"

#include "adapter/peft_pattern.h"
#include "soracl/safetensors.h"

#include <jansson.h>
#include <unistd.h>

/* Layers of the small network: alpha and beta are adapted by the folder that the tests change; the last one is a convolution. */
static const char *const names[] = { "enc.0.alpha", "enc.0.beta", "enc.1.alpha", "enc.1.beta", "lm_head" };
enum { LINEAR = 5, IN = 7, OUT = 6 };

static void open_small(net *n)
{
    sora_error error;
    open_net(n);
    for (int i = 0; i < LINEAR; i++) add(n, names[i], IN, OUT);
    OK(sora_layers_add(n->layers, "conv", &(sora_layer_desc) { .in = 4, .out = 4, .kernel = 3 }, NULL, &error));
}

/* An adapter of PEFT's in folder NAME: rank 2 on the layers whose bit is set. */
static void write_folder(const char *name, unsigned mask)
{
    sora_error error;
    net n;
    open_small(&n);
    for (size_t i = 0; i < LINEAR; i++)
        if (mask >> i & 1) activate(&n, i, SORA_ADAPTER_LORA, 2, 4);
    OK(sora_peft_export(n.layers, at(name), NULL, &error));
    close_net(&n);
}

static char *config_path(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s/adapter_config.json", folder, name);
    return path;
}

/* Sets `key` (NULL: nothing) of the folder's configuration to a value given as JSON; "" takes the key away. */
static void set(const char *name, const char *key, const char *value)
{
    json_t *config = json_load_file(config_path(name), 0, NULL);
    assert_non_null(config);
    if (*value) {
        json_t *parsed = json_loads(value, JSON_DECODE_ANY, NULL);
        if (!parsed) fail_msg("the test's own JSON: %s", value);
        json_object_set_new(config, key, parsed);
    } else {
        json_object_del(config, key);
    }
    assert_int_equal(json_dump_file(config, config_path(name), 0), 0);
    json_decref(config);
}

static unsigned active_mask(const net *n)
{
    unsigned mask = 0;
    for (size_t i = 0; i < LINEAR; i++) mask |= (unsigned)describe(n, i).active << i;
    return mask;
}

/* The import fails, with those words, and all is as before. */
static void refused(const char *name, sora_status expected, const char *words)
{
    sora_error error;
    net n;
    open_small(&n);
    size_t params = sora_params_count(n.params);
    uint64_t trainable = sora_params_trainable_elements(n.params);
    FAILS(sora_peft_import(n.layers, at(name), &error), expected, words);
    assert_int_equal(active_mask(&n), 0);
    assert_int_equal(sora_params_count(n.params), params);
    assert_true(sora_params_trainable_elements(n.params) == trainable);
    close_net(&n);
}

static sora_layer_info taken(const char *name, unsigned mask)
{
    sora_error error;
    net n;
    sora_layer_info first = { 0 };
    open_small(&n);
    OK(sora_peft_import(n.layers, at(name), &error));
    if (active_mask(&n) != mask) fail_msg("%s: layers %x are active, expected %x", name, active_mask(&n), mask);
    for (size_t i = LINEAR; i-- > 0;)
        if (mask >> i & 1) first = describe(&n, i);
    close_net(&n);
    return first;
}

/* ---- Configuration ----------------------------------------------------------------------------------------------- */

static void test_refused_keys(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *words;
    } cases[] = {
        { "peft_type", "\"ADALORA\"", "ADALORA" },
        { "peft_type", "", "peft_type" },
        { "use_dora", "true", "\"use_dora\": true" },
        { "bias", "\"all\"", "\"bias\": \"all\"" },
        { "bias", "\"lora_only\"", "lora_only" },
        { "lora_bias", "true", "\"lora_bias\": true" },
        { "fan_in_fan_out", "true", "\"fan_in_fan_out\": true" },
        { "layers_to_transform", "[0]", "\"layers_to_transform\": [0]" },
        { "layers_to_transform", "0", "\"layers_to_transform\": 0" },
        { "layers_pattern", "\"block\"", "\"layers_pattern\": \"block\"" },
        { "target_parameters", "[\"w\"]", "target_parameters" },
        { "trainable_token_indices", "{\"embed\":[1]}", "trainable_token_indices" },
        { "modules_to_save", "[\"lm_head\"]", "\"modules_to_save\": [\"lm_head\"]" },
        { "alora_invocation_tokens", "[3, 4]", "\"alora_invocation_tokens\": [3,4]" },
        { "alora_anything", "\"on\"", "alora_anything" },
        { "use_qalora", "true", "\"use_qalora\": true" },
        { "use_bdlora", "{\"nblocks\":2}", "use_bdlora" },
        { "layer_replication", "[[0,2]]", "layer_replication" },
        { "loftq_config", "{\"loftq_bits\":4}", "loftq_config" },
        { "corda_config", "{\"a\":1}", "corda_config" },
        { "arrow_config", "{\"top_k\":3}", "arrow_config" },
        { "kasa_config", "{\"beta\":3}", "kasa_config" },
        { "velora_config", "{\"beta\":3}", "velora_config" },
        { "monteclora_config", "{\"beta\":3}", "monteclora_config" },
        { "megatron_config", "{\"a\":3}", "megatron_config" },
        { "ensure_weight_tying", "true", "ensure_weight_tying" },
        { "init_lora_weights", "\"pissa\"", "\"init_lora_weights\": \"pissa\"" },
        { "init_lora_weights", "\"pissa_niter_4\"", "pissa_niter_4" },
        { "init_lora_weights", "\"olora\"", "olora" },
        { "init_lora_weights", "\"loftq\"", "loftq" },
        { "init_lora_weights", "\"corda\"", "corda" },
        { "init_lora_weights", "\"lora_ga\"", "lora_ga" },
        { "init_lora_weights", "3", "init_lora_weights" },
        { "of_a_later_peft", "0.5", "\"of_a_later_peft\": 0.5" },
        { "of_a_later_peft", "\"on\"", "of_a_later_peft" },
        { "r", "0", "\"r\": 0" },
        { "r", "-1", "\"r\": -1" },
        { "r", "2.0", "\"r\": 2.0" },
        { "r", "true", "\"r\": true" },
        { "r", "2147483648", "\"r\": 2147483648" },
        { "r", "7", "at most 6" },
        { "r", "3", "base_model.model.enc.0.alpha.lora_A.weight is 2x7, expected 3x7" },
        { "lora_alpha", "\"4\"", "lora_alpha" },
        { "lora_alpha", "1e300", "lora_alpha" },
        { "lora_dropout", "1", "lora_dropout" },
        { "lora_dropout", "-0.1", "lora_dropout" },
        { "lora_dropout", "\"0\"", "lora_dropout" },
        { "use_rslora", "1", "use_rslora" },
        { "rank_pattern", "[]", "rank_pattern" },
        { "rank_pattern", "{\"alpha\": 0}", "rank_pattern: " },
        { "rank_pattern", "{\"alpha\": \"2\"}", "\"alpha\": \"2\"" },
        { "rank_pattern", "{\"al(?=pha)\": 2}", "\"rank_pattern\": pattern \"al(?=pha)\": \"(?=\"" },
        { "rank_pattern", "{\"beta\": 3}", "enc.0.beta.lora_A.weight is 2x7, expected 3x7" },
        { "alpha_pattern", "{\"alpha\": null}", "\"alpha\": null" },
        { "alpha_pattern", "{\"(\": 2}", "\"alpha_pattern\": pattern \"(\"" },
        { "target_modules", "", "target_modules" },
        { "target_modules", "null", "target_modules" },
        { "target_modules", "7", "\"target_modules\": 7" },
        { "target_modules", "[\"alpha\", 7]", "\"target_modules\": 7" },
        { "target_modules", "[]", "leave none" },
        { "target_modules", "[\"lph\"]", "leave none of the 6 layers (first: enc.0.alpha)" },
        { "target_modules", "\"alpha\"", "leave none" },
        { "target_modules", "\".*(?<!1)alpha\"", "\"target_modules\": pattern" },
        { "target_modules", "[\"alpha\"]", "enc.0.beta.lora_A.weight is more than expected" },
        { "target_modules", "[\"alpha\", \"beta\", \"lm_head\"]", "tensor base_model.model.lm_head.lora_A.weight is missing" },
        { "target_modules", "[\"alpha\", \"beta\", \"conv\"]", "conv, which is a convolution" },
        { "exclude_modules", "[\"beta\"]", "beta.lora_A.weight is more than expected" },
        { "exclude_modules", "\".*\"", "leave none" },
        { "exclude_modules", "{\"a\":1}", "exclude_modules" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_folder("keys", 15);
        set("keys", cases[i].key, cases[i].value);
        refused("keys", SORA_ERROR_INPUT, cases[i].words);
    }
}

static void test_keys_without_effect(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "use_dora", "false" },
        { "modules_to_save", "[]" },
        { "modules_to_save", "null" },
        { "layers_to_transform", "[]" },
        { "layers_pattern", "\"\"" },
        { "loftq_config", "{}" },
        { "of_a_later_peft", "null" },
        { "qalora_group_size", "16" },
        { "megatron_core", "\"megatron.core\"" },
        { "auto_mapping", "{\"base_model_class\":\"T5\"}" },
        { "peft_version", "\"0.21.2\"" },
        { "revision", "\"main\"" },
        { "task_type", "\"SEQ_2_SEQ_LM\"" },
        { "inference_mode", "false" },
        { "init_lora_weights", "false" },
        { "init_lora_weights", "\"gaussian\"" },
        { "bias", "" },
        { "lora_dropout", "" },
        { "use_rslora", "null" },
        { "rank_pattern", "null" },
        { "exclude_modules", "[]" },
    };
    write_folder("free", 15);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set("free", cases[i][0], cases[i][1]);
        taken("free", 15);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    write_folder("numbers", 15);
    set("numbers", "lora_dropout", "0.25");
    sora_layer_info info = taken("numbers", 15);
    assert_true(info.scale == 2.0f && info.alpha == 4.0f && info.dropout == 0.25f);
    set("numbers", "use_rslora", "true");
    assert_true(taken("numbers", 15).scale == (float)(4.0 / sqrt(2.0)));
    set("numbers", "use_rslora", "false");
    set("numbers", "lora_alpha", "");
    assert_true(taken("numbers", 15).scale == 4.0f);                                    /* PEFT's default of 8 */
    set("numbers", "alpha_pattern", "{\"beta\": 1, \"enc.0.alpha\": 3, \"alpha\": 5}"); /* the first that matches */
    assert_true(taken("numbers", 15).scale == 1.5f);
    set("numbers", "alpha_pattern", "{\"alpha\": 5, \"enc.0.alpha\": 3}");
    assert_true(taken("numbers", 15).scale == 2.5f);
    set("numbers", "alpha_pattern", "{\"pha\": 5}"); /* no part of a name */
    assert_true(taken("numbers", 15).scale == 4.0f);
    set("numbers", "r", "3");
    set("numbers", "rank_pattern", "{\".*a\": 2}");
    assert_int_equal(taken("numbers", 15).rank, 2);
}

static void test_targets(void **state)
{
    (void)state;
    static const struct {
        const char *target, *exclude;
        unsigned mask;
    } cases[] = {
        { "[\"alpha\"]", "null", 5 },
        { "[\"enc.0.alpha\", \"1.beta\"]", "null", 9 },
        { "[\"alpha\", \"beta\"]", "[\"enc.1.alpha\"]", 11 },
        { "[\"alpha\", \"beta\"]", "\"enc\\\\.\\\\d\\\\.beta\"", 5 },
        { "\".*alpha\"", "[]", 5 },
        { "\"enc\\\\.(?:0|7)\\\\.[^.]+?\"", "null", 3 },
        { "\"all-linear\"", "null", 31 },
        { "\"All-Linear\"", "null", 15 }, /* PEFT leaves the output layer out, and its tensors then are not there */
        { "\"all-linear\"", "[\"lm_head\", \"0.beta\"]", 13 },
        { "[\"beta\", \"absent\"]", "[\"absent\"]", 10 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_folder("targets", cases[i].mask);
        set("targets", "target_modules", cases[i].target);
        set("targets", "exclude_modules", cases[i].exclude);
        taken("targets", cases[i].mask);
    }
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

static void write_text(const char *name, const char *text)
{
    sora_error error;
    OK(sora_file_write(config_path(name), text, strlen(text), &error));
}

static void test_broken_configuration(void **state)
{
    (void)state;
    sora_error error;
    write_folder("text", 15);
    write_text("text", "");
    refused("text", SORA_ERROR_INPUT, "adapter_config.json");
    write_text("text", "[]");
    refused("text", SORA_ERROR_INPUT, "no JSON object");
    write_text("text", "{\"r\": 2, \"r\": 2}");
    refused("text", SORA_ERROR_INPUT, "duplicate");
    write_text("text", "{\n\"lora_alpha\": NaN}");
    refused("text", SORA_ERROR_INPUT, "line 2");
    write_text("text", "{\"lora_alpha\": Infinity}");
    refused("text", SORA_ERROR_INPUT, "line 1");
    write_text("text", "{\"r\": 99999999999999999999}");
    refused("text", SORA_ERROR_INPUT, "too big");
    write_text("text", "{\"r\": 2}\x01");
    refused("text", SORA_ERROR_INPUT, "adapter_config.json");
    char *deep = malloc(100001);
    assert_non_null(deep);
    memset(deep, '[', 100000);
    deep[100000] = '\0';
    write_text("text", deep);
    free(deep);
    refused("text", SORA_ERROR_INPUT, "adapter_config.json");
    assert_int_equal(truncate(config_path("text"), 5 << 20), 0);
    refused("text", SORA_ERROR_INPUT, "at most");
    assert_int_equal(unlink(config_path("text")), 0);
    refused("text", SORA_ERROR_INPUT, "adapter_config.json: cannot open");
    refused("no such folder", SORA_ERROR_INPUT, "no such folder");

    write_folder("weights", 15);
    assert_int_equal(unlink(at("weights/adapter_model.safetensors")), 0);
    refused("weights", SORA_ERROR_INPUT, "adapter_model.safetensors: cannot open");
    OK(sora_file_write(at("weights/adapter_model.bin"), "x", 1, &error));
    refused("weights", SORA_ERROR_INPUT, "pickle");
}

/* The folder's tensors, of which `name` gets another name (NULL: it is left out), shape, type or first value. */
static void rewrite(const char *name, const char *tensor, const char *other, sora_file_dtype dtype, int64_t rows, float value)
{
    static float values[16][64];
    sora_file_tensor tensors[16];
    sora_safetensors *file;
    sora_error error;
    char path[256];
    size_t used = 0;
    snprintf(path, sizeof path, "%s/%s/adapter_model.safetensors", folder, name);
    OK(sora_safetensors_open(path, &file, &error));
    for (size_t i = 0; i < sora_safetensors_count(file); i++) {
        sora_file_tensor t = *sora_safetensors_at(file, i);
        memcpy(values[used], t.data, t.elements * sizeof(float));
        t.data = values[used];
        if (strcmp(t.name, tensor) == 0) {
            if (!other) continue;
            t.name = other;
            t.dtype = dtype;
            t.elements = t.elements / (uint64_t)t.shape[0] * (uint64_t)rows;
            t.shape[0] = rows;
            values[used][0] = value;
        }
        tensors[used++] = t;
    }
    /* Names belong to the mapped file: write beside it before it goes. */
    OK(sora_safetensors_write(path, tensors, used, NULL, 0, &error));
    sora_safetensors_close(&file);
}

static void test_tensors(void **state)
{
    (void)state;
    static const char tensor[] = "base_model.model.enc.1.alpha.lora_B.weight";
    static const struct {
        const char *other;
        sora_file_dtype dtype;
        int64_t rows;
        float value;
        const char *words;
    } cases[] = {
        { NULL, 0, 0, 0, "enc.1.alpha.lora_B.weight is missing" },
        { tensor, SORA_FILE_F32, 5, 0, "enc.1.alpha.lora_B.weight is 5x2, expected 6x2" },
        { tensor, SORA_FILE_I32, 6, 0, "enc.1.alpha.lora_B.weight is I32" },
        { tensor, SORA_FILE_F32, 6, NAN, "enc.1.alpha.lora_B.weight holds" },
        { tensor, SORA_FILE_F32, 6, INFINITY, "holds inf" },
        { "base_model.model.enc.1.alpha.lora_B.default.weight", SORA_FILE_F32, 6, 0,
          "lora_B.default.weight is more than expected" },
        { "base_model.model.enc.1.alpha.lora_magnitude_vector", SORA_FILE_F32, 6, 0, "lora_magnitude_vector is more" },
        { "enc.1.alpha.lora_B.weight", SORA_FILE_F32, 6, 0, "tensor enc.1.alpha.lora_B.weight is more than expected" },
        { "base_model.model.lm_head.lora_B.weight", SORA_FILE_F32, 6, 0, "lm_head.lora_B.weight is more than expected" },
        { "base_model.model.", SORA_FILE_F32, 6, 0, "more than expected" },
        { "base_model.model.lora_B.weight", SORA_FILE_F32, 6, 0, "more than expected" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_folder("tensors", 15);
        rewrite("tensors", tensor, cases[i].other, cases[i].dtype, cases[i].rows, cases[i].value);
        refused("tensors", SORA_ERROR_INPUT, cases[i].words);
    }
}

/* Every prefix of both files, and each with one byte changed, is taken or refused: never more, and never half. */
static void test_broken_bytes(void **state)
{
    (void)state;
    sora_error error;
    size_t tried = 0, refusals = 0;
    static const char *const files[] = { "bytes/adapter_config.json", "bytes/adapter_model.safetensors" };
    write_folder("bytes", 3);
    for (int f = 0; f < 2; f++) {
        unsigned char *bytes;
        size_t count;
        OK(sora_file_read(at(files[f]), 1 << 20, &bytes, &count, &error));
        for (size_t i = 0; i < 2 * count; i++) {
            size_t where = i / 2;
            bool cut = i % 2;
            unsigned char kept = bytes[where];
            net n;
            if (!cut) bytes[where] = (unsigned char)(kept ^ (1 + where % 7));
            FILE *file = fopen(at(files[f]), "wb"); /* without the sync of sora_file_write */
            assert_non_null(file);
            fwrite(bytes, 1, cut ? where : count, file);
            fclose(file);
            bytes[where] = kept;
            open_small(&n);
            sora_status status = sora_peft_import(n.layers, at("bytes"), &error);
            assert_true(status == SORA_OK || status == SORA_ERROR_INPUT);
            assert_true(status == SORA_OK || active_mask(&n) == 0);
            refusals += status != SORA_OK;
            tried++;
            close_net(&n);
        }
        OK(sora_file_write(at(files[f]), bytes, count, &error));
        free(bytes);
    }
    taken("bytes", 3);
    print_message("# %zu of %zu broken files refused\n", refusals, tried);
}

static void test_layers_must_be_normal(void **state)
{
    (void)state;
    sora_error error;
    net n;
    write_folder("normal", 3);
    open_small(&n);
    activate(&n, 3, SORA_ADAPTER_SORA, 2, 0);
    FAILS(sora_peft_import(n.layers, at("normal"), &error), SORA_ERROR_ARGUMENT, "enc.1.beta: is active");
    assert_int_equal(active_mask(&n), 8);
    OK(sora_layer_deactivate(sora_layers_at(n.layers, 3), NULL, &error));
    FAILS(sora_peft_import(n.layers, at("normal"), &error), SORA_ERROR_ARGUMENT, "enc.1.beta: is merged");
    OK(sora_layer_unmerge(sora_layers_at(n.layers, 3), &error));
    close_net(&n);
}

/* ---- Export ------------------------------------------------------------------------------------------------------ */

static void test_export_refusals(void **state)
{
    (void)state;
    sora_error error;
    net n;
    open_small(&n);
    FAILS(sora_peft_export(n.layers, at("out"), NULL, &error), SORA_ERROR_ARGUMENT, "nothing to export");
    activate(&n, 0, SORA_ADAPTER_SORA, 2, 0);
    FAILS(sora_peft_export(n.layers, "", NULL, &error), SORA_ERROR_ARGUMENT, "folder");
    FAILS(sora_peft_export(n.layers, at("out"), &(sora_peft_export_options) { .task_type = "SUMMARY" }, &error),
          SORA_ERROR_ARGUMENT, "SUMMARY");
    FAILS(sora_peft_export(n.layers, at("out"), &(sora_peft_export_options) { .base_model = "\xff" }, &error),
          SORA_ERROR_ARGUMENT, "UTF-8");
    float *up = factor(&n, "enc.0.alpha", "up"), kept = up[3];
    up[3] = NAN;
    FAILS(sora_peft_export(n.layers, at("out"), NULL, &error), SORA_ERROR_NUMERIC, "enc.0.alpha");
    up[3] = 3e38f;
    factor(&n, "enc.0.alpha", "gate")[1] = 1e10f;
    FAILS(sora_peft_export(n.layers, at("out"), NULL, &error), SORA_ERROR_NUMERIC, "up times gate");
    up[3] = kept;
    assert_false(sora_path_exists(at("out")));

    OK(sora_peft_export(n.layers, at("new/folders/out///"), NULL, &error)); /* parents are made */
    OK(sora_folder_create(at("out"), &error));
    OK(sora_peft_export(n.layers, at("out"), NULL, &error)); /* an empty one */
    OK(sora_peft_export(n.layers, at("out"), NULL, &error)); /* an export */
    OK(sora_file_write(at("out/README.md"), "x", 1, &error));
    FAILS(sora_peft_export(n.layers, at("out"), NULL, &error), SORA_ERROR_ARGUMENT, "README.md");
    assert_true(sora_path_exists(at("out/README.md")));
    FAILS(sora_peft_export(n.layers, at("out/README.md"), NULL, &error), SORA_ERROR_ARGUMENT, "no folder");
    FAILS(sora_peft_export(n.layers, at("out/README.md/x"), NULL, &error), SORA_ERROR_IO, "README.md");

    activate(&n, 1, SORA_ADAPTER_SORA, 2, 0);
    OK(sora_layer_deactivate(sora_layers_at(n.layers, 1), NULL, &error));
    FAILS(sora_peft_export(n.layers, at("out2"), NULL, &error), SORA_ERROR_ARGUMENT, "enc.0.beta: its adapter is merged");
    sora_layer_forget(sora_layers_at(n.layers, 1));
    OK(sora_layer_activate(sora_layers_at(n.layers, LINEAR), &(sora_adapter_options) { .rank = 2 }, &error));
    FAILS(sora_peft_export(n.layers, at("out2"), NULL, &error), SORA_ERROR_ARGUMENT, "conv: is a convolution");
    close_net(&n);

    char **left;
    size_t count;
    OK(sora_folder_list(folder, &left, &count, &error));
    for (size_t i = 0; i < count; i++)
        if (strstr(left[i], ".tmp") || strstr(left[i], ".old")) fail_msg("%s was left behind", left[i]);
    sora_names_free(left, count);
}

/* ---- Patterns ---------------------------------------------------------------------------------------------------- */

static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool whole, tail;
    } cases[] = {
        { "q", "q", true, true },
        { "q", "a.q", false, true },
        { "q", "aq", false, false },
        { "a|b", "x.b", false, true },
        { "^a.b", "a.b", true, true },
        { "^a.b", "x.a.b", false, false },
        { "a\\.b$", "a.b", true, true },
        { "\\Aa\\Z", "a", true, true },
        { ".*\\.\\d+\\.q", "b.12.q", true, true },
        { ".*\\.\\d+\\.q", "b.x.q", false, false },
        { "\\w+", "ab_9", true, true },
        { "\\w+", "a.b", false, true },
        { "\\W\\D\\S", ".a.", true, true },
        { "a\\sb", "a b", true, true },
        { "[\\d.]+x", "1.2x", true, true },
        { "[^\\w]", "-", true, true },
        { "[]a]+", "]a", true, true },
        { "[^]a]", "]", false, false },
        { "[a\\]^-]+", "]^-a", true, true },
        { "[\\^]", "^", true, true },
        { "[-^]", "^", true, true },
        { "[[:a]", ":", true, true },
        { "[a-c]{2}", "cb", true, true },
        { "a{,2}", "aa", true, true },
        { "a{2,}", "aaa", true, true },
        { "a{1,2}?", "aaa", false, false },
        { "a{x}", "a{x}", true, true },
        { "a{}", "a{}", true, true },
        { "a}]", "a}]", true, true },
        { "(?:a|b)+?c", "abac", true, true },
        { "(?P<kind>q|k)_proj", "x.k_proj", false, true },
        { "a(|b)", "a", true, true },
        { "()a", "a", true, true },
        { "a\\-b\\_c\\/\\<", "a-b_c/<", true, true },
        { "a*?b??", "aa", true, true },
        { "", "", true, true },
        { "", "a", false, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int tail = 0; tail < 2; tail++) {
            sora_error error;
            regex_t pattern;
            OK(sora_peft_pattern_compile(cases[i].pattern, tail ? SORA_PEFT_TAIL : SORA_PEFT_WHOLE, &pattern, &error));
            if (sora_peft_pattern_matches(&pattern, cases[i].name) != (tail ? cases[i].tail : cases[i].whole))
                fail_msg("\"%s\" and \"%s\", tail %d", cases[i].pattern, cases[i].name, tail);
            regfree(&pattern);
        }
}

static void test_refused_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *words;
    } cases[] = {
        { "a(?=b)", "\"(?=\" at character 2: has no counterpart" },
        { "a(?!b)", "(?!" },
        { "(?<=a)b", "(?<=" },
        { "(?<!a)b", "(?<!" },
        { "(?i)a", "(?i" },
        { "(?>a)", "(?>" },
        { "(?P=n)", "(?P=" },
        { "(?P<>a)", "(?P<" },
        { "(?#note)", "(?#" },
        { "(a)\\1", "\\1" },
        { "\\bq\\b", "\\b" },
        { "\\x41", "\\x" },
        { "\\n", "\\n" },
        { "[\\D]", "\\D" },
        { "[a-\\d]", "no range" },
        { "[z-a]", "no range" },
        { "[a", "set without an end" },
        { "[]", "set without an end" },
        { "a\\", "ends in the middle" },
        { "[\\", "ends in the middle" },
        { "(a", "a group without an end" },
        { "a)", "closes no group" },
        { "*a", "nothing to repeat" },
        { "(+a)", "nothing to repeat" },
        { "a|*", "nothing to repeat" },
        { "^*", "nothing to repeat" },
        { "a**", "repeats a repetition" },
        { "a{2}{3}", "repeats a repetition" },
        { "a*+", "a*" },
        { "a++", "no counterpart" },
        { "a{3,2}", "least above most" },
        { "a{99999}", "more than are taken" },
        { "((((a{99}){99}){99}){99})", "more than are taken" },
        { "(((((((((((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)", "more than are taken" },
        { "\xc3\xa4", "only ASCII" },
        { "[\xc3\xa4]", "only ASCII" },
        { "((((((((((((((((((((((((((((((((((((((((((((((((((((a", "more groups" },
    };
    sora_error error;
    regex_t pattern;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        FAILS(sora_peft_pattern_compile(cases[i].pattern, SORA_PEFT_WHOLE, &pattern, &error), SORA_ERROR_INPUT, cases[i].words);

    /* The largest that are taken neither fail nor take the stack. */
    static const char *const pieces[] = { ".*", "a|", "a?", "[ -~]", "\\w" };
    char *large = malloc(20002);
    assert_non_null(large);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        for (size_t k = 0; k < 20000; k++) large[k] = pieces[i][k % strlen(pieces[i])];
        large[20000] = '\0';
        OK(sora_peft_pattern_compile(large, SORA_PEFT_TAIL, &pattern, &error));
        sora_peft_pattern_matches(&pattern, "encoder.block.0.layer.0.SelfAttention.q");
        regfree(&pattern);
    }
    strcpy(large + 20000, "a");
    FAILS(sora_peft_pattern_compile(large, SORA_PEFT_TAIL, &pattern, &error), SORA_ERROR_INPUT, "20001 characters");
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_keys), cmocka_unit_test(test_keys_without_effect),   cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_targets),      cmocka_unit_test(test_broken_configuration),  cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_broken_bytes), cmocka_unit_test(test_layers_must_be_normal), cmocka_unit_test(test_export_refusals),
        cmocka_unit_test(test_patterns),     cmocka_unit_test(test_refused_patterns),
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
