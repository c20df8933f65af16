/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/train.h"

#include <jansson.h>

/* What was not counted is null, not 0. */
static json_t *of_generated(const sora_text_metrics *t, double mean)
{
    return t->generated ? json_real(mean) : json_null();
}

json_t *sora_quality_to_json(const sora_quality *q)
{
    const sora_text_metrics *t = &q->text;
    if (q->task == SORA_TASK_T5)
        return json_pack("{s:s,s:I,s:f,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:f}", "task", "t5", "examples", (json_int_t)t->examples,
                         "loss", q->loss, "tokens_target", (json_int_t)t->tokens_target, "generated", (json_int_t)t->generated,
                         "rouge1", of_generated(t, 100 * t->rouge.rouge1), "rouge2", of_generated(t, 100 * t->rouge.rouge2),
                         "rougeL", of_generated(t, 100 * t->rouge.rougeL), "rougeLsum", of_generated(t, 100 * t->rouge.rougeLsum),
                         "generated_tokens_mean", of_generated(t, t->generated_tokens), "seconds", q->seconds);
    return json_pack("{s:s,s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "task", "unet", "images", (json_int_t)q->mask.images,
                     "iou_per_image", q->mask.iou_per_image, "iou_pooled", q->mask.iou_pooled, "miou_two_class",
                     q->mask.miou_two_class, "dice", q->mask.dice, "precision", q->mask.precision, "recall", q->mask.recall,
                     "loss", q->loss, "seconds", q->seconds);
}
