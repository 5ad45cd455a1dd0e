#include "nn/vmath.h"

#include "nn/simd.h"
#include "support/suite.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define CHUNK 4096

struct function {
    const char *name;
    void (*fill)(real *, const real *, size_t);
    double (*reference)(double);
    double ulp_max;
};

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static const struct function functions[] = {
    {"exp", vmath_exp, exp, 2.0},    {"sigmoid", vmath_sigmoid, sigmoid, 2.5},
    {"tanh", vmath_tanh, tanh, 2.0}, {"erf", vmath_erf, erf, 2.0},
    {"log", vmath_log, log, 2.0},
};
#define FUNCTIONS (sizeof functions / sizeof *functions)

/* Distance in units of the last place of the rounded reference; flushing below the smallest normal
 * number (to 0 or to that number) is allowed. */
static double ulps(float got, double want)
{
    const float rounded = (float)want;
    if (isnan(rounded))
        return isnan(got) ? 0.0 : (double)INFINITY;
    if (isinf(rounded))
        return got == rounded ? 0.0 : (double)INFINITY;
    if (fabs(want) < (double)FLT_MIN && fabsf(got) <= FLT_MIN * 1.001f)
        return 0.0;
    const double ulp = (double)nextafterf(fabsf(rounded), INFINITY) - fabs((double)rounded);
    return isfinite(got) ? fabs((double)got - want) / ulp : (double)INFINITY;
}

/* Every 997th float of all 2^32, with both signs, the denormals, the infinities and the NaNs. */
static void check_all_floats(const struct function *f)
{
    float x[CHUNK], y[CHUNK];
    double worst = 0.0;
    float worst_x = 0.0f;
    uint64_t bits = 0;
    while (bits <= UINT32_MAX) {
        size_t n = 0;
        for (; n < CHUNK && bits <= UINT32_MAX; n++, bits += 997) {
            const uint32_t b = (uint32_t)bits;
            memcpy(&x[n], &b, sizeof b);
        }
        f->fill(y, x, n);
        for (size_t i = 0; i < n; i++) {
            const double u = ulps(y[i], f->reference((double)x[i]));
            if (u > worst) {
                worst = u;
                worst_x = x[i];
            }
        }
    }
    printf("%-8s level %d: worst %.3f ulp at %a\n", f->name, (int)simd_level(), worst,
           (double)worst_x);
    ck_assert_msg(worst <= f->ulp_max, "%s(%a) is off by %g ulp (at most %g)", f->name,
                  (double)worst_x, worst, f->ulp_max);
}

static void check_level(enum simd_level level)
{
    simd_limit(level);
    if (simd_level() != level) {
        test_skip("this processor lacks the instruction set");
        return;
    }
    for (size_t i = 0; i < FUNCTIONS; i++)
        check_all_floats(&functions[i]);
}

START_TEST(avx512_keeps_its_ulps_to_libm)
{
    check_level(SIMD_AVX512);
}
END_TEST

START_TEST(avx2_keeps_its_ulps_to_libm)
{
    check_level(SIMD_AVX2);
}
END_TEST

START_TEST(base_keeps_its_ulps_to_libm)
{
    check_level(SIMD_BASE);
}
END_TEST

START_TEST(limits_and_nan_are_those_of_libm)
{
    const float x[] = {-INFINITY, INFINITY, NAN, 0.0f, -0.0f};
    for (size_t f = 0; f < FUNCTIONS; f++) {
        float y[5];
        functions[f].fill(y, x, 5);
        for (size_t i = 0; i < 5; i++) {
            const double u = ulps(y[i], functions[f].reference((double)x[i]));
            ck_assert_msg(u <= functions[f].ulp_max, "%s(%g) = %g", functions[f].name, (double)x[i],
                          (double)y[i]);
        }
    }
}
END_TEST

START_TEST(a_tail_of_any_length_is_filled_and_nothing_beyond)
{
    float x[40], y[41];
    for (size_t i = 0; i < 40; i++)
        x[i] = 0.1f * (float)i;
    for (int level = SIMD_BASE; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        for (size_t n = 0; n <= 40; n++) {
            for (size_t i = 0; i < 41; i++)
                y[i] = -7.0f;
            vmath_exp(y, x, n);
            for (size_t i = 0; i < n; i++)
                ck_assert(ulps(y[i], exp((double)x[i])) <= 2.0);
            ck_assert(y[n] == -7.0f);
        }
    }
}
END_TEST

SUITE("nn/vmath", 120, avx512_keeps_its_ulps_to_libm, avx2_keeps_its_ulps_to_libm,
      base_keeps_its_ulps_to_libm, limits_and_nan_are_those_of_libm,
      a_tail_of_any_length_is_filled_and_nothing_beyond)
