/* The loops of norm.h over one sample or a run of rows, one variant for each instruction set
 * (nn/simd.h). Arrays by channel ([C]) that norm.c prepares: see the formulas. */
#ifndef DAGLINE_NN_NORM_SIMD_H
#define DAGLINE_NN_NORM_SIMD_H

#include "nn/simd.h"

#include <stdbool.h>

/* sum[c] += sum over rows of (x - pivot[c]), square[c] += sum of (x - pivot[c])^2.  x: [rows,C];
 * rows is small enough for float (norm.c cuts the plane), the totals are double. */
SIMD_DECLARE(void, norm_gather, double *sum, double *square, const real *x, const real *pivot,
             size_t rows, size_t C);

/* y = f((x - m[c]) a[c] + beta[c]), f = silu or the identity. x, y: [rows,C]. */
SIMD_DECLARE(void, norm_apply, real *y, const real *x, const real *m, const real *a,
             const real *beta, size_t rows, size_t C, bool silu);

/* With xhat = (x - m[c]) r[c] and z = xhat gamma + beta: d_z = d_y f'(z) into d_z [rows,C];
 * sum[c] += sum of d_z, dot[c] += sum of d_z xhat. */
struct norm_affine {
    const real *m, *r, *gamma, *beta; /* [C] each */
};
SIMD_DECLARE(void, norm_gather_backward, double *sum, double *dot, real *d_z, const real *d_y,
             const real *x, const struct norm_affine *affine, size_t rows, size_t C, bool silu);

/* d_x = d_z p[c] + (x - m[c]) q[c] + t[c], overwritten or added. [rows,C]. */
SIMD_DECLARE(void, norm_apply_backward, real *d_x, const real *d_z, const real *x, const real *m,
             const real *p, const real *q, const real *t, size_t rows, size_t C, bool accumulate);

/* layer_norm_forward; mean, rstd may be NULL. */
SIMD_DECLARE(void, norm_rows, real *y, real *mean, real *rstd, const real *x, const real *gamma,
             const real *beta, size_t rows, size_t C, real eps);

/* layer_norm_backward for a run of rows small enough for float; adds into part_gamma, part_beta
 * [C]. */
SIMD_DECLARE(void, norm_rows_backward, real *d_x, real *part_gamma, real *part_beta,
             const real *d_y, const real *x, const real *gamma, const real *mean, const real *rstd,
             size_t rows, size_t C, bool accumulate);

#endif
