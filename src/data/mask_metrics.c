/* SPDX-License-Identifier: Apache-2.0 */
#include "data/mask_metrics.h"

#include "base/memory.h"
#include "data/bootstrap.h"

#include <stdlib.h>

sora_mask_counts sora_mask_count(const float *probability, const float *truth, size_t pixels, float threshold)
{
    sora_mask_counts c = { 0 };
    for (size_t i = 0; i < pixels; i++) {
        bool predicted = probability[i] >= threshold, hand = truth[i] >= 0.5f;
        c.true_positive += predicted && hand;
        c.false_positive += predicted && !hand;
        c.false_negative += !predicted && hand;
        c.true_negative += !predicted && !hand;
    }
    return c;
}

static double ratio(double a, double b)
{
    return b > 0.0 ? a / b : 0.0;
}

uint64_t sora_mask_hand_pixels(const sora_mask_counts *c)
{
    return c->true_positive + c->false_positive + c->false_negative;
}

double sora_mask_iou(const sora_mask_counts *c)
{
    return ratio((double)c->true_positive, (double)sora_mask_hand_pixels(c));
}

sora_mask_metrics sora_mask_summary(const sora_mask_counts *images, size_t count)
{
    sora_mask_counts all = { 0 };
    sora_mask_metrics m = { .images = count };
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        all.true_positive += images[i].true_positive;
        all.false_positive += images[i].false_positive;
        all.false_negative += images[i].false_negative;
        all.true_negative += images[i].true_negative;
        if (sora_mask_hand_pixels(&images[i]) == 0) continue;
        m.images_scored++;
        sum += sora_mask_iou(&images[i]);
    }
    double tp = (double)all.true_positive, fp = (double)all.false_positive, fn = (double)all.false_negative,
           tn = (double)all.true_negative;
    m.iou_per_image = ratio(sum, (double)m.images_scored);
    m.iou_pooled = ratio(tp, tp + fp + fn);
    m.miou_two_class = 0.5 * (m.iou_pooled + ratio(tn, tn + fp + fn));
    m.dice = ratio(2 * tp, 2 * tp + fp + fn);
    m.precision = ratio(tp, tp + fp);
    m.recall = ratio(tp, tp + fn);
    m.positive_share = ratio(tp + fp, tp + fp + fn + tn);
    return m;
}

sora_status sora_mask_bootstrap(const sora_mask_counts *a, const sora_mask_counts *b, size_t count, int resamples, uint64_t seed,
                                double *difference, double *low, double *high, sora_error *error)
{
    double *differences = NULL;
    size_t used = 0;
    sora_status status = sora_allocate(count, sizeof *differences, "bootstrap", &differences, error);
    if (status != SORA_OK) return status;
    for (size_t i = 0; i < count; i++)
        if (sora_mask_hand_pixels(&a[i]) > 0 || sora_mask_hand_pixels(&b[i]) > 0)
            differences[used++] = sora_mask_iou(&a[i]) - sora_mask_iou(&b[i]);
    status = sora_bootstrap_mean(differences, used, resamples, seed, difference, low, high, error);
    free(differences);
    return status;
}
