/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_RUN_FOLDER_H
#define SORA_TRAIN_RUN_FOLDER_H

#include "soracl/train.h"

/* What every task's runs begin with: their folder, its config.json, and adapters as the options ask for. */

bool sora_run_has_adapters(const sora_run_options *options);
sora_dtype sora_run_frozen_dtype(const sora_run_options *options);
sora_status sora_run_check_method(const sora_run_options *options, sora_error *error);

/* Of RUN in RUN:last; all of what doesn't end so. */
size_t sora_run_name_length(const char *from);

/* Whether `from`, a path or RUN:last, lies in the folder: whoever removes that loses what it begins with. */
bool sora_run_inside(const char *from, const char *folder);

/* Makes a folder one process's; *lock is a descriptor, to be closed, which the system does, too, when the process ends. A file
 * system without locks goes without. */
sora_status sora_run_lock(const char *folder, int *lock, sora_error *error);

/* What --overwrite replaces stands aside (FOLDER.earlier) until what replaces it has begun, which removes it; or it is taken back,
 * over what stands there. Refused while a process holds the folder's lock, where it is a link, is or holds the working folder, or
 * holds what no run or comparison writes, and where FOLDER.earlier is there already: a process that was killed leaves it, which
 * sora_run_tell_aside tells whoever doesn't replace anything. */
sora_status sora_run_set_aside(const char *folder, sora_error *error);
sora_status sora_run_began(const char *folder, sora_error *error);
void sora_run_take_back(const char *folder);
void sora_run_tell_aside(const char *folder, const sora_watcher *watcher);

typedef struct sora_run_folder {
    int lock; /* -1: none */
    bool made_room;
} sora_run_folder;

/* Makes the folder, or on a resume takes the options from its config.json (a run of another task is refused). Ended by
 * sora_run_close_folder, after a failure as well. */
sora_status sora_run_open_folder(sora_context *context, const sora_run_target *target, const sora_watcher *watcher,
                                 sora_run_options *options, sora_run_folder *opened, sora_error *error);
/* A new run that failed before its first event leaves nothing, and what it would have overwritten stands again. */
void sora_run_close_folder(const sora_run_target *target, const sora_run_folder *opened, bool failed);
/* config.json, unless it is there already. */
sora_status sora_run_write_config(sora_context *context, const sora_run_options *options, const char *folder, sora_error *error);

/* Adapters of the asked kind, of initial values that follow --seed, on the layers of the asked name; everything else is frozen. */
sora_status sora_run_activate(sora_layers *layers, const sora_run_options *options, const sora_watcher *watcher,
                              sora_error *error);

#endif
