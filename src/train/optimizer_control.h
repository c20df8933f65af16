/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_OPTIMIZER_CONTROL_H
#define SORA_TRAIN_OPTIMIZER_CONTROL_H

#include "cl/buffer.h"
#include "soracl/optimizer.h"

/* Gradient factor, whether everything was finite so far, norm of the last gradient: for late reads (op/update.h). */
sora_view sora_optimizer_control(const sora_optimizer *optimizer);

#endif
