#include "nn/adamw.h"

#include "nn/adamw_simd.h"

#include <assert.h>
#include <math.h>

int adamw_grad_norm(double *norm, size_t *bad, const struct adamw_slice *slices, size_t count)
{
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        const double s = SIMD_PICK(adamw_sum_squares)(slices[i].grad, slices[i].n);
        if (!isfinite(s)) {
            *bad = i;
            *norm = (double)NAN;
            return -1;
        }
        sum += s;
    }
    *norm = sqrt(sum);
    return 0;
}

double adamw_clip_factor(double norm, double norm_max)
{
    return norm_max <= 0.0 ? 1.0 : fmin(1.0, norm_max / (norm + 1e-6));
}

void adamw_step(const struct adamw_slice *slices, size_t count, const struct adamw_settings *s,
                uint64_t step, double grad_factor)
{
    assert(step >= 1 && s->beta1 >= 0.0 && s->beta1 < 1.0 && s->beta2 >= 0.0 && s->beta2 < 1.0);
    const double correction1 = 1.0 - pow(s->beta1, (double)step);
    const double correction2 = 1.0 - pow(s->beta2, (double)step);
    struct adamw_constants k = {
        .beta1 = (real)s->beta1,
        .one_minus_beta1 = (real)(1.0 - s->beta1),
        .beta2 = (real)s->beta2,
        .one_minus_beta2 = (real)(1.0 - s->beta2),
        .rate = (real)(s->lr / correction1),
        .root_scale = (real)(1.0 / sqrt(correction2)),
        .eps = (real)s->eps,
        .grad_factor = (real)grad_factor,
    };
    for (size_t i = 0; i < count; i++) {
        k.keep = (real)(slices[i].no_decay ? 1.0 : 1.0 - s->lr * s->weight_decay);
        SIMD_PICK(adamw_update)
        (slices[i].value, slices[i].m, slices[i].v, slices[i].grad, slices[i].n, &k);
    }
}

void adamw_ema(real *average, const real *value, size_t n, double decay)
{
    SIMD_PICK(adamw_average)(average, value, n, (real)(1.0 - decay));
}
