/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_SAFETENSORS_H
#define SORACL_SAFETENSORS_H

#include "soracl/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* safetensors: u64 little-endian header length, JSON header, tensors row-major without holes (huggingface/safetensors). */

#define SORA_SAFETENSORS_MAX_RANK 8

typedef enum sora_file_dtype {
    SORA_FILE_F32 = 1,
    SORA_FILE_F16,
    SORA_FILE_BF16,
    SORA_FILE_I32,
    SORA_FILE_I64,
    SORA_FILE_F64,
    SORA_FILE_U8
} sora_file_dtype;

typedef struct sora_file_tensor {
    const char *name;
    sora_file_dtype dtype;
    int rank;
    int64_t shape[SORA_SAFETENSORS_MAX_RANK];
    uint64_t elements;
    const void *data; /* little-endian, any alignment; elements * size of dtype */
} sora_file_tensor;

/* A file mapped privately: its bytes must stay as they are while it is open (a file that is renamed into its place changes
 * nothing). Every check is made on opening: header length (≤ 100 MB and within the file), JSON without duplicate keys, dtypes,
 * shapes (product without overflow), offsets in range, matching sizes, no holes, no overlap, metadata strings only. Immutable
 * afterwards, so several threads may read it. */
typedef struct sora_safetensors sora_safetensors;

SORA_API sora_status sora_safetensors_open(const char *path, sora_safetensors **out, sora_error *error);
SORA_API void sora_safetensors_close(sora_safetensors **file); /* accepts NULL inside; sets NULL */
SORA_API size_t sora_safetensors_count(const sora_safetensors *file);
SORA_API const sora_file_tensor *sora_safetensors_at(const sora_safetensors *file, size_t index);       /* in order of offsets */
SORA_API const sora_file_tensor *sora_safetensors_find(const sora_safetensors *file, const char *name); /* NULL if absent */
SORA_API const char *sora_safetensors_metadata(const sora_safetensors *file, const char *key);          /* NULL if absent */

SORA_API uint64_t sora_file_tensor_bytes(const sora_file_tensor *tensor);

/* Converts a F32, F16, BF16 or F64 tensor to float[elements]; SORA_ERROR_INPUT for other dtypes. */
SORA_API sora_status sora_file_tensor_to_f32(const sora_file_tensor *tensor, float *out, sora_error *error);

/* Writes a file atomically, tensors in the given order, each aligned to its dtype, header padded with spaces to 8 bytes.
 * metadata: `metadata_count` pairs key, value. Refuses duplicate and empty names and what is no UTF-8. Equal input gives equal
 * bytes. */
SORA_API sora_status sora_safetensors_write(const char *path, const sora_file_tensor *tensors, size_t count,
                                            const char *const (*metadata)[2], size_t metadata_count, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
