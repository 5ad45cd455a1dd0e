/* The variants of vmath.h, one for each instruction set (nn/simd.h). */
#ifndef DAGLINE_NN_VMATH_SIMD_H
#define DAGLINE_NN_VMATH_SIMD_H

#include "nn/simd.h"

SIMD_DECLARE(void, vmath_fill_exp, real *y, const real *x, size_t n);
SIMD_DECLARE(void, vmath_fill_sigmoid, real *y, const real *x, size_t n);
SIMD_DECLARE(void, vmath_fill_tanh, real *y, const real *x, size_t n);
SIMD_DECLARE(void, vmath_fill_erf, real *y, const real *x, size_t n);
SIMD_DECLARE(void, vmath_fill_log, real *y, const real *x, size_t n);

#endif
