/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_BASE_STATUS_H
#define SORA_BASE_STATUS_H

#include "soracl/status.h"

/* Writes status and message into error (may be NULL) and returns status, so that `return sora_fail(...)` reads well. */
sora_status sora_fail(sora_error *error, sora_status status, const char *format, ...) SORA_PRINTF(3, 4);

/* Puts "prefix: " before the message of an error that already stands; for callers that know the file or tensor. */
void sora_error_prefix(sora_error *error, const char *format, ...) SORA_PRINTF(2, 3);

/* For functions with a local `sora_status status` and one `cleanup:` label. */
#define SORA_TRY(expression)                 \
    do {                                     \
        status = (expression);               \
        if (status != SORA_OK) goto cleanup; \
    } while (0)

#define SORA_FAIL(...)                   \
    do {                                 \
        status = sora_fail(__VA_ARGS__); \
        goto cleanup;                    \
    } while (0)

#endif
