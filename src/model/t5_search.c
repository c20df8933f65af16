/* SPDX-License-Identifier: Apache-2.0 */
#include "model/t5_search.h"

#include "base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What can't be chosen any more: Transformers' own number, so that sums with it compare alike. */
#define NEVER (-1e9)

typedef struct sorted_token {
    float score;
    int32_t id;
} sorted_token;

typedef struct candidate {
    double score;
    int beam;
    int32_t token;
} candidate;

/* Sequences of one length after the other, start token included. */
typedef struct sequences {
    int32_t *ids; /* [beams][max_length] */
    int *lengths;
    double *scores;
} sequences;

struct sora_t5_search {
    sora_t5_search_desc desc;
    sora_t5_generation options;
    int beams, room, length; /* of the running ones, start included */
    sequences running, next, finished, merged;
    bool *is_finished, *merged_finished;
    int32_t *tokens;
    candidate *candidates; /* [2 · beams] */
    sorted_token *sorted;  /* sampling */
    int32_t *forbidden;    /* sampling: [max_length] */
    bool done;
};

static sora_status allocate_sequences(sequences *s, int beams, int room, sora_error *error)
{
    sora_status status = sora_allocate((size_t)beams * (size_t)room, sizeof *s->ids, "sequences", &s->ids, error);
    if (status == SORA_OK) status = sora_allocate((size_t)beams, sizeof *s->lengths, "sequences", &s->lengths, error);
    if (status == SORA_OK) status = sora_allocate((size_t)beams, sizeof *s->scores, "sequences", &s->scores, error);
    return status;
}

static void free_sequences(sequences *s)
{
    free(s->ids);
    free(s->lengths);
    free(s->scores);
}

sora_status sora_t5_search_create(const sora_t5_search_desc *desc, sora_t5_search **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5_search *s = NULL;
    *out = NULL;
    SORA_TRY(sora_t5_generation_check(desc->options, error));
    SORA_TRY(sora_allocate(1, sizeof *s, "search", &s, error));
    s->desc = *desc;
    s->options = *desc->options;
    s->beams = s->options.beams;
    s->room = s->options.max_length;
    SORA_TRY(allocate_sequences(&s->running, s->beams, s->room, error));
    SORA_TRY(allocate_sequences(&s->next, s->beams, s->room, error));
    SORA_TRY(allocate_sequences(&s->finished, s->beams, s->room, error));
    SORA_TRY(allocate_sequences(&s->merged, s->beams, s->room, error));
    SORA_TRY(sora_allocate((size_t)s->beams, sizeof *s->is_finished, "search", &s->is_finished, error));
    SORA_TRY(sora_allocate((size_t)s->beams, sizeof *s->merged_finished, "search", &s->merged_finished, error));
    SORA_TRY(sora_allocate((size_t)s->beams, sizeof *s->tokens, "search", &s->tokens, error));
    SORA_TRY(sora_allocate(2 * (size_t)s->beams, sizeof *s->candidates, "search", &s->candidates, error));
    if (s->options.sample) {
        SORA_TRY(sora_allocate((size_t)desc->vocabulary, sizeof *s->sorted, "search", &s->sorted, error));
        SORA_TRY(sora_allocate((size_t)s->room, sizeof *s->forbidden, "search", &s->forbidden, error));
    }
    s->length = 1;
    for (int b = 0; b < s->beams; b++) {
        s->tokens[b] = s->running.ids[b * s->room] = desc->start;
        s->running.scores[b] = b ? NEVER : 0.0;
        s->finished.scores[b] = NEVER;
    }
    *out = s;
    s = NULL;
cleanup:
    sora_t5_search_destroy(&s);
    return status;
}

void sora_t5_search_destroy(sora_t5_search **pointer)
{
    sora_t5_search *s = *pointer;
    if (!s) return;
    free_sequences(&s->running);
    free_sequences(&s->next);
    free_sequences(&s->finished);
    free_sequences(&s->merged);
    free(s->is_finished);
    free(s->merged_finished);
    free(s->tokens);
    free(s->candidates);
    free(s->sorted);
    free(s->forbidden);
    free(s);
    *pointer = NULL;
}

bool sora_t5_search_done(const sora_t5_search *search)
{
    return search->done;
}

const int32_t *sora_t5_search_tokens(const sora_t5_search *search)
{
    return search->tokens;
}

/* ---- What may follow --------------------------------------------------------------------------------------------- */

int sora_t5_search_forbidden(const sora_t5_search *s, int beam, int32_t *forbidden)
{
    int n = s->options.no_repeat_ngram, count = 0;
    const int32_t *ids = s->running.ids + beam * s->room;
    for (int i = 0; n > 0 && i + n <= s->length; i++)
        if (memcmp(ids + i, ids + s->length - (n - 1), (size_t)(n - 1) * sizeof *ids) == 0) forbidden[count++] = ids[i + n - 1];
    if (s->length < s->options.min_length) forbidden[count++] = s->desc.eos;
    return count;
}

int sora_t5_search_width(const sora_t5_search *s)
{
    return s->options.sample ? 0 : s->beams > 1 ? 2 * s->beams : 1;
}

/* ---- Greedy and sampling ----------------------------------------------------------------------------------------- */

static int higher_first(const void *a, const void *b)
{
    const sorted_token *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Temperature, the k best, then the fewest whose probability reaches p; one of them by its probability. */
static int32_t draw(sora_t5_search *s, const float *scores)
{
    const sora_t5_generation *o = &s->options;
    int count = 0, kept;
    double sum = 0.0, reached = 0.0, at;
    sora_random_stream stream = {
        .seed = o->seed, .purpose = SORA_PURPOSE_SAMPLE, .step = (uint32_t)s->length, .sample = s->desc.sample
    };
    for (int32_t i = 0; i < s->desc.vocabulary; i++)
        if (isfinite(scores[i])) s->sorted[count++] = (sorted_token) { scores[i] / (float)o->temperature, i };
    if (count == 0) return s->desc.eos;
    qsort(s->sorted, (size_t)count, sizeof *s->sorted, higher_first);
    if (o->top_k > 0) count = SORA_MIN(count, o->top_k);
    float most = s->sorted[0].score;
    for (int i = 0; i < count; i++) {
        s->sorted[i].score = expf(s->sorted[i].score - most);
        sum += (double)s->sorted[i].score;
    }
    for (kept = 0; kept < count && (kept == 0 || reached < o->top_p * sum); kept++) reached += (double)s->sorted[kept].score;
    at = sora_random_uniform(&stream) * reached;
    for (int i = 0; i < kept; i++) {
        at -= (double)s->sorted[i].score;
        if (at < 0.0) return s->sorted[i].id;
    }
    return s->sorted[kept - 1].id;
}

static void append(sora_t5_search *s, int32_t token)
{
    s->tokens[0] = s->running.ids[s->length++] = token;
    s->done = token == s->desc.eos || s->length >= s->room;
}

void sora_t5_search_sample(sora_t5_search *s, float *logits)
{
    if (s->done) return;
    int count = sora_t5_search_forbidden(s, 0, s->forbidden);
    for (int i = 0; i < count; i++) logits[s->forbidden[i]] = -INFINITY;
    append(s, draw(s, logits));
}

/* ---- Beams ------------------------------------------------------------------------------------------------------- */

static void consider(sora_t5_search *s, candidate c, int *count)
{
    int most = 2 * s->beams, at = *count;
    if (at == most && c.score <= s->candidates[most - 1].score) return;
    if (at == most)
        at--;
    else
        (*count)++;
    for (; at > 0 && s->candidates[at - 1].score < c.score; at--) s->candidates[at] = s->candidates[at - 1];
    s->candidates[at] = c;
}

/* The best 2 · beams continuations, best first; of equal ones the earlier beam's and lower id. */
static void find_candidates(sora_t5_search *s, const sora_t5_likely *likely)
{
    int count = 0, most = 2 * s->beams;
    for (int i = 0; i < most; i++) s->candidates[i] = (candidate) { -INFINITY, 0, -1 };
    for (int b = 0; b < s->beams; b++) {
        double base = s->running.scores[b] - ((double)likely[b].largest + log((double)likely[b].sum));
        for (int i = 0; i < most && likely[b].ids[i] >= 0; i++)
            consider(s, (candidate) { (double)likely[b].logits[i] + base, b, likely[b].ids[i] }, &count);
    }
}

static void copy_sequence(const sora_t5_search *s, const sequences *from, int i, sequences *to, int j)
{
    memcpy(to->ids + j * s->room, from->ids + i * s->room, (size_t)s->room * sizeof *to->ids);
    to->lengths[j] = from->lengths[i];
    to->scores[j] = from->scores[i];
}

static void extend(const sora_t5_search *s, const candidate *c, double score, sequences *to, int j)
{
    memcpy(to->ids + j * s->room, s->running.ids + c->beam * s->room, (size_t)s->length * sizeof *to->ids);
    if (c->token >= 0) to->ids[j * s->room + s->length] = c->token;
    to->lengths[j] = s->length + 1;
    to->scores[j] = score;
}

static bool all_finished(const sora_t5_search *s)
{
    for (int b = 0; b < s->beams; b++)
        if (!s->is_finished[b]) return false;
    return true;
}

/* The best `beams` of what was finished and of the candidates among the best `beams` that finish now. */
static void merge_finished(sora_t5_search *s, const bool *ends)
{
    int old = 0, fresh = 0;
    bool closed = s->options.early_stopping == SORA_STOP_EARLY && all_finished(s);
    double penalty = pow(s->length, s->options.length_penalty); /* generated tokens with this one, without start */
    for (int b = 0; b < s->beams; b++) {
        while (fresh < s->beams && (!ends[fresh] || closed || s->candidates[fresh].token < 0)) fresh++;
        double score = fresh < s->beams ? s->candidates[fresh].score / penalty : NEVER;
        bool take_fresh = fresh < s->beams && score > s->finished.scores[old];
        if (take_fresh)
            extend(s, &s->candidates[fresh++], score, &s->merged, b);
        else
            copy_sequence(s, &s->finished, old, &s->merged, b);
        s->merged_finished[b] = take_fresh || s->is_finished[old];
        old += !take_fresh;
    }
    sequences swap = s->finished;
    bool *flags = s->is_finished;
    s->finished = s->merged;
    s->merged = swap;
    s->is_finished = s->merged_finished;
    s->merged_finished = flags;
}

/* The best `beams` candidates that do not end. */
static void choose_running(sora_t5_search *s, const bool *ends, int *parents)
{
    int chosen = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < 2 * s->beams && chosen < s->beams; i++) {
            if (ends[i] != (pass == 1)) continue;
            const candidate *c = &s->candidates[i];
            extend(s, c, c->score + (pass ? NEVER : 0.0), &s->next, chosen);
            s->tokens[chosen] = SORA_MAX(c->token, 0);
            parents[chosen++] = c->beam;
        }
    sequences swap = s->running;
    s->running = s->next;
    s->next = swap;
    s->length++;
}

/* Whether a running sequence can still beat the worst finished one; `length` counts generated tokens. */
static bool can_improve(const sora_t5_search *s)
{
    const sora_t5_generation *o = &s->options;
    int length = o->early_stopping == SORA_STOP_NEVER && o->length_penalty > 0.0 ? s->room - 1 : s->length - 1;
    double possible = s->running.scores[0] / pow(length, o->length_penalty), worst = s->finished.scores[s->beams - 1];
    return possible > (all_finished(s) ? worst : NEVER);
}

static void advance_beams(sora_t5_search *s, const sora_t5_likely *likely, int *parents, bool *ends)
{
    find_candidates(s, likely);
    bool last = s->length + 1 >= s->room;
    for (int i = 0; i < 2 * s->beams; i++) ends[i] = last || s->candidates[i].token == s->desc.eos || s->candidates[i].token < 0;
    merge_finished(s, ends);
    choose_running(s, ends, parents);
    bool closed = s->options.early_stopping == SORA_STOP_EARLY && all_finished(s);
    s->done = last || closed || !can_improve(s);
}

sora_status sora_t5_search_advance(sora_t5_search *search, const sora_t5_likely *likely, int *parents, sora_error *error)
{
    bool *ends = NULL;
    if (search->done) return SORA_OK;
    parents[0] = 0;
    if (search->beams == 1) {
        append(search, SORA_MAX(likely->ids[0], 0));
        return SORA_OK;
    }
    sora_status status = sora_allocate(2 * (size_t)search->beams, sizeof *ends, "search", &ends, error);
    if (status == SORA_OK) advance_beams(search, likely, parents, ends);
    free(ends);
    return status;
}

sora_status sora_t5_search_result(const sora_t5_search *s, sora_t5_output *out, sora_error *error)
{
    bool finished = s->beams > 1 && s->is_finished[0];
    const sequences *from = finished ? &s->finished : &s->running;
    int length = finished ? from->lengths[0] : s->length;
    *out = (sora_t5_output) { .count = length - 1, .score = s->beams > 1 ? from->scores[0] : 0.0 };
    sora_status status = sora_allocate((size_t)SORA_MAX(out->count, 1), sizeof *out->ids, "sequence", &out->ids, error);
    if (status == SORA_OK && out->count) memcpy(out->ids, from->ids + 1, (size_t)out->count * sizeof *out->ids);
    return status;
}
