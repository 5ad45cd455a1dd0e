/* The engine's number: float in the product, double in MODE=grad, where every backward pass is held
 * against central differences.  Kernels are written once, in `real`; only nn/gemm.c knows both BLAS names. */
#ifndef DAGLINE_NN_REAL_H
#define DAGLINE_NN_REAL_H

#ifdef DAGLINE_REAL_DOUBLE
typedef double real;
#else
typedef float real;
#endif

#endif
