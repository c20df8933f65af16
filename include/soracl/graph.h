/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_GRAPH_H
#define SORACL_GRAPH_H

#include "soracl/context.h"
#include "soracl/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Parameters: what outlives a graph --------------------------------------------------------------------------------------
 * A set of named tensors. Each is trainable or frozen, or state (running statistics: written by forward, never by an
 * optimiser). Structure changes (adding, removing, freezing, adapters coming and going) happen while the set is on the host;
 * sora_params_upload lays it out on the device: trainable parameters contiguous by group with gradients and moments of the
 * same layout (or factored), so that an update's launches do not grow with their number; sora_params_download brings values and
 * moments back to the host and frees the device's copy. Graphs made from the set must be gone before a download. One thread at a
 * time. */
typedef struct sora_params sora_params;
typedef struct sora_param sora_param;

typedef enum sora_param_kind {
    SORA_PARAM_WEIGHT = 0, /* weight decay applies */
    SORA_PARAM_PLAIN,      /* norms and biases: no decay */
    SORA_PARAM_GATE,       /* the proximal update */
    SORA_PARAM_STATE,      /* running statistics */
} sora_param_kind;
#define SORA_PARAM_GROUPS 3 /* the trainable kinds */

/* What an optimiser keeps of each trainable parameter, up to two tensors. */
typedef enum sora_moment_layout {
    SORA_MOMENTS_NONE = 0,
    SORA_MOMENTS_ONE, /* moment 1, of the parameter's shape */
    SORA_MOMENTS_TWO, /* both of the parameter's shape */
    /* Adafactor's: of [..., p, q] moment 1 is [..., p] and moment 2 is [..., q]; of a vector moment 1 is the vector's. Gates keep
     * two moments, as their own update may want them. */
    SORA_MOMENTS_FACTORED,
} sora_moment_layout;

SORA_API sora_status sora_params_create(sora_context *context, sora_params **out, sora_error *error);
SORA_API void sora_params_destroy(sora_params **params);

/* Adds a zeroed parameter; names are unique. Trainable unless it is state. */
SORA_API sora_status sora_params_add(sora_params *params, const char *name, sora_param_kind kind, sora_shape shape,
                                     sora_param **out, sora_error *error);
SORA_API sora_status sora_params_remove(sora_params *params, sora_param *param, sora_error *error);

SORA_API size_t sora_params_count(const sora_params *params);
SORA_API sora_param *sora_params_at(const sora_params *params, size_t index);       /* in order of adding */
SORA_API sora_param *sora_params_find(const sora_params *params, const char *name); /* NULL if absent */

SORA_API const char *sora_param_name(const sora_param *param);
SORA_API sora_shape sora_param_shape(const sora_param *param);
SORA_API sora_param_kind sora_param_kind_of(const sora_param *param);
SORA_API bool sora_param_trainable(const sora_param *param);
SORA_API void sora_param_set_trainable(sora_param *param, bool trainable); /* on the host only */
/* On the host: nothing of the set trains, so that upload takes no memory for gradients and keeps weights as products read them
 * fastest. */
SORA_API void sora_params_freeze(sora_params *params);

/* Shape of a moment (1 or 2) in that layout; rank 0: there is none. */
SORA_API sora_shape sora_param_moment_shape(const sora_param *param, sora_moment_layout layout, int which);

/* While the set is on the host: value[elements], and the optimiser's moments, zeroed on their first request; SORA_ERROR_ARGUMENT
 * where the set's layout has no such moment. */
SORA_API float *sora_param_host(sora_param *param);
SORA_API sora_status sora_param_host_moment(sora_param *param, int which /* 1 or 2 */, float **out, sora_error *error);

/* On the host: the layout of the set's moments, TWO at first; upload sets it too. Moments go where they mean something else in
 * the new layout (to or from FACTORED). */
SORA_API sora_status sora_params_set_moments(sora_params *params, sora_moment_layout layout, sora_error *error);

/* On the host: keeps only the listed indices (rising) of axis 0 or 1 of value and moments, in place. What factored moments say
 * of the kept elements stays the same. */
SORA_API void sora_param_select(sora_param *param, int axis, const int *list, int count);

/* Before a place is taken and once it is settled what is frozen: how the device keeps the frozen weights of linear layers and embeddings. SORA_F16 takes half their memory,
 * and arithmetic stays fp32; upload rounds to nearest and refuses a weight that is no finite half (SORA_ERROR_NUMERIC, by name).
 * Reading and downloading then give the rounded values: what must be exact, as a merge, has to be done with weights that never were
 * on the device. SORA_F32 at first; SORA_ERROR_ARGUMENT for SORA_F16 where there are no such weights. */
SORA_API sora_status sora_params_set_frozen_dtype(sora_params *params, sora_dtype dtype, sora_error *error);

/* Takes the device memory that upload, with the same moments, then fills, so that graphs can be prepared before it
 * (sora_graph_prepare). Upload does it where it wasn't done. */
SORA_API sora_status sora_params_place(sora_params *params, sora_moment_layout moments, sora_error *error);
SORA_API bool sora_params_placed(const sora_params *params);
/* With the moments that training needs (sora_optimizer_moments); memory is taken for trainable parameters alone. */
SORA_API sora_status sora_params_upload(sora_params *params, sora_moment_layout moments, sora_error *error);
SORA_API sora_status sora_params_download(sora_params *params, sora_error *error);
SORA_API bool sora_params_on_device(const sora_params *params);
SORA_API uint64_t sora_params_device_bytes(const sora_params *params,
                                           sora_moment_layout moments); /* what upload will take or has taken */

/* Copies of value (0), moment 1, moment 2 or gradient (3), wherever the set is. out[elements of that part]. Waits for the
 * device. */
SORA_API sora_status sora_param_read(const sora_param *param, int what, float *out, sora_error *error);
SORA_API sora_status sora_param_write(sora_param *param, int what, const float *data, sora_error *error);

SORA_API uint64_t sora_params_trainable_elements(const sora_params *params);

/* ---- Graphs ----------------------------------------------------------------------------------------------------------------
 * A static graph for one largest batch. Building calls return NULL after a failure and accept NULL for tensors, so that a model
 * reads as a chain; the first failure is kept and reported by sora_graph_plan with the node's name. Tensors belong to the
 * graph. One thread at a time. */
typedef struct sora_graph sora_graph;
typedef struct sora_tensor sora_tensor;

typedef enum sora_plan_policy {
    SORA_PLAN_ARENA = 0, /* tensors share memory by lifetime */
    SORA_PLAN_SEPARATE,  /* a buffer with guard bands for each: overruns are seen (tests) */
} sora_plan_policy;

typedef struct sora_graph_options {
    bool training; /* dropout, batch statistics; evaluation otherwise */
    int batch;     /* the largest */
    uint64_t seed; /* of dropout */
    sora_plan_policy policy;
    bool unfused; /* every layer is launches of its own (tests) */
    bool recompute; /* cheap activations are made again on the way back instead of kept: less memory, some time, the same bits */
    /* Use that graph's arena, grown if needed, which loses what stood in it, also where it fails: the two never run at the same
     * time, and `share` lives longer. */
    sora_graph *share;
} sora_graph_options;

SORA_API sora_status sora_graph_create(sora_params *params, const sora_graph_options *options, sora_graph **out,
                                       sora_error *error);
SORA_API void sora_graph_destroy(sora_graph **graph);

/* An input whose first dimension is the batch (or batch · n). */
SORA_API sora_tensor *sora_graph_input(sora_graph *graph, const char *name, sora_dtype dtype, sora_shape shape);
SORA_API sora_tensor *sora_graph_param(sora_graph *graph, sora_param *param);
/* Keeps a tensor readable after a run. */
SORA_API void sora_graph_output(sora_graph *graph, sora_tensor *tensor);
SORA_API sora_shape sora_tensor_shape(const sora_tensor *tensor); /* for the largest batch; rank 0 for NULL */

/* Layers as functions; `name` is the node's. Optional tensors may be NULL where said. Shapes as in docs/ops.md. */
SORA_API sora_tensor *sora_linear(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight, sora_tensor *bias,
                                  bool relu);
SORA_API sora_tensor *sora_conv2d(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight, sora_tensor *bias);
SORA_API sora_tensor *sora_conv_transpose2d(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight,
                                            sora_tensor *bias);
typedef struct sora_adapted_tensors {
    sora_tensor *down, *up, *gate; /* gate NULL: LoRA */
    float scale, dropout;
    bool relu; /* linear only */
} sora_adapted_tensors;
SORA_API sora_tensor *sora_adapted_linear(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight,
                                          sora_tensor *bias, const sora_adapted_tensors *adapter);
SORA_API sora_tensor *sora_adapted_conv2d(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight,
                                          sora_tensor *bias, const sora_adapted_tensors *adapter);
typedef struct sora_batch_norm_tensors {
    sora_tensor *gamma, *beta, *running_mean, *running_variance;
    bool frozen, relu;
} sora_batch_norm_tensors;
SORA_API sora_tensor *sora_batch_norm(sora_graph *graph, const char *name, sora_tensor *x,
                                      const sora_batch_norm_tensors *tensors);
SORA_API sora_tensor *sora_max_pool2d(sora_graph *graph, const char *name, sora_tensor *x);
SORA_API sora_tensor *sora_relu(sora_graph *graph, const char *name, sora_tensor *x);
SORA_API sora_tensor *sora_sigmoid(sora_graph *graph, const char *name, sora_tensor *x);
SORA_API sora_tensor *sora_dropout(sora_graph *graph, const char *name, sora_tensor *x, float probability);
SORA_API sora_tensor *sora_add(sora_graph *graph, const char *name, sora_tensor *a, sora_tensor *b);
SORA_API sora_tensor *sora_concat(sora_graph *graph, const char *name, sora_tensor *a, sora_tensor *b);
SORA_API sora_tensor *sora_reshape(sora_graph *graph, const char *name, sora_tensor *x,
                                   sora_shape shape); /* a view; the batch stays first */
SORA_API sora_tensor *sora_embedding(sora_graph *graph, const char *name, sora_tensor *ids, sora_tensor *table);
SORA_API sora_tensor *sora_rms_norm(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight, float epsilon);
SORA_API sora_tensor *sora_gated_gelu(sora_graph *graph, const char *name, sora_tensor *x);
typedef struct sora_relative_bias_options {
    int queries, keys, farthest;
    bool bidirectional;
} sora_relative_bias_options;
SORA_API sora_tensor *sora_relative_bias(sora_graph *graph, const char *name, sora_tensor *table,
                                         const sora_relative_bias_options *options);
typedef struct sora_attention_options {
    sora_tensor *keys;    /* k and v side by side; NULL: q, k and v stand side by side in the first tensor */
    sora_tensor *line;    /* of sora_relative_bias; NULL: no bias */
    sora_tensor *lengths; /* keys of each sample that count, int [n]; NULL: all */
    int heads, size;
    bool causal;
    float dropout;
} sora_attention_options;
SORA_API sora_tensor *sora_attention(sora_graph *graph, const char *name, sora_tensor *queries, const sora_attention_options *options);
/* Loss of logits scale · x·Wᵀ against labels, int [n, t]; those that are −100 don't count. */
SORA_API sora_tensor *sora_linear_cross_entropy(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *weight,
                                                sora_tensor *labels, float scale, float smoothing);
SORA_API sora_tensor *sora_bce_with_logits(sora_graph *graph, const char *name, sora_tensor *logits, sora_tensor *target);
SORA_API sora_tensor *sora_mse_loss(sora_graph *graph, const char *name, sora_tensor *x, sora_tensor *target);
SORA_API sora_tensor *sora_dice_loss(sora_graph *graph, const char *name, sora_tensor *probability, sora_tensor *target);
SORA_API sora_tensor *sora_sum(sora_graph *graph, const char *name, sora_tensor *x);
SORA_API sora_tensor *sora_mean(sora_graph *graph, const char *name, sora_tensor *x);

/* Adds the backward nodes that lead from `loss` (a scalar; NULL: evaluation only) to trainable parameters and no others, plans
 * lifetimes and offsets. Nothing is allocated on the device yet. Any failure of building is reported here. */
SORA_API sora_status sora_graph_plan(sora_graph *graph, sora_tensor *loss, sora_error *error);

typedef struct sora_graph_statistics {
    int forward_nodes, backward_nodes, gradients; /* gradients: tensors that get one */
    uint64_t arena_bytes;                         /* planned */
    uint64_t live_bytes;                          /* the largest set of bytes alive at once: no plan can be smaller */
    /* By all launches of a step, of activations and their gradients, each node reading and writing each of its tensors once; and the
     * part of it that would be left if norms, ReLU, dropout, pooling and sums were all fused with their neighbours. */
    uint64_t moved_bytes, least_moved_bytes;
} sora_graph_statistics;
SORA_API sora_graph_statistics sora_graph_stats(const sora_graph *graph); /* after planning */

/* Has the kernels that forward and backward will launch compiled or loaded by a thread of the context's while the caller goes on with
 * what else a start has to do: best between sora_params_place and sora_params_upload. Takes what scratch CLBlast's products need
 * on a GPU, which else the first step does. Never needed. */
SORA_API sora_status sora_graph_prepare(sora_graph *graph, sora_error *error);

/* Takes the planned memory. SORA_ERROR_MEMORY says what is needed and what the device has. Called by the first run otherwise. */
SORA_API sora_status sora_graph_allocate(sora_graph *graph, sora_error *error);

/* Enqueues a write of `count` (≤ batch) items to an input; `data` must stay until the second call of sora_graph_forward after
 * this one (two staging slots). Does not block while at most two steps are in flight. */
SORA_API sora_status sora_graph_write(sora_graph *graph, sora_tensor *input, const void *data, int count, sora_error *error);

/* Forward for `count` items; `step` and `first_sample` key the random numbers. Enqueues only. */
SORA_API sora_status sora_graph_forward(sora_graph *graph, int count, uint32_t step, uint32_t first_sample, sora_error *error);
/* Backward of the last forward; parameters' gradients accumulate until sora_params_zero_gradients. Enqueues only. */
SORA_API sora_status sora_graph_backward(sora_graph *graph, sora_error *error);
SORA_API sora_status sora_params_zero_gradients(sora_params *params, sora_error *error);

/* Reads an output (or the loss) of the last forward into out (its elements for that count). Waits for the device. */
SORA_API sora_status sora_graph_read(sora_graph *graph, sora_tensor *tensor, float *out, sora_error *error);

/* Runs the last forward and backward again node by node and names in *where the first tensor that has a NaN or Inf:
 * "encoder.2.bn1 output" (freed with free()); NULL if there is none. Checks guard bands too where the policy has them. */
SORA_API sora_status sora_graph_find_nonfinite(sora_graph *graph, char **where, sora_error *error);
SORA_API sora_status sora_graph_check_guards(sora_graph *graph, sora_error *error); /* SORA_PLAN_SEPARATE only */

#ifdef __cplusplus
}
#endif
#endif
