/* The loops of act.h, one variant for each instruction set (nn/simd.h). */
#ifndef DAGLINE_NN_ACT_SIMD_H
#define DAGLINE_NN_ACT_SIMD_H

#include "nn/act.h"
#include "nn/simd.h"

SIMD_DECLARE(void, act_fill, real *y, const real *x, size_t n, enum act kind);
SIMD_DECLARE(void, act_fill_backward, real *d_x, const real *d_y, const real *x, size_t n,
             enum act kind, bool accumulate);
SIMD_DECLARE(void, act_geglu, real *y, const real *x, size_t rows, size_t F);
SIMD_DECLARE(void, act_geglu_backward, real *d_x, const real *d_y, const real *x, size_t rows,
             size_t F, bool accumulate);

#endif
