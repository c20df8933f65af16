/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_TUNE_H
#define SORACL_TUNE_H

#include "soracl/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Products and convolutions can be done in several ways (variants); which is fastest depends on device and shape. Tuning takes
 * down the shapes of whatever runs meanwhile, measures every variant of each, and keeps what was clearly faster than the default
 * and right: checked against sums in double precision on the host. Where nothing was, an earlier choice is taken back. Choices are
 * kept in the cache folder by device and driver, and are used by every context from then on. One thread at a time. */

/* Between begin and end shapes are taken down; run what is to be tuned: one step is enough. */
SORA_API sora_status sora_tune_begin(sora_context *context, sora_error *error);
SORA_API void sora_tune_end(sora_context *context);

typedef struct sora_tune_row {
    char shape[96];                   /* "gemm 2048 x 512 x 512, B in panels" */
    char standard[48], best[48];      /* variants, as text */
    double standard_seconds, seconds; /* of one launch: the default's, the best's */
    int tried, wrong;                 /* variants: measured, refused because their result was wrong */
    bool changed;                     /* the best is kept as this shape's choice; else it has none, the default is taken */
} sora_tune_row;

typedef struct sora_tune_options {
    double budget; /* seconds; 0: none. Shapes that take most of the time come first, so what is left matters least */
    /* After each shape; false stops. May be NULL. */
    bool (*progress)(void *self, const sora_tune_row *row, size_t done, size_t count, double seconds_left);
    void *self;
} sora_tune_options;

/* Measures the shapes taken down and keeps the choices in the context and, at the end or when stopped, on disk (SORA_ERROR_IO
 * where that can't be written; the context has them all the same). *rows[*count] is the caller's (free()). */
SORA_API sora_status sora_tune_run(sora_context *context, const sora_tune_options *options, sora_tune_row **rows, size_t *count,
                                   sora_error *error);

/* How many choices this context has, and where they are kept (NULL: nowhere). */
SORA_API size_t sora_tune_choices(const sora_context *context);
SORA_API const char *sora_tune_path(const sora_context *context);
SORA_API void sora_tune_forget(sora_context *context); /* of this context; what is on disk stays */

/* Writes the context's choices to a file, or takes those of a file in place of its own: a run keeps the choices it began with, so
 * that going on with it gives the same bits. SORA_ERROR_INPUT names what is wrong with the file; it must be this device's. */
SORA_API sora_status sora_tune_save(const sora_context *context, const char *path, sora_error *error);
SORA_API sora_status sora_tune_load(sora_context *context, const char *path, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
