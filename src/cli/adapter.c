/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BINS 12
#define BAR 30
/* Images of random numbers that the merge is tried on, and what rounding may change in probabilities. */
#define PROBES 4
#define LARGEST_CHANGE 1e-4

static sora_status fail(sora_error *error, sora_status status, const char *format, const char *what)
{
    error->status = status;
    snprintf(error->message, sizeof error->message, format, what);
    return status;
}

/* ---- show
 * ------------------------------------------------------------------------------------------------------------------------------
 */

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

static void print_layer(const sora_layer_info *info)
{
    printf("%-22s %-5s %4d x %-5d %4d of %-4d ", info->name, info->kind == SORA_ADAPTER_SORA ? "sora" : "lora", info->out,
           info->in * (info->kernel ? info->kernel * info->kernel : 1), info->rank_kept, info->rank_max);
    int full = info->rank_max ? info->rank_kept * 20 / info->rank_max : 0;
    for (int i = 0; i < 20; i++) putchar(i < full ? '#' : '.');
    printf("  %llu\n", (unsigned long long)info->parameters_kept);
}

static sora_status show(sora_unet *unet, bool json, sora_error *error)
{
    sora_layers *layers = sora_unet_layers(unet);
    json_t *list = json_array();
    float *gates = NULL;
    size_t gate_count = 0;
    int kept = 0, most = 0;
    uint64_t parameters = 0;
    if (!json) printf("%-22s %-5s %-12s %-12s %-20s  %s\n", "layer", "kind", "p x q", "rank kept", "", "parameters kept");
    for (size_t i = 0; i < sora_layers_count(layers); i++) {
        sora_layer *layer = sora_layers_at(layers, i);
        sora_layer_info info;
        sora_status status = sora_layer_describe(layer, &info, error);
        if (status != SORA_OK) goto failed;
        if (!info.active) continue;
        kept += info.rank_kept;
        most += info.rank_max;
        parameters += info.parameters_kept;
        if (info.kind == SORA_ADAPTER_SORA && info.rank > 0) {
            float *more = realloc(gates, (gate_count + (size_t)info.rank) * sizeof *gates);
            if (!more) {
                status = fail(error, SORA_ERROR_MEMORY, "%s", "no host memory for the gates");
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
            print_layer(&info);
        continue;
    failed:
        json_decref(list);
        free(gates);
        return status;
    }
    if (json) {
        json_t *values = json_array();
        for (size_t i = 0; i < gate_count; i++) json_array_append_new(values, json_real((double)gates[i]));
        cli_print_json(json_pack("{s:o,s:i,s:i,s:I,s:o}", "modules", list, "rank_max", most, "rank_kept", kept, "parameters_kept",
                                 (json_int_t)parameters, "gates", values));
    } else {
        printf("%-22s %-5s %-12s %4d of %-4d %-20s  %llu\n", "all", "", "", kept, most, "", (unsigned long long)parameters);
        print_histogram(gates, gate_count);
        json_decref(list);
    }
    free(gates);
    return SORA_OK;
}

static bool has_adapters(sora_unet *unet)
{
    sora_layer_info info;
    for (size_t i = 0; i < sora_layers_count(sora_unet_layers(unet)); i++)
        if (sora_layer_describe(sora_layers_at(sora_unet_layers(unet), i), &info, NULL) == SORA_OK && info.active) return true;
    return false;
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
    sora_unet *unet = NULL;
    bool help;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (command.word_count == 0) status = fail(&error, SORA_ERROR_ARGUMENT, "a run is needed; usage: soracl %s", command.usage);
    if (status == SORA_OK) status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) status = sora_unet_open(context, words[0], &unet, &error);
    if (status == SORA_OK && !has_adapters(unet)) status = fail(&error, SORA_ERROR_INPUT, "%s has no adapters", words[0]);
    if (status == SORA_OK) status = show(unet, globals.json, &error);
    sora_unet_destroy(&unet);
    sora_context_destroy(&context);
    return cli_fail(status, &error);
}

/* ---- merge
 * ------------------------------------------------------------------------------------------------------------------------------
 */

/* Probabilities for images of random numbers in [-2, 2], the range of normalised pictures: [PROBES][size][size]. */
static sora_status probe(sora_unet *unet, float **out, size_t *count, sora_error *error)
{
    size_t size = (size_t)sora_unet_config(unet)->size, pixels = size * size;
    uint32_t state = 1;
    sora_unet_graph graph = { 0 };
    sora_unet_graph_options options = { .graph = { .batch = PROBES } };
    float *images = malloc(PROBES * 3 * pixels * sizeof *images), *masks = calloc(PROBES * pixels, sizeof *masks);
    *out = malloc(PROBES * pixels * sizeof **out);
    *count = PROBES * pixels;
    sora_status status =
        images && masks && *out ? SORA_OK : fail(error, SORA_ERROR_MEMORY, "%s", "no host memory to try the merge");
    for (size_t i = 0; status == SORA_OK && i < PROBES * 3 * pixels; i++) {
        state = state * 1664525u + 1013904223u;
        images[i] = 4.0f * (float)(state >> 8) / 16777216.0f - 2.0f;
    }
    if (status == SORA_OK) status = sora_unet_build(unet, &options, &graph, error);
    if (status == SORA_OK) status = sora_params_upload(sora_unet_params(unet), 0, error);
    if (status == SORA_OK) status = sora_graph_write(graph.graph, graph.image, images, PROBES, error);
    if (status == SORA_OK) status = sora_graph_write(graph.graph, graph.mask, masks, PROBES, error);
    if (status == SORA_OK) status = sora_graph_forward(graph.graph, PROBES, 0, 0, error);
    if (status == SORA_OK) status = sora_graph_read(graph.graph, graph.probability, *out, error);
    sora_graph_destroy(&graph.graph);
    if (sora_params_on_device(sora_unet_params(unet))) {
        sora_status down = sora_params_download(sora_unet_params(unet), status == SORA_OK ? error : NULL);
        if (status == SORA_OK) status = down;
    }
    free(images);
    free(masks);
    return status;
}

static sora_status merge(sora_unet *unet, double *largest, int *layers_merged, sora_error *error)
{
    float *before = NULL, *after = NULL;
    size_t count;
    sora_layers *layers = sora_unet_layers(unet);
    *largest = 0.0;
    *layers_merged = 0;
    sora_status status = probe(unet, &before, &count, error);
    for (size_t i = 0; status == SORA_OK && i < sora_layers_count(layers); i++) {
        sora_layer_info info;
        status = sora_layer_describe(sora_layers_at(layers, i), &info, error);
        if (status != SORA_OK || !info.active) continue;
        status = sora_layer_deactivate(sora_layers_at(layers, i), NULL, error);
        ++*layers_merged;
    }
    if (status == SORA_OK) status = probe(unet, &after, &count, error);
    for (size_t i = 0; status == SORA_OK && i < count; i++) *largest = fmax(*largest, fabs((double)after[i] - (double)before[i]));
    free(before);
    free(after);
    if (status == SORA_OK && !(*largest <= LARGEST_CHANGE)) {
        error->status = SORA_ERROR_NUMERIC;
        snprintf(error->message, sizeof error->message,
                 "the merge changes a probability by %.3g, more than rounding can (%.0e); nothing was written", *largest,
                 LARGEST_CHANGE);
        status = SORA_ERROR_NUMERIC;
    }
    return status;
}

int cli_adapter_merge(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const char *out = NULL, *words[1];
    const cli_option options[] = { { "out", "Data", "FILE", "merged weights (safetensors), for --from", NULL, NULL, &out },
                                   CLI_GLOBALS(globals) };
    cli_command command = { .name = "adapter merge",
                            .summary = "fold a run's adapters into plain weights",
                            .usage = "adapter merge RUN --out WEIGHTS",
                            .example = "soracl adapter merge run2 --out merged.safetensors",
                            .options = options,
                            .option_count = COUNT(options),
                            .words = words,
                            .word_room = 1 };
    sora_error error;
    sora_context *context = NULL;
    sora_unet *unet = NULL;
    bool help;
    double largest;
    int merged;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (command.word_count == 0 || !out)
        status = fail(&error, SORA_ERROR_ARGUMENT, "a run and --out are needed; usage: soracl %s", command.usage);
    if (status == SORA_OK) status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) status = sora_unet_open(context, words[0], &unet, &error);
    if (status == SORA_OK && !has_adapters(unet))
        status = fail(&error, SORA_ERROR_INPUT, "%s has no adapters to merge", words[0]);
    if (status == SORA_OK) status = merge(unet, &largest, &merged, &error);
    if (status == SORA_OK) status = sora_unet_save(unet, out, &error);
    if (status == SORA_OK && globals.json)
        cli_print_json(json_pack("{s:s,s:i,s:f,s:f}", "weights", out, "layers", merged, "largest_change", largest, "allowed",
                                 LARGEST_CHANGE));
    else if (status == SORA_OK)
        printf("%s: %d layers merged; the largest change of a probability is %.2g (allowed %.0e)\n", out, merged, largest,
               LARGEST_CHANGE);
    sora_unet_destroy(&unet);
    sora_context_destroy(&context);
    return cli_fail(status, &error);
}
