#include "dagline/target.h"

#include <math.h>
#include <string.h>

#define TWO_PI 6.28318530717958647693
#define FUNNEL_D 10
#define FUNNEL_VARIANCE 9.0
#define WELL_PAIRS 16
#define WELL_LOG_Z1 9.374541174 /* log of the integral of exp(-u^4 + 6u^2 + u/2): ln 11784.50927 */
#define WELL_LIMIT 4.0          /* of |u|: beyond, the density is below exp(-150) of its peak */
#define WELL_PEAK 9.9           /* no less than the largest log density, at u near 1.75 */

double target_normal(struct rng *g)
{
    const double radius = sqrt(-2.0 * log(1.0 - rng_uniform(g)));
    return radius * cos(TWO_PI * rng_uniform(g));
}

/* ---- mixtures ---- */

/* Of each part: its share of the density at x, of which the parts are N(factor mean, variance I); returns log of their sum. */
static double shares_of(double *share, const struct target_mixture *m, const double *x, double factor, double variance)
{
    double best = -HUGE_VAL, sum = 0.0;
    for (size_t i = 0; i < m->count; i++) {
        const double a = x[0] - factor * m->mean[i][0], b = x[1] - factor * m->mean[i][1];
        share[i] = log(m->weight[i]) - (a * a + b * b) / (2.0 * variance);
        best = fmax(best, share[i]);
    }
    for (size_t i = 0; i < m->count; i++)
        sum += share[i] = exp(share[i] - best);
    for (size_t i = 0; i < m->count; i++)
        share[i] /= sum;
    return best + log(sum) - log(TWO_PI * variance);
}

double target_mixture_log_density(const struct target_mixture *m, const double *x)
{
    double share[TARGET_MODES_MAX];
    return shares_of(share, m, x, 1.0, TARGET_MIXTURE_VARIANCE);
}

static void mixture_gradient(double *grad, const struct target_mixture *m, const double *x)
{
    double share[TARGET_MODES_MAX];
    shares_of(share, m, x, 1.0, TARGET_MIXTURE_VARIANCE);
    grad[0] = grad[1] = 0.0;
    for (size_t i = 0; i < m->count; i++)
        for (int k = 0; k < 2; k++)
            grad[k] -= share[i] * (x[k] - m->mean[i][k]) / TARGET_MIXTURE_VARIANCE;
}

static void mixture_draw(double *x, const struct target_mixture *m, struct rng *g)
{
    double left = rng_uniform(g);
    size_t i = 0;
    while (i + 1 < m->count && left >= m->weight[i])
        left -= m->weight[i++];
    for (int k = 0; k < 2; k++)
        x[k] = m->mean[i][k] + sqrt(TARGET_MIXTURE_VARIANCE) * target_normal(g);
}

void target_mixture_drift(double *u, const struct target_mixture *m, double sigma2, const double *x, double t)
{
    /* given its part, x_1 ~ N(mean, v) and x_t ~ N(t mean, t^2 v + sigma2 t (1 - t)) */
    const double left = 1.0 - t, gain = TARGET_MIXTURE_VARIANCE / (t * TARGET_MIXTURE_VARIANCE + sigma2 * left);
    double share[TARGET_MODES_MAX], end[2] = {0.0, 0.0};
    if (t > 0.0)
        shares_of(share, m, x, t, t * t * TARGET_MIXTURE_VARIANCE + sigma2 * t * left);
    for (size_t i = 0; i < m->count; i++)
        for (int k = 0; k < 2; k++)
            end[k] += (t > 0.0 ? share[i] : m->weight[i]) * (m->mean[i][k] + gain * (x[k] - t * m->mean[i][k]));
    for (int k = 0; k < 2; k++)
        u[k] = (end[k] - x[k]) / left;
}

size_t target_mixture_nearest(const struct target_mixture *m, const double *x)
{
    size_t nearest = 0;
    double best = HUGE_VAL;
    for (size_t i = 0; i < m->count; i++) {
        const double a = x[0] - m->mean[i][0], b = x[1] - m->mean[i][1];
        if (a * a + b * b < best) {
            best = a * a + b * b;
            nearest = i;
        }
    }
    return nearest;
}

#define ROW(x) {x, -10}, {x, -5}, {x, 0}, {x, 5}, {x, 10}
#define FIVE 0.04, 0.04, 0.04, 0.04, 0.04
static const struct target_mixture grid = {25, (const double[25][2]){ROW(-10), ROW(-5), ROW(0), ROW(5), ROW(10)},
                                           (const double[25]){FIVE, FIVE, FIVE, FIVE, FIVE}};
static const struct target_mixture nine = {
    9, (const double[9][2]){{-10, -5}, {-5, -10}, {-5, 0}, {10, -5}, {0, 0}, {0, 5}, {5, -5}, {5, 0}, {5, 10}},
    (const double[9]){4 / 61.0, 10 / 61.0, 4 / 61.0, 5 / 61.0, 10 / 61.0, 5 / 61.0, 4 / 61.0, 15 / 61.0, 4 / 61.0}};

static double grid_log_density(const double *x)
{
    return target_mixture_log_density(&grid, x);
}

static void grid_gradient(double *grad, const double *x)
{
    mixture_gradient(grad, &grid, x);
}

static void grid_draw(double *x, struct rng *g)
{
    mixture_draw(x, &grid, g);
}

static double nine_log_density(const double *x)
{
    return target_mixture_log_density(&nine, x);
}

static void nine_gradient(double *grad, const double *x)
{
    mixture_gradient(grad, &nine, x);
}

static void nine_draw(double *x, struct rng *g)
{
    mixture_draw(x, &nine, g);
}

/* ---- funnel ---- */

static double funnel_log_density(const double *x)
{
    double log_p = -x[0] * x[0] / (2.0 * FUNNEL_VARIANCE) - 0.5 * log(TWO_PI * FUNNEL_VARIANCE);
    for (size_t i = 1; i < FUNNEL_D; i++)
        log_p += -0.5 * x[i] * x[i] * exp(-x[0]) - 0.5 * (log(TWO_PI) + x[0]);
    return log_p;
}

static void funnel_gradient(double *grad, const double *x)
{
    grad[0] = -x[0] / FUNNEL_VARIANCE;
    for (size_t i = 1; i < FUNNEL_D; i++) {
        grad[0] += 0.5 * x[i] * x[i] * exp(-x[0]) - 0.5;
        grad[i] = -x[i] * exp(-x[0]);
    }
}

static void funnel_draw(double *x, struct rng *g)
{
    x[0] = sqrt(FUNNEL_VARIANCE) * target_normal(g);
    for (size_t i = 1; i < FUNNEL_D; i++)
        x[i] = exp(0.5 * x[0]) * target_normal(g);
}

/* ---- manywell ---- */

static double well(double u)
{
    return -u * u * u * u + 6.0 * u * u + 0.5 * u;
}

static double manywell_log_density(const double *x)
{
    double log_p = 0.0;
    for (size_t i = 0; i < WELL_PAIRS; i++)
        log_p += well(x[2 * i]) - 0.5 * x[2 * i + 1] * x[2 * i + 1];
    return log_p;
}

static void manywell_gradient(double *grad, const double *x)
{
    for (size_t i = 0; i < WELL_PAIRS; i++) {
        const double u = x[2 * i];
        grad[2 * i] = -4.0 * u * u * u + 12.0 * u + 0.5;
        grad[2 * i + 1] = -x[2 * i + 1];
    }
}

static void manywell_draw(double *x, struct rng *g)
{
    for (size_t i = 0; i < WELL_PAIRS; i++) {
        double u;
        do /* rejection under a box */
            u = WELL_LIMIT * (2.0 * rng_uniform(g) - 1.0);
        while (log(rng_uniform(g) + 1e-300) > well(u) - WELL_PEAK);
        x[2 * i] = u;
        x[2 * i + 1] = target_normal(g);
    }
}

bool target_langevin(const struct target *target, double *x, double *log_r, double h, struct rng *g)
{
    const size_t D = target->D;
    double grad[TARGET_D_MAX], there[TARGET_D_MAX], back[TARGET_D_MAX], forth = 0.0, home = 0.0;
    target->gradient(grad, x);
    for (size_t i = 0; i < D; i++) {
        const double z = target_normal(g);
        there[i] = x[i] + 0.5 * h * grad[i] + sqrt(h) * z;
        forth += 0.5 * z * z;
    }
    const double next = target->log_density(there);
    target->gradient(back, there);
    for (size_t i = 0; i < D; i++) {
        const double z = (x[i] - there[i] - 0.5 * h * back[i]) / sqrt(h);
        home += 0.5 * z * z;
    }
    if (!(log(rng_uniform(g) + 1e-300) < next - *log_r + forth - home))
        return false;
    memcpy(x, there, D * sizeof *x);
    *log_r = next;
    return true;
}

int target_find(const struct target **out, const char *name, struct err *e)
{
    static const double half_log_two_pi = 0.91893853320467274178;
    static const struct target all[] = {
        {"25gmm", 2, 0.0, 5.0, grid_log_density, grid_gradient, grid_draw, &grid, NULL},
        {"funnel", FUNNEL_D, 0.0, 1.0, funnel_log_density, funnel_gradient, funnel_draw, NULL, NULL},
        {"manywell", 2 * WELL_PAIRS, WELL_PAIRS * (WELL_LOG_Z1 + half_log_two_pi), 1.0, manywell_log_density,
         manywell_gradient, manywell_draw, NULL, NULL},
        {"9of25", 2, 0.0, 5.0, nine_log_density, nine_gradient, nine_draw, &nine, &grid},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(name, all[i].name) == 0) {
            *out = &all[i];
            return 0;
        }
    return err_set(e, ERR_INVALID, "target %s is not known: 25gmm, funnel, manywell or 9of25", name);
}
