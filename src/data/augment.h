/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_AUGMENT_H
#define SORA_DATA_AUGMENT_H

#include <stdbool.h>
#include <stdint.h>

/* One draw: flip, rotation, colour. Equal for equal (seed, epoch, sample). */
typedef struct sora_augmentation {
    bool flip;
    float cosine, sine;                     /* of a rotation of at most 10 degrees */
    float brightness, contrast, saturation; /* factors, 0.8 to 1.2 */
} sora_augmentation;

sora_augmentation sora_augmentation_none(void);
sora_augmentation sora_augmentation_draw(uint64_t seed, uint32_t epoch, uint32_t sample);

/* size × size RGB bytes and 0/255 mask to normalised planes [3][size][size] and a 0/1 mask [size][size]. The image is read
 * bilinear with its edges repeated, the mask by nearest neighbour with 0 outside; both at the same places. */
void sora_augment(const sora_augmentation *draw, int size, const uint8_t *rgb, const uint8_t *mask, const float mean[3],
                  const float deviation[3], float *image_out, float *mask_out);

#endif
