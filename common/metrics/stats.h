/* Small statistics over double arrays: pure functions, no state, no allocation, no clock.
 * Threads: all may be called from any thread.  NaN in gives NaN out unless said otherwise. */
#ifndef DAGLINE_METRICS_STATS_H
#define DAGLINE_METRICS_STATS_H

#include <stddef.h>
#include <stdint.h>

/* Mean and variance in one pass (Welford 1962); stable for a mean far from 0. */
struct stats {
    uint64_t count;
    double mean, m2; /* m2: sum of squared differences from the mean */
    double min, max;
};
void stats_init(struct stats *s);
void stats_add(struct stats *s, double x);
/* s becomes the statistics of both (Chan et al. 1979). */
void stats_merge(struct stats *s, const struct stats *other);
/* m2 / (count - 1); 0 for fewer than two. */
double stats_variance(const struct stats *s);
double stats_deviation(const struct stats *s);

double stats_mean(const double *x, size_t n); /* 0 for none */

struct stats_interval {
    double low, high;
};

/* 95 % interval of the mean: Student's t with count - 1 degrees of freedom; [mean, mean] below two. */
struct stats_interval stats_mean_95(const struct stats *s);

/* 95 % interval of a share of `hits` in n >= 1 (Wilson 1927): inside [0, 1] also at 0 and n. */
struct stats_interval stats_share_95(uint64_t hits, uint64_t n);

/* 95 % percentile bootstrap of the mean of x [n], n >= 1, `rounds` <= STATS_ROUNDS_MAX resamples (1000
 * is usual), a function of the seed. */
#define STATS_ROUNDS_MAX 10000
struct stats_interval stats_bootstrap_95(const double *x, size_t n, uint32_t rounds, uint64_t seed);

/* Sorts x [n] in place; NaN is not allowed. */
void stats_sort(double *x, size_t n);

/* The q-quantile (0 <= q <= 1) of SORTED x [n], n >= 1, linear between order statistics (type 7). */
double stats_quantile(const double *sorted, size_t n, double q);

/* Entropy in bits of counts [n]; 0 where all are zero. */
double stats_entropy_bits(const uint64_t *counts, size_t n);

/* Effective sample size (sum w)^2 / sum w^2 of log-weights [n], shifted by their maximum so that it
 * cannot overflow; 0 for none, and weights of -infinity count as 0. */
double stats_effective_size(const double *log_weights, size_t n);

/* out[i] = mean of x without x[i], for n >= 2 (out may be x). */
void stats_leave_one_out(const double *x, size_t n, double *out);

/* Pearson correlation of x and y [n]; 0 where either does not vary. */
double stats_correlation(const double *x, const double *y, size_t n);

/* log(sum(exp(x))) without overflow; -infinity for none. */
double stats_log_sum_exp(const double *x, size_t n);

#endif
