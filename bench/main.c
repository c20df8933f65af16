/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    sora_status (*run)(bench_state *state, sora_error *error);
    bool long_one; /* minutes: only where it is named */
} parts[] = { { "limits", bench_limits, false }, { "gemm", bench_gemm, false },
              { "conv", bench_conv, false },     { "adapter", bench_adapter, false },
              { "plan", bench_plan, false },     { "step", bench_step, false },
              { "t5", bench_t5, true } };

static int usage(void)
{
    fputs("usage: sora-bench [limits] [gemm] [conv] [adapter] [plan] [step] [t5] [--device NAME] [--seconds N] [--json FILE]\n"
          "       sora-bench t5-step full|lora|sora SOURCE TARGET STEPS [PROFILE]\n"
          "  all parts but t5 where none is named; --seconds for each group (default 1); items of a group are measured in turn\n"
          "  t5-step: training steps of T5-small's shape in a process of their own, as one line of JSON\n",
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
    bench_state state = { .seconds = 1 };
    const char *json = NULL, *device_name = NULL;
    bool wanted[SORA_COUNT(parts)] = { 0 }, any = false;
    if (argc > 1 && strcmp(argv[1], "t5-step") == 0) return bench_t5_child(argc - 2, argv + 2);
    state.program = argv[0];
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
        else
            return usage();
    }
    SORA_TRY(sora_context_create(&(sora_context_options) { .device = device_name }, &state.context, &error));
    const sora_device *device = sora_context_device(state.context);
    printf("%s, %s, %s, %u compute units\n", device->name, device->platform, device->driver, device->limits.compute_units);
    state.json = json_object();
    json_object_set_new(state.json, "version", json_string(sora_version()));
    json_object_set_new(
        state.json, "device",
        json_pack("{s:s, s:s, s:s}", "name", device->name, "platform", device->platform, "driver", device->driver));
    for (size_t i = 0; i < SORA_COUNT(parts); i++)
        if (wanted[i] || (!any && !parts[i].long_one)) SORA_TRY(parts[i].run(&state, &error));
    if (json) SORA_TRY(write_json(&state, json, &error));
cleanup:
    if (status != SORA_OK) fprintf(stderr, "sora-bench: %s\n", error.message);
    json_decref(state.json);
    if (state.context) sora_context_destroy(&state.context);
    return status != SORA_OK;
}
