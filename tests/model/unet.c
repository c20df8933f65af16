/* SPDX-License-Identifier: Apache-2.0 */
#include "model/unet.h"
#include "../fixture.h"
#include "base/file.h"
#include "base/random.h"

#include "soracl/safetensors.h"

#include <jansson.h>
#include <math.h>

/* ---- Against PyTorch (unet_reference.py) ------------------------------------------------------------------------- */

/* unet_reference.py's noise(name, count)[i]. */
static double noise(uint32_t name, int64_t i)
{
    uint32_t h = (uint32_t)i * 2654435761u + name;
    for (int round = 0; round < 2; round++) h = (h ^ h >> 16) * 0x45d9f3bu;
    return (h ^ h >> 16) / 2147483648.0 - 1;
}

static void fill(sora_param *param)
{
    const char *name = sora_param_name(param);
    sora_shape shape = sora_param_shape(param);
    int64_t n = sora_shape_elements(&shape);
    uint32_t stream = sora_hash_name(name);
    bool gamma = strstr(name, ".norm") && strstr(name, ".weight");
    if (sora_param_kind_of(param) == SORA_PARAM_STATE) return;
    for (int64_t i = 0; i < n; i++) {
        double w = noise(stream, i);
        sora_param_host(param)[i] = (float)(gamma             ? 1 + 0.2 * w
                                            : shape.rank == 1 ? 0.1 * w
                                                              : 2.4 * w / sqrt((double)(n / shape.dim[0])));
    }
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* Relative distance of the gradient from PyTorch's, over the elements that the reference has. */
static double gradient_error(const sora_param *param, const json_t *reference)
{
    sora_error error;
    sora_shape shape = sora_param_shape(param);
    int64_t n = sora_shape_elements(&shape);
    const json_t *samples = json_object_get(reference, "samples");
    size_t count = json_array_size(samples);
    float *gradient = malloc((size_t)n * sizeof *gradient);
    double wrong = 0, all = 0, norm = 0;
    assert_true(gradient && count > 0);
    OK(sora_param_read(param, 3, gradient, &error));
    for (int64_t i = 0; i < n; i++) norm += (double)gradient[i] * gradient[i];
    for (size_t i = 0; i < count; i++) {
        double expected = json_number_value(json_array_get(samples, i));
        wrong += pow(gradient[(int64_t)i * (n / (int64_t)count)] - expected, 2);
        all += expected * expected;
    }
    free(gradient);
    double norm_error = fabs(sqrt(norm) / number(reference, "norm") - 1);
    return fmax(norm_error, sqrt(wrong / all));
}

static void check_case(const json_t *expected)
{
    sora_error error;
    sora_unet *unet;
    sora_unet_graph graph;
    int size = (int)number(expected, "size"), batch = (int)number(expected, "batch");
    size_t pixels = (size_t)batch * size * size;
    uint32_t stream = sora_hash_name(json_string_value(json_object_get(expected, "image")));
    double loss = number(expected, "dice") + number(expected, "bce"), worst = 0;
    float got, *image = malloc(3 * pixels * sizeof *image), *mask = malloc(pixels * sizeof *mask);
    assert_true(image && mask);
    OK(sora_unet_create(context,
                        &(sora_unet_options) { .model = json_string_value(json_object_get(expected, "model")),
                                               .size = size,
                                               .width = (int)number(expected, "width"),
                                               .depth = (int)number(expected, "depth") },
                        &unet, &error));
    sora_params *params = sora_unet_params(unet);
    assert_int_equal(sora_params_trainable_elements(params), (uint64_t)number(expected, "parameters"));
    for (size_t i = 0; i < sora_params_count(params); i++) fill(sora_params_at(params, i));
    OK(sora_params_upload(params, 0, &error));
    OK(sora_unet_build(unet,
                       &(sora_unet_graph_options) { .graph = { .training = true, .batch = batch }, .loss = SORA_LOSS_DICE_BCE },
                       &graph, &error));
    for (size_t i = 0; i < 3 * pixels; i++) image[i] = (float)noise(stream, (int64_t)i);
    for (size_t i = 0; i < pixels; i++) mask[i] = noise(sora_hash_name("mask"), (int64_t)i) > 0.3;
    OK(sora_graph_write(graph.graph, graph.image, image, batch, &error));
    OK(sora_graph_write(graph.graph, graph.mask, mask, batch, &error));
    OK(sora_params_zero_gradients(params, &error));
    OK(sora_graph_forward(graph.graph, batch, 0, 0, &error));
    OK(sora_graph_backward(graph.graph, &error));
    OK(sora_graph_read(graph.graph, graph.loss, &got, &error));
    if (!(fabs(got / loss - 1) < 1e-5)) fail_msg("loss %.9g; expected %.9g", got, loss);

    const char *name;
    const json_t *reference;
    size_t compared = 0;
    json_object_foreach((json_t *)json_object_get(expected, "gradients"), name, reference)
    {
        const sora_param *param = sora_params_find(params, name);
        if (!param) fail_msg("no parameter %s", name);
        double wrong = gradient_error(param, reference);
        worst = fmax(worst, wrong);
        compared++;
        if (!(wrong < 1e-4)) fail_msg("%s: gradient off by %.3g of its size", name, wrong);
    }
    size_t trainable = 0;
    for (size_t i = 0; i < sora_params_count(params); i++) trainable += sora_param_trainable(sora_params_at(params, i));
    assert_true(compared == trainable || (size == 128 && compared == 0)); /* unet_reference.py says why */
    print_message("# %zu gradients, the worst off by %.2g; loss by %.2g\n", compared, worst, fabs(got / loss - 1));

    const char *keys[] = { "running_mean", "running_var" };
    for (int k = 0; k < 2; k++) {
        char running[64];
        float values[64];
        snprintf(running, sizeof running, "encoder.1.norm2.%s", keys[k]);
        OK(sora_param_read(sora_params_find(params, running), 0, values, &error));
        const json_t *list = json_object_get(expected, keys[k]);
        for (size_t i = 0; i < json_array_size(list); i++)
            assert_true(fabs(values[i] - json_number_value(json_array_get(list, i))) < 1e-5);
    }
    sora_graph_destroy(&graph.graph);
    sora_unet_destroy(&unet);
    free(image);
    free(mask);
}

static void check_cases(const char *model)
{
    json_error_t where;
    json_t *reference = json_load_file(REFERENCE, 0, &where), *cases = json_object_get(reference, "cases");
    int seen = 0;
    if (!reference) fail_msg("%s:%d: %s", REFERENCE, where.line, where.text);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        if (strcmp(json_string_value(json_object_get(one, "model")), model) != 0) continue;
        check_case(one);
        seen++;
    }
    assert_int_equal(seen, strcmp(model, "unet") == 0 ? 1 : 2);
    json_decref(reference);
}

static void test_unet_fc_is_pytorchs(void **state)
{
    (void)state;
    check_cases("unet-fc");
}

static void test_unet_is_pytorchs(void **state)
{
    (void)state;
    check_cases("unet");
}

/* ---- The rest ---------------------------------------------------------------------------------------------------- */

static void test_parameter_count(void **state)
{
    (void)state;
    sora_error error;
    sora_unet *unet;
    OK(sora_unet_create(context, &(sora_unet_options) { 0 }, &unet, &error));
    assert_int_equal(sora_params_trainable_elements(sora_unet_params(unet)), 1431533);
    sora_unet_destroy(&unet);
}

static void test_options_are_checked(void **state)
{
    (void)state;
    sora_error error;
    sora_unet *unet;
    const struct {
        sora_unet_options options;
        const char *words;
    } cases[] = {
        { { .size = 100 }, "multiples of 64" },
        { { .size = -64 }, "multiples of 64" },
        { { .width = 8 }, "--model unet" },
        { { .model = "resnet" }, "unet-fc or unet" },
        { { .model = "unet", .depth = 9 }, "depth 9" },
        { { .model = "unet", .width = -1 }, "width -1" },
        { { .model = "unet", .size = 40, .depth = 4 }, "multiples of 16" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        FAILS(sora_unet_create(context, &cases[i].options, &unet, &error), SORA_ERROR_ARGUMENT, cases[i].words);
}

/* A file comes back to the bit; every prefix and every changed byte of its header is taken or refused with a message. */
static void test_file(void **state)
{
    (void)state;
    sora_error error;
    sora_unet *a, *b;
    float mean[3] = { 0.1f, 0.2f, 0.3f }, deviation[3] = { 1, 2, 3 };
    unsigned char *bytes;
    size_t count, refused = 0;
    OK(sora_unet_create(context, &(sora_unet_options) { .model = "unet", .size = 16, .width = 2, .depth = 1, .seed = 5 }, &a,
                        &error));
    sora_unet_set_normalisation(a, mean, deviation);
    OK(sora_unet_save(a, at("a.safetensors"), &error));
    OK(sora_unet_load(context, at("a.safetensors"), &b, &error));
    assert_int_equal(sora_unet_config(b)->width, 2);
    for (size_t i = 0; i < sora_params_count(a->params); i++) {
        sora_param *x = sora_params_at(a->params, i), *y = sora_params_find(b->params, sora_param_name(x));
        sora_shape shape = sora_param_shape(x);
        assert_non_null(y);
        assert_memory_equal(sora_param_host(x), sora_param_host(y), (size_t)sora_shape_elements(&shape) * sizeof(float));
    }
    sora_unet_normalisation(b, mean, deviation);
    assert_true(mean[2] == 0.3f && deviation[1] == 2);
    sora_unet_destroy(&a);
    sora_unet_destroy(&b);

    OK(sora_file_read(at("a.safetensors"), 1 << 20, &bytes, &count, &error));
    size_t header = 8 + bytes[0] + 256u * bytes[1];
    for (size_t i = 0; i < header; i++) {
        unsigned char kept = bytes[i];
        bytes[i] = (unsigned char)(kept ^ 1);
        OK(sora_file_write(at("b.safetensors"), bytes, count, &error));
        bytes[i] = kept;
        sora_status status = sora_unet_load(context, at("b.safetensors"), &b, &error);
        if (status == SORA_OK)
            sora_unet_destroy(&b);
        else if (status != SORA_ERROR_INPUT && status != SORA_ERROR_ARGUMENT)
            fail_msg("byte %zu: %s", i, error.message);
        else
            refused++;
    }
    for (size_t i = 0; i < count; i += i < header ? 7 : 101) {
        OK(sora_file_write(at("b.safetensors"), bytes, i, &error));
        FAILS(sora_unet_load(context, at("b.safetensors"), &b, &error), SORA_ERROR_INPUT, "b.safetensors");
    }
    print_message("# %zu of %zu changed headers refused\n", refused, header);
    free(bytes);
}

/* What the reader would refuse is not written. */
static void test_not_finite(void **state)
{
    (void)state;
    sora_error error;
    sora_unet *unet;
    OK(sora_unet_create(context, &(sora_unet_options) { .model = "unet", .size = 16, .width = 2, .depth = 1 }, &unet, &error));
    const float odd[] = { NAN, INFINITY, -INFINITY };
    for (size_t i = 0; i < SORA_COUNT(odd); i++) {
        sora_param_host(sora_params_find(unet->params, "encoder.0.norm1.running_mean"))[1] = odd[i];
        FAILS(sora_unet_save(unet, at("odd.safetensors"), &error), SORA_ERROR_NUMERIC, "odd.safetensors: tensor encoder.0.norm1");
        assert_non_null(strstr(error.message, " at 1"));
        assert_false(sora_path_exists(at("odd.safetensors")));
    }
    sora_unet_destroy(&unet);
}

/* Names, missing tensors and shapes of a file that is a good safetensors but not this network. */
static void test_foreign_file(void **state)
{
    (void)state;
    sora_error error;
    sora_unet *unet;
    const float value = 1;
    const sora_file_tensor one = {
        .name = "x", .dtype = SORA_FILE_F32, .rank = 1, .shape = { 1 }, .elements = 1, .data = &value
    };
    OK(sora_safetensors_write(at("x.safetensors"), &one, 1, NULL, 0, &error));
    FAILS(sora_unet_load(context, at("x.safetensors"), &unet, &error), SORA_ERROR_INPUT, "x.safetensors");
    FAILS(sora_unet_load(context, at("absent"), &unet, &error), SORA_ERROR_INPUT, "absent");
    /* What metadata alone promises is not made: gigabytes here. */
    const struct {
        const char *network, *largest;
    } huge[] = { { "unet size 256 width 256 depth 4", "bottleneck.conv2.weight has 0 values, expected 150994944" },
                 { "unet-fc size 1024 width 0 depth 0", "bottleneck.weight has 0 values, expected 268435456" } };
    for (size_t i = 0; i < SORA_COUNT(huge); i++) {
        const char *metadata[][2] = { { "format", "soracl-unet-1" }, { "network", huge[i].network } };
        long before = peak_memory();
        OK(sora_safetensors_write(at("huge.safetensors"), &one, 1, metadata, 2, &error));
        FAILS(sora_unet_load(context, at("huge.safetensors"), &unet, &error), SORA_ERROR_INPUT, huge[i].largest);
        assert_true(peak_memory() - before < 64);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameter_count),
        cmocka_unit_test(test_unet_fc_is_pytorchs),
        cmocka_unit_test(test_unet_is_pytorchs),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_foreign_file),
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
