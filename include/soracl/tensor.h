/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_TENSOR_H
#define SORACL_TENSOR_H

#include "soracl/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SORA_MAX_RANK 4

typedef enum sora_dtype { SORA_F32 = 0, SORA_I32, SORA_F16 } sora_dtype; /* 4, 4 and 2 bytes; F16 is for frozen weights alone */

/* Row-major, the first dimension outermost; images are N, C, H, W. rank 0 is "absent". A scalar is rank 1, dim {1}. */
typedef struct sora_shape {
    int rank;
    int64_t dim[SORA_MAX_RANK];
} sora_shape;

#define SORA_SHAPE(...) \
    ((sora_shape) { .rank = (int)(sizeof((int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t)), .dim = { __VA_ARGS__ } })

/* Product of the dimensions; 0 for an absent shape; −1 where it exceeds 2^31 − 1 or a dimension is not positive. */
SORA_API int64_t sora_shape_elements(const sora_shape *shape);

/* "8x3x256x256" into text, which is returned. */
SORA_API const char *sora_shape_text(const sora_shape *shape, char text[80]);

#ifdef __cplusplus
}
#endif
#endif
