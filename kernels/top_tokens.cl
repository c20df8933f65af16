/* SPDX-License-Identifier: Apache-2.0 */
#include "vector.h"
#include "exp.h"

/* Of each row of logits [rows, n]: the largest, the sum of e^(logit - that) over all, and the `count` largest that are not forbidden, in
 * falling order, of equal ones the lower id first. Each row goes in parts of neighbours, on a GPU every parts-th; a second kernel merges what
 * they found. A record is [largest, sum, count values, count ids]; ids are -1 where there are fewer. */
#define RECORD (2 + 2 * count)
#define VALUES(record) ((record) + 2)
#define IDS(record) ((__global int *)(record) + 2 + count)

#if XV > 1
#define ANY_ABOVE(v, least) any(isgreater(v, (floatx)(least)))
#define FIRST(n) (part * (((n) + parts * XV - 1) / (parts * XV)) * XV)
#define LAST(n) min(n, FIRST(n) + (((n) + parts * XV - 1) / (parts * XV)) * XV)
#define STEP XV
#else
#define ANY_ABOVE(v, least) ((v) > (least))
#define FIRST(n) part
#define LAST(n) (n)
#define STEP parts
#endif

static inline void consider(__global float *record, float value, int id, int count, __global const int *forbidden, int forbidden_count)
{
    __global float *values = VALUES(record);
    __global int *ids = IDS(record);
    int at = count - 1;
    if (!(value > values[at])) return;
    for (int i = 0; i < forbidden_count; i++)
        if (forbidden[i] == id) return;
    for (; at > 0 && values[at - 1] < value; at--) values[at] = values[at - 1], ids[at] = ids[at - 1];
    values[at] = value;
    ids[at] = id;
}

/* Work-items: (parts, rows). Row r's forbidden ids stand at r * (1 + room) + 1, their number before them. */
__kernel void top_tokens_part(__global const float *restrict logits, ulong logits_at, __global const int *restrict forbidden, ulong forbidden_at,
                              __global float *restrict records, ulong records_at, int n, int count, int room, int has_forbidden)
{
    int part = (int)get_global_id(0), parts = (int)get_global_size(0), first = FIRST(n), last = LAST(n), forbidden_count = 0;
    long row = (long)get_global_id(1);
    __global float *record = records + records_at + (row * parts + part) * RECORD;
    logits += logits_at + row * n;
    if (has_forbidden) {
        forbidden += forbidden_at + row * (1 + room);
        forbidden_count = *forbidden++;
    }
    for (int i = 0; i < count; i++) VALUES(record)[i] = -INFINITY, IDS(record)[i] = -1;
    float most = -INFINITY, sum = 0.0f;
    int i = first;
    for (; i + XV <= last; i += STEP) {
        floatx v = LOADX(logits + i);
        if (ANY_ABOVE(v, VALUES(record)[count - 1]))
            for (int l = 0; l < XV; l++) consider(record, logits[i + l], i + l, count, forbidden, forbidden_count);
        if (ANY_ABOVE(v, most))
            for (int l = 0; l < XV; l++) most = fmax(most, logits[i + l]);
    }
    for (; i < last; i++) {
        consider(record, logits[i], i, count, forbidden, forbidden_count);
        most = fmax(most, logits[i]);
    }
    record[0] = most;
    if (most == -INFINITY) most = 0.0f; /* nothing here can be chosen; the sum is 0, not NaN */
    floatx lanes = 0.0f;
    for (i = first; i + XV <= last; i += STEP) lanes += EXPX(LOADX(logits + i) - most);
    for (; i < last; i++) sum += exp(logits[i] - most);
    record[1] = sum + SUM_LANES(lanes);
}

/* One work-item a row; `at` holds how many of each part's are taken. */
#define MOST_PARTS 16
__kernel void top_tokens_merge(__global float *restrict records, ulong records_at, __global float *restrict out, ulong out_at, int parts, int count)
{
    long row = (long)get_global_id(0);
    int at[MOST_PARTS];
    float most = -INFINITY, sum = 0.0f;
    records += records_at + row * parts * RECORD;
    out += out_at + row * RECORD;
    for (int p = 0; p < parts; p++) {
        most = fmax(most, records[p * RECORD]);
        at[p] = 0;
    }
    for (int p = 0; p < parts; p++) sum += records[p * RECORD + 1] * exp(records[p * RECORD] - most);
    out[0] = most;
    out[1] = sum;
    for (int i = 0; i < count; i++) {
        int best = -1, best_id = -1;
        float value = -INFINITY;
        for (int p = 0; p < parts; p++) {
            if (at[p] == count) continue;
            float v = VALUES(records + p * RECORD)[at[p]];
            int id = IDS(records + p * RECORD)[at[p]];
            if (id >= 0 && (best < 0 || v > value || (v == value && id < best_id))) best = p, value = v, best_id = id;
        }
        VALUES(out)[i] = value;
        IDS(out)[i] = best_id;
        /* Without a branch, behind which the compiler of PoCL 7.1 counts twice. */
        for (int p = 0; p < parts; p++) at[p] += p == best;
    }
}
