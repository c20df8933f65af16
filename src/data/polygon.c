/* SPDX-License-Identifier: Apache-2.0 */
#include "data/polygon.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fill_span(sora_image *mask, int y, double from, double to)
{
    int first = (int)fmax(0.0, ceil(from - 1e-9)), last = (int)fmin(mask->width - 1.0, floor(to + 1e-9));
    if (last >= first) memset(mask->pixels + (size_t)y * (size_t)mask->width + (size_t)first, 255, (size_t)(last - first + 1));
}

sora_status sora_polygon_fill(sora_image *mask, const sora_polygon *polygon, sora_error *error)
{
    double *crossings = NULL;
    if (polygon->count < 3) return SORA_OK;
    sora_status status = sora_allocate(polygon->count, sizeof *crossings, "polygon", &crossings, error);
    if (status != SORA_OK) return status;
    for (int y = 0; y < mask->height; y++) {
        size_t found = 0;
        for (size_t i = 0; i < polygon->count; i++) {
            const double *a = polygon->points + 2 * i, *b = polygon->points + 2 * ((i + 1) % polygon->count);
            /* The half-open rule below, by which a corner counts once, leaves out what lies on lower corners and level edges. */
            if (a[1] == y) fill_span(mask, y, b[1] == y ? fmin(a[0], b[0]) : a[0], b[1] == y ? fmax(a[0], b[0]) : a[0]);
            if ((a[1] <= y) == (b[1] <= y)) continue;
            crossings[found++] = a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1]);
        }
        qsort(crossings, found, sizeof *crossings, rising);
        for (size_t i = 0; i + 1 < found; i += 2) fill_span(mask, y, crossings[i], crossings[i + 1]);
    }
    free(crossings);
    return SORA_OK;
}
