/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_PEFT_H
#define SORACL_PEFT_H

#include "soracl/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Adapters in the form of Hugging Face's PEFT: a folder of adapter_config.json and adapter_model.safetensors. A layer's name is
 * the module's path there ("encoder.block.0.layer.0.SelfAttention.q"). Linear layers only. */

typedef struct sora_peft_export_options {
    const char *base_model; /* base_model_name_or_path; NULL: null */
    const char *task_type;  /* "SEQ_2_SEQ_LM" or another of PEFT's; NULL: null */
    /* PEFT takes no adapter in which every rank is 0 (it raises NoMatchingPeftModuleError). false: that is refused; true: the
     * first active layer is written with rank 1 and B = 0, which changes nothing. */
    bool rank_one_for_zero;
} sora_peft_export_options;

/* Writes every active layer as LoRA, fp32: gates folded with their sign into B, rows whose gate is 0 dropped, alpha / r equal to
 * the layer's scale to the bit, layers without rows in exclude_modules. Works wherever the parameters are; changes nothing in
 * `layers`. lora_dropout is the first active layer's. The folder appears whole or not at all; one that is there already is
 * replaced if it holds nothing but those two files. Equal adapters give equal bytes. SORA_ERROR_ARGUMENT: nothing active, every
 * rank 0, an active convolution, a merged layer (unmerge it first: its adapter is in W₀); SORA_ERROR_NUMERIC: NaN or Inf. options
 * NULL: all zero. */
SORA_API sora_status sora_peft_export(const sora_layers *layers, const char *folder, const sora_peft_export_options *options,
                                      sora_error *error);

/* Activates a LoRA adapter on every layer that the folder targets and freezes every other parameter, as sora_adapt does; layers
 * that it does not target stay normal. Every layer must be normal and the parameters on the host. Takes r, lora_alpha,
 * lora_dropout, rank_pattern, alpha_pattern, use_rslora, target_modules (list, regular expression, "all-linear"),
 * exclude_modules, weights as fp16, bf16, fp32 or fp64. Python's regular expressions are taken where POSIX's extended ones say
 * the same. Everything else that is active is refused by key and value, every missing, misshapen or superfluous tensor by name.
 * After a failure all is as before. */
SORA_API sora_status sora_peft_import(sora_layers *layers, const char *folder, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
