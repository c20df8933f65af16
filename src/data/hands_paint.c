/* SPDX-License-Identifier: Apache-2.0 */
#include "data/hands_paint.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { POINTS = 32 };

vec3 sora_paint_turn(vec3 v, vec3 axis, float angle)
{
    /* Taylor series on a quarter of the angle, doubled twice: sinf and cosf differ between C libraries. */
    float q = angle / 4, q2 = q * q;
    float s = q * (1 - q2 / 6 * (1 - q2 / 20 * (1 - q2 / 42))), c = 1 - q2 / 2 * (1 - q2 / 12 * (1 - q2 / 30 * (1 - q2 / 56)));
    for (int i = 0; i < 2; i++) {
        float twice = 2 * s * c;
        c = 1 - 2 * s * s;
        s = twice;
    }
    return add(add(scale(v, c), scale(cross(axis, v), s)), scale(axis, dot(axis, v) * (1 - c)));
}

sora_status sora_paint_create(int width, int height, sora_paint *out, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t count = (size_t)width * (size_t)height;
    *out = (sora_paint) { .width = width, .height = height };
    SORA_TRY(sora_allocate(count, sizeof *out->colour, "picture", &out->colour, error));
    SORA_TRY(sora_allocate(count, sizeof *out->depth, "picture", &out->depth, error));
    SORA_TRY(sora_allocate(count, sizeof *out->near, "picture", &out->near, error));
    SORA_TRY(sora_allocate(count, sizeof *out->cover, "picture", &out->cover, error));
    for (int i = 0; i < 2; i++) SORA_TRY(sora_allocate(count, sizeof *out->shadow[i], "picture", &out->shadow[i], error));
    SORA_TRY(sora_allocate(count, 1, "picture", &out->owner, error));
    SORA_TRY(sora_allocate(count, 1, "picture", &out->crossed, error));
    SORA_TRY(sora_allocate(count, 1, "picture", &out->cone, error));
cleanup:
    if (status != SORA_OK) sora_paint_free(out);
    return status;
}

void sora_paint_free(sora_paint *paint)
{
    free(paint->colour);
    free(paint->depth);
    free(paint->near);
    free(paint->cover);
    for (int i = 0; i < 2; i++) free(paint->shadow[i]);
    free(paint->owner);
    free(paint->crossed);
    free(paint->cone);
    *paint = (sora_paint) { 0 };
}

void sora_paint_begin(sora_paint *p, vec3 eye, vec3 target, float tilt, float view)
{
    size_t count = (size_t)p->width * (size_t)p->height;
    p->eye = eye;
    p->forward = unit(sub(target, eye));
    p->right = sora_paint_turn(unit(cross(p->forward, vec(0, 0, 1))), p->forward, tilt);
    p->up = cross(p->right, p->forward);
    p->focal = (float)p->width / view;
    for (size_t i = 0; i < count; i++) p->depth[i] = 1e9f;
    for (int i = 0; i < 2; i++) memset(p->shadow[i], 0, count * sizeof *p->shadow[i]);
    memset(p->owner, 0, count);
    memset(p->crossed, 0, count);
}

vec3 sora_paint_project(const sora_paint *p, vec3 point)
{
    vec3 d = sub(point, p->eye);
    float depth = fmaxf(dot(d, p->forward), 1);
    float per = p->focal / depth;
    return vec((float)p->width / 2 + per * dot(d, p->right), (float)p->height / 2 - per * dot(d, p->up), depth);
}

vec3 sora_paint_ray(const sora_paint *p, float x, float y)
{
    vec3 across = scale(p->right, (x - (float)p->width / 2) / p->focal),
         upward = scale(p->up, ((float)p->height / 2 - y) / p->focal);
    return add(p->forward, add(across, upward));
}

vec3 sora_paint_lit(const sora_paint *p, vec3 albedo, vec3 normal, vec3 view, float gloss, float scatter)
{
    float facing = dot(normal, p->light), wrap = 0.12f + 0.25f * scatter;
    float direct = fmaxf(0, (facing + wrap) / (1 + wrap));
    /* Under skin red light travels farther than green and blue: it reaches over the edge of the shadow. */
    vec3 soaked =
        vec(direct, direct * lerp(1, 0.75f + 0.25f * direct, scatter), direct * lerp(1, 0.68f + 0.32f * direct, scatter));
    vec3 light = add(mul(p->key, soaked), mix(p->bounce, p->sky, 0.5f + 0.5f * normal.z));
    vec3 half = unit(add(p->light, view));
    float shine = fmaxf(0, dot(normal, half));
    shine *= shine, shine *= shine, shine *= shine, shine *= shine; /* ^16 */
    return add(mul(albedo, light), scale(p->key, gloss * shine));
}

void sora_paint_put(sora_paint *p, size_t i, float cover, float depth, float bias, vec3 colour, uint8_t owner)
{
    if (depth > p->depth[i] + bias) return;
    p->colour[i] = mix(p->colour[i], colour, cover);
    if (cover < 0.5f) return;
    p->depth[i] = depth;
    if (owner == 0 || p->owner[i] == 0) p->crossed[i] = 0;
    if (owner && p->owner[i] && p->owner[i] != owner) p->crossed[i] = 1;
    p->owner[i] = owner;
}

void sora_paint_backdrop(sora_paint *p, const sora_material *m, float size, float fade)
{
    if (p->casting) return;
    for (int y = 0; y < p->height; y++)
        for (int x = 0; x < p->width; x++) {
            float u = ((float)x / (float)p->width - 0.5f) * size, v = (float)y / (float)p->width * size;
            vec3 colour = sora_paint_texture(m, u, v, size / (float)p->width);
            p->colour[(size_t)y * (size_t)p->width + (size_t)x] = scale(colour, 1 - fade * (float)y / (float)p->height);
        }
}

/* Cuts away what lies less than 2 cm before the eye. */
static int clip_near(const sora_paint *p, const vec3 *points, int count, vec3 *out)
{
    int kept = 0;
    for (int i = 0; i < count; i++) {
        vec3 a = points[i], b = points[(i + 1) % count];
        float da = dot(sub(a, p->eye), p->forward) - 2, db = dot(sub(b, p->eye), p->forward) - 2;
        if (da >= 0) out[kept++] = a;
        if ((da >= 0) != (db >= 0)) out[kept++] = mix(a, b, da / (da - db));
    }
    return kept;
}

typedef struct outline {
    float a[POINTS], b[POINTS], c[POINTS]; /* signed distance to each edge in pixels, positive outside */
    int count;
    int left, top, right, bottom; /* pixels that may be touched: [left, right) */
} outline;

static bool outline_of(const sora_paint *p, const vec3 *points, int count, float margin, outline *out)
{
    vec3 clipped[POINTS], s[POINTS];
    count = clip_near(p, points, count, clipped);
    if (count < 3) return false;
    float area = 0, x0 = 1e9f, y0 = 1e9f, x1 = -1e9f, y1 = -1e9f;
    for (int i = 0; i < count; i++) {
        s[i] = sora_paint_project(p, clipped[i]);
        x0 = fminf(x0, s[i].x), x1 = fmaxf(x1, s[i].x), y0 = fminf(y0, s[i].y), y1 = fmaxf(y1, s[i].y);
    }
    for (int i = 0; i < count; i++) area += s[i].x * s[(i + 1) % count].y - s[(i + 1) % count].x * s[i].y;
    out->count = 0;
    for (int i = 0; i < count; i++) {
        vec3 from = s[i], to = s[(i + 1) % count];
        float dx = to.x - from.x, dy = to.y - from.y, l = sqrtf(dx * dx + dy * dy) * (area > 0 ? 1.0f : -1.0f);
        if (l == 0) continue;
        out->a[out->count] = dy / l;
        out->b[out->count] = -dx / l;
        out->c[out->count++] = (dx * from.y - dy * from.x) / l;
    }
    out->left = (int)fmaxf(0, floorf(x0 - margin));
    out->top = (int)fmaxf(0, floorf(y0 - margin));
    out->right = (int)fminf((float)p->width, x1 + margin + 1);
    out->bottom = (int)fminf((float)p->height, y1 + margin + 1);
    return out->left < out->right && out->top < out->bottom && out->count >= 3;
}

static float outside(const outline *o, float x, float y)
{
    float distance = -1e9f;
    for (int i = 0; i < o->count; i++) distance = fmaxf(distance, o->a[i] * x + o->b[i] * y + o->c[i]);
    return distance;
}

/* The hull of base and top is approximated by copies of the polygon on the way up. */
static void cast_prism(sora_paint *p, const vec3 *base, int count, float height, float taper)
{
    int steps = 1 + (int)fminf(6, height / 1.5f);
    vec3 middle = vec(0, 0, 0), shifted[POINTS];
    for (int i = 0; i < count; i++) middle = add(middle, scale(base[i], 1 / (float)count));
    for (int step = 0; step <= steps; step++) {
        float share = (float)step / (float)steps, z = middle.z + height * share;
        for (int i = 0; i < count; i++) {
            vec3 point = mix(middle, base[i], lerp(1, taper, share));
            shifted[i] = sub(vec(point.x, point.y, 0), scale(vec(p->light.x, p->light.y, 0), z / p->light.z));
        }
        float per = p->focal / sora_paint_project(p, shifted[0]).z, soft = (0.5f + 0.25f * z) * per,
              dark = 0.75f / (1 + 0.05f * z);
        outline o;
        if (!outline_of(p, shifted, count, soft, &o)) continue;
        for (int y = o.top; y < o.bottom; y++)
            for (int x = o.left; x < o.right; x++) {
                float *shadow = &p->shadow[0][(size_t)y * (size_t)p->width + (size_t)x];
                *shadow = fmaxf(*shadow, dark * smooth(0.5f - outside(&o, (float)x + 0.5f, (float)y + 0.5f) / (2 * soft)));
            }
    }
}

void sora_paint_polygon(sora_paint *p, const vec3 *points, int count, const sora_material *m, float soft)
{
    outline o;
    if (p->casting || !outline_of(p, points, count, 1 + soft, &o)) return;
    vec3 middle = vec(0, 0, 0);
    float highest = -1e9f;
    for (int i = 0; i < count; i++) {
        middle = add(middle, scale(points[i], 1 / (float)count));
        highest = fmaxf(highest, points[i].z);
    }
    vec3 normal = unit(cross(sub(points[1], points[0]), sub(points[2], points[0])));
    vec3 across = unit(sub(points[1], points[0])), along = cross(normal, across);
    float plane = dot(normal, sub(middle, p->eye));
    if (plane > 0) normal = scale(normal, -1);
    float objects = highest < 1 ? 1 : 0, width = 1 + 2 * soft; /* objects throw shadows on what lies flat */
    for (int y = o.top; y < o.bottom; y++)
        for (int x = o.left; x < o.right; x++) {
            float distance = outside(&o, (float)x + 0.5f, (float)y + 0.5f), cover = clamp01(0.5f - distance / width);
            if (cover <= 0) continue;
            size_t i = (size_t)y * (size_t)p->width + (size_t)x;
            vec3 ray = sora_paint_ray(p, (float)x + 0.5f, (float)y + 0.5f);
            float slope = plane > 0 ? -dot(normal, ray) : dot(normal, ray);
            float depth = plane / (fabsf(slope) > 1e-4f ? slope : 1e-4f);
            if (depth < 1 || depth > p->depth[i] + 0.2f) continue;
            vec3 point = add(p->eye, scale(ray, depth)), local = sub(point, middle);
            float pixel = depth / p->focal;
            vec3 albedo = sora_paint_texture(m, dot(local, across), dot(local, along), pixel);
            if (m->rim > 0) albedo = mix(albedo, m->rim_colour, clamp01((m->rim / pixel + distance) / 1.5f));
            vec3 colour = sora_paint_lit(p, albedo, normal, unit(scale(ray, -1)), m->gloss, 0);
            float lit = 1 - fmaxf(p->shadow[0][i] * objects, p->shadow[1][i] * (normal.z > 0.7f ? 1.0f : 0.0f));
            sora_paint_put(p, i, cover, depth, 0.2f, scale(colour, lit), 0);
        }
}

void sora_paint_prism(sora_paint *p, const vec3 *base, int count, float height, float taper, const sora_material *side,
                      const sora_material *top)
{
    if (p->casting) {
        cast_prism(p, base, count, height, taper);
        return;
    }
    vec3 middle = vec(0, 0, 0), lid[POINTS];
    for (int i = 0; i < count; i++) middle = add(middle, scale(base[i], 1 / (float)count));
    for (int i = 0; i < count; i++) lid[i] = add(mix(middle, base[i], taper), vec(0, 0, height));
    for (int i = 0; i < count; i++) {
        int next = (i + 1) % count;
        vec3 face[4] = { base[i], base[next], lid[next], lid[i] };
        vec3 normal = cross(sub(face[1], face[0]), sub(face[3], face[0]));
        if (dot(normal, sub(p->eye, face[0])) > 0) sora_paint_polygon(p, face, 4, side, 0);
    }
    if (top) sora_paint_polygon(p, lid, count, top, 0);
}

sora_status sora_paint_finish(const sora_paint *p, const sora_finish *f, sora_image *out, sora_error *error)
{
    int width = p->width, height = p->height;
    sora_status status = sora_image_create(width, height, 3, out, error);
    if (status != SORA_OK) return status;
    float side = f->blur / 4, middle = 1 - 2 * side;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            vec3 sum = vec(0, 0, 0);
            for (int j = -1; j <= 1; j++)
                for (int i = -1; i <= 1; i++) {
                    int u = SORA_MIN(SORA_MAX(x + i, 0), width - 1), v = SORA_MIN(SORA_MAX(y + j, 0), height - 1);
                    float weight = (i ? side : middle) * (j ? side : middle);
                    sum = add(sum, scale(p->colour[(size_t)v * (size_t)width + (size_t)u], weight));
                }
            size_t at = (size_t)y * (size_t)width + (size_t)x;
            float dx = ((float)x + 0.5f) / (float)width - 0.5f, dy = ((float)y + 0.5f) / (float)height - 0.5f;
            sum = mul(scale(sum, 1 - 2 * f->vignette * (dx * dx + dy * dy)), f->cast);
            float channel[3] = { sum.x, sum.y, sum.z };
            uint32_t word = sora_paint_hash(f->seed + (uint32_t)at * 3u);
            for (int c = 0; c < 3; c++) {
                float light = fmaxf(channel[c], 0), value = sqrtf(light * (1 + light * 0.15f) / (1 + light * 0.35f));
                value = lerp(value, smooth(value), f->contrast);
                word = sora_paint_hash(word + (uint32_t)c + 1u);
                /* Four bytes' sum is near enough to a normal deviate: mean 510, deviation 147.8. */
                float noise = (float)((word & 255) + (word >> 8 & 255) + (word >> 16 & 255) + (word >> 24)) / 147.8f - 3.45f;
                out->pixels[at * 3 + (size_t)c] = (uint8_t)(clamp01(value + noise * f->noise / 255) * 255 + 0.5f);
            }
        }
    return SORA_OK;
}
