/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_OP_OPS_H
#define SORA_OP_OPS_H

#include "op/op.h"

/* The table of ops with their attributes. x, y: activations; [shape] as row-major; k: kernel size 1 or 3 (stride 1, zero padding
 * k / 2, so that the size stays). */

/* Dropout behind a linear layer's ReLU, in its place (made by the graph, graph/fuse.c), so that one output says where the
 * gradient passes. */
typedef struct sora_relu_dropout {
    float probability;
    uint32_t stream; /* of the dropout that it was */
    bool masked;     /* dy arrives as what both let pass: the layer that reads the output sees to it */
} sora_relu_dropout;

/* What a linear layer knows of another's ReLU that x comes from (made by the graph, graph/fuse.c). */
typedef struct sora_relu_before {
    bool zeros;        /* there is one: many of x's numbers are 0 */
    bool masks;        /* dx is what it and its dropout let pass: 0 where x is 0, elsewhere with dropout's factor */
    float probability; /* of that dropout */
} sora_relu_before;

/* y = x·Wᵀ + b (, ReLU).  inputs x [m, q], W [p, q], b [p] or absent; output y [m, p]. x may be [m, c, h, w] with c·h·w = q
 * (flattening), or, dense, [n, t, q]: the output is then [n, t, p]. */
typedef struct sora_linear_attributes {
    bool relu;
    sora_relu_dropout behind_relu;
    sora_relu_before before;
} sora_linear_attributes;
extern const sora_op sora_op_linear;

/* SoRA's product (arXiv 2311.11696, eq. 3):  t = x·W_dᵀ,  y = x·W₀ᵀ + b + s·(g ⊙ t)·W_uᵀ (, ReLU); dropout on x in the adapter's
 * branch only. inputs x [m, q], W₀ [p, q], b [p] or absent, W_d [r, q], W_u [p, r], g [r] or absent (LoRA: as ones);
 * output y [m, p]; saves t [m, r] ungated. W₀ and b get no gradient.
 * dt = s·dy·W_u;  dW_u = s·dyᵀ(g ⊙ t);  dg = Σ_rows dt ⊙ t, taken as the column sums of W_u ⊙ s·dyᵀt;  dW_d = (g ⊙ dt)ᵀx;  dx =
 * dy·W₀ + (g ⊙ dt)·W_d. */
#define SORA_ADAPTED_MODULES 4
typedef struct sora_adapted_attributes {
    bool relu; /* of the linear layer's own epilogue (linear only) */
    sora_relu_dropout behind_relu;
    sora_relu_before before;
    float scale;   /* s */
    float dropout; /* on x in the branch, 0..1; inverted (kept values / (1 − p)) */
    int kernel;    /* conv only: k of W₀ and W_d */
    /* linear only: several layers of one input in one product. W₀, W_d and g hold theirs one after the other, W_u is flat,
     * [Σ p_i r_i], and s is each one's own. Their up factors stand as blocks of one matrix for the product. 0: one layer. */
    int modules, outputs[SORA_ADAPTED_MODULES], ranks[SORA_ADAPTED_MODULES]; /* p_i, r_i (0: no adapter) */
    float scales[SORA_ADAPTED_MODULES];
} sora_adapted_attributes;
extern const sora_op sora_op_adapted_linear;

/* y = conv(x, W) + b.  inputs x [n, c, h, w], W [o, c, k, k], b [o] or absent; output [n, o, h, w]. */
typedef struct sora_conv2d_attributes {
    int kernel;
    bool statistics; /* a second output, of which op/conv.h has the form; made by the graph, graph/fuse.c */
} sora_conv2d_attributes;
extern const sora_op sora_op_conv2d;

/* The same with an adapter: t = conv_k(x, W_d), y = conv_k(x, W₀) + b + s·conv_1(g ⊙ t, W_u).
 * inputs x [n, c, h, w], W₀ [o, c, k, k], b [o] or absent, W_d [r, c, k, k], W_u [o, r], g [r] or absent;
 * saves t [n, r, h, w]. */
extern const sora_op sora_op_adapted_conv2d;

/* 2 × 2 transposed convolution, stride 2.  inputs x [n, c, h, w], W [c, o, 2, 2] (PyTorch's layout), b [o] or absent;
 * output [n, o, 2h, 2w]. No attributes. */
extern const sora_op sora_op_conv_transpose2d;

/* 2 × 2 max-pool, stride 2; odd edges are dropped as PyTorch does. input [n, c, h, w]; output [n, c, h/2, w/2]. The first
 * maximum in row order gets the gradient; NaN counts as the maximum. No attributes. */
extern const sora_op sora_op_max_pool2d;

/* Batch norm over n, h, w (, ReLU).  inputs x [n, c, h, w], γ [c], β [c], running mean [c], running variance [c] (the last two
 * are state: updated by forward in training with the unbiased variance, as PyTorch). Saves mean and 1/σ [c] each.
 * frozen: running statistics are used and stay, in training too.
 * A sixth input, where training needs statistics: those of x's parts, which came with it (op/conv.h; made by the graph, too).
 * pool: a second output, max_pool2d of the first, for even h and w (made by the graph, graph/fuse.c). */
typedef struct sora_batch_norm_attributes {
    float epsilon;  /* 1e-5 */
    float momentum; /* 0.1 */
    bool frozen;
    bool relu;
    bool pool;
} sora_batch_norm_attributes;
extern const sora_op sora_op_batch_norm;

extern const sora_op sora_op_relu;    /* y = max(x, 0), NaN stays; any shape */
extern const sora_op sora_op_sigmoid; /* y = 1 / (1 + e^−x), without overflow */
extern const sora_op sora_op_add;     /* y = a + b, equal shapes */

/* Joins along the second dimension: inputs x_i [n, c_i, h, w] (or [n, c_i]); output [n, Σ c_i, h, w]. Where the graph makes the
 * inputs views of the output it launches nothing. No attributes. */
extern const sora_op sora_op_concat;

/* Training: y = x · keep / (1 − p), keep by Philox, 16 bits a decision; evaluation: y = x. No stored mask. */
typedef struct sora_dropout_attributes {
    float probability;
} sora_dropout_attributes;
extern const sora_op sora_op_dropout;

/* y[n, t] = row ids[n, t] of table [v, d]: ids int [n, t], output [n, t, d]; an id that is no row gives NaN. No attributes. */
extern const sora_op sora_op_embedding;

/* y = x · w / √(mean x² + ε) over the last dimension (Zhang & Sennrich, arXiv 1910.07467).  inputs x [..., d], w [d]; saves
 * 1 / √(...) of each row. */
typedef struct sora_rms_norm_attributes {
    float epsilon;
} sora_rms_norm_attributes;
extern const sora_op sora_op_rms_norm;

/* gelu(a) ⊙ b, gelu in its tanh form (Hendrycks & Gimpel, arXiv 1606.08415; Shazeer, arXiv 2002.05202), of a and b side by side:
 * input [..., 2 f], output [..., f]. No attributes. */
extern const sora_op sora_op_gated_gelu;

/* T5's relative position bias (Raffel et al., arXiv 1910.10683, section 2.1) as one line a head: line[h][x] = table[bucket of
 * key − query][h] for key − query = x − (queries − 1).  input table [buckets, heads]; output [heads, queries + keys − 1]. */
typedef struct sora_relative_bias_attributes {
    int queries, keys;
    int farthest; /* distances from here on share the last bucket: 128 */
    bool bidirectional;
} sora_relative_bias_attributes;
extern const sora_op sora_op_relative_bias;

/* softmax(q·kᵀ + bias)·v of each head, without 1/√d (T5); dropout on the probabilities.  inputs: q, k, v side by side
 * [n, t, 3 h d] and nothing, or q [n, t, h d] and k, v side by side [n, s, 2 h d]; bias as a line of relative_bias or absent;
 * int [n], how many keys of each sample count (at least 1 is taken), or absent. Output [n, t, h d]; saves the logarithm of each
 * row's sum, [n, h, t]. Scores are never in memory: backward makes them again. At most 4096 positions. */
typedef struct sora_attention_attributes {
    int heads, size; /* h, d */
    bool causal;     /* query i sees keys 0 .. i; with q, k, v in one tensor only */
    float dropout;
} sora_attention_attributes;
extern const sora_op sora_op_attention;

/* Scalar [1]: mean softmax cross-entropy of logits s·x·Wᵀ, over the labels that are not `ignored`, with label smoothing ε as
 * Transformers counts it, (1 − ε)·nll + ε·mean over classes of −log p; 0 where no label counts, NaN for a label ≥ v.  inputs
 * x [n, t, d], W [v, d], labels int [n, t]. The logits are never there as a whole: chunks of classes, made again in backward. */
typedef struct sora_linear_cross_entropy_attributes {
    float scale; /* s */
    float smoothing;
    int ignored; /* −100 */
} sora_linear_cross_entropy_attributes;
extern const sora_op sora_op_linear_cross_entropy;

/* Losses: scalar [1]; inputs x (logits for bce, probabilities for dice, anything for mse), target of the same shape (no
 * gradient). bce_with_logits = mean of max(x, 0) − x·t + log(1 + e^−|x|). mse_loss = mean of (x − t)². dice_loss = 1 − (2Σpt + 1)
 * / (Σp² + Σt² + 1), sums over the whole batch (the earlier study's). */
extern const sora_op sora_op_bce_with_logits;
extern const sora_op sora_op_dice_loss;
extern const sora_op sora_op_mse_loss;

/* Scalar [1]: Σ x in fixed order, or the mean. */
typedef struct sora_sum_attributes {
    bool mean;
} sora_sum_attributes;
extern const sora_op sora_op_sum;

#endif
