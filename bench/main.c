/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "base/file.h"
#include "soracl/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sora_status measure_limits(bench_state *state, sora_error *error)
{
    sora_rates rates;
    sora_status status = sora_bench_rates(state->context, &rates, error);
    if (status != SORA_OK) return status;
    state->flops = rates.flops;
    printf("\nmultiply-adds in registers %.1f GFLOP/s, copy %.1f GB/s, empty launch %.1f us\n", 1e-9 * rates.flops,
           1e-9 * rates.bytes, 1e6 * rates.launch);
    json_object_set_new(state->json, "limits",
                        json_pack("{s:f, s:f, s:f}", "flops_per_second", rates.flops, "bytes_per_second", rates.bytes,
                                  "launch_seconds", rates.launch));
    return SORA_OK;
}

static const struct {
    const char *name;
    sora_status (*run)(bench_state *state, sora_error *error);
} parts[] = { { "limits", measure_limits }, { "gemm", bench_gemm }, { "conv", bench_conv }, { "adapter", bench_adapter },
              { "lora", bench_lora },       { "plan", bench_plan }, { "step", bench_step } };

static int usage(void)
{
    fputs("usage: sora-bench [limits] [gemm] [conv] [adapter] [lora] [plan] [step] [--device NAME] [--seconds N]\n"
          "                  [--network t5-small|unet-fc] [--steps N] [--json FILE]\n"
          "  at least one part; --seconds for each group (default 1), whose items are measured in turn; --network and --steps "
          "(1) of\n"
          "  step, which measures nothing: it is for callgrind\n",
          stderr);
    return 2;
}

static sora_status write_json(const bench_state *state, const char *path, sora_error *error)
{
    char *text = json_dumps(state->json, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    sora_status status =
        text ? sora_file_write(path, text, strlen(text), error) : sora_fail(error, SORA_ERROR_MEMORY, "%s: no memory", path);
    free(text);
    return status;
}

int main(int argc, char **argv)
{
    sora_status status = SORA_OK;
    sora_error error;
    bench_state state = { .seconds = 1, .enough = 0.01, .network = "unet-fc", .steps = 1 };
    const char *json = NULL, *device_name = NULL;
    bool wanted[SORA_COUNT(parts)] = { 0 }, any = false;
    for (int i = 1; i < argc; i++) {
        size_t part = 0;
        while (part < SORA_COUNT(parts) && strcmp(argv[i], parts[part].name) != 0) part++;
        if (part < SORA_COUNT(parts))
            wanted[part] = any = true;
        else if (i + 1 < argc && strcmp(argv[i], "--json") == 0)
            json = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--device") == 0)
            device_name = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--seconds") == 0 && atof(argv[i + 1]) > 0)
            state.seconds = atof(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--network") == 0)
            state.network = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--steps") == 0 && atoi(argv[i + 1]) > 0)
            state.steps = atoi(argv[++i]);
        else
            return usage();
    }
    if (!any) return usage();
    SORA_TRY(sora_context_create(&(sora_context_options) { .device = device_name }, &state.context, &error));
    const sora_device *device = sora_context_device(state.context);
    printf("%s, %s, %s, %u compute units\n", device->name, device->platform, device->driver, device->limits.compute_units);
    state.json = json_object();
    json_object_set_new(state.json, "version", json_string(sora_version()));
    json_object_set_new(
        state.json, "device",
        json_pack("{s:s, s:s, s:s}", "name", device->name, "platform", device->platform, "driver", device->driver));
    for (size_t i = 0; i < SORA_COUNT(parts); i++)
        if (wanted[i]) SORA_TRY(parts[i].run(&state, &error));
    if (json) SORA_TRY(write_json(&state, json, &error));
cleanup:
    if (status != SORA_OK) fprintf(stderr, "sora-bench: %s\n", error.message);
    json_decref(state.json);
    if (state.context) sora_context_destroy(&state.context);
    return status != SORA_OK;
}
