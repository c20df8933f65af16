/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of which many terms are 0, as behind a ReLU, and what is left of them: no branch could be foreseen. Needs vector.h. */
#define PLACES 64
#define LANE_BITS ((intx)1 << LANE_NUMBERS)
/* A bit for each of a row's terms that is not 0, the first term's lowest. */
static inline ulong bits_of(floatx terms)
{
    const floatx bits = JOIN(convert_float, XV)(LANE_BITS);
    return (ulong)(int)SUM_LANES(terms != 0.0f ? bits : (floatx)0.0f);
}

static inline ulong places_of(const float *row)
{
    ulong places = 0;
    for (int p = 0; p < PLACES; p += XV) places |= bits_of(LOADX(row + p)) << p;
    return places;
}

/* The terms as they are, zeros behind them, besides. */
static inline ulong copy_row(__global const float *a, int terms, float *row)
{
    ulong places = 0;
    for (int p = 0; p < PLACES; p += XV) {
        floatx v = load_within(a, p, terms);
        if (p % LINE == 0) ASK_FOR(a + PLACES + p);
        STOREX(v, row + p);
        places |= bits_of(v) << p;
    }
    return places;
}

/* The same of rows of what is stored by columns, whose terms lie `lead` apart. */
static inline void turn_rows(__global const float *a, long lead, int rows, int terms, float *left)
{
    for (int p = 0; p < PLACES; p += 8, a += 8 * lead) {
        int i = 0;
        for (; p + 8 <= terms && i + 4 <= rows; i += 4) {
            float8 v[4];
            if (i % LINE == 0) FOR(l, 8) ASK_FOR(a + (8 + l) * lead + i);
            FOR(l, 4) v[l] = (float8)(vload4(0, a + l * lead + i), vload4(0, a + (l + 4) * lead + i));
            turn_4x8(v);
            FOR(l, 4) vstore8(v[l], 0, left + (i + l) * PLACES + p);
        }
        for (; i < rows; i++)
            for (int l = 0; l < 8; l++) left[i * PLACES + p + l] = p + l < terms ? a[l * lead + i] : 0.0f;
    }
}

/* The first of what is left: how many bits below it are 0. What comes after doesn't wait for that number. */
static inline int next_place(ulong *places)
{
    ulong rest = *places - 1;
    int first = (int)popcount(~*places & rest);
    *places &= rest;
    return first;
}
