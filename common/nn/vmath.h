/* Vector mathematics: fills of exp, sigmoid, tanh, erf and log, written so that they run at the
 * width of the machine (SSE2, AVX2 or AVX-512, chosen at the first call). Accuracy in float: within
 * 2 ulp of the correctly rounded value over the whole range, with the limits, NaN and infinities of
 * libm (results below the smallest normal number may be flushed to it or to 0). In MODE=grad
 * (double) they are libm's own functions. Thread rule: pure; any number of threads.  y may be x
 * itself, else the two must not overlap. */
#ifndef DAGLINE_NN_VMATH_H
#define DAGLINE_NN_VMATH_H

#include "nn/real.h"

#include <stddef.h>

/* y[i] = f(x[i]), i < n.  Overwrites y. */
void vmath_exp(real *y, const real *x, size_t n);
void vmath_sigmoid(real *y, const real *x, size_t n);
void vmath_tanh(real *y, const real *x, size_t n);
void vmath_erf(real *y, const real *x, size_t n);
void vmath_log(real *y, const real *x, size_t n);

#endif
