/* SPDX-License-Identifier: Apache-2.0 */
#include "model/unet.h"

#include "base/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FC_DEPTH 6
#define MAX_SIZE 4096
#define MAX_WIDTH 1024

/* Channels after each encoder block and after each decoder stage of the earlier study's network. */
static const int fc_encoder[FC_DEPTH] = { 4, 8, 16, 32, 64, 64 };
static const int fc_decoder[FC_DEPTH] = { 64, 32, 32, 16, 8, 4 };

static bool is_fc(const sora_unet *unet)
{
    return strcmp(unet->config.model, "unet-fc") == 0;
}

static int encoder_channels(const sora_unet *unet, int level)
{
    return is_fc(unet) ? fc_encoder[level] : unet->config.width << level;
}

static int decoder_channels(const sora_unet *unet, int stage)
{
    return is_fc(unet) ? fc_decoder[stage] : unet->config.width << (unet->depth - 1 - stage);
}

/* What the bottleneck of unet-fc takes and gives. */
static int bottleneck_features(const sora_unet *unet)
{
    int side = unet->config.size >> FC_DEPTH;
    return fc_encoder[FC_DEPTH - 1] * side * side;
}

static sora_status check_options(const sora_unet_options *options, sora_unet_options *config, sora_error *error)
{
    *config = *options;
    config->model = options->model ? options->model : "unet-fc";
    config->size = options->size ? options->size : 256;
    if (strcmp(config->model, "unet-fc") == 0) {
        config->model = "unet-fc";
        if (options->width || options->depth)
            return sora_fail(error, SORA_ERROR_ARGUMENT,
                             "unet-fc has a fixed width and depth; --width and --depth belong to --model unet");
        if (config->size < 64 || config->size > MAX_SIZE || config->size % 64 != 0)
            return sora_fail(error, SORA_ERROR_ARGUMENT, "size %d: unet-fc takes multiples of 64 from 64 to %d", config->size,
                             MAX_SIZE);
        return SORA_OK;
    }
    if (strcmp(config->model, "unet") != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "model \"%s\": expected unet-fc or unet", config->model);
    config->model = "unet";
    config->width = options->width ? options->width : 64;
    config->depth = options->depth ? options->depth : 4;
    if (config->width < 1 || config->width > MAX_WIDTH)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "width %d: expected 1 to %d", config->width, MAX_WIDTH);
    if (config->depth < 1 || config->depth > SORA_UNET_MAX_DEPTH)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "depth %d: expected 1 to %d", config->depth, SORA_UNET_MAX_DEPTH);
    int step = 1 << config->depth;
    if (config->size < step || config->size > MAX_SIZE || config->size % step != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "size %d: a unet of depth %d takes multiples of %d from %d to %d",
                         config->size, config->depth, step, step, MAX_SIZE);
    return SORA_OK;
}

sora_status sora_unet_largest_weight(const sora_unet_options *options, const char **name, uint64_t *elements, sora_error *error)
{
    sora_unet unet = { 0 };
    sora_status status = check_options(options, &unet.config, error);
    if (status != SORA_OK) return status;
    uint64_t features = is_fc(&unet) ? (uint64_t)bottleneck_features(&unet) : (uint64_t)unet.config.width << unet.config.depth;
    *name = is_fc(&unet) ? "bottleneck.weight" : "bottleneck.conv2.weight";
    *elements = features * features * (is_fc(&unet) ? 1 : 9);
    return SORA_OK;
}

static sora_status add_named(sora_unet *unet, const char *prefix, const char *suffix, sora_param_kind kind, sora_shape shape,
                             float value, sora_param **out, sora_error *error)
{
    char *name = NULL;
    sora_status status = sora_format(&name, error, "%s.%s", prefix, suffix);
    if (status == SORA_OK) status = sora_params_add(unet->params, name, kind, shape, out, error);
    free(name);
    if (status != SORA_OK) return status;
    float *host = sora_param_host(*out);
    for (int64_t i = 0, n = sora_shape_elements(&shape); i < n; i++) host[i] = value;
    return SORA_OK;
}

static sora_status add_norm(sora_unet *unet, const char *block, int index, int channels, sora_unet_norm *norm, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_shape shape = SORA_SHAPE(channels);
    SORA_TRY(sora_format(&norm->name, error, "%s.norm%d", block, index + 1));
    SORA_TRY(add_named(unet, norm->name, "weight", SORA_PARAM_PLAIN, shape, 1.0f, &norm->gamma, error));
    SORA_TRY(add_named(unet, norm->name, "bias", SORA_PARAM_PLAIN, shape, 0.0f, &norm->beta, error));
    SORA_TRY(add_named(unet, norm->name, "running_mean", SORA_PARAM_STATE, shape, 0.0f, &norm->running_mean, error));
    SORA_TRY(add_named(unet, norm->name, "running_var", SORA_PARAM_STATE, shape, 1.0f, &norm->running_variance, error));
cleanup:
    return status;
}

static sora_status add_block(sora_unet *unet, const char *name, int in, int out, sora_unet_block *block, sora_error *error)
{
    sora_status status = SORA_OK;
    for (int i = 0; i < 2; i++) {
        char conv[64];
        snprintf(conv, sizeof conv, "%s.conv%d", name, i + 1);
        sora_layer_desc desc = { .in = i ? out : in, .out = out, .kernel = 3 };
        SORA_TRY(sora_layers_add(unet->layers, conv, &desc, &block->conv[i], error));
        SORA_TRY(add_norm(unet, name, i, out, &block->norm[i], error));
    }
cleanup:
    return status;
}

/* Transposed convolution, PyTorch's initial values: fan_in of its layout [in, out, 2, 2] is out · 4. */
static sora_status add_up(sora_unet *unet, int stage, int in, int out, sora_error *error)
{
    sora_status status = SORA_OK;
    SORA_TRY(sora_format(&unet->up[stage].name, error, "decoder.%d.up", stage));
    const char *name = unet->up[stage].name;
    SORA_TRY(add_named(unet, name, "weight", SORA_PARAM_WEIGHT, SORA_SHAPE(in, out, 2, 2), 0.0f, &unet->up[stage].weight, error));
    SORA_TRY(add_named(unet, name, "bias", SORA_PARAM_PLAIN, SORA_SHAPE(out), 0.0f, &unet->up[stage].bias, error));
    sora_param *both[2] = { unet->up[stage].weight, unet->up[stage].bias };
    for (int i = 0; i < 2; i++) {
        sora_shape shape = sora_param_shape(both[i]);
        sora_random_stream stream = { .seed = unet->config.seed,
                                      .purpose = SORA_PURPOSE_INIT,
                                      .stream = sora_hash_name(sora_param_name(both[i])) };
        float *value = sora_param_host(both[i]);
        for (int64_t j = 0, n = sora_shape_elements(&shape); j < n; j++)
            value[j] = (float)((2.0 * sora_random_uniform(&stream) - 1.0) / sqrt(4.0 * out));
    }
cleanup:
    return status;
}

static sora_status add_bottleneck(sora_unet *unet, int channels, sora_error *error)
{
    if (!is_fc(unet)) return add_block(unet, "bottleneck", channels, 2 * channels, &unet->bottleneck_block, error);
    int features = bottleneck_features(unet);
    return sora_layers_add(unet->layers, "bottleneck", &(sora_layer_desc) { .in = features, .out = features, .bias = true },
                           &unet->bottleneck, error);
}

sora_status sora_unet_create(sora_context *context, const sora_unet_options *options, sora_unet **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_unet *unet = NULL;
    char name[32];
    *out = NULL;
    SORA_TRY(sora_allocate(1, sizeof *unet, "network", &unet, error));
    SORA_TRY(check_options(options, &unet->config, error));
    unet->depth = is_fc(unet) ? FC_DEPTH : unet->config.depth;
    for (int c = 0; c < 3; c++) unet->deviation[c] = 1.0f;
    SORA_TRY(sora_params_create(context, &unet->params, error));
    SORA_TRY(sora_layers_create(unet->params, unet->config.seed, &unet->layers, error));
    int channels = 3;
    for (int level = 0; level < unet->depth; level++) {
        int next = encoder_channels(unet, level);
        snprintf(name, sizeof name, "encoder.%d", level);
        SORA_TRY(add_block(unet, name, channels, next, &unet->encoder[level], error));
        channels = next;
    }
    SORA_TRY(add_bottleneck(unet, channels, error));
    if (!is_fc(unet)) channels *= 2;
    for (int stage = 0; stage < unet->depth; stage++) {
        int skip = encoder_channels(unet, unet->depth - 1 - stage), next = decoder_channels(unet, stage);
        snprintf(name, sizeof name, "decoder.%d", stage);
        SORA_TRY(add_up(unet, stage, channels, skip, error));
        SORA_TRY(add_block(unet, name, 2 * skip, next, &unet->decoder[stage], error));
        channels = next;
    }
    SORA_TRY(sora_layers_add(unet->layers, "head", &(sora_layer_desc) { .in = channels, .out = 1, .kernel = 1, .bias = true },
                             &unet->head, error));
    *out = unet;
    unet = NULL;
cleanup:
    sora_unet_destroy(&unet);
    return status;
}

static void free_block(sora_unet_block *block)
{
    for (int i = 0; i < 2; i++) free(block->norm[i].name);
}

void sora_unet_destroy(sora_unet **unet)
{
    if (!unet || !*unet) return;
    for (int i = 0; i < SORA_UNET_MAX_DEPTH; i++) {
        free_block(&(*unet)->encoder[i]);
        free_block(&(*unet)->decoder[i]);
        free((*unet)->up[i].name);
    }
    free_block(&(*unet)->bottleneck_block);
    sora_layers_destroy(&(*unet)->layers);
    sora_params_destroy(&(*unet)->params);
    free(*unet);
    *unet = NULL;
}

sora_params *sora_unet_params(const sora_unet *unet)
{
    return unet->params;
}

sora_layers *sora_unet_layers(const sora_unet *unet)
{
    return unet->layers;
}

const sora_unet_options *sora_unet_config(const sora_unet *unet)
{
    return &unet->config;
}

void sora_unet_set_normalisation(sora_unet *unet, const float mean[3], const float deviation[3])
{
    memcpy(unet->mean, mean, sizeof unet->mean);
    memcpy(unet->deviation, deviation, sizeof unet->deviation);
}

void sora_unet_normalisation(const sora_unet *unet, float mean[3], float deviation[3])
{
    memcpy(mean, unet->mean, sizeof unet->mean);
    memcpy(deviation, unet->deviation, sizeof unet->deviation);
}

static sora_tensor *block_forward(sora_graph *graph, const sora_unet_block *block, sora_tensor *x, bool frozen)
{
    for (int i = 0; i < 2; i++) {
        const sora_unet_norm *norm = &block->norm[i];
        x = sora_layer_forward(graph, block->conv[i], x, false);
        x = sora_batch_norm(graph, norm->name, x,
                            &(sora_batch_norm_tensors) { .gamma = sora_graph_param(graph, norm->gamma),
                                                         .beta = sora_graph_param(graph, norm->beta),
                                                         .running_mean = sora_graph_param(graph, norm->running_mean),
                                                         .running_variance = sora_graph_param(graph, norm->running_variance),
                                                         .frozen = frozen,
                                                         .relu = true });
    }
    return x;
}

static sora_tensor *bottleneck_forward(sora_graph *graph, sora_unet *unet, sora_tensor *x, const sora_unet_graph_options *options)
{
    if (is_fc(unet)) {
        sora_shape shape = sora_tensor_shape(x);
        x = sora_layer_forward(graph, unet->bottleneck, x, true);
        x = sora_reshape(graph, "bottleneck.unflatten", x, shape);
    } else {
        x = block_forward(graph, &unet->bottleneck_block, x, options->batch_norm_frozen);
    }
    return options->dropout > 0.0f ? sora_dropout(graph, "bottleneck.dropout", x, options->dropout) : x;
}

sora_mask_loss sora_mask_loss_of(const char *name)
{
    return strcmp(name, "bce") == 0 ? SORA_LOSS_BCE : strcmp(name, "dice-bce") == 0 ? SORA_LOSS_DICE_BCE : SORA_LOSS_DICE;
}

static sora_tensor *loss_forward(sora_graph *graph, sora_mask_loss loss, sora_tensor *logits, sora_tensor *probability,
                                 sora_tensor *mask)
{
    sora_tensor *dice = loss != SORA_LOSS_BCE ? sora_dice_loss(graph, "loss.dice", probability, mask) : NULL;
    sora_tensor *bce = loss != SORA_LOSS_DICE ? sora_bce_with_logits(graph, "loss.bce", logits, mask) : NULL;
    if (loss == SORA_LOSS_DICE) return dice;
    return loss == SORA_LOSS_BCE ? bce : sora_add(graph, "loss", dice, bce);
}

sora_status sora_unet_build(sora_unet *unet, const sora_unet_graph_options *options, sora_unet_graph *out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_tensor *skips[SORA_UNET_MAX_DEPTH];
    sora_unet_graph built = { 0 };
    char name[32];
    *out = built;
    int size = unet->config.size, batch = options->graph.batch;
    SORA_TRY(sora_graph_create(unet->params, &options->graph, &built.graph, error));
    sora_graph *graph = built.graph;
    built.image = sora_graph_input(graph, "image", SORA_F32, SORA_SHAPE(batch, 3, size, size));
    built.mask = sora_graph_input(graph, "mask", SORA_F32, SORA_SHAPE(batch, 1, size, size));
    sora_tensor *x = built.image;
    for (int level = 0; level < unet->depth; level++) {
        skips[level] = block_forward(graph, &unet->encoder[level], x, options->batch_norm_frozen);
        snprintf(name, sizeof name, "encoder.%d.pool", level);
        x = sora_max_pool2d(graph, name, skips[level]);
    }
    x = bottleneck_forward(graph, unet, x, options);
    for (int stage = 0; stage < unet->depth; stage++) {
        x = sora_conv_transpose2d(graph, unet->up[stage].name, x, sora_graph_param(graph, unet->up[stage].weight),
                                  sora_graph_param(graph, unet->up[stage].bias));
        snprintf(name, sizeof name, "decoder.%d.concat", stage);
        x = sora_concat(graph, name, x, skips[unet->depth - 1 - stage]);
        x = block_forward(graph, &unet->decoder[stage], x, options->batch_norm_frozen);
    }
    sora_tensor *logits = sora_layer_forward(graph, unet->head, x, false);
    built.probability = sora_sigmoid(graph, "probability", logits);
    built.loss = loss_forward(graph, options->loss, logits, built.probability, built.mask);
    sora_graph_output(graph, built.probability);
    sora_graph_output(graph, built.loss);
    /* With every rank at 0 there is nothing to train, and no way back. */
    bool trains = options->graph.training && sora_params_trainable_elements(unet->params) > 0;
    SORA_TRY(sora_graph_plan(graph, trains ? built.loss : NULL, error));
    *out = built;
    built.graph = NULL;
cleanup:
    sora_graph_destroy(&built.graph);
    return status;
}
