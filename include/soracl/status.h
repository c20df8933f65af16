/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_STATUS_H
#define SORACL_STATUS_H

/* Errors are values: every call that can fail returns a sora_status and, through the caller's sora_error, a message that
 * names the file, tensor or option, what was found and what was expected. The library never prints, exits or aborts. */

#if defined(__GNUC__)
#define SORA_API __attribute__((visibility("default")))
#define SORA_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define SORA_API
#define SORA_PRINTF(text, first)
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sora_status {
    SORA_OK = 0,
    SORA_ERROR_ARGUMENT,    /* an option, shape or call that makes no sense          (exit code 2) */
    SORA_ERROR_INPUT,       /* a file that is broken, hostile or of the wrong kind   (exit code 3) */
    SORA_ERROR_DEVICE,      /* no usable OpenCL device, or the driver failed         (exit code 4) */
    SORA_ERROR_MEMORY,      /* not enough host or device memory                      (exit code 5) */
    SORA_ERROR_IO,          /* the operating system refused: open, write, sync, rename (exit code 1) */
    SORA_ERROR_NUMERIC,     /* NaN or Inf where training can't go on                 (exit code 1) */
    SORA_ERROR_INTERRUPTED, /* stopped on request; a checkpoint was written          (exit code 130) */
} sora_status;

/* Filled by the first failure of a call, untouched on success. Lives with the caller (the stack is fine); one per thread.
 * Every function accepts NULL for it. `message` is UTF-8, NUL-terminated, without a trailing newline. */
typedef struct sora_error {
    sora_status status;
    char message[1024];
} sora_error;

/* Returns a constant name, "argument" for SORA_ERROR_ARGUMENT; never NULL. */
SORA_API const char *sora_status_name(sora_status status);

/* "0.1.0" */
SORA_API const char *sora_version(void);

#ifdef __cplusplus
}
#endif
#endif
