/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- train, finetune --------------------------------------------------------------------------------------------- */

int cli_unet_train(int argc, char **argv)
{
    static const char *const groups[] = { "Data", "Network", "Training", NULL };
    cli_globals globals = { 0 };
    sora_run_options run;
    const char *out = NULL, *resume = NULL, *config = NULL;
    bool overwrite = false;
    const cli_option options[] = { CLI_RUN_OPTIONS };
    cli_command command = { .name = "unet train",
                            .summary = "train a U-Net for hand masks",
                            .usage = "unet train --data KIND:DIR[:SPLIT] --out DIR",
                            .example = "soracl unet train --data egohands:hands --size 64 --epochs 2 --out run",
                            .options = options,
                            .option_count = COUNT(options),
                            .run_groups = groups,
                            .run_task = SORA_TASK_UNET,
                            .run = &run };
    return cli_run_training(&command, &globals, argc, argv, &config, &out, &resume, &overwrite);
}

int cli_unet_finetune(int argc, char **argv)
{
    static const char *const groups[] = { "Data", "Network", "Training", "Adapter", NULL };
    cli_globals globals = { 0 };
    sora_run_options run;
    const char *out = NULL, *resume = NULL, *config = NULL;
    bool overwrite = false;
    const cli_option options[] = { CLI_RUN_OPTIONS };
    cli_command command = {
        .name = "unet finetune",
        .summary = "adapt a trained U-Net to other data",
        .usage = "unet finetune --from RUN --data KIND:DIR[:SPLIT] --method full|lora|sora --out DIR",
        .example =
            "soracl unet finetune --from run --data gtea:hands2 --method sora --rank 40 --lambda 0.1 --epochs 2 --out run2",
        .options = options,
        .option_count = COUNT(options),
        .run_groups = groups,
        .run_task = SORA_TASK_UNET,
        .run_from = true,
        .run = &run
    };
    return cli_run_training(&command, &globals, argc, argv, &config, &out, &resume, &overwrite);
}

/* ---- eval -------------------------------------------------------------------------------------------------------- */

int cli_unet_eval(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const char *from = NULL, *data = NULL, *batch = NULL;
    bool native = false, help;
    const cli_option options[] = {
        { "from", "Data", "RUN", "run (its best checkpoint; RUN:last its last) or weights file", NULL, NULL, &from },
        { "data", "Data", "SPEC", "KIND:DIR[:SPLIT]; kinds egohands, gtea, pairs", "split test", NULL, &data },
        { "batch", "Data", "N", "images at once", "8", NULL, &batch },
        { "native", "Data", NULL, "metrics at the images' own sizes instead of the network's", NULL, &native, NULL },
        CLI_GLOBALS(globals),
    };
    cli_command command = { .name = "unet eval",
                            .summary = "measure a U-Net on a data set",
                            .usage = "unet eval --from RUN --data KIND:DIR[:SPLIT]",
                            .example = "soracl unet eval --from run --data egohands:hands --json",
                            .options = options,
                            .option_count = COUNT(options) };
    sora_error error;
    sora_context *context = NULL;
    sora_unet *unet = NULL;
    sora_dataset *dataset = NULL;
    sora_quality quality;
    sora_dataset_options opening = { .fallback_split = "test" };
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (!from || !data)
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "--from and --data are needed; usage: soracl %s", command.usage);
    long images = 8;
    if (status == SORA_OK) status = cli_number("batch", batch, 1, 4096, &images, &error);
    if (status == SORA_OK) status = sora_dataset_open(data, &opening, &dataset, &error);
    if (status == SORA_OK) status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) status = sora_unet_open(context, from, &unet, &error);
    if (status == SORA_OK) sora_params_freeze(sora_unet_params(unet));
    sora_run_options run;
    const char *loss = status == SORA_OK && cli_run_options(from, &run) ? run.loss : "dice";
    sora_evaluation_options evaluation = { .batch = (int)images, .native = native, .loss = sora_mask_loss_of(loss) };
    if (status == SORA_OK) status = sora_unet_evaluate(unet, dataset, &evaluation, &quality, &error);
    if (status == SORA_OK && globals.json)
        status = cli_print_json(sora_quality_to_json(&quality), &error);
    else if (status == SORA_OK)
        printf("%zu images, %zu with hands in truth or prediction\n  hand IoU per image  %.4f\n  hand IoU pooled     %.4f\n  "
               "mean IoU, 2 classes %.4f\n"
               "  Dice                %.4f\n  precision           %.4f\n  recall              %.4f\n  loss (%s)%*s%.4f\n",
               quality.mask.images, quality.mask.images_scored, quality.mask.iou_per_image, quality.mask.iou_pooled,
               quality.mask.miou_two_class, quality.mask.dice, quality.mask.precision, quality.mask.recall, loss,
               (int)(13 - strlen(loss)), "", quality.loss);
    sora_unet_destroy(&unet);
    sora_dataset_close(&dataset);
    return cli_finish(&globals, &context, status, &error);
}

/* ---- predict ----------------------------------------------------------------------------------------------------- */

typedef struct prediction {
    const char *const *paths;
    const char *out;
    bool probability, silent; /* silent: names of pictures are not printed as they are written */
    double threshold;
    bool *unreadable; /* [paths] */
    size_t failures;
} prediction;

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Bytes of a file's name without its ending: what its pictures are called after. */
static int stem_length(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? (int)(dot - name) : (int)strlen(name);
}

/* Pictures of one image are not to be written over those of another. */
static sora_status check_stems(const char *const *paths, size_t count, sora_error *error)
{
    for (size_t i = 1; i < count; i++) {
        const char *name = base_name(paths[i]);
        int length = stem_length(name);
        for (size_t j = 0; j < i; j++) {
            const char *other = base_name(paths[j]);
            if (stem_length(other) == length && strncmp(name, other, (size_t)length) == 0)
                return cli_error(error, SORA_ERROR_ARGUMENT,
                                 "%s and %s: both masks would be %.*s.mask.png; predict them one by one, each with its own --out",
                                 paths[j], paths[i], length, name);
        }
    }
    return SORA_OK;
}

/* Whether there is room for it. */
static bool picture_path(const prediction *p, size_t index, const char *kind, char path[4096])
{
    const char *name = base_name(p->paths[index]);
    return snprintf(path, 4096, "%s/%.*s.%s.png", p->out, stem_length(name), name, kind) < 4096;
}

/* No image is to be written over by another one's picture, as a truth that is called NAME.mask.png would be. */
static sora_status check_inputs(const prediction *p, size_t count, sora_error *error)
{
    static const char *const kinds[] = { "mask", "overlay", "probability" };
    char path[4096];
    struct stat written, read;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < COUNT(kinds) - !p->probability; k++) {
            if (!picture_path(p, i, kinds[k], path)) continue;
            for (size_t j = 0; j < count; j++)
                if (strcmp(base_name(path), base_name(p->paths[j])) == 0 && stat(path, &written) == 0 &&
                    stat(p->paths[j], &read) == 0 && written.st_dev == read.st_dev && written.st_ino == read.st_ino)
                    return cli_error(error, SORA_ERROR_ARGUMENT,
                                     "%s: the %s of %s would be written over it; choose another --out", p->paths[j], kinds[k],
                                     p->paths[i]);
        }
    return SORA_OK;
}

static sora_status write_one(const prediction *p, size_t index, const char *kind, const sora_image *image, sora_error *error)
{
    char path[4096];
    if (!picture_path(p, index, kind, path)) return cli_error(error, SORA_ERROR_ARGUMENT, "%s: too long a name", p->paths[index]);
    sora_status status = sora_image_write_png(path, image, error);
    if (status == SORA_OK && !p->silent) printf("%s\n", path);
    return status;
}

/* What was written. */
static sora_status print_pictures(const prediction *p, size_t count, sora_error *error)
{
    char mask[4096], overlay[4096], probability[4096];
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        if (p->unreadable[i]) continue;
        picture_path(p, i, "mask", mask);
        picture_path(p, i, "overlay", overlay);
        picture_path(p, i, "probability", probability);
        json_t *one = json_pack("{s:s,s:s,s:s,s:s*}", "image", p->paths[i], "mask", mask, "overlay", overlay, "probability",
                                p->probability ? probability : NULL);
        if (json_array_append_new(list, one) == 0) continue;
        json_decref(list);
        return cli_print_json(NULL, error);
    }
    return cli_print_json(list, error);
}

static sora_status use_prediction(void *self, size_t index, const sora_image *image, const float *probability, sora_error *error)
{
    static const uint8_t red[3] = { 235, 64, 52 };
    const prediction *p = self;
    sora_image mask = { 0 }, overlay = { 0 };
    size_t pixels = (size_t)image->width * (size_t)image->height;
    sora_status status = sora_image_create(image->width, image->height, 1, &mask, error);
    if (status == SORA_OK) status = sora_image_create(image->width, image->height, 3, &overlay, error);
    if (status == SORA_OK) {
        for (size_t i = 0; i < pixels; i++) mask.pixels[i] = (double)probability[i] >= p->threshold ? 255 : 0;
        memcpy(overlay.pixels, image->pixels, 3 * pixels);
        status = sora_image_overlay(&overlay, &mask, red, 0.45, error);
    }
    if (status == SORA_OK) status = write_one(p, index, "mask", &mask, error);
    if (status == SORA_OK) status = write_one(p, index, "overlay", &overlay, error);
    if (status == SORA_OK && p->probability) {
        for (size_t i = 0; i < pixels; i++) mask.pixels[i] = (uint8_t)(255.0f * probability[i] + 0.5f);
        status = write_one(p, index, "probability", &mask, error);
    }
    sora_image_free(&mask);
    sora_image_free(&overlay);
    return status;
}

static void on_unreadable(void *self, size_t index, const sora_error *why)
{
    prediction *p = self;
    p->unreadable[index] = true;
    p->failures++;
    cli_fail(why->status, why);
}

int cli_unet_predict(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const char *from = NULL, *out = NULL, *threshold = NULL;
    bool probability = false, help;
    const cli_option options[] = {
        { "from", "Data", "RUN", "run or weights file", NULL, NULL, &from },
        { "out", "Data", "DIR", "folder for the pictures: NAME.mask.png and NAME.overlay.png, at each image's own size", NULL,
          NULL, &out },
        { "threshold", "Data", "N", "probability from which a pixel is hand", "0.5", NULL, &threshold },
        { "probability", "Data", NULL, "write NAME.probability.png too", NULL, &probability, NULL },
        CLI_GLOBALS(globals),
    };
    const char **words = calloc((size_t)argc + 1, sizeof *words);
    bool *unreadable = calloc((size_t)argc + 1, sizeof *unreadable);
    cli_command command = { .name = "unet predict",
                            .summary = "hand masks for images (JPEG or PNG)",
                            .usage = "unet predict --from RUN IMAGE... --out DIR",
                            .example = "soracl unet predict --from run hands2/GTEA/Images/*.jpg --out masks",
                            .options = options,
                            .option_count = COUNT(options),
                            .words = words,
                            .word_room = (size_t)argc };
    sora_error error;
    sora_context *context = NULL;
    sora_unet *unet = NULL;
    sora_status status = words && unreadable ? cli_parse(&command, argc, argv, &help, &error)
                                             : cli_error(&error, SORA_ERROR_MEMORY, "%s", "no host memory");
    if (status != SORA_OK || help) {
        free(words);
        free(unreadable);
        return cli_fail(status, &error);
    }
    char *end = NULL;
    double level = threshold ? strtod(threshold, &end) : 0.5;
    if (threshold && (*end || !(level > 0.0 && level < 1.0)))
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "--threshold: \"%s\"; expected a number between 0 and 1", threshold);
    if (status == SORA_OK && (!from || !out || command.word_count == 0))
        status = cli_error(&error, SORA_ERROR_ARGUMENT, "--from, --out and at least one image are needed; usage: soracl %s",
                           command.usage);
    if (status == SORA_OK) status = check_stems(words, command.word_count, &error);
    if (status == SORA_OK && mkdir(out, 0777) != 0) {
        struct stat info;
        const char *reason = strerror(errno);
        if (stat(out, &info) != 0 || !S_ISDIR(info.st_mode))
            status = cli_error(&error, SORA_ERROR_IO, "%s: cannot create folder: %s", out, reason);
    }
    prediction self = { words, out, probability, globals.quiet || globals.json, level, unreadable, 0 };
    if (status == SORA_OK) status = check_inputs(&self, command.word_count, &error);
    if (status == SORA_OK) status = cli_open_context(&globals, &context, &error);
    if (status == SORA_OK) status = sora_unet_open(context, from, &unet, &error);
    if (status == SORA_OK) sora_params_freeze(sora_unet_params(unet));
    sora_prediction_options prediction_options = { .use = use_prediction, .unreadable = on_unreadable, .self = &self };
    if (status == SORA_OK) status = sora_unet_predict(unet, words, command.word_count, &prediction_options, &error);
    if (status == SORA_OK && globals.json) status = print_pictures(&self, command.word_count, &error);
    if (status == SORA_OK && self.failures > 0)
        status = cli_error(&error, SORA_ERROR_INPUT, "%zu of %zu images could not be read; they have no masks", self.failures,
                           command.word_count);
    sora_unet_destroy(&unet);
    free(words);
    free(unreadable);
    return cli_finish(&globals, &context, status, &error);
}
