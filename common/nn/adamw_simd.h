/* The loops of adamw.h, one variant for each instruction set (nn/simd.h). */
#ifndef DAGLINE_NN_ADAMW_SIMD_H
#define DAGLINE_NN_ADAMW_SIMD_H

#include "nn/simd.h"

/* The constants of one step, computed once in double. */
struct adamw_constants {
    real keep; /* 1 - lr weight_decay */
    real beta1, one_minus_beta1;
    real beta2, one_minus_beta2;
    real rate;       /* lr / (1 - beta1^step) */
    real root_scale; /* 1 / sqrt(1 - beta2^step) */
    real eps;
    real grad_factor;
};

SIMD_DECLARE(void, adamw_update, real *value, real *m, real *v, const real *grad, size_t n,
             const struct adamw_constants *k);
SIMD_DECLARE(double, adamw_sum_squares, const real *x, size_t n);
SIMD_DECLARE(void, adamw_average, real *average, const real *value, size_t n, real rate);

#endif
