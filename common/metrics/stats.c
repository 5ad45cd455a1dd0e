#include "metrics/stats.h"

#include "base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define Z_975 1.959963984540054 /* the normal's 0.975 quantile */

void stats_init(struct stats *s)
{
    *s = (struct stats){.min = HUGE_VAL, .max = -HUGE_VAL};
}

void stats_add(struct stats *s, double x)
{
    s->count++;
    const double d = x - s->mean;
    s->mean += d / (double)s->count;
    s->m2 += d * (x - s->mean);
    s->min = x < s->min ? x : s->min;
    s->max = x > s->max ? x : s->max;
}

void stats_merge(struct stats *s, const struct stats *other)
{
    if (other->count == 0)
        return;
    const double n = (double)s->count, k = (double)other->count, d = other->mean - s->mean;
    s->m2 += other->m2 + d * d * n * k / (n + k);
    s->mean += d * k / (n + k);
    s->count += other->count;
    s->min = other->min < s->min ? other->min : s->min;
    s->max = other->max > s->max ? other->max : s->max;
}

double stats_variance(const struct stats *s)
{
    return s->count < 2 ? 0.0 : s->m2 / (double)(s->count - 1);
}

double stats_deviation(const struct stats *s)
{
    return sqrt(stats_variance(s));
}

double stats_mean(const double *x, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return n == 0 ? 0.0 : sum / (double)n;
}

/* Student's 0.975 quantile: exact for few degrees of freedom, then the Cornish-Fisher expansion
 * (Abramowitz and Stegun 26.7.5), right to 1e-4 from 11 on. */
static double student_975(uint64_t freedom)
{
    static const double exact[] = {12.706205, 4.302653, 3.182446, 2.776445, 2.570582,
                                   2.446912,  2.364624, 2.306004, 2.262157, 2.228139};
    if (freedom <= sizeof exact / sizeof *exact)
        return exact[freedom - 1];
    const double z = Z_975, n = (double)freedom;
    const double z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
    return z + (z3 + z) / (4.0 * n) + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * n * n) +
           (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * n * n * n);
}

struct stats_interval stats_mean_95(const struct stats *s)
{
    if (s->count < 2)
        return (struct stats_interval){s->mean, s->mean};
    const double half = student_975(s->count - 1) * sqrt(stats_variance(s) / (double)s->count);
    return (struct stats_interval){s->mean - half, s->mean + half};
}

struct stats_interval stats_share_95(uint64_t hits, uint64_t count)
{
    assert(count >= 1 && hits <= count);
    const double n = (double)count, p = (double)hits / n, z2 = Z_975 * Z_975;
    const double centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    const double half = Z_975 / (1.0 + z2 / n) * sqrt(p * (1.0 - p) / n + z2 / (4.0 * n * n));
    return (struct stats_interval){hits == 0 ? 0.0 : centre - half, hits == count ? 1.0 : centre + half};
}

struct stats_interval stats_bootstrap_95(const double *x, size_t n, uint32_t rounds, uint64_t seed)
{
    assert(n >= 1 && rounds >= 1 && rounds <= STATS_ROUNDS_MAX);
    double means[STATS_ROUNDS_MAX];
    for (uint32_t r = 0; r < rounds; r++) {
        struct rng g = rng_stream(seed, r, 0);
        double sum = 0.0;
        for (size_t i = 0; i < n; i++)
            sum += x[rng_below(&g, n)];
        means[r] = sum / (double)n;
    }
    stats_sort(means, rounds);
    return (struct stats_interval){stats_quantile(means, rounds, 0.025), stats_quantile(means, rounds, 0.975)};
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void stats_sort(double *x, size_t n)
{
    if (n > 1)
        qsort(x, n, sizeof *x, by_value);
}

double stats_quantile(const double *sorted, size_t n, double q)
{
    assert(n >= 1 && q >= 0.0 && q <= 1.0);
    const double at = q * (double)(n - 1);
    const size_t below = (size_t)at, above = below + 1 < n ? below + 1 : below;
    return sorted[below] + (at - (double)below) * (sorted[above] - sorted[below]);
}

double stats_entropy_bits(const uint64_t *counts, size_t n)
{
    double total = 0.0, entropy = 0.0;
    for (size_t i = 0; i < n; i++)
        total += (double)counts[i];
    for (size_t i = 0; i < n; i++)
        if (counts[i] > 0) {
            const double p = (double)counts[i] / total;
            entropy -= p * log2(p);
        }
    return entropy;
}

static double largest(const double *x, size_t n)
{
    double m = -HUGE_VAL;
    for (size_t i = 0; i < n; i++)
        if (!(x[i] <= m))
            m = x[i];
    return m;
}

double stats_effective_size(const double *log_weights, size_t n)
{
    const double shift = largest(log_weights, n);
    double sum = 0.0, squares = 0.0;
    if (shift == -HUGE_VAL)
        return 0.0;
    for (size_t i = 0; i < n; i++) {
        const double w = exp(log_weights[i] - shift);
        sum += w;
        squares += w * w;
    }
    return sum * sum / squares;
}

void stats_leave_one_out(const double *x, size_t n, double *out)
{
    assert(n >= 2);
    /* About the mean, so that a large common offset does not eat the difference. */
    const double mean = stats_mean(x, n);
    for (size_t i = 0; i < n; i++)
        out[i] = mean - (x[i] - mean) / (double)(n - 1);
}

double stats_correlation(const double *x, const double *y, size_t n)
{
    const double mx = stats_mean(x, n), my = stats_mean(y, n);
    double xx = 0.0, yy = 0.0, xy = 0.0;
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xx == 0.0 || yy == 0.0 ? 0.0 : xy / sqrt(xx * yy);
}

double stats_log_sum_exp(const double *x, size_t n)
{
    const double shift = largest(x, n);
    if (!isfinite(shift))
        return shift;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - shift);
    return shift + log(sum);
}
