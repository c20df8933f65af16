/* SPDX-License-Identifier: Apache-2.0 */
#include "data/hands_paint.h"

/* Bodies of tapered capsules. Each cone gives a height over the picture plane; the heights of connected cones are joined by a
 * smooth minimum, so that fingers grow out of a palm, and normals are differences of the joined surface. */

typedef struct projected {
    float x, y, dx, dy, per_length; /* start, extent, 1 / squared length */
    float radius, more, depth, deeper, thick, thicker;
    float left, top, right, bottom;
    int chain;
} projected;

static float join(float a, float b, float k)
{
    float h = fmaxf(k - fabsf(a - b), 0) / k;
    return fminf(a, b) - h * h * k / 4;
}

static void cast_cone(sora_paint *p, const sora_cone *cone, float *shadow)
{
    vec3 slide = scale(vec(p->light.x, p->light.y, 0), 1 / p->light.z);
    float za = fmaxf(cone->a.z, 0), zb = fmaxf(cone->b.z, 0);
    vec3 a = sora_paint_project(p, sub(vec(cone->a.x, cone->a.y, 0), scale(slide, za)));
    vec3 b = sora_paint_project(p, sub(vec(cone->b.x, cone->b.y, 0), scale(slide, zb)));
    float ra = cone->ra * p->focal / a.z, rb = cone->rb * p->focal / b.z;
    float sa = (0.5f + 0.28f * za) * p->focal / a.z, sb = (0.5f + 0.28f * zb) * p->focal / b.z;
    float margin = fmaxf(ra + sa, rb + sb), dx = b.x - a.x, dy = b.y - a.y, squared = dx * dx + dy * dy;
    int left = (int)fmaxf(0, fminf(a.x, b.x) - margin), right = (int)fminf((float)p->width, fmaxf(a.x, b.x) + margin + 1);
    int top = (int)fmaxf(0, fminf(a.y, b.y) - margin), bottom = (int)fminf((float)p->height, fmaxf(a.y, b.y) + margin + 1);
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++) {
            float px = (float)x + 0.5f - a.x, py = (float)y + 0.5f - a.y;
            float t = squared > 0 ? clamp01((px * dx + py * dy) / squared) : 0;
            float ex = px - t * dx, ey = py - t * dy, soft = lerp(sa, sb, t), reach = lerp(ra, rb, t) + soft;
            float squared_distance = ex * ex + ey * ey;
            if (squared_distance >= reach * reach) continue;
            float dark = 0.8f / (1 + 0.06f * lerp(za, zb, t)) * smooth((reach - sqrtf(squared_distance)) / (2 * soft));
            float *at = &shadow[(size_t)y * (size_t)p->width + (size_t)x];
            *at = fmaxf(*at, dark);
        }
}

static projected project(const sora_paint *p, const sora_cone *cone, float blend)
{
    vec3 a = sora_paint_project(p, cone->a), b = sora_paint_project(p, cone->b);
    float ra = cone->ra * p->focal / a.z, rb = cone->rb * p->focal / b.z;
    float margin = fmaxf(ra, rb) + blend * p->focal / fminf(a.z, b.z) + 1, dx = b.x - a.x, dy = b.y - a.y,
          squared = dx * dx + dy * dy;
    return (projected) {
        .x = a.x,
        .y = a.y,
        .dx = dx,
        .dy = dy,
        .per_length = squared > 1e-6f ? 1 / squared : 0,
        .radius = ra,
        .more = rb - ra,
        .depth = a.z,
        .deeper = b.z - a.z,
        .thick = cone->ra,
        .thicker = cone->rb - cone->ra,
        .left = fminf(a.x, b.x) - margin,
        .right = fmaxf(a.x, b.x) + margin,
        .top = fminf(a.y, b.y) - margin,
        .bottom = fmaxf(a.y, b.y) + margin,
        .chain = cone->chain,
    };
}

/* Distance in pixels to the cone's outline at parameter t, and depth of its surface. */
static void probe(const projected *c, float px, float py, float t, float *distance, float *depth)
{
    float ex = px - t * c->dx, ey = py - t * c->dy, away = sqrtf(ex * ex + ey * ey);
    float radius = c->radius + t * c->more, thick = c->thick + t * c->thicker, q = away / radius;
    *distance = away - radius;
    *depth = c->depth + t * c->deeper + (q < 1 ? -thick * sqrtf(1 - q * q) : 2 * thick * (q - 1));
}

typedef struct patch {
    int left, top, right, bottom;
} patch;

static patch cover_patch(sora_paint *p, const sora_body *body)
{
    projected cones[SORA_CONES];
    float x0 = 1e9f, y0 = 1e9f, x1 = 0, y1 = 0;
    for (int i = 0; i < body->count; i++) {
        cones[i] = project(p, &body->cones[i], body->blend);
        x0 = fminf(x0, cones[i].left), y0 = fminf(y0, cones[i].top), x1 = fmaxf(x1, cones[i].right),
        y1 = fmaxf(y1, cones[i].bottom);
    }
    patch area = { (int)fmaxf(0, x0), (int)fmaxf(0, y0), (int)fminf((float)p->width, x1 + 1),
                   (int)fminf((float)p->height, y1 + 1) };
    float fillet = fmaxf(body->blend, 0.01f), fillet_pixels = fillet * p->focal / fmaxf(cones[0].depth, 1);
    for (int y = area.top; y < area.bottom; y++)
        for (int x = area.left; x < area.right; x++) {
            float fx = (float)x + 0.5f, fy = (float)y + 0.5f, edge[SORA_CHAINS], depth[SORA_CHAINS], nearest = 1e9f;
            int winner = 0;
            for (int i = 0; i < SORA_CHAINS; i++) edge[i] = depth[i] = 1e8f;
            for (int i = 0; i < body->count; i++) {
                const projected *c = &cones[i];
                if (fx < c->left || fx > c->right || fy < c->top || fy > c->bottom) continue;
                float px = fx - c->x, py = fy - c->y, distance, surface, end_distance, end_surface;
                probe(c, px, py, clamp01((px * c->dx + py * c->dy) * c->per_length), &distance, &surface);
                /* A cone that points at the eye hides behind its nearer end. */
                probe(c, px, py, c->deeper > 0 ? 0 : 1, &end_distance, &end_surface);
                distance = fminf(distance, end_distance);
                surface = fminf(surface, end_surface);
                if (surface < nearest && distance < 1) nearest = surface, winner = i;
                bool trunk = c->chain == 0;
                edge[c->chain] = trunk ? join(edge[0], distance, fillet_pixels) : fminf(edge[c->chain], distance);
                depth[c->chain] = trunk ? join(depth[0], surface, fillet) : fminf(depth[c->chain], surface);
            }
            float outline = edge[0], surface = depth[0];
            for (int i = 1; i < SORA_CHAINS; i++) {
                outline = fminf(outline, join(edge[0], edge[i], fillet_pixels));
                surface = fminf(surface, join(depth[0], depth[i], fillet));
            }
            size_t at = (size_t)y * (size_t)p->width + (size_t)x;
            p->near[at] = surface;
            p->cover[at] = clamp01(0.5f - outline);
            p->cone[at] = (uint8_t)winner;
        }
    return area;
}

/* Of the differences to the two neighbours the smaller one: the other may cross the edge of a finger. */
static float slope(const sora_paint *p, size_t at, ptrdiff_t step, bool back, bool front)
{
    float here = p->near[at], low = back ? here - p->near[at - (size_t)step] : 0,
          high = front ? p->near[at + (size_t)step] - here : 0;
    if (!back) return high;
    if (!front) return low;
    if (fabsf(low - high) < 0.5f) return (low + high) / 2;
    return fabsf(low) < fabsf(high) ? low : high;
}

/* Share of the surroundings that stand higher: darkens the valleys between fingers. */
static float hollow(const sora_paint *p, patch area, int x, int y, int reach)
{
    static const int ring[8][2] = { { 2, 0 }, { -2, 0 }, { 0, 2 }, { 0, -2 }, { 1, 1 }, { -1, 1 }, { 1, -1 }, { -1, -1 } };
    float here = p->near[(size_t)y * (size_t)p->width + (size_t)x], sum = 0;
    for (int i = 0; i < 8; i++) {
        int u = x + ring[i][0] * reach / 2, v = y + ring[i][1] * reach / 2;
        if (u < area.left || u >= area.right || v < area.top || v >= area.bottom) continue;
        size_t at = (size_t)v * (size_t)p->width + (size_t)u;
        if (p->cover[at] > 0.5f) sum += clamp01((here - p->near[at]) / 1.2f);
    }
    return sum / 8;
}

void sora_paint_body(sora_paint *p, const sora_body *body)
{
    if (p->casting) {
        for (int i = 0; i < body->count; i++) cast_cone(p, &body->cones[i], p->shadow[body->arm]);
        return;
    }
    patch area = cover_patch(p, body);
    for (int y = area.top; y < area.bottom; y++)
        for (int x = area.left; x < area.right; x++) {
            size_t at = (size_t)y * (size_t)p->width + (size_t)x;
            float cover = p->cover[at], depth = p->near[at];
            if (cover <= 0 || depth > p->depth[at]) continue;
            vec3 ray = sora_paint_ray(p, (float)x + 0.5f, (float)y + 0.5f), point = add(p->eye, scale(ray, depth));
            bool left = x > area.left && p->cover[at - 1] > 0, right = x + 1 < area.right && p->cover[at + 1] > 0;
            bool above = y > area.top && p->cover[at - (size_t)p->width] > 0;
            bool below = y + 1 < area.bottom && p->cover[at + (size_t)p->width] > 0;
            /* Derivatives of eye + ray * depth by x and y. */
            vec3 across = add(scale(p->right, depth / p->focal), scale(ray, slope(p, at, 1, left, right)));
            vec3 down = add(scale(p->up, -depth / p->focal), scale(ray, slope(p, at, p->width, above, below)));
            vec3 normal = unit(cross(down, across));
            float gloss = body->gloss, pixel = depth / p->focal;
            vec3 albedo = body->surface ? body->surface(body, p->cone[at], point, &normal, &gloss) : body->colour;
            float shade = 1 - 0.75f * hollow(p, area, x, y, (int)fmaxf(2, 0.9f / pixel));
            vec3 colour = scale(sora_paint_lit(p, albedo, normal, unit(scale(ray, -1)), gloss, body->scatter), shade);
            uint8_t owner = dot(sub(point, body->cut), body->along) >= 0 ? body->owner : 0;
            sora_paint_put(p, at, cover, depth, 0, colour, owner);
        }
}
