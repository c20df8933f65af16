/* SPDX-License-Identifier: Apache-2.0 */
/* One query a row against stored keys, in double precision: rows with a past of their own, and rows that share one. */
#include "op/attention_step.h"
#include "../gpu.h"
#include "../test.h"
#include "base/random.h"

#include <math.h>

enum { ROWS = 10, HEADS = 3, SAMPLES = 4, KEYS = 37 };
enum { Q, K, V, LINE, OUT, FLOATS };

static sora_context *contexts[2]; /* as the device is, and with a GPU's limits */

static int open_contexts(void **state)
{
    (void)state;
    return open_with_gpu(contexts);
}

static int close_contexts(void **state)
{
    (void)state;
    return close_with_gpu(contexts);
}

typedef struct stored {
    float *host[FLOATS];
    int32_t owner[ROWS * KEYS], lengths[SAMPLES];
    int size, together;
} stored;

/* Of one head of a row; shared: all keys are those of owner[row], as many as its length, without a bias. */
static void check_head(const stored *s, bool shared, int row, int head)
{
    int first = shared ? s->owner[row / s->together * s->together] : 0, count = shared ? s->lengths[first] : KEYS;
    double weight[KEYS], most = -INFINITY, sum = 0;
    for (int j = 0; j < count; j++) {
        int sample = shared ? first : s->owner[row * KEYS + j];
        weight[j] = shared ? 0 : (double)s->host[LINE][head * KEYS + j];
        for (int d = 0; d < s->size; d++)
            weight[j] += (double)s->host[Q][(row * HEADS + head) * s->size + d] *
                         (double)s->host[K][((sample * KEYS + j) * HEADS + head) * s->size + d];
        most = fmax(most, weight[j]);
    }
    for (int j = 0; j < count; j++) sum += weight[j] = exp(weight[j] - most);
    for (int d = 0; d < s->size; d++) {
        double want = 0, got = (double)s->host[OUT][(row * HEADS + head) * s->size + d];
        for (int j = 0; j < count; j++) {
            int sample = shared ? first : s->owner[row * KEYS + j];
            want += weight[j] / sum * (double)s->host[V][((sample * KEYS + j) * HEADS + head) * s->size + d];
        }
        if (!(fabs(got - want) <= 1e-5)) /* of values below 1, scores up to the head's size */
            fail_msg("size %d, %s, row %d, head %d, %d: %.9g; expected %.9g", s->size, shared ? "shared" : "own", row, head, d,
                     got, want);
    }
}

static void check(sora_context *context, int size, bool shared, int together)
{
    sora_error error;
    sora_random_stream random = { .seed = 5, .purpose = SORA_PURPOSE_TEST, .stream = (uint32_t)size };
    static stored s;
    const int64_t inner = (int64_t)HEADS * size,
                  elements[FLOATS] = { ROWS * inner, SAMPLES * KEYS * inner, SAMPLES * KEYS * inner, HEADS * KEYS, ROWS * inner };
    sora_buffer buffers[FLOATS + 2] = { { 0 } };
    sora_view views[FLOATS + 2];
    s.size = size;
    s.together = together;
    for (int i = 0; i < FLOATS + 2; i++) {
        int64_t n = i < FLOATS ? elements[i] : i == FLOATS ? ROWS * KEYS : SAMPLES;
        OK(sora_buffer_create(context, (uint64_t)n * 4, "test", &buffers[i], &error));
        views[i] = sora_view_dense(&buffers[i], 0, SORA_SHAPE(n));
        if (i >= FLOATS) continue;
        s.host[i] = calloc((size_t)n, sizeof(float));
        for (int64_t j = 0; i < OUT && j < n; j++) s.host[i][j] = (float)(2 * sora_random_uniform(&random) - 1);
        OK(sora_view_write(context, &views[i], s.host[i], &error));
    }
    for (int i = 0; i < ROWS * KEYS; i++) s.owner[i] = (int32_t)(sora_random_uniform(&random) * SAMPLES);
    for (int i = 0; i < SAMPLES; i++)
        s.lengths[i] = i == 0 ? 1 : i == 1 ? KEYS : 2 + (int32_t)(sora_random_uniform(&random) * 30);
    OK(sora_view_write(context, &views[FLOATS], s.owner, &error));
    OK(sora_view_write(context, &views[FLOATS + 1], s.lengths, &error));
    views[Q].stride = inner;
    OK(sora_attention_step(context,
                           &(sora_attention_step_desc) { .rows = ROWS,
                                                         .heads = HEADS,
                                                         .size = size,
                                                         .keys = KEYS,
                                                         .together = together,
                                                         .q = views[Q],
                                                         .k = views[K],
                                                         .v = views[V],
                                                         .key_stride = inner,
                                                         .sample_stride = KEYS * inner,
                                                         .owner = views[FLOATS],
                                                         .owner_row = shared ? 1 : KEYS,
                                                         .owner_key = !shared,
                                                         .lengths = shared ? views[FLOATS + 1] : (sora_view) { 0 },
                                                         .line = shared ? (sora_view) { 0 } : views[LINE],
                                                         .line_stride = KEYS,
                                                         .out = views[OUT],
                                                         .label = "test" },
                           &error));
    OK(sora_view_read(context, &views[OUT], s.host[OUT], &error));
    for (int row = 0; row < ROWS; row++)
        for (int head = 0; head < HEADS; head++) check_head(&s, shared, row, head);
    for (int i = 0; i < FLOATS + 2; i++) sora_buffer_destroy(&buffers[i]);
    for (int i = 0; i < FLOATS; i++) free(s.host[i]);
}

static void test_rows(void **state)
{
    const int sizes[] = { 8, 20, 64 };
    (void)state;
    for (int c = 0; c < 2; c++)
        for (int i = 0; i < 3; i++) {
            check(contexts[c], sizes[i], false, 0);
            check(contexts[c], sizes[i], true, 1);
            check(contexts[c], sizes[i], true, 2);
            check(contexts[c], sizes[i], true, 5); /* more than are read at once, and not a multiple */
        }
}

static void test_refused(void **state)
{
    sora_error error;
    (void)state;
    FAILS(sora_attention_step(
              contexts[0],
              &(sora_attention_step_desc) { .rows = 5, .heads = 1, .size = 8, .keys = 1, .together = 2, .label = "beams" },
              &error),
          SORA_ERROR_ARGUMENT, "beams: 5 rows in runs of 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows), cmocka_unit_test(test_refused) };
    return cmocka_run_group_tests(tests, open_contexts, close_contexts);
}
