#include "base/file.h"
#include "base/mem.h"
#include "io/image.h"
#include "io/jpeg.h"
#include "io/png.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* A picture of gradients with a hard edge. */
static struct image picture(int width, int height)
{
    struct image image;
    image_init(&image, width, height);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *p = image.rgb + 3 * (y * width + x);
            p[0] = (uint8_t)(x * 255 / width);
            p[1] = (uint8_t)(y * 255 / height);
            p[2] = x > y ? 200 : 20;
        }
    return image;
}

START_TEST(floats_become_bytes_as_numpy_rounds_them)
{
    /* clamp(v/2+0.5)*255, halves to even: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2 */
    static const struct {
        float v;
        int byte;
    } cases[] = {{-1, 0},
                 {1, 255},
                 {0, 128},
                 {-3, 0},
                 {7, 255},
                 {NAN, 0},
                 {INFINITY, 255},
                 {-INFINITY, 0},
                 {2 * 1.2f / 255 - 1, 1},
                 {2 * 1.8f / 255 - 1, 2}};
    struct image image;
    image_init(&image, 1, 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const float v[3] = {cases[i].v, cases[i].v, cases[i].v};
        image_from_float(&image, v);
        ck_assert_msg(image.rgb[0] == cases[i].byte, "%g became %d", (double)cases[i].v,
                      image.rgb[0]);
    }
    image_done(&image);
}
END_TEST

START_TEST(every_byte_survives_the_float_form)
{
    struct image image;
    float v[16 * 16 * 3];
    image_init(&image, 16, 16);
    for (int i = 0; i < 256; i++)
        memset(image.rgb + 3 * i, i, 3);
    image_to_float(v, &image);
    ck_assert(v[0] == -1.0f && v[767] == 1.0f);
    memset(image.rgb, 0, 768);
    image_from_float(&image, v);
    for (int i = 0; i < 256; i++)
        ck_assert_int_eq(image.rgb[3 * i], i);
    image_done(&image);
}
END_TEST

START_TEST(png_gives_back_every_pixel)
{
    static const int sides[][2] = {{1, 1}, {7, 3}, {64, 64}, {1, 300}};
    for (size_t i = 0; i < COUNT(sides); i++) {
        struct image in = picture(sides[i][0], sides[i][1]), out;
        uint8_t *bytes;
        size_t size;
        struct err e;
        ck_assert_msg(png_encode(&bytes, &size, &in, "steps: 20", &e) == 0, "%s", e.text);
        ck_assert_msg(png_decode(&out, bytes, size, &e) == 0, "%s", e.text);
        ck_assert(out.width == in.width && out.height == in.height);
        ck_assert(memcmp(in.rgb, out.rgb, (size_t)in.width * (size_t)in.height * 3) == 0);
        mem_free(bytes);
        image_done(&in);
        image_done(&out);
    }
}
END_TEST

START_TEST(parameters_are_text_in_the_file)
{
    static const char *const texts[][2] = {{"a red circle", "tEXtparameters"},
                                           {"caf\xc3\xa9", "iTXtparameters"}};
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct image image = picture(4, 4);
        uint8_t *bytes;
        size_t size, found = 0;
        ck_assert_int_eq(png_encode(&bytes, &size, &image, texts[i][0], NULL), 0);
        for (size_t at = 0; at + strlen(texts[i][1]) <= size; at++)
            found += memcmp(bytes + at, texts[i][1], strlen(texts[i][1])) == 0;
        ck_assert_uint_eq(found, 1);
        mem_free(bytes);
        image_done(&image);
    }
}
END_TEST

START_TEST(broken_png_files_are_refused)
{
    struct image image = picture(16, 16), out = {0};
    uint8_t *bytes;
    size_t size;
    struct err e;
    ck_assert_int_eq(png_encode(&bytes, &size, &image, NULL, &e), 0);
    for (size_t cut = 0; cut < size; cut++)
        ck_assert_msg(png_decode(&out, bytes, cut, &e) == -1, "opened after %zu of %zu bytes", cut,
                      size);
    bytes[40] ^= 1; /* inside the first IDAT: its checksum is wrong */
    ck_assert_int_eq(png_decode(&out, bytes, size, &e), -1);
    ck_assert_ptr_null(out.rgb);
    mem_free(bytes);
    image_done(&image);
}
END_TEST

START_TEST(a_png_that_claims_to_be_huge_is_refused)
{
    /* the signature and an IHDR with its right checksum: 100000 x 100000 pixels */
    static const uint8_t wide[] = {
        0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00,
        0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x01, 0x86, 0xa0, 0x00, 0x01,
        0x86, 0xa0, 0x08, 0x02, 0x00, 0x00, 0x00, 0x27, 0x30, 0x9c, 0x9f,
    };
    struct image out;
    struct err e;
    ck_assert_int_eq(png_decode(&out, wide, sizeof wide, &e), -1);
}
END_TEST

/* Files of the fuzz corpus, each of another colour type. */
START_TEST(other_png_colours_become_rgb_over_white)
{
    static const struct {
        const char *path;
        int width;
        uint8_t rgb[6];
    } cases[] = {
        {"tests/fuzz/corpus/png/grey_alpha", 2, {0, 0, 0, 255, 255, 255}},
        {"tests/fuzz/corpus/png/palette", 2, {1, 2, 3, 4, 5, 6}},
        {"tests/fuzz/corpus/png/grey16", 1, {1, 1, 1}},
        {"tests/fuzz/corpus/png/rgba_text", 1, {251, 251, 251}},
        {"tests/fuzz/corpus/png/rgba_srgb", 1, {255, 127, 127}}, /* half of red, whatever the file says of gamma */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *bytes;
        size_t size;
        struct image out;
        struct err e;
        ck_assert_int_eq(file_read_all(cases[i].path, 4096, &bytes, &size, &e), 0);
        ck_assert_msg(png_decode(&out, (const uint8_t *)bytes, size, &e) == 0, "%s: %s",
                      cases[i].path, e.text);
        ck_assert(out.width == cases[i].width && out.height == 1);
        for (int k = 0; k < 3 * out.width; k++)
            ck_assert_msg(out.rgb[k] == cases[i].rgb[k], "%s: byte %d is %d", cases[i].path, k,
                          out.rgb[k]);
        image_done(&out);
        mem_free(bytes);
    }
}
END_TEST

START_TEST(a_written_file_is_the_encoded_one)
{
    char path[] = "/tmp/dagline-image-XXXXXX", *file;
    struct image image = picture(8, 8);
    uint8_t *bytes;
    size_t size, file_bytes;
    close(mkstemp(path));
    ck_assert_int_eq(png_encode(&bytes, &size, &image, "p", NULL), 0);
    ck_assert_int_eq(png_write(path, &image, "p", NULL), 0);
    ck_assert_int_eq(file_read_all(path, 1 << 20, &file, &file_bytes, NULL), 0);
    ck_assert(size == file_bytes && memcmp(bytes, file, size) == 0);
    remove(path);
    mem_free(bytes);
    mem_free(file);
    image_done(&image);
}
END_TEST

START_TEST(jpeg_size_falls_with_quality_and_with_flatness)
{
    struct image busy = picture(64, 64), flat;
    image_init(&flat, 64, 64);
    size_t last = SIZE_MAX, flat_size;
    static const int qualities[] = {100, 95, 75, 30, 1};
    for (size_t i = 0; i < COUNT(qualities); i++) {
        size_t size;
        ck_assert_int_eq(jpeg_encode(NULL, &size, &busy, qualities[i], NULL), 0);
        ck_assert_uint_lt(size, last);
        last = size;
    }
    ck_assert_int_eq(jpeg_encode(NULL, &flat_size, &flat, 95, NULL), 0);
    ck_assert_int_eq(jpeg_encode(NULL, &last, &busy, 95, NULL), 0);
    ck_assert_uint_lt(flat_size, last);
    image_done(&busy);
    image_done(&flat);
}
END_TEST

/* PIL's defaults: JFIF 1.1, one baseline frame with 4:2:0 sampling (0x22, 0x11, 0x11), and the
 * standard Huffman tables (two of 12 symbols, two of 162) whatever the picture. */
START_TEST(jpeg_settings_are_pils)
{
    struct image black;
    uint8_t *bytes;
    size_t size, tables = 0;
    image_init(&black, 64, 64);
    ck_assert_int_eq(jpeg_encode(&bytes, &size, &black, 95, NULL), 0);
    ck_assert(memcmp(bytes, "\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01", 13) == 0);
    for (size_t at = 2; bytes[at + 1] != 0xda /* start of scan */;) {
        static const uint8_t frame[] = {8, 0, 64, 0, 64, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1};
        const size_t length = (size_t)(bytes[at + 2] << 8 | bytes[at + 3]);
        if (bytes[at + 1] == 0xc0)
            ck_assert(memcmp(bytes + at + 4, frame, sizeof frame) == 0);
        if (bytes[at + 1] == 0xc4)
            tables += length - 2;
        at += 2 + length;
        ck_assert_uint_lt(at, size);
    }
    ck_assert_uint_eq(tables, 2 * (17 + 12) + 2 * (17 + 162));
    mem_free(bytes);
    image_done(&black);
}
END_TEST

SUITE("io/image", 20, floats_become_bytes_as_numpy_rounds_them, every_byte_survives_the_float_form,
      png_gives_back_every_pixel, parameters_are_text_in_the_file, broken_png_files_are_refused,
      a_png_that_claims_to_be_huge_is_refused, other_png_colours_become_rgb_over_white,
      a_written_file_is_the_encoded_one, jpeg_size_falls_with_quality_and_with_flatness,
      jpeg_settings_are_pils)
