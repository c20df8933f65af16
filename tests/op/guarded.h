/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TESTS_OP_GUARDED_H
#define SORA_TESTS_OP_GUARDED_H

#include "../gpu.h"
#include "../test.h"
#include "base/random.h"
#include "op/update.h"

#include <math.h>

/* Operands of what is no op of a graph, each with NaN around: what reads past one shows in the result, what writes past one in
 * what is around. */
enum { GUARD = 64, MOST_OPERANDS = 10 };

typedef struct fixture {
    sora_context *contexts[2]; /* as the device is, and with a GPU's limits */
    sora_buffer buffers[MOST_OPERANDS];
    float *host[MOST_OPERANDS]; /* what was drawn, guards included */
} fixture;

static inline int open_fixture(void **state)
{
    static fixture f;
    *state = &f;
    return open_with_gpu(f.contexts);
}

static inline int close_fixture(void **state)
{
    fixture *f = *state;
    return close_with_gpu(f->contexts);
}

/* The one of that number, of uniform random numbers in −1..1. */
static inline sora_view operand(fixture *f, sora_context *context, int which, sora_shape shape)
{
    sora_error error;
    sora_random_stream random = { .seed = 4, .purpose = SORA_PURPOSE_TEST, .stream = (uint32_t)which };
    int64_t elements = sora_shape_elements(&shape), all = elements + 2 * GUARD;
    float *host = f->host[which] = malloc((size_t)all * sizeof *host);
    assert_non_null(host);
    for (int64_t i = 0; i < all; i++)
        host[i] = i < GUARD || i >= GUARD + elements ? NAN : (float)(2 * sora_random_uniform(&random) - 1);
    OK(sora_buffer_create(context, (uint64_t)all * sizeof *host, "test", &f->buffers[which], &error));
    sora_view view = sora_view_dense(&f->buffers[which], 0, SORA_SHAPE(all));
    OK(sora_view_write(context, &view, host, &error));
    return sora_view_dense(&f->buffers[which], GUARD, shape);
}

/* What stands there now, guards included; the caller frees it. */
static inline float *read_operand(fixture *f, sora_context *context, int which, int64_t elements)
{
    sora_error error;
    sora_view view = sora_view_dense(&f->buffers[which], 0, SORA_SHAPE(elements + 2 * GUARD));
    float *got = malloc((size_t)(elements + 2 * GUARD) * sizeof *got);
    assert_non_null(got);
    OK(sora_view_read(context, &view, got, &error));
    return got;
}

/* Of what was read all but what was compared, and put back since, is as it was drawn. Frees it. */
static inline void check_rest(const fixture *f, int which, float *got, int64_t elements)
{
    assert_memory_equal(got, f->host[which], (size_t)(elements + 2 * GUARD) * sizeof *got);
    free(got);
}

/* leftᵀ right [rank, columns] over m rows, in `count` parts of `size` elements each, of which it stands at `at`: adds up what was
 * read, and gives its place back what it held. `most` is the largest product of two numbers. */
static inline void check_row_sums(const fixture *f, int which, float *got, int64_t count, int64_t size, int64_t at, int64_t m,
                                  const float *left, int64_t left_row, int64_t rank, const float *right, int64_t right_row,
                                  int64_t columns, double most)
{
    for (int64_t r = 0; r < rank; r++)
        for (int64_t j = 0; j < columns; j++) {
            double expected = 0, sum = 0;
            for (int64_t i = 0; i < m; i++) expected += (double)left[i * left_row + r] * right[i * right_row + j];
            for (int64_t p = 0; p < count; p++) {
                int64_t place = GUARD + p * size + at + r * columns + j;
                sum += got[place];
                got[place] = f->host[which][place];
            }
            if (!(fabs(sum - expected) <= most * (double)(m + 8) * ldexp(1, -23)))
                fail_msg("sum %lld, %lld of %lld rows: %.9g; expected %.9g", (long long)r, (long long)j, (long long)m, sum,
                         expected);
        }
}

static inline void destroy_operands(fixture *f)
{
    for (int i = 0; i < MOST_OPERANDS; i++) {
        sora_buffer_destroy(&f->buffers[i]);
        free(f->host[i]);
        f->host[i] = NULL;
    }
}

#endif
