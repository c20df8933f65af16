/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include "soracl/tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

static json_t *device_json(const sora_device *d, bool picked)
{
    const sora_device_limits *l = &d->limits;
    json_t *limits = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:[I,I,I],s:I,s:I,s:I,s:b,s:b,s:b,s:b,s:b}", "compute_units",
                               (json_int_t)l->compute_units, "clock_mhz", (json_int_t)l->clock_mhz, "global_bytes",
                               (json_int_t)l->global_bytes, "allocation_bytes", (json_int_t)l->allocation_bytes, "local_bytes",
                               (json_int_t)l->local_bytes, "cache_bytes", (json_int_t)l->cache_bytes, "argument_bytes",
                               (json_int_t)l->argument_bytes, "work_group", (json_int_t)l->work_group, "work_item",
                               (json_int_t)l->work_item[0], (json_int_t)l->work_item[1], (json_int_t)l->work_item[2],
                               "float_width", (json_int_t)l->float_width, "base_align_bytes", (json_int_t)l->base_align_bytes,
                               "timer_ns", (json_int_t)l->timer_ns, "local_dedicated", l->local_dedicated, "unified_memory",
                               l->unified_memory, "fp16", l->fp16, "fp64", l->fp64, "subgroups", l->subgroups);
    return json_pack("{s:i,s:s,s:s,s:s,s:s,s:s,s:s,s:b,s:o,s:o}", "index", d->index, "name", d->name, "platform", d->platform,
                     "vendor", d->vendor, "driver", d->driver, "version", d->version, "type", sora_device_type_name(l->type),
                     "picked", picked, "lacks", d->lacks[0] ? json_string(d->lacks) : json_null(), "limits", limits);
}

static void print_device(const sora_device *d, bool picked, const char *reason)
{
    char memory[16], allocation[16], local[32];
    const sora_device_limits *l = &d->limits;
    cli_bytes(l->global_bytes, memory);
    cli_bytes(l->allocation_bytes, allocation);
    snprintf(local, sizeof local, "%llu KiB", (unsigned long long)(l->local_bytes / 1024));
    printf("%s %d  %s\n", picked ? "*" : " ", d->index, d->name);
    printf("     platform   %s, driver %s, %s\n", d->platform, d->driver, d->version);
    printf("     compute    %s, %u units at %u MHz, float vectors of %u, work-groups up to %llu\n",
           sora_device_type_name(l->type), l->compute_units, l->clock_mhz, l->float_width, (unsigned long long)l->work_group);
    printf("     memory     %s%s, largest allocation %s, local %s%s\n", memory, l->unified_memory ? " shared with the host" : "",
           allocation, local, l->local_dedicated ? "" : " (in global memory)");
    printf("     features   fp16 %s, fp64 %s, subgroups %s, timer %u ns\n", l->fp16 ? "yes" : "no", l->fp64 ? "yes" : "no",
           l->subgroups ? "yes" : "no", l->timer_ns);
    if (d->lacks[0]) printf("     can't train: %s\n", d->lacks);
    if (picked) printf("     picked: %s\n", reason);
}

/* Of the device that a run would take. */
static void print_tuning(const cli_globals *globals)
{
    sora_context *context;
    if (cli_open_context(globals, &context, NULL) != SORA_OK) return;
    const char *path = sora_tune_path(context);
    struct stat file;
    char day[32] = "";
    if (path && stat(path, &file) == 0) strftime(day, sizeof day, "%Y-%m-%d", localtime(&file.st_mtime));
    if (*day && sora_tune_choices(context) > 0)
        printf("     tuned: %zu choices, %s (%s)\n", sora_tune_choices(context), day, path);
    else
        printf("     tuned: no; \"soracl tune\" measures what is fastest on it\n");
    sora_context_destroy(&context);
}

int cli_devices(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const cli_option options[] = { CLI_GLOBALS_UNPROFILED(globals) }; /* nothing is launched */
    cli_command command = { .name = "devices",
                            .summary = "what OpenCL devices there are, and which one would be taken (*)",
                            .usage = "devices [--json]",
                            .example = "soracl devices --device cpu",
                            .options = options,
                            .option_count = sizeof options / sizeof options[0] };
    sora_device *devices = NULL;
    size_t count = 0, picked = 0;
    char reason[256];
    bool help;
    sora_error error;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    status = sora_devices_list(&devices, &count, &error);
    if (status == SORA_OK)
        status = sora_device_choose(devices, count, globals.device ? globals.device : getenv("SORACL_DEVICE"), &picked, reason,
                                    &error);
    if (status == SORA_OK && globals.json) {
        json_t *list = json_array();
        for (size_t i = 0; i < count; i++) json_array_append_new(list, device_json(&devices[i], i == picked));
        status = cli_print_json(json_pack("{s:o}", "devices", list), &error);
    } else if (status == SORA_OK) {
        for (size_t i = 0; i < count; i++) print_device(&devices[i], i == picked, reason);
    }
    if (status == SORA_OK && !globals.json) print_tuning(&globals);
    free(devices);
    return cli_fail(status, &error);
}
