/* SPDX-License-Identifier: Apache-2.0 */
#include "data/hands_scene.h"

static float between(sora_random_stream *s, float low, float high)
{
    return low + (high - low) * (float)sora_random_uniform(s);
}

static bool chance(sora_random_stream *s, double share)
{
    return sora_random_uniform(s) < share;
}

static vec3 any_colour(sora_random_stream *s, float low, float high)
{
    float r = between(s, low, high), g = between(s, low, high), b = between(s, low, high);
    return rgb(r, g, b);
}

static vec3 skin_tone(sora_random_stream *s)
{
    vec3 pale = rgb(0.88f, 0.69f, 0.58f), brown = rgb(0.62f, 0.43f, 0.32f), dark = rgb(0.36f, 0.24f, 0.18f);
    float t = (float)sora_random_uniform(s);
    return t < 0.6f ? mix(pale, brown, t / 0.6f) : mix(brown, dark, (t - 0.6f) / 0.4f);
}

static sora_material cloth(sora_random_stream *s)
{
    static const sora_pattern patterns[] = { SORA_PATTERN_CLOUDS, SORA_PATTERN_STRIPES, SORA_PATTERN_GINGHAM,
                                             SORA_PATTERN_PLAIN };
    vec3 a = any_colour(s, 0.1f, 0.8f);
    return (sora_material) { .pattern = patterns[sora_random_below(s, 4)],
                             .a = a,
                             .b = scale(a, between(s, 0.3f, 0.8f)),
                             .size = between(s, 0.8f, 2.5f),
                             .seed = sora_random_u32(s) };
}

static sora_look look_of(sora_random_stream *s, bool bare)
{
    sora_look look = {
        .skin = skin_tone(s), .hair = between(s, 0.0f, 0.7f), .size = between(s, 0.9f, 1.15f), .seed = sora_random_u32(s)
    };
    look.sleeve = bare || chance(s, 0.35) ? 30.0f : between(s, 0.5f, 9.0f);
    look.cloth = cloth(s);
    return look;
}

static void light_of(sora_paint *p, sora_random_stream *s, vec3 tint)
{
    float strength = between(s, 0.55f, 0.85f);
    p->light = unit(vec(between(s, -0.8f, 0.8f), between(s, -0.4f, 0.8f), 1.0f));
    p->key = scale(tint, strength);
    p->sky = scale(vec(0.36f, 0.38f, 0.42f), between(s, 0.8f, 1.2f));
    p->bounce = vec(0.2f, 0.18f, 0.15f);
}

static void plane(sora_paint *p, const sora_material *m, float left, float right, float near, float far, float z)
{
    vec3 corners[4] = { vec(left, near, z), vec(right, near, z), vec(right, far, z), vec(left, far, z) };
    sora_paint_polygon(p, corners, 4, m, 0.0f);
}

/* A flat or standing box about a place on the table, turned by any angle. */
static void box(sora_paint *p, vec3 at, float width, float depth, float height, float c, float s, const sora_material *side,
                const sora_material *top)
{
    vec3 base[4];
    static const float corner[4][2] = { { -0.5f, -0.5f }, { 0.5f, -0.5f }, { 0.5f, 0.5f }, { -0.5f, 0.5f } };
    for (int i = 0; i < 4; i++) {
        float u = corner[i][0] * width, v = corner[i][1] * depth;
        base[i] = vec(at.x + c * u - s * v, at.y + s * u + c * v, at.z);
    }
    sora_paint_prism(p, base, 4, height, 1.0f, side, top);
}

/* A direction without sine and cosine, so that it is the same everywhere. */
static void direction(sora_random_stream *s, float *c, float *sine)
{
    vec3 v;
    do v = vec(between(s, -1.0f, 1.0f), between(s, -1.0f, 1.0f), 0.0f);
    while (dot(v, v) > 1.0f || dot(v, v) < 0.01f);
    v = unit(v);
    *c = v.x;
    *sine = v.y;
}

static void round_thing(sora_paint *p, vec3 at, float radius, float height, float taper, const sora_material *side,
                        const sora_material *top)
{
    /* A regular twelve-corner prism, its corners by repeated turning. */
    vec3 base[12], spoke = vec(radius, 0.0f, 0.0f);
    for (int i = 0; i < 12; i++) {
        base[i] = add(at, spoke);
        spoke = vec(0.8660254f * spoke.x - 0.5f * spoke.y, 0.5f * spoke.x + 0.8660254f * spoke.y, 0.0f);
    }
    sora_paint_prism(p, base, 12, height, taper, side, top);
}

static sora_arm arm_of(sora_random_stream *s, bool left, bool mine, uint8_t owner, bool whole, float reach)
{
    static const sora_grasp grasps[] = { SORA_GRASP_OPEN,  SORA_GRASP_REST, SORA_GRASP_FIST,
                                         SORA_GRASP_POINT, SORA_GRASP_GRIP, SORA_GRASP_PINCH };
    float side = left == mine ? -1.0f : 1.0f, way = mine ? 1.0f : -1.0f;
    float x = side * between(s, 2.0f, 17.0f), y = mine ? between(s, -14.0f, 2.0f) + reach : between(s, 20.0f, 34.0f);
    sora_arm arm = { .left = left, .owner = owner, .whole = whole };
    arm.wrist = vec(x, y, between(s, 2.5f, 7.0f));
    arm.elbow = vec(x + side * between(s, 4.0f, 14.0f), y - way * between(s, 21.0f, 25.0f), between(s, 3.0f, 10.0f));
    arm.roll = between(s, -0.4f, 1.2f);
    if (chance(s, 0.12)) arm.roll = between(s, 2.3f, 3.0f);
    arm.bend = between(s, -0.35f, 0.45f);
    arm.lift = between(s, -0.3f, 0.35f);
    arm.pose = sora_pose_of(grasps[sora_random_below(s, 6)], s);
    return arm;
}

/* ---- The table --------------------------------------------------------------------------------------------------- */

static sora_material table_top(sora_random_stream *s)
{
    vec3 wood = rgb(between(s, 0.4f, 0.75f), between(s, 0.28f, 0.5f), between(s, 0.16f, 0.34f));
    switch (sora_random_below(s, 5)) {
    case 0:
        return (sora_material) { .pattern = SORA_PATTERN_SPECKLE,
                                 .a = any_colour(s, 0.45f, 0.75f),
                                 .b = any_colour(s, 0.2f, 0.45f),
                                 .size = 0.5f,
                                 .seed = sora_random_u32(s) };
    case 1:
        return (sora_material) { .pattern = SORA_PATTERN_CLOUDS,
                                 .a = rgb(0.3f, 0.42f, 0.2f),
                                 .b = rgb(0.18f, 0.3f, 0.12f),
                                 .size = 3.0f,
                                 .seed = sora_random_u32(s) };
    default:
        return (sora_material) { .pattern = SORA_PATTERN_WOOD,
                                 .a = wood,
                                 .b = scale(wood, 0.6f),
                                 .size = chance(s, 0.5) ? 12.0f : 0.0f,
                                 .gloss = 0.15f,
                                 .seed = sora_random_u32(s) };
    }
}

static void game(sora_paint *p, sora_random_stream *s, uint32_t kind)
{
    sora_material paper = { .pattern = SORA_PATTERN_CARD,
                            .a = rgb(0.95f, 0.94f, 0.9f),
                            .b = rgb(0.75f, 0.1f, 0.1f),
                            .rim = 0.15f,
                            .rim_colour = rgb(0.7f, 0.7f, 0.7f) };
    sora_material wood = { .pattern = SORA_PATTERN_WOOD, .a = rgb(0.85f, 0.7f, 0.48f), .b = rgb(0.7f, 0.52f, 0.32f) };
    sora_material board = {
        .pattern = SORA_PATTERN_CHECKER, .a = rgb(0.85f, 0.78f, 0.62f), .b = rgb(0.3f, 0.2f, 0.13f), .size = 3.2f
    };
    float c, sine;
    if (kind == 1) {
        direction(s, &c, &sine);
        box(p, vec(between(s, -4.0f, 4.0f), between(s, 6.0f, 12.0f), 0.0f), 26.0f, 26.0f, 0.6f, 1.0f, 0.0f, &wood, &board);
    }
    for (int i = 0, n = kind == 1 ? 9 : 12; i < n; i++) {
        vec3 at = vec(between(s, -22.0f, 22.0f), between(s, -6.0f, 26.0f), 0.0f);
        direction(s, &c, &sine);
        paper.seed = sora_random_u32(s);
        if (kind == 0)
            box(p, at, 6.3f, 8.8f, 0.1f, c, sine, &paper, &paper);
        else if (kind == 1) {
            sora_material piece = { .pattern = SORA_PATTERN_PLAIN,
                                    .a = i % 2 ? rgb(0.9f, 0.86f, 0.76f) : rgb(0.15f, 0.12f, 0.1f),
                                    .gloss = 0.4f };
            round_thing(p, vec(at.x * 0.5f, at.y * 0.7f + 3.0f, 0.6f), 1.1f, between(s, 3.0f, 6.0f), 0.5f, &piece, &piece);
        } else if (kind == 2)
            box(p, vec(at.x * 0.6f, at.y, (float)(i % 4) * 1.5f), 7.5f, 2.5f, 1.5f, c, sine, &wood, &wood);
        else {
            sora_material piece = { .pattern = SORA_PATTERN_PUZZLE,
                                    .a = rgb(0.4f, 0.55f, 0.75f),
                                    .b = rgb(0.25f, 0.4f, 0.2f),
                                    .size = 4.0f,
                                    .seed = sora_random_u32(s) };
            box(p, at, between(s, 3.0f, 9.0f), between(s, 3.0f, 9.0f), 0.2f, c, sine, &piece, &piece);
        }
    }
}

static void table_things(sora_paint *p, sora_random_stream *video, sora_random_stream *frame)
{
    sora_random_stream room = *video, pose = *frame;
    sora_material top = table_top(&room), wall = { .pattern = SORA_PATTERN_CLOUDS,
                                                   .a = any_colour(&room, 0.3f, 0.8f),
                                                   .b = any_colour(&room, 0.15f, 0.6f),
                                                   .size = 25.0f,
                                                   .seed = 5 };
    sora_look me = look_of(&room, false), you = look_of(&room, false);
    sora_material shirt = you.cloth;
    uint32_t kind = sora_random_below(&room, 4);
    float edge = between(&room, 42.0f, 55.0f);
    if (!p->casting) sora_paint_backdrop(p, &wall, 30.0f, 0.5f);
    /* The other person's trunk behind the table. */
    box(p, vec(between(&pose, -5.0f, 5.0f), edge + 16.0f, -20.0f), 42.0f, 18.0f, 62.0f, 1.0f, 0.0f, &shirt, &shirt);
    plane(p, &top, -90.0f, 90.0f, -60.0f, edge, 0.0f);
    game(p, &pose, kind);
    static const struct {
        uint8_t owner;
        bool left, mine;
        double share;
    } arms[] = { { SORA_YOUR_LEFT, true, false, 0.8 },
                 { SORA_YOUR_RIGHT, false, false, 0.85 },
                 { SORA_MY_LEFT, true, true, 0.75 },
                 { SORA_MY_RIGHT, false, true, 0.85 } };
    for (int i = 0; i < 4; i++) {
        sora_arm arm = arm_of(&pose, arms[i].left, arms[i].mine, arms[i].owner, false, 0.0f);
        if (chance(&pose, arms[i].share)) sora_arm_draw(p, &arm, arms[i].mine ? &me : &you);
    }
}

static sora_random_stream stream_of(uint64_t seed, uint32_t step, uint32_t kind, uint32_t sample)
{
    return (sora_random_stream) { .seed = seed, .purpose = SORA_PURPOSE_DRAW, .step = step, .stream = kind, .sample = sample };
}

sora_status sora_scene_table(sora_paint *paint, uint64_t seed, uint32_t video, uint32_t frame, sora_image *out, sora_error *error)
{
    sora_random_stream of_video = stream_of(seed, video, 1, 0), of_frame = stream_of(seed, video, 2, frame),
                       camera = stream_of(seed, video, 3, frame);
    sora_random_stream lamp = stream_of(seed, video, 4, 0);
    vec3 eye = vec(between(&camera, -5.0f, 5.0f), between(&camera, -34.0f, -26.0f), between(&camera, 40.0f, 50.0f));
    vec3 target = vec(between(&camera, -4.0f, 4.0f), between(&camera, 8.0f, 15.0f), 0.0f);
    sora_paint_begin(paint, eye, target, between(&camera, -0.08f, 0.08f), 1.15f);
    light_of(paint, &lamp, vec(1.0f, 0.93f, 0.82f));
    for (int pass = 0; pass < 2; pass++) {
        paint->casting = pass == 0;
        table_things(paint, &of_video, &of_frame);
    }
    sora_finish finish = { .cast = vec(1.04f, 1.0f, 0.95f),
                           .contrast = 0.2f,
                           .vignette = 0.15f,
                           .blur = 0.25f,
                           .noise = 1.5f,
                           .seed = sora_random_u32(&camera) };
    return sora_paint_finish(paint, &finish, out, error);
}

/* ---- The kitchen ------------------------------------------------------------------------------------------------- */

static void food(sora_paint *p, sora_random_stream *s)
{
    for (int i = 0; i < 9; i++) {
        vec3 at = vec(between(s, -26.0f, 26.0f), between(s, -4.0f, 30.0f), 0.0f);
        float c, sine;
        direction(s, &c, &sine);
        sora_material m = { .pattern = i % 2 ? SORA_PATTERN_PLAIN : SORA_PATTERN_CLOUDS,
                            .a = any_colour(s, 0.2f, 0.95f),
                            .b = any_colour(s, 0.1f, 0.7f),
                            .size = 2.0f,
                            .gloss = between(s, 0.0f, 0.5f),
                            .seed = sora_random_u32(s) };
        sora_material pale = { .pattern = SORA_PATTERN_SPECKLE,
                               .a = rgb(0.93f, 0.9f, 0.82f),
                               .b = rgb(0.8f, 0.72f, 0.55f),
                               .size = 0.6f,
                               .seed = sora_random_u32(s) };
        switch (sora_random_below(s, 4)) {
        case 0: round_thing(p, at, between(s, 2.5f, 4.5f), between(s, 7.0f, 15.0f), 0.9f, &m, &pale); break;
        case 1: round_thing(p, at, between(s, 7.0f, 11.0f), between(s, 0.8f, 5.0f), 1.25f, &pale, &m); break;
        case 2: box(p, at, 11.0f, 10.0f, 1.4f, c, sine, &pale, &pale); break;
        default: box(p, at, between(s, 1.0f, 1.6f), between(s, 14.0f, 20.0f), 0.5f, c, sine, &m, &m); break;
        }
    }
}

static void kitchen_things(sora_paint *p, sora_random_stream *subject, sora_random_stream *activity, sora_random_stream *frame)
{
    sora_random_stream person = *subject, room = *activity, pose = *frame;
    sora_look me = look_of(&person, true);
    me.skin = mix(me.skin, rgb(0.9f, 0.6f, 0.5f), 0.25f);
    sora_material top = { .pattern = chance(&room, 0.5) ? SORA_PATTERN_TILES : SORA_PATTERN_GINGHAM,
                          .a = any_colour(&room, 0.6f, 0.95f),
                          .b = any_colour(&room, 0.35f, 0.75f),
                          .size = between(&room, 5.0f, 15.0f),
                          .gloss = 0.2f,
                          .seed = sora_random_u32(&room) };
    sora_material floor = {
        .pattern = SORA_PATTERN_CLOUDS, .a = rgb(0.25f, 0.25f, 0.28f), .b = rgb(0.15f, 0.15f, 0.17f), .size = 20.0f, .seed = 9
    };
    if (!p->casting) sora_paint_backdrop(p, &floor, 30.0f, 0.3f);
    plane(p, &top, -90.0f, 90.0f, -60.0f, between(&room, 34.0f, 60.0f), 0.0f);
    food(p, &room);
    for (int i = 0; i < 2; i++) {
        sora_arm arm = arm_of(&pose, i == 0, true, i == 0 ? SORA_MY_LEFT : SORA_MY_RIGHT, true, 6.0f);
        if (chance(&pose, 0.93)) sora_arm_draw(p, &arm, &me);
    }
}

sora_status sora_scene_kitchen(sora_paint *paint, uint64_t seed, uint32_t subject, uint32_t activity, uint32_t frame,
                               sora_image *out, sora_error *error)
{
    sora_random_stream person = stream_of(seed, subject, 11, 0), room = stream_of(seed, subject, 12, activity),
                       pose = stream_of(seed, subject * 64 + activity, 13, frame);
    sora_random_stream camera = stream_of(seed, subject * 64 + activity, 14, frame),
                       lamp = stream_of(seed, subject, 15, activity);
    vec3 eye = vec(between(&camera, -6.0f, 6.0f), between(&camera, -24.0f, -16.0f), between(&camera, 42.0f, 54.0f));
    vec3 target = vec(between(&camera, -4.0f, 4.0f), between(&camera, 6.0f, 12.0f), 0.0f);
    sora_paint_begin(paint, eye, target, between(&camera, -0.15f, 0.15f), 1.25f);
    light_of(paint, &lamp, vec(0.86f, 0.97f, 1.0f));
    for (int pass = 0; pass < 2; pass++) {
        paint->casting = pass == 0;
        kitchen_things(paint, &person, &room, &pose);
    }
    sora_finish finish = { .cast = vec(0.9f, 1.02f, 1.1f),
                           .contrast = 0.45f,
                           .vignette = 0.35f,
                           .blur = 0.6f,
                           .noise = 4.0f,
                           .seed = sora_random_u32(&camera) };
    return sora_paint_finish(paint, &finish, out, error);
}
