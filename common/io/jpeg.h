/* JPEG encoding: the door to libjpeg.  The settings are PIL's for RGB (4:2:0, islow DCT, standard
 * Huffman tables, JFIF), so that the size of the result is the compressibility reward of the
 * published runs. */
#ifndef DAGLINE_IO_JPEG_H
#define DAGLINE_IO_JPEG_H

#include "io/image.h"

#include <stddef.h>
#include <stdint.h>

/* quality: 1..100.  Returns the file's size in bytes in *size; where `bytes` is not NULL, *bytes is
 * the file itself, the caller's (mem_free).  Failure: no memory. */
int jpeg_encode(uint8_t **bytes, size_t *size, const struct image *image, int quality,
                struct err *e) MUST_USE;

#endif
