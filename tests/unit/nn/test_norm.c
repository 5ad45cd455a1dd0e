#include "nn/norm.h"

#include "nn/simd.h"
#include "support/gradcheck.h"
#include "support/near.h"
#include "support/suite.h"

#include <math.h>
#include <stdlib.h>

static const struct group_norm_shape shapes[] = {
    {2, 35, 6, 3},   {1, 1, 4, 2},    {3, 256, 32, 8}, {2, 64, 64, 32},
    {2, 16, 96, 32}, {1, 700, 40, 8}, {1, 9, 131, 1},
};

/* gradient tests hold the backward passes; here the forward ones meet a naive reference in double,
 * at every level. */
static void reference(double *y, const float *x, const float *gamma, const float *beta,
                      struct group_norm_shape s, double eps, bool silu)
{
    const size_t width = s.C / s.G;
    for (size_t b = 0; b < s.B; b++)
        for (size_t g = 0; g < s.G; g++) {
            double sum = 0.0, square = 0.0;
            for (size_t i = 0; i < s.HW; i++)
                for (size_t c = g * width; c < (g + 1) * width; c++)
                    sum += (double)x[(b * s.HW + i) * s.C + c];
            const double mean = sum / (double)(s.HW * width);
            for (size_t i = 0; i < s.HW; i++)
                for (size_t c = g * width; c < (g + 1) * width; c++)
                    square += pow((double)x[(b * s.HW + i) * s.C + c] - mean, 2.0);
            const double rstd = 1.0 / sqrt(square / (double)(s.HW * width) + eps);
            for (size_t i = 0; i < s.HW; i++)
                for (size_t c = g * width; c < (g + 1) * width; c++) {
                    const size_t at = (b * s.HW + i) * s.C + c;
                    const double z =
                        ((double)x[at] - mean) * rstd * (double)gamma[c] + (double)beta[c];
                    y[at] = silu ? z / (1.0 + exp(-z)) : z;
                }
        }
}

static void check_forward(struct group_norm_shape s, double offset, bool silu, bool layer)
{
    const size_t n = s.B * s.HW * s.C;
    real *const x = gradcheck_new(n), *const y = gradcheck_new(n);
    real *const gamma = gradcheck_new(s.C), *const beta = gradcheck_new(s.C);
    real *const work = gradcheck_new(group_norm_forward_work_bytes(s) / sizeof(real));
    double *const want = calloc(n, sizeof *want);
    float *const want_float = calloc(n, sizeof *want_float);
    gradcheck_fill(x, n, 1, 1.0);
    for (size_t i = 0; i < n; i++)
        x[i] += (real)offset;
    gradcheck_fill(gamma, s.C, 2, 1.0);
    gradcheck_fill(beta, s.C, 3, 1.0);
    if (layer) {
        const struct group_norm_shape rows = {s.B * s.HW, 1, s.C, 1};
        reference(want, x, gamma, beta, rows, 1e-5, false);
        layer_norm_forward(y, NULL, NULL, x, gamma, beta, s.B * s.HW, s.C, 1e-5);
    } else {
        reference(want, x, gamma, beta, s, 1e-6, silu);
        group_norm_forward(y, NULL, NULL, x, gamma, beta, s, 1e-6, silu, work);
    }
    for (size_t i = 0; i < n; i++)
        want_float[i] = (float)want[i];
    size_t at = 0;
    const double worst = near_worst_float(y, want_float, n, &at);
    /* x itself is rounded at |offset| * 2^-24 */
    const double tolerance = 2e-6 + 1e-6 * fabs(offset);
    ck_assert_msg(worst < tolerance, "[%zu,%zu,%zu] G=%zu offset %g level %d: y[%zu] off by %g",
                  s.B, s.HW, s.C, s.G, offset, (int)simd_level(), at, worst);
    free(want);
    free(want_float);
}

static void check_levels(bool silu, bool layer)
{
    for (int level = SIMD_BASE; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            check_forward(shapes[i], 0.0, silu, layer);
            check_forward(shapes[i], 100.0, silu, layer);
        }
    }
}

START_TEST(group_norm_agrees_with_the_definition)
{
    check_levels(false, false);
}
END_TEST

START_TEST(group_norm_with_silu_agrees_with_the_definition)
{
    check_levels(true, false);
}
END_TEST

START_TEST(layer_norm_agrees_with_the_definition)
{
    check_levels(false, true);
}
END_TEST

START_TEST(a_constant_plane_becomes_beta)
{
    const struct group_norm_shape s = {1, 64, 32, 8};
    real *const x = gradcheck_new(64 * 32), *const y = gradcheck_new(64 * 32);
    real *const gamma = gradcheck_new(32), *const beta = gradcheck_new(32);
    real *const work = gradcheck_new(group_norm_forward_work_bytes(s) / sizeof(real));
    for (size_t i = 0; i < 64 * 32; i++)
        x[i] = 12345.678f;
    for (size_t i = 0; i < 32; i++) {
        gamma[i] = 1.0f;
        beta[i] = 0.25f;
    }
    group_norm_forward(y, NULL, NULL, x, gamma, beta, s, 1e-5, false, work);
    for (size_t i = 0; i < 64 * 32; i++)
        ck_assert_msg(y[i] == 0.25f, "y[%zu] = %g", i, (double)y[i]);
}
END_TEST

SUITE("nn/norm", 60, group_norm_agrees_with_the_definition,
      group_norm_with_silu_agrees_with_the_definition, layer_norm_agrees_with_the_definition,
      a_constant_plane_becomes_beta)
