/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_BASE_HALF_H
#define SORA_BASE_HALF_H

#include "soracl/status.h"

#include <stdint.h>

/* IEEE 754's numbers of 16 bits. */

/* The nearest one, ties to even; what is too large becomes infinite. */
uint16_t sora_half_of(float value);
float sora_half_value(uint16_t half);

/* halves[count], which may stand in the values' own memory. SORA_ERROR_NUMERIC names `name` and the first value that is not
 * finite as a half. */
sora_status sora_halves_of(const float *values, uint64_t count, const char *name, uint16_t *halves, sora_error *error);

/* values[count] from as many halves, aligned or not, which may stand in the second half of the values' memory. */
void sora_halves_widen(const void *halves, uint64_t count, float *values);

#endif
