/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_HANDS_SCENE_H
#define SORA_DATA_HANDS_SCENE_H

#include "data/hands_arm.h"

/* Owners of pixels in paint->owner. */
enum { SORA_MY_LEFT = 1, SORA_MY_RIGHT, SORA_YOUR_LEFT, SORA_YOUR_RIGHT };

/* Two people at a table, as EgoHands has them: the hands count up to the wrist. One video is one pair of people, one place. */
sora_status sora_scene_table(sora_paint *paint, uint64_t seed, uint32_t video, uint32_t frame, sora_image *out,
                             sora_error *error);

/* One person at a kitchen's worktop, as GTEA has them: the bare forearms count too. One video is one subject's activity. */
sora_status sora_scene_kitchen(sora_paint *paint, uint64_t seed, uint32_t subject, uint32_t activity, uint32_t frame,
                               sora_image *out, sora_error *error);

#endif
