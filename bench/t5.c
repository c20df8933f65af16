/* SPDX-License-Identifier: Apache-2.0 */
/* Training steps of T5-small's shape with random weights on full-length random ids: batch 8, rank 16,
 * dropout 0.1. Each setting is a process of its own (sora-bench t5-step), so that its peak of memory is its own. */
#include "bench.h"

#include "base/random.h"
#include "soracl/optimizer.h"
#include "soracl/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 8, RANK = 16, MAX_STEPS = 100, WARM = 2 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- One setting ------------------------------------------------------------------------------------------------------------
 */

typedef struct setting {
    const char *method, *profile;
    int source, target, steps;
} setting;

typedef struct training {
    sora_context *context;
    sora_t5 *t5;
    sora_t5_graph graph;
    sora_optimizer *optimizer;
    uint64_t predicted;
    double seconds[MAX_STEPS];
    float loss;
} training;

static void close_training(training *t)
{
    sora_graph_destroy(&t->graph.graph);
    sora_optimizer_destroy(&t->optimizer);
    sora_t5_destroy(&t->t5);
    if (t->context) sora_context_destroy(&t->context);
}

static sora_status write_ids(training *t, const setting *s, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_random_stream random = { .seed = 1, .purpose = SORA_PURPOSE_TEST };
    int32_t *ids = NULL;
    int lengths[BATCH];
    size_t source = (size_t)(BATCH * s->source), target = (size_t)(BATCH * s->target);
    SORA_TRY(sora_allocate(source + 2 * target, sizeof *ids, "bench", &ids, error));
    int32_t *labels = ids + source, *decoder = labels + target;
    for (size_t i = 0; i < source + target; i++) ids[i] = 2 + (int32_t)(sora_random_uniform(&random) * 31998);
    for (size_t i = 0; i < target; i++) decoder[i] = i % (size_t)s->target ? labels[i - 1] : 0;
    for (int i = 0; i < BATCH; i++) lengths[i] = s->source;
    SORA_TRY(sora_graph_write(t->graph.graph, t->graph.source, ids, BATCH, error));
    SORA_TRY(sora_graph_write(t->graph.graph, t->graph.lengths, lengths, BATCH, error));
    SORA_TRY(sora_graph_write(t->graph.graph, t->graph.labels, labels, BATCH, error));
    SORA_TRY(sora_graph_write(t->graph.graph, t->graph.decoder, decoder, BATCH, error));
    SORA_TRY(sora_context_finish(t->context, error));
cleanup:
    free(ids);
    return status;
}

static sora_status open_training(const setting *s, training *t, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_optimizer_options rule = { .weight_decay = 0.01f };
    const sora_t5_config small = { .vocabulary = 32128,
                                   .width = 512,
                                   .heads = 8,
                                   .head_size = 64,
                                   .inner_width = 2048,
                                   .encoder_layers = 6,
                                   .decoder_layers = 6,
                                   .dropout = 0.1f,
                                   .scale_head = true };
    const sora_adapter_options adapter = { .kind = strcmp(s->method, "lora") == 0 ? SORA_ADAPTER_LORA : SORA_ADAPTER_SORA,
                                           .rank = RANK,
                                           .alpha = RANK };
    SORA_TRY(sora_context_create(&(sora_context_options) { .profile = s->profile != NULL }, &t->context, error));
    SORA_TRY(sora_t5_create(t->context, &small, 1, &t->t5, error));
    if (strcmp(s->method, "full") != 0) SORA_TRY(sora_adapt(sora_t5_layers(t->t5), SORA_TARGET_T5, &adapter, NULL, error));
    sora_params *params = sora_t5_params(t->t5);
    SORA_TRY(sora_t5_build(
        t->t5,
        &(sora_t5_graph_options) { .graph = { .training = true, .batch = BATCH }, .source = s->source, .target = s->target },
        &t->graph, error));
    t->predicted = sora_params_device_bytes(params, sora_optimizer_moments(&rule)) +
                   sora_graph_stats(t->graph.graph).arena_bytes + sora_optimizer_device_bytes(params, &rule);
    SORA_TRY(sora_params_place(params, sora_optimizer_moments(&rule), error));
    SORA_TRY(sora_graph_prepare(t->graph.graph, error));
    SORA_TRY(sora_params_upload(params, sora_optimizer_moments(&rule), error));
    SORA_TRY(sora_optimizer_create(params, &rule, &t->optimizer, error));
    SORA_TRY(write_ids(t, s, error));
cleanup:
    return status;
}

static sora_status run_steps(const setting *s, training *t, sora_error *error)
{
    sora_status status = SORA_OK;
    const sora_optimizer_rates rates = { .lr = 1e-3f, .gate_lr = 1e-3f, .xi = 1e-4f };
    for (int i = 0; i < s->steps; i++) {
        double began = now();
        SORA_TRY(sora_graph_forward(t->graph.graph, BATCH, (uint32_t)i, 0, error));
        SORA_TRY(sora_params_zero_gradients(sora_t5_params(t->t5), error));
        SORA_TRY(sora_graph_backward(t->graph.graph, error));
        SORA_TRY(sora_optimizer_step(t->optimizer, t->graph.graph, t->graph.loss, &rates, 1, error));
        SORA_TRY(sora_graph_read(t->graph.graph, t->graph.loss, &t->loss, error)); /* and wait */
        t->seconds[i] = now() - began;
    }
    if (s->profile) SORA_TRY(sora_context_write_profile(t->context, s->profile, error));
cleanup:
    return status;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of the steps after the first two, which compile and touch everything. */
static json_t *describe(const setting *s, training *t)
{
    json_t *all = json_array();
    int count = s->steps - WARM;
    for (int i = 0; i < s->steps; i++) json_array_append_new(all, json_real(t->seconds[i]));
    double *rest = t->seconds + WARM;
    qsort(rest, (size_t)count, sizeof *rest, rising);
    double median = count % 2 ? rest[count / 2] : (rest[count / 2 - 1] + rest[count / 2]) / 2;
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:o, s:I, s:I, s:I, s:I, s:f}", "method", s->method, "source",
                     s->source, "target", s->target, "batch", (int)BATCH, "rank", (int)RANK, "step_s", median, "min_s", rest[0],
                     "max_s", rest[count - 1], "tokens_per_s", BATCH * (s->source + s->target) / median, "all_s", all,
                     "trainable", (json_int_t)sora_params_trainable_elements(sora_t5_params(t->t5)), "device_bytes_predicted",
                     (json_int_t)t->predicted, "device_bytes_peak", (json_int_t)sora_context_memory(t->context).peak,
                     "process_bytes_peak", (json_int_t)sora_process_bytes_peak(), "loss", (double)t->loss);
}

int bench_t5_child(int argc, char **argv)
{
    sora_status status = SORA_OK;
    sora_error error;
    training t = { 0 };
    json_t *line = NULL;
    if (argc < 4 || argc > 5) return 2;
    const setting s = { argv[0], argc > 4 ? argv[4] : NULL, atoi(argv[1]), atoi(argv[2]), atoi(argv[3]) };
    bool known = strcmp(s.method, "full") == 0 || strcmp(s.method, "lora") == 0 || strcmp(s.method, "sora") == 0;
    if (!known || s.source < 1 || s.target < 1 || s.steps <= WARM || s.steps > MAX_STEPS) return 2;
    SORA_TRY(open_training(&s, &t, &error));
    SORA_TRY(run_steps(&s, &t, &error));
    line = describe(&s, &t);
    json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
cleanup:
    if (status != SORA_OK) fprintf(stderr, "sora-bench: %s\n", error.message);
    json_decref(line);
    close_training(&t);
    return status != SORA_OK;
}

/* ---- All settings -----------------------------------------------------------------------------------------------------------
 */

static sora_status run_child(bench_state *state, const char *method, int source, int target, json_t **out, sora_error *error)
{
    sora_status status = SORA_OK;
    char *command = NULL;
    SORA_TRY(sora_format(&command, error, "'%s' t5-step %s %d %d %d", state->program, method, source, target, WARM + 5));
    FILE *child = popen(command, "r");
    *out = child ? json_loadf(child, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    if (child) pclose(child);
    if (!*out) SORA_FAIL(error, SORA_ERROR_DEVICE, "%s: gave no result", command);
cleanup:
    free(command);
    return status;
}

sora_status bench_t5(bench_state *state, sora_error *error)
{
    sora_status status = SORA_OK;
    static const char *const methods[] = { "full", "lora", "sora" };
    static const int lengths[][2] = { { 256, 32 }, { 512, 64 } };
    json_t *list = json_array();
    printf("\n%-40s %11s %19s %10s %12s %12s\n", "step of t5-small's shape, batch 8, rank 16", "median", "least .. most",
           "tokens/s", "device MiB", "process MiB");
    for (size_t l = 0; l < SORA_COUNT(lengths); l++)
        for (size_t m = 0; m < SORA_COUNT(methods); m++) {
            json_t *one;
            char name[64], spread[48];
            SORA_TRY(run_child(state, methods[m], lengths[l][0], lengths[l][1], &one, error));
            json_array_append_new(list, one);
            snprintf(name, sizeof name, "%s, %d / %d", methods[m], lengths[l][0], lengths[l][1]);
            snprintf(spread, sizeof spread, "%.3f .. %.3f", json_real_value(json_object_get(one, "min_s")),
                     json_real_value(json_object_get(one, "max_s")));
            printf("%-40s %9.3f s %19s %10.0f %12.0f %12.0f\n", name, json_real_value(json_object_get(one, "step_s")), spread,
                   json_real_value(json_object_get(one, "tokens_per_s")),
                   (double)json_integer_value(json_object_get(one, "device_bytes_peak")) / (1 << 20),
                   (double)json_integer_value(json_object_get(one, "process_bytes_peak")) / (1 << 20));
            fflush(stdout);
        }
    json_object_set(state->json, "t5", list);
cleanup:
    json_decref(list);
    return status;
}
