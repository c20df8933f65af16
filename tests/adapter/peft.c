/* SPDX-License-Identifier: Apache-2.0 */
/* Exchange with PEFT: what is exported adds the same to every layer when it is taken back, and what PEFT saved adds what PEFT
 * says. With SORACL_PEFT_OUT=FOLDER the exports stay there for PEFT to load (peft_reference.py --exchange). */
#include "peft_net.h"

#include "soracl/safetensors.h"

#include <jansson.h>

/* ---- Helpers ----------------------------------------------------------------------------------------------------- */

/* For peft_reference.py: the export again, and NAME.expected.safetensors with what every layer's adapter adds and, as metadata,
 * the rank and scale that PEFT must find. */
static void keep(const net *n, const char *name, const sora_peft_export_options *options)
{
    const char *target = getenv("SORACL_PEFT_OUT");
    static double values[64][LARGEST];
    static char notes[64][64];
    const char *metadata[64][2];
    sora_file_tensor tensors[64];
    char path[512];
    sora_error error;
    size_t count = sora_layers_count(n->layers), rows = 0;
    if (!target) return;
    snprintf(path, sizeof path, "%s/%s", target, name);
    OK(sora_peft_export(n->layers, path, options, &error));
    for (size_t i = 0; i < count; i++) {
        sora_layer_info info = describe(n, i);
        delta(n, &info, values[i]);
        rows += (size_t)info.rank_kept;
        snprintf(notes[i], sizeof notes[i], "%d %a", info.rank_kept, (double)info.scale);
        metadata[i][0] = info.name;
        metadata[i][1] = notes[i];
        tensors[i] = (sora_file_tensor) { .name = info.name,
                                          .dtype = SORA_FILE_F64,
                                          .rank = 2,
                                          .shape = { info.out, info.in },
                                          .elements = (uint64_t)(info.in * info.out),
                                          .data = values[i] };
    }
    if (rows == 0) snprintf(notes[0], sizeof notes[0], "1 %a", (double)describe(n, 0).scale);
    snprintf(path, sizeof path, "%s/%s.expected.safetensors", target, name);
    OK(sora_safetensors_write(path, tensors, count, (const char *const(*)[2])metadata, count, &error));
}

/* Every layer of `b` adds what it adds in `a`; a rank of 0 comes back as a normal layer. */
static void assert_equal_adapters(const net *a, const net *b)
{
    static double x[LARGEST], y[LARGEST];
    for (size_t i = 0; i < sora_layers_count(a->layers); i++) {
        sora_layer_info before = describe(a, i), after = describe(b, i);
        assert_string_equal(before.name, after.name);
        assert_true(after.active == (before.rank_kept > 0));
        if (after.active) {
            assert_int_equal(after.rank, before.rank_kept);
            assert_int_equal(after.kind, SORA_ADAPTER_LORA);
            assert_true(after.scale == before.scale); /* to the bit */
            assert_null(factor(b, after.name, "gate"));
        }
        delta(a, &before, x);
        delta(b, &after, y);
        for (int k = 0; k < before.in * before.out; k++)
            if (!(fabs(x[k] - y[k]) <= 1e-6 * fmax(0.1, fabs(x[k]))))
                fail_msg("%s: element %d is %.9g, was %.9g", before.name, k, y[k], x[k]);
    }
}

/* Nothing but the adapters trains. */
static void assert_adapters_train_alone(const net *n)
{
    uint64_t expected = 0;
    for (size_t i = 0; i < sora_layers_count(n->layers); i++) expected += describe(n, i).parameters_trainable;
    assert_true(expected > 0);
    assert_true(sora_params_trainable_elements(n->params) == expected);
}

static void assert_same_files(const char *a, const char *b)
{
    static const char *const files[] = { "adapter_config.json", "adapter_model.safetensors" };
    for (int i = 0; i < 2; i++) {
        unsigned char *x, *y;
        size_t n, m;
        char path[512];
        sora_error error;
        snprintf(path, sizeof path, "%s/%s", a, files[i]);
        OK(sora_file_read(path, 1 << 20, &x, &n, &error));
        snprintf(path, sizeof path, "%s/%s", b, files[i]);
        OK(sora_file_read(path, 1 << 20, &y, &m, &error));
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n);
        free(x);
        free(y);
    }
}

static json_t *read_json(const char *folder_name, const char *file)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder_name, file);
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    return json;
}

/* ---- Round trips ------------------------------------------------------------------------------------------------- */

/* Gates of both signs; layer i keeps i % 7 of its 6 rows (7: none of them is 0), every third is compacted beforehand. */
static void prune(net *n)
{
    sora_error error;
    for (size_t i = 0; i < sora_layers_count(n->layers); i++) {
        activate(n, i, SORA_ADAPTER_SORA, 6, 9);
        float *gate = factor(n, describe(n, i).name, "gate");
        for (size_t k = 0; k < 6; k++) {
            if ((k * 5 + i) % 6 >= i % 7) gate[k] = 0.0f;
            if (k % 2) gate[k] = -gate[k];
        }
        if (i % 3 == 0) OK(sora_layer_compact(sora_layers_at(n->layers, i), NULL, &error));
    }
}

static void test_sora(void **state)
{
    (void)state;
    sora_error error;
    net a, b;
    const sora_peft_export_options options = { .base_model = "t5-small", .task_type = "SEQ_2_SEQ_LM" };
    open_t5(&a);
    open_t5(&b);
    prune(&a);
    OK(sora_peft_export(a.layers, at("sora"), &options, &error));
    OK(sora_peft_import(b.layers, at("sora"), &error));
    assert_equal_adapters(&a, &b);
    assert_adapters_train_alone(&b);
    keep(&a, "sora", &options);

    json_t *config = read_json(at("sora"), "adapter_config.json");
    size_t normal = 0;
    for (size_t i = 0; i < sora_layers_count(a.layers); i++) normal += describe(&a, i).rank_kept == 0;
    assert_true(normal > 0);
    assert_int_equal(json_array_size(json_object_get(config, "exclude_modules")), normal);
    assert_int_equal(json_array_size(json_object_get(config, "target_modules")), 32 - normal);
    assert_string_equal(json_string_value(json_object_get(config, "base_model_name_or_path")), "t5-small");
    assert_string_equal(json_string_value(json_object_get(config, "task_type")), "SEQ_2_SEQ_LM");
    assert_true(json_is_true(json_object_get(config, "inference_mode")));
    /* alpha / r stays 9 / 6 */
    const char *name;
    json_t *rank, *alphas = json_object_get(config, "alpha_pattern");
    assert_true(json_object_size(json_object_get(config, "rank_pattern")) > 0);
    json_object_foreach(json_object_get(config, "rank_pattern"), name, rank)
    {
        double alpha = json_number_value(json_object_get(alphas, name));
        assert_true(alpha == 1.5 * (double)json_integer_value(rank));
    }
    json_decref(config);

    /* Once more, from what was taken back: the same to the byte, except for what excluded layers leave behind. */
    OK(sora_peft_export(b.layers, at("sora-2"), &options, &error));
    OK(sora_peft_export(b.layers, at("sora-3"), &options, &error));
    assert_same_files(at("sora-2"), at("sora-3"));
    OK(sora_peft_export(a.layers, at("sora-4"), &options, &error));
    assert_same_files(at("sora"), at("sora-4"));
    close_net(&a);
    close_net(&b);
}

static void test_lora(void **state)
{
    (void)state;
    sora_error error;
    net a, b;
    open_t5(&a);
    open_t5(&b);
    for (size_t i = 0; i < 32; i += 2) activate(&a, i, SORA_ADAPTER_LORA, 1 + (int)i % 5, i % 4 ? 0.7f : 6.0f);
    OK(sora_peft_export(a.layers, at("lora"), NULL, &error));
    OK(sora_peft_import(b.layers, at("lora"), &error));
    assert_equal_adapters(&a, &b);
    assert_adapters_train_alone(&b);
    OK(sora_peft_export(b.layers, at("lora-2"), NULL, &error));
    assert_same_files(at("lora"), at("lora-2"));
    keep(&a, "lora", NULL);
    close_net(&a);
    close_net(&b);
}

/* Parameters on the device are read there. */
static void test_export_from_the_device(void **state)
{
    (void)state;
    sora_error error;
    net a;
    open_t5(&a);
    prune(&a);
    OK(sora_peft_export(a.layers, at("host"), NULL, &error));
    OK(sora_params_upload(a.params, 0, &error));
    OK(sora_peft_export(a.layers, at("device"), NULL, &error));
    assert_same_files(at("host"), at("device"));
    FAILS(sora_peft_import(a.layers, at("host"), &error), SORA_ERROR_ARGUMENT, "download");
    close_net(&a);
}

static void test_every_rank_0(void **state)
{
    (void)state;
    sora_error error;
    net a, b;
    const sora_peft_export_options one = { .rank_one_for_zero = true };
    open_t5(&a);
    open_t5(&b);
    for (size_t i = 0; i < 5; i++) {
        activate(&a, i, SORA_ADAPTER_SORA, i == 2 ? 0 : 4, 0);
        if (i != 2) memset(factor(&a, describe(&a, i).name, "gate"), 0, 4 * sizeof(float));
    }
    FAILS(sora_peft_export(a.layers, at("zero"), NULL, &error), SORA_ERROR_ARGUMENT, "NoMatchingPeftModuleError");
    assert_false(sora_path_exists(at("zero")));
    OK(sora_peft_export(a.layers, at("zero"), &one, &error));
    OK(sora_peft_import(b.layers, at("zero"), &error));
    for (size_t i = 0; i < 32; i++) assert_int_equal(describe(&b, i).rank, i == 0);
    const float *up = factor(&b, describe(&b, 0).name, "up");
    for (int i = 0; i < describe(&b, 0).out; i++) assert_true(up[i] == 0.0f);
    keep(&a, "zero", &one);
    close_net(&a);
    close_net(&b);
}

/* A list's "q" means "x.q" too, a pattern's "a.b" also "a_b": the export says exactly what it means. */
static void test_names_inside_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int rank; /* −1: stays normal */
    } layers[] = { { "q", 2 },   { "x.q", 0 }, { "y.x.q", 3 }, { "z.q", -1 },
                   { "a.b", 1 }, { "a_b", 2 }, { "w.a-b", 4 }, { "w.a+b", 5 } };
    sora_error error;
    net a, b;
    open_net(&a);
    open_net(&b);
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        add(&a, layers[i].name, 7, 6);
        add(&b, layers[i].name, 7, 6);
        if (layers[i].rank >= 0) activate(&a, i, SORA_ADAPTER_LORA, layers[i].rank, (float)i + 0.3f);
    }
    OK(sora_peft_export(a.layers, at("names"), NULL, &error));
    OK(sora_peft_import(b.layers, at("names"), &error));
    assert_equal_adapters(&a, &b);
    keep(&a, "names", NULL);
    close_net(&a);
    close_net(&b);
}

/* ---- What PEFT saved --------------------------------------------------------------------------------------------- */

static void check_fixture(const char *name, const json_t *modules)
{
    static double added[LARGEST];
    char path[512];
    sora_error error;
    size_t active = 0;
    net n;
    open_t5(&n);
    snprintf(path, sizeof path, "%s/%s", FIXTURES, name);
    OK(sora_peft_import(n.layers, path, &error));
    assert_adapters_train_alone(&n);
    for (size_t i = 0; i < sora_layers_count(n.layers); i++) {
        sora_layer_info info = describe(&n, i);
        const json_t *expected = json_object_get(modules, info.name);
        if (info.active != (expected != NULL)) fail_msg("%s: %s: active %d", name, info.name, info.active);
        if (!expected) continue;
        active++;
        assert_int_equal(info.rank, json_integer_value(json_object_get(expected, "rank")));
        assert_true(info.scale == (float)json_number_value(json_object_get(expected, "scale")));
        delta(&n, &info, added);
        for (int r = 0; r < info.out; r++) {
            double sum = 0.0, want = json_number_value(json_array_get(json_object_get(expected, "product"), (size_t)r));
            for (int c = 0; c < info.in; c++) sum += added[r * info.in + c] * (7 * c % 11 - 5) / 5.0;
            if (!(fabs(sum - want) <= 1e-6 * fmax(1.0, fabs(want))))
                fail_msg("%s: %s: row %d gives %.9g, PEFT %.9g", name, info.name, r, sum, want);
        }
    }
    assert_int_equal(active, json_object_size(modules));
    close_net(&n);
}

static void test_fixtures(void **state)
{
    (void)state;
    const char *name;
    json_t *all = read_json(FIXTURES, "expected.json"), *modules;
    size_t count = 0;
    json_object_foreach(json_object_get(all, "fixtures"), name, modules)
    {
        check_fixture(name, modules);
        count++;
    }
    assert_int_equal(count, 6);
    json_decref(all);
}

/* The fixtures that say fp16 and bf16 do have such weights. */
static void test_fixture_types(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        sora_file_dtype dtype;
    } files[] = { { FIXTURES "/half/adapter_model.safetensors", SORA_FILE_F16 },
                  { FIXTURES "/bfloat/adapter_model.safetensors", SORA_FILE_BF16 } };
    for (int i = 0; i < 2; i++) {
        sora_error error;
        sora_safetensors *file;
        OK(sora_safetensors_open(files[i].path, &file, &error));
        for (size_t k = 0; k < sora_safetensors_count(file); k++)
            assert_int_equal(sora_safetensors_at(file, k)->dtype, files[i].dtype);
        sora_safetensors_close(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sora),
        cmocka_unit_test(test_lora),
        cmocka_unit_test(test_export_from_the_device),
        cmocka_unit_test(test_every_rank_0),
        cmocka_unit_test(test_names_inside_names),
        cmocka_unit_test(test_fixtures),
        cmocka_unit_test(test_fixture_types),
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
