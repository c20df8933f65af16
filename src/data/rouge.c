/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/rouge.h"

#include "base/memory.h"
#include "data/bootstrap.h"
#include "data/lcs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Words ------------------------------------------------------------------------------------------------------- */

typedef struct text {
    char *letters;  /* in lower case; NUL ends each word */
    size_t *starts; /* [count] of words in `letters` */
    size_t count, start_capacity;
    uint32_t *ids; /* [count] equal for equal words, over both texts */
    size_t *ends;  /* [lines] words before a line's end; lines without words are left out */
    size_t lines, end_capacity;
} text;

typedef struct pair {
    text reference, prediction;
    size_t distinct; /* ids run from 0 to below this */
} pair;

/* The letter or digit at s as Python's str.lower() has it, or 0. Returns the bytes it takes, at least 1. Beyond ASCII two
 * characters become letters: U+212A, and U+0130, whose second byte, then a separator, stands for the combining dot. */
static size_t fold(const char *s, char *letter)
{
    const unsigned char *u = (const unsigned char *)s;
    *letter = 0;
    if ((*u >= 'a' && *u <= 'z') || (*u >= '0' && *u <= '9')) *letter = *s;
    if (*u >= 'A' && *u <= 'Z') *letter = (char)(*u - 'A' + 'a');
    if (u[0] == 0xc4 && u[1] == 0xb0) *letter = 'i';
    if (u[0] != 0xe2 || u[1] != 0x84 || u[2] != 0xaa) return 1;
    *letter = 'k';
    return 3;
}

static sora_status end_line(text *t, sora_error *error)
{
    if (t->count == (t->lines ? t->ends[t->lines - 1] : 0)) return SORA_OK;
    sora_status status = sora_reserve(&t->ends, &t->end_capacity, t->lines + 1, sizeof *t->ends, error);
    if (status == SORA_OK) t->ends[t->lines++] = t->count;
    return status;
}

static sora_status read_words(text *t, const char *source, sora_error *error)
{
    sora_status status;
    size_t at = 0;
    SORA_TRY(sora_allocate(strlen(source) + 1, 1, "ROUGE", &t->letters, error));
    while (*source) {
        char letter;
        if (*source == '\n') SORA_TRY(end_line(t, error));
        source += fold(source, &letter);
        if (letter && (at == 0 || !t->letters[at - 1])) {
            SORA_TRY(sora_reserve(&t->starts, &t->start_capacity, t->count + 1, sizeof *t->starts, error));
            t->starts[t->count++] = at;
        }
        t->letters[at++] = letter;
    }
    SORA_TRY(end_line(t, error));
    SORA_TRY(sora_allocate(t->count, sizeof *t->ids, "ROUGE", &t->ids, error));
cleanup:
    return status;
}

typedef struct word {
    const char *letters;
    uint32_t *id;
} word;

static int by_letters(const void *a, const void *b)
{
    return strcmp(((const word *)a)->letters, ((const word *)b)->letters);
}

static word *list_words(const text *t, word *words)
{
    for (size_t i = 0; i < t->count; i++) *words++ = (word) { t->letters + t->starts[i], &t->ids[i] };
    return words;
}

static sora_status number_words(pair *p, sora_error *error)
{
    word *words = NULL;
    sora_status status;
    size_t count = p->reference.count + p->prediction.count;
    if (count > UINT32_MAX) return sora_fail(error, SORA_ERROR_MEMORY, "ROUGE: %zu words are too many", count);
    SORA_TRY(sora_allocate(count, sizeof *words, "ROUGE", &words, error));
    list_words(&p->prediction, list_words(&p->reference, words));
    qsort(words, count, sizeof *words, by_letters);
    for (size_t i = 0; i < count; i++) {
        p->distinct += i == 0 || by_letters(&words[i - 1], &words[i]) != 0;
        *words[i].id = (uint32_t)(p->distinct - 1);
    }
cleanup:
    free(words);
    return status;
}

static void free_text(text *t)
{
    free(t->letters);
    free(t->starts);
    free(t->ids);
    free(t->ends);
}

/* ---- Measures ---------------------------------------------------------------------------------------------------- */

static double f1(size_t hits, size_t reference, size_t prediction)
{
    if (hits == 0) return 0.0;
    double precision = (double)hits / (double)prediction, recall = (double)hits / (double)reference;
    return 2 * precision * recall / (precision + recall);
}

static int by_gram(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The text's n-grams (n 1 or 2), rising. */
static sora_status list_grams(const text *t, size_t n, uint64_t **grams, size_t *count, sora_error *error)
{
    *count = t->count < n ? 0 : t->count - n + 1;
    sora_status status = sora_allocate(*count, sizeof **grams, "ROUGE", grams, error);
    if (status != SORA_OK) return status;
    for (size_t i = 0; i < *count; i++) (*grams)[i] = n == 1 ? t->ids[i] : (uint64_t)t->ids[i] << 32 | t->ids[i + 1];
    qsort(*grams, *count, sizeof **grams, by_gram);
    return SORA_OK;
}

static sora_status score_grams(const pair *p, size_t n, double *score, sora_error *error)
{
    uint64_t *a = NULL, *b = NULL;
    size_t a_count, b_count, hits = 0;
    sora_status status;
    SORA_TRY(list_grams(&p->reference, n, &a, &a_count, error));
    SORA_TRY(list_grams(&p->prediction, n, &b, &b_count, error));
    for (size_t i = 0, j = 0; i < a_count && j < b_count;) { /* a hit uses up one of each side: the smaller of both counts */
        int order = by_gram(&a[i], &b[j]);
        hits += order == 0;
        i += order <= 0;
        j += order >= 0;
    }
    *score = f1(hits, a_count, b_count);
cleanup:
    free(a);
    free(b);
    return status;
}

static sora_status score_whole(const pair *p, double *score, sora_error *error)
{
    const text *r = &p->reference, *c = &p->prediction;
    sora_lcs *lcs;
    sora_status status = sora_lcs_create(p->distinct, r->count, 0, &lcs, error);
    if (status != SORA_OK) return status;
    sora_lcs_begin(lcs, r->ids, r->count);
    *score = f1(sora_lcs_length(lcs, c->ids, c->count), r->count, c->count);
    sora_lcs_destroy(&lcs);
    return SORA_OK;
}

static size_t line_start(const text *t, size_t line)
{
    return line ? t->ends[line - 1] : 0;
}

static size_t longest_line(const text *t)
{
    size_t longest = 0;
    for (size_t i = 0; i < t->lines; i++) longest = SORA_MAX(longest, t->ends[i] - line_start(t, i));
    return longest;
}

/* Words of line[n] that could still become a hit: neither marked nor used up in the prediction. */
static size_t count_open(const uint32_t *line, size_t n, const bool *marks, const uint32_t *left)
{
    size_t open = 0;
    for (size_t i = 0; i < n; i++) open += !marks[i] && left[line[i]] > 0;
    return open;
}

/* Hits of one line[n] of the reference: words in its longest common subsequence with any line of the prediction, each at most as
 * often as `left`, which they use up. rouge_score counts what is left of the reference too, but a place there is marked only
 * once. */
static size_t score_line(sora_lcs *lcs, const uint32_t *line, size_t n, const text *prediction, uint32_t *left, bool *marks)
{
    size_t hits = 0;
    memset(marks, 0, n * sizeof *marks);
    sora_lcs_begin(lcs, line, n);
    for (size_t i = 0; i < prediction->lines && count_open(line, n, marks, left) > 0; i++) {
        size_t start = line_start(prediction, i);
        sora_lcs_mark(lcs, prediction->ids + start, prediction->ends[i] - start, marks);
    }
    for (size_t i = 0; i < n; i++) {
        if (!marks[i] || left[line[i]] == 0) continue;
        left[line[i]]--;
        hits++;
    }
    return hits;
}

static sora_status score_lines(const pair *p, double *score, sora_error *error)
{
    const text *r = &p->reference, *c = &p->prediction;
    sora_lcs *lcs = NULL;
    uint32_t *left = NULL;
    bool *marks = NULL;
    sora_status status;
    size_t hits = 0, longest = longest_line(r);
    SORA_TRY(sora_lcs_create(p->distinct, longest, longest_line(c), &lcs, error));
    SORA_TRY(sora_allocate(p->distinct, sizeof *left, "ROUGE", &left, error));
    SORA_TRY(sora_allocate(longest, sizeof *marks, "ROUGE", &marks, error));
    for (size_t i = 0; i < c->count; i++) left[c->ids[i]]++;
    for (size_t i = 0; i < r->lines; i++) {
        size_t start = line_start(r, i);
        hits += score_line(lcs, r->ids + start, r->ends[i] - start, c, left, marks);
    }
    *score = f1(hits, r->count, c->count);
cleanup:
    sora_lcs_destroy(&lcs);
    free(left);
    free(marks);
    return status;
}

sora_status sora_rouge_score(const char *reference, const char *prediction, sora_rouge *out, sora_error *error)
{
    pair p = { 0 };
    sora_rouge score;
    sora_status status;
    *out = (sora_rouge) { 0 };
    if (!reference || !prediction)
        SORA_FAIL(error, SORA_ERROR_ARGUMENT, "ROUGE: %s is NULL", reference ? "prediction" : "reference");
    SORA_TRY(read_words(&p.reference, reference, error));
    SORA_TRY(read_words(&p.prediction, prediction, error));
    SORA_TRY(number_words(&p, error));
    SORA_TRY(score_grams(&p, 1, &score.rouge1, error));
    SORA_TRY(score_grams(&p, 2, &score.rouge2, error));
    SORA_TRY(score_whole(&p, &score.rougeL, error));
    SORA_TRY(score_lines(&p, &score.rougeLsum, error));
    *out = score;
cleanup:
    free_text(&p.reference);
    free_text(&p.prediction);
    return status;
}

/* ---- Intervals --------------------------------------------------------------------------------------------------- */

/* numpy.percentile's default: linear between the two nearest ranks. `values` rise. */
static double percentile(const double *values, int count, double share)
{
    double rank = share * (count - 1);
    int below = (int)rank, above = SORA_MIN(below + 1, count - 1);
    return values[below] + (rank - below) * (values[above] - values[below]);
}

static sora_status check_finite(const double *values, size_t count, sora_error *error)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i])) return sora_fail(error, SORA_ERROR_ARGUMENT, "ROUGE: score %zu is %g", i, values[i]);
    return SORA_OK;
}

/* A measure is a double at that offset of sora_rouge. */
static double *measure(sora_rouge *score, size_t offset)
{
    return (double *)((char *)score + offset);
}

static sora_status summarise(const sora_rouge *scores, size_t count, size_t offset, int resamples, uint64_t seed,
                             sora_rouge_interval *out, sora_error *error)
{
    double *values = NULL, *means = NULL;
    sora_status status;
    SORA_TRY(sora_allocate(count, sizeof *values, "bootstrap", &values, error));
    SORA_TRY(sora_allocate((size_t)SORA_MAX(resamples, 0), sizeof *means, "bootstrap", &means, error));
    for (size_t i = 0; i < count; i++) values[i] = *(const double *)((const char *)&scores[i] + offset);
    SORA_TRY(check_finite(values, count, error));
    SORA_TRY(sora_bootstrap_means(values, count, resamples, seed, measure(&out->mean, offset), means, error));
    *measure(&out->low, offset) = percentile(means, resamples, 0.025);
    *measure(&out->middle, offset) = percentile(means, resamples, 0.5);
    *measure(&out->high, offset) = percentile(means, resamples, 0.975);
cleanup:
    free(values);
    free(means);
    return status;
}

sora_status sora_rouge_summary(const sora_rouge *scores, size_t count, int resamples, uint64_t seed, sora_rouge_interval *out,
                               sora_error *error)
{
    static const size_t measures[] = { offsetof(sora_rouge, rouge1), offsetof(sora_rouge, rouge2), offsetof(sora_rouge, rougeL),
                                       offsetof(sora_rouge, rougeLsum) };
    sora_rouge_interval interval = { 0 };
    *out = interval;
    if (!scores && count) return sora_fail(error, SORA_ERROR_ARGUMENT, "ROUGE: scores are NULL");
    for (size_t i = 0; i < SORA_COUNT(measures); i++) {
        sora_status status = summarise(scores, count, measures[i], resamples, seed, &interval, error);
        if (status != SORA_OK) return status;
    }
    *out = interval;
    return SORA_OK;
}

sora_status sora_rouge_bootstrap(const double *a, const double *b, size_t count, int resamples, uint64_t seed, double *difference,
                                 double *low, double *high, sora_error *error)
{
    double *differences = NULL;
    sora_status status;
    *difference = *low = *high = 0.0;
    if ((!a || !b) && count) SORA_FAIL(error, SORA_ERROR_ARGUMENT, "ROUGE: scores are NULL");
    SORA_TRY(sora_allocate(count, sizeof *differences, "bootstrap", &differences, error));
    for (size_t i = 0; i < count; i++) differences[i] = a[i] - b[i];
    SORA_TRY(check_finite(differences, count, error));
    SORA_TRY(sora_bootstrap_mean(differences, count, resamples, seed, difference, low, high, error));
cleanup:
    free(differences);
    return status;
}
