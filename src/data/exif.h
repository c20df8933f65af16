/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_EXIF_H
#define SORA_DATA_EXIF_H

#include <stddef.h>

/* Orientation (1 to 8) from a TIFF block ("II*\0..." or "MM\0*..."), as JPEG's APP1 behind "Exif\0\0" and PNG's eXIf hold one. 1
 * where there is none or the block is broken: a wrong guess turns no picture. */
int sora_exif_orientation(const unsigned char *block, size_t bytes);

#endif
