/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_CL_CLBLAST_PARAMETERS_H
#define SORA_CL_CLBLAST_PARAMETERS_H

#include <CL/cl.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Sets of parameters for CLBlast's fp32 products, its kernel of large ones (Xgemm) and of small ones (XgemmDirect) together:
 * those that CLBlast brings for the device, and a few that did well elsewhere. CLBlast keeps one set for a device and process, so
 * contexts of one device share what was put last. */
#define SORA_CLBLAST_SETS 6
#define SORA_CLBLAST_PARAMETERS 26

const char *sora_clblast_set_name(int set); /* 0: CLBlast's own */

typedef struct sora_clblast_state {
    int set;    /* that was put last */
    bool known; /* what set 0 is */
    size_t own[SORA_CLBLAST_PARAMETERS];
} sora_clblast_state;

/* Puts a set in place of the last; kernels are compiled again by the next product. 0 (CLBlastSuccess), or CLBlast's status: a
 * version with other parameters refuses all sets but 0, which then is in place anyway. Nothing throws. */
int sora_clblast_put(sora_clblast_state *state, cl_device_id device, int set);

#ifdef __cplusplus
}
#endif

#endif
