/* SPDX-License-Identifier: Apache-2.0 */
/* PNG and JPEG: every kind of pixel, every orientation, and files that are broken at every byte. */
#include "soracl/image.h"
#include "../fixture.h"
#include "base/file.h"
#include "data/exif.h"
#include "data/image_format.h"

#include <jpeglib.h>
#include <png.h>
#include <signal.h>
#include <sys/resource.h>
#include <zlib.h>

/* ---- PNG --------------------------------------------------------------------------------------------------------- */

/* A PNG of any kind, written by libpng itself; rows hold the file's own bytes. */
static void write_png(const char *path, int width, int height, int depth, int kind, const uint8_t *rows, size_t row_bytes,
                      const png_color *palette, int colours, const uint8_t *exif, uint32_t exif_bytes)
{
    FILE *stream = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    assert_non_null(stream);
    png_init_io(png, stream);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, depth, kind, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (palette) png_set_PLTE(png, info, palette, colours);
    if (exif) png_set_eXIf_1(png, info, exif_bytes, (png_bytep)exif);
    png_write_info(png, info);
    for (int y = 0; y < height; y++) png_write_row(png, rows + (size_t)y * row_bytes);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    fclose(stream);
}

static void expect_pixels(const char *path, int channels, int width, int height, const uint8_t *expected)
{
    sora_error error;
    sora_image image;
    int w, h;
    OK(sora_image_read(path, channels, &image, &error));
    OK(sora_image_read_size(path, &w, &h, &error));
    assert_true(image.width == width && image.height == height && image.channels == channels && w == width && h == height);
    for (int i = 0; i < width * height * channels; i++)
        if (image.pixels[i] != expected[i]) fail_msg("%s: byte %d is %d; expected %d", path, i, image.pixels[i], expected[i]);
    sora_image_free(&image);
}

/* Puts a chunk before the first one of type `before`. */
static void insert_chunk(const char *path, const char *before, const char *type, const void *data, size_t bytes)
{
    sora_error error;
    unsigned char *file, head[8], tail[4];
    size_t count;
    FILE *stream;
    OK(sora_file_read(path, 1 << 20, &file, &count, &error));
    unsigned char *place = memmem(file, count, before, 4);
    assert_non_null(place);
    size_t front = (size_t)(place - 4 - file);
    png_save_uint_32(head, (png_uint_32)bytes);
    memcpy(head + 4, type, 4);
    png_save_uint_32(tail, (png_uint_32)crc32(crc32(0, head + 4, 4), data, (uInt)bytes));
    assert_non_null(stream = fopen(path, "wb"));
    fwrite(file, 1, front, stream);
    fwrite(head, 1, 8, stream);
    fwrite(data, 1, bytes, stream);
    fwrite(tail, 1, 4, stream);
    fwrite(file + front, 1, count - front, stream);
    assert_int_equal(fclose(stream), 0);
    free(file);
}

static void test_png_kinds(void **state)
{
    (void)state;
    const char *path = at("kind.png");
    /* 16-bit grey: 0x0000, 0x8000, 0xffff scale to 0, 128, 255 */
    write_png(path, 3, 1, 16, PNG_COLOR_TYPE_GRAY, (const uint8_t[]) { 0, 0, 0x80, 0, 0xff, 0xff }, 6, NULL, 0, NULL, 0);
    expect_pixels(path, 1, 3, 1, (const uint8_t[]) { 0, 128, 255 });
    expect_pixels(path, 3, 3, 1, (const uint8_t[]) { 0, 0, 0, 128, 128, 128, 255, 255, 255 });
    /* 1-bit grey: 101 */
    write_png(path, 3, 1, 1, PNG_COLOR_TYPE_GRAY, (const uint8_t[]) { 0xa0 }, 1, NULL, 0, NULL, 0);
    expect_pixels(path, 1, 3, 1, (const uint8_t[]) { 255, 0, 255 });
    /* RGBA, alpha dropped */
    write_png(path, 2, 1, 8, PNG_COLOR_TYPE_RGB_ALPHA, (const uint8_t[]) { 10, 20, 30, 0, 40, 50, 60, 255 }, 8, NULL, 0, NULL, 0);
    expect_pixels(path, 3, 2, 1, (const uint8_t[]) { 10, 20, 30, 40, 50, 60 });
    /* 16-bit RGBA */
    write_png(path, 1, 1, 16, PNG_COLOR_TYPE_RGB_ALPHA, (const uint8_t[]) { 0xff, 0xff, 0, 0, 0x80, 0x80, 1, 2 }, 8, NULL, 0,
              NULL, 0);
    expect_pixels(path, 3, 1, 1, (const uint8_t[]) { 255, 0, 128 });
    /* palette of 2 bits: 0, 1, 2 */
    const png_color palette[] = { { 9, 8, 7 }, { 100, 0, 200 }, { 255, 255, 255 } };
    write_png(path, 3, 1, 2, PNG_COLOR_TYPE_PALETTE, (const uint8_t[]) { 0x18 }, 1, palette, 3, NULL, 0);
    expect_pixels(path, 3, 3, 1, (const uint8_t[]) { 9, 8, 7, 100, 0, 200, 255, 255, 255 });
    insert_chunk(path, "IDAT", "tRNS", (const uint8_t[]) { 0, 128 }, 2); /* alpha of the palette, dropped */
    expect_pixels(path, 3, 3, 1, (const uint8_t[]) { 9, 8, 7, 100, 0, 200, 255, 255, 255 });
    /* colour to grey by Rec. 601: 0.587 of green, whatever the file says of gamma */
    for (int gamma = 0; gamma < 3; gamma++) {
        write_png(path, 2, 1, 8, PNG_COLOR_TYPE_RGB, (const uint8_t[]) { 0, 200, 0, 200, 200, 200 }, 6, NULL, 0, NULL, 0);
        if (gamma == 1) insert_chunk(path, "IDAT", "gAMA", (const uint8_t[]) { 0, 0, 0xb1, 0x8f }, 4);
        if (gamma == 2) insert_chunk(path, "IDAT", "sRGB", (const uint8_t[]) { 0 }, 1);
        expect_pixels(path, 1, 2, 1, (const uint8_t[]) { 117, 200 });
    }
}

/* A few kilobytes of texts that inflate to 60 MB. */
static void test_png_texts_take_no_memory(void **state)
{
    (void)state;
    enum { BYTES = 7900000 };
    sora_error error;
    int w, h;
    uLongf count = 1 << 16;
    Bytef *text = malloc(BYTES), *chunk = malloc(3 + count);
    assert_true(text && chunk);
    memset(text, 'x', BYTES);
    assert_int_equal(compress(chunk + 3, &count, text, BYTES), Z_OK);
    memcpy(chunk, "k\0", 3); /* key, its end, the only method */
    write_png(at("texts.png"), 1, 1, 8, PNG_COLOR_TYPE_GRAY, (const uint8_t[]) { 7 }, 1, NULL, 0, NULL, 0);
    for (int i = 0; i < 8; i++) insert_chunk(at("texts.png"), "IDAT", "zTXt", chunk, 3 + count);
    free(text);
    free(chunk);
    long before = peak_memory();
    OK(sora_image_read_size(at("texts.png"), &w, &h, &error));
    expect_pixels(at("texts.png"), 1, 1, 1, (const uint8_t[]) { 7 });
    assert_in_range(peak_memory() - before, 0, 30);
}

/* ---- Orientation ------------------------------------------------------------------------------------------------- */

/* A TIFF block with one entry, orientation, in either byte order. */
static size_t exif_block(int orientation, bool big, uint8_t out[26])
{
    const uint8_t little[26] = { 'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, (uint8_t)orientation,
                                 0,   0,   0,  0, 0, 0, 0 };
    const uint8_t large[26] = { 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, (uint8_t)orientation,
                                0,   0,   0, 0,  0, 0 };
    memcpy(out, big ? large : little, 26);
    return 26;
}

/* The upright picture is  1 2 3 / 4 5 6; what each orientation stores of it (EXIF 2.3, tag 274). */
static const struct {
    int width, height;
    uint8_t stored[6];
} oriented[9] = {
    { 0 },
    { 3, 2, { 1, 2, 3, 4, 5, 6 } }, /* as it is */
    { 3, 2, { 3, 2, 1, 6, 5, 4 } }, /* mirrored left to right */
    { 3, 2, { 6, 5, 4, 3, 2, 1 } }, /* upside down */
    { 3, 2, { 4, 5, 6, 1, 2, 3 } }, /* mirrored top to bottom */
    { 2, 3, { 1, 4, 2, 5, 3, 6 } }, /* row 0 is the left side, column 0 the top */
    { 2, 3, { 3, 6, 2, 5, 1, 4 } }, /* row 0 is the right side, column 0 the top */
    { 2, 3, { 6, 3, 5, 2, 4, 1 } }, /* row 0 is the right side, column 0 the bottom */
    { 2, 3, { 4, 1, 5, 2, 6, 3 } }, /* row 0 is the left side, column 0 the bottom */
};

static void test_png_orientations(void **state)
{
    (void)state;
    uint8_t exif[26];
    const uint8_t upright[] = { 1, 2, 3, 4, 5, 6 };
    for (int o = 1; o <= 8; o++) {
        size_t bytes = exif_block(o, o % 2, exif);
        write_png(at("turn.png"), oriented[o].width, oriented[o].height, 8, PNG_COLOR_TYPE_GRAY, oriented[o].stored,
                  (size_t)oriented[o].width, NULL, 0, exif, (uint32_t)bytes);
        expect_pixels(at("turn.png"), 1, 3, 2, upright);
        /* behind the picture */
        write_png(at("turn.png"), oriented[o].width, oriented[o].height, 8, PNG_COLOR_TYPE_GRAY, oriented[o].stored,
                  (size_t)oriented[o].width, NULL, 0, NULL, 0);
        insert_chunk(at("turn.png"), "IEND", "eXIf", exif, bytes);
        expect_pixels(at("turn.png"), 1, 3, 2, upright);
    }
    /* A damaged one, by its checksum, is none. */
    exif_block(6, false, exif);
    write_png(at("turn.png"), 3, 2, 8, PNG_COLOR_TYPE_GRAY, upright, 3, NULL, 0, NULL, 0);
    insert_chunk(at("turn.png"), "IDAT", "eXIf", exif, sizeof exif);
    sora_error error;
    unsigned char *file;
    size_t count;
    OK(sora_file_read(at("turn.png"), 1 << 20, &file, &count, &error));
    ((unsigned char *)memmem(file, count, "eXIf", 4))[4 + 26] ^= 1;
    OK(sora_file_write(at("turn.png"), file, count, &error));
    free(file);
    expect_pixels(at("turn.png"), 1, 3, 2, upright);
}

static void test_broken_exif_is_no_orientation(void **state)
{
    (void)state;
    uint8_t exif[26];
    size_t bytes = exif_block(6, false, exif);
    assert_int_equal(sora_exif_orientation(exif, bytes), 6);
    for (size_t cut = 0; cut < 20; cut++) assert_int_equal(sora_exif_orientation(exif, cut), 1);
    for (size_t at = 0; at < bytes; at++) {
        for (int value = 0; value < 256; value += 5) {
            uint8_t kept = exif[at];
            exif[at] = (uint8_t)value;
            int o = sora_exif_orientation(exif, bytes);
            assert_in_range(o, 1, 8);
            exif[at] = kept;
        }
    }
}

/* ---- JPEG -------------------------------------------------------------------------------------------------------- */

static void write_jpeg(const char *path, int width, int height, int channels, const uint8_t *pixels, int orientation,
                       bool progressive)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr handler;
    uint8_t exif[6 + 26] = "Exif\0";
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    jpeg.err = jpeg_std_error(&handler);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, stream);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = channels;
    jpeg.in_color_space = channels == 3 ? JCS_RGB : JCS_GRAYSCALE;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 98, TRUE);
    if (progressive) jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    if (orientation) {
        exif_block(orientation, true, exif + 6);
        jpeg_write_marker(&jpeg, JPEG_APP0 + 1, exif, sizeof exif);
    }
    for (int y = 0; y < height; y++) {
        JSAMPROW row = (JSAMPROW)pixels + (size_t)y * width * channels;
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    fclose(stream);
}

/* Six blocks of 16 × 16 in the six greys of the oriented pictures, times 40. */
static void test_jpeg_orientations(void **state)
{
    (void)state;
    enum { BLOCK = 16 };
    for (int o = 1; o <= 8; o++) {
        for (int progressive = 0; progressive < 2; progressive++) {
            static uint8_t pixels[6 * BLOCK * BLOCK];
            sora_error error;
            sora_image image;
            int w = oriented[o].width * BLOCK, h = oriented[o].height * BLOCK;
            for (int y = 0; y < h; y++)
                for (int x = 0; x < w; x++)
                    pixels[y * w + x] = (uint8_t)(40 * oriented[o].stored[y / BLOCK * oriented[o].width + x / BLOCK]);
            write_jpeg(at("turn.jpg"), w, h, 1, pixels, o, progressive);
            OK(sora_image_read(at("turn.jpg"), 1, &image, &error));
            assert_true(image.width == 3 * BLOCK && image.height == 2 * BLOCK);
            for (int i = 0; i < 6; i++) {
                int value = image.pixels[(i / 3 * BLOCK + BLOCK / 2) * image.width + i % 3 * BLOCK + BLOCK / 2];
                assert_in_range(value, 40 * (i + 1) - 6, 40 * (i + 1) + 6);
            }
            sora_image_free(&image);
        }
    }
}

/* A mask without an orientation that fits its image's stored sides turns with it; one that is upright already, or square,
 * stays. */
static void test_mask_turns_with_its_image(void **state)
{
    (void)state;
    sora_error error;
    sora_image mask;
    uint8_t exif[26];
    size_t bytes = exif_block(6, false, exif);
    const uint8_t upright[] = { 1, 2, 3, 4, 5, 6 };
    write_png(at("photo.png"), 2, 3, 8, PNG_COLOR_TYPE_GRAY, oriented[6].stored, 2, NULL, 0, exif, (uint32_t)bytes);
    write_png(at("stored.png"), 2, 3, 8, PNG_COLOR_TYPE_GRAY, oriented[6].stored, 2, NULL, 0, NULL, 0);
    write_png(at("upright.png"), 3, 2, 8, PNG_COLOR_TYPE_GRAY, upright, 3, NULL, 0, NULL, 0);
    const char *names[] = { "stored.png", "upright.png", "photo.png" };
    for (int i = 0; i < 3; i++) {
        OK(sora_mask_read(at(names[i]), at("photo.png"), 3, 2, 1, &mask, &error));
        assert_true(mask.width == 3 && mask.height == 2);
        assert_memory_equal(mask.pixels, upright, 6);
        sora_image_free(&mask);
        OK(sora_mask_read(at(names[i]), at("photo.png"), 3, 2, 0, &mask, &error));
        assert_true(mask.width == 3 && mask.height == 2 && !mask.pixels);
    }
    /* The image has no orientation: the mask's sides are wrong and stay so. */
    OK(sora_mask_read(at("stored.png"), at("upright.png"), 3, 2, 1, &mask, &error));
    assert_true(mask.width == 2 && mask.height == 3);
    sora_image_free(&mask);
}

/* Label 1 of 65535 would round to 0 of 255: no hand. Where white is the hand all is well. */
static void test_labels_of_16_bits(void **state)
{
    (void)state;
    sora_error error;
    sora_image mask;
    static const uint8_t labels[] = { 0, 1, 0, 2, 255, 255, 0, 0 };
    write_png(at("deep.png"), 2, 2, 16, PNG_COLOR_TYPE_GRAY, labels, 4, NULL, 0, NULL, 0);
    FAILS(sora_mask_read(at("deep.png"), at("none.png"), 2, 2, 3, &mask, &error), SORA_ERROR_INPUT,
          "deep.png: a mask of labels with 16 bits");
    assert_null(mask.pixels);
    OK(sora_mask_read(at("deep.png"), at("none.png"), 2, 2, 1, &mask, &error));
    assert_memory_equal(mask.pixels, ((uint8_t[]) { 0, 0, 255, 0 }), 4);
    sora_image_free(&mask);
}

/* ---- Broken files ------------------------------------------------------------------------------------------------ */

/* Every prefix is refused; every changed byte gives a picture or a message, never more. */
static void break_file(const char *name, size_t step)
{
    sora_error error;
    sora_image image;
    unsigned char *bytes;
    size_t count, refused = 0;
    int w, h;
    char broken[160];
    OK(sora_file_read(at(name), 1 << 20, &bytes, &count, &error));
    snprintf(broken, sizeof broken, "%s/broken", folder);
    for (size_t cut = 0; cut < count - 8; cut += step) { /* a JPEG's last bytes are padding and its end marker */
        OK(sora_file_write(broken, bytes, cut, &error));
        FAILS(sora_image_read(broken, 3, &image, &error), SORA_ERROR_INPUT, "broken");
        assert_null(image.pixels);
    }
    for (size_t at = 0; at < count; at += step) {
        unsigned char kept = bytes[at];
        bytes[at] ^= (unsigned char)(1 + at % 255);
        OK(sora_file_write(broken, bytes, count, &error));
        bytes[at] = kept;
        memset(&error, 0, sizeof error);
        if (sora_image_read(broken, 3, &image, &error)) {
            assert_int_equal(error.status, SORA_ERROR_INPUT);
            assert_non_null(strstr(error.message, "broken"));
            refused++;
        }
        sora_image_free(&image);
        sora_image_read_size(broken, &w, &h, NULL);
    }
    print_message("# %s: %zu of %zu changed bytes refused\n", name, refused, count / step);
    free(bytes);
}

static void test_broken_files(void **state)
{
    (void)state;
    static uint8_t pixels[40 * 30 * 3];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 7 % 251);
    write_png(at("whole.png"), 40, 30, 8, PNG_COLOR_TYPE_RGB, pixels, 120, NULL, 0, NULL, 0);
    write_jpeg(at("whole.jpg"), 40, 30, 3, pixels, 6, false);
    write_jpeg(at("whole_progressive.jpg"), 40, 30, 3, pixels, 0, true);
    break_file("whole.png", 3);
    break_file("whole.jpg", 3);
    break_file("whole_progressive.jpg", 3);
}

/* Headers that promise more than any memory holds. */
static void test_absurd_sizes(void **state)
{
    (void)state;
    sora_error error;
    sora_image image;
    unsigned char *bytes;
    size_t count;
    write_png(at("large.png"), 2, 2, 8, PNG_COLOR_TYPE_GRAY, (const uint8_t[]) { 1, 2, 3, 4 }, 2, NULL, 0, NULL, 0);
    OK(sora_file_read(at("large.png"), 1 << 20, &bytes, &count, &error));
    for (int i = 0; i < 8; i++) bytes[16 + i] = i % 4 == 0 ? 0x7f : 0xff;
    OK(sora_file_write(at("large.png"), bytes, count, &error));
    FAILS(sora_image_read(at("large.png"), 1, &image, &error), SORA_ERROR_INPUT, "large.png");
    free(bytes);
    FAILS(sora_image_read(at("absent.png"), 1, &image, &error), SORA_ERROR_INPUT, "absent.png");
    FAILS(sora_image_read(folder, 1, &image, &error), SORA_ERROR_INPUT, "soracl-test");
    OK(sora_file_write(at("text.png"), "not a picture", 13, &error));
    FAILS(sora_image_read(at("text.png"), 1, &image, &error), SORA_ERROR_INPUT, "PNG");
}

/* ---- Resizing ---------------------------------------------------------------------------------------------------- */

static void test_resize(void **state)
{
    (void)state;
    sora_error error;
    sora_image image, out;
    OK(sora_image_create(4, 2, 1, &image, &error));
    memcpy(image.pixels, (const uint8_t[]) { 0, 100, 200, 40, 20, 80, 0, 0 }, 8);
    OK(sora_image_resize(&image, 2, 1, &out, &error)); /* mean of 2 × 2 */
    assert_true(out.pixels[0] == 50 && out.pixels[1] == 60);
    sora_image_free(&out);
    OK(sora_image_resize_nearest(&image, 2, 1, &out, &error)); /* x = 1, 3; y = 1 */
    assert_true(out.pixels[0] == 80 && out.pixels[1] == 0);
    sora_image_free(&out);
    OK(sora_image_resize(&image, 8, 2, &out, &error)); /* centres at halves: 0, ¼ of the way, ¾, … */
    assert_true(out.pixels[0] == 0 && out.pixels[1] == 25 && out.pixels[2] == 75 && out.pixels[7] == 40);
    sora_image_free(&out);
    OK(sora_image_resize(&image, 4, 2, &out, &error));
    assert_memory_equal(out.pixels, image.pixels, 8);
    sora_image_free(&out);
    FAILS(sora_image_resize(&image, 0, 5, &out, &error), SORA_ERROR_ARGUMENT, "0");
    sora_image_free(&image);
}

/* A column of a million pixels takes as much memory as two lines of what comes out, not as a million of them. */
static void test_resize_a_column(void **state)
{
    (void)state;
    enum { HEIGHT = 1000000, SIZE = 40 };
    sora_error error;
    sora_image image, out;
    OK(sora_image_create(1, HEIGHT, 1, &image, &error));
    for (int y = 0; y < HEIGHT; y++) image.pixels[y] = (uint8_t)(y / (HEIGHT / SIZE));
    long before = peak_memory();
    OK(sora_image_resize(&image, SIZE, SIZE, &out, &error));
    assert_in_range(peak_memory() - before, 0, 30);
    for (int i = 0; i < SIZE * SIZE; i++) assert_int_equal(out.pixels[i], i / SIZE);
    sora_image_free(&image);
    sora_image_free(&out);
}

/* Files may have 5000 bytes here, as on a disk that is nearly full; the picture does not compress. */
static void test_no_room(void **state)
{
    (void)state;
    sora_error error;
    sora_image image;
    struct rlimit before, limited;
    OK(sora_image_create(100, 100, 3, &image, &error));
    for (uint32_t i = 0, x = 1; i < 30000; i++, x = x * 1664525u + 1013904223u) image.pixels[i] = (uint8_t)(x >> 24);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limited = before;
    limited.rlim_cur = 5000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limited), 0);
    sora_status png = sora_image_write_png(at("no-room.png"), &image, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    sora_image_free(&image);
    assert_int_equal(png, SORA_ERROR_IO);
    if (!strstr(error.message, "no-room.png: cannot write: File too large")) fail_msg("%s", error.message);
    assert_false(sora_path_exists(at("no-room.png")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_png_kinds),
        cmocka_unit_test(test_png_texts_take_no_memory),
        cmocka_unit_test(test_png_orientations),
        cmocka_unit_test(test_jpeg_orientations),
        cmocka_unit_test(test_broken_exif_is_no_orientation),
        cmocka_unit_test(test_mask_turns_with_its_image),
        cmocka_unit_test(test_labels_of_16_bits),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_absurd_sizes),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_resize_a_column),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
