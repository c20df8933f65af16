/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_MODEL_T5_H
#define SORA_MODEL_T5_H

#include "base/memory.h"
#include "soracl/t5.h"

#include <jansson.h>

/* One attention: self (q, k, v in one product) or cross (k, v in one, of the encoder's output). Names are modules' in the
 * file. */
typedef struct sora_t5_attention {
    char *name;
    sora_layer *qkvo[4];
    sora_param *norm;
} sora_t5_attention;

typedef struct sora_t5_feed_forward {
    char *name;
    sora_layer *in[2]; /* wi, or wi_0 and wi_1 */
    sora_layer *out;
    sora_param *norm;
} sora_t5_feed_forward;

typedef struct sora_t5_block {
    sora_t5_attention self, cross; /* cross: decoder only */
    sora_t5_feed_forward feed_forward;
} sora_t5_block;

typedef struct sora_t5_stack {
    sora_t5_block *blocks;
    int count;
    sora_param *bias; /* relative positions [buckets, heads] */
    sora_param *norm;
} sora_t5_stack;

struct sora_t5 {
    sora_t5_config config;
    sora_params *params;
    sora_layers *layers;
    sora_param *shared, *head; /* head: shared where it is tied */
    sora_t5_stack encoder, decoder;
    char *folder;
    char base[17];
    json_t *json;   /* config.json as it was read; NULL for a new one */
    int start, eos; /* of what is generated; labels are shifted behind the config's own start */
};

/* A JSON file of a folder, and its path; both the caller's. *root NULL where there is no such file. */
sora_status sora_t5_read_json(const char *folder, const char *name, char **path, json_t **root, sora_error *error);
/* config.json of a folder. *json (the caller's) is all of it. own_head is what the file says; the weights decide. */
sora_status sora_t5_config_read(const char *folder, sora_t5_config *out, json_t **json, sora_error *error);
/* What begins and ends what is generated: generation_config.json's, and what that doesn't say as the config has it. */
sora_status sora_t5_config_read_ends(const char *folder, const sora_t5_config *config, int *start, int *eos, sora_error *error);
/* What config.json says of a new model. NULL where memory ran out. */
json_t *sora_t5_config_json(const sora_t5_config *config);
sora_status sora_t5_config_check(const sora_t5_config *config, sora_error *error);

/* All parameters, zeroed. */
sora_status sora_t5_allocate(sora_context *context, const sora_t5_config *config, sora_t5 **out, sora_error *error);

/* The encoder in a graph: from ids and lengths to its last states [batch, source, width]. */
sora_tensor *sora_t5_encode(sora_graph *graph, sora_t5 *t5, sora_tensor *source, sora_tensor *lengths, bool training);

/* The factor of the head's input. */
float sora_t5_head_scale(const sora_t5 *t5);

#endif
