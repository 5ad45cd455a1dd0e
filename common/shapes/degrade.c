#include "shapes/degrade.h"

#include "shapes/world.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define REACH_MAX 30 /* three standard deviations of DEGRADE_BLUR_MAX */

/* One pass along rows (step 3) or columns (step WORLD_SIDE * 3) of a float picture. */
static void blur_pass(float *out, const float *in, const double *kernel, int reach, bool rows)
{
    for (int y = 0; y < WORLD_SIDE; y++)
        for (int x = 0; x < WORLD_SIDE; x++)
            for (int c = 0; c < 3; c++) {
                double sum = 0.0;
                for (int k = -reach; k <= reach; k++) {
                    const int at = (rows ? x : y) + k;
                    const int near = at < 0 ? 0 : at >= WORLD_SIDE ? WORLD_SIDE - 1 : at;
                    const int p = rows ? y * WORLD_SIDE + near : near * WORLD_SIDE + x;
                    sum += kernel[k + reach] * (double)in[p * 3 + c];
                }
                out[(y * WORLD_SIDE + x) * 3 + c] = (float)sum;
            }
}

static void blur(float *picture, double blur_px)
{
    float other[WORLD_RGB_BYTES];
    double kernel[2 * REACH_MAX + 1] = {0}, sum = 0.0;
    const int reach = (int)ceil(3.0 * blur_px);
    for (int k = -reach; k <= reach; k++)
        sum += kernel[k + reach] = exp(-k * k / (2.0 * blur_px * blur_px));
    for (int k = 0; k <= 2 * reach; k++)
        kernel[k] /= sum;
    blur_pass(other, picture, kernel, reach, true);
    blur_pass(picture, other, kernel, reach, false);
}

void degrade(uint8_t *rgb, double blur_px, double noise, const struct rng *g)
{
    float picture[WORLD_RGB_BYTES], normal[WORLD_RGB_BYTES];
    assert(blur_px >= 0.0 && blur_px <= DEGRADE_BLUR_MAX && noise >= 0.0);
    for (int i = 0; i < WORLD_RGB_BYTES; i++)
        picture[i] = rgb[i];
    if (blur_px > 0.0)
        blur(picture, blur_px);
    rng_normal_fill(g, 0, normal, WORLD_RGB_BYTES);
    for (int i = 0; i < WORLD_RGB_BYTES; i++) {
        const double v = (double)picture[i] + noise * (double)normal[i];
        rgb[i] = (uint8_t)(fmin(fmax(v, 0.0), 255.0) + 0.5);
    }
}
