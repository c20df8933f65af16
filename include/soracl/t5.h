/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_T5_H
#define SORACL_T5_H

#include "soracl/layer.h"
#include "soracl/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

/* T5 (Raffel et al., arXiv 1910.10683): ReLU and a head tied to the embedding, or, as v1.1 and FLAN-T5, gated GELU (arXiv
 * 2002.05202) and a head of its own. Parameters and layers have the names of Hugging Face's files
 * ("encoder.block.0.layer.0.SelfAttention.q"); every q, k, v, o, wi (wi_0, wi_1), wo is a layer that can carry an adapter. One
 * thread at a time. */
typedef struct sora_t5 sora_t5;

typedef struct sora_t5_config {
    int vocabulary;              /* rows of the embedding; ids of the tokenizer may be fewer */
    int width, heads, head_size; /* d_model, num_heads, d_kv */
    int inner_width;             /* d_ff */
    int encoder_layers, decoder_layers;
    int buckets, farthest; /* of the relative positions */
    float epsilon, dropout;
    bool gated;      /* gated GELU instead of ReLU */
    bool own_head;   /* lm_head.weight beside shared.weight */
    bool scale_head; /* the head's input times 1 / √width */
    int pad, eos, start;
} sora_t5_config;

/* The shape of T5-small: 60,506,624 parameters. */
SORA_API void sora_t5_config_small(sora_t5_config *out);

/* New weights by T5's initialisation (N(0, 1) embedding, products by 1/√fan_in without attention's 1/√d) and `seed`. Zero fields
 * that have a usual value (buckets 32, farthest 128, epsilon 1e-6, eos 1) get it. */
SORA_API sora_status sora_t5_create(sora_context *context, const sora_t5_config *config, uint64_t seed, sora_t5 **out,
                                    sora_error *error);

/* A folder as the hub lays it out: config.json and model.safetensors, or shards with their index; fp32, fp16 or bf16. Missing or
 * misshapen tensors are refused by name with found and expected; embed_tokens and the unused bias of the hub's own files are let
 * pass. Until the parameters are on the device fp32 values are read from the mapped files, so those must not be written into
 * meanwhile; renaming others into their place is no harm. */
SORA_API sora_status sora_t5_load(sora_context *context, const char *folder, sora_t5 **out, sora_error *error);

/* config.json, model.safetensors (SORA_FILE_F32 or SORA_FILE_F16) and, from the folder it was loaded from, tokenizer and
 * generation config: a folder that Transformers loads. Active adapters are refused: merge first. Parameters on the host. */
SORA_API sora_status sora_t5_save(const sora_t5 *t5, const char *folder, sora_file_dtype dtype, sora_error *error);

SORA_API void sora_t5_destroy(sora_t5 **t5);
SORA_API sora_params *sora_t5_params(const sora_t5 *t5);
SORA_API sora_layers *sora_t5_layers(const sora_t5 *t5);
SORA_API const sora_t5_config *sora_t5_describe(const sora_t5 *t5);
SORA_API const char *sora_t5_folder(const sora_t5 *t5); /* that it was loaded from; "" for a new one */
/* Hash of the weights that it was loaded or created with (16 hexadecimal digits): what an adapter stands on. */
SORA_API const char *sora_t5_base(const sora_t5 *t5);

typedef struct sora_t5_graph_options {
    sora_graph_options graph;
    int source, target; /* lengths that sequences are padded to */
    float smoothing;    /* of labels */
    bool keep_hidden;   /* the decoder's last states stay readable */
} sora_t5_graph_options;

/* Encoder, decoder and loss as a planned graph; destroy with sora_graph_destroy(&out->graph). In training the loss has its
 * backward. */
typedef struct sora_t5_graph {
    sora_graph *graph;
    sora_tensor *source;  /* input, int [batch, source]; behind a text's length anything that is an id */
    sora_tensor *lengths; /* input, int [batch]: tokens of each source, at least 1 */
    sora_tensor *decoder; /* input, int [batch, target]: labels shifted right behind the start token */
    sora_tensor *labels;  /* input, int [batch, target]; −100: does not count */
    sora_tensor *hidden;  /* output [batch, target, width], behind the last norm; NULL unless kept */
    sora_tensor *loss;    /* output [1]: mean over the labels that count */
} sora_t5_graph;

SORA_API sora_status sora_t5_build(sora_t5 *t5, const sora_t5_graph_options *options, sora_t5_graph *out, sora_error *error);

/* ---- Generation -------------------------------------------------------------------------------------------------- */

typedef enum sora_early_stopping { SORA_STOP_HEURISTIC = 0, SORA_STOP_EARLY, SORA_STOP_NEVER } sora_early_stopping;

/* As Transformers' generate counts: lengths with the start token, the penalty over the generated tokens with eos and without
 * start. */
typedef struct sora_t5_generation {
    int beams; /* 1: greedy, or sampling */
    int min_length, max_length;
    double length_penalty; /* score = Σ log p / length^penalty */
    int no_repeat_ngram;   /* 0: none */
    sora_early_stopping early_stopping;
    bool sample; /* with one beam */
    double temperature;
    int top_k; /* 0: all */
    double top_p;
    uint64_t seed;
} sora_t5_generation;

/* Greedy, 20 tokens behind the start token, no penalties: what Transformers does where nothing is said. */
SORA_API void sora_t5_generation_default(sora_t5_generation *options);
/* What the model's folder says, over what is there: config.json where there is no generation_config.json, over it config.json's
 * task_specific_params for summarization, as T5's first models have them, and over them generation_config.json. A folder that says
 * nothing changes nothing. A setting that would change the output and that there is no field for is SORA_ERROR_INPUT, unless its
 * value turns it off. The tokens that begin and end what is generated are the model's own (sora_t5_load), in the same order. */
SORA_API sora_status sora_t5_generation_read(const char *folder, sora_t5_generation *options, sora_error *error);
SORA_API sora_status sora_t5_generation_check(const sora_t5_generation *options, sora_error *error);

/* Buffers and graphs to generate for several sources at once: encoder, keys and values of what was generated, of every decoder
 * layer. Creating one plans and takes nothing on the device; before it generates the parameters must be there, and stay while it
 * lives. */
typedef struct sora_t5_generator sora_t5_generator;
typedef struct sora_t5_generator_options {
    int batch, source; /* most sources at once, most tokens of one */
    int beams, max_length;
    sora_graph *share; /* its arena serves the encoder too; NULL: one of its own */
} sora_t5_generator_options;
SORA_API sora_status sora_t5_generator_create(sora_t5 *t5, const sora_t5_generator_options *options, sora_t5_generator **out,
                                              sora_error *error);
SORA_API void sora_t5_generator_destroy(sora_t5_generator **generator);
/* Device memory beside the parameters: of the encoder's arena, and of everything else. */
SORA_API void sora_t5_generator_bytes(const sora_t5_generator *generator, uint64_t *arena, uint64_t *own);

/* Generated ids of one source: eos included where it came, start and padding not. */
typedef struct sora_t5_output {
    int32_t *ids;
    int count;
    double score; /* of the beam; greedy: 0 */
} sora_t5_output;

/* `use` (may be NULL) is called with each new token of source `index` (greedy and sampling only); false stops everything. Results
 * are in out[count]; ids are the caller's (free()). sources[i][lengths[i]] holds ids below the vocabulary. places[count] (NULL: 0,
 * 1, ...) key the random numbers of sampling: where the sources stand in an input that is generated for in several calls. */
typedef struct sora_t5_stream {
    bool (*use)(void *self, int index, int32_t token);
    void *self;
} sora_t5_stream;
SORA_API sora_status sora_t5_generate(sora_t5_generator *generator, const int32_t *const *sources, const int *lengths, int count,
                                      const uint32_t *places, const sora_t5_generation *options, const sora_t5_stream *stream,
                                      sora_t5_output *out, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
