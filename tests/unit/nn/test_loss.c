#include "nn/loss.h"

#include "support/suite.h"

#include <math.h>

START_TEST(mse_and_l1_are_means_and_their_gradients_carry_the_weight)
{
    const real x[4] = {1, 2, 3, 4}, target[4] = {1, 0, 5, 1};
    real d[4];
    ck_assert(fabs(loss_mse(d, x, target, 4, 2.0) - (0 + 4 + 4 + 9) / 4.0) < 1e-12);
    const double mse[4] = {0, 2, -2, 3};
    for (size_t i = 0; i < 4; i++)
        ck_assert(fabs((double)d[i] - mse[i]) < 1e-6);
    ck_assert(fabs(loss_l1(d, x, target, 4, 2.0) - (0 + 2 + 2 + 3) / 4.0) < 1e-12);
    const double l1[4] = {0, 0.5, -0.5, 0.5};
    for (size_t i = 0; i < 4; i++)
        ck_assert(fabs((double)d[i] - l1[i]) < 1e-6);
    ck_assert(fabs(loss_mse(NULL, x, target, 4, 2.0) - 4.25) < 1e-12);
}
END_TEST

START_TEST(the_divergence_is_zero_at_the_standard_normal)
{
    const real standard[4] = {0, 0, 0, 0}, moved[4] = {1, 0, 0, 1};
    ck_assert(loss_gaussian_kl(NULL, standard, 1, 2, 1.0, false) == 0.0);
    /* rows of Z = 2: means 1 and 0, log-variances 0 and 1 */
    const double want = 0.5 * (1.0 + (exp(1.0) - 1.0 - 1.0));
    ck_assert(fabs(loss_gaussian_kl(NULL, moved, 1, 2, 1.0, false) - want) < 1e-6);
}
END_TEST

START_TEST(a_sample_is_the_mean_where_the_noise_is_zero)
{
    const real moments[4] = {3, -1, 0, (real)(2.0 * 0.69314718)}, noise[2] = {0, 1};
    real z[2];
    loss_gaussian_sample(z, moments, noise, 1, 2);
    ck_assert(z[0] == 3);
    ck_assert(fabs((double)z[1] - 1.0) < 1e-6);
}
END_TEST

SUITE("nn/loss", 10, mse_and_l1_are_means_and_their_gradients_carry_the_weight,
      the_divergence_is_zero_at_the_standard_normal, a_sample_is_the_mean_where_the_noise_is_zero)
