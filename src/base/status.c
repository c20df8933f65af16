/* SPDX-License-Identifier: Apache-2.0 */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *sora_status_name(sora_status status)
{
    switch (status) {
    case SORA_OK: return "ok";
    case SORA_ERROR_ARGUMENT: return "argument";
    case SORA_ERROR_INPUT: return "input";
    case SORA_ERROR_DEVICE: return "device";
    case SORA_ERROR_MEMORY: return "memory";
    case SORA_ERROR_IO: return "io";
    case SORA_ERROR_NUMERIC: return "numeric";
    case SORA_ERROR_INTERRUPTED: return "interrupted";
    }
    return "unknown";
}

const char *sora_version(void)
{
    return SORA_VERSION;
}

sora_status sora_fail(sora_error *error, sora_status status, const char *format, ...)
{
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
    }
    return status;
}

void sora_error_prefix(sora_error *error, const char *format, ...)
{
    if (!error) return;
    char prefix[sizeof error->message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(prefix, sizeof prefix - 2, format, arguments);
    va_end(arguments);
    strcat(prefix, ": ");
    size_t used = strlen(prefix), room = sizeof error->message - used, rest = strnlen(error->message, room - 1);
    memmove(error->message + used, error->message, rest);
    memcpy(error->message, prefix, used);
    error->message[used + rest] = '\0';
}
