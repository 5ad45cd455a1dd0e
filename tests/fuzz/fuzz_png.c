/* The PNG decoder: whatever the bytes are, it refuses them or gives a picture within the bounds. */
#include "io/png.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image image;
    struct err e;
    if (png_decode(&image, data, size, &e) < 0)
        return 0;
    assert(image.width <= IMAGE_SIDE_MAX && image.height <= IMAGE_SIDE_MAX);
    unsigned sum = 0;
    for (size_t i = 0; i < (size_t)image.width * (size_t)image.height * 3; i++)
        sum += image.rgb[i];
    assert(sum <= 255u * 3u * IMAGE_PIXELS_MAX);
    image_done(&image);
    return 0;
}
