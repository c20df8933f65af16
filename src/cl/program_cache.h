/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_CL_PROGRAM_CACHE_H
#define SORA_CL_PROGRAM_CACHE_H

#include "cl/context.h"

/* Binaries of programs on disk, one file each, named by a hash of everything that decides them: source, options, device,
 * driver and versions. An entry that is not what it should be is as good as absent. Nothing here can fail a run: a cache that
 * can't be read or written only costs time. */

/* *out NULL: none there. The caller owns *out (free()). */
void sora_program_cache_read(const sora_context *context, const char *source, const char *options, unsigned char **out,
                             size_t *bytes);
void sora_program_cache_write(const sora_context *context, const char *source, const char *options, const unsigned char *binary,
                              size_t bytes);

/* The folder: as given, $XDG_CACHE_HOME/soracl or ~/.cache/soracl; *out NULL where there is none ("" or no home). */
sora_status sora_program_cache_folder(const char *given, char **out, sora_error *error);

#endif
