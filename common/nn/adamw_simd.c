#include "nn/adamw_simd.h"

#include "nn/simd_vec.h"

/* Plain loops over exclusive arrays: the compiler vectorises them at each width. */

void SIMD(adamw_update)(real *restrict value, real *restrict m, real *restrict v,
                        const real *restrict grad, size_t n, const struct adamw_constants *k)
{
    const struct adamw_constants c = *k;
    for (size_t i = 0; i < n; i++) {
        const real g = grad[i] * c.grad_factor;
        m[i] = c.beta1 * m[i] + c.one_minus_beta1 * g;
        v[i] = c.beta2 * v[i] + c.one_minus_beta2 * (g * g);
#ifdef DAGLINE_REAL_DOUBLE
        const real root = sqrt(v[i]);
#else
        const real root = sqrtf(v[i]);
#endif
        value[i] = c.keep * value[i] - c.rate * (m[i] / (root * c.root_scale + c.eps));
    }
}

double SIMD(adamw_sum_squares)(const real *x, size_t n)
{
    double lane[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t l = 0; l < 16; l++)
            lane[l] += (double)x[i + l] * (double)x[i + l];
    for (; i < n; i++)
        lane[0] += (double)x[i] * (double)x[i];
    for (size_t width = 8; width > 0; width /= 2)
        for (size_t l = 0; l < width; l++)
            lane[l] += lane[l + width];
    return lane[0];
}

void SIMD(adamw_average)(real *restrict average, const real *restrict value, size_t n, real rate)
{
    for (size_t i = 0; i < n; i++)
        average[i] += rate * (value[i] - average[i]);
}
