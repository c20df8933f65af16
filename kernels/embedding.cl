/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

/* An id that is no row of the table gives NaN: what can't be looked up must not pass for a value, nor be read from elsewhere. */
__kernel void embedding_forward(__global const int *restrict ids, ulong ids_at, __global const float *restrict table, ulong table_at, __global float *restrict y,
                                ulong y_at, int rows, long width, int halves)
{
    long token = (long)get_global_id(1);
    int id = ids[ids_at + token];
    EACH(i, width) y[y_at + token * width + i] = id >= 0 && id < rows ? element_of(table, table_at + (long)id * width + i, halves) : NAN;
}

/* A work-item has some columns of the table and goes through the tokens in order: rows that meet the same id are added one after the
 * other, whatever the device. */
__kernel void embedding_backward(__global const int *restrict ids, ulong ids_at, __global const float *restrict dy, ulong dy_at, __global float *restrict gradient,
                                 ulong gradient_at, int rows, long width, int tokens, int columns)
{
    long first = (long)get_global_id(0) * columns, last = min(width, first + columns);
    for (int t = 0; t < tokens; t++) {
        int id = ids[ids_at + t];
        if (id < 0 || id >= rows) continue;
        for (long i = first; i < last; i++) gradient[gradient_at + (long)id * width + i] += dy[dy_at + (long)t * width + i];
    }
}
