/* SPDX-License-Identifier: Apache-2.0 */
/* Steps with and without tensors that are made again are equal to the bit, running statistics among them, and take less
 * memory. */
#include "unet.h"

#include "soracl/t5.h"
#include "soracl/train.h"

static void compare(const network *n, bool unfused, bool in_arena)
{
    static result kept, again;
    int parts = run(n, unfused, false, in_arena, &kept);
    assert_int_equal(run(n, unfused, true, in_arena, &again), parts);
    assert_int_equal(again.count, kept.count);
    for (int p = 0; p < parts; p++)
        if (memcmp(kept.values + kept.at[p], again.values + kept.at[p], (size_t)(kept.at[p + 1] - kept.at[p]) * sizeof(float)) !=
            0)
            fail_msg("%s, unfused %d, in an arena %d: tensor %d differs", n->label, unfused, in_arena, p);
    if (in_arena && again.statistics.arena_bytes >= kept.statistics.arena_bytes)
        fail_msg("%s: %llu bytes; %llu without", n->label, (unsigned long long)again.statistics.arena_bytes,
                 (unsigned long long)kept.statistics.arena_bytes);
}

static void test_unets(void **state)
{
    (void)state;
    static const network networks[] = {
        { .label = "unet-fc, full", .unet = { .size = 64 } },
        { .label = "unet-fc, part of a batch", .unet = { .size = 64 }, .count = 2 },
        { .label = "unet, dropout",
          .unet = { .model = "unet", .size = 36, .width = 3, .depth = 2 },
          .graph = { .dropout = 0.3f, .loss = SORA_LOSS_DICE_BCE } },
        { .label = "unet, decoder",
          .unet = { .model = "unet", .size = 32, .width = 4, .depth = 2 },
          .target = "bottleneck.conv2|decoder.*.conv[12]",
          .dropout = 0.25f },
        { .label = "unet, frozen statistics",
          .unet = { .model = "unet", .size = 32, .width = 4, .depth = 2 },
          .graph = { .batch_norm_frozen = true } },
    };
    for (size_t i = 0; i < SORA_COUNT(networks); i++)
        for (int how = 0; how < 4; how++) compare(&networks[i], how & 1, how & 2);
}

/* ---- T5 ---------------------------------------------------------------------------------------------------------- */

enum { TEXTS = 3, SOURCE = 21, TARGET = 9, VOCABULARY = 60 };

typedef struct text_result {
    sora_graph_statistics statistics;
    int64_t count;
    float values[200000];
} text_result;

static void run_text(bool gated, const char *target, bool recompute, sora_plan_policy policy, text_result *out)
{
    sora_error error;
    sora_t5 *t5;
    sora_t5_graph graph;
    const sora_t5_config config = { .vocabulary = VOCABULARY,
                                    .width = 32,
                                    .heads = 2,
                                    .head_size = 16,
                                    .inner_width = 48,
                                    .encoder_layers = 2,
                                    .decoder_layers = 2,
                                    .dropout = 0.2f,
                                    .gated = gated,
                                    .own_head = gated,
                                    .scale_head = !gated };
    int32_t source[TEXTS * SOURCE], decoder[TEXTS * TARGET], labels[TEXTS * TARGET], lengths[TEXTS] = { SOURCE, 5, 13 };
    for (int i = 0; i < TEXTS * SOURCE; i++) source[i] = 2 + i * 7 % (VOCABULARY - 2);
    for (int i = 0; i < TEXTS * TARGET; i++)
        decoder[i] = i % TARGET ? 2 + i * 5 % (VOCABULARY - 2) : 0, labels[i] = 1 + i * 3 % (VOCABULARY - 1);
    OK(sora_t5_create(context, &config, 3, &t5, &error));
    sora_params *params = sora_t5_params(t5);
    if (target) OK(sora_adapt(sora_t5_layers(t5), target, &(sora_adapter_options) { .rank = 3, .dropout = 0.1f }, NULL, &error));
    for (size_t i = 0; target && i < sora_params_count(params); i++) {
        sora_param *p = sora_params_at(params, i);
        sora_shape shape = sora_param_shape(p);
        if (sora_param_trainable(p)) fill(sora_param_host(p), sora_shape_elements(&shape), (uint32_t)i, false);
    }
    OK(sora_params_upload(params, SORA_MOMENTS_NONE, &error));
    OK(sora_t5_build(
        t5,
        &(sora_t5_graph_options) { .graph = { .training = true, .batch = TEXTS, .policy = policy, .recompute = recompute },
                                   .source = SOURCE,
                                   .target = TARGET },
        &graph, &error));
    OK(sora_graph_write(graph.graph, graph.source, source, TEXTS, &error));
    OK(sora_graph_write(graph.graph, graph.lengths, lengths, TEXTS, &error));
    OK(sora_graph_write(graph.graph, graph.decoder, decoder, TEXTS, &error));
    OK(sora_graph_write(graph.graph, graph.labels, labels, TEXTS, &error));
    OK(sora_graph_forward(graph.graph, TEXTS, 1, 0, &error));
    OK(sora_params_zero_gradients(params, &error));
    OK(sora_graph_backward(graph.graph, &error));
    if (policy == SORA_PLAN_SEPARATE) OK(sora_graph_check_guards(graph.graph, &error));
    OK(sora_graph_read(graph.graph, graph.loss, out->values, &error));
    out->count = 1;
    for (size_t i = 0; i < sora_params_count(params); i++) {
        sora_param *p = sora_params_at(params, i);
        sora_shape shape = sora_param_shape(p);
        if (!sora_param_trainable(p)) continue;
        assert_true(out->count + sora_shape_elements(&shape) <= (int64_t)SORA_COUNT(out->values));
        OK(sora_param_read(p, 3, out->values + out->count, &error));
        out->count += sora_shape_elements(&shape);
    }
    out->statistics = sora_graph_stats(graph.graph);
    sora_graph_destroy(&graph.graph);
    sora_t5_destroy(&t5);
}

static void test_t5(void **state)
{
    (void)state;
    static text_result kept, again;
    static const char *const targets[] = { NULL, SORA_TARGET_T5, "decoder.*wo" };
    for (int gated = 0; gated < 2; gated++)
        for (size_t t = 0; t < SORA_COUNT(targets); t++)
            for (int policy = SORA_PLAN_ARENA; policy <= SORA_PLAN_SEPARATE; policy++) {
                run_text(gated, targets[t], false, (sora_plan_policy)policy, &kept);
                run_text(gated, targets[t], true, (sora_plan_policy)policy, &again);
                assert_true(kept.count > 100 && kept.count == again.count && kept.values[0] > 0);
                assert_memory_equal(kept.values, again.values, (size_t)kept.count * sizeof(float));
                bool less = again.statistics.arena_bytes < kept.statistics.arena_bytes;
                if (policy == SORA_PLAN_ARENA && t < 2 && !less)
                    fail_msg("gated %d, %s: %llu bytes; %llu without", gated, targets[t] ? targets[t] : "full",
                             (unsigned long long)again.statistics.arena_bytes, (unsigned long long)kept.statistics.arena_bytes);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_unets), cmocka_unit_test(test_t5) };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
