/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_GRAPH_PARAMS_STRUCTURE_H
#define SORA_GRAPH_PARAMS_STRUCTURE_H

#include "base/memory.h"
#include "graph/params.h"
#include "soracl/weights.h"

/* A parameter set's insides, shared by its three parts: params.c has it on the host, params_device.c on the device, of which
 * params_frozen.c knows how frozen weights of products stand there. */

struct sora_param {
    sora_params *params;
    char *name;
    sora_param_kind kind;
    sora_shape shape;
    int64_t elements;
    bool asked;                      /* to be trained; */
    bool trainable;                  /* and all of its pack are: one product's weights are trained together or not at all */
    int pack, place;                 /* parameters of one pack stand side by side, in order of place; 0: alone */
    float *host[SORA_PART_GRADIENT]; /* value and moments while on the host; */
    bool borrowed;                   /* the value is in the memory of `weights`, where it may be written, too */
    const sora_buffer *buffer;       /* of the value while frozen on the device */
    uint64_t
        offsets[SORA_PARTS]; /* in its group's parts; the first one in `buffer` while frozen, in elements as they stand there */
    bool product, table;     /* in panels while frozen; read by row. Either may be kept as halves, */
    bool rounded;            /* and the value on the host has been */
    bool convolution;        /* transformed, too, while frozen */
    uint64_t back;           /* where a product's panels for the way back are in `buffer`; 0: there are none */
    uint64_t transformed[2]; /* and what a convolution's weight is transformed to, forward and for the way back */
    int64_t row, rows;       /* of all that stand beside it: its first, how many */
};

typedef struct sora_param_group {
    sora_buffer parts[SORA_PART_GRADIENT];
    int64_t elements[SORA_PARTS];
    uint64_t gradient; /* where its gradients begin in those of all */
} sora_param_group;

struct sora_params {
    sora_context *context;
    sora_param **items;
    size_t count, capacity;
    bool placed;    /* device memory is taken; */
    bool on_device; /* and holds the values */
    sora_moment_layout moments, placed_moments;
    sora_dtype frozen_dtype; /* of frozen products and tables */
    sora_param_group groups[SORA_PARAM_GROUPS];
    sora_buffer gradients; /* of all groups, one behind the other */
    sora_weights *weights; /* owned: files whose memory values are borrowed from; NULL: none */
    sora_buffer *frozen;   /* frozen parameters and state, in as few buffers as the largest allocation allows */
    size_t frozen_count;
};
/* ---- params.c ---------------------------------------------------------------------------------------------------- */

sora_status sora_params_require_host(const sora_params *params, const char *name, const char *verb, sora_error *error);

bool sora_param_is_factored(const sora_param *param, sora_moment_layout layout);
/* Whether moments of one layout are still good in the other. */
bool sora_moments_carry_over(sora_moment_layout a, sora_moment_layout b);

/* Shape of a value, moment or gradient; its elements, 0 where there is no such part; its bytes on the host. */
sora_shape sora_param_part_shape(const sora_param *param, sora_moment_layout layout, int part);
int64_t sora_param_part_elements(const sora_param *param, sora_moment_layout layout, int part);
size_t sora_param_host_bytes(const sora_param *param, int part);
/* Frees the host's copies of that part and of those behind it, and the files that values were borrowed from. */
void sora_params_drop_host(sora_params *params, int first_part);

/* Whether both stand in one run of memory; whether item i is the first of its pack in the set; who stands behind place `after`
 * of head's pack. */
bool sora_param_beside(const sora_param *a, const sora_param *b);
bool sora_params_leads_pack(const sora_params *params, size_t i);
sora_param *sora_param_next_beside(const sora_params *params, const sora_param *head, int after);

/* ---- params_device.c --------------------------------------------------------------------------------------------- */

/* Elements with the padding behind them. */
int64_t sora_params_padded(int64_t elements);
void sora_params_free_device(sora_params *params);

/* ---- params_frozen.c --------------------------------------------------------------------------------------------- */

/* Columns of a panel of a frozen product's weight with `columns` in all; 0: the parameter stands row by row. */
int sora_frozen_panel(const sora_param *param, int64_t columns);
sora_dtype sora_frozen_dtype(const sora_param *param);

/* What frozen item i and all that stand beside it take of a buffer, in elements of 4 bytes, and their places from `offset` on. */
uint64_t sora_frozen_room(const sora_params *params, size_t i);
void sora_frozen_place(sora_param *head, uint64_t offset, const sora_buffer *buffer);

/* From the host, and back: all that stand in panels or as halves; one. */
sora_status sora_frozen_upload(sora_params *params, sora_error *error);
sora_status sora_frozen_read(const sora_param *param, float *out, sora_error *error);

#endif
