#include "nn/loss.h"

#include <math.h>
#include <string.h>

/* Partial sums, so that one addition need not wait for the last. */
#define LANES 8

static double total(const double lane[LANES])
{
    double sum = 0.0;
    for (size_t l = 0; l < LANES; l++)
        sum += lane[l];
    return sum;
}

double loss_mse(real *d_x, const real *x, const real *target, size_t n, double weight)
{
    double lane[LANES] = {0};
    const double factor = 2.0 * weight / (double)n;
    for (size_t i = 0; i < n; i += LANES)
        for (size_t l = 0; l < LANES && i + l < n; l++) {
            const double d = (double)x[i + l] - (double)target[i + l];
            lane[l] += d * d;
        }
    for (size_t i = 0; i < n && d_x != NULL; i++)
        d_x[i] = (real)(factor * ((double)x[i] - (double)target[i]));
    return total(lane) / (double)n;
}

double loss_l1(real *d_x, const real *x, const real *target, size_t n, double weight)
{
    double lane[LANES] = {0};
    const double factor = weight / (double)n;
    for (size_t i = 0; i < n; i += LANES)
        for (size_t l = 0; l < LANES && i + l < n; l++)
            lane[l] += fabs((double)x[i + l] - (double)target[i + l]);
    for (size_t i = 0; i < n && d_x != NULL; i++) {
        const double d = (double)x[i] - (double)target[i];
        d_x[i] = (real)(d > 0.0 ? factor : (d < 0.0 ? -factor : 0.0));
    }
    return total(lane) / (double)n;
}

static bool clamped(double logvar)
{
    return !(logvar >= LOSS_LOGVAR_MIN && logvar <= LOSS_LOGVAR_MAX);
}

static double clamp(double logvar)
{
    return fmin(fmax(logvar, LOSS_LOGVAR_MIN), LOSS_LOGVAR_MAX);
}

double loss_gaussian_kl(real *d_moments, const real *moments, size_t rows, size_t Z, double weight,
                        bool accumulate)
{
    double sum = 0.0;
    if (d_moments != NULL && !accumulate)
        memset(d_moments, 0, rows * 2 * Z * sizeof *d_moments);
    for (size_t row = 0; row < rows; row++)
        for (size_t z = 0; z < Z; z++) {
            const size_t at = row * 2 * Z + z;
            const double mean = (double)moments[at], raw = (double)moments[at + Z];
            const double logvar = clamp(raw), var = exp(logvar);
            sum += 0.5 * (mean * mean + var - 1.0 - logvar);
            if (d_moments == NULL)
                continue;
            d_moments[at] += (real)(weight * mean);
            d_moments[at + Z] += (real)(clamped(raw) ? 0.0 : weight * 0.5 * (var - 1.0));
        }
    return sum;
}

void loss_gaussian_sample(real *z, const real *moments, const real *noise, size_t rows, size_t Z)
{
    for (size_t row = 0; row < rows; row++)
        for (size_t k = 0; k < Z; k++) {
            const size_t at = row * 2 * Z + k, to = row * Z + k;
            const double sigma = exp(0.5 * clamp((double)moments[at + Z]));
            z[to] = (real)((double)moments[at] + sigma * (double)noise[to]);
        }
}

void loss_gaussian_sample_backward(real *d_moments, const real *d_z, const real *moments,
                                   const real *noise, size_t rows, size_t Z, bool accumulate)
{
    if (!accumulate)
        memset(d_moments, 0, rows * 2 * Z * sizeof *d_moments);
    for (size_t row = 0; row < rows; row++)
        for (size_t k = 0; k < Z; k++) {
            const size_t at = row * 2 * Z + k, from = row * Z + k;
            const double raw = (double)moments[at + Z];
            d_moments[at] += d_z[from];
            if (!clamped(raw))
                d_moments[at + Z] +=
                    (real)(0.5 * (double)d_z[from] * (double)noise[from] * exp(0.5 * raw));
        }
}
