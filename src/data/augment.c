/* SPDX-License-Identifier: Apache-2.0 */
#include "data/augment.h"

#include "base/random.h"

#include <math.h>
#include <stddef.h>

#define LARGEST_ANGLE 0.17453292519943295 /* 10 degrees */
#define JITTER 0.2

sora_augmentation sora_augmentation_none(void)
{
    return (sora_augmentation) { false, 1.0f, 0.0f, 1.0f, 1.0f, 1.0f };
}

sora_augmentation sora_augmentation_draw(uint64_t seed, uint32_t epoch, uint32_t sample)
{
    sora_random_stream s = { .seed = seed, .purpose = SORA_PURPOSE_AUGMENT, .step = epoch, .sample = sample };
    sora_augmentation draw;
    draw.flip = sora_random_uniform(&s) < 0.5;
    double angle = LARGEST_ANGLE * (2.0 * sora_random_uniform(&s) - 1.0);
    draw.cosine = (float)cos(angle);
    draw.sine = (float)sin(angle);
    draw.brightness = (float)(1.0 + JITTER * (2.0 * sora_random_uniform(&s) - 1.0));
    draw.contrast = (float)(1.0 + JITTER * (2.0 * sora_random_uniform(&s) - 1.0));
    draw.saturation = (float)(1.0 + JITTER * (2.0 * sora_random_uniform(&s) - 1.0));
    return draw;
}

static float clamp(float v, float low, float high)
{
    return v < low ? low : v > high ? high : v;
}

static void sample_colour(const uint8_t *rgb, int size, float u, float v, float out[3])
{
    float x = clamp(u, 0.0f, (float)(size - 1)), y = clamp(v, 0.0f, (float)(size - 1));
    int x0 = (int)x, y0 = (int)y, x1 = x0 + 1 < size ? x0 + 1 : x0, y1 = y0 + 1 < size ? y0 + 1 : y0;
    float fx = x - (float)x0, fy = y - (float)y0;
    const uint8_t *a = rgb + 3 * ((size_t)y0 * (size_t)size + (size_t)x0),
                  *b = rgb + 3 * ((size_t)y0 * (size_t)size + (size_t)x1);
    const uint8_t *c = rgb + 3 * ((size_t)y1 * (size_t)size + (size_t)x0),
                  *d = rgb + 3 * ((size_t)y1 * (size_t)size + (size_t)x1);
    for (int k = 0; k < 3; k++) {
        float top = (float)a[k] + fx * (float)(b[k] - a[k]), bottom = (float)c[k] + fx * (float)(d[k] - c[k]);
        out[k] = top + fy * (bottom - top);
    }
}

static void jitter(const sora_augmentation *draw, float colour[3])
{
    float grey = 0.299f * colour[0] + 0.587f * colour[1] + 0.114f * colour[2];
    for (int k = 0; k < 3; k++) {
        float v = (grey + draw->saturation * (colour[k] - grey)) * draw->brightness;
        colour[k] = clamp(127.5f + draw->contrast * (v - 127.5f), 0.0f, 255.0f);
    }
}

void sora_augment(const sora_augmentation *draw, int size, const uint8_t *rgb, const uint8_t *mask, const float mean[3],
                  const float deviation[3], float *image_out, float *mask_out)
{
    size_t pixels = (size_t)size * (size_t)size;
    float centre = 0.5f * (float)(size - 1), scale[3];
    bool jitters = draw->brightness != 1.0f || draw->contrast != 1.0f || draw->saturation != 1.0f;
    for (int k = 0; k < 3; k++) scale[k] = 1.0f / (deviation[k] != 0.0f ? deviation[k] : 1.0f);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            float dx = (float)(draw->flip ? size - 1 - x : x) - centre, dy = (float)y - centre, colour[3];
            float u = centre + draw->cosine * dx - draw->sine * dy, v = centre + draw->sine * dx + draw->cosine * dy;
            size_t at = (size_t)y * (size_t)size + (size_t)x;
            sample_colour(rgb, size, u, v, colour);
            if (jitters) jitter(draw, colour);
            for (int k = 0; k < 3; k++) image_out[(size_t)k * pixels + at] = (colour[k] / 255.0f - mean[k]) * scale[k];
            int mx = (int)floorf(u + 0.5f), my = (int)floorf(v + 0.5f);
            bool inside = mx >= 0 && my >= 0 && mx < size && my < size;
            mask_out[at] = inside && mask[(size_t)my * (size_t)size + (size_t)mx] > 127 ? 1.0f : 0.0f;
        }
}
