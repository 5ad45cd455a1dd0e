#include "nn/adamw.h"

#include "nn/simd.h"
#include "support/gradcheck.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

#define N 203

/* torch.optim.AdamW, single tensor, in double. */
static void reference_step(double *w, double *m, double *v, const float *grad, size_t n,
                           const struct adamw_settings *s, int step, double factor, bool decay)
{
    for (size_t i = 0; i < n; i++) {
        const double g = (double)grad[i] * factor;
        if (decay)
            w[i] *= 1.0 - s->lr * s->weight_decay;
        m[i] = s->beta1 * m[i] + (1.0 - s->beta1) * g;
        v[i] = s->beta2 * v[i] + (1.0 - s->beta2) * g * g;
        const double denominator = sqrt(v[i]) / sqrt(1.0 - pow(s->beta2, step)) + s->eps;
        w[i] -= s->lr / (1.0 - pow(s->beta1, step)) * m[i] / denominator;
    }
}

static void check_steps(enum simd_level level)
{
    simd_limit(level);
    const struct adamw_settings s = {1e-2, 0.9, 0.999, 1e-8, 0.1};
    for (int decay = 0; decay < 2; decay++) {
        real *const w = gradcheck_new(N), *const m = gradcheck_new(N), *const v = gradcheck_new(N);
        real *const grad = gradcheck_new(N);
        double want[N], want_m[N] = {0}, want_v[N] = {0};
        gradcheck_fill(w, N, 1, 1.0);
        for (size_t i = 0; i < N; i++)
            want[i] = (double)w[i];
        const struct adamw_slice slice = {w, grad, m, v, N, decay == 0};
        for (int step = 1; step <= 20; step++) {
            gradcheck_fill(grad, N, 100 + (uint64_t)step, 1e-2);
            adamw_step(&slice, 1, &s, (uint64_t)step, 0.5);
            reference_step(want, want_m, want_v, grad, N, &s, step, 0.5, decay == 1);
        }
        for (size_t i = 0; i < N; i++)
            ck_assert_msg(fabs((double)w[i] - want[i]) < 2e-6,
                          "level %d value[%zu]: got %.9g want %.9g", (int)simd_level(), i,
                          (double)w[i], want[i]);
    }
}

START_TEST(twenty_steps_agree_with_the_formula_of_torch)
{
    check_steps(SIMD_AVX512);
    check_steps(SIMD_AVX2);
    check_steps(SIMD_BASE);
}
END_TEST

/* torch.optim.AdamW([1.0, -2.0], lr=0.1, weight_decay=0.01), gradients [0.5, -0.25]: the first step
 * moves each value by lr towards minus the gradient's sign, after the decay. */
START_TEST(the_first_step_is_known)
{
    real w[2] = {1.0f, -2.0f}, m[2] = {0}, v[2] = {0};
    const real grad[2] = {0.5f, -0.25f};
    const struct adamw_settings s = {0.1, 0.9, 0.999, 1e-8, 0.01};
    const struct adamw_slice slice = {w, grad, m, v, 2, false};
    adamw_step(&slice, 1, &s, 1, 1.0);
    ck_assert_msg(fabs((double)w[0] - 0.899) < 1e-6, "%.9g", (double)w[0]);
    ck_assert_msg(fabs((double)w[1] + 1.898) < 1e-6, "%.9g", (double)w[1]);
    ck_assert_msg(fabs((double)m[0] - 0.05) < 1e-8, "%.9g", (double)m[0]);
    ck_assert_msg(fabs((double)v[0] - 0.00025) < 1e-9, "%.9g", (double)v[0]);
}
END_TEST

START_TEST(the_norm_is_global_and_survives_float_overflow)
{
    real a[3] = {3e30f, 0.0f, 0.0f}, b[20] = {0};
    b[19] = 4e30f;
    const struct adamw_slice slices[] = {{NULL, a, NULL, NULL, 3, false},
                                         {NULL, b, NULL, NULL, 20, false}};
    double norm;
    size_t bad;
    ck_assert_int_eq(adamw_grad_norm(&norm, &bad, slices, 2), 0);
    ck_assert_msg(fabs(norm / 5e30 - 1.0) < 1e-6, "%g", norm);
}
END_TEST

START_TEST(a_nan_or_an_infinity_is_reported_with_its_slice)
{
    real a[40] = {0}, b[40] = {0};
    const struct adamw_slice slices[] = {{NULL, a, NULL, NULL, 40, false},
                                         {NULL, b, NULL, NULL, 40, false}};
    for (size_t i = 0; i < 40; i++) {
        for (int k = 0; k < 2; k++) {
            double norm = 0.0;
            size_t bad = 99;
            b[i] = k == 0 ? NAN : -INFINITY;
            ck_assert_int_eq(adamw_grad_norm(&norm, &bad, slices, 2), -1);
            ck_assert_uint_eq(bad, 1);
            ck_assert(isnan(norm));
        }
        b[i] = 0.0f;
    }
}
END_TEST

START_TEST(clipping_never_enlarges)
{
    ck_assert(adamw_clip_factor(0.5, 1.0) == 1.0);
    ck_assert(fabs(adamw_clip_factor(4.0, 1.0) - 0.25) < 1e-6);
    ck_assert(adamw_clip_factor(4.0, 0.0) == 1.0);
}
END_TEST

START_TEST(the_average_follows)
{
    real average[5] = {0, 1, 2, 3, 4};
    const real value[5] = {1, 1, 1, 1, 1};
    adamw_ema(average, value, 5, 0.75);
    for (size_t i = 0; i < 5; i++)
        ck_assert(fabs((double)average[i] - (0.75 * (double)i + 0.25)) < 1e-6);
}
END_TEST

SUITE("nn/adamw", 20, twenty_steps_agree_with_the_formula_of_torch, the_first_step_is_known,
      the_norm_is_global_and_survives_float_overflow,
      a_nan_or_an_infinity_is_reported_with_its_slice, clipping_never_enlarges, the_average_follows)
