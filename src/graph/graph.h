/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_GRAPH_GRAPH_H
#define SORA_GRAPH_GRAPH_H

#include "graph/params.h"
#include "op/op.h"

/* Adds a node of any op; attributes are copied. Returns output 0 (NULL after a failure). Every sora_relu(...) is one of these. */
sora_tensor *sora_graph_node(sora_graph *graph, const sora_op *op, const char *name, const void *attributes,
                             size_t attribute_bytes, sora_tensor *const *inputs, int input_count);

/* Several parameters of one pack (graph/params.h) as one tensor of that shape. */
sora_tensor *sora_graph_joined(sora_graph *graph, sora_param *const *list, int count, sora_shape shape);

/* Where a tensor stands on the device, shaped for the last forward's count; for late, asynchronous reads of the loss. */
sora_view sora_tensor_view(const sora_graph *graph, const sora_tensor *tensor);

#endif
