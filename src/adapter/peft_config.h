/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_ADAPTER_PEFT_CONFIG_H
#define SORA_ADAPTER_PEFT_CONFIG_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>

#define SORA_PEFT_CONFIG "adapter_config.json"
#define SORA_PEFT_WEIGHTS "adapter_model.safetensors"
#define SORA_PEFT_PREFIX "base_model.model."
#define SORA_PEFT_DOWN ".lora_A.weight"
#define SORA_PEFT_UP ".lora_B.weight"

/* What an adapter's configuration says, checked: nothing in it is active that is not here. */
typedef struct sora_peft_config {
    char *path;
    json_t *root;                               /* owns the four below; NULL where absent or null */
    const json_t *target, *exclude;             /* a list of strings or a string */
    const json_t *rank_pattern, *alpha_pattern; /* pattern → whole number ≥ 1; pattern → finite number */
    int rank;
    double alpha;
    float dropout;
    bool rslora; /* s = α / √r instead of α / r */
} sora_peft_config;

sora_status sora_peft_config_read(const char *folder, sora_peft_config *out, sora_error *error);
void sora_peft_config_free(sora_peft_config *config);

#endif
