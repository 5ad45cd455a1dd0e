#include "dagline/target.h"

#include <math.h>
#include <string.h>

#define TWO_PI 6.28318530717958647693
#define GRID 5
#define GMM_VARIANCE 0.3
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

/* ---- 25gmm ---- */

static double mode_at(size_t i)
{
    return 5.0 * ((double)i - 2.0);
}

static double gmm_log_density(const double *x)
{
    double best = -HUGE_VAL, sum = 0.0, each[GRID * GRID];
    for (size_t i = 0; i < GRID * GRID; i++) {
        const double a = x[0] - mode_at(i / GRID), b = x[1] - mode_at(i % GRID);
        each[i] = -(a * a + b * b) / (2.0 * GMM_VARIANCE);
        best = fmax(best, each[i]);
    }
    for (size_t i = 0; i < GRID * GRID; i++)
        sum += exp(each[i] - best);
    return best + log(sum / (GRID * GRID)) - log(TWO_PI * GMM_VARIANCE);
}

static void gmm_gradient(double *grad, const double *x)
{
    double best = -HUGE_VAL, sum = 0.0, each[GRID * GRID];
    grad[0] = grad[1] = 0.0;
    for (size_t i = 0; i < GRID * GRID; i++) {
        const double a = x[0] - mode_at(i / GRID), b = x[1] - mode_at(i % GRID);
        each[i] = -(a * a + b * b) / (2.0 * GMM_VARIANCE);
        best = fmax(best, each[i]);
    }
    for (size_t i = 0; i < GRID * GRID; i++) {
        const double w = exp(each[i] - best);
        sum += w;
        grad[0] -= w * (x[0] - mode_at(i / GRID)) / GMM_VARIANCE;
        grad[1] -= w * (x[1] - mode_at(i % GRID)) / GMM_VARIANCE;
    }
    grad[0] /= sum;
    grad[1] /= sum;
}

static void gmm_draw(double *x, struct rng *g)
{
    const size_t i = (size_t)rng_below(g, GRID * GRID);
    x[0] = mode_at(i / GRID) + sqrt(GMM_VARIANCE) * target_normal(g);
    x[1] = mode_at(i % GRID) + sqrt(GMM_VARIANCE) * target_normal(g);
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

int target_find(const struct target **out, const char *name, struct err *e)
{
    static const double half_log_two_pi = 0.91893853320467274178;
    static const struct target all[] = {
        {"25gmm", 2, 0.0, 5.0, gmm_log_density, gmm_gradient, gmm_draw},
        {"funnel", FUNNEL_D, 0.0, 1.0, funnel_log_density, funnel_gradient, funnel_draw},
        {"manywell", 2 * WELL_PAIRS, WELL_PAIRS * (WELL_LOG_Z1 + half_log_two_pi), 1.0, manywell_log_density,
         manywell_gradient, manywell_draw},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(name, all[i].name) == 0) {
            *out = &all[i];
            return 0;
        }
    return err_set(e, ERR_INVALID, "target %s is not known: 25gmm, funnel or manywell", name);
}
