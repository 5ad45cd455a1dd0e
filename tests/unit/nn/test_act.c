#include "nn/act.h"

#include "nn/simd.h"
#include "support/gradcheck.h"
#include "support/suite.h"

#include <math.h>
#include <stdlib.h>

#define N 4001

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double value_of(double x, enum act kind)
{
    switch (kind) {
    case ACT_NONE:
        return x;
    case ACT_SILU:
        return x * sigmoid(x);
    case ACT_GELU:
        return x * 0.5 * erfc(-x / sqrt(2.0));
    case ACT_QUICK_GELU:
        return x * sigmoid(1.702 * x);
    case ACT_LEAKY:
        return x > 0.0 ? x : ACT_LEAKY_SLOPE * x;
    }
    return 0.0;
}

static double slope_of(double x, enum act kind)
{
    const double s = sigmoid(x), q = sigmoid(1.702 * x);
    switch (kind) {
    case ACT_NONE:
        return 1.0;
    case ACT_SILU:
        return s + x * s * (1.0 - s);
    case ACT_GELU:
        return 0.5 * erfc(-x / sqrt(2.0)) + x * exp(-0.5 * x * x) / sqrt(2.0 * acos(-1.0));
    case ACT_QUICK_GELU:
        return q + 1.702 * x * q * (1.0 - q);
    case ACT_LEAKY:
        return x > 0.0 ? 1.0 : ACT_LEAKY_SLOPE;
    }
    return 0.0;
}

/* From -20 to 20, within 4e-7 of the larger of 1 and |x|. */
static void check_kind(enum act kind)
{
    real *const x = gradcheck_new(N), *const y = gradcheck_new(N), *const d_x = gradcheck_new(N);
    real *const d_y = gradcheck_new(N);
    for (size_t i = 0; i < N; i++) {
        x[i] = (real)((double)i * 0.01 - 20.0);
        d_y[i] = 1.5f;
    }
    act_forward(y, x, N, kind);
    act_backward(d_x, d_y, x, N, kind, false);
    for (size_t i = 0; i < N; i++) {
        const double at = (double)x[i], tolerance = 4e-7 * fmax(1.0, fabs(at));
        ck_assert_msg(fabs((double)y[i] - value_of(at, kind)) < tolerance,
                      "kind %d level %d f(%g): got %.9g want %.9g", (int)kind, (int)simd_level(),
                      at, (double)y[i], value_of(at, kind));
        ck_assert_msg(fabs((double)d_x[i] - 1.5 * slope_of(at, kind)) < 2.0 * tolerance,
                      "kind %d level %d f'(%g): got %.9g want %.9g", (int)kind, (int)simd_level(),
                      at, (double)d_x[i], 1.5 * slope_of(at, kind));
    }
}

START_TEST(every_activation_agrees_with_its_definition)
{
    for (int level = SIMD_BASE; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        for (int kind = ACT_NONE; kind <= ACT_LEAKY; kind++)
            check_kind((enum act)kind);
    }
}
END_TEST

START_TEST(huge_inputs_stay_finite)
{
    const real x[4] = {-1e30f, -1e4f, 1e4f, 1e30f};
    for (int kind = ACT_NONE; kind <= ACT_LEAKY; kind++) {
        real y[4];
        act_forward(y, x, 4, (enum act)kind);
        for (size_t i = 0; i < 4; i++) {
            const double want = value_of((double)x[i], (enum act)kind);
            ck_assert_msg(fabs((double)y[i] - want) <= 1e-6 * fmax(1.0, fabs((double)x[i])),
                          "kind %d f(%g) = %g", kind, (double)x[i], (double)y[i]);
        }
    }
}
END_TEST

START_TEST(geglu_takes_the_value_first)
{
    for (int level = SIMD_BASE; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        for (size_t F = 1; F < 70; F += 17) {
            real *const x = gradcheck_new(3 * 2 * F), *const y = gradcheck_new(3 * F);
            gradcheck_fill(x, 3 * 2 * F, F, 3.0);
            geglu_forward(y, x, 3, F);
            for (size_t i = 0; i < 3 * F; i++) {
                const real *const row = x + i / F * 2 * F;
                const double want = (double)row[i % F] * value_of((double)row[F + i % F], ACT_GELU);
                ck_assert_msg(fabs((double)y[i] - want) < 2e-6, "F=%zu y[%zu]", F, i);
            }
        }
    }
}
END_TEST

SUITE("nn/act", 30, every_activation_agrees_with_its_definition, huge_inputs_stay_finite,
      geglu_takes_the_value_first)
