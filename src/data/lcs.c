/* SPDX-License-Identifier: Apache-2.0 */
/* Row j of the table t[i][j] = length of the LCS of a[0..i) and b[0..j) rises by 0 or 1 from i to i + 1, so that a row is a
 * vector of bits; bit i is kept as 0 where it rises. A row follows from the one before by one addition (H. Hyyrö, "Bit-parallel
 * LCS-length computation revisited", AWOCA 2004). The way back asks for nothing but these bits: where a[i − 1] ≠ b[j − 1] and bit
 * i − 1 of row j rises, t[i][j] came from t[i][j − 1] > t[i − 1][j]; where it doesn't, t[i − 1][j] = t[i][j] >= t[i][j − 1]. */
#include "data/lcs.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Where a token stands in 64 neighbours of a. */
typedef struct place {
    uint64_t bits;
    uint32_t word, next; /* next: 1-based index of the token's place before, 0: none */
} place;

struct sora_lcs {
    const uint32_t *a;
    size_t n, words; /* words of a row */
    uint32_t *last;  /* [alphabet] 1-based index of the token's last place in a, 0: none */
    place *places;
    uint64_t *match; /* one row, 0 between calls */
    uint64_t *kept;  /* every √m-th row: the others are computed a second time on the way back, so that memory grows as n · √m */
    uint64_t *block; /* the rows between two kept ones */
};

static size_t words_of(size_t n)
{
    return n / 64 + 1;
}

/* The least whose square is not less than m. */
static size_t root(size_t m)
{
    size_t r = 1;
    while (r * r < m) r++;
    return r;
}

sora_status sora_lcs_create(size_t alphabet, size_t longest_a, size_t longest_b, sora_lcs **out, sora_error *error)
{
    sora_lcs *lcs = NULL;
    sora_status status = SORA_OK;
    *out = NULL;
    if (longest_a > UINT32_MAX || longest_b > UINT32_MAX) /* beyond it, sizes below could overflow */
        SORA_FAIL(error, SORA_ERROR_MEMORY, "LCS: %zu and %zu words are too many", longest_a, longest_b);
    size_t words = words_of(longest_a), rows = root(longest_b) + 1;
    SORA_TRY(sora_allocate(1, sizeof *lcs, "LCS", &lcs, error));
    SORA_TRY(sora_allocate(alphabet, sizeof *lcs->last, "LCS", &lcs->last, error));
    SORA_TRY(sora_allocate(longest_a, sizeof *lcs->places, "LCS", &lcs->places, error));
    SORA_TRY(sora_allocate(words, sizeof *lcs->match, "LCS", &lcs->match, error));
    SORA_TRY(sora_allocate(rows, words * sizeof *lcs->kept, "LCS", &lcs->kept, error));
    SORA_TRY(sora_allocate(longest_b ? rows : 0, words * sizeof *lcs->block, "LCS", &lcs->block, error));
    *out = lcs;
    lcs = NULL;
cleanup:
    sora_lcs_destroy(&lcs);
    return status;
}

void sora_lcs_destroy(sora_lcs **lcs)
{
    if (!*lcs) return;
    free((*lcs)->last);
    free((*lcs)->places);
    free((*lcs)->match);
    free((*lcs)->kept);
    free((*lcs)->block);
    free(*lcs);
    *lcs = NULL;
}

void sora_lcs_begin(sora_lcs *lcs, const uint32_t *a, size_t n)
{
    uint32_t used = 0;
    for (size_t i = 0; i < lcs->n; i++) lcs->last[lcs->a[i]] = 0;
    lcs->a = a;
    lcs->n = n;
    lcs->words = words_of(n);
    for (size_t i = 0; i < n; i++) {
        uint32_t *last = &lcs->last[a[i]], word = (uint32_t)(i / 64);
        if (*last == 0 || lcs->places[*last - 1].word != word) {
            lcs->places[used] = (place) { .word = word, .next = *last };
            *last = ++used;
        }
        lcs->places[*last - 1].bits |= UINT64_C(1) << i % 64;
    }
}

/* row (words) -> next (words): the row after `token` of b. They may be the same. */
static void advance(sora_lcs *lcs, uint32_t token, const uint64_t *row, uint64_t *next)
{
    uint64_t carry = 0;
    for (uint32_t p = lcs->last[token]; p; p = lcs->places[p - 1].next)
        lcs->match[lcs->places[p - 1].word] = lcs->places[p - 1].bits;
    for (size_t w = 0; w < lcs->words; w++) {
        uint64_t v = row[w], matched = v & lcs->match[w], sum = v + matched, total = sum + carry;
        carry = (sum < v) | (total < sum);
        next[w] = total | (v ^ matched);
    }
    for (uint32_t p = lcs->last[token]; p; p = lcs->places[p - 1].next) lcs->match[lcs->places[p - 1].word] = 0;
}

static void advance_all(sora_lcs *lcs, const uint32_t *b, size_t m, uint64_t *row)
{
    for (size_t j = 0; j < m; j++)
        if (lcs->last[b[j]]) advance(lcs, b[j], row, row); /* a token that a lacks leaves the row as it is */
}

size_t sora_lcs_length(sora_lcs *lcs, const uint32_t *b, size_t m)
{
    size_t length = 0;
    memset(lcs->kept, 0xff, lcs->words * sizeof *lcs->kept);
    advance_all(lcs, b, m, lcs->kept);
    for (size_t w = 0; w < lcs->words; w++) length += (size_t)__builtin_popcountll(~lcs->kept[w]);
    return length;
}

/* From cell (i, m) back to column or row 0; `block` has rows 0 .. m of b[m]. Returns the row i where it ended. */
static size_t walk(const sora_lcs *lcs, const uint32_t *b, size_t m, size_t i, bool *marks)
{
    for (size_t j = m; i > 0 && j > 0;) {
        if (lcs->a[i - 1] == b[j - 1]) {
            marks[--i] = true;
            j--;
        } else if (lcs->block[j * lcs->words + (i - 1) / 64] >> (i - 1) % 64 & 1)
            i--;
        else
            j--;
    }
    return i;
}

void sora_lcs_mark(sora_lcs *lcs, const uint32_t *b, size_t m, bool *marks)
{
    size_t side = root(m), blocks = (m + side - 1) / side, i = lcs->n, bytes = lcs->words * sizeof *lcs->kept;
    memset(lcs->kept, 0xff, bytes);
    for (size_t k = 1; k < blocks; k++) {
        uint64_t *row = lcs->kept + k * lcs->words;
        memcpy(row, row - lcs->words, bytes);
        advance_all(lcs, b + (k - 1) * side, side, row);
    }
    for (size_t k = blocks; k-- > 0 && i > 0;) {
        const uint32_t *part = b + k * side;
        size_t count = SORA_MIN(side, m - k * side);
        memcpy(lcs->block, lcs->kept + k * lcs->words, bytes);
        for (size_t j = 0; j < count; j++) advance(lcs, part[j], lcs->block + j * lcs->words, lcs->block + (j + 1) * lcs->words);
        i = walk(lcs, part, count, i, marks);
    }
}
