/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_ADAPTER_LAYER_H
#define SORA_ADAPTER_LAYER_H

#include "base/memory.h"
#include "cl/buffer.h"
#include "soracl/layer.h"

typedef struct sora_layer_undo {
    float *weight, *down, *up, *gate; /* as they were before the merge; gate NULL for LoRA */
} sora_layer_undo;

struct sora_layer {
    sora_layers *owner;
    char *name;
    sora_layer_desc desc;
    sora_param *weight, *bias; /* bias NULL: none */
    int pack, place;           /* number of the layers that share its product, and which of them; 0: none */
    bool active, merged;
    /* while active or merged */
    sora_adapter_kind kind;
    int rank_max, rank;
    float scale, alpha, dropout;
    sora_param *down, *up, *gate;      /* NULL at rank 0; gate NULL for LoRA */
    bool weight_trained, bias_trained; /* before activation */
    sora_layer_undo undo;              /* while merged */
};

struct sora_layers {
    sora_params *params;
    uint64_t seed;
    sora_layer **items;
    size_t count, capacity;
    int packs;
};

/* What of a pack of layers stands side by side: each a pack of parameters. */
typedef enum sora_pack_part { SORA_PACK_WEIGHT = 1, SORA_PACK_DOWN, SORA_PACK_UP, SORA_PACK_GATE } sora_pack_part;
void sora_layer_pack_param(const sora_layer *layer, sora_param *param, sora_pack_part part);

/* Whether the target matches a layer: fails as sora_adapt would, and changes nothing. */
sora_status sora_adapt_check(const sora_layers *layers, const char *target, sora_error *error);

/* p = out, q = in·k·k: the matrix that the adapter is beside. */
int64_t sora_layer_columns(const sora_layer *layer);

/* What layers of one input (or one layer) compute now, without a graph: x [rows, in] to y [rows, all outputs], whose rows may be apart;
 * evaluation. On the device, parameters too. Enqueues only. */
sora_status sora_layers_run(sora_layer *const *layers, int count, const sora_view *x, bool relu, const sora_view *y,
                            const sora_view *workspace, sora_error *error);
uint64_t sora_layers_run_workspace(sora_layer *const *layers, int count, int64_t rows);

/* Activation with a rank below rank_max, as a pruned adapter's file has it; W_d, W_u and g stay 0. What a merged layer keeps to
 * unmerge stays, too, for the caller to forget; a failed call leaves the layer as it was. */
sora_status sora_layer_activate_pruned(sora_layer *layer, sora_adapter_kind kind, int rank_max, int rank, float alpha,
                                       float scale, float dropout, sora_error *error);

/* sora_layer_activate that leaves forgetting to the caller. */
sora_status sora_layer_activate_kept(sora_layer *layer, const sora_adapter_options *options, sora_error *error);

/* Drops the rows of a gated adapter that keep[rank] does not name, with their moments; on the host. */
sora_status sora_layer_keep_rows(sora_layer *layer, const bool *keep, sora_error *error);

/* *out is the caller's copy of a value on the host; NULL for no parameter. */
sora_status sora_layer_copy_param(sora_param *param, float **out, sora_error *error);

/* active → normal without merging; nothing happens to a normal layer. */
void sora_layer_drop_adapter(sora_layer *layer);

sora_status sora_layer_require_host(const sora_layer *layer, const char *verb, sora_error *error);

/* No layer active or merged, all on the host: adapters may come from a file. */
sora_status sora_layers_require_normal(const sora_layers *layers, const char *verb, sora_error *error);

#endif
