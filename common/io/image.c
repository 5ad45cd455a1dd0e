#include "io/image.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void image_init(struct image *image, int width, int height)
{
    assert(width >= 1 && width <= IMAGE_SIDE_MAX && height >= 1 && height <= IMAGE_SIDE_MAX);
    image->width = width;
    image->height = height;
    image->rgb = mem_new((size_t)width * (size_t)height, 3);
}

void image_done(struct image *image)
{
    mem_free(image->rgb);
    *image = (struct image){0};
}

void image_from_float(struct image *image, const float *v)
{
    const size_t n = (size_t)image->width * (size_t)image->height * 3;
    for (size_t i = 0; i < n; i++) {
        const float unit = v[i] * 0.5f + 0.5f;
        /* written so that NaN takes the first branch */
        const float clamped = !(unit > 0.0f) ? 0.0f : unit > 1.0f ? 1.0f : unit;
        image->rgb[i] = (uint8_t)lrintf(clamped * 255.0f);
    }
}

void image_to_float(float *v, const struct image *image)
{
    const size_t n = (size_t)image->width * (size_t)image->height * 3;
    for (size_t i = 0; i < n; i++)
        v[i] = 2.0f * ((float)image->rgb[i] / 255.0f) - 1.0f;
}
