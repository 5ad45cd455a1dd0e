/* One transition of the sampling chain: its mean, its sample, its log-densities and their
 * derivative with respect to the network's output.  kernel: see schedule.h; every array is [n], the
 * elements of one sample.
 *
 *   log P_F(x_s|x_t) = sum_i [ -(x_s-mean)_i^2 / 2v - ln(2 pi v)/2 ]     (nats, a sum over
 * elements) log q(x_t|x_s)   = sum_i [ -(x_t - sqrt(a) x_s)_i^2 / 2Q - ln(2 pi Q)/2 ] d log P_F/d
 * out_i = mean_out (x_s-mean)_i / v
 *
 * The sums are in nats; whoever wants the published mean over elements multiplies by density_scale.
 * The mean is recomputed in double from x_t and out wherever it is needed, so that a density of
 * stored tensors is the same number today and at replay.
 *
 * Pure: no allocation, no state.  Any arrays may alias where the text says so, and not otherwise.
 */
#ifndef DAGLINE_DIFFUSION_STEP_H
#define DAGLINE_DIFFUSION_STEP_H

#include "diffusion/schedule.h"
#include "nn/real.h"

#include <stddef.h>

/* The factor on log-densities and log-rewards: clip ranges and betas mean something else under
 * each. */
enum density_scale {
    DENSITY_SUM,  /* 1: nats */
    DENSITY_MEAN, /* 1/n: the published convention (mean over elements) */
    DENSITY_SQRT, /* 1/sqrt(n) */
};
double density_scale(enum density_scale scale, size_t n);

/* mean may alias x_t or out. */
void step_mean(real *mean, const struct transition_kernel *k, const real *x_t, const real *out,
               size_t n);

/* The clean picture's latent as predicted at x_t; x0 may alias x_t or out. */
void step_x0(real *x0, const struct transition_kernel *k, const real *x_t, const real *out,
             size_t n);

/* x_s = mean + sqrt(v) noise, or the mean where the step is not stochastic (noise is not read then
 * and may be NULL).  noise: standard normal.  x_s may alias x_t, out or noise. */
void step_sample(real *x_s, const struct transition_kernel *k, const real *x_t, const real *out,
                 const real *noise, size_t n);

/* x_t = sqrt(a) x_s + sqrt(Q) noise: one step of the noising kernel. */
void step_noise(real *x_t, const struct transition_kernel *k, const real *x_s, const real *noise,
                size_t n);

/* Nats. k->var > 0 is asserted: a deterministic step has no density. */
double step_log_pf(const struct transition_kernel *k, const real *x_t, const real *out,
                   const real *x_s, size_t n);

/* log P_F - log P_base in nats, of two outputs at the same x_t with the same variance:
 * (mean - mean_base) . (2 x_s - mean - mean_base) / 2v, without the cancellation of two large
 * densities. */
double step_log_ratio(const struct transition_kernel *k, const real *x_t, const real *out,
                      const real *out_base, const real *x_s, size_t n);

/* Nats. k->q_var > 0 is asserted. */
double step_log_q(const struct transition_kernel *k, const real *x_t, const real *x_s, size_t n);

/* d_out = coefficient * d log P_F / d out (overwritten; may alias out).  coefficient is dL/d(log
 * P_F in nats): 2 wt delta S / B for the detailed-balance loss. */
void step_log_pf_backward(real *d_out, const struct transition_kernel *k, const real *x_t,
                          const real *out, const real *x_s, size_t n, double coefficient);

/* KL(N(mean,v) || N(mean_ref,v)) in nats, for the same x_t and two outputs: |mean-mean_ref|^2 / 2v.
 */
double step_kl(const struct transition_kernel *k, const real *out, const real *out_ref, size_t n);

/* Classifier-free guidance: out = u + w (c - u); out may alias either. */
void step_guide(real *out, const real *uncond, const real *cond, double weight, size_t n);

/* d_uncond = (1-w) d_out, d_cond = w d_out (overwritten); either may be NULL, either may alias
 * d_out where the other is NULL. */
void step_guide_backward(real *d_uncond, real *d_cond, const real *d_out, double weight, size_t n);

#endif
