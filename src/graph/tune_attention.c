/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"
#include "cl/context.h"
#include "graph/tune.h"
#include "op/attention.h"
#include "op/dropout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Work is so much for each sample: few are enough. */
#define SAMPLES 2
#define DROPOUT 0.1f
#define SEED 3
#define STREAM 7

/* As the key in op/attention.c has it. */
enum { HEADS, SIZE, QUERIES, KEYS, SELF, CAUSAL, BACK };

/* As the op's inputs stand, then what else it reads and writes. */
enum { Q, KV, LINE, OUT, LOGS, DY, DQ, DKV, DLINE, SCRATCH, OPERANDS };

typedef struct attention {
    sora_context *context;
    sora_attention_attributes attributes;
    int64_t queries, keys;
    bool self, back;
    sora_tune_operand operands[OPERANDS];
    double *p, *ds; /* of a head of a sample: what is tested */
} attention;

static void describe(const int64_t *s, char text[96])
{
    snprintf(text, 96, "attention %lld heads of %lld, %lld x %lld%s%s%s", (long long)s[HEADS], (long long)s[SIZE],
             (long long)s[QUERIES], (long long)s[KEYS], s[SELF] ? ", self" : "", s[CAUSAL] ? ", causal" : "",
             s[BACK] ? ", way back" : "");
}

static int variants(const sora_device_limits *limits, const int64_t *s, sora_tuning_variant out[SORA_TUNE_VARIANTS])
{
    sora_attention_variant list[SORA_ATTENTION_VARIANTS];
    int count = sora_attention_variants(limits, s[BACK], list);
    for (int i = 0; i < count; i++) out[i] = sora_attention_tuning_variant(&list[i]);
    return count;
}

static void name(const sora_tuning_variant *variant, char text[48])
{
    if (variant->number[0])
        snprintf(text, 48, "%d queries x %d keys, tiles of %d", variant->number[1], variant->number[2], variant->number[0]);
    else
        snprintf(text, 48, "%d keys", variant->number[2]);
}

static double flops(const int64_t *s)
{
    return (s[BACK] ? 10.0 : 4.0) * (s[CAUSAL] ? 0.5 : 1.0) * SAMPLES * (double)(s[HEADS] * s[SIZE]) *
           (double)(s[QUERIES] * s[KEYS]);
}

static void release(void *self)
{
    attention *a = self;
    if (!a) return;
    sora_tune_release(a->operands, OPERANDS);
    free(a->p);
    free(a->ds);
    free(a);
}

static sora_status launch(void *self, const sora_tuning_variant *variant, sora_error *error)
{
    attention *a = self;
    const sora_view inputs[] = { a->operands[Q].view, a->operands[KV].view, a->operands[LINE].view, { 0 } },
                    gradients[] = { a->operands[DQ].view, a->operands[DKV].view, a->operands[DLINE].view, { 0 } };
    const sora_attention_variant v = { variant->number[0], variant->number[1], variant->number[2] };
    return sora_attention_run(&(sora_op_run) { .context = a->context,
                                               .name = "tune",
                                               .attributes = &a->attributes,
                                               .training = true,
                                               .input_count = SORA_COUNT(inputs),
                                               .inputs = inputs,
                                               .outputs = &a->operands[OUT].view,
                                               .saved = &a->operands[LOGS].view,
                                               .workspace = a->operands[SCRATCH].view,
                                               .output_gradients = &a->operands[DY].view,
                                               .input_gradients = gradients,
                                               .seed = SEED,
                                               .stream = STREAM },
                              a->back, &v, error);
}

static sora_status prepare(sora_context *context, const int64_t *s, void **self, sora_error *error)
{
    sora_status status = SORA_OK;
    attention *a = NULL;
    SORA_TRY(sora_allocate(1, sizeof *a, "tuning", &a, error));
    *self = a;
    *a = (attention) { .context = context,
                       .attributes = { .heads = (int)s[HEADS], .size = (int)s[SIZE], .causal = s[CAUSAL], .dropout = DROPOUT },
                       .queries = s[QUERIES],
                       .keys = s[KEYS],
                       .self = s[SELF],
                       .back = s[BACK] };
    int64_t inner = s[HEADS] * s[SIZE], distances = a->queries + a->keys - 1;
    const sora_shape q = SORA_SHAPE(SAMPLES, a->queries, a->self ? 3 * inner : inner),
                     kv = a->self ? (sora_shape) { 0 } : SORA_SHAPE(SAMPLES, a->keys, 2 * inner),
                     line = SORA_SHAPE(s[HEADS], distances), out = SORA_SHAPE(SAMPLES, a->queries, inner),
                     shapes[OPERANDS] = { q,   kv, line, out,  SORA_SHAPE(SAMPLES, s[HEADS], a->queries),
                                          out, q,  kv,   line, SORA_SHAPE(SAMPLES * s[HEADS] * (a->queries + distances)) };
    for (int i = 0; i < OPERANDS; i++)
        if (shapes[i].rank) SORA_TRY(sora_tune_draw(context, i, shapes[i], &a->operands[i], error));
    SORA_TRY(sora_allocate((size_t)(a->queries * a->keys), sizeof *a->p, "tuning", &a->p, error));
    SORA_TRY(sora_allocate((size_t)(a->queries * a->keys), sizeof *a->ds, "tuning", &a->ds, error));
    if (a->back) {
        /* What forward leaves for it. */
        sora_attention_variant standard[SORA_ATTENTION_VARIANTS];
        sora_attention_variants(&sora_context_device(context)->limits, false, standard);
        a->back = false;
        const sora_tuning_variant numbers = sora_attention_tuning_variant(standard);
        status = launch(a, &numbers, error);
        a->back = true;
    }
cleanup:
    return status;
}

/* Row `row` of a head of a sample in the tensor of queries (part 0), keys (1) or values (2), or in its gradient's. */
static const float *row_of(const attention *a, bool gradient, int part, int64_t sample, int64_t row, int64_t head)
{
    int64_t inner = (int64_t)a->attributes.heads * a->attributes.size;
    bool first = part == 0 || a->self;
    int64_t rows = part == 0 ? a->queries : a->keys,
            stride = a->self ? 3 * inner
                     : first ? inner
                             : 2 * inner,
            column = (first ? part : part - 1) * inner + head * a->attributes.size;
    return a->operands[(first ? Q : KV) + (gradient ? DQ - Q : 0)].host + (sample * rows + row) * stride + column;
}

static double dot(const attention *a, const float *x, const float *y)
{
    double sum = 0.0;
    for (int c = 0; c < a->attributes.size; c++) sum += (double)x[c] * (double)y[c];
    return sum;
}

static double keep_of(int64_t sample, int64_t head, int64_t i, int64_t j)
{
    sora_dropout_key key = sora_dropout_key_of(&(sora_op_run) { .seed = SEED }, DROPOUT);
    uint32_t words[4];
    sora_philox(SEED, SORA_PURPOSE_DROPOUT,
                (uint32_t[4]) { 0, STREAM, (uint32_t)sample, (uint32_t)((head * 512 + i / 8) * 4096 + j) }, words);
    return (words[i % 8 / 2] >> 16 * (i % 2) & 0xffff) < key.threshold ? 0.0 : (double)key.factor;
}

/* Probabilities of a head of a sample, and the gradients of its scores. */
static void make_head(attention *a, int64_t sample, int64_t head)
{
    for (int64_t i = 0; i < a->queries; i++) {
        int64_t seen = a->attributes.causal ? i + 1 : a->keys;
        double total = 0.0, delta = 0.0, *p = a->p + i * a->keys, *ds = a->ds + i * a->keys;
        const float *q = row_of(a, false, 0, sample, i, head), *line = a->operands[LINE].host + head * (a->queries + a->keys - 1),
                    *dy = a->operands[DY].host + ((sample * a->queries + i) * a->attributes.heads + head) * a->attributes.size;
        for (int64_t j = 0; j < a->keys; j++) {
            p[j] = j < seen ? exp(dot(a, q, row_of(a, false, 1, sample, j, head)) + (double)line[j - i + a->queries - 1]) : 0.0;
            total += p[j];
        }
        for (int64_t j = 0; j < a->keys; j++) {
            p[j] /= total;
            ds[j] = dot(a, dy, row_of(a, false, 2, sample, j, head)) * keep_of(sample, head, i, j);
            delta += p[j] * ds[j];
        }
        for (int64_t j = 0; j < a->keys; j++) ds[j] = p[j] * (ds[j] - delta);
    }
}

static bool near(const attention *a, const float *got, const double *expected, double bound)
{
    bool right = true;
    for (int c = 0; c < a->attributes.size; c++) right &= fabs((double)got[c] - expected[c]) <= bound;
    return right;
}

/* What tests/op/attention.c derives: a score's rounding, which e^x takes over; gradients weigh it by sums over a row of the head
 * and over all pairs that share their place. */
static double bound_of(const attention *a, double terms)
{
    double d = a->attributes.size, score = d * (d + 4.0) / 2.0 + 16.0, keys = (double)SORA_MAX(a->keys, a->queries);
    return ldexp(a->back ? 4.0 * (score + keys) * d + terms * sqrt(terms) + 64.0 : 4.0 * score + keys, -24);
}

static bool check_queries(const attention *a, int64_t sample, int64_t head, double *sum)
{
    bool right = true;
    int size = a->attributes.size;
    for (int64_t i = 0; i < a->queries; i++) {
        for (int c = 0; c < size; c++) sum[c] = 0.0;
        for (int64_t j = 0; j < a->keys; j++) {
            const float *row = row_of(a, false, a->back ? 1 : 2, sample, j, head);
            double weight = a->back ? a->ds[i * a->keys + j] : a->p[i * a->keys + j] * keep_of(sample, head, i, j);
            for (int c = 0; c < size; c++) sum[c] += weight * (double)row[c];
        }
        const float *got = a->back ? row_of(a, true, 0, sample, i, head)
                                   : a->operands[OUT].host + ((sample * a->queries + i) * a->attributes.heads + head) * size;
        right &= near(a, got, sum, bound_of(a, (double)a->keys));
    }
    return right;
}

static bool check_keys(const attention *a, int64_t sample, int64_t head, double *sum)
{
    bool right = true;
    int size = a->attributes.size;
    for (int64_t j = 0; j < a->keys; j++)
        for (int part = 1; part <= 2; part++) {
            for (int c = 0; c < size; c++) sum[c] = 0.0;
            for (int64_t i = 0; i < a->queries; i++) {
                const float *q = row_of(a, false, 0, sample, i, head),
                            *dy = a->operands[DY].host + ((sample * a->queries + i) * a->attributes.heads + head) * size;
                int64_t at = i * a->keys + j;
                double weight = part == 1 ? a->ds[at] : a->p[at] * keep_of(sample, head, i, j);
                for (int c = 0; c < size; c++) sum[c] += weight * (double)(part == 1 ? q : dy)[c];
            }
            right &= near(a, row_of(a, true, part, sample, j, head), sum, bound_of(a, (double)a->queries));
        }
    return right;
}

static void add_distances(const attention *a, double *sums)
{
    for (int64_t i = 0; i < a->queries; i++)
        for (int64_t j = 0; j < a->keys; j++) sums[j - i + a->queries - 1] += a->ds[i * a->keys + j];
}

/* One head of every sample, all of it: the last, which is where tensors end. */
static sora_status check(void *self, bool *right, sora_error *error)
{
    sora_status status = SORA_OK;
    attention *a = self;
    double *sum = NULL, *distances = NULL;
    int64_t head = a->attributes.heads - 1, count = a->queries + a->keys - 1;
    static const int written[2][3] = { { OUT, OUT, OUT }, { DQ, DKV, DLINE } };
    SORA_TRY(sora_allocate((size_t)a->attributes.size, sizeof *sum, "tuning", &sum, error));
    SORA_TRY(sora_allocate((size_t)count, sizeof *distances, "tuning", &distances, error));
    for (int i = 0; i < 3; i++) {
        int which = written[a->back][i];
        if (a->operands[which].view.memory)
            SORA_TRY(sora_view_read(a->context, &a->operands[which].view, a->operands[which].host, error));
    }
    *right = true;
    for (int64_t sample = 0; sample < SAMPLES; sample++) {
        make_head(a, sample, head);
        *right &= check_queries(a, sample, head, sum);
        if (a->back) *right &= check_keys(a, sample, head, sum);
        add_distances(a, distances);
    }
    for (int64_t x = 0; a->back && x < count; x++)
        *right &= fabs((double)a->operands[DLINE].host[head * count + x] - distances[x]) <=
                  bound_of(a, (double)(SAMPLES * SORA_MIN(a->queries, a->keys)));
cleanup:
    free(sum);
    free(distances);
    return status;
}

const sora_tunable sora_tunable_attention = {
    "attention", describe, variants, name, flops, prepare, launch, check, release, false
};
