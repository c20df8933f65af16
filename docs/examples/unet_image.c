/* SPDX-License-Identifier: Apache-2.0
 * The U-Net on one image: writes the photograph with the hands that a run's network sees painted over it.
 *   cc unet_image.c $(pkg-config --cflags --libs soracl) -o unet_image && ./unet_image RUN photograph.jpg overlay.png */
#include <soracl/train.h>
#include <stdio.h>

/* Called with the image, upright, and a probability for each of its pixels. */
static sora_status paint(void *path, size_t index, const sora_image *image, const float *probability, sora_error *error)
{
    sora_image overlay = { 0 }, mask = { 0 };
    size_t pixels = (size_t)image->width * image->height, hand = 0;
    sora_status status = sora_image_resize(image, image->width, image->height, &overlay, error);
    if (!status) status = sora_image_create(image->width, image->height, 1, &mask, error);
    for (size_t i = 0; !status && i < pixels; i++) hand += (mask.pixels[i] = probability[i] >= 0.5f ? 255 : 0) != 0;
    if (!status) status = sora_image_overlay(&overlay, &mask, (const uint8_t[3]) { 255, 64, 64 }, 0.4, error);
    if (!status) status = sora_image_write_png(path, &overlay, error);
    if (!status) printf("image %zu: %.1f %% hand\n", index, 100.0 * hand / pixels);
    sora_image_free(&overlay);
    sora_image_free(&mask);
    return status;
}

int main(int argc, char **argv)
{
    sora_error error;
    sora_context *context = NULL;
    sora_unet *unet = NULL;
    if (argc != 4) return fprintf(stderr, "usage: unet_image RUN IMAGE OVERLAY\n"), 2;
    sora_prediction_options options = { .use = paint, .self = argv[3] };
    sora_status status = sora_context_create(&(sora_context_options) { 0 }, &context, &error);
    if (!status) status = sora_unet_open(context, argv[1], &unet, &error);
    if (!status) status = sora_unet_predict(unet, (const char *const[]) { argv[2] }, 1, &options, &error);
    if (status) fprintf(stderr, "unet_image: %s\n", error.message);
    sora_unet_destroy(&unet);
    if (context) sora_context_destroy(&context);
    return status != SORA_OK;
}
