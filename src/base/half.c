/* SPDX-License-Identifier: Apache-2.0 */
#include "base/half.h"

#include "base/status.h"

#include <string.h>

uint16_t sora_half_of(float value)
{
    uint32_t bits, sign, rest;
    memcpy(&bits, &value, sizeof bits);
    sign = bits >> 16 & 0x8000u;
    rest = bits & 0x7fffffffu;
    if (rest >= 0x47800000u) return (uint16_t)(sign | (rest > 0x7f800000u ? 0x7e00u : 0x7c00u));
    if (rest < 0x38800000u) {
        /* Below the normal numbers, steps are of 2^-24: the addition rounds. */
        float magnitude, shifted;
        memcpy(&magnitude, &rest, sizeof magnitude);
        shifted = magnitude + 0.5f;
        memcpy(&rest, &shifted, sizeof rest);
        return (uint16_t)(sign | (rest - 0x3f000000u));
    }
    rest += 0xfffu + (rest >> 13 & 1u);
    return (uint16_t)(sign | ((rest - 0x38000000u) >> 13));
}

float sora_half_value(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023, bits;
    float value = (float)fraction * 0x1p-24f;
    if (exponent == 0) return sign ? -value : value;
    bits = exponent == 31 ? sign | 0x7f800000u | fraction << 13 : sign | (exponent + 112) << 23 | fraction << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

sora_status sora_halves_of(const float *values, uint64_t count, const char *name, uint16_t *halves, sora_error *error)
{
    for (uint64_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, (const unsigned char *)values + i * sizeof value, sizeof value);
        uint16_t half = sora_half_of(value);
        if ((half & 0x7c00u) == 0x7c00u)
            return sora_fail(error, SORA_ERROR_NUMERIC, "%s: %g has no number in fp16; store the weights as fp32", name,
                             (double)value);
        memcpy((unsigned char *)halves + i * sizeof half, &half, sizeof half);
    }
    return SORA_OK;
}

void sora_halves_widen(const void *halves, uint64_t count, float *values)
{
    for (uint64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, (const unsigned char *)halves + i * sizeof half, sizeof half);
        float value = sora_half_value(half);
        memcpy((unsigned char *)values + i * sizeof value, &value, sizeof value);
    }
}
