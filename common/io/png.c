#include "io/png.h"

#include "base/file.h"
#include "base/mem.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#define TEXT_BYTES_MAX 65536u

/* What libpng's callbacks see: the bytes on either side, and where to leave the reason of a
 * failure. */
struct stream {
    uint8_t *out;
    size_t out_used, out_cap;
    const uint8_t *in;
    size_t in_left;
    char why[160];
};

static void on_error(png_structp png, png_const_charp message)
{
    struct stream *s = png_get_error_ptr(png);
    snprintf(s->why, sizeof s->why, "%s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png, (void)message; /* a warning of libpng is about what it then ignores */
}

static void on_write(png_structp png, png_bytep bytes, size_t n)
{
    struct stream *s = png_get_io_ptr(png);
    if (n > s->out_cap - s->out_used) {
        s->out_cap = 2 * s->out_cap + n;
        s->out = mem_grow(s->out, s->out_cap, 1);
    }
    memcpy(s->out + s->out_used, bytes, n);
    s->out_used += n;
}

static void on_flush(png_structp png)
{
    (void)png;
}

static void on_read(png_structp png, png_bytep bytes, size_t n)
{
    struct stream *s = png_get_io_ptr(png);
    if (n > s->in_left)
        png_error(png, "the file ends too early");
    memcpy(bytes, s->in, n);
    s->in += n;
    s->in_left -= n;
}

/* iTXt is UTF-8; plain tEXt, which more programs show, is kept for ASCII. */
static void put_parameters(png_structp png, png_infop info, const char *parameters)
{
    int ascii = 1;
    for (const unsigned char *p = (const unsigned char *)parameters; *p != 0; p++)
        ascii &= *p < 0x80;
    char key[] = "parameters", language[] = "", *text = mem_strdup(parameters);
    png_text chunk = {.compression = ascii ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE,
                      .key = key,
                      .text = text,
                      .lang = ascii ? NULL : language,
                      .lang_key = ascii ? NULL : language};
    png_set_text(png, info, &chunk, 1);
    mem_free(text);
}

int png_encode(uint8_t **bytes, size_t *size, const struct image *image, const char *parameters,
               struct err *e)
{
    struct stream s = {0};
    png_structp png = NULL;
    png_infop info = NULL;
    volatile int rc = -1; /* read after a longjmp */
    if (parameters != NULL && strlen(parameters) > TEXT_BYTES_MAX)
        return err_set(e, ERR_INVALID, "png: the parameters text is %zu bytes, at most %u are kept",
                       strlen(parameters), TEXT_BYTES_MAX);
    png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);
    info = png != NULL ? png_create_info_struct(png) : NULL;
    if (info == NULL) {
        err_set(e, ERR_FULL, "png: no memory for the encoder");
        goto out;
    }
    if (setjmp(png_jmpbuf(png)) != 0) {
        err_set(e, ERR_INVALID, "png: %s", s.why);
        goto out;
    }
    png_set_write_fn(png, &s, on_write, on_flush);
    png_set_IHDR(png, info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (parameters != NULL)
        put_parameters(png, info, parameters);
    png_write_info(png, info);
    for (int y = 0; y < image->height; y++)
        png_write_row(png, image->rgb + (size_t)y * (size_t)image->width * 3);
    png_write_end(png, info);
    *bytes = s.out;
    *size = s.out_used;
    rc = 0;
out:
    if (rc < 0)
        mem_free(s.out);
    png_destroy_write_struct(png != NULL ? &png : NULL, info != NULL ? &info : NULL);
    return rc;
}

/* Whatever the file holds becomes 8-bit RGB; alpha is laid over white, as a browser shows it. */
static void ask_for_rgb8(png_structp png, png_infop info)
{
    const png_byte color = png_get_color_type(png, info);
    const int transparent =
        (color & PNG_COLOR_MASK_ALPHA) != 0 || png_get_valid(png, info, PNG_INFO_tRNS) != 0;
    png_set_expand(png);
    png_set_scale_16(png);
    if ((color & PNG_COLOR_MASK_COLOR) == 0)
        png_set_gray_to_rgb(png);
    if (transparent) {
        png_color_16 white = {.red = 255, .green = 255, .blue = 255, .gray = 255};
        png_set_gamma_fixed(png, PNG_FP_1, PNG_FP_1); /* the bytes are mixed, not the light: sRGB or gAMA would ask for that */
        png_set_background(png, &white, PNG_BACKGROUND_GAMMA_SCREEN, 0, 1.0);
    }
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

int png_decode(struct image *image, const uint8_t *bytes, size_t size, struct err *e)
{
    struct stream s = {.in = bytes, .in_left = size};
    png_structp png = NULL;
    png_infop info = NULL;
    /* volatile: read after a longjmp */
    struct image *volatile decoded = mem_new(1, sizeof *decoded);
    png_bytep *volatile rows = NULL;
    volatile int rc = -1;
    if (size > PNG_FILE_BYTES_MAX) {
        err_set(e, ERR_INVALID, "png: %zu bytes, at most %u are read", size, PNG_FILE_BYTES_MAX);
        goto out;
    }
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);
    info = png != NULL ? png_create_info_struct(png) : NULL;
    if (info == NULL) {
        err_set(e, ERR_FULL, "png: no memory for the decoder");
        goto out;
    }
    if (setjmp(png_jmpbuf(png)) != 0) {
        err_set(e, ERR_INVALID, "png: %s", s.why);
        goto out;
    }
    png_set_read_fn(png, &s, on_read);
    png_set_user_limits(png, IMAGE_SIDE_MAX, IMAGE_SIDE_MAX);
    png_set_chunk_cache_max(png, 128);
    png_set_chunk_malloc_max(png, 1u << 20);
    png_read_info(png, info);
    const png_uint_32 width = png_get_image_width(png, info),
                      height = png_get_image_height(png, info);
    if ((uint64_t)width * height > IMAGE_PIXELS_MAX)
        png_error(png, "more pixels than are decoded");
    ask_for_rgb8(png, info);
    if (png_get_rowbytes(png, info) != (size_t)width * 3)
        png_error(png, "the colour type cannot be converted to RGB");
    image_init(decoded, (int)width, (int)height);
    rows = mem_new(height, sizeof *rows);
    for (png_uint_32 y = 0; y < height; y++)
        rows[y] = decoded->rgb + (size_t)y * width * 3;
    png_read_image(png, rows);
    png_read_end(png, NULL);
    *image = *decoded;
    decoded->rgb = NULL;
    rc = 0;
out:
    mem_free(rows);
    mem_free(decoded->rgb);
    mem_free(decoded);
    png_destroy_read_struct(png != NULL ? &png : NULL, info != NULL ? &info : NULL, NULL);
    return rc;
}

int png_write(const char *path, const struct image *image, const char *parameters, struct err *e)
{
    uint8_t *bytes;
    size_t size;
    if (png_encode(&bytes, &size, image, parameters, e) < 0)
        return -1;
    const int rc = file_replace(path, bytes, size, 0644, e);
    mem_free(bytes);
    return rc;
}
