/* SPDX-License-Identifier: Apache-2.0 */
#include "model/t5.h"

#include "base/random.h"
#include "graph/params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { Q, K, V, O };

/* ---- Parameters -------------------------------------------------------------------------------------------------- */

static sora_status add_layer(sora_t5 *t5, const char *module, const char *name, int in, int out, sora_layer **layer,
                             sora_error *error)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", module, name);
    return sora_layers_add(t5->layers, full, &(sora_layer_desc) { .in = in, .out = out, .zero = true }, layer, error);
}

static sora_status add_norm(sora_t5 *t5, const char *format, int block, int layer, sora_param **out, sora_error *error)
{
    char name[128];
    snprintf(name, sizeof name, format, block, layer);
    sora_status status = sora_params_add(t5->params, name, SORA_PARAM_PLAIN, SORA_SHAPE(t5->config.width), out, error);
    for (int i = 0; status == SORA_OK && i < t5->config.width; i++) sora_param_host(*out)[i] = 1.0f;
    return status;
}

static sora_status add_attention(sora_t5 *t5, const char *stack, int block, int layer, bool self, sora_t5_attention *out,
                                 sora_error *error)
{
    static const char *const names[] = { "q", "k", "v", "o" };
    sora_status status = SORA_OK;
    int width = t5->config.width, inner = t5->config.heads * t5->config.head_size;
    char norm[64];
    SORA_TRY(sora_format(&out->name, error, "%s.block.%d.layer.%d.%s", stack, block, layer,
                         self ? "SelfAttention" : "EncDecAttention"));
    for (int i = 0; i < 4; i++)
        SORA_TRY(add_layer(t5, out->name, names[i], i == O ? inner : width, i == O ? width : inner, &out->qkvo[i], error));
    SORA_TRY(self ? sora_layers_pack(out->qkvo, 3, error) : sora_layers_pack(&out->qkvo[K], 2, error));
    snprintf(norm, sizeof norm, "%s.block.%%d.layer.%%d.layer_norm.weight", stack);
    SORA_TRY(add_norm(t5, norm, block, layer, &out->norm, error));
cleanup:
    return status;
}

static sora_status add_feed_forward(sora_t5 *t5, const char *stack, int block, int layer, sora_t5_feed_forward *out,
                                    sora_error *error)
{
    sora_status status = SORA_OK;
    int width = t5->config.width, inner = t5->config.inner_width;
    char norm[64];
    SORA_TRY(sora_format(&out->name, error, "%s.block.%d.layer.%d.DenseReluDense", stack, block, layer));
    SORA_TRY(add_layer(t5, out->name, t5->config.gated ? "wi_0" : "wi", width, inner, &out->in[0], error));
    if (t5->config.gated) {
        SORA_TRY(add_layer(t5, out->name, "wi_1", width, inner, &out->in[1], error));
        SORA_TRY(sora_layers_pack(out->in, 2, error));
    }
    SORA_TRY(add_layer(t5, out->name, "wo", inner, width, &out->out, error));
    snprintf(norm, sizeof norm, "%s.block.%%d.layer.%%d.layer_norm.weight", stack);
    SORA_TRY(add_norm(t5, norm, block, layer, &out->norm, error));
cleanup:
    return status;
}

static sora_status add_stack(sora_t5 *t5, const char *name, int count, bool decoder, sora_t5_stack *out, sora_error *error)
{
    sora_status status = SORA_OK;
    char text[96];
    SORA_TRY(sora_allocate((size_t)count, sizeof *out->blocks, name, &out->blocks, error));
    out->count = count;
    for (int i = 0; i < count; i++) {
        sora_t5_block *block = &out->blocks[i];
        SORA_TRY(add_attention(t5, name, i, 0, true, &block->self, error));
        if (decoder) SORA_TRY(add_attention(t5, name, i, 1, false, &block->cross, error));
        SORA_TRY(add_feed_forward(t5, name, i, decoder ? 2 : 1, &block->feed_forward, error));
    }
    snprintf(text, sizeof text, "%s.block.0.layer.0.SelfAttention.relative_attention_bias.weight", name);
    SORA_TRY(sora_params_add(t5->params, text, SORA_PARAM_WEIGHT, SORA_SHAPE(t5->config.buckets, t5->config.heads), &out->bias,
                             error));
    snprintf(text, sizeof text, "%s.final_layer_norm.weight", name);
    SORA_TRY(add_norm(t5, text, 0, 0, &out->norm, error));
cleanup:
    return status;
}

sora_status sora_t5_allocate(sora_context *context, const sora_t5_config *config, sora_t5 **out, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_t5 *t5 = NULL;
    *out = NULL;
    SORA_TRY(sora_t5_config_check(config, error));
    SORA_TRY(sora_allocate(1, sizeof *t5, "network", &t5, error));
    t5->config = *config;
    t5->start = config->start;
    t5->eos = config->eos;
    SORA_TRY(sora_duplicate("", &t5->folder, error));
    SORA_TRY(sora_params_create(context, &t5->params, error));
    SORA_TRY(sora_layers_create(t5->params, 0, &t5->layers, error));
    sora_shape table = SORA_SHAPE(config->vocabulary, config->width);
    SORA_TRY(sora_params_add(t5->params, "shared.weight", SORA_PARAM_WEIGHT, table, &t5->shared, error));
    sora_param_set_table(t5->shared);
    SORA_TRY(add_stack(t5, "encoder", config->encoder_layers, false, &t5->encoder, error));
    SORA_TRY(add_stack(t5, "decoder", config->decoder_layers, true, &t5->decoder, error));
    t5->head = t5->shared;
    if (config->own_head) SORA_TRY(sora_params_add(t5->params, "lm_head.weight", SORA_PARAM_WEIGHT, table, &t5->head, error));
    sora_param_set_table(t5->head);
    *out = t5;
    t5 = NULL;
cleanup:
    sora_t5_destroy(&t5);
    return status;
}

static void free_stack(sora_t5_stack *stack)
{
    for (int i = 0; stack->blocks && i < stack->count; i++) {
        free(stack->blocks[i].self.name);
        free(stack->blocks[i].cross.name);
        free(stack->blocks[i].feed_forward.name);
    }
    free(stack->blocks);
}

void sora_t5_destroy(sora_t5 **t5)
{
    if (!t5 || !*t5) return;
    free_stack(&(*t5)->encoder);
    free_stack(&(*t5)->decoder);
    sora_layers_destroy(&(*t5)->layers);
    sora_params_destroy(&(*t5)->params);
    json_decref((*t5)->json);
    free((*t5)->folder);
    free(*t5);
    *t5 = NULL;
}

/* ---- New weights ------------------------------------------------------------------------------------------------- */

static void fill_normal(sora_param *param, uint64_t seed, double deviation)
{
    sora_shape shape = sora_param_shape(param);
    sora_random_stream stream = { .seed = seed, .purpose = SORA_PURPOSE_INIT, .stream = sora_hash_name(sora_param_name(param)) };
    float *value = sora_param_host(param);
    for (int64_t i = 0, n = sora_shape_elements(&shape); i < n; i++) value[i] = (float)(sora_random_normal(&stream) * deviation);
}

static bool ends_in(const char *name, const char *end)
{
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

/* Deviations as Mesh TensorFlow's and Transformers': q also makes up for the missing 1/√d. */
static double deviation_of(const sora_t5_config *c, const char *name)
{
    double width = c->width;
    if (strcmp(name, "shared.weight") == 0 || strcmp(name, "lm_head.weight") == 0) return 1.0;
    if (ends_in(name, ".q.weight")) return 1.0 / sqrt(width * c->head_size);
    if (ends_in(name, ".o.weight")) return 1.0 / sqrt((double)c->heads * c->head_size);
    if (ends_in(name, ".wo.weight")) return 1.0 / sqrt(c->inner_width);
    return 1.0 / sqrt(width);
}

sora_status sora_t5_create(sora_context *context, const sora_t5_config *given, uint64_t seed, sora_t5 **out, sora_error *error)
{
    sora_t5_config config = *given;
    if (config.buckets == 0) config.buckets = 32;
    if (config.farthest == 0) config.farthest = 128;
    if (config.epsilon == 0.0f) config.epsilon = 1e-6f;
    if (config.eos == 0) config.eos = 1;
    sora_status status = sora_t5_allocate(context, &config, out, error);
    if (status != SORA_OK) return status;
    for (size_t i = 0; i < sora_params_count((*out)->params); i++) {
        sora_param *param = sora_params_at((*out)->params, i);
        const char *name = sora_param_name(param);
        if (sora_param_kind_of(param) == SORA_PARAM_WEIGHT) fill_normal(param, seed, deviation_of(&config, name));
    }
    snprintf((*out)->base, sizeof(*out)->base, "%016llx", (unsigned long long)seed);
    return SORA_OK;
}

/* ---- Access ------------------------------------------------------------------------------------------------------ */

sora_params *sora_t5_params(const sora_t5 *t5)
{
    return t5->params;
}

sora_layers *sora_t5_layers(const sora_t5 *t5)
{
    return t5->layers;
}

const sora_t5_config *sora_t5_describe(const sora_t5 *t5)
{
    return &t5->config;
}

const char *sora_t5_folder(const sora_t5 *t5)
{
    return t5->folder;
}

const char *sora_t5_base(const sora_t5 *t5)
{
    return t5->base;
}

float sora_t5_head_scale(const sora_t5 *t5)
{
    return t5->config.scale_head ? (float)(1.0 / sqrt(t5->config.width)) : 1.0f;
}
