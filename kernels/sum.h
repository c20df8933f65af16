/* SPDX-License-Identifier: Apache-2.0 */
/* Part p of P of the elements 0 .. n-1: [PART_FIRST, PART_LAST). Fixed by n and P alone, so sums have one order on every device. */
#define PART_RUN(n, parts) (((n) + (parts) - 1) / (parts))
#define PART_FIRST(n, parts, p) min((long)(n), (long)(p) * PART_RUN(n, parts))
#define PART_LAST(n, parts, p) min((long)(n), ((long)(p) + 1) * PART_RUN(n, parts))

/* Sixteen running sums and a tree at the end: less rounding than one sum, and vectors on a CPU, where they are unrolled: in a loop compilers add them one by one,
 * each through memory. */
#define LANES 16

static inline float add_lanes(const float *s)
{
    float a = (s[0] + s[1]) + (s[2] + s[3]), b = (s[4] + s[5]) + (s[6] + s[7]);
    float c = (s[8] + s[9]) + (s[10] + s[11]), d = (s[12] + s[13]) + (s[14] + s[15]);
    return (a + b) + (c + d);
}

/* What is done with term i and lane l of the last ones, fewer than lanes. On a GPU lanes are registers only where each is known by its number. */
#ifdef SORA_CPU
#define REST_OF_LANES(first, last, i, l, body)       \
    for (long i = (first); i < (last); i++) {        \
        long l = i - (first);                        \
        body                                         \
    }
#else
#define REST_OF_LANES(first, last, i, l, body)       \
    _Pragma("unroll") for (int l = 0; l < LANES; l++) \
    {                                                \
        long i = (first) + l;                        \
        if (i < (last)) {                            \
            body                                     \
        }                                            \
    }
#endif

/* SUM_PART(result, first, last, i, expression of i) */
#define SUM_PART(result, first, last, i, expression)                                                                             \
    do {                                                                                                                         \
        float sum_lanes[LANES] = { 0 };                                                                                          \
        long sum_at = (first), sum_last = (last);                                                                                \
        for (; sum_at + LANES <= sum_last; sum_at += LANES)                                                                      \
            _Pragma("unroll") for (int sum_l = 0; sum_l < LANES; sum_l++)                                                        \
            {                                                                                                                    \
                long i = sum_at + sum_l;                                                                                         \
                sum_lanes[sum_l] += (expression);                                                                                \
            }                                                                                                                    \
        REST_OF_LANES(sum_at, sum_last, i, sum_l, sum_lanes[sum_l] += (expression);)                                             \
        result = add_lanes(sum_lanes);                                                                                           \
    } while (0)

/* Two sums in one pass; `value` is what both expressions may use. */
#define SUM_PAIR(first_result, second_result, first, last, i, value, first_expression, second_expression)                        \
    do {                                                                                                                         \
        float sum_one[LANES] = { 0 }, sum_two[LANES] = { 0 };                                                                    \
        long sum_at = (first), sum_last = (last);                                                                                \
        for (; sum_at + LANES <= sum_last; sum_at += LANES)                                                                      \
            _Pragma("unroll") for (int sum_l = 0; sum_l < LANES; sum_l++)                                                        \
            {                                                                                                                    \
                long i = sum_at + sum_l;                                                                                         \
                float value;                                                                                                     \
                sum_one[sum_l] += (first_expression);                                                                            \
                sum_two[sum_l] += (second_expression);                                                                           \
            }                                                                                                                    \
        REST_OF_LANES(sum_at, sum_last, i, sum_l, float value; sum_one[sum_l] += (first_expression);                             \
                      sum_two[sum_l] += (second_expression);)                                                                    \
        first_result = add_lanes(sum_one);                                                                                       \
        second_result = add_lanes(sum_two);                                                                                      \
    } while (0)
