/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *rates_json(const sora_rates *r)
{
    return json_pack("{s:f,s:f,s:f}", "flops_per_second", r->flops, "bytes_per_second", r->bytes, "launch_seconds", r->launch);
}

static json_t *describe_device(const sora_device *d)
{
    return json_pack("{s:s,s:s,s:s,s:s}", "name", d->name, "platform", d->platform, "driver", d->driver, "version",
                     sora_version());
}

static void print_rates(const sora_device *d, const sora_rates *r)
{
    printf("%s, %s, driver %s\n", d->name, d->platform, d->driver);
    printf("  multiply-adds in registers  %8.1f GFLOP/s\n", 1e-9 * r->flops);
    printf("  copy of 64 MiB              %8.1f GB/s\n", 1e-9 * r->bytes);
    printf("  launch of an empty kernel   %8.1f us\n", 1e6 * r->launch);
}

int cli_bench_limits(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const cli_option options[] = { CLI_GLOBALS(globals) };
    cli_command command = { .name = "bench limits",
                            .summary = "what the device can do: multiply-adds from registers, bytes copied, empty launches",
                            .usage = "bench limits [--device NAME] [--json]",
                            .example = "soracl bench limits --json",
                            .options = options,
                            .option_count = sizeof options / sizeof options[0] };
    sora_context *context = NULL;
    sora_rates rates;
    bool help;
    sora_error error;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) status = sora_bench_rates(context, &rates, &error);
    if (status == SORA_OK && globals.json)
        status = cli_print_json(
            json_pack("{s:o,s:o}", "device", describe_device(sora_context_device(context)), "limits", rates_json(&rates)),
            &error);
    else if (status == SORA_OK)
        print_rates(sora_context_device(context), &rates);
    return cli_finish(&globals, &context, status, &error);
}

/* ---- Steps ------------------------------------------------------------------------------------------------------- */

static json_t *step_json(const sora_device *d, const sora_bench_options *o, const sora_rates *r, const sora_bench_step *s)
{
    json_t *object = json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i}", "model", o->model, "method",
                               o->method ? o->method : "sora", "batch", o->batch, "rank", o->rank, "size", o->size, "width",
                               o->width, "source", o->source, "target", o->target_length, "steps", o->steps);
    json_t *numbers = json_pack(
        "{s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:f,s:f}", "seconds_per_step", s->median, "min", s->min,
        "max", s->max, "first_step_seconds", s->first_seconds, "plan_seconds", s->plan_seconds, "process_bytes_peak",
        (json_int_t)s->process_bytes_peak, "device_bytes_peak", (json_int_t)s->device_bytes_peak, "device_bytes_predicted",
        (json_int_t)s->device_bytes_predicted, "arena_bytes", (json_int_t)s->arena_bytes, "live_bytes", (json_int_t)s->live_bytes,
        "moved_bytes", (json_int_t)s->moved_bytes, "least_moved_bytes", (json_int_t)s->least_moved_bytes, "trainable",
        (json_int_t)s->trainable, "launches", (json_int_t)s->launches, "flops", s->flops, "flops_per_second",
        s->flops / s->median, "share_of_peak", s->flops / s->median / r->flops, "loss", (double)s->loss);
    json_object_update(object, numbers);
    json_decref(numbers);
    if (o->target) json_object_set_new(object, "layers", json_string(o->target));
    json_object_set_new(object, "weights", json_string(o->weights ? o->weights : "fp32"));
    json_object_set_new(object, "device", describe_device(d));
    json_object_set_new(object, "limits", rates_json(r));
    return object;
}

static void print_step(const sora_device *d, const sora_bench_options *o, const sora_rates *r, const sora_bench_step *s)
{
    char device[16], process[16], moved[16], least[16];
    cli_bytes(s->device_bytes_peak, device);
    cli_bytes(s->process_bytes_peak, process);
    printf("%s, %s, batch %d, on %s\n", o->model, o->method ? o->method : "sora", o->batch, d->name);
    printf("  a step        %.4f s (%.4f to %.4f over %d), the first %.2f s\n", s->median, s->min, s->max, o->steps,
           s->first_seconds);
    printf("  work          %.2f GFLOP in %llu launches: %.1f GFLOP/s, %.0f %% of the device's %.1f\n", 1e-9 * s->flops,
           (unsigned long long)s->launches, 1e-9 * s->flops / s->median, 100 * s->flops / s->median / r->flops, 1e-9 * r->flops);
    printf("  memory        device %s, process %s; %llu parameters trained\n", device, process, (unsigned long long)s->trainable);
    printf("  plan          %.1f ms; arena %.1f %% above the largest live set\n", 1e3 * s->plan_seconds,
           100.0 * ((double)s->arena_bytes / (double)s->live_bytes - 1.0));
    cli_bytes(s->moved_bytes, moved);
    cli_bytes(s->least_moved_bytes, least);
    printf("  activations   %s moved, %s of it by layers themselves: %.3f s at the device's %.1f GB/s\n", moved, least,
           (double)s->moved_bytes / r->bytes, 1e-9 * r->bytes);
}

/* Steps first, then the limits: their buffers are not the steps' memory. */
static sora_status run_step(const cli_globals *globals, const sora_bench_options *o, sora_error *error)
{
    sora_context *context = NULL;
    sora_bench_step step;
    sora_rates rates;
    sora_status status = cli_open_context(globals, &context, error);
    if (status == SORA_OK) status = sora_bench_run_step(context, o, &step, error);
    if (status == SORA_OK && globals->profile) status = sora_context_write_profile(context, globals->profile, error);
    if (status == SORA_OK) status = sora_bench_rates(context, &rates, error);
    if (status == SORA_OK && globals->json)
        status = cli_print_json(step_json(sora_context_device(context), o, &rates, &step), error);
    else if (status == SORA_OK)
        print_step(sora_context_device(context), o, &rates, &step);
    if (context) sora_context_destroy(&context);
    return status;
}

/* What words that are not given stand for: of a run, what its config.json says; *is_run. */
static sora_status step_standards(const char *model, sora_run_options *run, bool *is_run, sora_error *error)
{
    bool fc = strcmp(model, "unet-fc") == 0, classic = strcmp(model, "unet") == 0, t5 = strcmp(model, "t5-small") == 0;
    char path[1100];
    snprintf(path, sizeof path, "%s/config.json", model);
    *is_run = !fc && !classic && !t5 && access(path, F_OK) == 0;
    if (*is_run) return sora_run_options_read(path, run, error);
    *run = (sora_run_options) {
        .batch = 8, .rank = fc ? 40 : 16, .max_source = 256, .max_target = 32, .size = fc ? 256 : 128, .width = classic ? 64 : 0
    };
    return SORA_OK;
}

/* A run has its network and its adapters. */
static sora_status check_run_words(const cli_step_words *w, const char *model, sora_error *error)
{
    const struct {
        const char *name, *text;
    } own[] = {
        { "method", w->method }, { "rank", w->rank }, { "layers", w->layers }, { "size", w->size }, { "width", w->width }
    };
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (own[i].text)
            return cli_error(error, SORA_ERROR_ARGUMENT,
                             "--%s %s beside a run: %s has its own network and adapters; leave it out, or name a network: "
                             "t5-small, unet-fc or unet",
                             own[i].name, own[i].text, model);
    return SORA_OK;
}

sora_status cli_step_options(cli_step_words *w, const char *model, sora_bench_options *o, sora_error *error)
{
    sora_run_options *run = &w->run;
    bool is_run;
    sora_status status = step_standards(model, run, &is_run, error);
    if (status == SORA_OK && is_run) status = check_run_words(w, model, error);
    if (status != SORA_OK) return status;
    const struct {
        const char *name, *text;
        long standard, most;
        int *out;
    } numbers[] = { { "batch", w->batch, run->batch, 4096, &o->batch },
                    { "steps", w->steps, 5, 1000, &o->steps },
                    { "rank", w->rank, run->rank, 4096, &o->rank },
                    { "source", w->source, run->max_source, 4096, &o->source },
                    { "target", w->target, run->max_target, 4096, &o->target_length },
                    { "size", w->size, run->size, 4096, &o->size },
                    { "width", w->width, run->width, 1024, &o->width } };
    o->model = model;
    o->method = is_run ? run->method : w->method;
    o->target = is_run ? run->target : w->layers;
    o->weights = is_run && !w->weights ? run->weights : w->weights;
    o->recompute = run->recompute || w->recompute;
    for (size_t i = 0; status == SORA_OK && i < sizeof numbers / sizeof numbers[0]; i++) {
        long value = numbers[i].standard;
        status = cli_number(numbers[i].name, numbers[i].text, 1, numbers[i].most, &value, error);
        *numbers[i].out = (int)value;
    }
    return status;
}

int cli_bench_step(int argc, char **argv)
{
    cli_globals globals = { 0 };
    cli_step_words words = { 0 };
    sora_bench_options o = { 0 };
    const char *word[1] = { NULL };
    const cli_option options[] = {
        CLI_STEP_OPTIONS(words),
        { "steps", "Step", "N", "steps that are counted, behind two that warm up", "5", NULL, &words.steps },
        CLI_GLOBALS(globals),
    };
    cli_command command = { .name = "bench step",
                            .summary =
                                "time, memory and work of whole training steps: forward, backward and update on random numbers",
                            .usage = "bench step t5-small|unet-fc|unet|RUN [--method full|lora|sora] [--batch N] [--json]",
                            .example = "soracl bench step unet-fc --method sora --batch 4 --size 64 --json",
                            .options = options,
                            .option_count = sizeof options / sizeof options[0],
                            .words = word,
                            .word_room = 1 };
    sora_error error;
    bool help;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (!word[0])
        return cli_fail(
            cli_error(&error, SORA_ERROR_ARGUMENT, "bench step takes a network: t5-small, unet-fc, unet or a run's folder"),
            &error);
    status = cli_step_options(&words, word[0], &o, &error);
    if (status == SORA_OK) status = run_step(&globals, &o, &error);
    return cli_fail(status, &error);
}

/* ---- Generation -------------------------------------------------------------------------------------------------- */

static json_t *generation_json(const sora_device *d, const sora_bench_generate_options *o, const sora_rates *r,
                               const sora_bench_generation *g)
{
    return json_pack("{s:s,s:i,s:i,s:i,s:i,s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:I,s:o,s:o}", "model", o->model, "batch",
                     o->batch, "source", o->source, "new_tokens", o->new_tokens, "beams", o->beams, "runs", o->runs,
                     "tokens_per_second", g->tokens_per_second, "seconds", g->median, "min", g->min, "max", g->max,
                     "first_seconds", g->first_seconds, "flops", g->flops, "share_of_peak", g->flops / g->median / r->flops,
                     "launches", (json_int_t)g->launches, "device_bytes_peak", (json_int_t)g->device_bytes_peak,
                     "process_bytes_peak", (json_int_t)g->process_bytes_peak, "device", describe_device(d), "limits",
                     rates_json(r));
}

static void print_generation(const sora_device *d, const sora_bench_generate_options *o, const sora_bench_generation *g)
{
    char memory[16];
    cli_bytes(g->process_bytes_peak, memory);
    printf("%s, %d sources of %d tokens, %d new ones each, %d beam%s, on %s\n", o->model, o->batch, o->source, o->new_tokens,
           o->beams, o->beams > 1 ? "s" : "", d->name);
    printf("  speed         %.1f tokens/s\n", g->tokens_per_second);
    printf("  a batch       %.4f s (%.4f to %.4f over %d), the first %.2f s; %llu launches\n", g->median, g->min, g->max, o->runs,
           g->first_seconds, (unsigned long long)g->launches);
    printf("  memory        process %s\n", memory);
}

static sora_status run_generate(const cli_globals *globals, const sora_bench_generate_options *o, sora_error *error)
{
    sora_context *context = NULL;
    sora_bench_generation generation;
    sora_rates rates;
    sora_status status = cli_open_context(globals, &context, error);
    if (status == SORA_OK) status = sora_bench_run_generate(context, o, &generation, error);
    if (status == SORA_OK && globals->profile) status = sora_context_write_profile(context, globals->profile, error);
    if (status == SORA_OK && globals->json) status = sora_bench_rates(context, &rates, error);
    if (status == SORA_OK && globals->json)
        status = cli_print_json(generation_json(sora_context_device(context), o, &rates, &generation), error);
    else if (status == SORA_OK)
        print_generation(sora_context_device(context), o, &generation);
    if (context) sora_context_destroy(&context);
    return status;
}

int cli_bench_generate(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const char *batch = NULL, *source = NULL, *new_tokens = NULL, *beams = NULL, *runs = NULL, *word[1] = { NULL };
    const cli_option options[] = {
        { "batch", "Generation", "N", "sources at once", "8", NULL, &batch },
        { "source", "Generation", "N", "tokens of a source", "256", NULL, &source },
        { "new-tokens", "Generation", "N", "tokens of each output", "32", NULL, &new_tokens },
        { "beams", "Generation", "N", "beams of the search (1: greedy)", "1", NULL, &beams },
        { "runs", "Generation", "N", "that are counted, behind one that warms up", "5", NULL, &runs },
        CLI_GLOBALS(globals),
    };
    cli_command command = { .name = "bench generate",
                            .summary = "tokens a second of a T5's generation, encoder included: random weights, random sources",
                            .usage = "bench generate t5-small [--beams N] [--batch N] [--json]",
                            .example = "soracl bench generate t5-small --source 32 --new-tokens 8 --batch 2 --runs 1 --json",
                            .options = options,
                            .option_count = sizeof options / sizeof options[0],
                            .words = word,
                            .word_room = 1 };
    sora_error error;
    bool help;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (!word[0]) return cli_fail(cli_error(&error, SORA_ERROR_ARGUMENT, "bench generate takes a network: t5-small"), &error);
    sora_bench_generate_options o = { .model = word[0] };
    const struct {
        const char *name, *text;
        long standard, most;
        int *out;
    } numbers[] = { { "batch", batch, 8, 512, &o.batch },
                    { "source", source, 256, 4096, &o.source },
                    { "new-tokens", new_tokens, 32, 4096, &o.new_tokens },
                    { "beams", beams, 1, 64, &o.beams },
                    { "runs", runs, 5, 1000, &o.runs } };
    for (size_t i = 0; status == SORA_OK && i < sizeof numbers / sizeof numbers[0]; i++) {
        long value = numbers[i].standard;
        status = cli_number(numbers[i].name, numbers[i].text, 1, numbers[i].most, &value, &error);
        *numbers[i].out = (int)value;
    }
    if (status == SORA_OK) status = run_generate(&globals, &o, &error);
    return cli_fail(status, &error);
}

/* ---- Devices side by side ---------------------------------------------------------------------------------------- */

#define MOST_FILES 16

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static sora_status load(const char *path, json_t **out, sora_error *error)
{
    json_error_t problem;
    *out = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
    if (!*out)
        return cli_error(error, SORA_ERROR_INPUT, "%s: line %d: %s; expected what \"bench step --json\" prints", path,
                         problem.line, problem.text);
    if (json_is_number(json_object_get(*out, "seconds_per_step")) && json_is_object(json_object_get(*out, "device")))
        return SORA_OK;
    return cli_error(error, SORA_ERROR_INPUT, "%s: no seconds_per_step or no device; expected what \"bench step --json\" prints",
                     path);
}

static void print_row(const json_t *one, const json_t *first)
{
    const json_t *device = json_object_get(one, "device");
    double seconds = json_number_value(json_object_get(one, "seconds_per_step"));
    char memory[16];
    cli_bytes((uint64_t)json_integer_value(json_object_get(one, "device_bytes_peak")), memory);
    printf("%-36.36s %-10.10s %-6.6s %5lld %10.4f %9.1f %6.0f %% %10s %7.2f\n", text_of(device, "name"), text_of(one, "model"),
           text_of(one, "method"), (long long)json_integer_value(json_object_get(one, "batch")), seconds,
           1e-9 * json_number_value(json_object_get(one, "flops_per_second")),
           100 * json_number_value(json_object_get(one, "share_of_peak")), memory,
           json_number_value(json_object_get(first, "seconds_per_step")) / seconds);
}

int cli_bench_compare(int argc, char **argv)
{
    bool json = false, help;
    const char *paths[MOST_FILES];
    json_t *list = json_array();
    const cli_option options[] = { { "json", "General", NULL, "results as JSON on stdout", NULL, &json, NULL } };
    cli_command command = { .name = "bench compare",
                            .summary = "steps that were measured on several devices, or with several options, side by side",
                            .usage = "bench compare A.json B.json ...",
                            .example =
                                "soracl bench step unet-fc --size 64 --json > a.json && soracl bench compare a.json a.json",
                            .options = options,
                            .option_count = sizeof options / sizeof options[0],
                            .words = paths,
                            .word_room = MOST_FILES };
    sora_error error;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status == SORA_OK && !help && command.word_count == 0)
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "bench compare takes files that \"bench step --json\" wrote");
    for (size_t i = 0; status == SORA_OK && i < command.word_count; i++) {
        json_t *one = NULL;
        status = load(paths[i], &one, &error);
        if (one) json_array_append_new(list, one);
    }
    if (status == SORA_OK && !help && json)
        status = cli_print_json(json_pack("{s:O}", "steps", list), &error);
    else if (status == SORA_OK && !help) {
        printf("%-36s %-10s %-6s %5s %10s %9s %8s %10s %7s\n", "device", "model", "method", "batch", "s a step", "GFLOP/s",
               "of peak", "memory", "speed");
        for (size_t i = 0; i < json_array_size(list); i++) print_row(json_array_get(list, i), json_array_get(list, 0));
    }
    json_decref(list);
    return cli_fail(status, &error);
}
