#include "shapes/lab.h"

#include <math.h>

/* D65 white of the sRGB primaries. */
static const double white[3] = {0.95047, 1.0, 1.08883};

static double linear_from_srgb(double v)
{
    return v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
}

static double srgb_from_linear(double v)
{
    return v <= 0.0031308 ? 12.92 * v : 1.055 * pow(v, 1.0 / 2.4) - 0.055;
}

static double f(double t)
{
    return t > 216.0 / 24389.0 ? cbrt(t) : (24389.0 / 27.0 * t + 16.0) / 116.0;
}

static double f_inverse(double t)
{
    return t > 6.0 / 29.0 ? t * t * t : (116.0 * t - 16.0) * 27.0 / 24389.0;
}

struct lab lab_from_rgb(double r, double g, double b)
{
    const double R = linear_from_srgb(r / 255.0);
    const double G = linear_from_srgb(g / 255.0);
    const double B = linear_from_srgb(b / 255.0);
    const double x = f((0.4124564 * R + 0.3575761 * G + 0.1804375 * B) / white[0]);
    const double y = f((0.2126729 * R + 0.7151522 * G + 0.0721750 * B) / white[1]);
    const double z = f((0.0193339 * R + 0.1191920 * G + 0.9503041 * B) / white[2]);
    return (struct lab){(float)(116.0 * y - 16.0), (float)(500.0 * (x - y)),
                        (float)(200.0 * (y - z))};
}

void lab_to_rgb(struct lab c, double rgb[3])
{
    const double fy = ((double)c.l + 16.0) / 116.0;
    const double x = white[0] * f_inverse(fy + (double)c.a / 500.0);
    const double y = white[1] * f_inverse(fy);
    const double z = white[2] * f_inverse(fy - (double)c.b / 200.0);
    const double linear[3] = {3.2404542 * x - 1.5371385 * y - 0.4985314 * z,
                              -0.9692660 * x + 1.8760108 * y + 0.0415560 * z,
                              0.0556434 * x - 0.2040259 * y + 1.0572252 * z};
    for (int i = 0; i < 3; i++)
        rgb[i] = 255.0 * srgb_from_linear(fmin(fmax(linear[i], 0.0), 1.0));
}

double lab_distance(struct lab x, struct lab y)
{
    return lab_distance_range(x, y, 0.0);
}

double lab_distance_range(struct lab x, struct lab y, double range)
{
    const double dl = fmax(fabs((double)x.l - (double)y.l) - range, 0.0);
    const double da = (double)x.a - (double)y.a, db = (double)x.b - (double)y.b;
    return sqrt(dl * dl + da * da + db * db);
}
