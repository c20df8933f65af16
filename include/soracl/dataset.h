/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_DATASET_H
#define SORACL_DATASET_H

#include "soracl/image.h"
#include "soracl/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Images with hand masks on disk. Opening lists and checks (every image has its mask and the reverse, sizes of headers agree);
 * nothing is decoded until sora_dataset_load. Immutable after opening: any number of threads may load at once. */
typedef struct sora_dataset sora_dataset;

/* `spec` is KIND:DIR[:SPLIT], KIND one of
 *   egohands  DIR has metadata.mat and _LABELLED_SAMPLES (or DIR is the latter's parent without metadata: then videos = folders)
 *   gtea      DIR has GTEA/{Images,Masks} or {Images,Masks}; full colour PNG labels (> 0 is hand) or cropped grey JPEG masks
 *             (> 127 is hand)
 *   pairs     DIR has img and mask, or SPLIT/img and SPLIT/mask
 * SPLIT: train, test, or all. Default "train" where the caller trains and "test" where it evaluates (`fallback_split`).
 * Where a set has no folders for its splits they are made by group (video, subject; for plain pairs by file): GTEA test = s2,
 * else the groups whose hash falls below `test_share`. A set with one group only is refused for train/test.
 * SORA_ERROR_INPUT for broken sets, SORA_ERROR_ARGUMENT for a spec of the wrong form (the message lists the kinds). */
typedef struct sora_dataset_options {
    const char *fallback_split; /* NULL: "all" */
    double test_share;          /* 0: 0.2 */
} sora_dataset_options;

typedef struct sora_sample_info {
    const char *name;  /* unique in the set: "CARDS_COURTYARD_B_T/frame_0011", "s2_cheese_01_0023" */
    const char *group; /* video or subject: never on both sides of a split */
    const char *image_path;
} sora_sample_info;

SORA_API sora_status sora_dataset_open(const char *spec, const sora_dataset_options *options, sora_dataset **out,
                                       sora_error *error);
SORA_API void sora_dataset_close(sora_dataset **dataset);
SORA_API size_t sora_dataset_count(const sora_dataset *dataset);
SORA_API sora_sample_info sora_dataset_info(const sora_dataset *dataset, size_t index);

/* RGB image and mask (1 channel, 0 or 255) at the image's own size, upright. Both are the caller's (sora_image_free). */
SORA_API sora_status sora_dataset_load(const sora_dataset *dataset, size_t index, sora_image *image, sora_image *mask,
                                       sora_error *error);

/* xxHash of the names, groups, polygons and files' sizes of all samples, in their order, after what has the hash `seed`.
 * SORA_ERROR_INPUT where a file is gone. */
SORA_API sora_status sora_dataset_hash(const sora_dataset *dataset, uint64_t seed, uint64_t *out, sora_error *error);

/* SORA_ERROR_INPUT naming the first group, name or file (by identity on disk and by content hash) that stands in both. */
SORA_API sora_status sora_dataset_check_disjoint(const sora_dataset *a, const sora_dataset *b, sora_error *error);

/* SORA_ERROR_INPUT where none of the masks (at most `limit` of them, evenly spaced; 0: all) has a hand pixel. Reads until one has. */
SORA_API sora_status sora_dataset_check_hands(const sora_dataset *dataset, size_t limit, sora_error *error);

/* Mean and standard deviation of each channel of value / 255 over the set's images stretched to size × size (at most
 * `limit` images, evenly spaced; 0: all). */
SORA_API sora_status sora_dataset_statistics(const sora_dataset *dataset, int size, size_t limit, float mean[3],
                                             float deviation[3], sora_error *error);

/* Draws a data set: "egohands" (two-person table scenes, folders and .mat files of EgoHands) or "gtea" (kitchen scenes, folders
 * and file names of GTEA full). Deterministic in seed, whatever the platform. Masks are known exactly. */
typedef struct sora_hands_options {
    const char *layout; /* "egohands" or "gtea" */
    int images;         /* 0: 120 */
    int width, height;  /* 0: 320 x 180 */
    uint64_t seed;
    bool (*progress)(void *self, int done, int total); /* NULL, or called after each image; false stops */
    void *self;
} sora_hands_options;

SORA_API sora_status sora_hands_draw(const char *folder, const sora_hands_options *options, sora_error *error);

/* Batches, decoded and augmented by threads ahead of their use. The order and each image depend on (seed, epoch, sample) only,
 * never on threads. One thread calls sora_loader_next. */
typedef struct sora_loader sora_loader;

typedef struct sora_loader_options {
    int size;     /* images are stretched to size × size */
    int batch;    /* images of a full batch; the last of an epoch may hold fewer */
    bool shuffle; /* by (seed, epoch) */
    bool augment; /* flip, ±10° rotation, colour jitter: jointly on image and mask, mask by nearest neighbour */
    uint64_t seed;
    int threads;                 /* 0: 2 */
    float mean[3], deviation[3]; /* image = (value / 255 − mean) / deviation; deviation 0 counts as 1 */
    uint64_t start_batch;        /* counted over epochs: batches before it are skipped without decoding (resume) */
    bool once;                   /* one epoch only */
} sora_loader_options;

typedef struct sora_batch {
    int count;
    uint64_t index; /* batches before this one, over all epochs */
    uint32_t epoch;
    const float *images;     /* [count][3][size][size] */
    const float *masks;      /* [count][1][size][size], 0 or 1 */
    const uint32_t *samples; /* [count] indices in the data set */
    double waited_seconds;   /* time that sora_loader_next blocked for it */
} sora_batch;

SORA_API sora_status sora_loader_create(const sora_dataset *dataset, const sora_loader_options *options, sora_loader **out,
                                        sora_error *error);
SORA_API void sora_loader_destroy(sora_loader **loader); /* stops and joins the threads */
SORA_API uint64_t sora_loader_batches_per_epoch(const sora_loader *loader);
/* *batch stays valid until the second call after this one (two batches may be in flight). With `once`, count = 0 at the end. */
SORA_API sora_status sora_loader_next(sora_loader *loader, sora_batch *batch, sora_error *error);

/* Segmentation metrics. Counts of one image; prediction = probability >= threshold. */
typedef struct sora_mask_counts {
    uint64_t true_positive, false_positive, false_negative, true_negative;
} sora_mask_counts;

typedef struct sora_mask_metrics {
    size_t images;            /* all */
    size_t images_scored;     /* with hand pixels in truth or prediction: those that iou_per_image averages */
    double iou_per_image;     /* mean of TP / (TP + FP + FN) over images_scored */
    double iou_pooled;        /* of the summed counts */
    double miou_two_class;    /* mean of hand and background IoU, pooled */
    double dice;              /* pooled 2TP / (2TP + FP + FN) */
    double precision, recall; /* pooled */
    double positive_share;    /* predicted positive pixels of all: 0 or 1 says collapsed */
} sora_mask_metrics;

SORA_API sora_mask_counts sora_mask_count(const float *probability, const float *truth, size_t pixels, float threshold);
/* Where a ratio is 0 / 0 it is 0. */
SORA_API sora_mask_metrics sora_mask_summary(const sora_mask_counts *images, size_t count);

/* Paired bootstrap over images of mean per-image IoU of a minus b: mean difference and its 95 % percentile interval. Images
 * empty in truth and in both predictions are left out; where only one of the two scored an image the other counts as 0. */
SORA_API sora_status sora_mask_bootstrap(const sora_mask_counts *a, const sora_mask_counts *b, size_t count, int resamples,
                                         uint64_t seed, double *difference, double *low, double *high, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
