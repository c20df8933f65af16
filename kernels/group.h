/* SPDX-License-Identifier: Apache-2.0 */
/* A row, or a part of a sum, is one work-item's on a CPU. On a GPU it is a work-group's, whose items take neighbours in turn and add up what they have, always the
 * same two at a time: items with a row each would read far from each other, and there are too few of them. sora_launch_groups in src/op/range.h launches both. Kernels
 * say GROUP_MEMORY first, and all items of a group meet in each total. Needs sum.h. */
#ifdef SORA_CPU
#define GROUP_ITEMS 1
#define GROUP_ITEM 0
#define GROUP_MEMORY
#define TOTAL_OF_GROUP(v) (v)
#define MAXIMUM_OF_GROUP(v) (v)
#define GROUP_SUM(result, first, last, i, expression) SUM_PART(result, first, last, i, expression)
#else
#define GROUP_ITEMS 64
#define GROUP_ITEM ((int)get_local_id(0))
#define GROUP_MEMORY __local float group_numbers[GROUP_ITEMS]
#define TOTAL_OF_GROUP(v) total_of_group(v, group_numbers)
#define MAXIMUM_OF_GROUP(v) maximum_of_group(v, group_numbers)
#define GROUP_SUM(result, first, last, i, expression)                                                  \
    do {                                                                                               \
        float group_sum = 0.0f;                                                                        \
        for (long i = (first) + GROUP_ITEM; i < (last); i += GROUP_ITEMS) group_sum += (expression);   \
        result = TOTAL_OF_GROUP(group_sum);                                                            \
    } while (0)

/* The last barrier is before what comes next in this memory. */
#define JOIN_GROUP(name, JOIN_TWO)                                               \
    static inline float name(float v, __local float *numbers)                    \
    {                                                                            \
        int item = GROUP_ITEM;                                                   \
        numbers[item] = v;                                                       \
        for (int other = GROUP_ITEMS / 2; other > 0; other /= 2) {               \
            barrier(CLK_LOCAL_MEM_FENCE);                                        \
            if (item < other) numbers[item] = JOIN_TWO(numbers[item], numbers[item + other]); \
        }                                                                        \
        barrier(CLK_LOCAL_MEM_FENCE);                                            \
        v = numbers[0];                                                          \
        barrier(CLK_LOCAL_MEM_FENCE);                                            \
        return v;                                                                \
    }
#define SUM_OF_TWO(a, b) ((a) + (b))
JOIN_GROUP(total_of_group, SUM_OF_TWO)
JOIN_GROUP(maximum_of_group, fmax)
#endif
#define GROUP_ID ((long)get_global_id(0) / GROUP_ITEMS)
#define IN_GROUP(i, n) for (int i = GROUP_ITEM; i < (n); i += GROUP_ITEMS)
