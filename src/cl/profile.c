/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/profile.h"

#include "base/file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Events hold driver memory, so they are turned into times this often. */
#define PENDING 1024
/* A trace larger than this can't be opened by its viewers; totals go on. */
#define MAX_RECORDS 400000

typedef struct launch_record {
    size_t name, label; /* in `texts` */
    cl_event event;     /* NULL: times are known */
    cl_ulong queued, start, end;
    double flops, bytes;
} launch_record;

typedef struct kernel_total {
    size_t name;
    uint64_t launches;
    double seconds;
} kernel_total;

struct sora_profile {
    launch_record *records;
    size_t count, capacity, pending;
    uint64_t dropped;
    char **texts;
    size_t text_count, text_capacity;
    kernel_total *totals;
    size_t total_count, total_capacity;
};

sora_status sora_profile_create(sora_profile **out, sora_error *error)
{
    return sora_allocate(1, sizeof **out, "profile", out, error);
}

void sora_profile_destroy(sora_profile **pointer)
{
    sora_profile *profile = *pointer;
    if (!profile) return;
    for (size_t i = 0; i < profile->count; i++)
        if (profile->records[i].event) clReleaseEvent(profile->records[i].event);
    for (size_t i = 0; i < profile->text_count; i++) free(profile->texts[i]);
    free(profile->records);
    free(profile->texts);
    free(profile->totals);
    free(profile);
    *pointer = NULL;
}

static sora_status intern(sora_profile *profile, const char *text, size_t *out, sora_error *error)
{
    sora_status status = SORA_OK;
    for (*out = 0; *out < profile->text_count; ++*out)
        if (strcmp(profile->texts[*out], text) == 0) return SORA_OK;
    SORA_TRY(sora_reserve(&profile->texts, &profile->text_capacity, profile->text_count + 1, sizeof *profile->texts, error));
    SORA_TRY(sora_duplicate(text, &profile->texts[profile->text_count], error));
    profile->text_count++;
cleanup:
    return status;
}

static sora_status add_total(sora_profile *profile, size_t name, double seconds, sora_error *error)
{
    size_t i = 0;
    while (i < profile->total_count && profile->totals[i].name != name) i++;
    if (i == profile->total_count) {
        sora_status status = sora_reserve(&profile->totals, &profile->total_capacity, i + 1, sizeof *profile->totals, error);
        if (status != SORA_OK) return status;
        profile->totals[profile->total_count++] = (kernel_total) { .name = name };
    }
    profile->totals[i].launches++;
    profile->totals[i].seconds += seconds;
    return SORA_OK;
}

static cl_ulong event_time(cl_event event, cl_profiling_info what)
{
    cl_ulong time = 0;
    clGetEventProfilingInfo(event, what, sizeof time, &time, NULL);
    return time;
}

/* Nanoseconds; 0 where the driver doesn't know one of the times or has them the other way round. */
static double between(cl_ulong from, cl_ulong to)
{
    return from && to > from ? (double)(to - from) : 0;
}

static sora_status harvest(sora_profile *profile, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t kept = profile->count - profile->pending;
    for (size_t i = kept; i < profile->count; i++) {
        launch_record r = profile->records[i];
        SORA_TRY(sora_cl_check(clWaitForEvents(1, &r.event), "clWaitForEvents", error));
        r.queued = event_time(r.event, CL_PROFILING_COMMAND_QUEUED);
        r.start = event_time(r.event, CL_PROFILING_COMMAND_START);
        r.end = event_time(r.event, CL_PROFILING_COMMAND_END);
        clReleaseEvent(r.event);
        r.event = profile->records[i].event = NULL;
        SORA_TRY(add_total(profile, r.name, 1e-9 * between(r.start, r.end), error));
        if (kept < MAX_RECORDS)
            profile->records[kept++] = r;
        else
            profile->dropped++;
    }
    profile->count = kept;
    profile->pending = 0;
cleanup:
    return status;
}

sora_status sora_profile_add(sora_profile *profile, cl_event event, const char *kernel, const char *label, double flops,
                             double bytes, sora_error *error)
{
    sora_status status = SORA_OK;
    launch_record record = { .event = event, .flops = flops, .bytes = bytes };
    if (profile->pending == PENDING) SORA_TRY(harvest(profile, error));
    SORA_TRY(intern(profile, kernel, &record.name, error));
    SORA_TRY(intern(profile, label, &record.label, error));
    SORA_TRY(sora_reserve(&profile->records, &profile->capacity, profile->count + 1, sizeof record, error));
    profile->records[profile->count++] = record;
    profile->pending++;
    return SORA_OK;
cleanup:
    clReleaseEvent(event);
    return status;
}

static int slower_first(const void *a, const void *b)
{
    double x = ((const kernel_total *)a)->seconds, y = ((const kernel_total *)b)->seconds;
    return (x < y) - (x > y);
}

sora_status sora_context_write_profile(sora_context *context, const char *path, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_profile *profile = context->profile;
    sora_file_writer writer = { 0 };
    json_t *item = NULL;
    if (!profile)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "%s: launches were not recorded; create the context with profile", path);
    SORA_TRY(sora_context_finish(context, error));
    SORA_TRY(harvest(profile, error));
    SORA_TRY(sora_file_begin(&writer, path, error));
    cl_ulong origin = 0;
    for (size_t i = 0; i < profile->count && !origin; i++)
        origin = profile->records[i].queued ? profile->records[i].queued : profile->records[i].start;
    fprintf(writer.stream, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    item = json_pack("{s:s,s:s,s:i,s:i,s:{s:s}}", "name", "process_name", "ph", "M", "pid", 1, "tid", 1, "args", "name",
                     context->device.name);
    for (size_t i = 0; i <= profile->count; i++) {
        if (!item) SORA_FAIL(error, SORA_ERROR_MEMORY, "%s: no host memory", path);
        json_dumpf(item, writer.stream, JSON_COMPACT);
        json_decref(item);
        item = NULL;
        if (i == profile->count) break;
        const launch_record *r = &profile->records[i];
        fputs(",\n", writer.stream);
        item = json_pack("{s:s,s:s,s:s,s:i,s:i,s:f,s:f,s:{s:f,s:f,s:f}}", "name", profile->texts[r->label], "cat",
                         profile->texts[r->name], "ph", "X", "pid", 1, "tid", 1, "ts", 1e-3 * between(origin, r->start), "dur",
                         1e-3 * between(r->start, r->end), "args", "queued_us", 1e-3 * between(r->queued, r->start), "flops",
                         r->flops, "bytes", r->bytes);
    }
    qsort(profile->totals, profile->total_count, sizeof *profile->totals, slower_first);
    fprintf(writer.stream, "],\n\"otherData\":{\"launches_left_out\":%llu,\"kernels\":[", (unsigned long long)profile->dropped);
    for (size_t i = 0; i < profile->total_count; i++)
        fprintf(writer.stream, "%s\n{\"kernel\":\"%s\",\"launches\":%llu,\"seconds\":%.6f}", i ? "," : "",
                profile->texts[profile->totals[i].name], (unsigned long long)profile->totals[i].launches,
                profile->totals[i].seconds);
    fputs("]}}\n", writer.stream);
    SORA_TRY(sora_file_commit(&writer, error));
cleanup:
    json_decref(item);
    sora_file_abandon(&writer);
    return status;
}
