/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_HANDS_PAINT_H
#define SORA_DATA_HANDS_PAINT_H

#include "base/status.h"
#include "soracl/image.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* A small painter of 3-D scenes: textured convex polygons, prisms and bodies of tapered capsules over a depth buffer, with
 * analytic antialiasing and soft shadows on the table. World units are centimetres, x right, y away from the viewer, z up from
 * the table. Colours are linear light, display value = sqrt(linear). Only + - * / sqrt and floor are used, which IEEE 754 rounds
 * alike everywhere, so that a picture is the same on every platform. */

typedef struct vec3 {
    float x, y, z;
} vec3;

static inline vec3 vec(float x, float y, float z)
{
    return (vec3) { x, y, z };
}
static inline vec3 add(vec3 a, vec3 b)
{
    return vec(a.x + b.x, a.y + b.y, a.z + b.z);
}
static inline vec3 sub(vec3 a, vec3 b)
{
    return vec(a.x - b.x, a.y - b.y, a.z - b.z);
}
static inline vec3 scale(vec3 a, float s)
{
    return vec(a.x * s, a.y * s, a.z * s);
}
static inline vec3 mul(vec3 a, vec3 b)
{
    return vec(a.x * b.x, a.y * b.y, a.z * b.z);
}
static inline float dot(vec3 a, vec3 b)
{
    return a.x * b.x + a.y * b.y + a.z * b.z;
}
static inline vec3 cross(vec3 a, vec3 b)
{
    return vec(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
static inline float length(vec3 a)
{
    return sqrtf(dot(a, a));
}
static inline vec3 unit(vec3 a)
{
    float l = length(a);
    return l > 0 ? scale(a, 1 / l) : a;
}
static inline vec3 mix(vec3 a, vec3 b, float t)
{
    return add(a, scale(sub(b, a), t));
}
static inline float lerp(float a, float b, float t)
{
    return a + (b - a) * t;
}
static inline float clamp01(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}
static inline float smooth(float x)
{
    x = clamp01(x);
    return x * x * (3 - 2 * x);
}
/* Linear light of a display value. */
static inline vec3 rgb(float r, float g, float b)
{
    return vec(r * r, g * g, b * b);
}
/* Rotates v about the unit axis by an angle in -pi..pi. */
vec3 sora_paint_turn(vec3 v, vec3 axis, float angle);

/* Value noise in 0..1 with features of size 1, and the sum of its octaves. */
uint32_t sora_paint_hash(uint32_t x);
float sora_paint_noise(uint32_t seed, float x, float y);
float sora_paint_clouds(uint32_t seed, float x, float y, int octaves);

typedef enum sora_pattern {
    SORA_PATTERN_PLAIN,
    SORA_PATTERN_WOOD,    /* grain along u; planks of width `size`, 0 none */
    SORA_PATTERN_SPECKLE, /* granite, concrete: grains of `size` */
    SORA_PATTERN_CHECKER, /* fields of `size` */
    SORA_PATTERN_GINGHAM, /* woven checks of period `size` */
    SORA_PATTERN_STRIPES, /* across u, period `size` */
    SORA_PATTERN_TILES,   /* of `size`, joints in b */
    SORA_PATTERN_CLOUDS,  /* patches of `size`: grass, knitwear, crumb */
    SORA_PATTERN_CARD,    /* pips in b on a; seed chooses how many */
    SORA_PATTERN_PUZZLE,  /* a printed landscape cut in pieces of `size` */
} sora_pattern;

typedef struct sora_material {
    sora_pattern pattern;
    vec3 a, b;
    float size;  /* cm */
    float gloss; /* strength of the highlight */
    float rim;   /* width in cm of a border in rim_colour along the polygon's edge */
    vec3 rim_colour;
    uint32_t seed;
} sora_material;

/* `pixel` is the width of a pixel in cm there: what is finer fades. */
vec3 sora_paint_texture(const sora_material *material, float u, float v, float pixel);

typedef struct sora_cone {
    vec3 a, b;
    float ra, rb;
    int chain; /* chains melt into chain 0, never into each other: fingers and palm */
} sora_cone;

enum { SORA_CONES = 40, SORA_CHAINS = 6 };

typedef struct sora_body sora_body;
struct sora_body {
    sora_cone cones[SORA_CONES];
    int count;
    float blend; /* radius in cm of the fillets where cones meet */
    float gloss;
    float scatter;   /* 0 hard, 1 skin: light that comes through reddens the terminator */
    bool arm;        /* its shadow falls on objects too */
    uint8_t owner;   /* hand number 1..4; 0: not a hand */
    vec3 cut, along; /* the owner's pixels are those with (point - cut) . along >= 0 */
    /* Colour of the surface; may bend the normal and change the gloss. NULL: `colour`. */
    vec3 (*surface)(const sora_body *body, int cone, vec3 point, vec3 *normal, float *gloss);
    vec3 colour;
    const void *self;
};

typedef struct sora_finish {
    vec3 cast;      /* gain of each channel */
    float contrast; /* 0..1 of an S curve */
    float vignette; /* loss of light in the corners */
    float blur;     /* 0..1 of a 1-2-1 filter */
    float noise;    /* deviation in 8-bit steps */
    uint32_t seed;
} sora_finish;

typedef struct sora_paint {
    int width, height;
    vec3 *colour;
    float *depth;        /* of the nearest surface, along the optical axis */
    float *shadow[2];    /* 0 lit .. 1 dark on the table: by objects, by arms */
    uint8_t *owner;      /* hand number 1..4 that is seen, 0 none */
    uint8_t *crossed;    /* 1 where two hands lie over each other */
    float *near, *cover; /* of the body being drawn */
    uint8_t *cone;
    vec3 eye, right, up, forward;
    float focal;                  /* pixels */
    vec3 light, key, sky, bounce; /* unit vector to the light; colours of direct light and of light from above and below */
    bool casting;                 /* first pass: things only throw their shadows */
} sora_paint;

sora_status sora_paint_create(int width, int height, sora_paint *out, sora_error *error);
void sora_paint_free(sora_paint *paint);

/* Camera at `eye` that looks at `target`; `view` is the width in radians-like units: width / focal. Clears the buffers. */
void sora_paint_begin(sora_paint *paint, vec3 eye, vec3 target, float tilt, float view);

/* Pixel and depth of a point; direction of a pixel's ray with length 1 along the optical axis. */
vec3 sora_paint_project(const sora_paint *paint, vec3 point);
vec3 sora_paint_ray(const sora_paint *paint, float x, float y);
/* Light that leaves a surface towards the unit vector `view`. */
vec3 sora_paint_lit(const sora_paint *paint, vec3 albedo, vec3 normal, vec3 view, float gloss, float scatter);
/* Blends a fragment that is not behind depth + bias; takes the pixel over where it covers half of it. */
void sora_paint_put(sora_paint *paint, size_t pixel, float cover, float depth, float bias, vec3 colour, uint8_t owner);

/* Fills what lies behind everything with a function of the picture's coordinates in 0..1 (y down). */
void sora_paint_backdrop(sora_paint *paint, const sora_material *material, float size, float fade);

/* Convex planar polygon of at most 28 points; `soft` widens its edge in pixels (things out of focus). */
void sora_paint_polygon(sora_paint *paint, const vec3 *points, int count, const sora_material *material, float soft);

/* Base (counter-clockwise from above, parallel to the table), height, and the size of the top relative to the base's. */
void sora_paint_prism(sora_paint *paint, const vec3 *base, int count, float height, float taper, const sora_material *side,
                      const sora_material *top);

void sora_paint_body(sora_paint *paint, const sora_body *body);

/* Camera's faults; the result is RGB and the caller's. */
sora_status sora_paint_finish(const sora_paint *paint, const sora_finish *finish, sora_image *out, sora_error *error);

#endif
