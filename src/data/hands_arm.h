/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_HANDS_ARM_H
#define SORA_DATA_HANDS_ARM_H

#include "base/random.h"
#include "data/hands_paint.h"

/* How a person's arms look: the same over all frames of a video. */
typedef struct sora_look {
    vec3 skin;
    float hair;   /* 0..1 on the forearm */
    float size;   /* 1: a hand of 18.5 cm */
    float sleeve; /* cm from the wrist to the cuff; 30 or more: bare arm */
    sora_material cloth;
    bool glove;
    vec3 glove_colour;
    uint32_t seed;
} sora_look;

typedef struct sora_pose {
    float curl[4];       /* index to little finger: 0 straight .. 1 in the palm */
    float spread;        /* 0 together .. 1 fanned */
    float oppose, thumb; /* thumb: 0 beside .. 1 across the palm; 0 straight .. 1 bent */
} sora_pose;

typedef enum sora_grasp {
    SORA_GRASP_OPEN,
    SORA_GRASP_REST,
    SORA_GRASP_FIST,
    SORA_GRASP_POINT,
    SORA_GRASP_GRIP,
    SORA_GRASP_PINCH,
    SORA_GRASPS,
} sora_grasp;

sora_pose sora_pose_of(sora_grasp grasp, sora_random_stream *random);

typedef struct sora_arm {
    bool left;
    vec3 wrist, elbow;
    float roll;       /* radians about the forearm: 0 back of the hand up, towards +pi/2 thumb up */
    float bend, lift; /* radians at the wrist: sideways towards the thumb, up */
    sora_pose pose;
    uint8_t owner; /* 1..4 */
    bool whole;    /* the forearm's skin belongs to the mask, else only the hand up to the wrist */
} sora_arm;

void sora_arm_draw(sora_paint *paint, const sora_arm *arm, const sora_look *look);

#endif
