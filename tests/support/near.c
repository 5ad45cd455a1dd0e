#include "support/near.h"

#include <math.h>

#define NEAR_BODY                                                                                  \
    double scale = 0.0, worst = 0.0;                                                               \
    size_t worst_at = 0;                                                                           \
    for (size_t i = 0; i < n; i++)                                                                 \
        scale = fmax(scale, fabs((double)want[i]));                                                \
    for (size_t i = 0; i < n && scale == 0.0; i++)                                                 \
        scale = fmax(scale, fabs((double)got[i]));                                                 \
    for (size_t i = 0; i < n; i++) {                                                               \
        const double d = fabs((double)got[i] - (double)want[i]);                                   \
        if (!isfinite(d)) {                                                                        \
            worst = (double)INFINITY;                                                              \
            worst_at = i;                                                                          \
            break;                                                                                 \
        }                                                                                          \
        if (d > worst) {                                                                           \
            worst = d;                                                                             \
            worst_at = i;                                                                          \
        }                                                                                          \
    }                                                                                              \
    if (at != NULL)                                                                                \
        *at = worst_at;                                                                            \
    return worst == 0.0 ? 0.0 : worst / (scale > 0.0 ? scale : 1.0);

double near_worst_float(const float *got, const float *want, size_t n, size_t *at)
{
    NEAR_BODY
}

double near_worst_double(const double *got, const double *want, size_t n, size_t *at)
{
    NEAR_BODY
}
