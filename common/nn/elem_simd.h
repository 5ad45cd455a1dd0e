/* The loops of elem.h and resample.h, one variant for each instruction set (nn/simd.h). */
#ifndef DAGLINE_NN_ELEM_SIMD_H
#define DAGLINE_NN_ELEM_SIMD_H

#include "nn/simd.h"

#include <stdbool.h>

/* y = a + b. */
SIMD_DECLARE(void, elem_sum, real *y, const real *a, const real *b, size_t n);
/* y = factor x. */
SIMD_DECLARE(void, elem_times, real *y, const real *x, real factor, size_t n);
/* y [rows,C] = x [rows,C] + bias [C]. */
SIMD_DECLARE(void, elem_bias, real *y, const real *x, const real *bias, size_t rows, size_t C);
/* sum [C] += sum over rows of x [rows,C], in double from runs of rows in real. */
SIMD_DECLARE(void, elem_columns, real *sum, const real *x, size_t rows, size_t C);

#endif
