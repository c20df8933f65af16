/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_MAT_H
#define SORA_DATA_MAT_H

#include "base/status.h"

#include <stddef.h>

typedef enum sora_mat_kind {
    SORA_MAT_NUMBERS = 0, /* real, of any numeric class; empty arrays of any class are numbers too */
    SORA_MAT_TEXT,        /* a char array; values are character codes */
    SORA_MAT_STRUCT,
    SORA_MAT_OTHER, /* cells, objects, sparse and complex arrays: known to be there, not read */
} sora_mat_kind;

/* An array of rows × columns (further dimensions are folded into the columns), column by column as MATLAB has it. */
typedef struct sora_mat_array {
    sora_mat_kind kind;
    size_t rows, columns;
    double *values;               /* [rows · columns] of numbers and text; NULL where there are none */
    size_t field_count;           /* of a struct */
    char (*fields)[64];           /* [field_count] */
    struct sora_mat_array *items; /* [rows · columns][field_count] */
} sora_mat_array;

/* Reads one variable of a Level 5 MAT-file (MathWorks, "MAT-File Format", R2023b, chapter 1), compressed or not. Every size is
 * held against the bytes there are before it is believed, which matio, else the library for this, does not do: it follows broken
 * structs into unmapped memory. *out is the caller's (sora_mat_free). SORA_ERROR_INPUT names the file and what is wrong. */
sora_status sora_mat_read(const char *path, const char *variable, sora_mat_array *out, sora_error *error);
void sora_mat_free(sora_mat_array *array); /* accepts a zeroed one; zeroes it */

/* The field of element `index` of a struct array; NULL where there is none. */
const sora_mat_array *sora_mat_field(const sora_mat_array *array, size_t index, const char *name);

#endif
