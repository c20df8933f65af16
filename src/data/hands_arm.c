/* SPDX-License-Identifier: Apache-2.0 */
#include "data/hands_arm.h"

/* A hand of 18.5 cm in its own frame, in cm: x towards the little finger of a right hand, y from the wrist to the fingers,
 * z out of its back. Proportions after Buryanov and Kotiuk, Proportions of hand segments, Int. J. Morphol. 28(3), 2010. */

enum { TRUNK = 13, FINGERS = 5, THUMB = 0 };

static const vec3 knuckles[4] = { { -2.9f, 9.0f, 0 }, { -0.8f, 9.5f, 0.25f }, { 1.2f, 9.1f, 0.15f }, { 3.0f, 8.1f, -0.15f } };
static const float phalanges[4][3] = { { 4.4f, 2.6f, 1.9f }, { 5.0f, 3.0f, 2.0f }, { 4.6f, 2.8f, 2.0f }, { 3.6f, 2.1f, 1.8f } };
static const float radii[4][4] = {
    { 1.02f, 0.92f, 0.82f, 0.68f }, { 1.04f, 0.94f, 0.84f, 0.70f }, { 0.98f, 0.88f, 0.78f, 0.66f }, { 0.88f, 0.76f, 0.68f, 0.58f }
};

typedef struct anatomy {
    vec3 origin, across, along, back; /* the hand's frame in the world */
    float size;
    vec3 joint[FINGERS][4], dorsal[FINGERS]; /* knuckle, two joints, tip; where the nail looks to */
    vec3 forearm;                            /* unit vector from elbow to wrist */
    float forearm_length;
    const sora_look *look;
} anatomy;

sora_pose sora_pose_of(sora_grasp grasp, sora_random_stream *random)
{
    static const sora_pose poses[SORA_GRASPS] = {
        [SORA_GRASP_OPEN] = { { 0.06f, 0.04f, 0.06f, 0.10f }, 0.9f, 0.05f, 0.05f },
        [SORA_GRASP_REST] = { { 0.26f, 0.30f, 0.36f, 0.40f }, 0.4f, 0.35f, 0.25f },
        [SORA_GRASP_FIST] = { { 0.95f, 0.98f, 0.98f, 0.95f }, 0.0f, 0.85f, 0.65f },
        [SORA_GRASP_POINT] = { { 0.08f, 0.88f, 0.94f, 0.94f }, 0.1f, 0.75f, 0.6f },
        [SORA_GRASP_GRIP] = { { 0.52f, 0.55f, 0.58f, 0.60f }, 0.3f, 0.6f, 0.3f },
        [SORA_GRASP_PINCH] = { { 0.45f, 0.55f, 0.38f, 0.32f }, 0.3f, 0.62f, 0.35f },
    };
    sora_pose pose = poses[grasp];
    float together = (float)sora_random_uniform(random) - 0.5f;
    for (int i = 0; i < 4; i++)
        pose.curl[i] = clamp01(pose.curl[i] + 0.16f * together + 0.12f * ((float)sora_random_uniform(random) - 0.5f));
    pose.spread = clamp01(pose.spread + 0.5f * ((float)sora_random_uniform(random) - 0.5f));
    pose.oppose = clamp01(pose.oppose + 0.3f * ((float)sora_random_uniform(random) - 0.5f));
    pose.thumb = clamp01(pose.thumb + 0.3f * ((float)sora_random_uniform(random) - 0.5f));
    return pose;
}

static vec3 to_world(const anatomy *a, vec3 v)
{
    return add(scale(a->across, v.x), add(scale(a->along, v.y), scale(a->back, v.z)));
}

static vec3 place(const anatomy *a, vec3 v)
{
    return add(a->origin, scale(to_world(a, v), a->size));
}

static void bend_finger(anatomy *a, int finger, const sora_pose *pose)
{
    float curl = pose->curl[finger], fan = (0.06f + 0.16f * pose->spread) * (1 - 0.7f * curl);
    float sideways = ((float)finger - 1.3f) * fan;
    vec3 axis = sora_paint_turn(vec(1, 0, 0), vec(0, 0, 1), -sideways),
         direction = sora_paint_turn(vec(0, 1, 0), vec(0, 0, 1), -sideways);
    float angles[3] = { 0.06f + 1.35f * curl, 0.10f + 1.65f * curl, 0.05f + 1.05f * curl };
    vec3 at = knuckles[finger];
    a->joint[finger + 1][0] = place(a, at);
    for (int i = 0; i < 3; i++) {
        direction = sora_paint_turn(direction, axis, -angles[i]);
        at = add(at, scale(direction, phalanges[finger][i]));
        a->joint[finger + 1][i + 1] = place(a, at);
    }
    a->dorsal[finger + 1] = to_world(a, cross(axis, direction));
}

static void bend_thumb(anatomy *a, const sora_pose *pose)
{
    float o = pose->oppose, bent = pose->thumb;
    vec3 metacarpal = unit(mix(vec(-0.72f, 0.68f, -0.15f), vec(-0.42f, 0.72f, -0.62f), o));
    vec3 proximal = unit(mix(vec(-0.48f, 0.86f, -0.10f), vec(0.10f, 0.92f, -0.30f), 0.7f * o + 0.3f * bent));
    vec3 distal = unit(mix(vec(-0.36f, 0.92f, -0.05f), vec(0.72f, 0.66f, -0.15f), 0.45f * o + 0.55f * bent));
    vec3 at = vec(-2.1f, 1.6f, -0.7f);
    a->joint[THUMB][0] = place(a, at);
    a->joint[THUMB][1] = place(a, at = add(at, scale(metacarpal, 4.4f)));
    a->joint[THUMB][2] = place(a, at = add(at, scale(proximal, 3.3f)));
    a->joint[THUMB][3] = place(a, add(at, scale(distal, 2.4f)));
    a->dorsal[THUMB] = to_world(a, unit(mix(vec(-0.5f, 0.1f, 0.85f), vec(-0.75f, 0.5f, 0.45f), o)));
}

static anatomy pose_hand(const sora_arm *arm, const sora_look *look)
{
    anatomy a = { .origin = arm->wrist, .size = look->size, .look = look };
    vec3 reach = sub(arm->wrist, arm->elbow);
    float mirror = arm->left ? -1.0f : 1.0f;
    a.forearm_length = length(reach);
    a.forearm = unit(reach);
    vec3 side = unit(cross(a.forearm, vec(0, 0, 1)));
    side = sora_paint_turn(side, a.forearm, arm->roll * mirror);
    vec3 back = cross(side, a.forearm);
    vec3 along = sora_paint_turn(a.forearm, back, arm->bend * mirror);
    a.along = sora_paint_turn(along, side, arm->lift);
    a.across = scale(unit(sub(side, scale(a.along, dot(side, a.along)))), mirror);
    a.back = scale(cross(a.across, a.along), mirror);
    for (int i = 0; i < 4; i++) bend_finger(&a, i, &arm->pose);
    bend_thumb(&a, &arm->pose);
    return a;
}

static void grow(sora_body *body, vec3 a, vec3 b, float ra, float rb, int chain)
{
    body->cones[body->count++] = (sora_cone) { a, b, ra, rb, chain };
}

static vec3 skin_surface(const sora_body *body, int cone, vec3 point, vec3 *normal, float *gloss)
{
    const anatomy *a = body->self;
    const sora_look *look = a->look;
    vec3 local = scale(sub(point, a->origin), 1 / a->size);
    float u = dot(local, a->across), v = dot(local, a->along), w = dot(local, a->back), facing = dot(*normal, a->back);
    float mottle = sora_paint_clouds(look->seed, u * 0.9f + 40, (v + w) * 0.9f, 2) - 0.5f;
    if (look->glove && v > -5) {
        float crease = sora_paint_clouds(look->seed, u * 1.4f, (v + 0.5f * w) * 0.9f, 2) - 0.5f;
        *normal = unit(add(*normal, vec(0.9f * crease, -0.6f * crease, 0)));
        *gloss = 0.25f;
        return scale(look->glove_colour, v < -4.3f ? 0.75f : 1);
    }
    vec3 tone = scale(look->skin, 1 + 0.22f * mottle);
    /* Palms are lighter; blood shows in palms, knuckles and finger tips. */
    float palm = smooth(-facing * 1.5f) * smooth(v + 2), flush = 0.35f * palm;
    tone = mix(tone, mix(tone, rgb(0.86f, 0.66f, 0.58f), 0.55f), palm);
    float crease = 0;
    if (cone >= TRUNK) {
        int finger = (cone - TRUNK) / 3, segment = (cone - TRUNK) % 3;
        const vec3 *joint = a->joint[finger];
        vec3 axis = sub(joint[segment + 1], joint[segment]);
        float bone = length(axis) / a->size;
        axis = unit(axis);
        float s = dot(sub(point, joint[segment]), axis) / a->size;
        float to_joint = fminf(segment > 0 || finger == THUMB ? fabsf(s) : 9, segment < 2 ? fabsf(s - bone) : 9);
        flush += 0.35f / (1 + 2 * to_joint * to_joint) + (segment == 2 ? 0.3f * smooth(s / bone) : 0);
        crease = 0.22f * clamp01(1 - to_joint / 0.22f) + 0.12f * clamp01(1 - fabsf(to_joint - 0.45f) / 0.2f);
        vec3 dorsal = a->dorsal[finger];
        if (segment == 2 && dot(*normal, dorsal) > 0.2f) {
            vec3 side = cross(axis, dorsal);
            float x = dot(sub(point, joint[2]), side) / (0.62f * a->size), y = (s - bone * 0.78f) / 0.78f, r = x * x + y * y;
            if (r < 1) {
                *gloss = 0.28f;
                tone = mix(mix(tone, rgb(0.95f, 0.76f, 0.70f), 0.6f), rgb(0.97f, 0.92f, 0.86f), smooth((y - 0.45f) * 4));
                crease = 0.35f * smooth((r - 0.7f) * 4);
            }
        }
    } else {
        for (int i = 1; i < FINGERS; i++) {
            vec3 d = scale(sub(point, a->joint[i][0]), 1 / a->size);
            flush += facing > 0 ? 0.22f / (1 + dot(d, d)) : 0;
        }
        /* Tendons fan out from the wrist over the back; lines cross the palm. */
        float tendon = facing > 0.3f && v > 2 && v < 9 ? sora_paint_noise(look->seed + 3, (u / (4 + v)) * 14, 0.5f) - 0.5f : 0;
        *normal = unit(add(*normal, scale(a->across, 0.5f * tendon)));
        float bow = v - 6.6f + 0.12f * u * u, life = u + 2.2f - 0.07f * (v - 1) * (v - 1) + 2;
        if (facing < -0.3f && v > 1) crease = 0.22f * fmaxf(clamp01(1 - fabsf(bow) / 0.25f), clamp01(1 - fabsf(life) / 0.25f));
        crease += 0.12f * clamp01(1 - fabsf(v + 0.2f) / 0.25f);
        if (v < -2 && look->hair > 0) {
            float strands = sora_paint_noise(look->seed + 6, u * 7 + v * 2, v * 1.1f + u * 2);
            tone = scale(tone, 1 - 0.55f * look->hair * clamp01((strands - 0.55f) * 4) * smooth((-v - 2) / 4));
        }
    }
    vec3 pink = vec(tone.x * 1.04f, tone.y * 0.78f, tone.z * 0.76f);
    return scale(mix(tone, pink, clamp01(flush)), 1 - crease);
}

static vec3 cloth_surface(const sora_body *body, int cone, vec3 point, vec3 *normal, float *gloss)
{
    (void)cone, (void)gloss;
    const anatomy *a = body->self;
    const sora_material *cloth = &a->look->cloth;
    vec3 local = sub(point, a->origin);
    float along = -dot(local, a->forearm), around = dot(local, unit(cross(a->forearm, vec(0, 0, 1))));
    /* Folds run round the arm and are closer at the cuff. */
    float fold = sora_paint_clouds(cloth->seed + 11, along * 0.75f + around * 0.35f, around * 0.3f, 2) - 0.5f;
    *normal = unit(add(*normal, add(scale(a->forearm, 1.3f * fold), vec(0, 0, 0.3f * fold))));
    float cuff = along - a->look->sleeve, seam = clamp01(1 - fabsf(cuff - 2.2f) / 0.18f);
    return scale(sora_paint_texture(cloth, along, around, 0.2f), (1 - 0.35f * seam) * (0.9f + 0.5f * fold));
}

static void draw_skin(sora_paint *paint, const sora_arm *arm, const anatomy *a)
{
    sora_body body = { .blend = 0.75f * a->size,
                       .gloss = 0.07f,
                       .scatter = 1,
                       .arm = true,
                       .owner = arm->owner,
                       .surface = skin_surface,
                       .self = a };
    float s = a->size, puff = a->look->glove ? 1.08f : 1;
    static const vec3 carpals[4] = { { -1.5f, 0.6f, 0 }, { -0.5f, 0.4f, 0.15f }, { 0.6f, 0.4f, 0.1f }, { 1.5f, 0.7f, -0.1f } };
    for (int i = 0; i < 4; i++)
        grow(&body, place(a, carpals[i]), place(a, add(knuckles[i], vec(0, -0.6f, -0.15f))), 1.3f * s, 1.08f * s, 0);
    grow(&body, place(a, vec(-1.3f, 1.8f, -0.7f)), place(a, vec(-1.7f, 6.8f, -0.5f)), 1.5f * s, 1.3f * s, 0);
    grow(&body, place(a, vec(1.6f, 1.5f, -0.7f)), place(a, vec(2.4f, 6.2f, -0.5f)), 1.5f * s, 1.15f * s, 0);
    grow(&body, a->joint[THUMB][0], a->joint[THUMB][1], 1.65f * s, 1.25f * s, 0);
    grow(&body, place(a, vec(-2.2f, 5.2f, -0.5f)), mix(a->joint[THUMB][0], a->joint[THUMB][1], 0.75f), 0.95f * s, 0.95f * s, 0);
    vec3 back = scale(a->forearm, -1), side = unit(cross(a->forearm, a->back));
    float stations[4] = { 0, 5, 14, fmaxf(a->forearm_length, 20) }, thick[4] = { 1.62f, 1.9f, 2.75f, 3.2f },
          apart[4] = { 0.95f, 1.0f, 1.2f, 1.3f };
    for (int i = 0; i < 3; i++) {
        vec3 from = add(a->origin, scale(back, stations[i])), to = add(a->origin, scale(back, stations[i + 1]));
        if (i == 2) {
            grow(&body, from, to, (thick[2] + 0.55f) * s, (thick[3] + 0.6f) * s, 0);
            break;
        }
        for (int k = -1; k <= 1; k += 2)
            grow(&body, add(from, scale(side, (float)k * apart[i] * s)), add(to, scale(side, (float)k * apart[i + 1] * s)),
                 thick[i] * s, thick[i + 1] * s, 0);
    }
    for (int f = 0; f < FINGERS; f++)
        for (int i = 0; i < 3; i++) {
            static const float thumb[4] = { 1.25f, 1.08f, 0.98f, 0.72f };
            const float *r = f == THUMB ? thumb : radii[f - 1];
            int segment = f == THUMB && i == 0 ? 1 : i; /* the thumb's first bone is in the palm */
            grow(&body, a->joint[f][segment], a->joint[f][segment + 1], r[segment] * s * puff, r[segment + 1] * s * puff, f + 1);
        }
    if (!arm->whole) {
        body.cut = a->origin;
        body.along = unit(add(a->along, a->forearm));
    }
    sora_paint_body(paint, &body);
}

void sora_arm_draw(sora_paint *paint, const sora_arm *arm, const sora_look *look)
{
    anatomy a = pose_hand(arm, look);
    draw_skin(paint, arm, &a);
    if (look->sleeve >= a.forearm_length) return;
    sora_body sleeve = { .blend = 0.8f, .arm = true, .surface = cloth_surface, .self = &a };
    vec3 cuff = sub(a.origin, scale(a.forearm, look->sleeve)), hem = sub(cuff, scale(a.forearm, 1.6f));
    float wide = (2.9f + 0.09f * look->sleeve) * look->size;
    vec3 side = scale(unit(cross(a.forearm, a.back)), 0.9f);
    for (int k = -1; k <= 1; k += 2) {
        grow(&sleeve, add(cuff, scale(side, (float)k)), add(hem, scale(side, (float)k)), wide - 0.35f, wide, 0);
        grow(&sleeve, add(hem, scale(side, (float)k)), arm->elbow, wide - 0.15f, wide + 1.9f, 0);
    }
    sora_paint_body(paint, &sleeve);
}
