/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_RUN_OPTIONS_H
#define SORA_TRAIN_RUN_OPTIONS_H

#include "base/status.h"
#include "soracl/train.h"

#include <jansson.h>

/* The options as one JSON object by their names; NULL where memory ran out. The caller's (json_decref). */
json_t *sora_run_options_to_json(const sora_run_options *options);

#endif
