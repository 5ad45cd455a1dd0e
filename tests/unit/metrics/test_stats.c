#include "base/rng.h"
#include "metrics/stats.h"
#include "support/suite.h"

#include <math.h>

static void near(double got, double want, double tolerance, const char *what)
{
    ck_assert_msg(fabs(got - want) <= tolerance, "%s: got %.12g want %.12g", what, got, want);
}

START_TEST(welford_is_right_far_from_zero_and_over_a_merge)
{
    static const double x[] = {1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16};
    struct stats all, left, right;
    stats_init(&all);
    stats_init(&left);
    stats_init(&right);
    for (int i = 0; i < 4; i++) {
        stats_add(&all, x[i]);
        stats_add(i < 1 ? &left : &right, x[i]);
    }
    near(all.mean, 1e9 + 10, 0, "mean");
    near(stats_variance(&all), 30.0, 1e-9, "variance");
    stats_merge(&left, &right);
    near(left.mean, all.mean, 0, "merged mean");
    near(left.m2, all.m2, 1e-9, "merged m2");
    ck_assert(left.count == 4 && left.min == x[0] && left.max == x[3]);
    struct stats none;
    stats_init(&none);
    stats_merge(&left, &none);
    stats_merge(&none, &left);
    near(none.mean, all.mean, 0, "merged into none");
    near(stats_variance(&(struct stats){.count = 1}), 0, 0, "one value");
}
END_TEST

START_TEST(intervals_have_their_textbook_ends)
{
    struct stats s;
    stats_init(&s);
    for (int i = 1; i <= 5; i++)
        stats_add(&s, i);
    struct stats_interval t = stats_mean_95(&s); /* 3 +- 2.776445 sqrt(2.5 / 5) */
    near(t.low, 3 - 1.963243, 1e-5, "t low");
    near(t.high, 3 + 1.963243, 1e-5, "t high");
    for (int i = 0; i < 26; i++)
        stats_add(&s, 3);
    t = stats_mean_95(&s); /* 30 degrees of freedom: 2.042272 */
    near(t.high - 3, 2.042272 * sqrt(10.0 / 30 / 31), 1e-4, "t, 30 degrees");
    const struct stats_interval w = stats_share_95(8, 10); /* Wilson: 0.4901625, 0.9433178 */
    near(w.low, 0.4901625, 1e-6, "Wilson low");
    near(w.high, 0.9433178, 1e-6, "Wilson high");
    ck_assert(stats_share_95(0, 10).low == 0.0 && stats_share_95(10, 10).high == 1.0);
}
END_TEST

START_TEST(a_bootstrap_covers_the_mean_and_repeats_itself)
{
    enum { N = 60, TRIALS = 200 };
    int covered = 0;
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        double x[N];
        const struct rng g = rng_stream(5, trial, 0);
        for (size_t i = 0; i < N; i++)
            x[i] = 2.0 + (double)rng_normal_at(&g, i);
        const struct stats_interval b = stats_bootstrap_95(x, N, 400, trial);
        covered += b.low <= 2.0 && 2.0 <= b.high;
        if (trial == 0) {
            const struct stats_interval again = stats_bootstrap_95(x, N, 400, trial);
            ck_assert(again.low == b.low && again.high == b.high);
        }
    }
    ck_assert_msg(covered >= 178 && covered <= 199, "%d of 200", covered);
}
END_TEST

START_TEST(quantiles_interpolate_as_type_seven)
{
    double x[] = {4, 1, 3, 2};
    stats_sort(x, 4);
    near(stats_quantile(x, 4, 0.0), 1, 0, "0");
    near(stats_quantile(x, 4, 1.0), 4, 0, "1");
    near(stats_quantile(x, 4, 0.5), 2.5, 1e-15, "median");
    near(stats_quantile(x, 4, 0.9), 3.7, 1e-12, "0.9");
    near(stats_quantile(x, 1, 0.7), 1, 0, "one");
}
END_TEST

START_TEST(entropy_counts_bits)
{
    near(stats_entropy_bits((const uint64_t[]){1, 1, 1, 1, 0}, 5), 2.0, 1e-15, "even");
    near(stats_entropy_bits((const uint64_t[]){9, 0}, 2), 0.0, 0, "sure");
    near(stats_entropy_bits((const uint64_t[]){0, 0}, 2), 0.0, 0, "none");
    near(stats_entropy_bits((const uint64_t[]){1, 3}, 2), 0.8112781244591328, 1e-15, "1:3");
}
END_TEST

START_TEST(effective_size_survives_huge_log_weights)
{
    near(stats_effective_size((const double[]){1000, 1000, 1000}, 3), 3.0, 1e-12, "even");
    near(stats_effective_size((const double[]){0, -HUGE_VAL}, 2), 1.0, 1e-12, "one counts");
    near(stats_effective_size((const double[]){0, log(3.0)}, 2), 1.6, 1e-12, "1:3");
    near(stats_effective_size((const double[]){-HUGE_VAL}, 1), 0.0, 0, "none counts");
    near(stats_effective_size(NULL, 0), 0.0, 0, "empty");
    ck_assert(isnan(stats_effective_size((const double[]){0, (double)NAN}, 2)));
    near(stats_log_sum_exp((const double[]){1000, 1000}, 2), 1000 + log(2.0), 1e-12, "log-sum-exp");
    ck_assert(stats_log_sum_exp(NULL, 0) == -HUGE_VAL);
}
END_TEST

START_TEST(leave_one_out_leaves_one_out)
{
    double x[] = {1, 2, 6};
    stats_leave_one_out(x, 3, x);
    near(x[0], 4.0, 1e-15, "without 1");
    near(x[1], 3.5, 1e-15, "without 2");
    near(x[2], 1.5, 1e-15, "without 6");
}
END_TEST

START_TEST(correlation_has_its_sign_and_its_zero)
{
    near(stats_correlation((const double[]){1, 2, 3}, (const double[]){2, 4, 6}, 3), 1.0, 1e-15, "up");
    near(stats_correlation((const double[]){1, 2, 3}, (const double[]){3, 2, 1}, 3), -1.0, 1e-15, "down");
    near(stats_correlation((const double[]){1, 2, 3}, (const double[]){5, 5, 5}, 3), 0.0, 0, "flat");
}
END_TEST

SUITE("metrics/stats", 20, welford_is_right_far_from_zero_and_over_a_merge, intervals_have_their_textbook_ends,
      a_bootstrap_covers_the_mean_and_repeats_itself, quantiles_interpolate_as_type_seven, entropy_counts_bits,
      effective_size_survives_huge_log_weights, leave_one_out_leaves_one_out, correlation_has_its_sign_and_its_zero)
