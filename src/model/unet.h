/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_MODEL_UNET_H
#define SORA_MODEL_UNET_H

#include "base/memory.h"
#include "soracl/unet.h"

#define SORA_UNET_MAX_DEPTH 6

typedef struct sora_unet_norm {
    char *name;
    sora_param *gamma, *beta, *running_mean, *running_variance;
} sora_unet_norm;

/* Two 3×3 convolutions, each with batch norm and ReLU. */
typedef struct sora_unet_block {
    sora_layer *conv[2];
    sora_unet_norm norm[2];
} sora_unet_block;

struct sora_unet {
    sora_unet_options config; /* defaults filled in; model is one of two constants */
    sora_params *params;
    sora_layers *layers;
    float mean[3], deviation[3];
    int depth;
    sora_unet_block encoder[SORA_UNET_MAX_DEPTH];
    sora_layer *bottleneck;           /* unet-fc */
    sora_unet_block bottleneck_block; /* unet */
    struct {
        char *name;
        sora_param *weight, *bias;
    } up[SORA_UNET_MAX_DEPTH];
    sora_unet_block decoder[SORA_UNET_MAX_DEPTH]; /* 0 is the deepest, as `up` */
    sora_layer *head;
};

/* Of the network that these options would make, without making it. */
sora_status sora_unet_largest_weight(const sora_unet_options *options, const char **name, uint64_t *elements, sora_error *error);

#endif
