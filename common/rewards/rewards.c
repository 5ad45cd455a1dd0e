#include "rewards/rewards.h"

#include "io/jpeg.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define JPEG_QUALITY 95

const char *const reward_names[REWARD_KIND_COUNT] = {
    "jpeg_incompressibility", "jpeg_compressibility", "colourfulness", "hue_warm", "brightness"};

int reward_kind_of(enum reward_kind *kind, const char *name, struct err *e)
{
    for (int k = 0; k < REWARD_KIND_COUNT; k++)
        if (strcmp(name, reward_names[k]) == 0) {
            *kind = (enum reward_kind)k;
            return 0;
        }
    return err_set(e, ERR_INVALID, "no built-in reward '%s'; there are %s, %s, %s, %s and %s", name,
                   reward_names[0], reward_names[1], reward_names[2], reward_names[3],
                   reward_names[4]);
}

double reward_colourfulness(const struct image *image)
{
    const size_t n = (size_t)image->width * (size_t)image->height;
    /* Sums of whole numbers (yb doubled) stay exact: 2^24 pixels x 510^2 < 2^53. */
    double rg = 0.0, yb = 0.0, rg2 = 0.0, yb2 = 0.0;
    for (size_t i = 0; i < n; i++) {
        const int r = image->rgb[i * 3], g = image->rgb[i * 3 + 1], b = image->rgb[i * 3 + 2];
        const double x = r - g, y = r + g - 2 * b;
        rg += x;
        yb += y;
        rg2 += x * x;
        yb2 += y * y;
    }
    const double k = 1.0 / (double)n, mean_rg = rg * k, mean_yb = yb * k / 2.0;
    const double var_rg = fmax(rg2 * k - mean_rg * mean_rg, 0.0);
    const double var_yb = fmax(yb2 * k / 4.0 - mean_yb * mean_yb, 0.0);
    return (sqrt(var_rg + var_yb) + 0.3 * sqrt(mean_rg * mean_rg + mean_yb * mean_yb)) / 100.0;
}

double reward_hue_warm(const struct image *image)
{
    const size_t n = (size_t)image->width * (size_t)image->height;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += image->rgb[i * 3] - image->rgb[i * 3 + 2];
    return sum / (double)n / 255.0;
}

double reward_brightness(const struct image *image)
{
    const size_t n = (size_t)image->width * (size_t)image->height;
    double sum = 0.0; /* in thousandths: whole numbers stay exact */
    for (size_t i = 0; i < n; i++)
        sum += 299 * image->rgb[i * 3] + 587 * image->rgb[i * 3 + 1] + 114 * image->rgb[i * 3 + 2];
    return sum / (double)n / 255000.0;
}

int reward_of(double *value, enum reward_kind kind, const struct image *image, struct err *e)
{
    assert((unsigned)kind < REWARD_KIND_COUNT);
    switch (kind) {
    case REWARD_JPEG_INCOMPRESSIBILITY:
    case REWARD_JPEG_COMPRESSIBILITY: {
        size_t bytes;
        if (jpeg_encode(NULL, &bytes, image, JPEG_QUALITY, e) < 0)
            return err_wrap(e, "reward %s", reward_names[kind]);
        *value = (kind == REWARD_JPEG_COMPRESSIBILITY ? -1.0 : 1.0) * (double)bytes / 1000.0;
        return 0;
    }
    case REWARD_COLOURFULNESS:
        *value = reward_colourfulness(image);
        return 0;
    case REWARD_HUE_WARM:
        *value = reward_hue_warm(image);
        return 0;
    case REWARD_BRIGHTNESS:
        *value = reward_brightness(image);
        return 0;
    case REWARD_KIND_COUNT:
        break;
    }
    return -1;
}
