/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"
#include "sum.h"

/* Shazeer & Stern, arXiv 1804.04235, algorithms 4 and 5, without first moment and relative steps. For each matrix G [rows, columns] of
 * a parameter:
 *   R = keep R + rest (mean over columns of G^2 + epsilon), C likewise over rows
 *   U_ij = G_ij / sqrt(R_i C_j / mean(R));  of a vector U_i = G_i / sqrt(R_i): it is a matrix of one column that is not factored
 *   W = decay W - lr U / max(1, rms(U) / limit), rms over the whole parameter
 * All parameters of a group go through each pass in one launch: runs are whole rows, about RUN elements; tiles are CHUNK rows of BLOCK
 * columns, whose sums are added in order. What belongs to whom says the table, in order of the parameters. */
#define BLOCK 16
#define CHUNK 256

/* As sora_adafactor_entry in src/op/adafactor.c. */
typedef struct entry {
    long at, first_at, second_at; /* of values and gradients; of R; of C */
    long matrices, rows, columns, factored;
    long run_rows, runs, run_at;
    long blocks, chunks, tile_at;
    long partial_at, column_at; /* where there is more than one chunk */
    long has_means, mean_at;    /* where taking the mean of R again for each run would be long */
} entry;

#define TABLE __global const entry *restrict table, ulong table_at, long count

static inline float square_of(float x)
{
    return x * x;
}

/* The last entry whose first unit is not above `unit`; `starts` is that field of the first entry. */
static inline long find(__global const long *starts, long count, long unit)
{
    long low = 0, high = count;
    while (high - low > 1) {
        long middle = (low + high) / 2;
        if (starts[middle * (long)(sizeof(entry) / sizeof(long))] <= unit)
            low = middle;
        else
            high = middle;
    }
    return low;
}

__kernel void adafactor_rows(TABLE, __global const float *restrict gradient, ulong gradient_at, __global float *restrict first, ulong first_at,
                             __global const float *restrict control, ulong control_at, float keep, float rest, float epsilon, long runs)
{
    float factor = control[control_at];
    if (control[control_at + 1] == 0.0f) return;
    EACH(run, runs)
    {
        __global const entry *e = table + find(&table->run_at, count, run);
        __global const float *g = gradient + gradient_at + e->at;
        __global float *r = first + first_at + e->first_at;
        long n = e->columns, begin = (run - e->run_at) * e->run_rows, end = min(begin + e->run_rows, e->matrices * e->rows);
        for (long row = begin; row < end; row++) {
            float sum;
            SUM_PART(sum, row * n, row * n + n, j, square_of(g[j] * factor));
            r[row] = keep * r[row] + rest * (sum / (float)n + epsilon);
        }
    }
}

/* Sums of a tile's columns: for good where its matrix has no other chunk. */
__kernel void adafactor_tiles(TABLE, __global const float *restrict gradient, ulong gradient_at, __global float *restrict second, ulong second_at,
                              __global float *restrict partial, ulong partial_at, __global const float *restrict control, ulong control_at, float keep,
                              float rest, float epsilon, long tiles)
{
    float factor = control[control_at];
    if (control[control_at + 1] == 0.0f) return;
    EACH(tile, tiles)
    {
        __global const entry *e = table + find(&table->tile_at, count, tile);
        long t = tile - e->tile_at, column = t % e->blocks * BLOCK, chunk = t / e->blocks % e->chunks, matrix = t / e->blocks / e->chunks;
        long n = e->columns, width = min((long)BLOCK, n - column), end = min((chunk + 1) * CHUNK, e->rows);
        __global const float *g = gradient + gradient_at + e->at + matrix * e->rows * n + column;
        __global float *c = second + second_at + e->second_at + matrix * n + column;
        __global float *part = partial + partial_at + e->partial_at + (matrix * e->chunks + chunk) * n + column;
        float sums[BLOCK] = { 0 };
        for (long row = chunk * CHUNK; row < end; row++) {
            if (width == BLOCK) {
                for (int l = 0; l < BLOCK; l++) sums[l] += square_of(g[row * n + l] * factor);
            } else {
                for (int l = 0; l < width; l++) sums[l] += square_of(g[row * n + l] * factor);
            }
        }
        for (int l = 0; l < width; l++) {
            if (e->chunks > 1)
                part[l] = sums[l];
            else
                c[l] = keep * c[l] + rest * (sums[l] / (float)e->rows + epsilon);
        }
    }
}

__kernel void adafactor_columns(TABLE, __global float *restrict second, ulong second_at, __global const float *restrict partial, ulong partial_at,
                                __global const float *restrict control, ulong control_at, float keep, float rest, float epsilon, long columns)
{
    if (control[control_at + 1] == 0.0f) return;
    EACH(column, columns)
    {
        __global const entry *e = table + find(&table->column_at, count, column);
        long at = column - e->column_at, n = e->columns, matrix = at / n;
        __global const float *part = partial + partial_at + e->partial_at + matrix * e->chunks * n + at % n;
        __global float *c = second + second_at + e->second_at;
        float sum = 0.0f;
        for (long chunk = 0; chunk < e->chunks; chunk++) sum += part[chunk * n];
        c[at] = keep * c[at] + rest * (sum / (float)e->rows + epsilon);
    }
}

static inline float mean_of(__global const float *r, long rows)
{
    float sum;
    SUM_PART(sum, 0, rows, i, r[i]);
    return sum / (float)rows;
}

__kernel void adafactor_means(TABLE, __global const float *restrict first, ulong first_at, __global float *restrict mean, ulong mean_at, long means)
{
    EACH(i, means)
    {
        __global const entry *e = table + find(&table->mean_at, count, i);
        mean[mean_at + i] = mean_of(first + first_at + e->first_at + (i - e->mean_at) * e->rows, e->rows);
    }
}

/* 1 / sqrt(R_i / mean(R)) of a row; `mean` goes on from row to row of a matrix and is taken anew where `row` begins one or a run. */
static inline float row_factor(__global const entry *e, __global const float *r, __global const float *means, long row, bool begins, float *mean)
{
    if (!e->factored) return rsqrt(r[row]);
    if (begins || row % e->rows == 0) {
        long matrix = row / e->rows;
        *mean = e->has_means ? means[e->mean_at + matrix] : mean_of(r + matrix * e->rows, e->rows);
    }
    return rsqrt(r[row] / *mean);
}

/* Sums of a run's updates and values, squared: the values' stand behind the updates'. */
__kernel void adafactor_squares(TABLE, __global const float *restrict value, ulong value_at, __global const float *restrict gradient, ulong gradient_at, __global const float *restrict first, ulong first_at,
                                __global const float *restrict second, ulong second_at, __global const float *restrict means, ulong means_at,
                                __global float *restrict square, ulong square_at, __global const float *restrict control, ulong control_at, long runs)
{
    float factor = control[control_at];
    if (control[control_at + 1] == 0.0f) return;
    EACH(run, runs)
    {
        __global const entry *e = table + find(&table->run_at, count, run);
        __global const float *r = first + first_at + e->first_at;
        long n = e->columns, begin = (run - e->run_at) * e->run_rows, end = min(begin + e->run_rows, e->matrices * e->rows);
        float mean = 1.0f, total = 0.0f, values;
        __global const float *w = value + value_at + e->at;
        SUM_PART(values, begin * n, end * n, i, square_of(w[i]));
        for (long row = begin; row < end; row++) {
            __global const float *g = gradient + gradient_at + e->at + row * n;
            __global const float *c = second + second_at + e->second_at + row / e->rows * n;
            float f = row_factor(e, r, means + means_at, row, row == begin, &mean), sum;
            if (e->factored)
                SUM_PART(sum, 0, n, j, square_of(g[j] * factor * f) / c[j]);
            else
                sum = square_of(g[0] * factor * f);
            total += sum;
        }
        square[square_at + run] = total;
        square[square_at + runs + run] = values;
    }
}

/* Of each parameter the factor of its updates, limited, and, where the rate is relative, the size of its values, at least `least`. */
__kernel void adafactor_scales(TABLE, __global const float *restrict square, ulong square_at, __global float *restrict scale, ulong scale_at, float limit,
                               int relative, float least, long runs)
{
    square += square_at;
    EACH(p, count)
    {
        __global const entry *e = table + p;
        float updates, values, n = (float)(e->matrices * e->rows * e->columns);
        SUM_PART(updates, e->run_at, e->run_at + e->runs, i, square[i]);
        SUM_PART(values, e->run_at, e->run_at + e->runs, i, square[runs + i]);
        scale[scale_at + 2 * p] = 1.0f / fmax(1.0f, sqrt(updates / n) / limit);
        scale[scale_at + 2 * p + 1] = relative ? fmax(least, sqrt(values / n)) : 1.0f;
    }
}

__kernel void adafactor_update(TABLE, __global float *restrict value, ulong value_at, __global const float *restrict gradient, ulong gradient_at,
                               __global const float *restrict first, ulong first_at, __global const float *restrict second, ulong second_at,
                               __global const float *restrict means, ulong means_at, __global const float *restrict scale, ulong scale_at,
                               __global const float *restrict control, ulong control_at, float lr, float weight_decay, long runs)
{
    float factor = control[control_at];
    if (control[control_at + 1] == 0.0f) return;
    EACH(run, runs)
    {
        long p = find(&table->run_at, count, run);
        __global const entry *e = table + p;
        __global const float *r = first + first_at + e->first_at;
        long n = e->columns, begin = (run - e->run_at) * e->run_rows, end = min(begin + e->run_rows, e->matrices * e->rows);
        float mean = 1.0f, own = lr * scale[scale_at + 2 * p + 1], rate = own * scale[scale_at + 2 * p], decay = 1.0f - own * weight_decay;
        for (long row = begin; row < end; row++) {
            __global float *w = value + value_at + e->at + row * n;
            __global const float *g = gradient + gradient_at + e->at + row * n;
            __global const float *c = second + second_at + e->second_at + row / e->rows * n;
            float f = row_factor(e, r, means + means_at, row, row == begin, &mean);
            if (e->factored) {
                for (long j = 0; j < n; j++) w[j] = w[j] * decay - rate * (g[j] * factor * (f * rsqrt(c[j])));
            } else {
                w[0] = w[0] * decay - rate * (g[0] * factor * f);
            }
        }
    }
}
