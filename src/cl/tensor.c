/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/tensor.h"

#include <stdio.h>

int64_t sora_shape_elements(const sora_shape *shape)
{
    if (shape->rank == 0) return 0;
    int64_t elements = 1;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] <= 0 || shape->dim[i] > INT32_MAX / elements) return -1;
        elements *= shape->dim[i];
    }
    return elements;
}

const char *sora_shape_text(const sora_shape *shape, char text[80])
{
    int at = snprintf(text, 80, shape->rank ? "%lld" : "absent", (long long)shape->dim[0]);
    for (int i = 1; i < shape->rank; i++) at += snprintf(text + at, 80 - (size_t)at, "x%lld", (long long)shape->dim[i]);
    return text;
}
