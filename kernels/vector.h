/* SPDX-License-Identifier: Apache-2.0 */
/* Neighbouring pixels in one register: XV of them on a CPU (its float width), one on a GPU, where neighbouring work-items have them. */
#define ALIGNED __attribute__((aligned(64))) /* vectors of a private array, which otherwise lie across cache lines */
/* A function that stays one. PoCL compiles what is in a kernel three times, for itself and for launches of two kinds, but what it calls once: so it is with what a long
 * work-item does, which is told which item it is, as what asks for get_global_id() would become part of the kernel again; and with what needs registers for itself. */
#define BY_ITSELF __attribute__((noinline))
/* One that never is: where it takes an array that should be registers. */
#define INLINE __attribute__((always_inline)) static inline
/* A loop over sums in registers, which an array is only where every index is known. */
#define FOR(i, n) _Pragma("unroll") for (int i = 0; i < (n); i++)
/* A loop over the lanes at an edge, which is rare: unrolled it would be most of what there is to compile. */
#define EDGE_LOOP(l) _Pragma("nounroll") for (int l = 0; l < XV; l++)
#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#if XV == 1
typedef float floatx;
typedef int intx;
#define LOADX(p) (*(p))
#define STOREX(v, p) (*(p) = (v))
#define LANE_NUMBERS 0
#define SUM_LANES(v) (v)
#else
typedef JOIN(float, XV) floatx;
typedef JOIN(int, XV) intx;
#define LOADX(p) JOIN(vload, XV)(0, p)
/* A vector wherever a float may stand: PoCL's vstore16 comes apart into three stores, its vstore8 into two. */
typedef struct __attribute__((packed)) {
    floatx v;
} anywhere;
static inline void __attribute__((overloadable)) STOREX(floatx v, __global float *p) { ((__global anywhere *)p)->v = v; }
static inline void __attribute__((overloadable)) STOREX(floatx v, __local float *p) { ((__local anywhere *)p)->v = v; }
static inline void __attribute__((overloadable)) STOREX(floatx v, float *p) { ((anywhere *)p)->v = v; }
#if XV == 8
#define LANE_LIST 0, 1, 2, 3, 4, 5, 6, 7
#define LANE_NUMBERS (int8)(LANE_LIST)
static inline float SUM_LANES(float8 v)
{
    float4 a = v.lo + v.hi;
    return (a.x + a.y) + (a.z + a.w);
}
#else
#define LANE_LIST 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define LANE_NUMBERS (int16)(LANE_LIST)
static inline float SUM_LANES(float16 v)
{
    float8 a = v.lo + v.hi;
    float4 b = a.lo + a.hi;
    return (b.x + b.y) + (b.z + b.w);
}
#endif
#endif

#if XV > 1
/* The sum of each of four's lanes, which come together in one register, as a processor may shuffle half as often as it adds. */
static inline float4 SUMS_OF_FOUR(const floatx *v)
{
#if XV == 16
    float16 a = (float16)(v[0].lo, v[1].lo) + (float16)(v[0].hi, v[1].hi), b = (float16)(v[2].lo, v[3].lo) + (float16)(v[2].hi, v[3].hi);
    float16 all = (float16)(a.lo.lo, a.hi.lo, b.lo.lo, b.hi.lo) + (float16)(a.lo.hi, a.hi.hi, b.lo.hi, b.hi.hi);
    all += all.s1032547698badcfe;
    all += all.s23016745ab89efcd;
    return all.s048c;
#else
    float8 a = (float8)(v[0].s02, v[1].s02, v[0].s46, v[1].s46) + (float8)(v[0].s13, v[1].s13, v[0].s57, v[1].s57);
    float8 b = (float8)(v[2].s02, v[3].s02, v[2].s46, v[3].s46) + (float8)(v[2].s13, v[3].s13, v[2].s57, v[3].s57);
    a = (float8)(a.s02, b.s02, a.s46, b.s46) + (float8)(a.s13, b.s13, a.s57, b.s57);
    return a.lo + a.hi;
#endif
}
#endif

/* XV floats from `at` of a plane of n; what lies outside is 0 and never touched. */
#if XV > 1
BY_ITSELF floatx load_edge(__global const float *plane, int at, int n)
{
    float lanes[XV];
    EDGE_LOOP(l) lanes[l] = at + l >= 0 && at + l < n ? plane[at + l] : 0.0f;
    return LOADX(lanes);
}
#endif

static inline floatx load_within(__global const float *plane, int at, int n)
{
    if (at >= 0 && at + XV <= n) return LOADX(plane + at);
#if XV == 1
    return 0.0f;
#else
    return load_edge(plane, at, n);
#endif
}

static inline void store_within(floatx v, __global float *plane, int at, int n)
{
#if XV == 1
    if (at < n) plane[at] = v;
#else
    if (at + XV <= n) {
        STOREX(v, plane + at);
        return;
    }
    float lanes[XV];
    STOREX(v, lanes);
    for (int l = 0; at + l < n; l++) plane[at + l] = lanes[l];
#endif
}

/* Eight rows of four numbers, 0 to 3 in the lower halves and 4 to 7 in the upper, become four rows of eight, and back. */
static inline void turn_4x8(float8 *v)
{
    float8 a = (float8)(v[0].s0, v[1].s0, v[0].s1, v[1].s1, v[0].s4, v[1].s4, v[0].s5, v[1].s5);
    float8 b = (float8)(v[2].s0, v[3].s0, v[2].s1, v[3].s1, v[2].s4, v[3].s4, v[2].s5, v[3].s5);
    float8 c = (float8)(v[0].s2, v[1].s2, v[0].s3, v[1].s3, v[0].s6, v[1].s6, v[0].s7, v[1].s7);
    float8 d = (float8)(v[2].s2, v[3].s2, v[2].s3, v[3].s3, v[2].s6, v[3].s6, v[2].s7, v[3].s7);
    v[0] = (float8)(a.s01, b.s01, a.s45, b.s45);
    v[1] = (float8)(a.s23, b.s23, a.s67, b.s67);
    v[2] = (float8)(c.s01, d.s01, c.s45, d.s45);
    v[3] = (float8)(c.s23, d.s23, c.s67, d.s67);
}

#define LINE 16 /* floats of a cache line, which are asked for at once */
/* Rows that are short or far apart are foreseen by no processor, so what is next is asked for: one line, into the second cache, as only few lines at a time may
 * be on their way into the first. OpenCL's own prefetch() does nothing on PoCL. A GPU has other work-items meanwhile. */
#if XV == 1
#define ASK_FOR(p) ((void)(p))
#elif defined __has_builtin && defined __OPTIMIZE__
#if __has_builtin(__builtin_prefetch)
#define ASK_FOR(p) __builtin_prefetch((const void *)(ulong)(p), 0, 2)
#endif
#endif
#ifndef ASK_FOR
#define ASK_FOR(p) prefetch(p, LINE)
#endif
