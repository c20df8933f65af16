/* SPDX-License-Identifier: Apache-2.0 */
/* EACH(i, n): the elements of 0 .. n-1 that this work-item does. On a CPU a run of neighbours, which the compiler makes vectors of; on a
 * GPU every G-th, so that neighbouring work-items touch neighbouring memory. */
#ifdef SORA_CPU
#define EACH(i, n)                                                                                                               \
    for (long sora_run = ((n) + (long)get_global_size(0) - 1) / (long)get_global_size(0), i = (long)get_global_id(0) * sora_run, \
              sora_end = min((long)(n), i + sora_run);                                                                           \
         i < sora_end; i++)
#else
#define EACH(i, n) for (long i = (long)get_global_id(0); i < (n); i += (long)get_global_size(0))
#endif

/* Element i of frozen numbers, which may be halves. */
static inline float element_of(__global const float *x, ulong i, int halves) { return halves ? vload_half(i, (__global const half *)x) : x[i]; }
