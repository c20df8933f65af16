/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_CL_PROFILE_H
#define SORA_CL_PROFILE_H

#include "cl/context.h"

/* What the device did and when, by the events of the launches. */
sora_status sora_profile_create(sora_profile **out, sora_error *error);
void sora_profile_destroy(sora_profile **profile);

/* Takes over the event. `kernel` and `label` are copied; flops and bytes as sora_launch_desc has them. */
sora_status sora_profile_add(sora_profile *profile, cl_event event, const char *kernel, const char *label, double flops,
                             double bytes, sora_error *error);

#endif
