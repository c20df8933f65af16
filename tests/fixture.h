/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TESTS_FIXTURE_H
#define SORA_TESTS_FIXTURE_H

#include "base/file.h"
#include "soracl/context.h"
#include "test.h"

#include <sys/resource.h>

/* What most test programs share: an empty folder and a context on the default device, for cmocka's group setup and teardown. */

static char folder[] = "/tmp/soracl-test-XXXXXX";

/* A path in the folder; four may be in use at once. */
static inline const char *at(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static inline int open_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static inline int close_folder(void **state)
{
    (void)state;
    return sora_folder_remove(folder, NULL) ? -1 : 0;
}

/* The most memory that the program has held so far, in MiB. */
static inline long peak_memory(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024;
}

static sora_context *context;

static inline int open_context(void **state)
{
    (void)state;
    return sora_context_create(&(sora_context_options) { 0 }, &context, NULL) ? -1 : 0;
}

static inline int close_context(void **state)
{
    (void)state;
    sora_context_destroy(&context);
    return 0;
}

static inline int open_both(void **state)
{
    return open_folder(state) || open_context(state) ? -1 : 0;
}

static inline int close_both(void **state)
{
    return close_context(state) | close_folder(state);
}

#endif
