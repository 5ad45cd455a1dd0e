/* Unnormalised densities of known answer, on which GFlowNet objectives are compared (Sendera et al. 2024, "Improved
 * off-policy training of diffusion samplers", arXiv 2402.05098, appendix B).
 *
 *   25gmm     25 Gaussians of covariance 0.3 I on the grid {-10,-5,0,5,10}^2, equal weights; log Z = 0
 *   funnel    x0 ~ N(0,9), x1..x9 ~ N(0, exp(x0)); log Z = 0
 *   manywell  16 pairs (u,v): sum -u^4 + 6u^2 + u/2 - v^2/2; log Z = 164.696
 *   9of25     nine of the 25 Gaussians with weights of their own, from a prior that samples all 25 (Venkatraman et al. 2024,
 *             "Amortizing intractable inference in diffusion models", arXiv 2405.20971): R = p9 / p25; log Z = 0
 *
 * Pure.  Threads: any. */
#ifndef DAGLINE_DAGLINE_TARGET_H
#define DAGLINE_DAGLINE_TARGET_H

#include "base/err.h"
#include "base/rng.h"

#include <stdbool.h>
#include <stddef.h>

#define TARGET_D_MAX 32
#define TARGET_MODES_MAX 25

#define TARGET_MIXTURE_VARIANCE 0.3

/* Gaussians of that variance in the plane. */
struct target_mixture {
    size_t count;
    const double (*mean)[2]; /* [count] */
    const double *weight;    /* [count], summing to 1 */
};

struct target {
    const char *name;
    size_t D;
    double log_z;
    double sigma2; /* of the reference process: variance at the end of the bridge */
    double (*log_density)(const double *x);
    /* grad [D] of it */
    void (*gradient)(double *grad, const double *x);
    /* An exact sample. */
    void (*draw)(double *x, struct rng *g);
    const struct target_mixture *mixture; /* what it is, or NULL */
    const struct target_mixture *prior;   /* sampled by the policy before any update, or NULL: the reference process is */
};

/* The prior's log density. */
double target_mixture_log_density(const struct target_mixture *m, const double *x);

/* Drift [2] at (x, t < 1) of the reference process that ends in the mixture: (E[x_1 | x_t] - x) / (1 - t). */
void target_mixture_drift(double *u, const struct target_mixture *m, double sigma2, const double *x, double t);

/* The mean that x is nearest to. */
size_t target_mixture_nearest(const struct target_mixture *m, const double *x);

/* One Metropolis-adjusted Langevin step of size h from x, whose log density is *log_r; true where it was accepted, and both
 * are the new ones. */
bool target_langevin(const struct target *target, double *x, double *log_r, double h, struct rng *g);

/* A draw of N(0, 1). */
double target_normal(struct rng *g);

/* ERR_INVALID lists the names there are. */
int target_find(const struct target **out, const char *name, struct err *e) MUST_USE;

#endif
