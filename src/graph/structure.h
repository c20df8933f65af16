/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_GRAPH_STRUCTURE_H
#define SORA_GRAPH_STRUCTURE_H

#include "graph/graph.h"
#include "op/ops.h"

/* A graph's insides, shared by its parts: graph.c builds it, fuse.c makes passes one, autodiff.c adds the way back, recompute.c
 * what is made again for it, planner.c gives memory, executor.c runs it. */

struct sora_tensor {
    sora_graph *graph;
    size_t index; /* in the graph's tensors */
    char *name;
    sora_dtype dtype;
    sora_shape shape;      /* for the largest batch; of a gradient: of its tensor, or of the leading channels that are wanted */
    sora_shape current;    /* for the last forward's count */
    sora_param *param;     /* not NULL: stands with the parameters */
    bool joined;           /* with those that stand behind `param`: `shape` is all of theirs */
    const sora_tensor *of; /* a gradient, or made again: of this tensor */
    bool input, output;
    int written;  /* inputs: items of the last write */
    int producer; /* index of the node; −1: none */
    bool wants_gradient;
    sora_tensor *again;    /* what the way back reads instead; NULL: this one */
    sora_tensor *gradient; /* after autodiff; NULL: none. Parameters' gradients stand with the parameters */
    sora_tensor *base;     /* not NULL: part of that tensor's memory (a reshape, a slice of a concatenation, in place) */
    int64_t base_offset;   /* in elements */
    bool sliced;           /* along the second dimension: the first stride is the base's */
    int first, last;       /* time of the first write and of the last use */
    int block;             /* of the plan; −1 where base or param says where it is */
};

typedef enum sora_node_kind {
    SORA_NODE_FORWARD = 0,
    SORA_NODE_ALIAS,    /* reshape: nothing to do */
    SORA_NODE_SEED,     /* 1 into the gradient of the loss */
    SORA_NODE_BACKWARD, /* of `forward` */
    SORA_NODE_AGAIN,    /* of `forward`: its outputs once more, into what is `again` of them */
    SORA_NODE_SUM,      /* outputs[0] = inputs[0] + inputs[1], gradients that meet; or inputs[0] without its gaps between items */
} sora_node_kind;

/* Nodes are in order of execution: the index is the time. */
typedef struct sora_node {
    sora_node_kind kind;
    const sora_op *op;
    char *name;
    void *attributes;
    int input_count, output_count;
    sora_tensor *inputs[SORA_OP_MAX_INPUTS]; /* NULL: absent */
    sora_tensor *outputs[SORA_OP_MAX_OUTPUTS];
    sora_tensor *saved[SORA_OP_MAX_SAVED];
    sora_tensor *workspace; /* NULL: none */
    uint32_t uses_outputs;  /* bit i: backward reads output i */
    uint64_t forward_workspace, backward_workspace;
    bool elided; /* a concatenation whose inputs stand in place */
    int forward; /* backward and again */
    /* backward */
    sora_tensor *output_gradients[SORA_OP_MAX_OUTPUTS];
    sora_tensor *input_gradients[SORA_OP_MAX_INPUTS]; /* activations' */
    bool parameter_gradients[SORA_OP_MAX_INPUTS];
    sora_tensor *besides; /* what else flows into input 0, where the op adds it; NULL: nothing */
} sora_node;

typedef struct sora_block {
    const char *name; /* of its first tensor */
    uint64_t bytes;
    int first, last;
    size_t chunk;
    uint64_t offset; /* in bytes, in the chunk */
} sora_block;

/* Device memory of one graph, or of several that never run at the same time. */
typedef struct sora_arena {
    sora_buffer *chunks;
    size_t chunk_count;
} sora_arena;

struct sora_graph {
    sora_params *params;
    sora_context *context;
    sora_graph_options options;
    sora_status failure; /* the first of building */
    sora_error failure_error;
    sora_tensor **tensors;
    size_t tensor_count, tensor_capacity;
    sora_node *nodes;
    size_t node_count, node_capacity;
    int forward_nodes;
    sora_tensor *loss;
    bool planned;
    sora_graph_statistics statistics;
    sora_block *blocks;
    size_t block_count, block_capacity;
    uint64_t *chunk_bytes; /* planned */
    size_t chunk_count;
    sora_arena own;
    bool allocated;
    /* of the last forward */
    int count;
    uint32_t step, first_sample;
    cl_event *writes[2]; /* of this step's inputs and of the step before */
    size_t write_count[2], write_capacity[2];
};

/* Guard bands of SORA_PLAN_SEPARATE, in elements before and after each block. */
#define SORA_GUARD 64
#define SORA_GUARD_BITS 0xdeadbeefu

sora_tensor *sora_tensor_add(sora_graph *graph, const char *name, sora_dtype dtype, sora_shape shape, sora_error *error);
sora_status sora_node_add(sora_graph *graph, sora_node_kind kind, const char *name, sora_node **out, sora_error *error);

/* Shapes of every tensor for `count` items, by the ops' own rules. */
sora_status sora_graph_infer(sora_graph *graph, int count, sora_error *error);

/* Replaces chains of forward nodes by ops that do the same in fewer passes. */
sora_status sora_graph_fuse(sora_graph *graph, sora_error *error);
sora_status sora_graph_differentiate(sora_graph *graph, sora_tensor *loss, sora_error *error);
/* After it: nodes that make again what is cheap to make instead of keeping it, and what backward reads of a tensor of the forward
 * part. */
sora_status sora_graph_recompute(sora_graph *graph, sora_error *error);
sora_tensor *sora_tensor_again(sora_tensor *tensor);
sora_status sora_graph_place(sora_graph *graph, sora_error *error);

/* The tensor whose memory this one is part of, and where in it (elements); stride of the first dimension. */
const sora_tensor *sora_tensor_root(const sora_tensor *tensor, int64_t *offset);
int64_t sora_tensor_stride(const sora_tensor *tensor);
/* Where it has gaps between items: whether the op takes such. */
bool sora_tensor_fits(const sora_tensor *tensor, const sora_op *op);

sora_arena *sora_graph_arena(sora_graph *graph);

#endif
