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

/* ---- another size ---- */

#define FIXED_BITS 22

/* What one pixel of the result is made of. */
struct taps {
    int from, count;
    int *weight; /* fixed point */
};

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * a : 0.0;
}

/* Of every pixel along one side; the weights follow the taps in one allocation. */
static struct taps *taps_new(int in, int out)
{
    const double scale = (double)in / out, stretch = scale > 1.0 ? scale : 1.0, support = 2.0 * stretch;
    const size_t most = (size_t)ceil(support) * 2 + 1;
    struct taps *t = mem_new((size_t)out, sizeof *t);
    int *weight = mem_new((size_t)out * most, sizeof *weight);
    double *exact = mem_new(most, sizeof *exact);
    for (int i = 0; i < out; i++) {
        const double centre = (i + 0.5) * scale;
        int from = (int)(centre - support + 0.5), to = (int)(centre + support + 0.5);
        double sum = 0.0;
        from = from < 0 ? 0 : from;
        to = to > in ? in : to;
        t[i] = (struct taps){from, to - from, weight + (size_t)i * most};
        for (int k = 0; k < t[i].count; k++) {
            exact[k] = bicubic((k + from - centre + 0.5) / stretch);
            sum += exact[k];
        }
        for (int k = 0; k < t[i].count; k++) {
            const double w = exact[k] / sum * (1 << FIXED_BITS);
            t[i].weight[k] = (int)(w < 0.0 ? w - 0.5 : w + 0.5);
        }
    }
    mem_free(exact);
    return t;
}

static void taps_free(struct taps *t)
{
    mem_free(t[0].weight);
    mem_free(t);
}

/* at: the first of `count` values that lie `stride` apart */
static uint8_t weigh(const struct taps *t, const uint8_t *at, size_t stride)
{
    int64_t sum = 1 << (FIXED_BITS - 1);
    for (int k = 0; k < t->count; k++)
        sum += (int64_t)at[(size_t)k * stride] * t->weight[k];
    const int64_t v = sum < 0 ? 0 : sum >> FIXED_BITS;
    return (uint8_t)(v > 255 ? 255 : v);
}

void image_resize(struct image *out, const struct image *image, int width, int height)
{
    struct image wide = {0};
    const size_t in_row = (size_t)image->width * 3, out_row = (size_t)width * 3;
    image_init(&wide, width, image->height);
    image_init(out, width, height);
    struct taps *across = taps_new(image->width, width), *down = taps_new(image->height, height);
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < width; x++)
            for (size_t c = 0; c < 3; c++)
                wide.rgb[(size_t)y * out_row + (size_t)x * 3 + c] =
                    weigh(&across[x], image->rgb + (size_t)y * in_row + (size_t)across[x].from * 3 + c, 3);
    for (int y = 0; y < height; y++)
        for (size_t i = 0; i < out_row; i++)
            out->rgb[(size_t)y * out_row + i] = weigh(&down[y], wide.rgb + (size_t)down[y].from * out_row + i, out_row);
    taps_free(across);
    taps_free(down);
    image_done(&wide);
}

void image_crop(struct image *out, const struct image *image, int width, int height)
{
    assert(width <= image->width && height <= image->height);
    const int top = (image->height - height) / 2, left = (image->width - width) / 2;
    image_init(out, width, height);
    for (int y = 0; y < height; y++)
        memcpy(out->rgb + (size_t)y * (size_t)width * 3,
               image->rgb + ((size_t)(top + y) * (size_t)image->width + (size_t)left) * 3, (size_t)width * 3);
}
