/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include "soracl/headlines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool on_image(void *self, int done, int total)
{
    bool quiet = *(const bool *)self;
    if (!quiet && isatty(2)) fprintf(stderr, "\r%d of %d images%s", done, total, done == total ? "\n" : "");
    return true;
}

int cli_data_hands(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const char *layout = "egohands", *out = NULL, *images = "120", *width = "320", *height = "180", *seed = "1";
    const cli_option options[] = {
        { "layout", "Data", "NAME", "folders and files as EgoHands or GTEA has them (egohands|gtea)", "egohands", NULL, &layout },
        { "out", "Data", "DIR", "folder to write to", NULL, NULL, &out },
        { "images", "Data", "N", "how many", "120", NULL, &images },
        { "width", "Data", "N", "pixels", "320", NULL, &width },
        { "height", "Data", "N", "pixels", "180", NULL, &height },
        { "seed", "Data", "N", "another seed, other pictures", "1", NULL, &seed },
        { "json", "General", NULL, "results as JSON on stdout", NULL, &globals.json, NULL },
        { "quiet", "General", NULL, "no progress", NULL, &globals.quiet, NULL },
    };
    cli_command command = { .name = "data hands",
                            .summary = "draw a data set of hand images with exact masks",
                            .usage = "data hands --layout egohands|gtea --out DIR",
                            .example = "soracl data hands --layout gtea --images 60 --out hands2",
                            .options = options,
                            .option_count = sizeof options / sizeof options[0] };
    sora_error error;
    bool help;
    long count = 0, w = 0, h = 0, s = 0;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (!out) {
        snprintf(error.message, sizeof error.message, "--out DIR is needed");
        return cli_fail(SORA_ERROR_ARGUMENT, &error);
    }
    if (status == SORA_OK) status = cli_number("images", images, 2, 1000000, &count, &error);
    if (status == SORA_OK) status = cli_number("width", width, 32, 4096, &w, &error);
    if (status == SORA_OK) status = cli_number("height", height, 32, 4096, &h, &error);
    if (status == SORA_OK) status = cli_number("seed", seed, 0, 2000000000, &s, &error);
    sora_hands_options hands = { .layout = layout,
                                 .images = (int)count,
                                 .width = (int)w,
                                 .height = (int)h,
                                 .seed = (uint64_t)s,
                                 .progress = on_image,
                                 .self = &globals.quiet };
    if (status == SORA_OK) status = sora_hands_draw(out, &hands, &error);
    if (status == SORA_OK && globals.json)
        status = cli_print_json(json_pack("{s:s,s:s,s:i,s:i,s:i,s:I}", "out", out, "layout", layout, "images", hands.images,
                                          "width", hands.width, "height", hands.height, "seed", (json_int_t)s),
                                &error);
    return cli_fail(status, &error);
}

/* ---- Headlines --------------------------------------------------------------------------------------------------- */

static sora_status print_headlines(const char *out, const sora_headlines_result *r, bool json, sora_error *error)
{
    if (json)
        return cli_print_json(json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "train", (json_int_t)r->train, "dev",
                                        (json_int_t)r->dev, "test", (json_int_t)r->test, "described", (json_int_t)r->described,
                                        "without_source", (json_int_t)r->without_source, "too_short", (json_int_t)r->too_short,
                                        "repeated", (json_int_t)r->repeated, "also_held", (json_int_t)r->also_held, "excluded",
                                        (json_int_t)r->excluded),
                              error);
    printf("%s/train.csv: %zu pairs\n%s/dev.csv: %zu pairs\n%s/test.csv: %zu pairs\n", out, r->train, out, r->dev, out, r->test);
    printf("of %zu descriptions left out: %zu too short, %zu without a source package, %zu as a sibling's; and of train: %zu "
           "with a title "
           "or text of dev or test, %zu by --exclude\n",
           r->described, r->too_short, r->without_source, r->repeated, r->also_held, r->excluded);
    return SORA_OK;
}

/* Cuts "a,b,c" in place. The list is the caller's (free()); NULL: no memory. */
static const char **cut_list(char *text, size_t *count)
{
    const char **list = malloc((strlen(text) / 2 + 1) * sizeof *list);
    *count = 0;
    for (char *rest = NULL, *one = strtok_r(text, ",", &rest); list && one; one = strtok_r(NULL, ",", &rest))
        list[(*count)++] = one;
    return list;
}

static sora_status write_headlines(const char *out, sora_headlines_options *o, const char *exclude, sora_headlines_result *result,
                                   sora_error *error)
{
    char *copy = strdup(exclude ? exclude : "");
    const char **list = copy ? cut_list(copy, &o->exclude_count) : NULL;
    sora_status status = SORA_ERROR_MEMORY;
    o->exclude = list;
    if (list)
        status = sora_headlines_write(out, o, result, error);
    else
        snprintf(error->message, sizeof error->message, "no host memory");
    free(list);
    free(copy);
    return status;
}

int cli_data_headlines(int argc, char **argv)
{
    bool json = false, help;
    const char *out = NULL, *lists = NULL, *exclude = NULL, *min_text = NULL;
    const cli_option options[] = {
        { "out", "Data", "DIR", "folder to write train.csv, dev.csv and test.csv to", NULL, NULL, &out },
        { "lists", "Data", "DIR", "apt's lists, with Translation-en", "/var/lib/apt/lists", NULL, &lists },
        { "exclude", "Data", "FILE,...", "CSV files: their titles, texts and tags' source packages stay out of train", NULL, NULL,
          &exclude },
        { "min-text", "Data", "N", "characters; shorter texts are left out", "151", NULL, &min_text },
        { "json", "General", NULL, "results as JSON on stdout", NULL, &json, NULL },
    };
    cli_command command = { .name = "data headlines",
                            .summary =
                                "(text, title) pairs for summarisation from Debian's package descriptions, as apt has them here",
                            .usage = "data headlines --out DIR [--lists DIR] [--exclude FILE,...]",
                            .example = "soracl data headlines --out headlines",
                            .options = options,
                            .option_count = sizeof options / sizeof options[0] };
    sora_error error;
    sora_headlines_result result;
    long least = 0;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (!out) {
        snprintf(error.message, sizeof error.message, "--out DIR is needed");
        return cli_fail(SORA_ERROR_ARGUMENT, &error);
    }
    status = cli_number("min-text", min_text, 1, 1000000, &least, &error);
    sora_headlines_options headlines = { .lists = lists, .min_text = (size_t)least };
    if (status == SORA_OK) status = write_headlines(out, &headlines, exclude, &result, &error);
    if (status == SORA_OK) status = print_headlines(out, &result, json, &error);
    return cli_fail(status, &error);
}
