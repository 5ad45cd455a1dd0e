/* Group norm over NHWC activations, with SiLU fused behind it on request, and layer norm over rows.
 * Sums are taken about a pivot and gathered in double, so that a large mean does not eat the
 * variance. Both save mean and rstd = 1 / sqrt(var + eps) for the backward pass, which recomputes
 * the rest from x. Thread rule: pure; the work memory belongs to the call.  All arrays are dense.
 */
#ifndef DAGLINE_NN_NORM_H
#define DAGLINE_NN_NORM_H

#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>

/* x: [B,HW,C], C fastest; G groups of C/G neighbouring channels share a mean and a variance. C % G
 * == 0. */
struct group_norm_shape {
    size_t B, HW, C, G;
};

/* Work memory for either direction, 64-byte aligned by the caller. */
size_t group_norm_forward_work_bytes(struct group_norm_shape s);
size_t group_norm_backward_work_bytes(struct group_norm_shape s);

/* z = (x - mean) rstd gamma + beta;  y = silu ? z sigmoid(z) : z.
 * x, y: [B,HW,C] (y may be x, but then there is no backward pass); gamma, beta: [C].
 * Overwrites y, and mean, rstd [B,G] unless NULL. */
void group_norm_forward(real *y, real *mean, real *rstd, const real *x, const real *gamma,
                        const real *beta, struct group_norm_shape s, double eps, bool silu,
                        void *work);

/* d_x [B,HW,C] is overwritten, or added to where accumulate is set; it may be d_y itself.
 * ACCUMULATES into d_gamma, d_beta [C]; either may be NULL (frozen).
 * x, gamma, beta, silu as in the forward call; mean, rstd as it saved them. */
void group_norm_backward(real *d_x, real *d_gamma, real *d_beta, const real *d_y, const real *x,
                         const real *gamma, const real *beta, const real *mean, const real *rstd,
                         struct group_norm_shape s, bool silu, bool accumulate, void *work);

/* y = (x - mean) rstd gamma + beta over the last axis.  x, y: [rows,C] (y may be x); gamma, beta:
 * [C]. Overwrites y, and mean, rstd [rows] unless NULL. */
void layer_norm_forward(real *y, real *mean, real *rstd, const real *x, const real *gamma,
                        const real *beta, size_t rows, size_t C, double eps);

/* d_x [rows,C] is overwritten, or added to where accumulate is set; it may be d_y itself.
 * ACCUMULATES into d_gamma, d_beta [C]; either may be NULL. work:
 * layer_norm_backward_work_bytes(C). */
size_t layer_norm_backward_work_bytes(size_t C);
void layer_norm_backward(real *d_x, real *d_gamma, real *d_beta, const real *d_y, const real *x,
                         const real *gamma, const real *mean, const real *rstd, size_t rows,
                         size_t C, bool accumulate, void *work);

#endif
