/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_DATA_WEIGHTS_H
#define SORA_DATA_WEIGHTS_H

#include "soracl/weights.h"

/* What sora_weights_hash says, of tensors in the order given; `name` is theirs in a message. */
sora_status sora_tensors_hash(const sora_file_tensor **tensors, size_t count, const char *name, uint64_t *out, sora_error *error);

#endif
