/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_POLYGON_H
#define SORA_DATA_POLYGON_H

#include "base/status.h"
#include "soracl/image.h"

#include <stddef.h>

typedef struct sora_polygon {
    double *points; /* x, y; pixel centres at whole numbers */
    size_t count;
} sora_polygon;

/* Sets every pixel whose centre lies inside (even-odd) or on the outline to 255. Parts outside the mask are cut off. */
sora_status sora_polygon_fill(sora_image *mask, const sora_polygon *polygon, sora_error *error);

#endif
