/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_TRAIN_H
#define SORACL_TRAIN_H

#include "soracl/context.h"
#include "soracl/dataset.h"
#include "soracl/rouge.h"
#include "soracl/t5.h"
#include "soracl/text.h"
#include "soracl/tokenizer.h"
#include "soracl/unet.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Options ----------------------------------------------------------------------------------------------------------------
 * Everything that decides what a run computes, by the names the program has ("weight-decay"); config.json holds the same names.
 * One table describes them for the command line, the file and the help. */
typedef enum sora_task_kind { SORA_TASK_UNET = 1, SORA_TASK_T5 = 2 } sora_task_kind;

#define SORA_LONGEST_PREFIX 512 /* bytes before each text: an instruction */

typedef struct sora_run_options {
    sora_task_kind task;
    char data[1024], eval_data[1024], from[1024];
    /* U-Net */
    char model[16];
    int size, width, depth;
    char loss[16];
    bool augment;
    char bn[16];
    /* T5 */
    char objective[8];
    char source_column[64], target_column[64], prefix[SORA_LONGEST_PREFIX + 1];
    char adapter[1024];
    int max_source, max_target, min_source_characters, min_target_characters;
    double network_dropout, smoothing;
    int eval_examples, eval_generate;
    /* both */
    char weights[8];
    bool recompute;
    double dropout;
    int batch, epochs, steps, accumulate, threads;
    char optimizer[16];
    bool scale_parameter;
    double lr, weight_decay, momentum;
    char schedule[16];
    double warmup;
    double clip;
    uint64_t seed;
    int log_every, eval_every, save_every, keep, patience;
    char method[16];
    int rank;
    double alpha;
    char target[256];
    char init[16];
    double lambda, xi;
    char gate[16];
    double gate_lr, gate_warmup;
    char gate_schedule[16];
    int drop_after;
    char xi_schedule[64];
} sora_run_options;

typedef enum sora_option_type {
    SORA_OPTION_TEXT,
    SORA_OPTION_INTEGER,
    SORA_OPTION_UNSIGNED,
    SORA_OPTION_NUMBER,
    SORA_OPTION_SWITCH
} sora_option_type;

typedef struct sora_option {
    const char *name;  /* "weight-decay" */
    const char *group; /* "Data", "Network", "Training", "Adapter" */
    unsigned tasks;    /* sora_task_kind of those that have it; a name may stand twice, for different tasks */
    sora_option_type type;
    const char *fallback; /* default as text */
    const char *values;   /* "adamw|sgd": the only ones; NULL: any */
    double minimum, maximum;
    const char *help;
    size_t offset, size; /* in sora_run_options */
} sora_option;

/* T5's own: every matrix of attention and feed-forward. */
#define SORA_TARGET_T5 ".*\\.(q|k|v|o|wi|wi_0|wi_1|wo)"

SORA_API const sora_option *sora_run_option_table(size_t *count);
SORA_API void sora_run_options_default(sora_run_options *options, sora_task_kind task);
/* Sets one of the task's by name from text, checked for type, range and choice. SORA_ERROR_ARGUMENT names option, value and what is
 * expected. */
SORA_API sora_status sora_run_options_set(sora_run_options *options, const char *name, const char *value, sora_error *error);
/* The value as text that sora_run_options_set reads back exactly. */
SORA_API void sora_run_options_text(const sora_run_options *options, const sora_option *option, char *text, size_t bytes);
/* From a run's config.json, with its task. */
SORA_API sora_status sora_run_options_read(const char *path, sora_run_options *options, sora_error *error);
/* The same over what *options hold, which must be of its task: what is absent there stays. */
SORA_API sora_status sora_run_options_merge(const char *path, sora_run_options *options, sora_error *error);

/* ---- Following a run --------------------------------------------------------------------------------------------- */

typedef struct sora_text_metrics {
    size_t examples;         /* whose loss was taken */
    uint64_t tokens_target;  /* of them, eos counted */
    size_t generated;        /* whose text was generated and scored */
    sora_rouge rouge;        /* means of F1, 0..1 */
    double generated_tokens; /* mean, eos counted */
} sora_text_metrics;

typedef struct sora_quality {
    sora_task_kind task;
    double loss; /* U-Net: mean over images; T5: mean over target tokens, without label smoothing */
    double seconds;
    sora_mask_metrics mask; /* U-Net */
    sora_text_metrics text; /* T5 */
} sora_quality;

/* The task's metrics by their names, as --json and events.jsonl have them (ROUGE in 0..100, null where nothing was generated): jansson's, the
 * caller's (json_decref). NULL where memory ran out or a number is not finite. */
struct json_t;
SORA_API struct json_t *sora_quality_to_json(const sora_quality *quality);

typedef struct sora_progress {
    uint32_t step, steps; /* done, planned */
    double epoch;
    double loss; /* mean since the last report */
    double lr, gate_lr, xi;
    double gradient_norm;
    double items_per_second, seconds_left; /* images or texts */
    double waiting_share;        /* of the time since the last report, in which the device waited for data */
    int rank_kept, rank_max;     /* adapters; 0, 0 otherwise. Only filled at evaluations */
    const sora_quality *quality; /* NULL, or the evaluation just made */
} sora_progress;

/* Called by the thread that runs. progress: false asks to stop: the step is finished, a checkpoint written, and the run returns
 * SORA_ERROR_INTERRUPTED. message: one line worth telling (a warning, the planned shrink). Either may be NULL. */
typedef struct sora_watcher {
    bool (*progress)(void *self, const sora_progress *progress);
    bool (*stop)(void *self); /* asked after each step */
    void (*message)(void *self, const char *text);
    void *self;
} sora_watcher;

typedef struct sora_run_result {
    uint32_t steps;
    uint32_t best_step;      /* of the checkpoint that is the best, which a run's name stands for; 0: none was evaluated */
    double seconds_per_step; /* median over lines of the log of a step's mean, evaluations left out */
    uint64_t device_bytes_predicted, device_bytes_peak, process_bytes_peak;
    uint64_t parameters_trainable, parameters_kept;
    int rank_max, rank_kept; /* sums over modules; −1 where there are no adapters */
    sora_quality quality;    /* at the end of training, on the evaluation set; the best checkpoint is in the run folder */
    bool finished;           /* false: the run had been finished before and was only evaluated */
} sora_run_result;

typedef struct sora_run_target {
    const char *folder; /* of the run */
    bool overwrite;     /* an existing run there is removed first, unless it holds what no run writes; otherwise it is refused */
    bool resume;        /* goes on from the last checkpoint, bit for bit; options come from its config.json */
} sora_run_target;

/* ---- T5 runs ----------------------------------------------------------------------------------------------------------------
 * A run folder holds config.json, events.jsonl, checkpoint-N/ and best, and, where the weights themselves trained, the files that make
 * a checkpoint a model's folder. Adapters name the hash of the weights that they stand on. */

/* Fine-tunes `from` (a folder of Hugging Face's form, or a run) on pairs of texts, or pre-trains it by span corruption (objective
 * "spans"); without weights in the folder they are new. Evaluates on eval_data, where given. Errors as sora_unet_run. */
SORA_API sora_status sora_t5_run(sora_context *context, const sora_run_options *options, const sora_run_target *target,
                                 const sora_watcher *watcher, sora_run_result *result, sora_error *error);

/* A model with its weights: `from` is a folder of Hugging Face's form or a run (its best checkpoint; "RUN:last": the last), with the
 * run's adapters active. `adapter` (NULL: none): a run or a PEFT folder whose adapters are put on it; the weights must be those that
 * it was trained on. The parameters are on the host. */
SORA_API sora_status sora_t5_open(sora_context *context, const char *from, const char *adapter, sora_t5 **out, sora_error *error);

/* A run folder of a PEFT folder's adapters on a model, for --adapter and `from`; nothing is trained. An existing folder is refused. */
SORA_API sora_status sora_t5_import(sora_context *context, const char *model, const char *peft, const char *run, sora_error *error);

/* The tokenizer of a folder, for that model: SORA_ERROR_INPUT where it has more ids than the embedding has rows. */
SORA_API sora_status sora_t5_open_tokenizer(const sora_t5 *t5, const char *folder, sora_tokenizer **out, sora_error *error);

typedef struct sora_text_evaluation_options {
    int batch;                       /* 0: 8 */
    const char *prefix;              /* before each source */
    int max_source, max_target;      /* tokens with eos */
    size_t generate;                 /* examples to generate and score, the first so many; SIZE_MAX: all */
    const sora_t5_generation *generation;
    sora_rouge *scores;              /* NULL, or [number of examples]: of each that was generated */
    char **texts;                    /* NULL, or [number of examples]: gets what was generated; each the caller's (free()) */
    const char *predictions;         /* NULL, or a file that gets a line of JSON for each: line (of the pair in its file), text,
                                      * reference, prediction, and its ROUGE (0..100). Written at the end, as a whole or not at all */
    const sora_watcher *watcher;     /* NULL, or asked to stop and told of progress */
} sora_text_evaluation_options;

/* The parameters are put on the device for it, and brought back. */
SORA_API sora_status sora_t5_evaluate(sora_t5 *t5, const sora_text_pairs *pairs, const sora_text_evaluation_options *options,
                                      sora_quality *out, sora_error *error);

/* ---- U-Net runs -------------------------------------------------------------------------------------------------------------
 * A run folder holds config.json, events.jsonl, checkpoint-N/, best, base.safetensors (the weights adapters stand on). */


/* Trains (method full without `from`: from new weights) or fine-tunes. Evaluates on eval_data (default: the data's test split).
 * Errors: any status; NaN in a loss or gradient is SORA_ERROR_NUMERIC with step and first tensor that had it. So is one in an
 * evaluation, and in what a checkpoint would hold (a batch norm's running statistics): the checkpoints before stay. */
SORA_API sora_status sora_unet_run(sora_context *context, const sora_run_options *options, const sora_run_target *target,
                                   const sora_watcher *watcher, sora_run_result *result, sora_error *error);

/* A network with its weights and, where the run has adapters, active adapters: `from` is a run (its best checkpoint; "RUN:last":
 * the last) or a weights file. The parameters are on the host. */
SORA_API sora_status sora_unet_open(sora_context *context, const char *from, sora_unet **out, sora_error *error);

typedef struct sora_evaluation_options {
    int batch;   /* 0: 8 */
    bool native; /* metrics at the images' own sizes instead of the network's */
    sora_mask_loss loss;
    sora_mask_counts *counts; /* NULL, or [sora_dataset_count] in the set's order */
    int threads;
} sora_evaluation_options;

/* The network's parameters are put on the device for it, and brought back. */
SORA_API sora_status sora_unet_evaluate(sora_unet *unet, const sora_dataset *dataset, const sora_evaluation_options *options,
                                        sora_quality *out, sora_error *error);

/* Probabilities [size][size] of images, in batches; call `use` for each image with its own width and height kept apart. A picture that
 * cannot be read goes to `unreadable`, with the reason, and the others go on; where that is NULL it ends the prediction. */
typedef struct sora_prediction_options {
    int batch;
    sora_status (*use)(void *self, size_t index, const sora_image *image, const float *probability /* at the image's own size */,
                       sora_error *error);
    void (*unreadable)(void *self, size_t index, const sora_error *why);
    void *self;
} sora_prediction_options;
SORA_API sora_status sora_unet_predict(sora_unet *unet, const char *const *paths, size_t count,
                                       const sora_prediction_options *options, sora_error *error);

/* ---- Comparison -------------------------------------------------------------------------------------------------- */

typedef struct sora_comparison_options {
    const char *folder; /* gets a run folder a row, compare.json, report.html, overlays/ */
    bool overwrite;
    const char *methods; /* "full,lora,sora"; the zero-step row is always there */
    const char *targets; /* regular expressions separated by spaces; NULL: the options' target */
    const char *ranks;   /* NULL: the options' rank. U-Net: one for each target, "40,8"; T5: rows for each, "8,16" */
    const char *lambdas; /* "0.01,0.1,0.5": a SoRA row each; NULL: the options' lambda */
    const char *seeds;   /* "1,2,3": every row once a seed; NULL: the options' seed */
    int overlays;        /* images (at most 64) or texts that the report shows; 0: 6 */
    double full_lr;      /* learning rate of full fine-tuning; 0: the options' */
    const char *test;    /* T5: file that the finished rows are evaluated on; NULL: the options' eval_data */
    size_t eval_limit;   /* T5: its first so many pairs; 0: all */
} sora_comparison_options;

/* All 3×3 convolutions of the blocks, and the bottleneck. */
#define SORA_TARGET_ALL ".*conv[12]|bottleneck"

typedef struct sora_comparison_row {
    char method[8], target[256], label[96]; /* method: none, full, lora, sora; T5 also copy */
    uint64_t seed;
    int rank;
    double lambda;
    bool schedule; /* T5: the row that follows the options' xi_schedule */
    sora_run_result result;
} sora_comparison_row;

/* Adapts `options->from` to `options->data` with each method from the same weights with the same seed and batches. *rows is
 * the caller's (free()). Rows that a former, interrupted call finished are taken over, and those that it began go on; where options or
 * weights changed since, the row is refused by its folder's name. */
SORA_API sora_status sora_unet_compare(sora_context *context, const sora_run_options *options,
                                       const sora_comparison_options *comparison, const sora_watcher *watcher,
                                       sora_comparison_row **rows, size_t *count, sora_error *error);

/* The same for T5, with texts and a row that copies each text's first sentence (method "copy": no model, loss NaN). Examples are scored
 * by ROUGE of what is generated greedily. With an xi_schedule SoRA has a row more, which follows it. */
SORA_API sora_status sora_t5_compare(sora_context *context, const sora_run_options *options,
                                     const sora_comparison_options *comparison, const sora_watcher *watcher,
                                     sora_comparison_row **rows, size_t *count, sora_error *error);

/* report.html from compare.json, the runs' events.jsonl and overlays beside it: one file, no network. */
SORA_API sora_status sora_report_write(const char *folder, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
