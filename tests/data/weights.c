/* SPDX-License-Identifier: Apache-2.0 */
/* Weights as the hub lays them out: one file, shards, and indices that are broken or hostile. */
#include "soracl/weights.h"
#include "../fixture.h"

#define F32(label, values)                                                                              \
    (sora_file_tensor)                                                                                  \
    {                                                                                                   \
        .name = label, .dtype = SORA_FILE_F32, .rank = 1, .shape = { 3 }, .elements = 3, .data = values \
    }

static const float ones[3] = { 1, 1, 1 }, twos[3] = { 2, 2, 2 }, threes[3] = { 3, 3, 3 };

/* An empty folder `name`. */
static const char *fresh(const char *name)
{
    const char *path = at(name);
    sora_folder_remove(path, NULL);
    assert_int_equal(sora_folder_create(path, NULL), SORA_OK);
    return path;
}

static void write_file(const char *name, const sora_file_tensor *tensors, size_t count)
{
    sora_error error;
    OK(sora_safetensors_write(at(name), tensors, count, NULL, 0, &error));
}

static void write_text(const char *name, const char *content)
{
    sora_error error;
    OK(sora_file_write(at(name), content, strlen(content), &error));
}

static uint64_t hash_of(const char *name)
{
    sora_error error;
    sora_weights *weights;
    uint64_t hash;
    OK(sora_weights_open(at(name), &weights, &error));
    OK(sora_weights_hash(weights, &hash, &error));
    sora_weights_close(&weights);
    assert_null(weights);
    return hash;
}

/* A folder with shards a.safetensors (z, b) and b.safetensors (a), and this index. */
static void write_shards(const char *name, const char *index)
{
    char path[64];
    fresh(name);
    snprintf(path, sizeof path, "%s/a.safetensors", name);
    write_file(path, (const sora_file_tensor[]) { F32("z", threes), F32("b", twos) }, 2);
    snprintf(path, sizeof path, "%s/b.safetensors", name);
    write_file(path, (const sora_file_tensor[]) { F32("a", ones) }, 1);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", name);
    write_text(path, index);
}

#define GOOD                                                                                                     \
    "{\"metadata\": {\"total_size\": 36}, \"weight_map\": {\"a\": \"b.safetensors\", \"b\": \"a.safetensors\", " \
    "\"z\": \"a.safetensors\"}}"

static void expect_three(const char *name, const char *file)
{
    sora_error error;
    sora_weights *weights;
    OK(sora_weights_open(at(name), &weights, &error));
    assert_non_null(strstr(sora_weights_path(weights), file));
    assert_int_equal(sora_weights_count(weights), 3);
    for (size_t i = 0; i < 3; i++) assert_string_equal(sora_weights_at(weights, i)->name, i == 0 ? "a" : i == 1 ? "b" : "z");
    assert_memory_equal(sora_weights_find(weights, "a")->data, ones, sizeof ones);
    assert_memory_equal(sora_weights_find(weights, "b")->data, twos, sizeof twos);
    assert_memory_equal(sora_weights_find(weights, "z")->data, threes, sizeof threes);
    assert_int_equal(sora_file_tensor_bytes(sora_weights_find(weights, "z")), sizeof threes);
    assert_null(sora_weights_find(weights, "c"));
    assert_null(sora_weights_find(weights, ""));
    sora_weights_close(&weights);
    sora_weights_close(&weights);
}

static void test_single_and_shards(void **state)
{
    (void)state;
    const sora_file_tensor all[] = { F32("b", twos), F32("z", threes), F32("a", ones) };
    fresh("single");
    write_file("single/model.safetensors", all, 3);
    expect_three("single", "model.safetensors");
    write_shards("shards", GOOD);
    expect_three("shards", "model.safetensors.index.json");
    assert_true(hash_of("single") == hash_of("shards"));
    write_text("single/model.safetensors.index.json", "not read where there is a single file");
    expect_three("single", "model.safetensors");
}

/* The hash's value is part of adapters' files, so it never changes; names, shapes, types and bytes all count. */
static void test_hash(void **state)
{
    (void)state;
    sora_file_tensor tensor = F32("a", ones);
    uint64_t hashes[5];
    fresh("hash");
    write_file("hash/model.safetensors", &tensor, 1);
    hashes[0] = hash_of("hash");
    assert_true(hashes[0] == UINT64_C(0x132ccf4e2b398d47));
    tensor.name = "b";
    write_file("hash/model.safetensors", &tensor, 1);
    hashes[1] = hash_of("hash");
    tensor = F32("a", twos);
    write_file("hash/model.safetensors", &tensor, 1);
    hashes[2] = hash_of("hash");
    tensor = F32("a", ones);
    tensor.dtype = SORA_FILE_I32;
    write_file("hash/model.safetensors", &tensor, 1);
    hashes[3] = hash_of("hash");
    tensor = F32("a", ones);
    tensor.rank = 2;
    tensor.shape[1] = 1;
    write_file("hash/model.safetensors", &tensor, 1);
    hashes[4] = hash_of("hash");
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++) assert_true(hashes[i] != hashes[j]);
}

static void expect_refused(const char *name, const char *words)
{
    sora_error error;
    sora_weights *weights;
    FAILS(sora_weights_open(at(name), &weights, &error), SORA_ERROR_INPUT, words);
    assert_null(weights);
}

static void test_absent(void **state)
{
    (void)state;
    expect_refused("nowhere", "no such folder");
    fresh("empty");
    expect_refused("empty", "neither model.safetensors nor model.safetensors.index.json");
    write_text("empty/pytorch_model.bin", "PK");
    expect_refused("empty", "safe_serialization=True");
    write_text("empty/model.safetensors", "not one");
    expect_refused("empty", "no safetensors file");
    write_text("empty/model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 242043056\n");
    expect_refused("empty", "git lfs pull");
}

static void test_broken_index(void **state)
{
    (void)state;
    static const struct {
        const char *index, *words;
    } cases[] = {
        { "", "model.safetensors.index.json" },
        { "{\"weight_map\": {\"a\": \"b.safetensors\"", "line 1" },
        { "[]", "no \"weight_map\"" },
        { "{}", "no \"weight_map\"" },
        { "{\"weight_map\": []}", "no \"weight_map\"" },
        { "{\"weight_map\": {}}", "no \"weight_map\"" },
        { "{\"weight_map\": {\"a\": \"b.safetensors\", \"a\": \"b.safetensors\"}}", "duplicate" },
        { "{\"weight_map\": {\"a\": 7}}", "tensor a: \"(no text)\"" },
        { "{\"weight_map\": {\"a\": \"\"}}", "no plain file name" },
        { "{\"weight_map\": {\"a\": \".\"}}", "no plain file name" },
        { "{\"weight_map\": {\"a\": \"../shards/b.safetensors\"}}", "no plain file name" },
        { "{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "no plain file name" },
        { "{\"weight_map\": {\"a\": \"sub/b.safetensors\"}}", "no plain file name" },
        { "{\"weight_map\": {\"a\": \"b..safetensors\"}}", "no plain file name" },
        { "{\"weight_map\": {\"a\": \"b.safetensors\", \"b\": \"c.safetensors\"}}", "c.safetensors: cannot open" },
        { "{\"weight_map\": {\"a\": \"a.safetensors\", \"b\": \"a.safetensors\", \"z\": \"a.safetensors\"}}",
          "tensor a is not in a.safetensors" },
        { "{\"weight_map\": {\"a\": \"b.safetensors\", \"b\": \"a.safetensors\"}}", "holds tensor z, which the index has not" },
        { "{\"weight_map\": {\"q\": \"b.safetensors\"}}", "tensor q is not in b.safetensors" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_shards("broken", cases[i].index);
        expect_refused("broken", cases[i].words);
    }
    /* a tensor in two files */
    write_shards("broken", GOOD);
    write_file("broken/b.safetensors", (const sora_file_tensor[]) { F32("a", ones), F32("z", ones) }, 2);
    expect_refused("broken", "b.safetensors holds tensor z, which the index has in a.safetensors");
    /* a broken shard */
    write_shards("broken", GOOD);
    write_text("broken/b.safetensors", "too short");
    expect_refused("broken", "b.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_and_shards),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_broken_index),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
