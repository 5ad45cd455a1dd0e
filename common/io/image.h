/* A picture as the outside sees it: 8-bit RGB, rows from the top, no padding.
 * Models work on [H,W,3] float in [-1,1] (the engine's NHWC layout); this is the door between the
 * two. */
#ifndef DAGLINE_IO_IMAGE_H
#define DAGLINE_IO_IMAGE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define IMAGE_SIDE_MAX 4096
#define IMAGE_PIXELS_MAX (16u << 20)

struct image {
    int width, height;
    uint8_t *rgb; /* [height,width,3]; owned */
};

/* Black picture; dies without memory. 1 <= sides <= IMAGE_SIDE_MAX is asserted. */
void image_init(struct image *image, int width, int height);
/* Accepts a zeroed image. */
void image_done(struct image *image);

/* The whole picture at another size, bicubic (a = -0.5) and antialiased where it becomes smaller; `out` must be zeroed.
 * The same bytes as Pillow's Image.resize(size, BICUBIC): 22-bit fixed point, across first, 8 bits between the passes.
 */
void image_resize(struct image *out, const struct image *image, int width, int height);
/* The middle of it; neither side larger than the picture's. `out` must be zeroed. */
void image_crop(struct image *out, const struct image *image, int width, int height);

/* clamp(v/2 + 0.5, 0, 1) * 255, rounded half to even, as diffusers' VaeImageProcessor and numpy do.
 * v: [height,width,3] in [-1,1]; `image` must be initialised. NaN gives 0. */
void image_from_float(struct image *image, const float *v);
/* 2 * rgb/255 - 1 into v: [height,width,3]. */
void image_to_float(float *v, const struct image *image);

#endif
