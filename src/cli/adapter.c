/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include "soracl/peft.h"

#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BINS 12
#define BAR 30
/* Images of random numbers that the merge is tried on, and what rounding may change in probabilities. */
#define PROBES 4
#define LARGEST_CHANGE 1e-4

/* ---- Models of either task --------------------------------------------------------------------------------------- */

typedef struct adapted_model {
    sora_unet *unet;
    sora_t5 *t5; /* one of the two */
    sora_layers *layers;
    sora_params *params;
} adapted_model;

static bool is_t5(const char *run)
{
    sora_run_options options;
    return cli_run_options(run, &options) && options.task == SORA_TASK_T5;
}

static bool has_adapters(const sora_layers *layers)
{
    sora_layer_info info;
    for (size_t i = 0; i < sora_layers_count(layers); i++)
        if (sora_layer_describe(sora_layers_at(layers, i), &info, NULL) == SORA_OK && info.active) return true;
    return false;
}

/* A run of either task; with `model`, a T5 with adapters of a run or a PEFT folder on it. A T5 whose weights themselves trained
 * has none: that is refused unless `plain` is fine. */
static sora_status open_model(sora_context *context, const char *from, const char *model, bool plain, adapted_model *out,
                              sora_error *error)
{
    *out = (adapted_model) { 0 };
    sora_status status = model         ? sora_t5_open(context, model, from, &out->t5, error)
                         : is_t5(from) ? sora_t5_open(context, from, NULL, &out->t5, error)
                                       : sora_unet_open(context, from, &out->unet, error);
    if (status != SORA_OK) return status;
    out->layers = out->t5 ? sora_t5_layers(out->t5) : sora_unet_layers(out->unet);
    out->params = out->t5 ? sora_t5_params(out->t5) : sora_unet_params(out->unet);
    if (has_adapters(out->layers) || (plain && out->t5)) return SORA_OK;
    return cli_error(error, SORA_ERROR_INPUT, "%s has no adapters", from);
}

/* Whether a path lies in the folder or is it, links followed; of what isn't there yet, the folder that it would be made in. */
static bool inside(const char *path, const char *folder)
{
    char copy[4096], *at = copy, *inner, *outer = realpath(folder, NULL);
    snprintf(copy, sizeof copy, "%s", path);
    while (!(inner = realpath(at, NULL)) && strcmp(at, ".") != 0) at = dirname(at);
    size_t length = outer ? strlen(outer) : 0;
    bool yes = inner && outer && strncmp(inner, outer, length) == 0 && (inner[length] == '/' || inner[length] == '\0');
    free(inner);
    free(outer);
    return yes;
}

/* A file takes no place in a run or in one of its checkpoints. */
static sora_status check_file(const char *out, sora_error *error)
{
    char copy[4096], path[4112], *folder = copy;
    snprintf(copy, sizeof copy, "%s", out);
    for (int up = 0; up < 2; up++) {
        folder = dirname(folder);
        snprintf(path, sizeof path, "%s/events.jsonl", folder);
        if (access(path, F_OK) == 0)
            return cli_error(error, SORA_ERROR_ARGUMENT, "--out %s: lies in %s, which is a run; name a place outside of it", out,
                             folder);
    }
    return SORA_OK;
}

/* Nothing is written over a model or a run. */
static sora_status check_new(const char *out, sora_error *error)
{
    static const char *const marks[] = { "config.json", "events.jsonl" };
    for (size_t i = 0; i < COUNT(marks); i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", out, marks[i]);
        if (access(path, F_OK) == 0)
            return cli_error(error, SORA_ERROR_ARGUMENT,
                             "--out %s: holds %s, so a model or a run is there already; name a folder that is not there yet", out,
                             marks[i]);
    }
    return SORA_OK;
}

static void close_model(adapted_model *model)
{
    sora_unet_destroy(&model->unet);
    sora_t5_destroy(&model->t5);
}

/* ---- show -------------------------------------------------------------------------------------------------------- */

static void print_histogram(const float *gates, size_t count)
{
    float low = INFINITY, high = -INFINITY;
    size_t bins[BINS] = { 0 }, zeros = 0, most = 1;
    for (size_t i = 0; i < count; i++) {
        low = fminf(low, gates[i]);
        high = fmaxf(high, gates[i]);
    }
    if (count == 0) return;
    for (size_t i = 0; i < count; i++) {
        int bin = high > low ? (int)((gates[i] - low) / (high - low) * BINS) : 0;
        if (gates[i] == 0.0f)
            zeros++;
        else if (++bins[bin < BINS ? bin : BINS - 1] > most)
            most = bins[bin < BINS ? bin : BINS - 1];
    }
    printf("\ngates: %zu, of which exactly 0: %zu\n", count, zeros);
    for (int b = 0; b < BINS && high > low; b++) {
        printf("  %8.3f to %8.3f  %5zu  ", (double)(low + (high - low) * (float)b / BINS),
               (double)(low + (high - low) * (float)(b + 1) / BINS), bins[b]);
        for (size_t i = 0; i < bins[b] * BAR / most; i++) putchar('#');
        putchar('\n');
    }
}

static void print_layer(const sora_layer_info *info, int width)
{
    printf("%-*s %-5s %4d x %-5d %4d of %-4d ", width, info->name, info->kind == SORA_ADAPTER_SORA ? "sora" : "lora", info->out,
           info->in * (info->kernel ? info->kernel * info->kernel : 1), info->rank_kept, info->rank_max);
    int full = info->rank_max ? info->rank_kept * 20 / info->rank_max : 0;
    for (int i = 0; i < 20; i++) putchar(i < full ? '#' : '.');
    printf("  %llu\n", (unsigned long long)info->parameters_kept);
}

static int name_width(const sora_layers *layers)
{
    sora_layer_info info;
    int width = 22;
    for (size_t i = 0; i < sora_layers_count(layers); i++)
        if (sora_layer_describe(sora_layers_at(layers, i), &info, NULL) == SORA_OK && info.active &&
            (int)strlen(info.name) > width)
            width = (int)strlen(info.name);
    return width;
}

static sora_status show(sora_layers *layers, bool json, sora_error *error)
{
    json_t *list = json_array();
    sora_status status = SORA_OK;
    float *gates = NULL;
    size_t gate_count = 0;
    int kept = 0, most = 0;
    uint64_t parameters = 0;
    int width = name_width(layers);
    if (!json) printf("%-*s %-5s %-12s %-12s %-20s  %s\n", width, "layer", "kind", "p x q", "rank kept", "", "parameters kept");
    for (size_t i = 0; i < sora_layers_count(layers); i++) {
        sora_layer *layer = sora_layers_at(layers, i);
        sora_layer_info info;
        status = sora_layer_describe(layer, &info, error);
        if (status != SORA_OK) goto failed;
        if (!info.active) continue;
        kept += info.rank_kept;
        most += info.rank_max;
        parameters += info.parameters_kept;
        if (info.kind == SORA_ADAPTER_SORA && info.rank > 0) {
            float *more = realloc(gates, (gate_count + (size_t)info.rank) * sizeof *gates);
            if (!more) {
                status = cli_error(error, SORA_ERROR_MEMORY, "%s", "no host memory for the gates");
                goto failed;
            }
            gates = more;
            status = sora_layer_gates(layer, gates + gate_count, error);
            if (status != SORA_OK) goto failed;
            gate_count += (size_t)info.rank;
        }
        if (json)
            json_array_append_new(list, json_pack("{s:s,s:i,s:i,s:f,s:I}", "name", info.name, "rank_max", info.rank_max,
                                                  "rank_kept", info.rank_kept, "scale", (double)info.scale, "parameters_kept",
                                                  (json_int_t)info.parameters_kept));
        else
            print_layer(&info, width);
        continue;
    failed:
        json_decref(list);
        free(gates);
        return status;
    }
    if (json) {
        json_t *values = json_array();
        for (size_t i = 0; i < gate_count; i++) json_array_append_new(values, json_real((double)gates[i]));
        status = cli_print_json(json_pack("{s:o,s:i,s:i,s:I,s:o}", "modules", list, "rank_max", most, "rank_kept", kept,
                                          "parameters_kept", (json_int_t)parameters, "gates", values),
                                error);
    } else {
        printf("%-*s %-5s %-12s %4d of %-4d %-20s  %llu\n", width, "all", "", "", kept, most, "", (unsigned long long)parameters);
        print_histogram(gates, gate_count);
        json_decref(list);
    }
    free(gates);
    return status;
}

int cli_adapter_show(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const cli_option options[] = { CLI_GLOBALS(globals) };
    const char *words[1];
    cli_command command = { .name = "adapter show",
                            .summary = "ranks and gates of a run's adapters",
                            .usage = "adapter show RUN",
                            .example = "soracl adapter show run2",
                            .options = options,
                            .option_count = COUNT(options),
                            .words = words,
                            .word_room = 1 };
    sora_error error;
    sora_context *context = NULL;
    adapted_model model = { 0 };
    bool help;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (command.word_count == 0)
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "a run is needed; usage: soracl %s", command.usage);
    if (status == SORA_OK) status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) status = open_model(context, words[0], NULL, false, &model, &error);
    if (status == SORA_OK) status = show(model.layers, globals.json, &error);
    close_model(&model);
    return cli_finish(&globals, &context, status, &error);
}

/* ---- merge ------------------------------------------------------------------------------------------------------- */

/* What the merge is tried on: its output for inputs of random numbers, before and after. */
typedef struct probe {
    float *values;
    size_t count;
} probe;

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Probabilities for images of random numbers in [-2, 2], the range of normalised pictures: [PROBES][size][size]. */
static sora_status probe_unet(sora_unet *unet, probe *out, sora_error *error)
{
    size_t size = (size_t)sora_unet_config(unet)->size, pixels = size * size;
    uint32_t state = 1;
    sora_unet_graph graph = { 0 };
    sora_unet_graph_options options = { .graph = { .batch = PROBES } };
    float *images = malloc(PROBES * 3 * pixels * sizeof *images), *masks = calloc(PROBES * pixels, sizeof *masks);
    *out = (probe) { malloc(PROBES * pixels * sizeof *out->values), PROBES * pixels };
    sora_status status =
        images && masks && out->values ? SORA_OK : cli_error(error, SORA_ERROR_MEMORY, "%s", "no host memory to try the merge");
    for (size_t i = 0; status == SORA_OK && i < PROBES * 3 * pixels; i++)
        images[i] = 4.0f * (float)next_random(&state) / 16777216.0f - 2.0f;
    if (status == SORA_OK) status = sora_unet_build(unet, &options, &graph, error);
    if (status == SORA_OK) status = sora_params_upload(sora_unet_params(unet), 0, error);
    if (status == SORA_OK) status = sora_graph_write(graph.graph, graph.image, images, PROBES, error);
    if (status == SORA_OK) status = sora_graph_write(graph.graph, graph.mask, masks, PROBES, error);
    if (status == SORA_OK) status = sora_graph_forward(graph.graph, PROBES, 0, 0, error);
    if (status == SORA_OK) status = sora_graph_read(graph.graph, graph.probability, out->values, error);
    sora_graph_destroy(&graph.graph);
    free(images);
    free(masks);
    return status;
}

#define PROBE_LENGTH 24

/* The decoder's last states for texts of random ids. */
static sora_status probe_t5(sora_t5 *t5, probe *out, sora_error *error)
{
    const sora_t5_config *c = sora_t5_describe(t5);
    int32_t ids[PROBES * PROBE_LENGTH], lengths[PROBES];
    uint32_t state = 1;
    sora_t5_graph graph = { 0 };
    sora_t5_graph_options options = {
        .graph = { .batch = PROBES }, .source = PROBE_LENGTH, .target = PROBE_LENGTH, .keep_hidden = true
    };
    size_t count = (size_t)PROBES * PROBE_LENGTH * (size_t)c->width;
    for (int i = 0; i < PROBES * PROBE_LENGTH; i++) ids[i] = (int32_t)(next_random(&state) % (uint32_t)c->vocabulary);
    for (int i = 0; i < PROBES; i++) lengths[i] = PROBE_LENGTH - i;
    *out = (probe) { malloc(count * sizeof *out->values), count };
    sora_status status = out->values ? SORA_OK : cli_error(error, SORA_ERROR_MEMORY, "%s", "no host memory to try the merge");
    if (status == SORA_OK) status = sora_t5_build(t5, &options, &graph, error);
    if (status == SORA_OK) status = sora_params_upload(sora_t5_params(t5), 0, error);
    if (status == SORA_OK) status = sora_graph_write(graph.graph, graph.source, ids, PROBES, error);
    if (status == SORA_OK) status = sora_graph_write(graph.graph, graph.lengths, lengths, PROBES, error);
    if (status == SORA_OK) status = sora_graph_write(graph.graph, graph.decoder, ids, PROBES, error);
    if (status == SORA_OK) status = sora_graph_write(graph.graph, graph.labels, ids, PROBES, error);
    if (status == SORA_OK) status = sora_graph_forward(graph.graph, PROBES, 0, 0, error);
    if (status == SORA_OK) status = sora_graph_read(graph.graph, graph.hidden, out->values, error);
    sora_graph_destroy(&graph.graph);
    return status;
}

static sora_status run_probe(adapted_model *model, probe *out, sora_error *error)
{
    sora_params_freeze(model->params);
    sora_status status = model->t5 ? probe_t5(model->t5, out, error) : probe_unet(model->unet, out, error);
    if (!sora_params_on_device(model->params)) return status;
    sora_status down = sora_params_download(model->params, status == SORA_OK ? error : NULL);
    return status == SORA_OK ? down : status;
}

/* *largest: of the output's change; of probabilities as it is, of states as a share of the largest of them. */
static sora_status merge(adapted_model *model, double *largest, int *layers_merged, sora_error *error)
{
    probe before = { 0 }, after = { 0 };
    double most = model->t5 ? 0.0 : 1.0;
    *largest = 0.0;
    *layers_merged = 0;
    sora_status status = run_probe(model, &before, error);
    for (size_t i = 0; status == SORA_OK && i < sora_layers_count(model->layers); i++) {
        sora_layer_info info;
        status = sora_layer_describe(sora_layers_at(model->layers, i), &info, error);
        if (status != SORA_OK || !info.active) continue;
        status = sora_layer_deactivate(sora_layers_at(model->layers, i), NULL, error);
        ++*layers_merged;
    }
    if (status == SORA_OK) status = run_probe(model, &after, error);
    for (size_t i = 0; status == SORA_OK && i < after.count; i++) {
        *largest = fmax(*largest, fabs((double)after.values[i] - (double)before.values[i]));
        most = fmax(most, fabs((double)before.values[i]));
    }
    free(before.values);
    free(after.values);
    if (status == SORA_OK) *largest /= most;
    if (status == SORA_OK && !(*largest <= LARGEST_CHANGE)) {
        error->status = SORA_ERROR_NUMERIC;
        snprintf(error->message, sizeof error->message,
                 "the merge changes the output by %.3g, more than rounding can (%.0e); nothing was written", *largest,
                 LARGEST_CHANGE);
        status = SORA_ERROR_NUMERIC;
    }
    return status;
}

static sora_status check_out(const char *out, const char *run, sora_error *error)
{
    char folder[4096];
    cli_run_folder(run, folder);
    if (inside(out, folder))
        return cli_error(error, SORA_ERROR_ARGUMENT,
                         "--out %s: lies in %s, whose adapters are merged; name a place outside of it", out, folder);
    sora_status status = check_file(out, error);
    return status == SORA_OK ? check_new(out, error) : status;
}

static sora_status dtype_of(const char *name, sora_file_dtype *out, sora_error *error)
{
    *out = SORA_FILE_F32;
    if (!name || strcmp(name, "fp32") == 0) return SORA_OK;
    *out = SORA_FILE_F16;
    return strcmp(name, "fp16") == 0 ? SORA_OK
                                     : cli_error(error, SORA_ERROR_ARGUMENT, "--dtype: \"%s\"; expected fp32 or fp16", name);
}

/* They would be ignored. */
static sora_status check_t5_options(const char *run, const char *model, const char *dtype, sora_error *error)
{
    sora_run_options options;
    if ((!model && !dtype) || !cli_run_options(run, &options) || options.task == SORA_TASK_T5) return SORA_OK;
    return cli_error(error, SORA_ERROR_ARGUMENT, "--%s is for runs of T5; %s is one of a U-Net", model ? "model" : "dtype", run);
}

int cli_adapter_merge(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const char *out = NULL, *base = NULL, *dtype = NULL, *words[1];
    const cli_option options[] = {
        { "out", "Data", "PATH", "U-Net: merged weights (safetensors), for --from; T5: a model's folder, for Transformers too",
          NULL, NULL, &out },
        { "model", "Data", "DIR", "T5 that the adapters of a run or PEFT folder are put on first", "as the run says", NULL,
          &base },
        { "dtype", "Data", "NAME", "T5: numbers of the file (fp32|fp16)", "fp32", NULL, &dtype },
        CLI_GLOBALS(globals)
    };
    cli_command command = { .name = "adapter merge",
                            .summary = "fold a run's adapters into plain weights",
                            .usage = "adapter merge RUN --out PATH",
                            .example = "soracl adapter merge run2 --out merged.safetensors",
                            .options = options,
                            .option_count = COUNT(options),
                            .words = words,
                            .word_room = 1 };
    sora_error error;
    sora_context *context = NULL;
    adapted_model model = { 0 };
    sora_file_dtype numbers;
    bool help;
    double largest;
    int merged;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (command.word_count == 0 || !out)
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "a run and --out are needed; usage: soracl %s", command.usage);
    if (status == SORA_OK) status = dtype_of(dtype, &numbers, &error);
    if (status == SORA_OK) status = check_t5_options(words[0], base, dtype, &error);
    if (status == SORA_OK) status = check_out(out, words[0], &error);
    if (status == SORA_OK) status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) status = open_model(context, words[0], base, true, &model, &error);
    if (status == SORA_OK) status = merge(&model, &largest, &merged, &error);
    if (status == SORA_OK)
        status = model.t5 ? sora_t5_save(model.t5, out, numbers, &error) : sora_unet_save(model.unet, out, &error);
    if (status == SORA_OK && globals.json)
        status = cli_print_json(json_pack("{s:s,s:i,s:f,s:f}", "weights", out, "layers", merged, "largest_change", largest,
                                          "allowed", LARGEST_CHANGE),
                                &error);
    else if (status == SORA_OK)
        printf("%s: %d layers merged; the largest change of the output is %.2g (allowed %.0e)\n", out, merged, largest,
               LARGEST_CHANGE);
    close_model(&model);
    return cli_finish(&globals, &context, status, &error);
}

/* ---- export, import ---------------------------------------------------------------------------------------------- */

int cli_adapter_export(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const char *out = NULL, *words[1];
    bool rank_one = false, help;
    const cli_option options[] = {
        { "out", "Data", "DIR", "PEFT folder: adapter_config.json and adapter_model.safetensors", NULL, NULL, &out },
        { "rank-one", "Data", NULL, "where every rank is 0, write one module of rank 1 that changes nothing", NULL, &rank_one,
          NULL },
        CLI_GLOBALS(globals)
    };
    cli_command command = { .name = "adapter export",
                            .summary = "a run's adapters as a folder that PEFT loads",
                            .usage = "adapter export RUN --out DIR",
                            .example = "soracl adapter export t5-run --out peft",
                            .options = options,
                            .option_count = COUNT(options),
                            .words = words,
                            .word_room = 1 };
    sora_error error;
    sora_context *context = NULL;
    adapted_model model = { 0 };
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (command.word_count == 0 || !out)
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "a run and --out are needed; usage: soracl %s", command.usage);
    if (status == SORA_OK) status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) status = open_model(context, words[0], NULL, false, &model, &error);
    sora_peft_export_options peft = { .base_model = model.t5 ? sora_t5_folder(model.t5) : NULL,
                                      .task_type = model.t5 ? "SEQ_2_SEQ_LM" : NULL,
                                      .rank_one_for_zero = rank_one };
    if (status == SORA_OK) status = sora_peft_export(model.layers, out, &peft, &error);
    if (status == SORA_OK && globals.json)
        status = cli_print_json(json_pack("{s:s}", "adapter", out), &error);
    else if (status == SORA_OK && !globals.quiet)
        printf("%s\n", out);
    close_model(&model);
    return cli_finish(&globals, &context, status, &error);
}

int cli_adapter_import(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const char *base = NULL, *out = NULL, *words[1];
    const cli_option options[] = { { "model", "Data", "DIR", "T5 that the adapters were made for", NULL, NULL, &base },
                                   { "out", "Data", "RUN", "folder of a run with them, for --model and --adapter", NULL, NULL,
                                     &out },
                                   CLI_GLOBALS(globals) };
    cli_command command = { .name = "adapter import",
                            .summary = "PEFT's LoRA adapters as a run",
                            .usage = "adapter import DIR --model DIR --out RUN",
                            .example = "soracl adapter import peft --model t5-small --out t5-run2",
                            .options = options,
                            .option_count = COUNT(options),
                            .words = words,
                            .word_room = 1 };
    sora_error error;
    sora_context *context = NULL;
    bool help;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (command.word_count == 0 || !base || !out)
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "a PEFT folder, --model and --out are needed; usage: soracl %s",
                           command.usage);
    if (status == SORA_OK) status = check_new(out, &error);
    if (status == SORA_OK) status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) status = sora_t5_import(context, base, words[0], out, &error);
    if (status == SORA_OK && globals.json)
        status = cli_print_json(json_pack("{s:s,s:s}", "run", out, "model", base), &error);
    else if (status == SORA_OK && !globals.quiet)
        printf("%s\n", out);
    return cli_finish(&globals, &context, status, &error);
}
