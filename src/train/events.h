/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_EVENTS_H
#define SORA_TRAIN_EVENTS_H

#include "base/status.h"

#include <jansson.h>
#include <stdint.h>

/* events.jsonl: one JSON object a line, in the order of things. Each has "event" and, from training on, "step". */
typedef struct sora_events sora_events;

/* Opens (or creates) the file for appending; lines of later steps than `step` and a torn last line are cut off first, so that a
 * resumed run's file reads as if it had never stopped. */
sora_status sora_events_open(const char *path, uint32_t step, sora_events **out, sora_error *error);
void sora_events_close(sora_events **events);

/* Takes `object` over (json_decref), NULL is SORA_ERROR_MEMORY. The line is in the file, though not synced, on return. */
sora_status sora_events_write(sora_events *events, json_t *object, sora_error *error);
/* To the disk: before a checkpoint that stands on what the file says. */
sora_status sora_events_sync(sora_events *events, sora_error *error);

#endif
