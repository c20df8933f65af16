/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_WEIGHTS_H
#define SORACL_WEIGHTS_H

#include "soracl/safetensors.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A model's weights as Hugging Face's hub lays them out: `model.safetensors`, or `model.safetensors.index.json` and the files
 * (shards) that its "weight_map" names. Immutable after opening: any number of threads may read. */
typedef struct sora_weights sora_weights;

/* Maps the files of `folder`; model.safetensors goes first where both are there, as in Transformers. Each tensor of the index
 * must be in its shard, and a shard's tensors in the index; the shards' names must be plain file names. SORA_ERROR_INPUT says
 * which file or tensor is wrong, and how to convert where there is a pytorch_model.bin alone. *out is NULL on failure. */
SORA_API sora_status sora_weights_open(const char *folder, sora_weights **out, sora_error *error);
SORA_API void sora_weights_close(sora_weights **weights); /* accepts NULL inside; sets NULL */

/* The file that was opened, single or index; for messages. */
SORA_API const char *sora_weights_path(const sora_weights *weights);

SORA_API size_t sora_weights_count(const sora_weights *weights);
SORA_API const sora_file_tensor *sora_weights_at(const sora_weights *weights, size_t index);       /* in byte order of names */
SORA_API const sora_file_tensor *sora_weights_find(const sora_weights *weights, const char *name); /* NULL if absent */

/* XXH3's 64 bits over all tensors in order of names: name with its NUL, dtype and rank as u32, shape as i64 (all little-endian),
 * bytes. The same for equal tensors however they are spread over files. Reads every byte, at memory or disk speed.
 * SORA_ERROR_MEMORY. */
SORA_API sora_status sora_weights_hash(const sora_weights *weights, uint64_t *out, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
