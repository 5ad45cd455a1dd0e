/* Losses with their gradients, and the diagonal Gaussian of the autoencoder.  Values are summed in
 * double. Thread rule: pure. */
#ifndef DAGLINE_NN_LOSS_H
#define DAGLINE_NN_LOSS_H

#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>

/* Bounds of the log-variance (diffusers DiagonalGaussianDistribution); outside, its gradient is 0.
 */
#define LOSS_LOGVAR_MIN (-30.0)
#define LOSS_LOGVAR_MAX 20.0

/* Returns mean((x - target)^2) over n elements.  d_x [n], unless NULL, is overwritten with weight
 * times the gradient of that mean.  The value returned does not contain weight. */
double loss_mse(real *d_x, const real *x, const real *target, size_t n, double weight);

/* Returns mean(|x - target|); d_x as above; the gradient at a difference of 0 is 0. */
double loss_l1(real *d_x, const real *x, const real *target, size_t n, double weight);

/* moments: [rows,2Z], each row mean[Z] then logvar[Z] (the encoder's output).
 * Returns sum of (mean^2 + exp(logvar) - 1 - logvar) / 2, the divergence from the standard normal:
 * a SUM, so divide weight by the number of images for diffusers' mean over the batch. d_moments
 * [rows,2Z], unless NULL: weight times the gradient, overwritten, or added to. */
double loss_gaussian_kl(real *d_moments, const real *moments, size_t rows, size_t Z, double weight,
                        bool accumulate);

/* z = mean + exp(logvar / 2) noise.  z, noise: [rows,Z].  Overwrites z. */
void loss_gaussian_sample(real *z, const real *moments, const real *noise, size_t rows, size_t Z);

/* d_moments [rows,2Z] from d_z [rows,Z]; overwritten, or added to where accumulate is set. */
void loss_gaussian_sample_backward(real *d_moments, const real *d_z, const real *moments,
                                   const real *noise, size_t rows, size_t Z, bool accumulate);

#endif
