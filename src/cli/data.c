/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool on_image(void *self, int done, int total)
{
    bool quiet = *(const bool *)self;
    if (!quiet && isatty(2)) fprintf(stderr, "\r%d of %d images%s", done, total, done == total ? "\n" : "");
    return true;
}

static sora_status number(const char *name, const char *text, long low, long high, long *out, sora_error *error)
{
    char *end;
    if (!text) return SORA_OK;
    *out = strtol(text, &end, 10);
    if (*text && !*end && *out >= low && *out <= high) return SORA_OK;
    error->status = SORA_ERROR_ARGUMENT;
    snprintf(error->message, sizeof error->message, "--%s: \"%.60s\"; expected %ld to %ld", name, text, low, high);
    return SORA_ERROR_ARGUMENT;
}

int cli_data_hands(int argc, char **argv)
{
    cli_globals globals = { 0 };
    const char *layout = "egohands", *out = NULL, *images = NULL, *width = NULL, *height = NULL, *seed = NULL;
    const cli_option options[] = {
        { "layout", "Data", "NAME", "folders and files as EgoHands or GTEA has them (egohands|gtea)", "egohands", NULL, &layout },
        { "out", "Data", "DIR", "folder to write to", NULL, NULL, &out },
        { "images", "Data", "N", "how many", "120", NULL, &images },
        { "width", "Data", "N", "pixels", "320", NULL, &width },
        { "height", "Data", "N", "pixels", "180", NULL, &height },
        { "seed", "Data", "N", "another seed, other pictures", "1", NULL, &seed },
        { "quiet", "General", NULL, "no progress", NULL, &globals.quiet, NULL },
    };
    cli_command command = { .name = "data hands",
                            .summary = "draw a data set of hand images with exact masks",
                            .usage = "data hands --layout egohands|gtea --out DIR",
                            .example = "soracl data hands --layout gtea --images 60 --out hands",
                            .options = options,
                            .option_count = sizeof options / sizeof options[0] };
    sora_error error;
    bool help;
    long count = 0, w = 0, h = 0, s = 1;
    sora_status status = cli_parse(&command, argc, argv, &help, &error);
    if (status != SORA_OK || help) return cli_fail(status, &error);
    if (!out) {
        snprintf(error.message, sizeof error.message, "--out DIR is needed");
        return cli_fail(SORA_ERROR_ARGUMENT, &error);
    }
    if (status == SORA_OK) status = number("images", images, 2, 1000000, &count, &error);
    if (status == SORA_OK) status = number("width", width, 32, 4096, &w, &error);
    if (status == SORA_OK) status = number("height", height, 32, 4096, &h, &error);
    if (status == SORA_OK) status = number("seed", seed, 0, 2000000000, &s, &error);
    sora_hands_options hands = { .layout = layout,
                                 .images = (int)count,
                                 .width = (int)w,
                                 .height = (int)h,
                                 .seed = (uint64_t)s,
                                 .progress = on_image,
                                 .self = &globals.quiet };
    if (status == SORA_OK) status = sora_hands_draw(out, &hands, &error);
    return cli_fail(status, &error);
}
