/* SPDX-License-Identifier: Apache-2.0 */
#include "../fixture.h"
#include "adapter/layer.h"
#include "graph/graph.h"
#include "model/t5.h"
#include "soracl/peft.h"

#include <jansson.h>
#include <math.h>

/* Small T5 and v1.1 models beside Transformers in double precision: t5_reference.py made the folder t5/ and says what is in
 * it. */

static json_t *expected;

static int open_all(void **state)
{
    expected = json_load_file(REFERENCE "/expected.json", 0, NULL);
    return expected ? open_context(state) : -1;
}

static int close_all(void **state)
{
    json_decref(expected);
    return close_context(state);
}

static const json_t *at_path(const json_t *from, const char *a, const char *b)
{
    const json_t *value = json_object_get(json_object_get(from, a), b);
    if (!value) fail_msg("expected.json: %s.%s is missing", a, b);
    return value;
}

static double number(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

/* ---- A batch ----------------------------------------------------------------------------------------------------- */

typedef struct batch {
    int count, source, target, labels_counted;
    int32_t *ids, *lengths, *decoder, *labels;
} batch;

static batch batch_of(const json_t *model)
{
    const json_t *ids = at_path(model, "batch", "ids"), *lengths = at_path(model, "batch", "lengths"),
                 *labels = at_path(model, "batch", "labels");
    batch b = { .count = (int)json_array_size(ids),
                .source = (int)json_array_size(json_array_get(ids, 0)),
                .target = (int)json_array_size(json_array_get(labels, 0)) };
    b.ids = calloc((size_t)(b.count * b.source), sizeof *b.ids);
    b.lengths = calloc((size_t)b.count, sizeof *b.lengths);
    b.decoder = calloc((size_t)(b.count * b.target), sizeof *b.decoder);
    b.labels = calloc((size_t)(b.count * b.target), sizeof *b.labels);
    for (int i = 0; i < b.count; i++) {
        b.lengths[i] = (int32_t)number(lengths, (size_t)i);
        for (int t = 0; t < b.source; t++) b.ids[i * b.source + t] = (int32_t)number(json_array_get(ids, (size_t)i), (size_t)t);
        for (int t = 0; t < b.target; t++) {
            int32_t label = b.labels[i * b.target + t] = (int32_t)number(json_array_get(labels, (size_t)i), (size_t)t);
            b.labels_counted += label != -100;
            if (t + 1 < b.target) b.decoder[i * b.target + t + 1] = label == -100 ? 0 : label;
        }
    }
    return b;
}

static void free_batch(batch *b)
{
    free(b->ids), free(b->lengths), free(b->decoder), free(b->labels);
}

typedef struct run {
    sora_t5 *t5;
    sora_t5_graph graph;
    batch batch;
} run;

/* Padded beyond the batch, and with room for one text more: neither may count. */
static void start(run *r, sora_t5 *t5, const json_t *model, bool training, float smoothing)
{
    sora_error error;
    *r = (run) { .t5 = t5, .batch = batch_of(model) };
    sora_t5_graph_options options = { .graph = { .training = training, .batch = r->batch.count },
                                      .source = r->batch.source,
                                      .target = r->batch.target,
                                      .smoothing = smoothing,
                                      .keep_hidden = true };
    t5->config.dropout = 0.0f;
    OK(sora_t5_build(t5, &options, &r->graph, &error));
    OK(sora_params_upload(t5->params, 0, &error));
    OK(sora_graph_write(r->graph.graph, r->graph.source, r->batch.ids, r->batch.count, &error));
    OK(sora_graph_write(r->graph.graph, r->graph.lengths, r->batch.lengths, r->batch.count, &error));
    OK(sora_graph_write(r->graph.graph, r->graph.decoder, r->batch.decoder, r->batch.count, &error));
    OK(sora_graph_write(r->graph.graph, r->graph.labels, r->batch.labels, r->batch.count, &error));
    OK(sora_graph_forward(r->graph.graph, r->batch.count, 0, 0, &error));
}

static void end(run *r)
{
    sora_error error;
    sora_graph_destroy(&r->graph.graph);
    OK(sora_params_download(r->t5->params, &error));
    free_batch(&r->batch);
}

static void check_near(const char *what, double got, double want, double scale, double share)
{
    if (!(fabs(got - want) <= share * scale))
        fail_msg("%s: %.9g, expected %.9g: off by %.3g of %.3g", what, got, want, fabs(got - want), scale);
}

static void check_loss(run *r, double want)
{
    sora_error error;
    float loss;
    OK(sora_graph_read(r->graph.graph, r->graph.loss, &loss, &error));
    check_near("loss", (double)loss, want, fmax(fabs(want), 0.01), 1e-5);
}

/* Logits of every label that counts, at some columns, and the log-sum-exp of all; from the decoder's states and the head. */
static void check_logits(run *r, const json_t *logits)
{
    sora_error error;
    const sora_t5_config *c = &r->t5->config;
    const json_t *columns = json_object_get(expected, "columns"), *rows = json_object_get(logits, "columns"),
                 *sums = json_object_get(logits, "logsumexp");
    size_t n = (size_t)(r->batch.count * r->batch.target), row = 0;
    float *hidden = calloc(n * (size_t)c->width, sizeof *hidden),
          *head = calloc((size_t)c->vocabulary * (size_t)c->width, sizeof *head);
    double *all = calloc((size_t)c->vocabulary, sizeof *all);
    OK(sora_graph_read(r->graph.graph, r->graph.hidden, hidden, &error));
    OK(sora_param_read(r->t5->head, 0, head, &error));
    assert_int_equal(json_array_size(rows), r->batch.labels_counted);
    for (size_t i = 0; i < n; i++) {
        double sum = 0, most = -INFINITY;
        if (r->batch.labels[i] == -100) continue;
        for (int v = 0; v < c->vocabulary; v++) {
            all[v] = 0;
            for (int d = 0; d < c->width; d++)
                all[v] += (double)hidden[i * (size_t)c->width + (size_t)d] * (double)head[v * c->width + d];
            all[v] *= (double)sora_t5_head_scale(r->t5);
            most = fmax(most, all[v]);
        }
        for (int v = 0; v < c->vocabulary; v++) sum += exp(all[v] - most);
        check_near("log-sum-exp", most + log(sum), number(sums, row), fmax(1, fabs(number(sums, row))), 1e-5);
        for (size_t k = 0; k < json_array_size(columns); k++) {
            double want = number(json_array_get(rows, row), k);
            check_near("logit", all[(size_t)number(columns, k)], want, fmax(1, fabs(want)), 1e-5);
        }
        row++;
    }
    free(hidden), free(head), free(all);
}

/* norm, sum and samples of a parameter's gradient; relative to the norm, a sum to what it may cancel from. */
static void check_gradient(const char *name, sora_param *param, const json_t *want)
{
    sora_error error;
    sora_shape shape = sora_param_shape(param);
    size_t n = (size_t)sora_shape_elements(&shape);
    float *gradient = calloc(n, sizeof *gradient);
    double squares = 0, sum = 0, norm = json_number_value(json_object_get(want, "norm"));
    const json_t *samples = json_object_get(want, "samples");
    OK(sora_param_read(param, 3, gradient, &error));
    for (size_t i = 0; i < n; i++) squares += (double)gradient[i] * (double)gradient[i], sum += (double)gradient[i];
    check_near(name, sqrt(squares), norm, norm, 1e-4);
    check_near(name, sum, json_number_value(json_object_get(want, "sum")), norm * sqrt((double)n), 1e-4);
    for (size_t i = 0; i < json_array_size(samples); i++) {
        double value = number(samples, i);
        check_near(name, (double)gradient[(i * 7919 + 13) % n], value, fmax(fabs(value), norm / sqrt((double)n)), 1e-4);
    }
    free(gradient);
}

static sora_t5 *load(const char *folder_name)
{
    sora_error error;
    char path[512];
    sora_t5 *t5;
    snprintf(path, sizeof path, REFERENCE "/%s", folder_name);
    OK(sora_t5_load(context, path, &t5, &error));
    return t5;
}

static void check_forward(const char *name)
{
    const json_t *model = at_path(expected, "models", name);
    sora_t5 *t5 = load(name);
    run r;
    start(&r, t5, model, false, 0.0f);
    check_loss(&r, json_number_value(json_object_get(model, "loss")));
    check_logits(&r, json_object_get(model, "logits"));
    end(&r);
    start(&r, t5, model, true, 0.1f);
    check_loss(&r, json_number_value(json_object_get(model, "smoothed_loss")));
    end(&r);
    sora_t5_destroy(&t5);
}

static void test_forward_relu(void **state)
{
    (void)state;
    check_forward("relu");
}

static void test_forward_gated(void **state)
{
    (void)state;
    check_forward("gated");
}

static void test_forward_sharded(void **state)
{
    (void)state;
    check_forward("gated-bf16");
}

/* Values stand in the mapped file until they are on the device; writing into them changes no file, and no other model of it. */
static void test_weights_are_private(void **state)
{
    (void)state;
    sora_t5 *one = load("relu"), *other = load("relu");
    sora_param *mine = sora_params_at(sora_t5_params(one), 0), *theirs = sora_params_at(sora_t5_params(other), 0);
    float before = sora_param_host(theirs)[0];
    sora_param_host(mine)[0] = before + 1;
    assert_true(sora_param_host(mine)[0] == before + 1 && sora_param_host(theirs)[0] == before);
    sora_t5_destroy(&other);
    other = load("relu");
    assert_true(sora_param_host(sora_params_at(sora_t5_params(other), 0))[0] == before);
    sora_t5_destroy(&one);
    sora_t5_destroy(&other);
}

/* ---- Gradients --------------------------------------------------------------------------------------------------- */

static void check_full(const char *name)
{
    sora_error error;
    const json_t *model = at_path(expected, "models", name), *gradients = json_object_get(model, "gradients");
    sora_t5 *t5 = load(name);
    run r;
    start(&r, t5, model, true, 0.0f);
    OK(sora_params_zero_gradients(t5->params, &error));
    OK(sora_graph_backward(r.graph.graph, &error));
    assert_int_equal(json_object_size(gradients), sora_params_count(t5->params));
    for (size_t i = 0; i < sora_params_count(t5->params); i++) {
        sora_param *param = sora_params_at(t5->params, i);
        const json_t *want = json_object_get(gradients, sora_param_name(param));
        if (!want) fail_msg("%s has no gradient in expected.json", sora_param_name(param));
        check_gradient(sora_param_name(param), param, want);
    }
    end(&r);
    sora_t5_destroy(&t5);
}

static void test_full_relu(void **state)
{
    (void)state;
    check_full("relu");
}

static void test_full_gated(void **state)
{
    (void)state;
    check_full("gated");
}

/* The values that t5_reference.py gives to the adapter of module k. */
static void set_adapter(const sora_layers *layers, const json_t *module, int k)
{
    char name[160];
    sora_param *factor[3];
    static const char *const suffix[] = { "down", "up", "gate" };
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.%s", json_string_value(json_object_get(module, "name")), suffix[i]);
        factor[i] = sora_params_find(layers->params, name);
        if (!factor[i]) fail_msg("%s is missing", name);
    }
    int in = (int)json_integer_value(json_object_get(module, "in")),
        out = (int)json_integer_value(json_object_get(module, "out"));
    float *down = sora_param_host(factor[0]), *up = sora_param_host(factor[1]), *gate = sora_param_host(factor[2]);
    for (int i = 0; i < 3 * in; i++) down[i] = (float)(((i * 37 + k * 101 + 11) % 201 - 100) / 512.0);
    for (int i = 0; i < 3 * out; i++) up[i] = (float)(((i * 53 + k * 67 + 29) % 201 - 100) / 512.0);
    gate[k % 3] = 0.0f;
    gate[(k + 1) % 3] = (float)(0.5 + (k % 7) / 16.0);
    gate[(k + 2) % 3] = (float)(-0.25 - (k % 5) / 16.0);
}

static void check_adapters(const char *name)
{
    sora_error error;
    const json_t *model = at_path(expected, "models", name), *adapters = json_object_get(model, "adapters"),
                 *modules = json_object_get(adapters, "modules");
    sora_t5 *t5 = load(name);
    char text[192];
    OK(sora_adapt(t5->layers, ".*\\.(q|k|v|o|wi|wi_0|wi_1|wo)", &(sora_adapter_options) { .rank = 3, .alpha = 6.0f }, NULL,
                  &error));
    assert_int_equal(json_array_size(modules), sora_layers_count(t5->layers));
    for (size_t k = 0; k < json_array_size(modules); k++) set_adapter(t5->layers, json_array_get(modules, k), (int)k);
    run r;
    start(&r, t5, model, true, 0.0f);
    check_loss(&r, json_number_value(json_object_get(adapters, "loss")));
    check_logits(&r, json_object_get(adapters, "logits"));
    OK(sora_params_zero_gradients(t5->params, &error));
    OK(sora_graph_backward(r.graph.graph, &error));
    for (size_t k = 0; k < json_array_size(modules); k++) {
        const json_t *module = json_array_get(modules, k), *gates = json_object_get(module, "gate_gradient");
        const char *layer = json_string_value(json_object_get(module, "name"));
        float got[3];
        double norm = 1e-12;
        snprintf(text, sizeof text, "%s.down", layer);
        check_gradient(text, sora_params_find(t5->params, text), json_object_get(module, "down"));
        snprintf(text, sizeof text, "%s.up", layer);
        check_gradient(text, sora_params_find(t5->params, text), json_object_get(module, "up"));
        snprintf(text, sizeof text, "%s.gate", layer);
        OK(sora_param_read(sora_params_find(t5->params, text), 3, got, &error));
        for (size_t i = 0; i < 3; i++) norm = fmax(norm, fabs(number(gates, i)));
        for (size_t i = 0; i < 3; i++) check_near(text, (double)got[i], number(gates, i), norm, 1e-4);
    }
    end(&r);
    sora_t5_destroy(&t5);
}

static void test_adapters_relu(void **state)
{
    (void)state;
    check_adapters("relu");
}

static void test_adapters_gated(void **state)
{
    (void)state;
    check_adapters("gated");
}

/* Folders that PEFT saved: other ranks and scales for some modules, some of q, k, v without an adapter, rank-stabilised scales,
 * fp16. */
static void test_peft(void **state)
{
    (void)state;
    sora_error error;
    const char *name;
    json_t *want;
    json_object_foreach(json_object_get(expected, "peft"), name, want)
    {
        const char *model = json_string_value(json_object_get(want, "model"));
        sora_t5 *t5 = load(model);
        char path[512];
        run r;
        snprintf(path, sizeof path, REFERENCE "/%s", name);
        OK(sora_peft_import(t5->layers, path, &error));
        start(&r, t5, at_path(expected, "models", model), true, 0.0f);
        check_loss(&r, json_number_value(json_object_get(want, "loss")));
        check_logits(&r, json_object_get(want, "logits"));
        end(&r);
        sora_t5_destroy(&t5);
    }
}

/* ---- Generation -------------------------------------------------------------------------------------------------- */

static sora_t5_generation generation_of(const json_t *settings)
{
    sora_t5_generation g;
    sora_t5_generation_default(&g);
    const json_t *early = json_object_get(settings, "early_stopping"), *penalty = json_object_get(settings, "length_penalty");
    g.beams = (int)json_integer_value(json_object_get(settings, "num_beams"));
    g.max_length = (int)json_integer_value(json_object_get(settings, "max_length"));
    g.min_length = (int)json_integer_value(json_object_get(settings, "min_length"));
    g.no_repeat_ngram = (int)json_integer_value(json_object_get(settings, "no_repeat_ngram_size"));
    if (penalty) g.length_penalty = json_number_value(penalty);
    g.early_stopping = json_is_true(early) ? SORA_STOP_EARLY : SORA_STOP_HEURISTIC;
    return g;
}

/* Token for token; where they differ the reference must have had two decisions within 1e-4 of each other. */
static void check_outputs(const char *what, const sora_t5_output *got, const json_t *want, const json_t *sources)
{
    const json_t *ids = json_object_get(want, "ids"), *gaps = json_object_get(want, "gaps"),
                 *scores = json_object_get(want, "scores");
    int ended = 0;
    for (size_t i = 0; i < json_array_size(sources); i++) {
        const json_t *list = json_array_get(ids, i);
        bool same = (size_t)got[i].count == json_array_size(list);
        for (int t = 0; same && t < got[i].count; t++) same = got[i].ids[t] == (int32_t)number(list, (size_t)t);
        if (!same && number(gaps, i) >= 1e-4)
            fail_msg("%s: output %zu differs, and the closest decision was %g away", what, i, number(gaps, i));
        if (!same) print_message("%s: output %zu differs; a decision was %g away\n", what, i, number(gaps, i));
        if (same && scores) check_near("score", got[i].score, number(scores, i), 1, 1e-4);
        ended += got[i].count > 0 && got[i].ids[got[i].count - 1] == 1;
    }
    assert_true(2 * ended >= (int)json_array_size(sources));
}

static void check_generation(const char *name)
{
    sora_error error;
    const json_t *model = at_path(expected, "models", name), *sources = json_object_get(model, "sources"), *settings;
    const char *setting;
    size_t count = json_array_size(sources);
    int32_t **ids = calloc(count, sizeof *ids);
    int *lengths = calloc(count, sizeof *lengths), longest = 0;
    sora_t5_output *out = calloc(count, sizeof *out);
    sora_t5 *t5 = load(name);
    for (size_t i = 0; i < count; i++) {
        const json_t *list = json_array_get(sources, i);
        lengths[i] = (int)json_array_size(list);
        longest = SORA_MAX(longest, lengths[i]);
        ids[i] = calloc((size_t)lengths[i], sizeof **ids);
        for (int t = 0; t < lengths[i]; t++) ids[i][t] = (int32_t)number(list, (size_t)t);
    }
    OK(sora_params_upload(t5->params, 0, &error));
    json_object_foreach(json_object_get(expected, "generation"), setting, settings)
    {
        sora_t5_generation options = generation_of(settings);
        sora_t5_generator *generator;
        OK(sora_t5_generator_create(t5,
                                    &(sora_t5_generator_options) {
                                        .batch = 7, .source = longest, .beams = options.beams, .max_length = options.max_length },
                                    &generator, &error));
        OK(sora_t5_generate(generator, (const int32_t *const *)ids, lengths, (int)count, NULL, &options, NULL, out, &error));
        check_outputs(setting, out,
                      at_path(json_object_get(model, "outputs"), setting, "ids")
                          ? json_object_get(json_object_get(model, "outputs"), setting)
                          : NULL,
                      sources);
        for (size_t i = 0; i < count; i++) free(out[i].ids);
        sora_t5_generator_destroy(&generator);
    }
    OK(sora_params_download(t5->params, &error));
    for (size_t i = 0; i < count; i++) free(ids[i]);
    free(ids), free(lengths), free(out);
    sora_t5_destroy(&t5);
}

static void test_generation_relu(void **state)
{
    (void)state;
    check_generation("relu");
}

static void test_generation_gated(void **state)
{
    (void)state;
    check_generation("gated");
}

/* A decoder that goes step by step gives what the whole one gives, adapters active or merged, for sources of every bucket. */
static void test_active_and_merged(void **state)
{
    (void)state;
    sora_error error;
    const json_t *sources = at_path(json_object_get(expected, "models"), "gated", "sources");
    sora_t5_generation options;
    sora_t5_output out[2][16];
    sora_t5 *t5 = load("gated");
    int32_t ids[16][64];
    const int32_t *list[16];
    int lengths[16];
    for (size_t i = 0; i < 16; i++) {
        const json_t *source = json_array_get(sources, i);
        lengths[i] = (int)json_array_size(source);
        list[i] = ids[i];
        for (int t = 0; t < lengths[i]; t++) ids[i][t] = (int32_t)number(source, (size_t)t);
    }
    OK(sora_adapt(t5->layers, ".*\\.(q|v|wi_1|wo)", &(sora_adapter_options) { .rank = 2 }, NULL, &error));
    for (size_t i = 0; i < t5->layers->count; i++) {
        sora_layer *layer = t5->layers->items[i];
        for (int j = 0; layer->active && j < 2 * layer->desc.out; j++)
            sora_param_host(layer->up)[j] = (float)((j * 37 + (int)i) % 11 - 5) * 0.01f;
    }
    sora_t5_generation_default(&options);
    options.max_length = 20;
    for (int merged = 0; merged < 2; merged++) {
        sora_t5_generator *generator;
        for (size_t i = 0; merged && i < t5->layers->count; i++)
            if (t5->layers->items[i]->active) OK(sora_layer_deactivate(t5->layers->items[i], NULL, &error));
        for (size_t i = 0; merged && i < t5->layers->count; i++)
            if (t5->layers->items[i]->merged) assert_true(sora_param_asked(t5->layers->items[i]->weight));
        OK(sora_params_upload(t5->params, 0, &error));
        OK(sora_t5_generator_create(t5, &(sora_t5_generator_options) { .batch = 5, .source = 64, .beams = 1, .max_length = 20 },
                                    &generator, &error));
        OK(sora_t5_generate(generator, list, lengths, 16, NULL, &options, NULL, out[merged], &error));
        sora_t5_generator_destroy(&generator);
        OK(sora_params_download(t5->params, &error));
    }
    for (int i = 0; i < 16; i++) {
        assert_int_equal(out[0][i].count, out[1][i].count);
        assert_memory_equal(out[0][i].ids, out[1][i].ids, (size_t)out[0][i].count * sizeof(int32_t));
        free(out[0][i].ids), free(out[1][i].ids);
    }
    sora_t5_destroy(&t5);
}

/* What no tensor can hold is refused before anything is made: keys and values of all positions, tokens of all rows. */
static void test_generation_too_large(void **state)
{
    (void)state;
    sora_error error;
    static const sora_t5_generator_options large[] = {
        { .batch = 4096, .source = 8, .beams = 64, .max_length = 4096 },
        { .batch = 1, .source = 8, .beams = 1, .max_length = INT32_MAX },
        { .batch = 1 << 20, .source = 8, .beams = 1 << 20, .max_length = 2 },
    };
    sora_t5 *t5 = load("relu");
    for (size_t i = 0; i < SORA_COUNT(large); i++) {
        sora_t5_generator *generator;
        char asked[64];
        snprintf(asked, sizeof asked, "batch %d, %d beams, length %d: more", large[i].batch, large[i].beams, large[i].max_length);
        FAILS(sora_t5_generator_create(t5, &large[i], &generator, &error), SORA_ERROR_MEMORY, asked);
        assert_null(generator);
    }
    /* A bucket's share of the longest source has more bits than an int. */
    sora_t5_generator *generator;
    FAILS(sora_t5_generator_create(t5,
                                   &(sora_t5_generator_options) { .batch = 1, .source = INT32_MAX, .beams = 1, .max_length = 2 },
                                   &generator, &error),
          SORA_ERROR_MEMORY, "1x2147483647x");
    sora_t5_destroy(&t5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_relu),         cmocka_unit_test(test_forward_gated),
        cmocka_unit_test(test_forward_sharded),      cmocka_unit_test(test_full_relu),
        cmocka_unit_test(test_full_gated),           cmocka_unit_test(test_adapters_relu),
        cmocka_unit_test(test_adapters_gated),       cmocka_unit_test(test_peft),
        cmocka_unit_test(test_generation_relu),      cmocka_unit_test(test_generation_gated),
        cmocka_unit_test(test_active_and_merged),    cmocka_unit_test(test_weights_are_private),
        cmocka_unit_test(test_generation_too_large),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
