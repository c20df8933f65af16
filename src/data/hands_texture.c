/* SPDX-License-Identifier: Apache-2.0 */
#include "data/hands_paint.h"

uint32_t sora_paint_hash(uint32_t x)
{
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

static float lattice(uint32_t seed, int x, int y)
{
    return (float)(sora_paint_hash(seed ^ (uint32_t)x * 0x9e3779b1u ^ (uint32_t)y * 0x85ebca77u) >> 8) * 0x1p-24f;
}

float sora_paint_noise(uint32_t seed, float x, float y)
{
    float fx = floorf(x), fy = floorf(y), u = smooth(x - fx), v = smooth(y - fy);
    int i = (int)fx, j = (int)fy;
    return lerp(lerp(lattice(seed, i, j), lattice(seed, i + 1, j), u),
                lerp(lattice(seed, i, j + 1), lattice(seed, i + 1, j + 1), u), v);
}

float sora_paint_clouds(uint32_t seed, float x, float y, int octaves)
{
    float sum = 0, weight = 0.5f, total = 0;
    for (int i = 0; i < octaves; i++) {
        sum += weight * sora_paint_noise(seed + (uint32_t)i, x, y);
        total += weight;
        weight *= 0.55f;
        x *= 2.1f;
        y *= 2.1f;
    }
    return sum / total;
}

/* Distance in cm from x to the nearest multiple of `period`. */
static float to_line(float x, float period)
{
    float t = x / period - floorf(x / period);
    return (t < 0.5f ? t : 1 - t) * period;
}

/* Coverage of a line of width `width` whose centre is `distance` away. */
static float line(float distance, float width, float pixel)
{
    float soft = pixel > 0.02f ? pixel : 0.02f;
    return clamp01((width / 2 - distance) / soft + 0.5f) * clamp01(width / soft);
}

static vec3 wood(const sora_material *m, float u, float v, float pixel)
{
    float board = m->size > 0 ? floorf(v / m->size) : 0, gap = 0, tone = 0;
    if (m->size > 0) {
        uint32_t id = m->seed + (uint32_t)(int)board * 77u;
        u += 50 * lattice(id, 1, 1);
        tone = 0.35f * (lattice(id, 2, 2) - 0.5f);
        gap = line(to_line(v, m->size), 0.18f, pixel);
    }
    float bend = v + 1.6f * sora_paint_noise(m->seed, u * 0.07f, v * 0.25f);
    float rings = sora_paint_clouds(m->seed + 3, u * 0.06f, bend * 0.9f, 3);
    float fine = sora_paint_noise(m->seed + 9, u * 0.35f, v * 5) * clamp01(0.25f / (pixel + 0.01f));
    vec3 colour = mix(m->a, m->b, clamp01(1.7f * (rings - 0.5f) + 0.5f + tone));
    return scale(colour, (0.9f + 0.2f * fine) * (1 - 0.6f * gap));
}

static vec3 speckle(const sora_material *m, float u, float v, float pixel)
{
    float fade = clamp01(m->size / (pixel + 0.001f) * 0.8f);
    float grain = sora_paint_noise(m->seed, u / m->size, v / m->size);
    float patch = sora_paint_noise(m->seed + 5, u / (m->size * 7), v / (m->size * 7));
    float dark = clamp01((grain - 0.62f) * 6) * fade, bright = clamp01((0.22f - grain) * 8) * fade;
    vec3 colour = scale(mix(m->a, m->b, dark), 0.85f + 0.3f * patch);
    return mix(colour, vec(0.8f, 0.8f, 0.78f), 0.35f * bright);
}

static float fields(float x, float period, float pixel)
{
    float t = x / (2 * period) - floorf(x / (2 * period));
    float edge = (t < 0.5f ? t : 1 - t) * 2 * period; /* 0 .. period, changes at period / 2 */
    return clamp01((edge - period / 2) / (pixel + 0.02f) + 0.5f);
}

static vec3 checker(const sora_material *m, float u, float v, float pixel)
{
    float a = fields(u - m->size / 2, m->size, pixel), b = fields(v - m->size / 2, m->size, pixel);
    float grain = 0.9f + 0.2f * sora_paint_noise(m->seed, u * 0.5f, v * 3);
    return scale(mix(m->a, m->b, a + b - 2 * a * b), grain);
}

static vec3 gingham(const sora_material *m, float u, float v, float pixel)
{
    float dark = 0.5f * fields(u, m->size / 2, pixel) + 0.5f * fields(v, m->size / 2, pixel);
    float weave = sora_paint_noise(m->seed, u * 6, v * 6) * clamp01(0.15f / (pixel + 0.01f));
    float fold = sora_paint_noise(m->seed + 1, u * 0.12f, v * 0.2f);
    return scale(mix(m->a, m->b, dark), 0.78f + 0.14f * weave + 0.22f * fold);
}

static vec3 tiles(const sora_material *m, float u, float v, float pixel)
{
    float joint = fmaxf(line(to_line(u, m->size), 0.35f, pixel), line(to_line(v, m->size), 0.35f, pixel));
    uint32_t id =
        sora_paint_hash(m->seed + (uint32_t)(int)floorf(u / m->size) * 31u + (uint32_t)(int)floorf(v / m->size) * 1009u);
    float tone = 0.88f + 0.2f * (float)(id & 255) / 255 - 0.05f * sora_paint_noise(m->seed, u, v);
    return mix(scale(m->a, tone), m->b, joint);
}

/* Face of a playing card about 6 x 9 cm: pips in two or three columns, or a back with a lattice (seed % 11 == 0). */
static vec3 card(const sora_material *m, float u, float v, float pixel)
{
    int value = (int)(m->seed % 11);
    float ink = 0;
    if (value == 0) {
        ink = fmaxf(fabsf(u) < 2.5f && fabsf(v) < 3.9f ? 0.75f : 0, 0);
        float diagonal = fminf(to_line(u + v, 0.9f), to_line(u - v, 0.9f));
        ink *= 1 - 0.6f * line(diagonal, 0.22f, pixel);
        return mix(m->a, m->b, ink);
    }
    int columns = value < 4 ? 1 : value == 5 || value > 8 ? 3 : 2, rows = (value + columns - 1) / columns;
    for (int i = 0; i < value; i++) {
        int row = i / columns, column = i % columns;
        float x = columns == 1 ? 0 : (float)column / (float)(columns - 1) * 2.8f - 1.4f;
        float y = rows == 1 ? 0 : (float)row / (float)(rows - 1) * 5.2f - 2.6f;
        ink = fmaxf(ink, clamp01((0.75f - fabsf(u - x) - 0.8f * fabsf(v - y)) / (pixel + 0.05f) + 0.5f));
    }
    ink = fmaxf(ink, clamp01((0.35f - fabsf(u + 2.4f) - 0.4f * fabsf(v - 3.6f)) / (pixel + 0.05f) + 0.5f));
    return mix(m->a, m->b, ink);
}

/* Sky, hills, water and a bright field, cut along wavy lines. */
static vec3 puzzle(const sora_material *m, float u, float v, float pixel)
{
    float hills = 3 * (sora_paint_noise(m->seed, u * 0.25f, 0.5f) - 0.5f),
          detail = sora_paint_clouds(m->seed + 4, u * 0.7f, v * 0.9f, 2);
    vec3 sky = mix(rgb(0.55f, 0.75f, 0.95f), rgb(0.97f, 0.95f, 0.92f), clamp01(2.4f * detail - 0.8f));
    vec3 ridge = mix(rgb(0.2f, 0.34f, 0.3f), rgb(0.45f, 0.5f, 0.3f), detail);
    vec3 field = detail > 0.55f ? m->a : mix(m->b, rgb(0.5f, 0.62f, 0.2f), 0.5f);
    float up = v - hills;
    vec3 colour = mix(mix(field, ridge, smooth(up + 2.5f)), sky, smooth(1.5f * (up - 2)));
    float wave_u = u + 0.35f * (sora_paint_noise(m->seed + 7, u * 1.3f, v * 1.3f) - 0.5f) * m->size;
    float wave_v = v + 0.35f * (sora_paint_noise(m->seed + 8, u * 1.3f, v * 1.3f) - 0.5f) * m->size;
    float seam = fmaxf(line(to_line(wave_u, m->size), 0.12f, pixel), line(to_line(wave_v, m->size), 0.12f, pixel));
    return scale(colour, 1 - 0.65f * seam);
}

vec3 sora_paint_texture(const sora_material *m, float u, float v, float pixel)
{
    switch (m->pattern) {
    case SORA_PATTERN_PLAIN: return scale(m->a, 0.95f + 0.1f * sora_paint_noise(m->seed, u * 0.08f, v * 0.08f));
    case SORA_PATTERN_WOOD: return wood(m, u, v, pixel);
    case SORA_PATTERN_SPECKLE: return speckle(m, u, v, pixel);
    case SORA_PATTERN_CHECKER: return checker(m, u, v, pixel);
    case SORA_PATTERN_GINGHAM: return gingham(m, u, v, pixel);
    case SORA_PATTERN_STRIPES: return mix(m->a, m->b, fields(u, m->size / 2, pixel));
    case SORA_PATTERN_TILES: return tiles(m, u, v, pixel);
    case SORA_PATTERN_CLOUDS: return mix(m->a, m->b, clamp01(2 * sora_paint_clouds(m->seed, u / m->size, v / m->size, 3) - 0.5f));
    case SORA_PATTERN_CARD: return card(m, u, v, pixel);
    case SORA_PATTERN_PUZZLE: return puzzle(m, u, v, pixel);
    }
    return m->a;
}
