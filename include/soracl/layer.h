/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_LAYER_H
#define SORACL_LAYER_H

#include "soracl/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Linear layers and convolutions that can carry a low-rank adapter: y = W₀x + b + s · W_u (g ⊙ (W_d x))  (SoRA, arXiv 2311.11696,
 * eq. 3; LoRA is the same without g). A layer is normal, active (the adapter trains, W₀ and b are frozen) or merged (normal
 * again, with what undoes the merge kept). Structure changes need the parameter set on the host. One thread at a time. */
typedef struct sora_layers sora_layers; /* a network's layers by name */
typedef struct sora_layer sora_layer;

SORA_API sora_status sora_layers_create(sora_params *params, uint64_t seed, sora_layers **out, sora_error *error);
SORA_API void sora_layers_destroy(sora_layers **layers); /* parameters stay with their set */
SORA_API size_t sora_layers_count(const sora_layers *layers);
SORA_API sora_layer *sora_layers_at(const sora_layers *layers, size_t index);
SORA_API sora_layer *sora_layers_find(const sora_layers *layers, const char *name); /* NULL if absent */

typedef struct sora_layer_desc {
    int in, out;
    int kernel; /* 0: linear; 1 or 3: convolution */
    bool bias;
    bool zero;  /* leave the weight 0: its values come from a file or from the caller */
    bool fixed; /* must never be merged into: its weight is shared with another module (the message says so) */
} sora_layer_desc;

/* Adds NAME.weight ([out, in] or [out, in, k, k]) and NAME.bias ([out]), initialised as PyTorch does (Kaiming uniform, a = √5,
 * bound 1/√fan_in) by (seed, name). *out (may be NULL) belongs to `layers`. */
SORA_API sora_status sora_layers_add(sora_layers *layers, const char *name, const sora_layer_desc *desc, sora_layer **out,
                                     sora_error *error);

/* The layer in a graph: bare or with its adapter. relu: linear layers only. NULL after a failure, as all graph functions. */
SORA_API sora_tensor *sora_layer_forward(sora_graph *graph, sora_layer *layer, sora_tensor *x, bool relu);

/* Linear layers without bias that always take the same input: one product computes them all, and another all their adapters. Told
 * once, before any has an adapter; while one weight is frozen all are. SORA_ERROR_ARGUMENT for more than four, or other layers. */
SORA_API sora_status sora_layers_pack(sora_layer *const *layers, int count, sora_error *error);
/* Packed layers in a graph: their outputs side by side in the last dimension. `name` is the node's. */
SORA_API sora_tensor *sora_layers_forward(sora_graph *graph, const char *name, sora_layer *const *layers, int count, sora_tensor *x);

typedef enum sora_adapter_kind { SORA_ADAPTER_SORA = 0, SORA_ADAPTER_LORA } sora_adapter_kind;

/* Initial values, named after who uses them (the table in docs/sora.md). W_u is always 0, so the output is unchanged. */
typedef enum sora_adapter_init {
    SORA_INIT_PAPER = 0, /* W_d Kaiming uniform (a = √5), g ~ N(0, 1), α 16 */
    SORA_INIT_ONES,      /* W_d the same, g = 1, s = 1 (the earlier U-Net study) */
    SORA_INIT_NORMAL,    /* W_d ~ N(0, 1), g ~ N(0, 1), s = 1 (the earlier T5 study) */
} sora_adapter_init;

typedef struct sora_adapter_options {
    sora_adapter_kind kind;
    sora_adapter_init init;
    int rank;      /* r_max; clipped to min(p, q). 0 is legal: the adapter then costs nothing */
    float alpha;   /* s = α / r_max, never rescaled after pruning; 0: what `init` says */
    float dropout; /* on x in the adapter's branch, 0 ≤ p < 1 */
} sora_adapter_options;

/* normal → active. Adds NAME.down [r, q…], NAME.up [p, r] and NAME.gate [r]; weight and bias stop being trainable. */
SORA_API sora_status sora_layer_activate(sora_layer *layer, const sora_adapter_options *options, sora_error *error);

/* active → merged: W₀ += s · W_u diag(g) W_d (in double precision), adapter dropped. Refused, with the layer left active, where a
 * factor has NaN or Inf, the weight is shared (`fixed`) or came back from the device rounded (sora_params_set_frozen_dtype). *change (may be NULL): the largest |ΔW|. */
SORA_API sora_status sora_layer_deactivate(sora_layer *layer, double *change, sora_error *error);

/* merged → active, exactly as before the merge (W₀ to the bit); until sora_layer_forget, which makes a merged layer normal and
 * trainable again and frees what was kept. */
SORA_API sora_status sora_layer_unmerge(sora_layer *layer, sora_error *error);
SORA_API void sora_layer_forget(sora_layer *layer);

/* Drops rows whose gate is exactly 0, with their moments: active rows move to the front in order. The output is the same.
 * LoRA layers stay as they are. *kept (may be NULL): the new rank. */
SORA_API sora_status sora_layer_compact(sora_layer *layer, int *kept, sora_error *error);

typedef struct sora_layer_info {
    const char *name;
    int in, out, kernel;
    bool active, merged;
    sora_adapter_kind kind;
    int rank_max;  /* as asked for, clipped to min(p, q), q = in·k·k */
    int rank;      /* rows there are now */
    int rank_kept; /* gates that are not exactly 0; LoRA: rank. Waits for the device where the set is there */
    float scale, alpha, dropout;
    uint64_t parameters_trainable; /* rank · (p + q + 1); LoRA rank · (p + q) */
    uint64_t parameters_kept;      /* rank_kept · (p + q + 1); LoRA rank · (p + q) */
} sora_layer_info;

SORA_API sora_status sora_layer_describe(const sora_layer *layer, sora_layer_info *out, sora_error *error);
/* gates into out[rank] (SORA_ERROR_ARGUMENT for a layer without gates) */
SORA_API sora_status sora_layer_gates(const sora_layer *layer, float *out, sora_error *error);

/* Activates every layer whose name matches the extended regular expression `target` as a whole, and freezes every other
 * trainable parameter. NULL: "bottleneck". No match is SORA_ERROR_ARGUMENT with the nearest names. Nothing is changed on failure.
 * *wasteful (may be NULL) counts layers whose adapter is not smaller than the layer: r(p + q + 1) ≥ p·q. */
SORA_API sora_status sora_adapt(sora_layers *layers, const char *target, const sora_adapter_options *options, int *wasteful,
                                sora_error *error);

/* The adapters as a file of our own (gate, r_max, scale; safetensors), together with the state parameters (running
 * statistics) that moved with them. Loading activates the layers that the file names, on a network whose layers are normal. */
SORA_API sora_status sora_adapters_save(const sora_layers *layers, const char *path, sora_error *error);
SORA_API sora_status sora_adapters_load(sora_layers *layers, const char *path, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
