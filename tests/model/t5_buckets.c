/* SPDX-License-Identifier: Apache-2.0 */
/* The buckets of relative positions as T5's own code gives them. */
#include "../fixture.h"
#include "base/memory.h"
#include "soracl/graph.h"

#include <jansson.h>

static json_t *expected;

/* A table whose entries are their own bucket's number, through the op. */
static void check_buckets(const json_t *wanted, int first, int last, bool bidirectional)
{
    sora_error error;
    sora_params *params;
    sora_param *table;
    sora_graph *graph;
    int queries = 1 - first, keys = last + 1, count = last - first + 1;
    float *line = calloc((size_t)count, sizeof *line);
    OK(sora_params_create(context, &params, &error));
    OK(sora_params_add(params, "table", SORA_PARAM_WEIGHT, SORA_SHAPE(32, 1), &table, &error));
    for (int i = 0; i < 32; i++) sora_param_host(table)[i] = (float)i;
    OK(sora_graph_create(params, &(sora_graph_options) { .batch = 1 }, &graph, &error));
    sora_tensor *out = sora_relative_bias(
        graph, "line", sora_graph_param(graph, table),
        &(sora_relative_bias_options) { .queries = queries, .keys = keys, .farthest = 128, .bidirectional = bidirectional });
    sora_graph_output(graph, out);
    OK(sora_graph_plan(graph, NULL, &error));
    OK(sora_params_upload(params, SORA_MOMENTS_NONE, &error));
    OK(sora_graph_forward(graph, 1, 0, 0, &error));
    OK(sora_graph_read(graph, out, line, &error));
    assert_int_equal(json_array_size(wanted), count);
    for (int i = 0; i < count; i++)
        if ((json_int_t)line[i] != json_integer_value(json_array_get(wanted, (size_t)i)))
            fail_msg("key − query = %d is in bucket %g, expected %d", first + i, (double)line[i],
                     (int)json_integer_value(json_array_get(wanted, (size_t)i)));
    sora_graph_destroy(&graph);
    OK(sora_params_download(params, &error));
    sora_params_destroy(&params);
    free(line);
}

static void check_direction(const char *name, bool bidirectional)
{
    int first = (int)json_integer_value(json_object_get(expected, "rel_min")),
        last = (int)json_integer_value(json_object_get(expected, "rel_max"));
    check_buckets(json_object_get(expected, name), first, last, bidirectional);
}

static void test_bidirectional(void **state)
{
    (void)state;
    check_direction("bidirectional", true);
}

static void test_unidirectional(void **state)
{
    (void)state;
    check_direction("unidirectional", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_bidirectional), cmocka_unit_test(test_unidirectional) };
    char path[1024];
    const char *data = getenv("SORACL_TEST_DATA");
    snprintf(path, sizeof path, "%s/t5/relative_position_buckets.json", data ? data : "");
    expected = json_load_file(path, 0, NULL);
    if (!expected) {
        puts("1..0 # SKIP no t5/relative_position_buckets.json in the folder SORACL_TEST_DATA");
        return 0;
    }
    int failed = cmocka_run_group_tests(tests, open_context, close_context);
    json_decref(expected);
    return failed;
}
