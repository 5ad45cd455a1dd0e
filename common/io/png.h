/* PNG, both ways: the door to libpng.  RGB8 only: 8-bit grey, palette and 16-bit files are
 * converted, alpha is laid over white. */
#ifndef DAGLINE_IO_PNG_H
#define DAGLINE_IO_PNG_H

#include "io/image.h"

#include <stddef.h>
#include <stdint.h>

#define PNG_FILE_BYTES_MAX (64u << 20)

/* The picture as a PNG file in memory: *bytes is the caller's (mem_free).  `parameters` is UTF-8
 * text for the tEXt/iTXt chunk of that name (how the picture was made), or NULL. */
int png_encode(uint8_t **bytes, size_t *size, const struct image *image, const char *parameters,
               struct err *e) MUST_USE;

/* png_encode into a file, whole or absent. */
int png_write(const char *path, const struct image *image, const char *parameters,
              struct err *e) MUST_USE;

/* Decodes untrusted bytes: sides and pixels are bounded as in image.h.  `image` is initialised on
 * success (image_done), untouched on failure. */
int png_decode(struct image *image, const uint8_t *bytes, size_t size, struct err *e) MUST_USE;

#endif
