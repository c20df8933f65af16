/* SPDX-License-Identifier: Apache-2.0 */
/* Every variant that tuning may choose is right, at sizes that divide nothing; what was chosen is used, kept and taken again. */
#include "graph/tune.h"
#include "../gpu.h"
#include "../test.h"
#include "cl/context.h"
#include "op/gemm_clblast.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

typedef struct fixture {
    sora_context *contexts[2]; /* as the device is, and with a GPU's limits */
    char cache[64];
} fixture;

static int open_fixture(void **state)
{
    static fixture f = { .cache = "/tmp/soracl-tune-XXXXXX" };
    if (!mkdtemp(f.cache) || sora_context_create(&(sora_context_options) { .cache = f.cache }, &f.contexts[0], NULL)) return -1;
    sora_device_limits limits = gpu_limits(f.contexts[0]);
    if (sora_context_create(&(sora_context_options) { .limits = &limits, .cache = "" }, &f.contexts[1], NULL)) return -1;
    *state = &f;
    return 0;
}

static int close_fixture(void **state)
{
    fixture *f = *state;
    char command[96];
    for (int i = 0; i < 2; i++) sora_context_destroy(&f->contexts[i]);
    snprintf(command, sizeof command, "rm -r %s", f->cache);
    return system(command);
}

static void check_variants(sora_context *context, const sora_tunable *t, const int64_t *shape)
{
    sora_error error;
    sora_tuning_variant variants[SORA_TUNE_VARIANTS];
    char text[96], name[48];
    void *self = NULL;
    int count = t->variants(&sora_context_device(context)->limits, shape, variants);
    assert_in_range(count, 1, SORA_TUNE_VARIANTS);
    t->describe(shape, text);
    OK(t->prepare(context, shape, &self, &error));
    for (int v = 0; v < count; v++) {
        bool right = false;
        t->name(&variants[v], name);
        OK(t->launch(self, &variants[v], &error));
        OK(t->check(self, &right, &error));
        if (!right) fail_msg("%s: %s is wrong", text, name);
    }
    t->release(self);
}

static void test_products(void **state)
{
    fixture *f = *state;
    static const int64_t sizes[][4] = {
        { 1, 1, 1, 0 }, { 3, 65, 17, 5 }, { 65, 257, 33, 16 }, { 257, 17, 65, 3 }, { 130, 130, 300, 0 }
    };
    for (int g = 0; g < 2; g++) {
        int panel = sora_gemm_panel(&sora_context_device(f->contexts[g])->limits, 64);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int forms = 0; forms < 64; forms++) {
                int64_t shape[SORA_TUNING_NUMBERS] = { sizes[s][0], sizes[s][1], sizes[s][2], sizes[s][3], forms };
                bool turned = forms & 4, second = forms & 8;
                if (turned) shape[5] = panel;
                if ((turned && !panel) || (second && !sizes[s][3])) continue;
                check_variants(f->contexts[g], &sora_tunable_gemm, shape);
                if (panel && !turned) {
                    shape[5] = sora_gemm_panel(&sora_context_device(f->contexts[g])->limits, sizes[s][1]);
                    check_variants(f->contexts[g], &sora_tunable_gemm, shape);
                }
            }
    }
}

static void test_convolutions(void **state)
{
    fixture *f = *state;
    static const int64_t sizes[][5] = { { 1, 1, 1, 1, 1 },   { 2, 3, 5, 17, 65 }, { 1, 9, 17, 3, 257 },
                                        { 2, 5, 8, 33, 40 }, { 3, 2, 3, 65, 17 }, { 1, 16, 24, 17, 9 } };
    for (int g = 0; g < 2; g++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int kernel = 1; kernel <= 3; kernel += 2) {
                const int64_t *z = sizes[s];
                int64_t shape[SORA_TUNING_NUMBERS] = { kernel, z[0], z[1], z[2], z[3], z[4] };
                check_variants(f->contexts[g], &sora_tunable_conv_gradient, shape);
                for (shape[6] = 0; shape[6] < 2; shape[6]++) check_variants(f->contexts[g], &sora_tunable_conv, shape);
            }
}

static void test_attention(void **state)
{
    fixture *f = *state;
    /* heads, size, queries, keys, self, causal: below a block of any variant, several, and several runs of them */
    static const int64_t shapes[][6] = { { 1, 1, 1, 1, 1, 0 },      { 2, 5, 17, 17, 1, 1 },    { 3, 16, 33, 70, 0, 0 },
                                         { 1, 20, 100, 300, 0, 0 }, { 2, 33, 150, 150, 1, 1 }, { 1, 8, 310, 310, 1, 0 } };
    for (int g = 0; g < 2; g++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int back = 0; back < 2; back++) {
                int64_t shape[SORA_TUNING_NUMBERS] = { [6] = back };
                memcpy(shape, shapes[s], sizeof *shapes);
                check_variants(f->contexts[g], &sora_tunable_attention, shape);
            }
}

/* Counts, and stops after so many. */
typedef struct counter {
    size_t calls, most;
} counter;

static bool count(void *self, const sora_tune_row *row, size_t done, size_t all, double left)
{
    counter *c = self;
    assert_true(row->shape[0] && done <= all && left >= 0 && row->wrong == 0);
    return ++c->calls < c->most;
}

/* [m, 300] by [300, 100] */
static void multiply(sora_context *context, int64_t m)
{
    sora_error error;
    sora_buffer buffer;
    OK(sora_buffer_create(context, 3 * 512 * 512 * sizeof(float), "test", &buffer, &error));
    sora_view part[3];
    for (int i = 0; i < 3; i++) part[i] = sora_view_dense(&buffer, (uint64_t)i * 512 * 512, SORA_SHAPE(512, 512));
    sora_gemm_desc desc = { .m = m,
                            .n = 100,
                            .k = 300,
                            .a = { .view = part[0], .leading = 300 },
                            .b = { .view = part[1], .leading = 100 },
                            .c = part[2],
                            .c_leading = 100 };
    sora_buffer scratch;
    uint64_t room = sora_gemm_workspace(&sora_context_device(context)->limits, 100, 300);
    OK(sora_buffer_create(context, (room + 1) * sizeof(float), "test", &scratch, &error));
    desc.workspace = sora_view_dense(&scratch, 0, SORA_SHAPE((int64_t)room + 1));
    OK(sora_gemm(context, &desc, &error));
    sora_buffer_destroy(&buffer);
    sora_buffer_destroy(&scratch);
}

static void take_down(sora_context *context)
{
    sora_error error;
    OK(sora_tune_begin(context, &error));
    FAILS(sora_tune_begin(context, &error), SORA_ERROR_ARGUMENT, "already");
    for (int times = 0; times < 2; times++) multiply(context, 200);
    multiply(context, 100);
    sora_tune_end(context);
}

static void test_tuning(void **state)
{
    fixture *f = *state;
    sora_context *context = f->contexts[0];
    sora_error error;
    sora_tune_row *rows;
    size_t shapes;
    FAILS(sora_tune_run(context, &(sora_tune_options) { 0 }, &rows, &shapes, &error), SORA_ERROR_ARGUMENT, "nothing");
    take_down(context);
    counter c = { .most = 10 };
    OK(sora_tune_run(context, &(sora_tune_options) { .progress = count, .self = &c }, &rows, &shapes, &error));
    assert_int_equal(shapes, 2); /* one of a shape, the larger first */
    assert_int_equal(c.calls, 2);
    assert_non_null(strstr(rows[0].shape, "256 x 128 x 512"));
    assert_true(rows[0].tried > 1 && rows[0].seconds > 0 && rows[0].seconds <= rows[0].standard_seconds);
    free(rows);
    assert_int_equal(access(sora_tune_path(context), F_OK), 0);
    take_down(context);
    c = (counter) { .most = 1 };
    OK(sora_tune_run(context, &(sora_tune_options) { .progress = count, .self = &c }, &rows, &shapes, &error));
    assert_int_equal(shapes, 1); /* asked to stop */
    free(rows);
}

/* What was chosen once and is no faster any more is taken back, in the context and in the file. */
static void test_taken_back(void **state)
{
    fixture *f = *state;
    sora_context *context = f->contexts[0], *other;
    sora_error error;
    sora_tune_row *rows;
    size_t shapes, kept = 0;
    sora_tuning_variant found;
    OK(sora_tune_begin(context, &error));
    for (int64_t channels = 16; channels <= 64; channels *= 2) { /* of most of these the default is the best */
        sora_tuning_entry old = { .op = "conv", .shape = { 3, 4, channels, channels, 4, 4 }, .variant = { { 99 } } };
        const sora_tuning_key key = { old.op, { 3, 4, channels, channels, 4, 4 } };
        OK(sora_tuning_set(context, &old, &error));
        assert_true(sora_tuning_find(context, &key, &found));
    }
    sora_tune_end(context);
    OK(sora_tune_save(context, sora_tune_path(context), &error));
    OK(sora_tune_run(context, &(sora_tune_options) { 0 }, &rows, &shapes, &error));
    assert_int_equal(shapes, 3);
    for (size_t i = 0; i < shapes; i++) kept += rows[i].changed;
    assert_int_equal(sora_tune_choices(context), kept);
    OK(sora_context_create(&(sora_context_options) { .cache = f->cache }, &other, &error));
    assert_int_equal(sora_tune_choices(other), kept);
    sora_context_destroy(&other);
    free(rows);
    sora_tune_forget(context);
    remove(sora_tune_path(context));
}

/* Each set of CLBlast's parameters gives right products and can be put back; the best is kept for the device, and products find
 * it. */
static void test_clblast(void **state)
{
    fixture *f = *state;
    sora_context *context = f->contexts[1];
    sora_error error;
    sora_tune_row *rows;
    size_t shapes;
    sora_tuning_variant found;
    const sora_tuning_key key = sora_gemm_clblast_key();
    const sora_tuning_entry old = { .op = "clblast", .variant = { { SORA_CLBLAST_SETS } } };
    OK(sora_tuning_set(context, &old, &error)); /* taken back, where no set is better */
    take_down(context);
    counter c = { .most = 1 };
    OK(sora_tune_run(context, &(sora_tune_options) { .progress = count, .self = &c }, &rows, &shapes, &error));
    assert_int_equal(shapes, 1);
    assert_non_null(strstr(rows[0].shape, "CLBlast's parameters"));
    assert_int_equal(rows[0].tried, SORA_CLBLAST_SETS);
    assert_true(isfinite(rows[0].standard_seconds) && rows[0].seconds <= rows[0].standard_seconds);
    assert_int_equal(rows[0].changed, sora_tuning_find(context, &key, &found));
    free(rows);
    /* Those were small for CLBlast, which has another kernel for large ones: from 1024 x 1024 x 1024 on at the latest. */
    const int64_t large[SORA_TUNING_NUMBERS] = { 1089, 1057, 1025 };
    const uint64_t operands = 4 * (1089 * 1025 + 1025 * 1057 + 1089 * 1057);
    void *self = NULL;
    OK(sora_tunable_gemm.prepare(context, large, &self, &error));
    const sora_tuning_variant own = sora_gemm_tuning_variant(&(sora_gemm_variant) { .provider = SORA_GEMM_CLBLAST });
    uint64_t before = sora_context_memory(context).current;
    sora_launches_rehearse(context);
    OK(sora_tunable_gemm.launch(self, &own, &error));
    sora_launches_rehearsed(context);
    uint64_t rehearsed = sora_context_memory(context).current;
    assert_true(rehearsed - before >= operands); /* their copies are counted before the first product, and kept */
    OK(sora_tunable_gemm.launch(self, &own, &error));
    assert_int_equal(sora_context_memory(context).current, rehearsed);
    for (int set = SORA_CLBLAST_SETS - 1; set >= 0; set--) {
        const sora_gemm_variant variant = { .provider = SORA_GEMM_CLBLAST, .parameters = set + 1 };
        const sora_tuning_variant numbers = sora_gemm_tuning_variant(&variant);
        bool right = false;
        OK(sora_tunable_gemm.launch(self, &numbers, &error));
        OK(sora_tunable_gemm.check(self, &right, &error));
        if (!right) fail_msg("%s is wrong", sora_clblast_set_name(set));
    }
    sora_tunable_gemm.release(self);
    for (int32_t set = SORA_CLBLAST_SETS; set >= 0; set--) { /* the first is none */
        sora_tuning_entry entry = { .op = "clblast", .variant = { { set } } };
        OK(sora_tuning_set(context, &entry, &error));
        multiply(context, 200);
        assert_int_equal(context->clblast.set, set % SORA_CLBLAST_SETS);
    }
    sora_tune_forget(context);
}

/* A choice that is none of the device's variants is not taken; one that is changes what runs, and nothing else. */
static void test_choice_is_used(void **state)
{
    fixture *f = *state;
    sora_context *context = f->contexts[0];
    sora_error error;
    sora_gemm_desc desc = { .m = 70, .n = 70, .k = 70, .a = { .leading = 70 }, .b = { .leading = 70 } };
    sora_gemm_variant list[SORA_GEMM_VARIANTS];
    int known = sora_gemm_variants(&sora_context_device(context)->limits, &desc, list);
    assert_true(known > 1);
    sora_tuning_key key = sora_gemm_tuning_key(&desc);
    sora_tuning_entry entry = { .op = "gemm", .variant = sora_gemm_tuning_variant(&list[known - 1]) };
    memcpy(entry.shape, key.shape, sizeof entry.shape);
    OK(sora_tuning_set(context, &entry, &error));
    sora_gemm_variant chosen = sora_gemm_choose(context, &desc);
    assert_memory_equal(&chosen, &list[known - 1], sizeof chosen);
    entry.variant.number[1] = 99;
    OK(sora_tuning_set(context, &entry, &error));
    chosen = sora_gemm_choose(context, &desc);
    assert_memory_equal(&chosen, &list[0], sizeof chosen);
    sora_tune_forget(context);
    assert_int_equal(sora_tune_choices(context), 0);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Of two that tune at once neither loses what the other kept; of a key that both measured the later one counts. */
static void test_two_at_once(void **state)
{
    fixture *f = *state;
    sora_error error;
    sora_context *both[2];
    sora_tuning_variant found;
    sora_tuning_entry own[2] = { { .op = "gemm", .shape = { 1 }, .variant = { { 4 } } },
                                 { .op = "gemm", .shape = { 2 }, .variant = { { 5 } } } },
                      shared = { .op = "gemm", .shape = { 3 } };
    remove(sora_tune_path(f->contexts[0])); /* what another test kept */
    for (int i = 0; i < 2; i++) OK(sora_context_create(&(sora_context_options) { .cache = f->cache }, &both[i], &error));
    for (int i = 0; i < 2; i++) {
        shared.variant.number[0] = 6 + i;
        OK(sora_tuning_set(both[i], &own[i], &error));
        OK(sora_tuning_set(both[i], &shared, &error));
        const sora_tuning_entry measured[] = { shared, own[i] };
        OK(sora_tuning_save(both[i], measured, 2, &error));
    }
    for (int i = 0; i < 2; i++) sora_context_destroy(&both[i]);
    OK(sora_context_create(&(sora_context_options) { .cache = f->cache }, &both[0], &error));
    assert_int_equal(sora_tune_choices(both[0]), 3);
    for (int i = 0; i < 2; i++) {
        assert_true(sora_tuning_find(both[0], &(sora_tuning_key) { "gemm", { 1 + i } }, &found));
        assert_int_equal(found.number[0], 4 + i);
    }
    assert_true(sora_tuning_find(both[0], &(sora_tuning_key) { "gemm", { 3 } }, &found));
    assert_int_equal(found.number[0], 7);
    assert_int_equal(remove(sora_tune_path(both[0])), 0);
    sora_context_destroy(&both[0]);
}

static void test_files(void **state)
{
    fixture *f = *state;
    sora_context *context = f->contexts[0], *other;
    sora_error error;
    char path[96], text[8192], *at;
    const sora_tuning_entry entry = { .op = "gemm", .shape = { 1, 2, 3 }, .variant = { { 4, 5 } }, .seconds = 1, .standard = 2 };
    sora_tuning_variant found;
    OK(sora_tuning_set(context, &entry, &error));
    OK(sora_tune_save(context, sora_tune_path(context), &error));
    /* The next context of this device has it; one without a cache has not. */
    OK(sora_context_create(&(sora_context_options) { .cache = f->cache }, &other, &error));
    assert_int_equal(sora_tune_choices(other), 1);
    assert_true(sora_tuning_find(other, &(sora_tuning_key) { "gemm", { 1, 2, 3 } }, &found));
    assert_memory_equal(&found, &entry.variant, sizeof found);
    assert_false(sora_tuning_find(other, &(sora_tuning_key) { "gemm", { 1, 2, 4 } }, &found));
    assert_false(sora_tuning_find(other, &(sora_tuning_key) { "conv", { 1, 2, 3 } }, &found));
    snprintf(path, sizeof path, "%s/choices.json", f->cache);
    OK(sora_tune_save(other, path, &error));
    FILE *file = fopen(path, "r");
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    OK(sora_tune_load(other, path, &error));
    /* What is wrong with a file is said, and what was there stays. */
    static const struct {
        const char *from, *to, *message;
    } broken[] = { { "soracl-tuning-1", "soracl-tuning-9", "not choices" },
                   { "\"driver\": \"", "\"driver\": \"x", "another device" },
                   { "\"seconds\"", "\"second\"", "choice 0" },
                   { "\"op\": \"gemm\"", "\"op\": 7", "choice 0" },
                   { "\"op\": \"gemm\"", "\"op\": \"a name that is too long\"", "choice 0" },
                   { "    4,", "    -4,", "choice 0" },
                   { "    4,", "    4.5,", "choice 0" },
                   { "    4,", "", "choice 0" },
                   { "\"choices\": [", "\"choices\": [[", "line" } };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char changed[8300];
        at = strstr(text, broken[i].from);
        assert_non_null(at);
        snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, broken[i].to, at + strlen(broken[i].from));
        write_text(path, changed);
        FAILS(sora_tune_load(other, path, &error), SORA_ERROR_INPUT, broken[i].message);
        assert_int_equal(sora_tune_choices(other), 1);
    }
    FAILS(sora_tune_load(other, "/nonexistent/choices", &error), SORA_ERROR_INPUT, "nonexistent");
    sora_context_destroy(&other);
    /* In the cache a broken file is as good as none. */
    write_text(sora_tune_path(context), "{ \"format\": 1");
    OK(sora_context_create(&(sora_context_options) { .cache = f->cache }, &other, &error));
    assert_int_equal(sora_tune_choices(other), 0);
    sora_context_destroy(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),       cmocka_unit_test(test_convolutions), cmocka_unit_test(test_attention),
        cmocka_unit_test(test_taken_back),     cmocka_unit_test(test_clblast),      cmocka_unit_test(test_tuning),
        cmocka_unit_test(test_choice_is_used), cmocka_unit_test(test_two_at_once),  cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
