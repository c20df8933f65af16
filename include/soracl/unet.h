/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_UNET_H
#define SORACL_UNET_H

#include "soracl/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* U-Nets for binary segmentation.
 *   unet-fc  3→4→8→16→32→64→64, six 2×2 max-pools, a linear bottleneck of (size/64)²·64 features with ReLU, six stages of 2×2
 *            transposed convolution, concatenation with the skip, two 3×3 convolutions; 1,431,533 parameters at 256 (the
 *            earlier study's network). width multiplies nothing, depth is fixed; size divisible by 64.
 *   unet     the classic one (Ronneberger et al., arXiv 1505.04597) with batch norm and zero padding: width·2^i channels at
 *            level i, depth levels below the top; size divisible by 2^depth.
 * Blocks are 3×3 convolution without bias, batch norm, ReLU, twice. Layer names: "encoder.0.conv1" … "bottleneck"
 * ("bottleneck.conv1", "bottleneck.conv2" in unet), "decoder.0.up", "decoder.0.conv1", …, "head". */
typedef struct sora_unet sora_unet;

typedef struct sora_unet_options {
    const char *model; /* "unet-fc" (NULL) or "unet" */
    int size;          /* images are size × size; 0: 256 */
    int width, depth;  /* unet: 0: 64, 4. unet-fc: must be 0 */
    uint64_t seed;     /* of initial weights */
} sora_unet_options;

SORA_API sora_status sora_unet_create(sora_context *context, const sora_unet_options *options, sora_unet **out,
                                      sora_error *error);
SORA_API void sora_unet_destroy(sora_unet **unet);
SORA_API sora_params *sora_unet_params(const sora_unet *unet);
SORA_API sora_layers *sora_unet_layers(const sora_unet *unet);
SORA_API const sora_unet_options *sora_unet_config(const sora_unet *unet); /* with the defaults filled in */

/* Normalisation of the images, part of the weights file: image = (value / 255 − mean) / deviation. */
SORA_API void sora_unet_set_normalisation(sora_unet *unet, const float mean[3], const float deviation[3]);
SORA_API void sora_unet_normalisation(const sora_unet *unet, float mean[3], float deviation[3]);

/* Weights, running statistics, normalisation and configuration as safetensors. Saving refuses active adapters (merge first, or
 * save them with sora_adapters_save). */
SORA_API sora_status sora_unet_save(const sora_unet *unet, const char *path, sora_error *error);
/* A network from such a file: missing, superfluous or misshapen tensors are refused by name with found and expected shape. */
SORA_API sora_status sora_unet_load(sora_context *context, const char *path, sora_unet **out, sora_error *error);

typedef enum sora_mask_loss { SORA_LOSS_DICE = 0, SORA_LOSS_BCE, SORA_LOSS_DICE_BCE } sora_mask_loss;
SORA_API sora_mask_loss sora_mask_loss_of(const char *name); /* "dice", "bce", "dice-bce" */

typedef struct sora_unet_graph_options {
    sora_graph_options graph;
    sora_mask_loss loss;
    bool batch_norm_frozen; /* running statistics in training too */
    float dropout;          /* after the bottleneck, 0: none */
} sora_unet_graph_options;

/* The network as a planned graph; destroy with sora_graph_destroy(&out->graph). In training the loss has its backward. */
typedef struct sora_unet_graph {
    sora_graph *graph;
    sora_tensor *image;       /* input [batch, 3, size, size] */
    sora_tensor *mask;        /* input [batch, 1, size, size], 0 or 1 */
    sora_tensor *probability; /* output [batch, 1, size, size] */
    sora_tensor *loss;        /* output [1] */
} sora_unet_graph;

SORA_API sora_status sora_unet_build(sora_unet *unet, const sora_unet_graph_options *options, sora_unet_graph *out,
                                     sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
