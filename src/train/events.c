/* SPDX-License-Identifier: Apache-2.0 */
#include "train/events.h"

#include "base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sora_events {
    FILE *file;
    char *path;
};

/* Length of the leading lines that are whole, JSON, and of no later step. */
static long valid_length(FILE *file, uint32_t step)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    long end = 0;
    while ((length = getline(&line, &room, file)) > 0 && line[length - 1] == '\n') {
        json_t *object = json_loadb(line, (size_t)length, 0, NULL);
        json_t *at = json_object_get(object, "step");
        bool keep = json_is_object(object) && (!at || (json_is_integer(at) && json_integer_value(at) <= (json_int_t)step));
        json_decref(object);
        if (!keep) break;
        end += (long)length;
    }
    free(line);
    return end;
}

sora_status sora_events_open(const char *path, uint32_t step, sora_events **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_events *events = NULL;
    *out = NULL;
    SORA_TRY(sora_allocate(1, sizeof *events, path, &events, error));
    SORA_TRY(sora_duplicate(path, &events->path, error));
    events->file = fopen(path, "a+e");
    if (!events->file) SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot write: %s", path, strerror(errno));
    rewind(events->file);
    /* Before the first checkpoint nothing counts: what a killed start wrote is written again. */
    if (ftruncate(fileno(events->file), step ? valid_length(events->file, step) : 0) != 0 || fseek(events->file, 0, SEEK_END) != 0)
        SORA_FAIL(error, SORA_ERROR_IO, "%s: cannot cut back to step %u: %s", path, step, strerror(errno));
    *out = events;
    events = NULL;
cleanup:
    sora_events_close(&events);
    return status;
}

void sora_events_close(sora_events **pointer)
{
    sora_events *events = *pointer;
    if (!events) return;
    if (events->file) fclose(events->file);
    free(events->path);
    free(events);
    *pointer = NULL;
}

sora_status sora_events_write(sora_events *events, json_t *object, sora_error *error)
{
    if (!object) return sora_fail(error, SORA_ERROR_MEMORY, "%s: no host memory for a line", events->path);
    int failed = json_dumpf(object, events->file, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(object);
    if (failed || fputc('\n', events->file) == EOF || fflush(events->file) != 0)
        return sora_fail(error, SORA_ERROR_IO, "%s: cannot write: %s", events->path, strerror(errno));
    return SORA_OK;
}

sora_status sora_events_sync(sora_events *events, sora_error *error)
{
    if (fsync(fileno(events->file)) == 0) return SORA_OK;
    return sora_fail(error, SORA_ERROR_IO, "%s: cannot sync: %s", events->path, strerror(errno));
}
