/* Gradient checks: an analytic gradient against central differences of a scalar loss.  Meant for
 * MODE=grad, where real is double; the loss is as a rule the dot product of the outputs with a
 * fixed random upstream gradient.
 *
 *     static double loss(void *arg) { ...forward...; return gradcheck_dot(upstream, y, n); }
 *     ...backward(d_x, upstream, ...);
 *     gradcheck_claim("d_x", loss, arg, x, d_x, n);
 */
#ifndef DAGLINE_TESTS_GRADCHECK_H
#define DAGLINE_TESTS_GRADCHECK_H

#include "nn/real.h"

#include <stddef.h>
#include <stdint.h>

/* The step of the differences, and the error that counts as agreement (relative to the largest
 * entry). */
#define GRADCHECK_STEP 1e-5
#define GRADCHECK_TOLERANCE 1e-7

/* max |gradient - difference| / max |difference|; INFINITY on NaN.  Moves each values[i] by
 * +-GRADCHECK_STEP and restores it.  *at, where not NULL, is the worst index. */
double gradcheck_worst(double (*loss)(void *arg), void *arg, real *values, const real *gradient,
                       size_t n, size_t *at);

/* Fails the test where gradcheck_worst exceeds the tolerance; and then, so that the check is known
 * to be able to fail, spoils one entry by a hundredth of the largest and fails where that goes
 * unnoticed. */
void gradcheck_claim(const char *name, double (*loss)(void *arg), void *arg, real *values,
                     const real *gradient, size_t n);

/* Fails the test unless twice[i] = 2 once[i]: a second backward call must have added the same
 * again. */
void gradcheck_twice(const char *name, const real *twice, const real *once, size_t n);

/* Fails the test unless got[i] is near want[i] (1e-12 of the largest in double, 1e-5 in float). */
void gradcheck_same(const char *name, const real *got, const real *want, size_t n);

/* The same numbers for the same seed, uniform in (-1, 1) * scale. */
void gradcheck_fill(real *values, size_t n, uint64_t seed, double scale);

double gradcheck_dot(const real *a, const real *b, size_t n);

/* n zeroed reals, 64-byte aligned, released when the test's process ends. */
real *gradcheck_new(size_t n);

#endif
