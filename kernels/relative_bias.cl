/* SPDX-License-Identifier: Apache-2.0 */

/* T5's buckets of key - query: exact below half of them, then by the logarithm of the distance. The share of a bucket that is added
 * before rounding down puts distances that lie on a bucket's edge on their own side of it, whatever the device's logarithm. */
static inline int bucket_of(int relative, int buckets, int farthest, int bidirectional)
{
    int n = bidirectional ? buckets / 2 : buckets, exact = n / 2;
    int base = bidirectional && relative > 0 ? n : 0, distance = bidirectional ? abs(relative) : max(-relative, 0);
    if (distance < exact) return base + distance;
    float place = log((float)distance / (float)exact) / log((float)farthest / (float)exact) * (float)(n - exact);
    return base + min(n - 1, exact + (int)(place + 1e-4f));
}

/* line[h][x] for key - query = x - (queries - 1). */
__kernel void relative_bias_forward(__global const float *restrict table, ulong table_at, __global float *restrict line, ulong line_at, int heads, int queries,
                                    int count, int buckets, int farthest, int bidirectional)
{
    int x = (int)get_global_id(0), h = (int)get_global_id(1);
    line[line_at + (long)h * count + x] = table[table_at + (long)bucket_of(x - (queries - 1), buckets, farthest, bidirectional) * heads + h];
}

/* One work-item for each bucket and head goes through the line in order. */
__kernel void relative_bias_backward(__global const float *restrict dline, ulong dline_at, __global float *restrict gradient, ulong gradient_at, int heads,
                                     int queries, int count, int buckets, int farthest, int bidirectional)
{
    int bucket = (int)get_global_id(0), h = (int)get_global_id(1);
    float sum = 0.0f;
    for (int x = 0; x < count; x++)
        if (bucket_of(x - (queries - 1), buckets, farthest, bidirectional) == bucket) sum += dline[dline_at + (long)h * count + x];
    gradient[gradient_at + (long)bucket * heads + h] += sum;
}
