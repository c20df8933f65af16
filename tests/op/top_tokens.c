/* SPDX-License-Identifier: Apache-2.0 */
/* The likeliest tokens against a sort, with ties, forbidden tokens, infinities, and fewer tokens than are wanted. */
#include "op/top_tokens.h"
#include "../gpu.h"
#include "../test.h"
#include "base/random.h"

#include <math.h>

enum { ROWS = 3, ROOM = 6 };

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

static bool is_forbidden(const int32_t *forbidden, int id)
{
    for (int i = 0; i < forbidden[0]; i++)
        if (forbidden[1 + i] == id) return true;
    return false;
}

/* The next by falling logit, then rising id, behind (value, id). */
static int next_of(const float *row, int n, const int32_t *forbidden, float value, int id)
{
    int best = -1;
    for (int i = 0; i < n; i++) {
        bool behind = row[i] < value || (row[i] == value && i > id);
        if (isinf(row[i]) || !behind || is_forbidden(forbidden, i)) continue;
        if (best < 0 || row[i] > row[best]) best = i;
    }
    return best;
}

static void check_row(const float *row, int n, int count, const int32_t *forbidden, const float *record)
{
    float most = -INFINITY, value = INFINITY;
    double sum = 0;
    const int32_t *ids = (const int32_t *)(record + 2 + count);
    int id = -1;
    for (int i = 0; i < n; i++) most = fmaxf(most, row[i]);
    for (int i = 0; i < n; i++) sum += exp((double)row[i] - (double)most);
    assert_true(record[0] == most);
    double bound = (8 + (double)n / 64) * ldexp(1, -23) * sum; /* e^x is off by some ulp, and lanes of parts are long sums */
    if (!(fabs((double)record[1] - sum) <= bound)) fail_msg("%d logits: sum %.9g; expected %.9g", n, (double)record[1], sum);
    for (int i = 0; i < count; i++) {
        id = id < 0 && i > 0 ? -1 : next_of(row, n, forbidden, value, id);
        assert_int_equal(ids[i], id);
        value = id < 0 ? -INFINITY : row[id];
        assert_true(record[2 + i] == value);
    }
}

static void check(sora_context *context, int n, int count, bool forbids)
{
    sora_error error;
    sora_random_stream random = { .seed = 7, .purpose = SORA_PURPOSE_TEST, .stream = (uint32_t)n };
    int record = sora_top_tokens_record(count);
    int64_t workspace = (int64_t)sora_top_tokens_workspace(ROWS, n, count);
    float *logits = calloc((size_t)(ROWS * n), sizeof *logits), *out = calloc((size_t)(ROWS * record), sizeof *out);
    int32_t forbidden[ROWS][1 + ROOM] = { { 0 } };
    sora_buffer buffers[4] = { { 0 } };
    const int64_t elements[4] = { ROWS * n, ROWS * (1 + ROOM), workspace, ROWS * record };
    sora_view views[4];
    for (int i = 0; i < ROWS * n; i++) logits[i] = floorf((float)(sora_random_uniform(&random) * 4.0 * n)) / 8.0f - 20.0f;
    for (int i = 0; i < n; i += 5) logits[i] = -INFINITY;
    for (int i = 0; i < 4; i++) {
        OK(sora_buffer_create(context, (uint64_t)elements[i] * 4, "test", &buffers[i], &error));
        views[i] = sora_view_dense(&buffers[i], 0, SORA_SHAPE(elements[i]));
    }
    OK(sora_view_write(context, &views[0], logits, &error));
    for (int r = 0; forbids && r < ROWS; r++) {
        int id = -1;
        float value = INFINITY;
        const int32_t none = 0;
        for (int i = 0; i < 2 * r + 1; i++) { /* the best ones, every second of them, and one twice */
            id = next_of(logits + r * n, n, &none, value, id);
            if (id < 0) break;
            value = logits[r * n + id];
            if (i % 2 == 0) forbidden[r][1 + forbidden[r][0]++] = id;
        }
        forbidden[r][1 + forbidden[r][0]] = forbidden[r][1];
        forbidden[r][0]++;
    }
    OK(sora_view_write(context, &views[1], forbidden, &error));
    OK(sora_top_tokens(context,
                       &(sora_top_tokens_desc) { .rows = ROWS,
                                                 .vocabulary = n,
                                                 .count = count,
                                                 .logits = views[0],
                                                 .forbidden = forbids ? views[1] : (sora_view) { 0 },
                                                 .room = ROOM,
                                                 .workspace = views[2],
                                                 .out = views[3] },
                       &error));
    OK(sora_view_read(context, &views[3], out, &error));
    for (int r = 0; r < ROWS; r++) check_row(logits + r * n, n, count, forbidden[r], out + r * record);
    for (int i = 0; i < 4; i++) sora_buffer_destroy(&buffers[i]);
    free(logits);
    free(out);
}

static void test_sizes(void **state)
{
    const int sizes[] = { 2, 7, 64, 4099, 32128 }, counts[] = { 1, 8, 128 };
    (void)state;
    for (int c = 0; c < 2; c++)
        for (int s = 0; s < 5; s++)
            for (int k = 0; k < 3; k++)
                for (int forbids = 0; forbids < 2; forbids++) check(contexts[c], sizes[s], counts[k], forbids);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_sizes) };
    return cmocka_run_group_tests(tests, open_contexts, close_contexts);
}
