/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_GRAPH_PARAMS_FILE_H
#define SORA_GRAPH_PARAMS_FILE_H

#include "soracl/graph.h"
#include "soracl/weights.h"

/* Writes the values of `count` parameters, wherever they are, under their names as SORA_FILE_F32 or, rounded to nearest,
 * SORA_FILE_F16 (SORA_ERROR_NUMERIC for a value that is not finite, which no reader takes, or that fp16 has no number for). */
sora_status sora_params_write_file(const char *path, sora_param *const *list, size_t count, sora_file_dtype dtype,
                                   const char *const (*metadata)[2], size_t metadata_count, sora_error *error);

/* Of all values, on the host: what sora_weights_hash would say of them, in order of adding. */
sora_status sora_params_hash(const sora_params *params, uint64_t *out, sora_error *error);

/* Copies the tensor of the parameter's name into a parameter on the host: it must be there, of that shape, and finite. */
sora_status sora_param_read_file(sora_param *param, const sora_safetensors *file, const char *path, sora_error *error);

/* The same from a tensor that was found under `name`; NULL: it is missing. */
sora_status sora_param_read_tensor(sora_param *param, const sora_file_tensor *tensor, const char *path, const char *name,
                                   sora_error *error);

/* The same without a copy, where the tensor is of floats that may be read where they stand: the value is then the memory of a
 * file among `weights`, which sora_params_keep_weights gives to the set. */
sora_status sora_param_borrow_tensor(sora_param *param, const sora_file_tensor *tensor, const char *path, const char *name,
                                     sora_error *error);

/* The set owns these files from now on: it closes them when values go to the device, or with itself. Once a set. */
void sora_params_keep_weights(sora_params *params, sora_weights *weights);

#endif
