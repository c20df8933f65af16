/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/program_cache.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const char magic[] = "SORACLB1";
#define LARGEST (256u << 20)

/* Magic, hash of what follows, the key in full (two keys of one hash must not be mixed up), the binary. */
typedef struct header {
    char magic[sizeof magic - 1];
    uint64_t hash, key_bytes, binary_bytes;
} header;

sora_status sora_program_cache_folder(const char *given, char **out, sora_error *error)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    *out = NULL;
    if (given) return *given ? sora_duplicate(given, out, error) : SORA_OK;
    if (xdg && *xdg == '/') return sora_format(out, error, "%s/soracl", xdg);
    if (home && *home) return sora_format(out, error, "%s/.cache/soracl", home);
    return SORA_OK;
}

/* The key in full: source last, because it is long. */
static char *key_text(const sora_context *context, const char *source, const char *options)
{
    char *key = NULL;
    const sora_device *d = &context->device;
    if (sora_format(&key, NULL, "%s\n%s\n%s\n%s\n%s\n%s\n%s\n%s", d->platform, d->vendor, d->name, d->driver, d->version,
                    d->c_version, options, source))
        return NULL;
    return key;
}

static char *entry_path(const sora_context *context, const char *key)
{
    char *path = NULL;
    XXH128_hash_t hash = XXH3_128bits(key, strlen(key));
    if (sora_format(&path, NULL, "%s/%016llx%016llx.clbin", context->cache, (unsigned long long)hash.high64,
                    (unsigned long long)hash.low64))
        return NULL;
    return path;
}

void sora_program_cache_read(const sora_context *context, const char *source, const char *options, unsigned char **out,
                             size_t *bytes)
{
    unsigned char *file = NULL;
    size_t size = 0;
    header head;
    *out = NULL;
    *bytes = 0;
    char *key = context->cache ? key_text(context, source, options) : NULL;
    char *path = key ? entry_path(context, key) : NULL;
    if (!path || !sora_path_exists(path) || sora_file_read(path, LARGEST, &file, &size, NULL) != SORA_OK || size < sizeof head)
        goto cleanup;
    memcpy(&head, file, sizeof head);
    size_t rest = size - sizeof head, key_bytes = strlen(key);
    if (memcmp(head.magic, magic, sizeof head.magic) != 0 || head.key_bytes != key_bytes || head.binary_bytes == 0 ||
        head.binary_bytes != rest - SORA_MIN(rest, key_bytes) || memcmp(file + sizeof head, key, key_bytes) != 0 ||
        head.hash != XXH3_64bits(file + sizeof head, rest))
        goto cleanup;
    *bytes = head.binary_bytes;
    *out = malloc(*bytes);
    if (*out) memcpy(*out, file + sizeof head + key_bytes, *bytes);
cleanup:
    free(file);
    free(key);
    free(path);
}

void sora_program_cache_write(const sora_context *context, const char *source, const char *options, const unsigned char *binary,
                              size_t bytes)
{
    char *key = context->cache ? key_text(context, source, options) : NULL;
    char *path = key ? entry_path(context, key) : NULL;
    unsigned char *file = NULL;
    if (!path || bytes == 0 || sora_folder_create(context->cache, NULL) != SORA_OK) goto cleanup;
    size_t key_bytes = strlen(key);
    header head = { .key_bytes = key_bytes, .binary_bytes = bytes };
    memcpy(head.magic, magic, sizeof head.magic);
    if (sora_allocate(1, sizeof head + key_bytes + bytes, "program binary", &file, NULL) != SORA_OK) goto cleanup;
    memcpy(file + sizeof head, key, key_bytes);
    memcpy(file + sizeof head + key_bytes, binary, bytes);
    head.hash = XXH3_64bits(file + sizeof head, key_bytes + bytes);
    memcpy(file, &head, sizeof head);
    sora_file_write(path, file, sizeof head + key_bytes + bytes, NULL);
cleanup:
    free(file);
    free(key);
    free(path);
}
